# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Reports of `trtkit perf` read back, and the autoscaler's target computed from them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy_matrix import deploy_project, matrix_project
from perf_results import measurement
from trtkit.deploy.facts import read_models
from trtkit.deploy.measured import PerfMeasurement, read_measured
from trtkit.deploy.plan import make_plan, objectives_of
from trtkit.deploy.planned import Objective, Plan, ScalingPlan
from trtkit.deploy.scaling_plan import best_load, called_models, scaling_of
from trtkit.deploy.startup import startup_of
from trtkit.errors import ProjectError
from trtkit.perf.reports.bundle import write_bundle
from trtkit.project import Deploy, Project


def load(concurrency: int, rate: float, p99_ms: float, queue_ms: float | None = 1.0, **over: Any) -> PerfMeasurement:
    one = PerfMeasurement("perf.json", "encoder", concurrency, rate, p99_ms, queue_ms, 0.0, stable=True)
    return replace(one, **over)


# the knee is at 640 requests/s; 700 break the objective of 50 ms
LOADS = (load(8, 320, 20, 2), load(32, 640, 48, 18.75), load(64, 700, 90, 60))


def scaled(folder: Path, perf: tuple[PerfMeasurement, ...], release: str = "25.01", **scaling: Any) -> ScalingPlan:
    deploy = {"target": "cpu", "slo": {"latency_p99_ms": 50}, "scaling": {"kind": "hpa", **scaling}}
    project = deploy_project(folder, deploy)
    served = read_models(project.repository, (), 0)
    startup = startup_of(project.deploy, served, None, on_gpu=False)
    return scaling_of(project.deploy, served, objectives_of(project.deploy, served), perf, startup, release)


@pytest.mark.parametrize(
    ("metric", "target"),
    [
        ("pending", 9.6),  # 640/s x 18.75 ms = 12 waiting, of which 80 %
        ("queue", 15.0),  # 80 % of 18.75 ms
        ("rps", 448.0),  # 70 % of 640
        ("gpu", 70.0),  # no measurement says it
        ("cpu", 70.0),
    ],
)
def test_the_target_at_the_knee(tmp_path: Path, metric: str, target: float) -> None:
    plan = scaled(tmp_path, LOADS, metric=metric)
    assert plan.target.value == target
    assert plan.capacity is not None
    assert (plan.capacity.value, plan.capacity.unit) == (640.0, "requests/s")
    assert plan.target.origin == ("computed" if metric in ("pending", "queue", "rps") else "preset")
    if metric == "pending":
        assert "Little's law, 640 requests/s x 0.01875 s" in plan.target.why


def test_without_a_metric_requests_per_second_where_they_were_measured(tmp_path: Path) -> None:
    plan = scaled(tmp_path, LOADS)
    assert (plan.metric, plan.target.value) == ("rps", 448.0)
    assert "a pod's capacity was measured" in plan.metric_why
    unmeasured = scaled(tmp_path / "b", ())
    assert unmeasured.metric == "pending"
    assert "no pod's capacity was measured" in unmeasured.metric_why
    older = scaled(tmp_path / "c", (), "23.08")
    assert older.metric == "queue"
    assert "23.08 does not count pending requests" in older.metric_why
    assert scaled(tmp_path / "d", LOADS, metric="queue").metric_why == "scaling.metric: queue"


def test_the_pace_is_the_project_files(tmp_path: Path) -> None:
    plan = scaled(tmp_path, LOADS, up_percent=40, down_period_seconds=90)
    assert [(figure.value, figure.origin) for figure in (
        plan.up_percent, plan.up_period, plan.down_percent, plan.down_period,
    )] == [(40, "declared"), (15, "preset"), (25, "preset"), (90, "declared")]  # fmt: skip


def test_a_queue_target_is_never_above_the_objective(tmp_path: Path) -> None:
    assert scaled(tmp_path, (load(32, 640, 48, 300.0),), metric="queue").target.value == 50.0  # that load broke it
    assert scaled(tmp_path / "b", (load(32, 640, 48, 100.0),), metric="queue").target.value == 80.0


def test_a_declared_target_goes_first(tmp_path: Path) -> None:
    plan = scaled(tmp_path, LOADS, target=3)
    assert (plan.target.value, plan.target.origin) == (3.0, "declared")


def test_presets_say_that_nothing_was_measured(tmp_path: Path) -> None:
    plan = scaled(tmp_path, ())
    assert (plan.target.value, plan.capacity) == (16.0, None)  # two instances, batches of eight
    assert "each instance of encoder: 2 x 8" in plan.target.why
    assert "not measured" in plan.target.why
    assert "not measured" in scaled(tmp_path / "b", (), metric="rps").target.why


def test_unstable_loads_count_only_where_there_is_no_other(tmp_path: Path) -> None:
    plan = scaled(tmp_path, (*LOADS[:1], replace(LOADS[1], stable=False)))
    assert plan.capacity is not None
    assert plan.capacity.value == 320.0
    alone = scaled(tmp_path / "b", (replace(LOADS[1], stable=False),))
    assert alone.capacity is not None
    assert alone.capacity.value == 640.0


def test_pending_without_a_measurement_is_what_fills_the_largest_model(tmp_path: Path) -> None:
    """Not the sum over all models, 48 here: the clients of one would wait for many batches before a pod comes."""
    project = matrix_project(tmp_path, "cpu")
    (project.repository / "encoder" / "1" / "weights.bin").write_bytes(bytes(100_000))
    plan = make_plan(project)
    assert plan.scaling.target.value == 16.0
    assert "encoder, the model with the largest files: 2 x 8" in plan.scaling.target.why


def counted(folder: Path, measured: tuple[str, ...], **deploy: Any) -> tuple[str, ...]:
    served = read_models(matrix_project(folder, "cpu").repository, (), 0)
    loads = [load(8, 100, 20, model=name) for name in measured]
    return called_models(Deploy.model_validate(deploy), served, loads)


def test_whose_requests_are_the_load(tmp_path: Path) -> None:
    """echo and encoder are steps of pipeline; a step counts where clients call it themselves."""
    entries = ("cached", "pipeline", "tracker")
    assert counted(tmp_path / "a", ()) == entries
    assert counted(tmp_path / "b", ("pipeline", "encoder")) == entries  # the step was measured to know more
    assert counted(tmp_path / "c", ("encoder",)) == ("cached", "encoder", "pipeline", "tracker")
    own = {"models": {"echo": {"queue_ms": 5}}}
    assert counted(tmp_path / "d", ("pipeline",), slo=own) == ("cached", "echo", "pipeline", "tracker")


def test_a_step_s_rate_is_no_capacity_of_what_it_is_a_step_of(tmp_path: Path) -> None:
    """HPA and capacity count in the same unit: requests of pipeline, of which each is one of encoder too."""
    rows = [measurement(model="encoder", concurrency=8), measurement(model="pipeline", concurrency=4)]
    report = {"data": "", "measurements": [each.to_json() for each in rows]}
    report["measurements"][0]["requests_per_s"] = 30.0
    (tmp_path / "perf.json").write_text(json.dumps(report))
    block = {"target": "cpu", "measurements": {"perf": ["perf.json"]}, "scaling": {"kind": "hpa"}}
    plan = make_plan(deploy_project(tmp_path, block, ("encoder", "echo", "pipeline")))
    assert plan.scaling.counted == ("pipeline",)
    assert plan.scaling.capacity is not None
    assert "pipeline: the highest load" in plan.scaling.capacity.why


def test_a_mix_is_the_capacity_for_all_its_requests(tmp_path: Path) -> None:
    """80 and 20 requests/s at once are 100, not the 20 of the rarer model; beyond an objective of either, none."""
    promised = [Objective("encoder", 50, 100, 0.01), Objective("echo", 30, None, None)]

    def mix(concurrency: int, rate: float, p99_ms: float) -> list[PerfMeasurement]:
        shares = (("encoder", 0.8, p99_ms), ("echo", 0.2, p99_ms / 2))
        return [load(concurrency, share * rate, p99, None, model=name, mix_per_s=rate) for name, share, p99 in shares]

    best = best_load(promised, [*mix(4, 50, 20), *mix(8, 100, 40), *mix(16, 120, 80), load(2, 30, 9, model="echo")])
    assert best is not None
    assert (best.model, best.requests_per_s, best.p99_ms) == ("encoder + echo", 100, 40)
    assert best_load(promised, mix(16, 120, 80)) is None


def test_a_mix_as_perf_writes_it(tmp_path: Path) -> None:
    one = measurement(model="encoder", concurrency=8)
    share = {"model": "encoder", "requests_per_s": 80.0, "latency": one.to_json()["latency"], "errors": 0}
    value = {**one.to_json(), "requests_per_s": 100.0, "by_model": [share, {**share, "model": "echo"}]}
    project = deploy_project(tmp_path, {"target": "cpu", "measurements": {"perf": ["perf.json"]}}, ("encoder", "echo"))
    (tmp_path / "perf.json").write_text(json.dumps({"data": "", "measurements": [value]}))
    assert [(each.model, each.requests_per_s, each.mix_per_s) for each in read(project)] == [
        ("encoder", 80.0, 100.0), ("echo", 80.0, 100.0),
    ]  # fmt: skip
    plan = make_plan(project)
    assert plan.scaling.capacity is not None
    assert plan.scaling.capacity.value == 100.0
    assert plan.scaling.target.value == 70.0


def test_of_several_models_the_one_that_can_do_least() -> None:
    promised = [Objective(name, 50, 100, 0.01) for name in ("encoder", "other", "unmeasured")]
    best = best_load(promised, [*LOADS, load(4, 90, 30, model="other"), load(4, 95, 60, model="other")])
    assert best is not None
    assert (best.model, best.requests_per_s) == ("other", 90)
    assert best_load(promised, [load(8, 320, 20, error_ratio=0.02)]) is None


def test_pods_that_take_long_to_come_back_are_kept_longer(tmp_path: Path) -> None:
    def down(seconds: float, **scaling: Any) -> tuple[float | int | str, str]:
        folder = tmp_path / f"{seconds}{len(scaling)}"
        folder.mkdir()
        value = {"load_s": seconds, "host_mib": 100, "shm_mib": 1, "models": {}, "digest": ""}
        (folder / "m.json").write_text(json.dumps(value))
        plan = make_plan(deploy_project(
            folder, {"target": "cpu", "scaling": scaling, "measurements": {"load": "m.json"}}))  # fmt: skip
        return plan.scaling.down_seconds.value, plan.scaling.down_seconds.origin

    assert down(200) == (400, "computed")
    assert down(100) == (300, "preset")
    assert down(200, down_stabilization_seconds=60) == (60, "declared")


# reading what perf writes


def reported(folder: Path, *measurements: Any, **deploy: Any) -> Project:
    folder.mkdir(parents=True, exist_ok=True)
    report = {"data": "", "measurements": [each.to_json() for each in measurements]}
    (folder / "perf.json").write_text(json.dumps(report))
    return deploy_project(folder, {"target": "cpu", "measurements": {"perf": ["perf.json"]}, **deploy})


def read(project: Project) -> tuple[PerfMeasurement, ...]:
    return read_measured(project, project.deploy, read_models(project.repository, (), 0)).perf


def test_a_report_as_perf_writes_it(tmp_path: Path) -> None:
    one = measurement(model="encoder", concurrency=8, error_share=0.01, stable=False)
    assert one.latency is not None
    assert one.server is not None
    assert one.server.queue_ns is not None
    (found,) = read(reported(tmp_path, one))
    assert (found.model, found.concurrency, found.stable) == ("encoder", 8, False)
    assert found.requests_per_s == one.requests_per_s
    assert found.p99_ms == one.latency.p99_ns / 1e6
    assert found.queue_ms == one.server.queue_ns / 1e6
    failed = one.error_count
    assert found.error_ratio == failed / (failed + sum(window.requests for window in one.windows))
    assert 0.005 < found.error_ratio < 0.02


def test_an_open_loop_has_no_concurrency_and_a_bundle_is_read_too(tmp_path: Path) -> None:
    one = measurement(model="encoder", rate=300.0)
    (found,) = read(reported(tmp_path, one))
    assert found.concurrency is None
    write_bundle(tmp_path / "b" / "run", [one], {"data": "random"})
    project = deploy_project(tmp_path / "b", {"target": "cpu", "measurements": {"perf": ["run"]}})
    assert read(project) == (replace(found, file="run"),)


def test_an_ensemble_waits_in_the_queues_of_its_models(tmp_path: Path) -> None:
    one = measurement(model="encoder", ensemble=True)
    (found,) = read(reported(tmp_path, one))
    assert found.queue_ms == sum(each.queue_ns or 0 for each in one.composing) / 1e6


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "perf.json is no JSON"),
        ("{}", "perf.json is no report of `trtkit perf --json`: it has no 'measurements'"),
        ('{"measurements": [{"load": {}}]}', "is no report of `trtkit perf --json`"),
        ('{"measurements": [3]}', "is no report of `trtkit perf --json`"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    project = reported(tmp_path)
    (tmp_path / "perf.json").write_text(text)
    with pytest.raises(ProjectError) as caught:
        read(project)
    assert sentence in str(caught.value)


def test_a_report_of_another_model_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="measured model 'encoding', which is not served; did you mean 'encoder'"):
        read(reported(tmp_path, measurement(model="encoding")))
    (tmp_path / "perf.json").unlink()
    with pytest.raises(ProjectError, match=r"perf\.json cannot be read: No such file"):
        make_plan(deploy_project(tmp_path / "x", {"target": "cpu", "measurements": {"perf": ["perf.json"]}}))


@pytest.mark.parametrize("over", [{"load_s": -1}, {"load_s": "x"}, {"host_mib": float("nan")}, {"models": 3}])
def test_a_load_report_with_nonsense_is_refused(tmp_path: Path, over: dict[str, Any]) -> None:
    value = {"load_s": 4, "host_mib": 100, "shm_mib": 1, "models": {}, "digest": "", **over}
    (tmp_path / "m.json").write_text(json.dumps(value))
    with pytest.raises(ProjectError, match=r"m\.json"):
        make_plan(deploy_project(tmp_path, {"target": "cpu", "measurements": {"load": "m.json"}}))


def test_the_plan_uses_the_report(tmp_path: Path) -> None:
    project = reported(tmp_path, measurement(model="encoder"), scaling={"kind": "hpa", "metric": "rps"})
    plan: Plan = make_plan(project)
    assert plan.scaling.target.origin == "computed"
    assert plan.scaling.capacity is not None
    assert plan.memory.cpu.origin == "measured"
    assert not any("was not measured" in each for each in plan.warnings)
