# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The rendered monitoring against real servers under load and a real Prometheus, with every span 30 times as short.

Two embedded servers (24.10), one as the canary; load from `trtkit perf`. What a CPU and a plain machine do not have
(GPU, kube-state-metrics, the histogram of 24.11) is shown by promtool in test_deploy_monitoring.py.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import ECHO_CONFIG, ECHO_MODEL
from deploy_matrix import TARGETS
from deploy_tools import program
from part_models import write_part
from trtkit.deploy.monitoring.dashboard import expressions
from trtkit.deploy.monitoring.records import records
from trtkit.deploy.monitoring.rules import rule_file
from trtkit.deploy.monitoring.stack import prometheus_file
from trtkit.deploy.monitoring.timing import Timing
from trtkit.deploy.plan import make_plan
from trtkit.deploy.planned import Plan
from trtkit.project import load_project
from trtkit.server import start_server
from trtkit.server.process import free_ports

pytestmark = [pytest.mark.triton, pytest.mark.slow]

FAST = Timing(interval_s=1, scale=1 / 30)
SLOW_MODEL = ECHO_MODEL.replace("import triton", "import time\n\nimport triton", 1).replace(
    "        return [", "        time.sleep(0.15)\n        return [", 1
)
FAILING_MODEL = ECHO_MODEL.replace("        return [", "        raise ValueError('planted')\n        return [", 1)
CACHED = "response_cache { enable: true }\n"
MODELS = {
    "fast": (ECHO_CONFIG, ECHO_MODEL),
    "cached": (ECHO_CONFIG + CACHED, ECHO_MODEL),
    "slow": (ECHO_CONFIG, SLOW_MODEL),
    "failing": (ECHO_CONFIG, FAILING_MODEL),
}
# generous ones where nothing was planted: this machine may be busy
SLO = {"latency_p99_ms": 20_000, "queue_ms": 20_000, "models": {"slow": {"latency_p99_ms": 100}}}


@dataclass(frozen=True)
class Watched:
    """The plan, and the Prometheus that watches its servers."""

    plan: Plan
    url: str

    def get(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]

    def values(self, expr: str) -> list[float]:
        return [float(row["value"][1]) for row in self.get("query", query=expr)["result"]]

    def firing(self) -> set[tuple[str, str]]:
        return {
            (alert["labels"]["alertname"], alert["labels"].get("model", ""))
            for alert in self.get("alerts")["alerts"]
            if alert["state"] == "firing"
        }


def write_fallback(repository: Path, name: str, chain: str) -> None:
    """A model of the part `fallback`, with the tensors of the models behind it."""

    def as_echo(config: Any) -> None:
        del config.output[:]
        config.input[0].dims[:] = [4]
        config.output.add(name="y", data_type="TYPE_FP32", dims=[4])
        config.max_batch_size = 8

    write_part(repository, name, "fallback", {"models": chain}, edit=as_echo)


def plan_in(folder: Path) -> Plan:
    for name, (config, python) in MODELS.items():
        version = folder / "model_repository" / name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(python)
        (version.parent / "config.pbtxt").write_text(config.replace('"echo"', f'"{name}"'))
    write_fallback(folder / "model_repository", "careful", "failing, fast")
    value = {"repository": "model_repository", "targets": TARGETS, "deploy": {"target": "old", "slo": SLO}}
    (folder / "trtkit.yaml").write_text(json.dumps(value))
    return make_plan(load_project(folder / "trtkit.yaml"))


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Two servers under load, and a Prometheus with the rendered configuration."""
    prometheus = program("prometheus")
    folder = tmp_path_factory.mktemp("watched")
    plan = plan_in(folder)
    with ExitStack() as stack:
        options = [flag for flag, _ in plan.flags]
        tracks = {t: start_server(stack, folder / "model_repository", options) for t in ("stable", "canary")}
        servers = {s.metrics_url: {"pod": f"{plan.name}-{t}", "track": t} for t, s in tracks.items()}
        (folder / "prometheus.yml").write_text(prometheus_file(plan, servers, FAST, alone=True))
        (folder / "rules.yml").write_text(rule_file(plan, FAST))
        url = f"127.0.0.1:{free_ports().http}"
        options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        started(stack, folder / "prometheus.log", prometheus, *options, f"--web.listen-address={url}")
        for track, server in tracks.items():
            others = ("cached", "slow", "failing", "careful") if track == "stable" else ("cached", "slow")
            load = ["perf", "fast", *(f"--mix={name}=1" for name in others), "--request-rate=16", "--duration=120"]
            log = folder / f"perf-{track}.log"
            started(stack, log, sys.executable, "-m", "trtkit", *load, f"--url={server.http_url}", cwd=folder)
        yield Watched(plan, f"http://{url}")


def started(stack: ExitStack, log: Path, *command: str, cwd: Path | None = None) -> None:
    """Start a program that is ended with the stack."""
    output = stack.enter_context(log.open("wb"))
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=cwd)
    stack.callback(process.wait)
    stack.callback(process.terminate)


def until(wanted: Any, timeout_s: float = 90) -> None:
    """Wait until a condition holds; the assertion after it says what does not."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if wanted():
                return
        except OSError:
            pass  # it is still starting
        time.sleep(0.5)


def filled(expr: str) -> str:
    """A dashboard's expression as Grafana asks for it with everything chosen."""
    expr = expr.replace("$__rate_interval", "8s").replace("$namespace", "triton")
    return re.sub(r"\$(model|version|pod)\b", ".*", expr)


def empty(watched: Watched, exprs: dict[str, str]) -> list[str]:
    """What has no value."""
    return [name for name, expr in exprs.items() if not any(map(math.isfinite, watched.values(expr)))]


def test_every_recording_rule_and_every_panel_shows_data(watched: Watched) -> None:
    panels = {f"{title}: {query.legend}": filled(query.expr) for title, query in expressions(watched.plan, "static")}
    rules = {record.name: record.name for record in records(watched.plan, FAST)}
    assert len(panels) > 25
    assert len(rules) == 7
    until(lambda: not empty(watched, panels | rules))
    assert empty(watched, panels | rules) == []


def test_a_canary_is_a_series_of_its_own(watched: Watched) -> None:
    def tracks() -> set[str]:
        rows = watched.get("query", query='model:nv_inference_request_us:mean5m{model="fast"}')["result"]
        return {row["metric"]["track"] for row in rows}

    until(lambda: tracks() == {"stable", "canary"})
    assert tracks() == {"stable", "canary"}


def test_the_planted_faults_fire_their_alerts_and_nothing_else_does(watched: Watched) -> None:
    planted = {
        ("TritonLatencyHigh", "slow"),
        ("TritonErrorRatioHigh", "failing"),
        ("TritonFallbackUsed", "careful"),  # which asks the failing one first
    }
    until(lambda: watched.firing() >= planted)
    time.sleep(FAST.hold_s(300))  # whatever else were wrong by now would fire after its hold
    assert watched.firing() == planted
    slow = next(alert for alert in watched.get("alerts")["alerts"] if alert["labels"].get("model") == "slow")
    milliseconds = re.fullmatch(r"slow \(\w+\): p99 of the slowest pod is (\d+\.\d) ms", slow["annotations"]["summary"])
    assert milliseconds
    assert float(milliseconds[1]) >= 150  # what it sleeps


def test_prometheus_accepts_every_rule(watched: Watched) -> None:
    rules = [rule for group in watched.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 15
    assert [(rule["name"], rule["lastError"]) for rule in rules if rule["health"] not in ("ok", "unknown")] == []


def test_a_model_that_is_not_loaded_has_no_series(tmp_path: Path) -> None:
    plan_in(tmp_path)

    def loaded() -> set[str]:
        with urllib.request.urlopen(f"http://{server.metrics_url}/metrics", timeout=10) as answer:
            return set(
                re.findall(r'^nv_inference_request_success\{model="(\w+)"', answer.read().decode(), re.MULTILINE)
            )

    with ExitStack() as stack:
        options = ["--model-control-mode=explicit", "--load-model=fast", "--load-model=failing"]
        server = start_server(stack, tmp_path / "model_repository", options)
        until(lambda: loaded() == {"fast", "failing"})
        assert loaded() == {"fast", "failing"}
        address = f"http://{server.http_url}/v2/repository/models/failing/unload"
        urllib.request.urlopen(urllib.request.Request(address, data=b"{}", method="POST"), timeout=10).close()
        until(lambda: loaded() == {"fast"})
        assert loaded() == {"fast"}  # which is what TritonModelMissing reads
