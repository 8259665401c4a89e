# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A process's share of a load, as plain values that travel to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from trtkit.perf.loop import schedule
from trtkit.perf.loop.records import Records
from trtkit.perf.loop.sources import SequencePlan
from trtkit.perf.server.address import Address, Tls

if TYPE_CHECKING:
    from trtkit.perf.checks.verify import Verifier


@dataclass(frozen=True)
class Way:
    """How requests get to the server.

    Attributes:
        protocol: ``http``, ``grpc``, ``grpc-stream`` or ``generate-stream``.
        address: the server.
        tls: how to trust it.
        headers: of gRPC calls; those of HTTP are in the messages.
        compression: of gRPC messages: "", ``gzip`` or ``deflate``.
        timeout_s: deadline of each request, in seconds.
    """

    protocol: str
    address: Address
    tls: Tls = field(default_factory=Tls)
    headers: tuple[tuple[str, str], ...] = ()
    compression: str = ""
    timeout_s: float = 30.0

    @property
    def streams(self) -> bool:
        """Whether a request may have several responses."""
        return self.protocol in {"grpc-stream", "generate-stream"}


@dataclass(frozen=True)
class Arrivals:
    """When an open loop sends.

    Attributes:
        kind: ``constant``, ``poisson``, ``ramp``, ``intervals`` or ``times``.
        rate: requests per second; of a ramp, at its end.
        first_rate: of a ramp, at its beginning.
        over_s: a ramp's length in seconds.
        seed: of Poisson arrivals.
        times_ns: the gaps of ``intervals``, or the ``times`` themselves.
    """

    kind: str
    rate: float = 0.0
    first_rate: float = 0.0
    over_s: float = 0.0
    seed: int = 0
    times_ns: tuple[int, ...] = ()

    def offsets(self) -> Iterator[int]:
        """Nanoseconds after the start, ascending."""
        if self.kind == "constant":
            return schedule.constant(self.rate)
        if self.kind == "poisson":
            return schedule.poisson(self.rate, self.seed)
        if self.kind == "ramp":
            return schedule.ramp(self.first_rate, self.rate, self.over_s)
        if self.kind == "intervals":
            return schedule.intervals(self.times_ns)
        return iter(self.times_ns)


@dataclass(frozen=True)
class Job:
    """A process's share of a load.

    Attributes:
        way: to the server.
        messages: of the pool's requests; one tuple for all slots, or one for each slot of this process.
        slots: requests in flight at most.
        warmup_ns: length of the warm-up.
        window_ns: length of a window.
        order: numbers of the requests in the order to send; the pool's own when empty.
        first: the place in `order` of the first request.
        limit: how many requests to send in all after which the run ends; None for no limit.
        arrivals: of an open loop; None for a closed one.
        concurrency_at: of a closed loop that changes: pairs of nanoseconds after the start and slots.
        grow: slots to add, each time that every request of the last ones had so many responses; (0, 0) for none.
            Each slot then sends one request.
        sequences: how sequences are made; None without.
        share: this process's number.
        shares: how many processes there are.
        verifier: checks the answers; None without.
    """

    way: Way
    messages: tuple[tuple[bytes, ...], ...]
    slots: int
    warmup_ns: int
    window_ns: int
    order: tuple[int, ...] = ()
    first: int = 0
    limit: int | None = None
    arrivals: Arrivals | None = None
    concurrency_at: tuple[tuple[int, int], ...] = ()
    grow: tuple[int, int] = (0, 0)
    sequences: SequencePlan | None = None
    share: int = 0
    shares: int = 1
    verifier: Verifier | None = field(default=None, compare=False)


class Cut(NamedTuple):
    """What happened in a stretch of time, in one process.

    Attributes:
        records: the requests that ended in it.
        start_ns: its beginning.
        end_ns: its end, and the beginning of the next.
        cpu_ns: CPU time of the process, all threads.
    """

    records: Records
    start_ns: int
    end_ns: int
    cpu_ns: int


class Final(NamedTuple):
    """The rest of a process's run.

    Attributes:
        cut: what ended after the last window.
        drained: whether all requests ended.
        delayed: requests of an open loop that had to wait for a free slot.
        unsent: requests whose time had come and that were never sent.
        verifier: the job's, with what it found.
        last_sent_ns: when the last request that ended after the last window was sent; of several processes, when the
            first of them had no more to send. 0 without one.
    """

    cut: Cut
    drained: bool
    delayed: int
    unsent: int
    verifier: Verifier | None
    last_sent_ns: int = 0
