# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The quantities that conditions and comparisons speak of, from records.

All times are from the *intended* send, which in a closed loop is the send: a server that stalls must not look
fast because requests could not be sent (coordinated omission).
"""

from __future__ import annotations

from trtkit.perf.loop.records import Records
from trtkit.perf.statistics.conditions import per_mille
from trtkit.perf.statistics.latency import Latencies, percentile_of
from trtkit.perf.statistics.streaming import gaps_ns


def times_ns(metric: str, records: Records) -> Latencies:
    """The values of ``latency``, ``ttft`` or ``itl`` of the requests that succeeded, in the order of their ends.

    Args:
        metric: `itl` gives all gaps between responses; requests without a response have no `ttft`.
        records: failed requests among them are left out. `ttft` and `itl` of requests that were not streamed are
            empty.
    """
    if metric == "latency":
        return records.intended_latency_ns[records.ok]
    good = records.where(records.ok)
    if not good.streamed:
        return good.last_ns[:0]
    return gaps_ns(good) if metric == "itl" else (good.first_ns - good.intended_ns)[good.responses > 0]


def statistic_of(statistic: str, times: Latencies) -> float:
    """``mean``, ``max`` or a percentile (nearest rank) of at least one time, in nanoseconds."""
    if statistic == "mean":
        return float(times.mean())
    return float(times.max()) if statistic == "max" else float(percentile_of(times, per_mille(statistic)))
