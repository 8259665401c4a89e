# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Statistics of streamed answers: the first response, the gaps between responses, responses per second.

For a language model that sends a token a response, these are its time to first token (TTFT), inter-token latency
(ITL), output length and tokens per second.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trtkit.perf.loop.records import Integers, Records
from trtkit.perf.statistics.latency import LatencyStatistics, latency_statistics


@dataclass(frozen=True, slots=True)
class StreamingStatistics:
    """Of the streamed requests that succeeded.

    Attributes:
        requests: how many.
        responses: with content, of all of them.
        first_response: time to first response (TTFT), from the send; None when no request had a response.
        inter_response: all gaps between responses of a request (ITL); None when none had two responses.
        inter_response_per_request: the mean gap of each request with at least two responses, (last − first) / (n − 1);
            every request counts once, a long one not more than a short one.
        responses_per_request_mean: output length, its mean.
        responses_per_request_min: the shortest answer.
        responses_per_request_max: the longest answer.
        responses_per_s: all responses by the duration.
        responses_per_s_per_user: how fast one reader gets them: the mean over requests of (n − 1) / (last − first);
            None when no request had two responses at different times.
    """

    requests: int
    responses: int
    first_response: LatencyStatistics | None
    inter_response: LatencyStatistics | None
    inter_response_per_request: LatencyStatistics | None
    responses_per_request_mean: float
    responses_per_request_min: int
    responses_per_request_max: int
    responses_per_s: float
    responses_per_s_per_user: float | None

    def to_json(self) -> dict[str, Any]:
        """The form kept in records."""
        return asdict(self)


def streaming_statistics(records: Records, duration_s: float) -> StreamingStatistics | None:
    """The statistics of streamed requests; None when none was streamed, or none succeeded.

    Args:
        records: failed requests among them are left out, with the responses they got.
        duration_s: the time in which the requests ended, above 0.
    """
    if not records.streamed:
        return None
    good = records.where(records.ok)
    if not len(good):
        return None
    counts, several = good.responses, good.responses >= 2
    spans = (good.last_ns - good.first_ns)[several]
    timed = spans > 0
    per_user = (counts[several] - 1)[timed] / (spans[timed] / 1e9)
    return StreamingStatistics(
        requests=len(good),
        responses=int(counts.sum()),
        first_response=latency_statistics(first_response_ns(good)[counts > 0]),
        inter_response=latency_statistics(gaps_ns(good)),
        inter_response_per_request=latency_statistics(mean_gap_ns(good)[several]),
        responses_per_request_mean=float(counts.mean()),
        responses_per_request_min=int(counts.min()),
        responses_per_request_max=int(counts.max()),
        responses_per_s=int(counts.sum()) / duration_s,
        responses_per_s_per_user=float(per_user.mean()) if len(per_user) else None,
    )


def first_response_ns(records: Records) -> Integers:
    """From the send to the first response, a value a row; to the end where no response came."""
    return records.first_ns - records.sent_ns


def mean_gap_ns(records: Records) -> Integers:
    """The mean time between a request's responses, a value a row, rounded down; 0 with fewer than two."""
    return (records.last_ns - records.first_ns) // np.maximum(records.responses - 1, 1) * (records.responses >= 2)


def gaps_ns(records: Records) -> Integers:
    """The gaps between responses of the same request, all requests after each other."""
    gaps = np.diff(records.response_ns)
    ends = np.cumsum(records.responses)  # a gap before an end's response leads to the next request
    within = np.ones(len(records.response_ns), bool)
    within[ends[(ends > 0) & (ends < len(within))]] = False
    return gaps[within[1:]]
