# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Which candidate is taken: the fastest that is accurate enough, where its gain is more than noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trtkit.race.measure import Row
from trtkit.race.timing import Ratio, times_faster


@dataclass(frozen=True)
class Choice:
    """The outcome of a race.

    Attributes:
        name: the candidate that is taken.
        why: one sentence.
        batch: the batch size whose times decided; None when nothing was timed.
        verdicts: a sentence for each candidate.
        speedups: how many times faster than the reference each one is at `batch`.
        max_drop: how far the metric may fall; None without a metric.
    """

    name: str
    why: str
    batch: int | None
    verdicts: Mapping[str, str]
    speedups: Mapping[str, Ratio] = field(default_factory=dict)
    max_drop: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The form kept in records."""
        return {
            "chosen": self.name,
            "why": self.why,
            "batch": self.batch,
            "verdicts": dict(self.verdicts),
            "speedups": {name: ratio.to_json() for name, ratio in self.speedups.items()},
            "max_drop": self.max_drop,
        }


def choose(rows: Sequence[Row], max_drop: float, metric_available: bool, batch: int | None = None) -> Choice:
    """Take the fastest candidate that stays inside the accuracy budget.

    The budget: with a metric, a drop of at most `max_drop`; without one, every output inside the tolerance of
    its precision. A metric that is no number, and NaN or infinity where the reference has none, are outside.

    Candidates are judged from the highest precision down (`race.candidate.PRECISIONS`, then their order). One
    is taken instead of those before it when it is faster than what would be taken else by more than the noise:
    three quarters of the paired rounds have to say so, and the median has to gain 2 % (`timing.LEAST_GAIN`). A
    tie goes to the higher precision. A quantized one also
    has to be faster than every one that is not quantized, whether that one is accurate enough or not.

    Args:
        rows: of one race; the first is the reference, which needs no budget.
        max_drop: how far the metric may fall below the reference's.
        metric_available: whether the metric decides, or the tolerance.
        batch: whose times decide; default: the largest, because that is where a server is under load.

    Returns:
        The choice; the reference when nothing is better or nothing was timed.
    """
    timed = {size for row in rows for size in row.timings}
    batch = max(timed, default=None) if batch is None else batch
    race = _Race(rows, max_drop, metric_available, batch)
    taken = race.reference
    faults = {row.name: "" if row is race.reference else race.fault(row) for row in rows}
    for row in sorted(rows[1:], key=lambda row: row.candidate.rank):
        if faults[row.name]:
            continue
        faults[row.name] = race.not_faster(row, taken)
        if not faults[row.name]:
            taken = row
    verdicts = {row.name: race.verdict(row, taken, faults[row.name]) for row in rows}
    speedups = {row.name: ratio for row in rows if (ratio := race.ratio(row, race.reference))}
    return Choice(taken.name, race.why(taken), batch, verdicts, speedups, max_drop if metric_available else None)


@dataclass(frozen=True)
class _Race:
    rows: Sequence[Row]
    max_drop: float
    metric_available: bool
    batch: int | None

    @property
    def reference(self) -> Row:
        return self.rows[0]

    def ratio(self, row: Row, other: Row) -> Ratio | None:
        """How many times faster `row` is than `other`; None when one was not timed."""
        if self.batch is None or self.batch not in row.timings or self.batch not in other.timings:
            return None
        return times_faster(row.timings[self.batch], other.timings[self.batch])

    def fault(self, row: Row) -> str:
        """Why a candidate cannot be taken however fast it is; empty when it can."""
        if row.candidate.failed:
            return f"failed: {row.candidate.failed}"
        if row.problem:
            return f"failed: {row.problem}"
        accuracy = self._inaccuracy(row)
        if accuracy:
            return f"not accurate enough: {accuracy}"
        return f"not timed: {row.untimed or f'no time at batch {self.batch}'}" if self.batch not in row.timings else ""

    def _inaccuracy(self, row: Row) -> str:
        for name, found in row.outputs.items():
            if found.problem:
                return f"output '{name}': {found.problem}"
            if found.nonfinite:
                return (
                    f"output '{name}' has NaN or infinity in {found.nonfinite} of {found.elements} elements, "
                    f"where {self.reference.name} has none"
                )
        if self.metric_available:
            return self._metric_fault(row)
        for name, found in row.outputs.items():
            if not found.passed:
                return (
                    f"{found.outside} of {found.elements} elements of '{name}' are outside the tolerance, "
                    f"the largest error is {found.max_abs:.3g}"
                )
        return ""

    def _metric_fault(self, row: Row) -> str:
        if row.metric is None or row.drop is None or not math.isfinite(row.metric):
            return "its metric is not a number"
        if not math.isfinite(row.drop):
            return f"the metric of {self.reference.name} is not a number, so that nothing can be compared with it"
        return f"the metric falls by {row.drop:.4g}, {self.max_drop:g} is allowed" if row.drop > self.max_drop else ""

    def not_faster(self, row: Row, taken: Row) -> str:
        """Why a candidate that is accurate enough is not taken instead of `taken`; empty when it is."""
        unquantized = [other for other in self.rows if not other.candidate.is_quantized]
        others = {
            other.name: other for other in (self.reference, *(unquantized if row.candidate.is_quantized else ()), taken)
        }
        ratios = [(other, ratio) for other in others.values() if (ratio := self.ratio(row, other))]
        for other, ratio in ratios:
            if ratio.is_slower:
                return f"{_times(1 / ratio.median)} slower than {other.name}"
        for other, ratio in ratios:
            if not ratio.is_faster and (other is taken or ratio.median <= 1.0):
                gain = f"{ratio.median:.2f} times, quartiles {ratio.low:.2f} to {ratio.high:.2f}"
                return f"not faster than {other.name} beyond the noise ({gain}); a tie goes to the higher precision"
        return "" if self.ratio(row, taken) else f"nothing to compare with: {taken.name} was not timed"

    def verdict(self, row: Row, taken: Row, fault: str) -> str:
        """The sentence for one candidate."""
        kept = len(row.candidate.kept)
        nodes = f"; {kept} node{'s stay' if kept > 1 else ' stays'} in FP32" if kept else ""
        if fault:
            return fault + self._slower_too(row, fault) + nodes
        if row is taken:
            return f"taken: {self._accuracy(row)}{nodes}"
        ratio = self.ratio(taken, row)
        assert ratio is not None, "it would be the one taken, or at fault"
        return f"{taken.name} is {_times(ratio.median)} faster{nodes}"

    def _slower_too(self, row: Row, fault: str) -> str:
        ratio = self.ratio(row, self.reference) if fault.startswith("not accurate") else None
        if ratio is None or not ratio.is_slower:
            return ""
        return f"; and {_times(1 / ratio.median)} slower than {self.reference.name}"

    def why(self, taken: Row) -> str:
        """The choice in one sentence."""
        if self.batch not in self.reference.timings:
            return f"{taken.name}: it was not timed, so that no candidate can be called faster"
        at = f"at batch {self.batch}" if self.batch else "on whole requests"
        ratio = self.ratio(taken, self.reference)
        if taken is self.reference or ratio is None:
            return f"{taken.name}: no other candidate is accurate enough and faster beyond the noise {at}"
        return f"{taken.name}: {_times(ratio.median)} faster than {self.reference.name} {at}, {self._accuracy(taken)}"

    def _accuracy(self, row: Row) -> str:
        if row is self.reference:
            return "the reference"
        if self.metric_available:
            return f"the metric falls by {max(row.drop or 0.0, 0.0):.2g} of {self.max_drop:g} allowed"
        return "all outputs are inside the tolerance"


def _times(ratio: float) -> str:
    return f"{ratio:.2f} times" if ratio < 1.1 else f"{ratio:.1f} times"
