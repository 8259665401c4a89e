# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What the error-latency plot shows of each candidate, and where errors stand on its axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from trtkit.race.choose import Choice
from trtkit.race.measure import Row


class Point(NamedTuple):
    """A candidate in the plot.

    Attributes:
        name: the candidate's.
        latency_ms: milliseconds of a run.
        error: in the unit of the budget; 0 for none or a gain, infinite where there is no number.
        text: the numbers, for its label.
        is_chosen: whether it is the one taken.
        is_inside: whether its error is inside the budget.
    """

    name: str
    latency_ms: float
    error: float
    text: str
    is_chosen: bool
    is_inside: bool


def budget(choice: Choice) -> float:
    """The largest error that is inside: the metric's drop, or all of what the tolerance allows."""
    return 1.0 if choice.max_drop is None else choice.max_drop


def point_of(row: Row, choice: Choice) -> Point | None:
    """A candidate's point; None where it was not timed or gave no outputs."""
    if choice.batch is None or choice.batch not in row.timings or row.problem:
        return None
    latency_ms = row.timings[choice.batch].median_ns / 1e6
    error = row.allowed_share if choice.max_drop is None else row.drop
    error = math.inf if error is None or math.isnan(error) or row.max_abs is None else max(error, 0.0)
    drop = "" if row.drop is None or choice.max_drop is None else f"drop {row.drop + 0.0:.2g}, "
    text = f"{latency_ms:.3g} ms, {drop}" + ("NaN" if row.max_abs is None else f"max abs {row.max_abs:.2g}")
    return Point(row.name, latency_ms, error, text, row.name == choice.name, error <= budget(choice))


class Scale(NamedTuple):
    """A logarithmic axis of errors with a place for none below it, and one for no number above.

    Attributes:
        zero: where errors of 0 stand.
        low: the least error that is drawn to scale, a power of ten.
        high: the largest.
        top: where errors stand that are no number; `high` when there are none.
    """

    zero: float
    low: float
    high: float
    top: float

    def position(self, error: float) -> float:
        """Where an error stands."""
        if math.isinf(error):
            return self.top
        return self.zero if error < self.low else error


def scale_of(points: Sequence[Point], limit: float) -> Scale:
    """The axis that holds all errors and the budget."""
    errors = [error for error in (limit, *(point.error for point in points)) if 1e-12 < error < math.inf] or [1.0]
    low = 10.0 ** math.floor(math.log10(min(errors)))
    high = 10.0 ** max(math.log10(max(errors)), math.log10(low) + 1)
    gap = (high / low) ** 0.22
    return Scale(low / gap, low, high, high * gap if any(math.isinf(point.error) for point in points) else high)
