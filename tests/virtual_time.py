# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A reactor whose clock jumps from timer to timer, and a server that answers by arithmetic: exact and at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heappop, heappush

from trtkit.perf.loop.reactor import Timer
from trtkit.perf.transports.base import Failure

MS = 1_000_000
S = 1_000_000_000


class VirtualReactor:
    """The part of `Reactor` that loops and transports use, in virtual time."""

    def __init__(self) -> None:
        self.now_ns = 1 * S
        self._timers: list[Timer] = []
        self._running = False

    def clock(self) -> int:
        """In place of ``time.perf_counter_ns``."""
        return self.now_ns

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Timer:
        timer = Timer(when_ns, callback)
        heappush(self._timers, timer)
        return timer

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.call_at(self.now_ns, callback)

    def stop(self) -> None:
        self._running = False

    def run(self, until_ns: int | None = None) -> None:
        """Until `stop`, or a time."""
        self._running = True
        while self._running and self._timers:
            if until_ns is not None and self._timers[0].when_ns > until_ns:
                break
            timer = heappop(self._timers)
            self.now_ns = max(self.now_ns, timer.when_ns)
            if timer.callback:
                timer.callback()
        if until_ns is not None:
            self.now_ns = max(self.now_ns, until_ns)


class VirtualServer:
    """A transport to a server with one worker that takes a scripted time for each request, first come first served.

    Args:
        reactor: the virtual clock.
        service_ns: the time of each request in turn; a Failure instead of a number fails it at once.
        workers: how many requests it works on at the same time.
    """

    def __init__(self, reactor: VirtualReactor, service_ns: Iterator[int | Failure], workers: int = 1) -> None:
        self.reactor, self._service = reactor, service_ns
        self._free_at = [0] * workers
        self.listener = None
        self.sent: list[tuple[int, int, object]] = []  # time, slot, what
        self.cancelled: list[int] = []
        self._tickets: dict[int, int] = {}
        self.answer: bytes | None = None

    def open(self, reactor, listener, slots) -> None:
        self.listener = listener

    def send(self, slot: int, prepared: object) -> None:
        now = self.reactor.now_ns
        self.sent.append((now, slot, prepared))
        ticket = self._tickets[slot] = len(self.sent)
        service = next(self._service)
        if isinstance(service, Failure):
            self.reactor.call_soon(lambda: self._answer(slot, ticket, service))
            return
        worker = min(range(len(self._free_at)), key=self._free_at.__getitem__)
        end = max(now, self._free_at[worker]) + service
        self._free_at[worker] = end
        self.reactor.call_at(end, lambda: self._answer(slot, ticket, None))

    def _answer(self, slot: int, ticket: int, failure: Failure | None) -> None:
        if self._tickets.get(slot) == ticket:
            del self._tickets[slot]
            self.listener.done(slot, failure, self.answer)

    def cancel(self, slot: int) -> None:
        self.cancelled.append(slot)
        del self._tickets[slot]

    def close(self) -> None:
        """Nothing to close."""
