# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Built-in loads, for who has no trace."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from trtkit.deploy.simulation.trace import LONGEST_S, START, Trace, trace_of
from trtkit.errors import ProjectError, nearest

_DAY = 86400.0


@dataclass(frozen=True)
class Shape:
    """What a built-in load is made from.

    Attributes:
        peak: the highest rate, requests per second.
        low: the lowest.
        duration_s: of the whole.
        seed: of `noisy`.
    """

    peak: float
    low: float
    duration_s: float
    seed: int = 0


def _smooth(value: float) -> float:
    """From 0 to 1 without an edge."""
    value = min(1.0, max(0.0, value))
    return value * value * (3 - 2 * value)


# hour of the day, share of the way from low to peak: a rise in the morning, a dip at noon, the peak in the evening
_HOURS = ((0, 0.12), (4, 0.0), (6, 0.06), (10, 0.85), (13, 0.68), (16, 0.75), (20, 1.0), (23, 0.3), (24, 0.12))


def _daily(shape: Shape) -> Callable[[float], float]:
    def rate(seconds: float) -> float:
        hour = (seconds % _DAY) / 3600
        for (before, low), (after, high) in itertools.pairwise(_HOURS):
            if hour <= after:
                share = low + (high - low) * _smooth((hour - before) / (after - before))
                return shape.low + (shape.peak - shape.low) * share
        return shape.low

    return rate


def _step(shape: Shape) -> Callable[[float], float]:
    return lambda seconds: shape.low if seconds < shape.duration_s / 4 else shape.peak


def _ramp(shape: Shape) -> Callable[[float], float]:
    return lambda seconds: shape.low + (shape.peak - shape.low) * min(1.0, seconds / (0.75 * shape.duration_s))


def _spike(shape: Shape) -> Callable[[float], float]:
    """Five minutes of the peak, or a tenth of a shorter load, after a third of the time."""
    begin, length = shape.duration_s / 3, min(300.0, shape.duration_s / 10)
    return lambda seconds: shape.peak if begin <= seconds < begin + length else shape.low


def _noisy(shape: Shape) -> Callable[[float], float]:
    """The daily course times a slow random factor; never above the peak, nor below half of the low."""
    rng, value, factors = random.Random(shape.seed), 0.0, []
    for _ in range(math.ceil(shape.duration_s / 60) + 1):
        value = 0.9 * value + rng.gauss(0.0, 0.08)  # an AR(1) of the logarithm, a step a minute
        factors.append(math.exp(value))
    base = _daily(shape)
    return lambda seconds: min(shape.peak, max(shape.low / 2, base(seconds) * factors[int(seconds // 60)]))


SHAPES: dict[str, tuple[Callable[[Shape], Callable[[float], float]], float]] = {
    "daily": (_daily, _DAY),
    "noisy": (_noisy, _DAY),
    "step": (_step, 3600.0),
    "ramp": (_ramp, 7200.0),
    "spike": (_spike, 3600.0),
}
"""The function of each built-in load, and how long it lasts by default, s."""


def shaped(
    name: str,
    peak: float,
    low: float | None = None,
    duration_s: float | None = None,
    start: datetime = START,
    seed: int = 0,
) -> Trace:
    """A built-in load.

    Args:
        name: of `SHAPES`.
        peak: the highest rate, requests per second.
        low: the lowest; default: a tenth of the peak.
        duration_s: default: the shape's own.
        start: when it begins; the daily course has midnight there.
        seed: of the noise.

    Raises:
        ProjectError: no such shape, or rates and times that are not possible.
    """
    if name not in SHAPES:
        raise ProjectError(f"--shape '{name}' is not known; {nearest(name, SHAPES)}")
    function, usual = SHAPES[name]
    shape = Shape(peak, peak / 10 if low is None else low, duration_s or usual, seed)
    if not 0 < shape.peak < 1e7:
        raise ProjectError(f"--peak {peak:g} is no rate; a number of requests per second above 0 is needed")
    if not 0 <= shape.low <= shape.peak:
        raise ProjectError(f"--low {shape.low:g} is not between 0 and --peak {peak:g}")
    if not 60 <= shape.duration_s <= LONGEST_S:
        raise ProjectError(f"--duration {shape.duration_s:g} s is not between 60 s and {LONGEST_S / _DAY:.0f} days")
    return trace_of(name, function(shape), shape.duration_s, start, 5.0 if shape.duration_s <= 2 * _DAY else 15.0)
