# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Search for the metric, target and smallest number of replicas that keep the objective with the fewest GPU-hours."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from trtkit.deploy.simulation.behavior import default_behavior
from trtkit.deploy.simulation.result import Result
from trtkit.deploy.simulation.run import simulate
from trtkit.deploy.simulation.settings import NVIDIA_TARGET_US, Metric, Pod, Scaler, Settings
from trtkit.deploy.simulation.trace import Trace

HEADROOM = 1.1
"""A proposal also keeps the objective with this many times the load."""
_COARSE_S = 5.0
_DOWN_WINDOWS_S = (120.0, 300.0, 600.0)


@dataclass(frozen=True)
class Proposal:
    """What was found.

    Attributes:
        best: of all that keep the objective, with headroom; None where nothing does.
        alternatives: the cheapest of each metric that keeps it, by their GPU-hours; `best` is not among them.
        failed: of each metric that never keeps it, the one with the fewest misses.
        static: the smallest fixed number of pods that keeps it; None where none up to twice the need does.
        chart: the 50 µs of mean queue time of NVIDIA's chart, with the same largest number of replicas.
        maximum: the largest number of replicas in the search.
        tried: how many were simulated.
    """

    best: Result | None
    alternatives: tuple[Result, ...]
    failed: tuple[Result, ...]
    static: Result | None
    chart: Result
    maximum: int
    tried: int


def targets(kind: str, pod: Pod, wait_s: float) -> tuple[float, ...]:
    """What is tried of a metric, from careful to daring.

    Args:
        kind: pending, queue or rps.
        pod: what a pod does.
        wait_s: how long a request may wait within the objective.
    """
    if kind == "rps":
        return tuple(round(share * pod.capacity, 3) for share in (0.5, 0.6, 0.7, 0.8, 0.9))
    if kind == "pending":
        return tuple(share * pod.slots for share in (0.125, 0.25, 0.5, 1.0, 2.0, 4.0))
    if kind == "queue":
        return tuple(round(max(0.01, 1000 * share * wait_s), 3) for share in (0.01, 0.03, 0.1, 0.25, 0.5))
    raise ValueError(kind)


def propose(
    trace: Trace,
    base: Scaler,
    settings: Settings,
    metrics: Sequence[str] = ("rps", "pending", "queue"),
    progress: Callable[[str], None] = lambda text: None,
) -> Proposal:
    """Search.

    Args:
        trace: the load.
        base: everything that is not searched: the largest number of replicas, the intervals, KEDA.
        settings: the pods and the objective.
        metrics: that may be proposed.
        progress: is told what is tried.
    """
    search = _Search(trace, settings, progress)
    static = search.static()
    maximum = max(base.maximum, math.ceil(1.25 * static.scaler.maximum)) if static else base.maximum
    base = replace(base, maximum=maximum)
    found = [result for kind in metrics for result in search.of_metric(base, kind)]
    kept = sorted((result for result in found if result.holds), key=_price)
    best = next((result for result in kept if search.with_headroom(result)), None)
    if best is not None:
        best = search.refined(best)
    kinds = [kind for kind in metrics if best is None or kind != _kind(best)]
    alternatives = [next((one for one in kept if _kind(one) == kind), None) for kind in kinds]
    lost = [kind for kind, one in zip(kinds, alternatives, strict=True) if one is None]
    failed = [min((one for one in found if _kind(one) == kind), key=_misses) for kind in lost]
    chart = search.exact(chart_scaler(base.maximum, base.scrape_s))
    others = sorted((one for one in alternatives if one), key=_price)
    return Proposal(
        best,
        tuple(_named(one, "alternative") for one in others),
        tuple(_named(one, "fails") for one in failed),
        static,
        chart,
        maximum,
        search.tried,
    )


def chart_scaler(maximum: int, scrape_s: float = 15.0) -> Scaler:
    """The HPA of deploy/k8s-onprem in NVIDIA's server repository, with its query, but another largest number."""
    metric = Metric("queue_us_chart", NVIDIA_TARGET_US, window_s=30.0)
    return Scaler("NVIDIA chart, 50 µs", 1, maximum, (metric,), behavior=None, scrape_s=scrape_s)


def _named(result: Result, name: str) -> Result:
    return replace(result, scaler=replace(result.scaler, name=name))


def _kind(result: Result) -> str:
    return result.scaler.metrics[0].kind


def _price(result: Result) -> tuple[float, int]:
    return result.summary.pod_hours, result.summary.flaps


def _misses(result: Result) -> float:
    return result.summary.miss_share


@dataclass
class _Search:
    trace: Trace
    settings: Settings
    progress: Callable[[str], None]
    tried: int = 0

    def exact(self, scaler: Scaler, trace: Trace | None = None) -> Result:
        """With the tick that was asked for."""
        self.tried += 1
        return simulate(trace or self.trace, scaler, self.settings)

    def coarse(self, scaler: Scaler) -> Result:
        """With a longer tick, for long loads."""
        tick_s = max(self.settings.tick_s, _COARSE_S if self.trace.duration_s > 7200 else 0.0)
        self.tried += 1
        return simulate(self.trace, scaler, replace(self.settings, tick_s=tick_s))

    def static(self) -> Result | None:
        """The smallest number of pods that needs no autoscaler."""
        highest = 2 * max(1, math.ceil(self.trace.peak / self.settings.pod.capacity)) + 2
        number = self._smallest(1, highest, lambda pods: self.coarse(_fixed(pods)))
        return self.exact(_fixed(number)) if number is not None else None

    def _smallest(self, low: int, high: int, run: Callable[[int], Result]) -> int | None:
        """By halving: more pods from the beginning do not miss more."""
        if not run(high).holds:
            return None
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if run(middle).holds else (middle + 1, high)
        return high

    def of_metric(self, base: Scaler, kind: str) -> Iterator[Result]:
        """Each target with the smallest minimum that keeps the objective; with the largest one where none does."""
        pod = self.settings.pod
        wait_s = max(0.001, self.settings.objective.latency_s - pod.service_s)
        for target in targets(kind, pod, wait_s):
            self.progress(f"{kind} {target:g}")
            yield from self._of_target(base, _metric(base, kind, target))

    def _of_target(self, base: Scaler, metric: Metric) -> Iterable[Result]:
        def run(minimum: int) -> Result:
            return self.coarse(replace(base, name="proposed", metrics=(metric,), minimum=minimum))

        # one of two may fail; who has said one, or none with KEDA, gets that
        least = min(2, base.minimum) if base.keda is not None else max(1, min(2, base.minimum))
        first = run(least)
        if first.holds:
            return [first]
        number = self._smallest(least + 1, base.maximum, run)
        return [run(number if number is not None else base.maximum), first]

    def with_headroom(self, result: Result) -> bool:
        """Whether it also holds with more load."""
        more = self.trace.scaled(self.trace.peak * HEADROOM)
        return self.exact(result.scaler).holds and self.exact(result.scaler, more).holds

    def refined(self, result: Result) -> Result:
        """The cheapest down-stabilization window that holds with headroom."""
        best = self.exact(result.scaler)
        behavior = result.scaler.behavior
        for window_s in _DOWN_WINDOWS_S:
            if behavior is None or window_s == behavior.down.window_s:
                continue
            other = replace(behavior, down=replace(behavior.down, window_s=window_s))
            tried = self.exact(replace(result.scaler, behavior=other))
            if tried.holds and _price(tried) < _price(best) and self.with_headroom(tried):
                best = tried
        return best


def _fixed(pods: int) -> Scaler:
    return Scaler(f"{pods} pods, fixed", pods, pods, (), default_behavior())


def _metric(base: Scaler, kind: str, target: float) -> Metric:
    return Metric(kind, target, "pods" if base.keda is None else "per_pod", max(60.0, 4 * base.scrape_s))
