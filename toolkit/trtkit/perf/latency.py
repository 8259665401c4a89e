# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Latency statistics: nearest rank, over all latencies, in integer nanoseconds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Latencies = npt.NDArray[np.int64]


def nearest_rank(sorted_ns: Latencies, per_mille: int) -> int:
    """The nearest-rank percentile: the smallest latency that at least this share of all does not exceed.

    Formula: the element number ceil(per_mille / 1000 × n) of n sorted ones, counted from 1. The result is
    always a latency that was measured; below 1000 latencies p99.9 is therefore the largest one.

    Args:
        sorted_ns: at least one latency, ascending.
        per_mille: 1 to 1000; p50 is 500, p99.9 is 999. An integer, so that no rounding moves the rank.
    """
    return int(sorted_ns[-(-per_mille * len(sorted_ns) // 1000) - 1])


@dataclass(frozen=True, slots=True)
class LatencyStatistics:
    """Of the requests that succeeded, in nanoseconds.

    Attributes:
        count: how many.
        mean_ns: rounded to a whole nanosecond.
        min_ns: the smallest.
        p50_ns: nearest rank, as are the following.
        p90_ns: 90th percentile.
        p95_ns: 95th percentile.
        p99_ns: 99th percentile.
        p99_9_ns: 99.9th percentile; the largest latency when there are fewer than 1000.
        max_ns: the largest.
    """

    count: int
    mean_ns: int
    min_ns: int
    p50_ns: int
    p90_ns: int
    p95_ns: int
    p99_ns: int
    p99_9_ns: int
    max_ns: int

    def to_json(self) -> dict[str, Any]:
        """The form kept in records."""
        return asdict(self)


def latency_statistics(latencies_ns: Latencies) -> LatencyStatistics | None:
    """The statistics of latencies in any order; None when there are none."""
    if not len(latencies_ns):
        return None
    ordered = np.sort(latencies_ns)
    return LatencyStatistics(
        count=len(ordered),
        mean_ns=round(int(ordered.sum()) / len(ordered)),
        min_ns=int(ordered[0]),
        p50_ns=nearest_rank(ordered, 500),
        p90_ns=nearest_rank(ordered, 900),
        p95_ns=nearest_rank(ordered, 950),
        p99_ns=nearest_rank(ordered, 990),
        p99_9_ns=nearest_rank(ordered, 999),
        max_ns=int(ordered[-1]),
    )
