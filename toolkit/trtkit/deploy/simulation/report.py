# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Simulations as tables and sentences, without a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trtkit.deploy.simulation.budget import reaction_parts
from trtkit.deploy.simulation.plot import title
from trtkit.deploy.simulation.propose import HEADROOM, Proposal
from trtkit.deploy.simulation.result import Result, Step

COLUMNS = ("autoscaler", "too late", "worst wait", "pods mean/max", "GPU-hours", "changes", "flaps")


def row(result: Result, hour_cost: float | None = None) -> tuple[str, ...]:
    """One line of the table of `COLUMNS`; with a cost, that is the last cell."""
    summary = result.summary
    hours = summary.gpu_hours if result.settings.pod.gpus else summary.pod_hours
    cells = (
        title(result),
        percent(summary.miss_share),
        duration(summary.worst_wait_ms / 1000),
        f"{summary.mean_replicas:.1f} / {summary.most_replicas}",
        f"{hours:.1f}",
        str(summary.ups + summary.downs),
        str(summary.flaps),
    )
    return (*cells, f"{hour_cost * hours:.2f}") if hour_cost is not None else cells


def columns(result: Result, hour_cost: float | None = None) -> tuple[str, ...]:
    """The heads of `row`."""
    names = COLUMNS if result.settings.pod.gpus else tuple("pod-hours" if c == "GPU-hours" else c for c in COLUMNS)
    return (*names, "cost") if hour_cost is not None else names


def course(result: Result, lines: int = 24) -> list[tuple[str, ...]]:
    """The course in about so many lines: time, load, capacity, pods, waiting, wait, too late."""
    size = max(1, -(-len(result.steps) // lines))
    parts = [result.steps[index : index + size] for index in range(0, len(result.steps), size)]
    return [_line(part) for part in parts]


COURSE = ("until", "load/s", "capacity/s", "pods set", "ready", "waiting", "wait p99", "too late")


def _line(steps: Sequence[Step]) -> tuple[str, ...]:
    last, number = steps[-1], len(steps)
    arrived = sum(step.arrived_per_s for step in steps)
    missed = sum(step.missed_per_s for step in steps)
    low, high = min(step.replicas for step in steps), max(step.replicas for step in steps)
    return (
        clock(last.time_s),
        f"{arrived / number:.4g}",
        f"{sum(step.capacity_per_s for step in steps) / number:.4g}",
        str(low) if low == high else f"{low}-{high}",
        str(last.ready),
        f"{max(step.waiting for step in steps):.3g}",
        duration(max(step.wait_p99_ms for step in steps) / 1000),
        percent(missed / arrived) if arrived else "-",
    )


def percent(share: float) -> str:
    """A share, without digits that mean nothing."""
    return "0 %" if share <= 0 else "< 0.001 %" if share < 1e-5 else f"{100 * share:.3g} %"


def clock(seconds: float) -> str:
    """Hours and minutes from the beginning; with seconds below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def duration(seconds: float) -> str:
    """With a unit that suits."""
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 600:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def reaction(result: Result) -> str:
    """The budget of the time from more load to more answers."""
    parts = reaction_parts(result.scaler, result.settings.lifecycle)
    if not parts:
        return "no reaction: the number of pods is fixed"
    text = " + ".join(f"{name} {seconds:g}" for name, seconds in parts.items())
    room = headroom(result)
    return f"reaction: {text} = {sum(parts.values()):g} s, until more load has more pods{room}"


def headroom(result: Result) -> str:
    """How much the load may rise in that time, where the metric says it."""
    rates = [metric for metric in result.scaler.metrics if metric.kind == "rps"]
    if not rates:
        return ""
    return (
        f"; pods at the target carry {100 * (result.settings.pod.capacity / rates[0].target - 1):.0f} % more meanwhile"
    )


def verdict(result: Result) -> str:
    """Whether the objective is kept, in a sentence."""
    objective, share = result.settings.objective, result.summary.miss_share
    words = "holds" if result.holds else "is missed"
    return (
        f"the objective {words}: {percent(share)} of the requests take longer than {1000 * objective.latency_s:g} ms, "
        f"{100 * objective.misses:g} % may"
    )


def notes(result: Result) -> Iterator[str]:
    """What a reader should know."""
    summary, scaler = result.summary, result.scaler
    need = result.trace.peak / result.settings.pod.capacity
    if need > scaler.maximum:
        yield f"the peak of {result.trace.peak:g} requests/s needs {need:.1f} pods; {scaler.maximum} are too few"
    if summary.refused:
        yield f"{summary.refused:.0f} requests came while no pod was ready, and were refused"
    if summary.lost:
        yield f"{summary.lost:.0f} requests were in pods that ended their grace period; raise it"
    if summary.flaps > 10:
        yield (
            f"{summary.flaps} times pods went that were needed again within ten minutes, or the other way round: the "
            "metric does not follow the load (queues are empty until a pod is full; rps does), or the down window short"
        )


def proposal_lines(proposal: Proposal) -> Iterator[str]:
    """What to set, and what the rest of the table says."""
    best = proposal.best
    if best is None:
        yield (
            f"nothing keeps the objective with {100 * (HEADROOM - 1):.0f} % of headroom: the load rises faster than "
            "pods start; a larger fixed number, a faster start, or another objective is needed"
        )
    else:
        yield from _settings(best)
        if proposal.static is not None and best.summary.pod_hours >= 0.98 * proposal.static.summary.pod_hours:
            yield "an autoscaler saves nothing here: a fixed number of pods costs as much"
    yield from chart_lines(proposal)


def _settings(best: Result) -> Iterator[str]:
    scaler, metric = best.scaler, best.scaler.metrics[0]
    yield "deploy:"
    yield "  scaling:"
    yield f"    kind: {'keda' if scaler.keda else 'hpa'}"
    yield f"    metric: {metric.kind}"
    yield f"    target: {metric.target:g}"
    yield f"    min_replicas: {scaler.minimum}"
    yield f"    max_replicas: {scaler.maximum}"
    if scaler.behavior is not None:
        yield f"    down_stabilization_seconds: {scaler.behavior.down.window_s:g}"


def chart_lines(proposal: Proposal) -> Iterator[str]:
    """Why the fixed 50 µs do what they do on this load."""
    chart, best = proposal.chart, proposal.best
    if chart.summary.flaps > 10:
        why = (
            "queue time is almost 0 until a pod is full and grows without bound then, so the HPA's proportion jumps "
            f"between the smallest and the largest number ({chart.summary.flaps} flaps)"
        )
    elif chart.summary.mean_replicas > 0.9 * chart.scaler.maximum:
        why = "at any load of note requests wait longer than that, so that the largest number of pods runs all the time"
    else:
        why = "see its row"
    if best is not None:
        more = chart.summary.pod_hours / best.summary.pod_hours
        words = "keeps" if chart.holds else "misses"
        yield f"NVIDIA's fixed 50 µs {words} the objective, with {more:.2f} x the pod-hours of the proposal: {why}"
