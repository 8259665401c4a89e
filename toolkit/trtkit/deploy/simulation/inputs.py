# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a simulation is made from: what was said on the command line, else the plan's figures, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trtkit.deploy.figure import Figure
from trtkit.deploy.measured import PerfMeasurement
from trtkit.deploy.planned import Plan
from trtkit.deploy.scaling_plan import best_load
from trtkit.deploy.simulation.inputs_scaler import scaler_of
from trtkit.deploy.simulation.picker import Picker, preset
from trtkit.deploy.simulation.settings import Lifecycle, Objective, Outage, Pod, Scaler, Settings
from trtkit.errors import ProjectError

_MOST = 1e7  # requests per second, and ms


@dataclass(frozen=True)
class Inputs:
    """A simulation's settings, and where each figure comes from."""

    settings: Settings
    scaler: Scaler
    figures: dict[str, Figure]


def inputs_of(
    given: Mapping[str, Any], plan: Plan | None = None, perf: Sequence[PerfMeasurement] = (), *, tick_s: float = 1.0
) -> Inputs:
    """Settings and autoscaler.

    Args:
        given: by the names of the command line's options; None or absent where nothing was said.
        plan: None where there is no project.
        perf: the measurements that the project names.
        tick_s: of the simulation, s.

    Raises:
        ProjectError: the capacity or the objective is not known, or a value is not possible.
    """
    pick = Picker(given)
    pod = _pod(pick, plan, perf)
    settings = Settings(
        pod,
        _lifecycle(pick, plan),
        _objective(pick, plan, pod),
        tick_s,
        int(given.get("seed") or 0),
        initial=given.get("initial_replicas"),
    )
    return Inputs(settings, scaler_of(pick, plan, pod), pick.figures)


def with_outage(inputs: Inputs, text: str) -> Inputs:
    """With a time in which no metric can be read, written as BEGIN:SECONDS.

    Raises:
        ProjectError: it is not.
    """
    begin, _, seconds = text.partition(":")
    try:
        outage = Outage(float(begin), float(begin) + float(seconds))
    except ValueError:
        raise ProjectError(f"--outage '{text}' is not BEGIN:SECONDS, e.g. 3600:600") from None
    return replace(inputs, settings=replace(inputs.settings, outage=outage))


def _pod(pick: Picker, plan: Plan | None, perf: Sequence[PerfMeasurement]) -> Pod:
    capacity = pick.first("capacity", "requests/s", plan.scaling.capacity if plan else None)
    if capacity is None:
        raise ProjectError(
            "the capacity of a pod is not known: measure it with `trtkit perf MODEL --find-capacity 'p99 < 50 ms' "
            "--json`, name the report in deploy.measurements.perf, or pass --capacity RPS"
        )
    _check("capacity", capacity)
    service_ms = pick.need("service_ms", "ms", *_measured_service(plan, perf), _assumed_service(plan, capacity))
    _check("service-ms", service_ms)
    slots = max(1, round(capacity * service_ms / 1000))
    why = f"{capacity:g} requests/s x {service_ms:g} ms are served at the same time"
    pick.note("slots", Figure(slots, "requests", why, "computed"))
    delay_ms = pick.need("batch_delay_ms", "ms", *_batch_delay(plan), preset(0.0, "ms", "no dynamic batcher waits"))
    planned = Figure(plan.gpu.count if plan.gpu else 0, "GPUs", "of a pod", "declared") if plan else None
    gpus = int(pick.need("gpus", "GPUs", planned, preset(1, "GPUs", "of a pod")))
    return Pod(capacity, service_ms / 1000, slots, delay_ms / 1000, gpus)


def _check(option: str, value: float) -> None:
    if not 0 < value < _MOST:
        raise ProjectError(f"--{option} {value} is not above 0 and below {_MOST:g}")


def _assumed_service(plan: Plan | None, capacity: float) -> Figure:
    counts = [model.instances for model in plan.models if model.instances] if plan else []
    instances = max(1, min(counts, default=1))
    why = f"{instances} instances / {max(capacity, 1e-9):g} requests/s; nothing was measured"
    return Figure(round(1000 * instances / max(capacity, 1e-9), 3), "ms", why, "estimated")


def _measured_service(plan: Plan | None, perf: Sequence[PerfMeasurement]) -> list[Figure]:
    """By Little's law, from the closed loop with the fewest requests in flight, of the model with the capacity."""
    counted = plan.scaling.counted if plan else ()
    objectives = [one for one in plan.objectives if not counted or one.model in counted] if plan else []
    best = best_load(objectives, perf)
    loops = [
        (one.concurrency, one.requests_per_s, one.queue_ms, one)
        for one in perf
        if one.concurrency
        and one.requests_per_s > 0
        and one.queue_ms is not None
        and (best is None or one.model == best.model)
    ]
    if not loops:
        return []
    concurrency, rate, queue_ms, one = min(loops, key=lambda row: row[:2])
    service_ms = round(1000 * concurrency / rate - queue_ms, 3)
    why = f"{one.model}: {concurrency} in flight / {rate:g} per s - {queue_ms:g} ms of queue ({one.file})"
    return [Figure(service_ms, "ms", why, "measured")] if service_ms > 0 else []


def _batch_delay(plan: Plan | None) -> list[Figure]:
    delays = [
        (model.config.dynamic_batching.max_queue_delay_microseconds / 1000, model.name)
        for model in (plan.models if plan else ())
        if model.config.HasField("dynamic_batching")
    ]
    if not delays:
        return []
    delay_ms, name = max(delays)
    return [Figure(delay_ms, "ms", f"max_queue_delay_microseconds of {name}", "declared")]


def _lifecycle(pick: Picker, plan: Plan | None) -> Lifecycle:
    usual = Lifecycle()
    load = plan.startup.load if plan else None
    probe = preset(plan.startup.period if plan else usual.probe_s, "s", "until the probe has seen it")
    pick.note("probe", probe)
    return Lifecycle(
        load_s=pick.need("cold_start", "s", load, preset(usual.load_s, "s", "a guess: pass --cold-start")),
        node_s=pick.need("node_s", "s", preset(0.0, "s", "pods fit on the nodes there are")),
        pull_s=pick.need("pull_s", "s", preset(0.0, "s", "the image is on the nodes")),
        probe_s=float(probe.value),
        pre_stop_s=float(plan.drain.pre_stop.value) if plan else usual.pre_stop_s,
        grace_s=float(plan.drain.grace.value) if plan else usual.grace_s,
        room=_room(pick.given, plan),
    )


def _room(given: Mapping[str, Any], plan: Plan | None) -> int:
    """Pods that fit on the nodes there are: the smallest number, and what the free GPUs hold."""
    if given.get("room") is not None:
        return int(given["room"])
    least = given.get("min_replicas")
    if least is None:
        least = plan.scaling.replicas.whole if plan else 2
    free = plan.spec.cluster.free_gpus if plan else None
    return int(least) + (free or 0) // max(1, plan.gpu.count if plan and plan.gpu else 1)


def _objective(pick: Picker, plan: Plan | None, pod: Pod) -> Objective:
    service_ms = 1000 * pod.service_s
    latency_ms = pick.first("slo_ms", "ms", *_promised(plan, service_ms))
    if latency_ms is None:
        raise ProjectError("the objective is not known: pass --slo-ms MS, or set deploy.slo.latency_p99_ms")
    if latency_ms <= service_ms + 1000 * pod.batch_delay_s:
        raise ProjectError(
            f"the objective of {latency_ms:g} ms cannot be kept: a request takes {service_ms:g} ms without waiting, "
            f"and the batcher waits {1000 * pod.batch_delay_s:g} ms; raise the objective or make the model faster"
        )
    misses = pick.need("misses", "", preset(0.01, "", "as a 99th percentile"))
    return Objective(latency_ms / 1000, misses)


def _promised(plan: Plan | None, service_ms: float) -> list[Figure]:
    """The strictest latency; without one, the strictest mean queue time, as if no request might wait longer."""
    objectives = plan.objectives if plan else ()
    latencies = sorted((one.latency_p99_ms, one.model) for one in objectives if one.latency_p99_ms)
    queues = sorted((one.queue_ms, one.model) for one in objectives if one.queue_ms)
    found = [Figure(ms, "ms", f"latency_p99_ms of {model}", "declared") for ms, model in latencies[:1]]
    return found + [
        Figure(ms + round(service_ms, 3), "ms", f"queue_ms {ms:g} of {model}, and the service", "computed")
        for ms, model in queues[:1]
    ]
