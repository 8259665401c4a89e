# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A load as the shares of one process or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from trtkit.perf.job import Arrivals, Job, Way
from trtkit.perf.load import Load
from trtkit.perf.loop.sources import SequencePlan

if TYPE_CHECKING:
    from trtkit.perf.checks.verify import Verifier

Messages = Callable[[int], tuple[tuple[bytes, ...], ...]]
"""The messages of the pool's requests for so many slots: one tuple for all, or one for each slot."""

_RAMP_STEPS_PER_S = 10
DEFAULT_IN_FLIGHT = 1024


@dataclass
class Cursor:
    """Where the next load begins in a pool whose requests are to be sent once: the first one not sent yet."""

    next: int = 0


@dataclass(frozen=True)
class Traffic:
    """What is sent besides how much.

    Attributes:
        way: to the server.
        messages: of the pool's requests.
        slots: how many requests can be in flight.
        order: numbers of the requests in the order to send; the pool's own when empty.
        sequences: how sequences are made; None without.
        times_ns: gaps or times of requests, from a file.
        grow: (slots, responses) of a periodic concurrency.
        verifier: of the answers; None without.
        cursor: where each load goes on in the pool; None where each begins at its beginning.
    """

    way: Way
    messages: Messages
    slots: int
    order: tuple[int, ...] = ()
    sequences: SequencePlan | None = None
    times_ns: tuple[int, ...] = ()
    grow: tuple[int, int] = (0, 0)
    verifier: Verifier | None = None
    cursor: Cursor | None = None


def jobs_of(load: Load, traffic: Traffic) -> list[Job]:
    """A job for each of the load's processes."""
    slots = traffic.slots
    shares = min(load.processes, slots)
    messages = traffic.messages(slots)
    parts = [range(slots)[share::shares] for share in range(shares)]
    jobs = [
        Job(
            way=traffic.way,
            messages=messages if len(messages) == 1 else tuple(messages[slot] for slot in part),
            slots=len(part),
            warmup_ns=round(load.warmup_s * 1e9),
            window_ns=round(load.window_s * 1e9),
            order=traffic.order,
            first=traffic.cursor.next if traffic.cursor else 0,
            arrivals=_arrivals(load, traffic),
            sequences=traffic.sequences,
            share=share,
            shares=shares,
            verifier=traffic.verifier,
        )
        for share, part in enumerate(parts)
    ]
    return jobs if load.is_open else [_changing(load, traffic, job) for job in jobs]


def slots_of(load: Load, sequences: int = 0) -> int:
    """How many requests can be in flight.

    Args:
        load: what is asked for.
        sequences: so many sequences at a time in an open loop, each with one request in flight; 0 without.
    """
    if not load.is_open:
        return load.concurrency
    return sequences or load.max_in_flight or DEFAULT_IN_FLIGHT


def _arrivals(load: Load, traffic: Traffic) -> Arrivals | None:
    if not load.is_open:
        return None
    if load.ramp_s:
        return Arrivals("ramp", load.request_rate, load.ramp_from, load.ramp_s)
    if load.arrival in {"constant", "poisson"}:
        return Arrivals(load.arrival, load.request_rate, seed=load.seed)
    return Arrivals("intervals" if load.arrival == "intervals" else "times", times_ns=traffic.times_ns)


def _changing(load: Load, traffic: Traffic, job: Job) -> Job:
    """The job of a closed loop whose concurrency changes."""
    if load.arrival == "periodic":
        first = max(round(load.ramp_from), 1)
        return replace(job, concurrency_at=((0, _share_of(first, job)),), grow=traffic.grow)
    if not load.ramp_s:
        return job
    steps = max(round(load.ramp_s * _RAMP_STEPS_PER_S), 1)
    rise = np.linspace(load.ramp_from, load.concurrency, steps + 1)
    at_ns = np.linspace(0, load.ramp_s * 1e9, steps + 1).round().astype(np.int64)
    own = [_share_of(round(slots), job) for slots in rise.tolist()]
    return replace(job, concurrency_at=tuple(zip(at_ns.tolist(), own, strict=True)))


def _share_of(slots: int, job: Job) -> int:
    """How many of the first slots are of this process: it has every `shares`-th one."""
    return (slots - job.share + job.shares - 1) // job.shares


def weighted_order(weights: Sequence[tuple[Sequence[int], float]], seed: int, length: int = 10_000) -> tuple[int, ...]:
    """An order in which each model's requests have their share, mixed at random.

    Args:
        weights: the numbers of each model's requests, and its weight.
        seed: equal seeds give equal orders.
        length: of the order; shares are exact to 1 / length.
    """
    rng = np.random.default_rng(seed)
    total = sum(weight for _, weight in weights)
    edges = np.round(np.cumsum([weight / total * length for _, weight in weights])).astype(int)
    counts = np.diff(np.concatenate([[0], edges]))
    order = np.concatenate(
        [np.resize(np.asarray(numbers), count) for (numbers, _), count in zip(weights, counts, strict=True)]
    )
    return tuple(rng.permutation(order).tolist())
