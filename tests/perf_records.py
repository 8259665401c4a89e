# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Records made by hand."""

from __future__ import annotations

import numpy as np

from trtkit.perf.loop.records import Records
from trtkit.perf.transports.base import Failure

SECOND = 1_000_000_000


def array(values):
    return np.array(values, dtype=np.int64)


def unary(latencies, failed=0, late=0):
    """One request after another with these latencies; then failed ones of 1 ns. `late` is sent − intended."""
    latencies = array([*latencies, *[1] * failed])
    last = np.cumsum(latencies)
    outcome = array([0] * (len(latencies) - failed) + [1] * failed)
    return Records(
        intended_ns=last - latencies - late, sent_ns=last - latencies, first_ns=last, last_ns=last,
        index=np.zeros_like(last), outcome=outcome, responses=1 - outcome, sequence=np.zeros_like(last),
        response_ns=array([]), failures=(Failure("timeout", "late"),) if failed else (),
    )  # fmt: skip


def streamed(*requests, failed=()):
    """Requests as (send, [response times]); those whose places are in `failed` failed after their responses."""
    sent = array([at for at, _ in requests])
    first = array([times[0] if times else at for at, times in requests])
    last = array([times[-1] if times else at for at, times in requests])
    return Records(
        intended_ns=sent, sent_ns=sent, first_ns=first, last_ns=last, index=np.zeros_like(sent),
        outcome=array([place in failed for place in range(len(requests))]),
        responses=array([len(times) for _, times in requests]), sequence=np.zeros_like(sent),
        response_ns=array([time for _, times in requests for time in times]),
        failures=(Failure("stream error", "broke"),) if failed else (),
    )  # fmt: skip
