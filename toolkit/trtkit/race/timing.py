# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Times of several candidates that take turns, so that a busy moment meets all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

# 15 rounds give quartiles that stand on several values each; 5 are the least that have any
ROUNDS, _ROUNDS_LEAST = 15, 5
# how far beyond the asked time a race of slow candidates may go before it stops with fewer rounds
_OVERTIME = 1.5
_RUNS_MOST = 10_000
# two sessions of one and the same file differ by up to 0.5 % in a way that all rounds agree on (measured)
LEAST_GAIN = 1.02


@dataclass(frozen=True)
class Timing:
    """What one candidate took at one batch size.

    Attributes:
        batch: rows in a run; 0 is a whole request of a model that does not batch.
        rounds_ns: nanoseconds of a run in each round (the median of the round's runs); round i of one
            candidate was beside round i of the others.
    """

    batch: int
    rounds_ns: tuple[int, ...]

    @property
    def median_ns(self) -> int:
        """The median over the rounds, in nanoseconds."""
        return round(statistics.median(self.rounds_ns))

    def to_json(self) -> dict[str, Any]:
        """The form kept in records."""
        return {"batch": self.batch, "median_ns": self.median_ns, "rounds_ns": list(self.rounds_ns)}


@dataclass(frozen=True)
class Ratio:
    """How many times faster one is than another, from paired rounds: the median and the quartiles."""

    median: float
    low: float
    high: float

    @property
    def is_faster(self) -> bool:
        """Whether the gain is outside the noise: three quarters of the rounds agree, and it is 2 % at least."""
        return self.low > 1.0 and self.median >= LEAST_GAIN

    @property
    def is_slower(self) -> bool:
        """The same the other way round."""
        return self.high < 1.0 and self.median <= 1 / LEAST_GAIN

    def to_json(self) -> dict[str, float]:
        """The form kept in records."""
        return {"median": self.median, "low": self.low, "high": self.high}


def times_faster(one: Timing, other: Timing) -> Ratio:
    """How many times faster `one` is than `other`; below 1 it is slower.

    Args:
        one: the numerator of speed.
        other: timed in the same rounds.
    """
    ratios = np.asarray(other.rounds_ns, np.float64) / np.asarray(one.rounds_ns, np.float64)
    low, median, high = np.percentile(ratios, [25, 50, 75])
    return Ratio(float(median), float(low), float(high))


def take_turns(calls: Mapping[str, Callable[[], object]], batch: int, seconds: float) -> dict[str, Timing]:
    """Time calls in rounds; each round starts with another one, and each one's turn with an untimed run.

    Args:
        calls: what to time, by name.
        batch: what the timings are labelled with.
        seconds: about how long each call is timed in all; slow calls are timed for five rounds at least.

    Returns:
        A timing for each name, all with the same number of rounds.
    """
    share_ns = seconds / ROUNDS * 1e9
    runs = {name: max(1, min(_RUNS_MOST, int(share_ns / _estimate_ns(call)))) for name, call in calls.items()}
    rounds: dict[str, list[int]] = {name: [] for name in calls}
    names, started = list(calls), time.perf_counter()
    for turn in range(ROUNDS if names else 0):
        if turn >= _ROUNDS_LEAST and time.perf_counter() - started > _OVERTIME * seconds * len(calls):
            break
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            rounds[name].append(_turn_ns(calls[name], runs[name]))
    return {name: Timing(batch, tuple(values)) for name, values in rounds.items()}


def _estimate_ns(call: Callable[[], object]) -> int:
    """The least of three runs after one to warm up, in nanoseconds."""
    call()
    return max(1, min(_run_ns(call) for _ in range(3)))


def _turn_ns(call: Callable[[], object], runs: int) -> int:
    if runs > 1:
        call()  # the others have filled the processor's caches
    return max(1, round(statistics.median(_run_ns(call) for _ in range(runs))))


def _run_ns(call: Callable[[], object]) -> int:
    started = time.perf_counter_ns()
    call()
    return time.perf_counter_ns() - started
