# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""When an open loop sends: nanoseconds after its start, computed from the start, so that no error adds up."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np

_DRAWN_AT_ONCE = 1024


def constant(rate: float) -> Iterator[int]:
    """Request number i at i / rate.

    Args:
        rate: requests per second, above 0.
    """
    gap_ns = 1e9 / rate
    return (round(number * gap_ns) for number in count())


def poisson(rate: float, seed: int) -> Iterator[int]:
    """A Poisson process: gaps are exponential with the mean 1 / rate, the first one included.

    Args:
        rate: requests per second, above 0.
        seed: equal seeds give equal times.
    """
    rng = np.random.default_rng(seed)
    at_s = 0.0
    while True:
        times = at_s + np.cumsum(rng.exponential(1 / rate, _DRAWN_AT_ONCE))
        at_s = float(times[-1])
        yield from (times * 1e9).round().astype(np.int64).tolist()


def ramp(first_rate: float, last_rate: float, over_s: float) -> Iterator[int]:
    """A rate that changes evenly from one to another, and stays there.

    Request number i is sent at the t where the integral of the rate is i:
    ``first × t + (last − first) × t² / (2 × over) = i``.

    Args:
        first_rate: requests per second at the start, 0 or more.
        last_rate: requests per second from `over_s` on, above 0.
        over_s: length of the change in seconds, above 0.
    """
    slope = (last_rate - first_rate) / over_s
    whole = (first_rate + last_rate) / 2 * over_s
    for number in count():
        if number >= whole:
            yield round((over_s + (number - whole) / last_rate) * 1e9)
        elif slope == 0:
            yield round(number / first_rate * 1e9)
        else:
            root = math.sqrt(max(first_rate**2 + 2 * slope * number, 0.0))
            yield round((root - first_rate) / slope * 1e9)


def intervals(gaps_ns: Sequence[int]) -> Iterator[int]:
    """Each request a gap after the one before, the first one after the first gap; the gaps are used again and again."""
    at_ns = 0
    while True:
        for gap_ns in gaps_ns:
            at_ns += gap_ns
            yield at_ns
