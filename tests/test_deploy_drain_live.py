# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Real servers behind a real Envoy, with what was rendered: no request is lost when one of them is stopped."""

from __future__ import annotations

import json
import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from deploy_envoy import SLEEPER, get, healthy, place, start_envoy, stat
from deploy_matrix import deploy_project
from trtkit.deploy.plan import make_plan
from trtkit.deploy.planned import Plan
from trtkit.errors import ProjectError
from trtkit.perf import measure
from trtkit.project import Project, load_project
from trtkit.server import start_server
from trtkit.server.process import free_ports

pytestmark = pytest.mark.triton

_STOP_AFTER_S = 1.5
_LOAD_S = 5


def slow_project(folder: Path, instances: int = 2, **deploy: object) -> Project:
    project = deploy_project(folder, {"target": "cpu", **deploy}, ("echo",))
    model = project.repository / "echo"
    (model / "1/model.py").write_text(SLEEPER)
    config = (model / "config.pbtxt").read_text().replace("count: 1", f"count: {instances}")
    (model / "config.pbtxt").write_text(config)
    return project


def flags(plan: Plan) -> list[str]:
    return [flag for flag, _ in plan.flags]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_stopping_server_costs_no_request(tmp_path: Path, protocol: str) -> None:
    project = slow_project(tmp_path / "p", server={"exit_timeout_seconds": 20})
    plan = make_plan(project)
    with ExitStack() as stack:
        servers = [start_server(stack, project.repository, flags(plan)) for _ in range(2)]
        addresses = start_envoy(stack, tmp_path, plan, tuple(map(place, servers)))
        stopped: dict[str, float] = {}

        def stop() -> None:
            time.sleep(_STOP_AFTER_S)
            started = time.monotonic()
            servers[0].process.send_signal(signal.SIGTERM)
            stopped["rc"] = servers[0].process.wait(60)
            stopped["seconds"] = time.monotonic() - started

        thread = threading.Thread(target=stop)
        thread.start()
        # slow enough that requests are in flight on both servers at any time, with short ones between them
        inputs = [{"x": np.full((1, 4), seconds, np.float32)} for seconds in (0.7, 0.9, 0.01)]
        result = measure(
            f"127.0.0.1:{addresses.http if protocol == 'http' else addresses.grpc}", "echo", inputs=inputs,
            protocol=protocol, concurrency=6, duration_s=_LOAD_S, warmup_s=0.5, window_s=1,
        )  # fmt: skip
        thread.join()
        cluster = f"triton_{protocol}_stable"
        log = (tmp_path / "envoy.log").read_text()
        assert result.errors == (), log
        deadline = time.monotonic() + 10
        while healthy(addresses, cluster) != 1 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert healthy(addresses, cluster) == 1
        # more than one server alone answers in that time: both had a share, or the stop would have proved nothing
        assert result.latency is not None
        assert result.latency.count > _LOAD_S * 2 / 0.54
    assert stopped["rc"] == 0, servers[0].log_end()
    assert stopped["seconds"] < plan.drain.grace.whole - plan.drain.pre_stop.whole


def test_what_clients_may_ask(tmp_path: Path) -> None:
    project = slow_project(
        tmp_path / "p", instances=1, server={"max_request_bytes": 2000}, exposure={"requests_per_second": 5}
    )
    plan = make_plan(project)
    with ExitStack() as stack:
        server = start_server(stack, project.repository, ["--exit-timeout-secs=2"])
        addresses = start_envoy(stack, tmp_path, plan, (place(server),), (place(server),))
        base = f"http://127.0.0.1:{addresses.http}/v2"
        assert get(f"{base}/health/ready")[0] == 200
        assert get(f"{base}/models/echo")[0] == 200
        for closed in (
            "repository/index", "systemsharedmemory/status", "logging", "trace/setting", "models/echo/trace/setting",
            "models/echo/../../repository/index", "models/echo%2f..%2f..%2frepository%2findex",
        ):  # fmt: skip
            assert get(f"{base}/{closed}")[0] in (400, 404), closed
        assert get(f"http://127.0.0.1:{addresses.metrics}/stats/prometheus")[0] == 200
        assert get(f"http://127.0.0.1:{addresses.metrics}/quitquitquit", b"")[0] == 404
        question = _question()
        infer = f"{base}/models/echo/infer"
        assert get(infer, question)[0] == 200
        assert get(infer, question + b" " * 3000)[0] == 413
        # a burst of twice the rate passes, the rest is refused; health is not limited
        answers = [get(infer, question)[0] for _ in range(30)]
        assert {200, 429} == set(answers)
        assert answers.count(200) <= 2 * 5 + 10
        assert all(get(f"{base}/health/ready")[0] == 200 for _ in range(30))


def test_a_canary_gets_its_share_while_envoy_runs(tmp_path: Path) -> None:
    project = slow_project(tmp_path / "p", instances=1)
    plan = make_plan(project)
    with ExitStack() as stack:
        server = start_server(stack, project.repository, ["--exit-timeout-secs=2"])
        addresses = start_envoy(stack, tmp_path, plan, (place(server),), (place(server),))
        infer = f"http://127.0.0.1:{addresses.http}/v2/models/echo/infer"

        def canaries(requests: int) -> float:
            before = stat(addresses, "envoy_cluster_upstream_rq_total", "triton_http_canary")
            assert {get(infer, _question())[0] for _ in range(requests)} == {200}
            return stat(addresses, "envoy_cluster_upstream_rq_total", "triton_http_canary") - before

        assert canaries(50) == 0
        before = stat(addresses, "envoy_cluster_upstream_rq_total", "triton_http_canary")
        assert get(infer, _question(), {"x-track": "canary"})[0] == 200
        assert stat(addresses, "envoy_cluster_upstream_rq_total", "triton_http_canary") == before + 1
        weights = "traffic.triton_http_stable=50&traffic.triton_http_canary=50"
        assert get(f"http://127.0.0.1:{addresses.admin}/runtime_modify?{weights}", b"")[0] == 200
        # 200 draws of one half: outside of these bounds once in a million runs
        assert 65 <= canaries(200) <= 135


def test_the_start_up_budget_is_enough_and_a_tenth_is_not(tmp_path: Path) -> None:
    seconds = 3.2  # more than a tenth of the least budget
    project = slow_project(tmp_path / "p", instances=1)
    initialize = f"    def initialize(self, args):\n        time.sleep({seconds})\n\n    def execute("
    path = project.repository / "echo/1/model.py"
    path.write_text(path.read_text().replace("    def execute(", initialize))
    with ExitStack() as stack:
        started = time.monotonic()
        server = start_server(stack, project.repository, ["--exit-timeout-secs=2"])
        load_s = time.monotonic() - started
        digest = make_plan(project).digest
        measured = {"load_s": load_s, "host_mib": 300, "shm_mib": 2, "models": {"echo": seconds}, "digest": digest}
        server.kill()
    (project.root / "load.json").write_text(json.dumps(measured))
    plan = make_plan(_with(project, {"measurements": {"load": "load.json"}}))
    assert load_s >= seconds
    assert plan.startup.budget.value >= 2 * load_s
    assert plan.startup.failures * plan.startup.period >= plan.startup.budget.value
    assert _survives(project, plan.startup.period, plan.startup.failures)
    tenth = plan.startup.budget.whole / 10
    assert not _survives(project, tenth / 3, 3)


def test_a_budget_below_the_measured_load_is_refused_with_the_figure(tmp_path: Path) -> None:
    project = slow_project(tmp_path / "p", instances=1)
    measured = {"load_s": 8.4, "host_mib": 300, "shm_mib": 2, "models": {}, "digest": make_plan(project).digest}
    (project.root / "load.json").write_text(json.dumps(measured))
    with pytest.raises(ProjectError, match=r"8\.4"):
        make_plan(_with(project, {"measurements": {"load": "load.json"}, "server": {"startup_seconds": 2}}))


def _survives(project: Project, period_s: float, failures: int) -> bool:
    """Whether a kubelet with this startup probe on /v2/health/live would let the server live until it answers."""
    outcome: list[bool] = []
    ports = free_ports()
    with ExitStack() as stack:
        started = threading.Event()

        def probe() -> None:
            started.wait()
            for _ in range(failures):
                time.sleep(period_s)
                if _live(ports.http):
                    return outcome.append(True)
            return outcome.append(False)

        thread = threading.Thread(target=probe)
        thread.start()
        started.set()
        server = start_server(stack, project.repository, ["--exit-timeout-secs=2"], ports=ports)
        thread.join()
        server.kill()
    return outcome[0]


def _live(port: int) -> bool:
    try:
        return get(f"http://127.0.0.1:{port}/v2/health/live")[0] == 200
    except OSError:
        return False


def _with(project: Project, further: dict[str, object]) -> Project:
    value = json.loads(project.file.read_text())
    value["deploy"].update(further)
    project.file.write_text(json.dumps(value))
    return load_project(project.file)


def _question() -> bytes:
    data = [0.0, 0.0, 0.0, 0.0]
    return json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": data}]}).encode()
