# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""`trtkit deploy simulate` as it is used: with the numbers given, from a project, drawn, and refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deploy_matrix import deploy_project
from trtkit.cli import run as command_line
from trtkit.deploy.measured import PerfMeasurement
from trtkit.deploy.plan import make_plan
from trtkit.deploy.simulation.behavior import Policy
from trtkit.deploy.simulation.inputs import inputs_of
from trtkit.deploy.simulation.plot import draw, write_plot
from trtkit.deploy.simulation.run import simulate
from trtkit.deploy.simulation.shapes import shaped
from trtkit.errors import ProjectError

GIVEN = ["--capacity", "100", "--service-ms", "20", "--cold-start", "40", "--slo-ms", "200", "--max-replicas", "12"]
STEP = ["--shape", "step", "--peak", "500", "--low", "50", "--duration", "1800"]


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a project."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> int:
    return command_line(["deploy", "simulate", *arguments])


def test_without_a_project(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*GIVEN, *STEP, "--metric", "rps", "--target", "70") == 1
    out = capsys.readouterr().out
    assert "HPA: rps 70 requests/s; 2 to 12 pods" in out
    assert "the objective is missed" in out
    assert "scrape 15 + half of the query's window 30 + HPA sync 15 + load 40 + probe 5 = 105 s" in out
    assert "said on the command line" in out
    assert run(*GIVEN, *STEP, "--metric", "rps", "--min-replicas", "8") == 0
    assert "the objective holds" in capsys.readouterr().out


def test_json_and_csv_say_the_same(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(*GIVEN, *STEP, "--json", "--csv", "course.csv", "--gpus", "2")
    value = json.loads(capsys.readouterr().out)
    with (nowhere / "course.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(value["result"]["steps"]) == 1800 / 15
    assert [int(row["replicas"]) for row in rows] == [step["replicas"] for step in value["result"]["steps"]]
    assert value["result"]["gpu_hours"] == pytest.approx(2 * value["result"]["pod_hours"])
    assert value["inputs"]["capacity"]["origin"] == "declared"
    assert value["reaction_s"]["load"] == 40


def test_a_trace_scaled_and_proposed(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("load.csv").write_text("time,requests\n" + "".join(f"{60 * i},{600 + 60 * i}\n" for i in range(30)))
    code = run(*GIVEN, "--trace", "load.csv", "--peak", "400", "--propose", "--json", "--plot", "plot.png")
    value = json.loads(capsys.readouterr().out)
    assert value["trace"]["peak_per_s"] == pytest.approx(400)
    best = value["proposal"]["best"]
    assert (best is None) == (code == 1)
    assert best["holds"]
    assert best["miss_share"] <= 0.01
    assert best["gpu_hours"] <= value["proposal"]["static"]["gpu_hours"]
    assert {metric["kind"] for metric in value["proposal"]["nvidia_50_us"]["metrics"]} == {"queue_us_chart"}
    with Image.open("plot.png") as picture:
        assert picture.width > picture.height  # three columns


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (STEP, "trtkit perf MODEL --find-capacity"),
        (["--capacity", "100", "--service-ms", "20", *STEP], "--slo-ms"),
        (GIVEN, "--peak RPS (a pod carries 100)"),
        ([*GIVEN, "--trace", "none.csv"], "none.csv cannot be read"),
        ([*GIVEN, "--trace", "none.csv", "--low", "3"], "--low belong to built-in"),
        ([*GIVEN, *STEP, "--slo-ms", "15"], "cannot be kept: a request takes 20 ms"),
        ([*GIVEN, *STEP, "--min-replicas", "20"], "--max-replicas 12 is less than the minimum of 20"),
        ([*GIVEN, *STEP, "--min-replicas", "0"], "0 replicas need KEDA"),
        ([*GIVEN, *STEP, "--target", "0"], "too small"),
        ([*GIVEN, *STEP, "--capacity", "-5"], "--capacity -5.0 is not above 0"),
        ([*GIVEN, *STEP, "--outage", "soon"], "BEGIN:SECONDS"),
        ([*GIVEN, *STEP, "--start", "monday"], "--start 'monday' is no time"),
        ([*GIVEN, *STEP, "--plot", "plot.pdf"], "has to end in .png or .svg"),
        ([*GIVEN, *STEP, "-e", "production"], "needs a project"),
    ],
)
def test_refusals(nowhere: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert run(*arguments) in (2, 7)
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


def deployed(folder: Path, **scaling: Any) -> Path:
    slo = {"latency_p99_ms": 100, "models": {"encoder": {"latency_p99_ms": 50}}}
    deploy_project(folder, {"target": "cpu", "slo": slo, "scaling": scaling})
    return folder


def test_from_a_project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = deployed(tmp_path / "p", kind="hpa", metric="rps", target=30, min_replicas=3, max_replicas=9)
    run("--project", str(folder), "--capacity", "50", *STEP, "--peak", "200", "--json")
    value = json.loads(capsys.readouterr().out)
    assert value["result"]["min_replicas"] == 3
    assert value["result"]["max_replicas"] == 9
    assert value["result"]["metrics"][0]["target"] == 30
    assert value["inputs"]["slo ms"] == {
        "value": 50.0, "unit": "ms", "why": "latency_p99_ms of encoder", "origin": "declared",
    }  # fmt: skip
    assert value["inputs"]["service ms"]["value"] == 40.0  # two instances / 50 per second
    assert value["inputs"]["batch delay ms"]["value"] == 0.5
    assert value["result"]["gpu_hours"] == 0  # a CPU target
    assert run("--project", str(folder), *STEP) == 2
    assert "find-capacity" in capsys.readouterr().err


def test_the_behavior_is_the_rendered_one(tmp_path: Path) -> None:
    from trtkit.deploy.figure import plain
    from trtkit.deploy.kubernetes.scaling import behavior

    scaling = {"kind": "hpa", "metric": "rps", "up_percent": 60, "up_period_seconds": 45, "down_percent": 40}
    plan = make_plan(deploy_project(tmp_path / "p", {"target": "cpu", "scaling": scaling}))
    said = inputs_of({"capacity": 50.0, "up_percent": 70, "down_period": 90}, plan).scaler.behavior
    assert said is not None
    assert (said.up.policies, said.down.policies) == ((Policy("Percent", 70, 45),), (Policy("Percent", 40, 90),))
    found = inputs_of({"capacity": 50.0}, plan).scaler.behavior
    rendered = plain(behavior(plan))
    assert found is not None
    for rules, name in ((found.up, "scaleUp"), (found.down, "scaleDown")):
        assert rules.window_s == rendered[name]["stabilizationWindowSeconds"]
        policies = [{"type": p.kind, "value": p.value, "periodSeconds": p.period_s} for p in rules.policies]
        assert policies == rendered[name]["policies"]


def test_keda_is_the_rendered_one(tmp_path: Path) -> None:
    scaling = {
        "kind": "keda", "min_replicas": 1, "max_replicas": 20, "queue": {"name": "inference", "length": 20},
        "cron": [{"timezone": "Asia/Shanghai", "start": "0 8 * * *", "end": "0 20 * * *", "replicas": 10}],
    }  # fmt: skip
    plan = make_plan(deploy_project(tmp_path / "p", {"target": "cpu", "scaling": scaling}))
    scaler = inputs_of({"capacity": 50.0}, plan).scaler
    assert scaler.keda is not None
    assert scaler.keda.queue_length == 20
    assert scaler.keda.cron[0].replicas == 10
    assert scaler.metrics[0].source == "per_pod"
    assert scaler.keda.fallback is not None
    assert scaler.keda.fallback.replicas == 1


def test_a_project_without_an_autoscaler(tmp_path: Path) -> None:
    plan = make_plan(deploy_project(tmp_path / "p", {"target": "cpu", "scaling": {"min_replicas": 3}}))
    fixed = inputs_of({"capacity": 50.0}, plan).scaler
    assert (fixed.minimum, fixed.maximum, fixed.metrics) == (3, 3, ())
    named = inputs_of({"capacity": 50.0, "metric": "rps"}, plan).scaler
    assert [metric.target for metric in named.metrics] == [35.0]
    assert named.behavior == fixed.behavior


def test_the_service_time_by_littles_law(tmp_path: Path) -> None:
    plan = make_plan(deployed_project(tmp_path))
    rows = [
        PerfMeasurement("a.json", "encoder", 8, 400.0, 30.0, 10.0, 0.0, True),
        PerfMeasurement("a.json", "encoder", 2, 100.0, 25.0, 1.0, 0.0, True),
        PerfMeasurement("b.json", "encoder", None, 300.0, 25.0, 1.0, 0.0, True),
    ]
    found = inputs_of({"capacity": 400.0}, plan, rows)
    assert found.settings.pod.service_s == pytest.approx(0.019)  # 2 / 100 per s - 1 ms
    assert found.settings.pod.slots == 8
    assert "2 in flight / 100 per s - 1 ms of queue (a.json)" in found.figures["service ms"].why


def test_the_service_time_is_that_of_the_model_with_the_capacity(tmp_path: Path) -> None:
    """echo can do 900/s in 1 ms; the pod's capacity is the encoder's, and so is what a request takes."""
    block = {"target": "cpu", "slo": {"latency_p99_ms": 50}, "scaling": {"kind": "hpa"}}
    plan = make_plan(deploy_project(tmp_path / "p", block, ("encoder", "echo")))
    rows = [
        PerfMeasurement("a.json", "encoder", 2, 100.0, 25.0, 1.0, 0.0, True),
        PerfMeasurement("a.json", "echo", 1, 900.0, 2.0, 0.1, 0.0, True),
    ]
    assert inputs_of({"capacity": 100.0}, plan, rows).settings.pod.service_s == pytest.approx(0.019)


def deployed_project(tmp_path: Path) -> Any:
    from trtkit.project import load_project

    return load_project(deployed(tmp_path / "p", kind="hpa") / "trtkit.yaml")


def test_plots(tmp_path: Path) -> None:
    inputs = inputs_of({"capacity": 100.0, "service_ms": 20.0, "slo_ms": 200.0, "metric": "rps", "max_replicas": 8})
    result = simulate(shaped("spike", 400, 50, 1800), inputs.scaler, inputs.settings)
    figure = draw([result, result])
    assert len(figure.axes) == 6
    texts = [axes.get_title(loc="left") for axes in figure.axes[:2]]
    assert texts == ["HPA: rps 70 requests/s; 2 to 8 pods"] * 2
    figure.canvas.draw()
    assert "$" not in "".join(label.get_text() for axes in figure.axes for label in axes.get_yticklabels())
    write_plot([result], tmp_path / "plot.svg")
    write_plot([result], tmp_path / "again.svg")
    assert (tmp_path / "plot.svg").read_bytes() == (tmp_path / "again.svg").read_bytes()
    with pytest.raises(ProjectError, match="cannot be written"):
        write_plot([result], tmp_path / "plot.svg" / "below.png")
