# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Latency statistics: nearest rank, over all latencies, in integer nanoseconds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

Latencies = npt.NDArray[np.int64]


def nearest_rank(sorted_ns: Latencies, per_mille: int | Fraction) -> int:
    """The nearest-rank percentile: the smallest latency that at least this share of all does not exceed.

    Formula: the element number ceil(per_mille / 1000 × n) of n sorted ones, counted from 1. The result is
    always a latency that was measured; below 1000 latencies p99.9 is therefore the largest one.

    Args:
        sorted_ns: at least one latency, ascending.
        per_mille: above 0 and up to 1000; p50 is 500, p99.99 is ``Fraction(9999, 10)``. Exact numbers only, so
            that no rounding moves the rank.
    """
    return int(sorted_ns[-int(-per_mille * len(sorted_ns) // 1000) - 1])


def percentile_of(latencies_ns: Latencies, per_mille: int | Fraction) -> int:
    """`nearest_rank` of at least one latency in any order; a partial sort, so faster than sorting them all."""
    rank = -int(-per_mille * len(latencies_ns) // 1000) - 1
    return int(np.partition(latencies_ns, rank)[rank])


PERCENTILES: dict[int | Fraction, str] = {
    500: "p50_ns",
    750: "p75_ns",
    900: "p90_ns",
    950: "p95_ns",
    990: "p99_ns",
    999: "p99_9_ns",
    Fraction(9999, 10): "p99_99_ns",
}
"""The percentiles that are kept: per mille, and the field's name."""


@dataclass(frozen=True, slots=True)
class LatencyStatistics:
    """Of the requests that succeeded, in nanoseconds.

    Attributes:
        count: how many.
        mean_ns: rounded to a whole nanosecond.
        stddev_ns: of the population (divided by the count), rounded; 0 for one latency.
        min_ns: the smallest.
        p50_ns: nearest rank, as are the following.
        p75_ns: 75th percentile.
        p90_ns: 90th percentile.
        p95_ns: 95th percentile.
        p99_ns: 99th percentile.
        p99_9_ns: 99.9th percentile; the largest latency when there are fewer than 1000.
        p99_99_ns: 99.99th percentile; the largest latency when there are fewer than 10,000.
        max_ns: the largest.
    """

    count: int
    mean_ns: int
    stddev_ns: int
    min_ns: int
    p50_ns: int
    p75_ns: int
    p90_ns: int
    p95_ns: int
    p99_ns: int
    p99_9_ns: int
    p99_99_ns: int
    max_ns: int

    def percentile(self, per_mille: int | Fraction) -> int:
        """One of the percentiles that are kept (`PERCENTILES`); others need the latencies: `percentile_of`.

        Raises:
            KeyError: it is not kept.
        """
        return int(getattr(self, PERCENTILES[per_mille]))

    def to_json(self) -> dict[str, Any]:
        """The form kept in records."""
        return asdict(self)


def latency_statistics(latencies_ns: Latencies) -> LatencyStatistics | None:
    """The statistics of latencies in any order; None when there are none."""
    if not len(latencies_ns):
        return None
    ordered = np.sort(latencies_ns)
    mean = int(ordered.sum()) / len(ordered)
    return LatencyStatistics(
        count=len(ordered),
        mean_ns=round(mean),
        stddev_ns=round(float(np.sqrt(np.mean((ordered - mean) ** 2)))),
        min_ns=int(ordered[0]),
        max_ns=int(ordered[-1]),
        **{name: nearest_rank(ordered, per_mille) for per_mille, name in PERCENTILES.items()},
    )
