# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""HDR histograms read as any tool reads them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from hdrh.histogram import HdrHistogram


def merge(histograms: Sequence[str]) -> str:
    """The histogram of all latencies of several histograms; of none without any."""
    merged = HdrHistogram(1, 3600 * 10**6, 3)
    for text in histograms:
        merged.decode_and_add(text)
    return str(merged.encode(), "ascii")


def counts(histogram: str) -> list[tuple[int, int]]:
    """The filled steps of a histogram, ascending: the largest latency of each in microseconds, and its count."""
    decoded = HdrHistogram.decode(histogram)
    steps = [(step.value_iterated_to, step.count_added_in_this_iter_step) for step in decoded.get_recorded_iterator()]
    return [(int(decoded.get_highest_equivalent_value(value)), int(count)) for value, count in steps]


def percentile_ns(histogram: str, per_mille: int | Fraction) -> int:
    """The nearest-rank percentile of a histogram that is not empty, in nanoseconds, to the histogram's precision."""
    steps = counts(histogram)
    rank = -int(-per_mille * sum(count for _, count in steps) // 1000)
    for value_us, count in steps:
        rank -= count
        if rank <= 0:
            return value_us * 1000
    raise ValueError("an empty histogram has no percentiles")
