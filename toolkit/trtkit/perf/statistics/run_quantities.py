# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The quantities by which runs are compared: the value of a run, and how sure the run itself is of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from trtkit.perf.statistics.conditions import Condition, per_mille
from trtkit.perf.statistics.quantities import statistic_of, times_ns
from trtkit.perf.statistics.runs import Run
from trtkit.perf.statistics.significance import Values, batch_count, within_variance

_TAIL_A_BATCH, _REQUESTS_A_BATCH = 5, 10
_ALWAYS = ("throughput", "p50", "p90", "p99")


@dataclass(frozen=True)
class Quantity:
    """What is compared.

    Attributes:
        name: of `Difference`.
        value: of a run; None without data, or where a ratio of 0 would be needed.
        within: the `within_variance` of a run, as the difference is taken; None when the run is too short for it.
        assumed: the standard deviation from run to run that is assumed before any is seen.
        wanted: what a run needs for `within`, for people.
        ratio: whether the sides are compared by their ratio.
    """

    name: str
    value: Callable[[Run], float | None]
    within: Callable[[Run], float | None]
    assumed: float
    wanted: str
    ratio: bool = True


def quantities(runs: Sequence[Run], gate: Sequence[Condition]) -> list[Quantity]:
    """What is compared: what every run has, and what the gate asks for."""
    everything = [run.records for run in runs]
    names = list(_ALWAYS)
    if all(records.streamed for records in everything):
        names += ["p50 ttft", "p99 ttft", "p99 itl"]
    if any(not records.ok.all() for records in everything):
        names.append("errors")
    names += [condition.name for condition in gate]
    return [_quantity(name) for name in dict.fromkeys(names)]


def _quantity(name: str) -> Quantity:
    if name == "throughput":
        return Quantity(name, _throughput, _within_throughput, 0.01, f"{4 * _REQUESTS_A_BATCH} requests")
    if name == "errors":
        return Quantity(name, _errors, _within_errors, 0.001, f"{4 * _REQUESTS_A_BATCH} requests", ratio=False)
    statistic, _, metric = name.partition(" ")
    return _timed(name, metric or "latency", statistic)


def _timed(name: str, metric: str, statistic: str) -> Quantity:
    """A statistic of the latency, ttft or itl: the farther in the tail, the more runs differ and the more it needs."""
    below = Fraction(1, 2) if statistic == "mean" else per_mille(statistic) / 1000
    needed = max(_REQUESTS_A_BATCH, math.ceil(_TAIL_A_BATCH / min(below, 1 - below)))
    assumed = 0.01 if needed <= 10 else 0.02 if needed <= 100 else 0.04

    def value(run: Run) -> float | None:
        times = times_ns(metric, run.records)
        return (statistic_of(statistic, times) or None) if len(times) else None  # 0 has no ratio

    def within(run: Run) -> float | None:
        times = times_ns(metric, run.records)
        count = batch_count(len(times) / needed)
        if not count:
            return None
        batches = np.array([statistic_of(statistic, batch) for batch in np.array_split(times, count)])
        return _relative(batches)

    return Quantity(name, value, within, assumed, f"{4 * needed:,} requests")


def _relative(batches: Values) -> float | None:
    """The variance of the mean as a share of it: that of the logarithm, by the delta method."""
    mean = float(batches.mean())
    return within_variance(batches) / mean**2 if mean > 0 else None


def _throughput(run: Run) -> float | None:
    return int(run.records.ok.sum()) * run.batch_size / run.duration_s or None


def _within_throughput(run: Run) -> float | None:
    ends = run.records.last_ns[run.records.ok]
    count = batch_count(len(ends) / _REQUESTS_A_BATCH)
    if not count:
        return None
    return _relative(np.histogram(ends, bins=count, range=(run.start_ns, run.end_ns))[0].astype(np.float64))


def _errors(run: Run) -> float | None:
    return float(np.mean(~run.records.ok)) if len(run.records) else None


def _within_errors(run: Run) -> float | None:
    count = batch_count(len(run.records) / _REQUESTS_A_BATCH)
    if not count:
        return None
    return within_variance(np.array([np.mean(~batch) for batch in np.array_split(run.records.ok, count)]))
