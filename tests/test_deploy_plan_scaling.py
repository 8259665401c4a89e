# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Reports of `trtkit perf` read back, and the autoscaler's target computed from them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy_matrix import deploy_project
from perf_results import measurement
from trtkit.deploy.facts import read_models
from trtkit.deploy.measured import PerfMeasurement, read_measured
from trtkit.deploy.plan import make_plan, objectives_of
from trtkit.deploy.planned import Plan, ScalingPlan
from trtkit.deploy.scaling_plan import best_load, scaling_of
from trtkit.deploy.startup import startup_of
from trtkit.errors import ProjectError
from trtkit.perf.reports.bundle import write_bundle
from trtkit.project import Project


def load(concurrency: int, rate: float, p99_ms: float, queue_ms: float | None = 1.0, **over: Any) -> PerfMeasurement:
    one = PerfMeasurement("perf.json", "encoder", concurrency, rate, p99_ms, queue_ms, 0.0, stable=True)
    return replace(one, **over)


# the knee is at 640 requests/s; 700 break the objective of 50 ms
LOADS = (load(8, 320, 20, 2), load(32, 640, 48, 18.75), load(64, 700, 90, 60))


def scaled(folder: Path, perf: tuple[PerfMeasurement, ...], **scaling: Any) -> ScalingPlan:
    deploy = {"target": "cpu", "slo": {"latency_p99_ms": 50}, "scaling": {"kind": "hpa", **scaling}}
    project = deploy_project(folder, deploy)
    served = read_models(project.repository, (), 0)
    startup = startup_of(project.deploy, served, None, on_gpu=False)
    return scaling_of(project.deploy, served, objectives_of(project.deploy, served), perf, startup)


@pytest.mark.parametrize(
    ("metric", "target"),
    [
        ("pending", 9.6),  # 640/s x 18.75 ms = 12 waiting, of which 80 %
        ("queue", 15.0),  # 80 % of 18.75 ms
        ("rps", 512.0),  # 80 % of 640
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
    assert (plan.metric, plan.target.value) == ("rps", 512.0)
    assert scaled(tmp_path / "b", ()).metric == "pending"


def test_a_queue_target_is_never_above_the_objective(tmp_path: Path) -> None:
    assert scaled(tmp_path, (load(32, 640, 48, 300.0),), metric="queue").target.value == 50.0  # that load broke it
    assert scaled(tmp_path / "b", (load(32, 640, 48, 100.0),), metric="queue").target.value == 80.0


def test_a_declared_target_goes_first(tmp_path: Path) -> None:
    plan = scaled(tmp_path, LOADS, target=3)
    assert (plan.target.value, plan.target.origin) == (3.0, "declared")


def test_presets_say_that_nothing_was_measured(tmp_path: Path) -> None:
    plan = scaled(tmp_path, ())
    assert (plan.target.value, plan.capacity) == (16.0, None)  # two instances, batches of eight
    assert "not measured" in plan.target.why
    assert "not measured" in scaled(tmp_path / "b", (), metric="rps").target.why


def test_unstable_loads_count_only_where_there_is_no_other(tmp_path: Path) -> None:
    plan = scaled(tmp_path, (*LOADS[:1], replace(LOADS[1], stable=False)))
    assert plan.capacity is not None
    assert plan.capacity.value == 320.0
    alone = scaled(tmp_path / "b", (replace(LOADS[1], stable=False),))
    assert alone.capacity is not None
    assert alone.capacity.value == 640.0


def test_of_several_models_the_one_that_can_do_least() -> None:
    from trtkit.deploy.planned import Objective

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
        ("{}", "perf.json is no report of `trtkit perf --json`: KeyError('measurements')"),
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
