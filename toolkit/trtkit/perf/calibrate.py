# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How many processes a load needs, found by trying."""

from __future__ import annotations

import os
from dataclasses import replace

from trtkit.perf.fleet import run_jobs
from trtkit.perf.job import Cut
from trtkit.perf.jobs import Traffic, jobs_of
from trtkit.perf.load import Load

_TRIED_S = 0.5
# a process below this share of a core does not bound the load
_BUSY = 0.7
_WORTH_IT = 1.1
_MOST = 8


def processes_for(load: Load, traffic: Traffic) -> int:
    """The fewest processes that make as much load as more of them would.

    The load runs for half a second with one process; while its processes are busy, twice as many are tried, and kept
    when they get at least a tenth more done. In an open loop, when they send closer to the schedule.

    Args:
        load: what is asked for.
        traffic: what is sent.
    """
    most = min(_MOST, (os.cpu_count() or 1) // 2, traffic.slots)
    if most < 2 or traffic.verifier is not None or load.ramp_s or traffic.times_ns or traffic.grow[0]:
        return 1
    processes, rate, share = 1, *_tried(load, traffic, 1)
    while share > _BUSY * processes and processes * 2 <= most:
        more, more_share = _tried(load, traffic, processes * 2)
        if more < rate * _WORTH_IT:
            break
        processes, rate, share = processes * 2, more, more_share
    return processes


def _tried(load: Load, traffic: Traffic, processes: int) -> tuple[float, float]:
    """Requests per second and the client's CPU share with so many processes."""
    tried = replace(load, processes=processes, warmup_s=_TRIED_S, window_s=_TRIED_S)
    cuts: list[Cut] = []

    def decide(cut: Cut) -> bool:
        cuts.append(cut)
        return len(cuts) == 2

    outcome = run_jobs(jobs_of(tried, traffic), decide)
    if outcome.interrupted:
        raise KeyboardInterrupt
    if traffic.cursor:
        traffic.cursor.next += sum(len(part.records) for part in (*cuts, outcome.final.cut)) + traffic.slots
    cut = cuts[-1] if cuts else outcome.final.cut
    duration_ns = max(cut.end_ns - cut.start_ns, 1)
    return len(cut.records) / duration_ns * 1e9, cut.cpu_ns / duration_ns
