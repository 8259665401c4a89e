# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How many pods there are, and the target that decides it: from the highest load that met the objectives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from trtkit.deploy.figure import Figure
from trtkit.deploy.measured import PerfMeasurement
from trtkit.deploy.planned import Objective, ScalingPlan, ServedModel, Startup
from trtkit.deploy.releases import has_metric
from trtkit.project import Deploy
from trtkit.project.spec_deploy import Scaling

RPS_SHARE = 0.7
"""Of what a pod can do: the rest is for what arrives while a further pod starts.

By `trtkit deploy simulate`, on a noisy day with a start of 55 s, 1.1 % of the requests are too late at 80 %, and 0.05 %
at 70 % (docs/deploy-simulate.md).
"""
QUEUE_SHARE = 0.8
"""Of what waits in a pod at its capacity."""
GPU_PERCENT, CPU_PERCENT, QUEUE_MS, RPS = 70.0, 70.0, 50.0, 100.0


def scaling_of(
    spec: Deploy,
    served: Sequence[ServedModel],
    objectives: Sequence[Objective],
    perf: Sequence[PerfMeasurement],
    startup: Startup,
    release: str,
) -> ScalingPlan:
    """The figures of the autoscaler.

    Args:
        spec: the ``deploy:`` block; its scaling.target goes first.
        served: the models.
        objectives: what is promised; loads that break it are beyond a pod's capacity.
        perf: measured loads of one pod.
        startup: removed pods take that long to come back.
        release: of the server, e.g. ``25.01``; metrics follow it.
    """
    scaling = spec.scaling
    counted = called_models(spec, served, perf)
    best = best_load([one for one in objectives if one.model in counted], perf)
    metric, why = _metric(scaling, best, release)
    if scaling.kind == "none":
        why = f"scaling.kind is none, so nothing scales on it; {why}"
    return ScalingPlan(
        kind=scaling.kind,
        replicas=_replicas(scaling),
        max_replicas=max(scaling.max_replicas, scaling.min_replicas),
        metric=metric,
        metric_why=why,
        counted=counted if len(counted) < len(served) else (),
        target=_target(scaling, metric, served, objectives, best),
        capacity=_capacity(best),
        up_seconds=_up(scaling),
        up_percent=_pace(scaling, "up_percent", "%", "of the pods there are, at most, in a period; one at least"),
        up_period=_pace(scaling, "up_period_seconds", "s", "of the pace up; the HPA looks every 15 s"),
        down_seconds=_down(scaling, startup),
        down_percent=_pace(scaling, "down_percent", "%", "of the pods there are, at most, in a period; one at least"),
        down_period=_pace(scaling, "down_period_seconds", "s", "in which pods that stay show whether they are enough"),
    )


def _metric(scaling: Scaling, best: PerfMeasurement | None, release: str) -> tuple[str, str]:
    """What pods scale on, and why."""
    if scaling.metric:
        return scaling.metric, f"scaling.metric: {scaling.metric}"
    if best:
        return "rps", "a pod's capacity was measured: requests are proportional to the load, and queues are empty " \
                      "until a pod is full"  # fmt: skip
    unknown = "no pod's capacity was measured, which rps needs"
    if has_metric(release, "nv_inference_pending_request_count"):
        return "pending", f"{unknown}; it rises only when a pod is full, so pods come late"
    return "queue", f"{unknown}, and the server {release} does not count pending requests"


def called_models(spec: Deploy, served: Sequence[ServedModel], perf: Sequence[PerfMeasurement]) -> tuple[str, ...]:
    """The models whose requests are the load: a request of an ensemble also counts as one of each of its steps.

    Those that are no step of another; and of the steps those that clients call themselves, as slo.models says by an
    objective of their own, or a measurement where none was made of what they are a step of.
    """
    below = {model.name: _below(model.name, {each.name: each.steps for each in served}) for model in served}
    measured = {one.model for one in perf}
    steps = {step for names in below.values() for step in names}
    within_measured = {step for name in measured for step in below.get(name, ())}
    own = set(spec.slo.models) | (measured - within_measured)
    return tuple(model.name for model in served if model.name not in steps or model.name in own)


def _below(name: str, steps: dict[str, tuple[str, ...]]) -> set[str]:
    """The steps of a model, and theirs."""
    found: set[str] = set()
    left = list(steps.get(name, ()))
    while left:
        step = left.pop()
        if step not in found:
            found.add(step)
            left += steps.get(step, ())
    return found - {name}


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
    """The highest load within the objectives.

    Of a mix of models, where one was measured, all requests together. Of models that were measured each by itself that
    of the one which can do least: a pod does at least so many of any mix of them, as far as they only share its time.
    Loads that were not stable count only where there is no other.
    """
    by_model = {objective.model: objective for objective in objectives}
    mixes = _highest(list(_mixes(by_model, perf)))
    if mixes is not None:
        return mixes
    alone = [one for one in perf if one.mix_per_s is None]
    best = [
        _highest([one for one in alone if one.model == objective.model and meets(objective, one)])
        for objective in objectives
    ]
    return min((one for one in best if one is not None), key=lambda one: one.requests_per_s, default=None)


def _highest(loads: Sequence[PerfMeasurement]) -> PerfMeasurement | None:
    stable = [one for one in loads if one.stable] or loads
    return max(stable, key=lambda one: one.requests_per_s, default=None)


def _mixes(objectives: dict[str, Objective], perf: Sequence[PerfMeasurement]) -> Iterator[PerfMeasurement]:
    """The loads of several models at once that keep every objective, each as one load."""
    shares = [one for one in perf if one.mix_per_s is not None]
    for (_, _, rate), group in groupby(shares, lambda one: (one.file, one.concurrency, one.mix_per_s)):
        parts = list(group)
        if all(one.model not in objectives or meets(objectives[one.model], one) for one in parts):
            worst = max(parts, key=lambda one: one.p99_ms or 0)
            yield replace(worst, model=" + ".join(one.model for one in parts), requests_per_s=float(rate or 0))


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
        value = RPS_SHARE * best.requests_per_s
        return Figure(_rounded(value), unit, f"{RPS_SHARE:g} x {best.requests_per_s:.4g}: {load}", "computed")
    if best.queue_ms is None:
        return None
    if metric == "queue":
        limit = min((o.queue_ms for o in objectives if o.queue_ms is not None), default=best.queue_ms)
        value = min(QUEUE_SHARE * best.queue_ms, limit)
        why = f"{QUEUE_SHARE:g} x {best.queue_ms:.4g} ms in the queue: {load}"
        return Figure(max(1.0, _rounded(value)), unit, why, "computed")
    if metric == "pending":
        waiting = best.requests_per_s * best.queue_ms / 1000
        why = (
            f"{QUEUE_SHARE:g} x {waiting:.3g} waiting by Little's law, {best.requests_per_s:.4g} requests/s x "
            f"{best.queue_ms / 1000:.4g} s in the queue: {load}"
        )
        return Figure(max(1.0, _rounded(QUEUE_SHARE * waiting)), unit, why, "computed")
    return None


def _preset(metric: str, unit: str, served: Sequence[ServedModel], objectives: Sequence[Objective]) -> Figure:
    remedy = "name a report of `trtkit perf` in measurements.perf to compute it"
    if metric == "pending":
        return _preset_pending(unit, served, remedy)
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


def _preset_pending(unit: str, served: Sequence[ServedModel], remedy: str) -> Figure:
    """Of the largest model, which is taken for the one that fills a pod.

    Not of all models: requests queue up for one of them first, and a sum over all is not reached before its clients
    have waited for many batches. Those that wait for the others count too, so it errs towards more pods.
    """
    queued = [model for model in served if model.instances]
    if not queued:
        return Figure(1.0, unit, f"no model has instances of its own; not measured, {remedy}", "estimated")
    most = max(queued, key=lambda model: (model.weight_bytes, -_full(model)))
    batch = max(1, most.config.max_batch_size)
    largest = f"{most.name}, the model with the largest files" if len(queued) > 1 else most.name
    why = f"a full batch waiting for each instance of {largest}: {most.instances} x {batch}; not measured, {remedy}"
    return Figure(float(_full(most)), unit, why, "estimated")


def _full(model: ServedModel) -> int:
    return model.instances * max(1, model.config.max_batch_size)


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


def _pace(scaling: Scaling, key: str, unit: str, why: str) -> Figure:
    value: int = getattr(scaling, key)
    return Figure(value, unit, why, "declared" if key in scaling.model_fields_set else "preset")
