# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How many pods there are, and the target that decides it: from the highest load that met the objectives."""

from __future__ import annotations

from collections.abc import Sequence

from trtkit.deploy.figure import Figure
from trtkit.deploy.measured import PerfMeasurement
from trtkit.deploy.planned import Objective, ScalingPlan, ServedModel, Startup
from trtkit.project import Deploy
from trtkit.project.spec_deploy import Scaling

HEADROOM = 0.8
"""Of what a pod can do: the rest is for what arrives while a further pod starts."""
GPU_PERCENT, CPU_PERCENT, QUEUE_MS, RPS = 70.0, 70.0, 50.0, 100.0


def scaling_of(
    spec: Deploy,
    served: Sequence[ServedModel],
    objectives: Sequence[Objective],
    perf: Sequence[PerfMeasurement],
    startup: Startup,
) -> ScalingPlan:
    """The figures of the autoscaler.

    Args:
        spec: the ``deploy:`` block; its scaling.target goes first.
        served: the models.
        objectives: what is promised; loads that break it are beyond a pod's capacity.
        perf: measured loads of one pod.
        startup: removed pods take that long to come back.
    """
    scaling = spec.scaling
    best = best_load(objectives, perf)
    metric = scaling.metric or ("rps" if best else "pending")
    return ScalingPlan(
        kind=scaling.kind,
        replicas=_replicas(scaling),
        max_replicas=max(scaling.max_replicas, scaling.min_replicas),
        metric=metric,
        target=_target(scaling, metric, served, objectives, best),
        capacity=_capacity(best),
        up_seconds=_up(scaling),
        down_seconds=_down(scaling, startup),
    )


def meets(objective: Objective, one: PerfMeasurement) -> bool:
    """Whether a load is within what is promised for its model."""
    return one.p99_ms is not None and not broken(objective, one)


def broken(objective: Objective, one: PerfMeasurement) -> list[str]:
    """What of an objective a load breaks, each as ``p99 61 ms, promised are 50 ms``."""
    found = []
    for what, measured, promised, unit in (
        ("p99", one.p99_ms, objective.latency_p99_ms, " ms"),
        ("mean queue", one.queue_ms, objective.queue_ms, " ms"),
        ("error ratio", one.error_ratio, objective.error_ratio, ""),
    ):
        if measured is not None and promised is not None and measured > promised:
            found.append(f"{what} {measured:.4g}{unit}, promised are {promised:g}{unit}")
    return found


def best_load(objectives: Sequence[Objective], perf: Sequence[PerfMeasurement]) -> PerfMeasurement | None:
    """The highest load within the objectives; of several models, that of the one which can do least.

    Loads that were not stable count only where a model has no other.
    """
    best: list[PerfMeasurement] = []
    for objective in objectives:
        good = [one for one in perf if one.model == objective.model and meets(objective, one)]
        stable = [one for one in good if one.stable] or good
        if stable:
            best.append(max(stable, key=lambda one: one.requests_per_s))
    return min(best, key=lambda one: one.requests_per_s, default=None)


def _capacity(best: PerfMeasurement | None) -> Figure | None:
    if best is None:
        return None
    why = f"{best.model}: the highest load within the objectives, {shown(best)} ({best.file})"
    return Figure(round(best.requests_per_s, 1), "requests/s", why, "measured")


def shown(one: PerfMeasurement) -> str:
    """A load in a few words."""
    load = f"concurrency {one.concurrency}" if one.concurrency else "an open loop"
    return f"{load}, {one.requests_per_s:.4g} requests/s" + (f", p99 {one.p99_ms:.4g} ms" if one.p99_ms else "")


def _replicas(scaling: Scaling) -> Figure:
    declared = "min_replicas" in scaling.model_fields_set
    why = f"scaling.min_replicas: {scaling.min_replicas}" if declared else "two, so that one may fail or be replaced"
    return Figure(scaling.min_replicas, "pods", why, "declared" if declared else "preset")


def _target(
    scaling: Scaling,
    metric: str,
    served: Sequence[ServedModel],
    objectives: Sequence[Objective],
    best: PerfMeasurement | None,
) -> Figure:
    unit = {"pending": "requests", "queue": "ms", "rps": "requests/s", "gpu": "%", "cpu": "%"}[metric]
    if scaling.target is not None:
        return Figure(scaling.target, unit, f"scaling.target: {scaling.target:g}", "declared")
    if best is not None and (found := _from_load(metric, unit, best, objectives)):
        return found
    return _preset(metric, unit, served, objectives)


def _from_load(metric: str, unit: str, best: PerfMeasurement, objectives: Sequence[Objective]) -> Figure | None:
    load = f"{best.model} at {shown(best)}, the highest load within the objectives"
    if metric == "rps":
        value = HEADROOM * best.requests_per_s
        return Figure(_rounded(value), unit, f"{HEADROOM:g} x {best.requests_per_s:.4g}: {load}", "computed")
    if best.queue_ms is None:
        return None
    if metric == "queue":
        limit = min((o.queue_ms for o in objectives if o.queue_ms is not None), default=best.queue_ms)
        value = min(HEADROOM * best.queue_ms, limit)
        why = f"{HEADROOM:g} x {best.queue_ms:.4g} ms in the queue: {load}"
        return Figure(max(1.0, _rounded(value)), unit, why, "computed")
    if metric == "pending":
        waiting = best.requests_per_s * best.queue_ms / 1000
        why = (
            f"{HEADROOM:g} x {waiting:.3g} waiting by Little's law, {best.requests_per_s:.4g} requests/s x "
            f"{best.queue_ms / 1000:.4g} s in the queue: {load}"
        )
        return Figure(max(1.0, _rounded(HEADROOM * waiting)), unit, why, "computed")
    return None


def _preset(metric: str, unit: str, served: Sequence[ServedModel], objectives: Sequence[Objective]) -> Figure:
    remedy = "name a report of `trtkit perf` in measurements.perf to compute it"
    if metric == "pending":
        full = {m.name: (m.instances, max(1, m.config.max_batch_size)) for m in served if m.instances}
        parts = " + ".join(f"{name} {instances} x {batch}" for name, (instances, batch) in full.items())
        value = float(max(1, sum(instances * batch for instances, batch in full.values())))
        why = f"a full batch waiting for each instance: {parts}; not measured, {remedy}"
        return Figure(value, unit, why, "estimated")
    if metric == "queue":
        limits = [o.queue_ms for o in objectives if o.queue_ms is not None]
        value = min(limits) / 2 if limits else QUEUE_MS
        why = f"half of slo.queue_ms {min(limits):g} ms; not measured" if limits else f"not measured, {remedy}"
        return Figure(value, unit, why, "preset")
    if metric == "rps":
        return Figure(RPS, unit, f"a placeholder: what a pod can do was not measured, {remedy}", "preset")
    if metric == "gpu":
        why = "of the GPU's time, by DCGM (0 to 100); Triton's own nv_gpu_utilization is 0 to 1"
        return Figure(GPU_PERCENT, unit, why, "preset")
    return Figure(CPU_PERCENT, unit, "of the requested cores", "preset")


def _rounded(value: float) -> float:
    """Three significant digits: a measurement knows no more."""
    return float(f"{value:.3g}")


def _up(scaling: Scaling) -> Figure:
    why = "load has to be high so long" if scaling.up_stabilization_seconds else "load that rises is followed at once"
    declared = "up_stabilization_seconds" in scaling.model_fields_set
    return Figure(scaling.up_stabilization_seconds, "s", why, "declared" if declared else "preset")


def _down(scaling: Scaling, startup: Startup) -> Figure:
    given = scaling.down_stabilization_seconds
    if "down_stabilization_seconds" in scaling.model_fields_set:
        return Figure(given, "s", f"scaling.down_stabilization_seconds: {given}", "declared")
    twice = min(3600, int(-(-2 * float(startup.load.value) // 1)))
    if twice > given:
        return Figure(twice, "s", f"2 x the load time {startup.load.text}, which a pod takes to come back", "computed")
    return Figure(given, "s", f"load has to be low so long; a pod takes {startup.load.text} to come back", "preset")
