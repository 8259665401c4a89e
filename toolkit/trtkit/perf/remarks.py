# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a reader of a measurement has to know, in plain sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from trtkit.perf.job import Final
    from trtkit.perf.measurement import Measurement, Run

# above this share of one core a process's own work is a visible part of every latency
_BUSY_CLIENT_SHARE = 0.9
_LITTLE_TOLERANCE = 0.1
# an open loop that sends later than this, or fewer than this share, is not the load that was asked for
_LATE_NS = 1_000_000
_DELIVERED = 0.99
# fewer requests than this say nothing about a rate
_ENOUGH = 20


def remarks(found: Measurement, run: Run) -> list[str]:
    """What a reader has to know, in plain sentences."""
    sentences = []
    failed = run.warmup.records.errors()
    if failed:
        count = sum(error.count for error in failed)
        sentences.append(f"{count} requests failed during the warm-up ({failed[0].kind}: {failed[0].message})")
    if not run.judged:
        sentences.append("stability was not judged: the load was to change, or to be a number of requests")
    share = found.client.cpu_share / found.client.processes
    if share >= _BUSY_CLIENT_SHARE:
        sentences.append(
            f"the client used {share:.0%} of one core: it is probably the bottleneck, and the server can do more"
        )
    if not run.final.drained:
        sentences.append("some requests were still in flight when the run ended; they were given up")
    return sentences + (_open_warnings(found, run.final) if found.load.is_open else _closed_warnings(found, run))


def _closed_warnings(found: Measurement, run: Run) -> list[str]:
    load, in_flight = found.load, found.in_flight_mean
    steady = run.judged and found.stable and not (load.ramp_s or load.arrival or load.sequences)
    complete = steady and not np.any(~found.records.ok)
    if not complete or abs(in_flight - load.concurrency) <= _LITTLE_TOLERANCE * load.concurrency:
        return []
    return [
        f"throughput × mean latency is {in_flight:.1f} requests in flight instead of {load.concurrency}: "
        "the client did not keep up, or the windows are short for such requests"
    ]


def _open_warnings(found: Measurement, final: Final) -> list[str]:
    load, lag = found.load, found.schedule_lag
    sentences = []
    if lag and lag.p99_ns > _LATE_NS:
        sentences.append(
            f"requests were sent late, p99 {lag.p99_ns / 1e6:.1f} ms after their time: "
            "read the latencies from the intended time"
        )
    if final.delayed:
        sentences.append(
            f"{final.delayed:,} requests had to wait because {load.max_in_flight} were in flight already; "
            "--max-in-flight allows more"
        )
    if final.unsent:
        sentences.append(f"{final.unsent:,} requests were due and never sent: the server is slower than the schedule")
    sent = len(found.records) / found.duration_s
    enough = len(found.records) >= _ENOUGH
    if load.request_rate and not load.ramp_s and enough and sent < _DELIVERED * load.request_rate:
        sentences.append(f"{sent:,.1f} requests/s ended instead of the {load.request_rate:g} that were asked for")
    return sentences
