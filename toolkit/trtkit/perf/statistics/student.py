# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Student's t distribution and confidence intervals, without SciPy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

_TINY = 1e-300


class Interval(NamedTuple):
    """A confidence interval.

    Attributes:
        low: its lower end, in the unit of the values.
        high: its upper end.
    """

    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of its length."""
        return (self.high - self.low) / 2


def p_value(t: float, degrees: float) -> float:
    """The probability that |T| of Student's distribution is at least |t|.

    Formula: I_x(ν/2, 1/2) with x = ν / (ν + t²), the regularised incomplete beta function (Abramowitz and Stegun
    26.7.1).

    Args:
        t: any number; infinity gives 0.
        degrees: of freedom ν, above 0, not necessarily whole.
    """
    if math.isinf(t):
        return 0.0
    return _incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t), t * t / (degrees + t * t))


@lru_cache(maxsize=1024)
def quantile(confidence: float, degrees: float) -> float:
    """The t within which ±t holds `confidence` of Student's distribution: 2.776 for 0.95 and 4 degrees of freedom.

    Args:
        confidence: above 0, below 1.
        degrees: of freedom, above 0.

    Returns:
        t, to a relative error below 1e-9.
    """
    low, high = 0.0, 1.0
    while p_value(high, degrees) > 1 - confidence:
        low, high = high, high * 2
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if p_value(middle, degrees) > 1 - confidence else (low, middle)
    return (low + high) / 2


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """The confidence interval of the mean of independent values; None for fewer than two.

    Formula: mean ± t × s / √n with n − 1 degrees of freedom. Windows that do not overlap are batch means, which
    are nearly independent when a window is much longer than a request (Law and Carson 1979).

    Args:
        values: one a window, in any unit.
        confidence: above 0, below 1.
    """
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    half = quantile(confidence, len(values) - 1) * math.sqrt(variance / len(values))
    return Interval(mean - half, mean + half)


def _incomplete_beta(a: float, b: float, x: float, rest: float) -> float:
    """I_x(a, b); `rest` is 1 − x, given because the difference would lose the digits of a small one."""
    if x <= 0 or rest <= 0:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, rest, x)  # DLMF 8.17.4: the fraction converges fast only below
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest)
    return math.exp(scale) / a / _fraction(a, b, x)


def _fraction(a: float, b: float, x: float) -> float:
    """1 + d₁/(1 + d₂/(1 + …)), the continued fraction of DLMF 8.17.22, by the modified method of Lentz."""
    value = numerator = 1.0
    denominator = 0.0
    for step in range(1, 500):
        m = step // 2
        term = (
            m * (b - m) / ((a + step - 1) * (a + step))
            if step % 2 == 0
            else -(a + m) * (a + b + m) / ((a + step - 1) * (a + step))
        )
        denominator = 1 / (1 + term * x * denominator or _TINY)
        numerator = 1 + term * x / numerator or _TINY
        value *= numerator * denominator
        if abs(numerator * denominator - 1) < 1e-15:
            break
    return value
