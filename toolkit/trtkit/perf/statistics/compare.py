# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Compare two sides that were measured once or several times: what differs, by how much, and whether by chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trtkit.perf.statistics.conditions import GATE, Condition, parse
from trtkit.perf.statistics.run_quantities import Quantity, quantities
from trtkit.perf.statistics.runs import Run, RunSide, run_of
from trtkit.perf.statistics.significance import Contrasts
from trtkit.perf.statistics.student import Interval, p_value, quantile

__all__ = [
    "Comparison",
    "Difference",
    "GateResult",
    "Run",
    "RunSide",
    "check_gate",
    "compare",
    "parse_gate",
    "run_of",
    "together",
]

SIGNIFICANT = 0.05
"""The probability of calling *any* of the quantities different when none is."""

_CONFIDENCE = 0.95
_FEWEST_DEGREES = 3


@dataclass(frozen=True)
class Difference:
    """One quantity on both sides.

    Attributes:
        name: ``throughput``, ``p99``, ``p99 ttft``, ``errors``; latencies are from the intended send.
        a: of A, the geometric mean of its runs: nanoseconds or infer/s; of errors the mean share. None without data.
        b: of B.
        change: from A to B, a share of A; of errors a difference of shares. Between interleaved runs it is the mean
            change between neighbours in time, which may differ a little from b / a − 1. None without data.
        interval: the 95 % confidence interval of `change`, for itself; None where it cannot be judged.
        p_value: of no difference, for itself; None where it cannot be judged.
        adjusted: the p-value after Holm's correction for looking at several quantities.
        significant: whether `adjusted` is below 0.05.
        larger_is_better: of the throughput.
        reason: why it cannot be judged; empty when it can.
    """

    name: str
    a: float | None
    b: float | None
    change: float | None = None
    interval: Interval | None = None
    p_value: float | None = None
    adjusted: float | None = None
    significant: bool = False
    larger_is_better: bool = False
    reason: str = ""

    @property
    def worse(self) -> bool:
        """Whether B is significantly worse."""
        return self.significant and ((self.change or 0.0) < 0) == self.larger_is_better

    @property
    def better(self) -> bool:
        """Whether B is significantly better."""
        return self.significant and not self.worse

    def to_json(self) -> dict[str, Any]:
        """The form of reports."""
        interval = self.interval._asdict() if self.interval else None
        return {**vars(self), "interval": interval, "worse": self.worse, "better": self.better}


@dataclass(frozen=True)
class Comparison:
    """What comparing two sides found.

    Attributes:
        label: of the load.
        runs_a: how many runs A had.
        runs_b: how many runs B had.
        interleaved: whether the runs of both sides alternated in time, so that drift of the machine cancels.
        differences: one a quantity.
        warnings: what a reader has to know, in plain sentences.
    """

    label: str
    runs_a: int
    runs_b: int
    interleaved: bool
    differences: tuple[Difference, ...]
    warnings: tuple[str, ...]

    @property
    def significant(self) -> bool:
        """Whether the sides differ in anything."""
        return any(difference.significant for difference in self.differences)

    def to_json(self) -> dict[str, Any]:
        """The form of reports."""
        differences = [difference.to_json() for difference in self.differences]
        return {**vars(self), "differences": differences, "warnings": list(self.warnings)}


@dataclass(frozen=True)
class GateResult:
    """What a gate says.

    Attributes:
        fired: a sentence for each condition that came true (the change is beyond it, and significant), and for each
            that the data do not suffice to judge: a gate that can never close is none.
        undecided: a sentence for each whose change is beyond it and within what chance may do.
    """

    fired: tuple[str, ...]
    undecided: tuple[str, ...]


def parse_gate(text: str) -> tuple[Condition, ...]:
    """Changes that must not be, such as ``p99 > +10%, throughput < -5%``; of errors in percentage points.

    Raises:
        ProjectError: a metric, sign or unit that is wrong, with the ones that are available.
    """
    return parse(text, GATE)


def compare(a: RunSide, b: RunSide, gate: Sequence[Condition] = ()) -> Comparison:
    """Compare two sides of the same load.

    Ratios are compared by their logarithms, with the variance from run to run and the correlation of requests within
    a run (see `significance`), by Student's t. Of all quantities together, the chance of calling any different when
    none is is at most 5 % (Holm 1979); `together` sees to that for several loads.

    Args:
        a: the base; at least one run.
        b: what is compared with it; at least one run. Interleaved runs (A B A B …) are worth most.
        gate: conditions, whose quantities are compared too.
    """
    runs = [(False, run) for run in a.runs] + [(True, run) for run in b.runs]
    starts = [run.started_at for _, run in runs]
    ordered = all(starts) and len(set(starts)) == len(starts)
    if ordered:
        runs.sort(key=lambda side_and_run: side_and_run[1].started_at)
    contrasts = Contrasts([side for side, _ in runs], ordered)
    differences = [_difference(quantity, runs, contrasts) for quantity in quantities([*a.runs, *b.runs], gate)]
    warnings = _warnings(a, b, contrasts.interleaved)
    return Comparison(a.label, len(a.runs), len(b.runs), contrasts.interleaved, _holm(differences), warnings)


def together(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """Comparisons of several loads, with the chance of calling anything different when nothing is 5 % over all."""
    adjusted = list(_holm([difference for one in comparisons for difference in one.differences]))
    found = []
    for one in comparisons:
        count = len(one.differences)
        found.append(replace(one, differences=tuple(adjusted[:count])))
        del adjusted[:count]
    return tuple(found)


def check_gate(comparison: Comparison, gate: Sequence[Condition]) -> GateResult:
    """Which conditions of a gate come true. `comparison` was made with the same gate."""
    fired, undecided = [], []
    by_name = {difference.name: difference for difference in comparison.differences}
    for condition in gate:
        found = by_name[condition.name]
        if found.change is None or found.interval is None:
            fired.append(f"{condition}: {condition.name} cannot be judged, because {found.reason}")
        elif condition.holds(found.change) and found.significant:
            fired.append(f"{condition}: {_told(found)}")
        elif condition.holds(found.change):
            undecided.append(f"{condition}: {_told(found)}, which chance may explain; more runs would tell")
    return GateResult(tuple(fired), tuple(undecided))


def _told(found: Difference) -> str:
    low, high = found.interval or (0.0, 0.0)
    points = " points" if found.name == "errors" else ""
    return f"{found.name} changed by {found.change:+.1%}{points} (95% interval {low:+.1%} to {high:+.1%})"


def _difference(quantity: Quantity, runs: Sequence[tuple[bool, Run]], contrasts: Contrasts) -> Difference:
    found = [quantity.value(run) for _, run in runs]
    values = np.array([value for value in found if value is not None])
    empty = Difference(quantity.name, None, None, larger_is_better=quantity.name == "throughput")
    if len(values) < len(runs):
        return replace(empty, reason="a run has no such value above 0" if quantity.ratio else "a run has no requests")
    if quantity.ratio:
        values = np.log(values)
    within = [quantity.within(run) for _, run in runs]
    known = [variance for variance in within if variance is not None]
    short = len(known) < len(within)
    estimate = contrasts.estimate(values, float(np.mean(known)) if known else 0.0, quantity.assumed)
    sides = np.array([side for side, _ in runs])
    back = np.exp if quantity.ratio else np.asarray
    difference = replace(
        empty,
        a=float(back(values[~sides].mean())),
        b=float(back(values[sides].mean())),
        change=float(back(estimate.difference)) - quantity.ratio,
    )
    if short and contrasts.degrees < _FEWEST_DEGREES:
        return replace(
            difference,
            reason=f"a run has fewer than the {quantity.wanted} it takes; four runs of each side would do too",
        )
    reach = quantile(_CONFIDENCE, estimate.degrees) * estimate.error
    ends = [float(back(estimate.difference + sign * reach)) - quantity.ratio for sign in (-1, 1)]
    chance = p_value(estimate.difference / estimate.error, estimate.degrees)
    return replace(difference, interval=Interval(*ends), p_value=chance)


def _holm(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    """Adjust the p-values: the smallest times their number, the next times one less, never below the one before."""
    judged = sorted((found.p_value, place) for place, found in enumerate(differences) if found.p_value is not None)
    adjusted, highest = list(differences), 0.0
    for done, (chance, place) in enumerate(judged):
        highest = max(highest, min(1.0, chance * (len(judged) - done)))
        adjusted[place] = replace(adjusted[place], adjusted=highest, significant=highest < SIGNIFICANT)
    return tuple(adjusted)


def _warnings(a: RunSide, b: RunSide, interleaved: bool) -> tuple[str, ...]:
    sentences = []
    if min(len(a.runs), len(b.runs)) == 1:
        sentences.append(
            "one side has a single run, which cannot show how much runs differ by themselves: 1 % (throughput, mean, "
            "median) to 4 % (p99) was assumed; three or more runs of each, interleaved (A B A B …), would show it"
        )
    elif not interleaved:
        sentences.append(
            "the runs of the two sides did not alternate in time: a change of the machine between them looks like one "
            "of the server; interleave them (A B A B …)"
        )
    for name, side in (("A", a), ("B", b)):
        unstable = sum(not run.stable for run in side.runs)
        if unstable:
            sentences.append(f"{unstable} of the {len(side.runs)} runs of {name} were not stable")
    return tuple(sentences)
