# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What the load loops share: the slots' state, the rows, the deadlines, the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Protocol

from trtkit.perf.loop.reactor import Reactor
from trtkit.perf.loop.records import Recorder
from trtkit.perf.loop.sources import Item
from trtkit.perf.transports.base import TIMEOUT, Failure, Transport

# how often requests past their deadline are looked for: a twentieth of it, within these
_SHORTEST_SWEEP_NS = 1_000_000
_LONGEST_SWEEP_NS = 500_000_000

Check = Callable[[int, int, bytes | None], object]
"""Called with a slot, the number of the pool's request that it carried, and the answer; None where it cannot be had."""


class Source(Protocol):
    """Where the requests of one slot, or of all, come from."""

    @property
    def pull(self) -> Callable[[], Item]:
        """Gives the next one each time it is called; StopIteration when there is none."""

    def failed(self) -> None:
        """The last one failed."""

    def finish(self) -> Item | None:
        """What still has to be sent before the end (the last request of a begun sequence), or None."""


class Loop:
    """What both loops share: the slots' state, the rows, the deadlines, the end.

    Args:
        reactor: carries it.
        transport: sends; opened by the caller with this loop as the listener.
        recorder: takes a row for each request that ends.
        slots: how many at most.
        timeout_ns: a request without a complete response after it has failed.
        streams: whether requests are answered by several responses.
        check: given each successful answer, when the transport keeps answers.
        areas: whether answers are in areas of the slots, into which the server may still write the answer to a request
            that was given up; what comes later on such a slot cannot be checked.
    """

    def __init__(
        self,
        reactor: Reactor,
        transport: Transport,
        recorder: Recorder,
        slots: int,
        timeout_ns: int,
        *,
        streams: bool = False,
        check: Check | None = None,
        areas: bool = False,
    ) -> None:
        self._reactor, self._transport, self._recorder = reactor, transport, recorder
        self._timeout_ns, self._streams, self._check = timeout_ns, streams, check
        self._plain = not streams and check is None
        self._areas = areas
        self._spoiled: set[int] = set()  # slots whose area a request that was given up may still write to
        self._slots = slots
        self._intended = [0] * slots
        self._sent = [0] * slots  # 0: nothing in flight
        self._index = [0] * slots
        self._sequence = [0] * slots
        self._times: list[list[int]] = [[] for _ in range(slots)]
        self._in_flight = 0
        self._stopping = False
        self._on_idle: Callable[[], None] | None = None
        self.exhausted: Callable[[], None] | None = None
        """Called once when the sources have no more requests and all that were sent have ended."""

    @property
    def sources(self) -> Sequence[Source]:
        """Of each slot's requests; to be set before the start. All slots share a single one."""
        return self._sources

    @sources.setter
    def sources(self, sources: Sequence[Source]) -> None:
        self._sources = sources if len(sources) > 1 else [sources[0]] * self._slots
        self._pull = [source.pull for source in self._sources]

    def start(self, start_ns: int) -> None:
        """Begin to send at a time."""
        self._reactor.call_at(start_ns + self._sweep_ns(), self._sweep)

    def _send(self, slot: int, intended_ns: int) -> bool:
        """Send a slot's next request; False when there is none."""
        try:
            item = self._pull[slot]()
        except StopIteration:
            self._out_of_requests()
            return False
        self._begin(slot, item, intended_ns)
        return True

    def _begin(self, slot: int, item: Item, intended_ns: int) -> None:
        self._index[slot], prepared, self._sequence[slot] = item
        self._in_flight += 1
        now = perf_counter_ns()
        self._intended[slot] = intended_ns or now
        self._sent[slot] = now
        self._transport.send(slot, prepared)

    def response(self, slot: int, answer: bytes | None) -> None:
        """A response with content of a stream."""
        self._times[slot].append(perf_counter_ns())
        if self._check:
            self._check(slot, self._index[slot], answer)

    def done(self, slot: int, failure: Failure | None, answer: bytes | None) -> None:
        """A request has ended: keep its row, and go on."""
        now = perf_counter_ns()
        if failure is None and self._plain:
            self._recorder.row(self._intended[slot], self._sent[slot], now, self._index[slot], self._sequence[slot])
        else:
            self._end(slot, now, failure, answer)
        self._sent[slot] = 0
        self._in_flight -= 1
        if self._stopping:
            self._after_stop(slot)
        else:
            self._next(slot, failure)

    def _end(self, slot: int, now: int, failure: Failure | None, answer: bytes | None) -> None:
        """The row of a request that failed, was streamed, or is to be checked."""
        times = self._times[slot] if self._streams or failure else [now]
        if failure is None and not self._streams:
            self._recorder.row(self._intended[slot], self._sent[slot], now, self._index[slot], self._sequence[slot])
            if self._check:
                self._check(slot, self._index[slot], None if slot in self._spoiled else answer)
            return
        if failure is not None:
            self._sources[slot].failed()
        row = (self._intended[slot], self._sent[slot], now, self._index[slot], self._sequence[slot])
        self._recorder.row_of(*row, times, failure)
        self._times[slot] = []

    def _next(self, slot: int, failure: Failure | None) -> None:
        """What a slot does after a request of it ended."""
        raise NotImplementedError

    def _out_of_requests(self) -> None:
        """The sources have no more."""
        self._no_more()

    def _no_more(self) -> None:
        """Nothing more is sent but the ends of begun sequences."""
        if self._on_idle is None:
            self._on_idle = self._tell_exhausted
            self._finish_idle()
        self._check_idle()

    def _finish_idle(self) -> None:
        for slot in range(self._slots):
            if not self._sent[slot]:
                self._finish(slot)

    def _tell_exhausted(self) -> None:
        if self.exhausted:
            tell, self.exhausted = self.exhausted, None
            tell()

    def stop(self, on_idle: Callable[[], None]) -> None:
        """Send nothing more but the ends of begun sequences; `on_idle` is called when nothing is in flight."""
        self._stopping, self._on_idle = True, on_idle
        self._finish_idle()
        self._check_idle()

    def _after_stop(self, slot: int) -> None:
        self._finish(slot)
        self._check_idle()

    def _finish(self, slot: int) -> None:
        item = self._sources[slot].finish()
        if item is not None:
            self._begin(slot, item, 0)

    def _check_idle(self) -> None:
        if not self._in_flight and self._on_idle:
            self._on_idle()

    @property
    def in_flight(self) -> int:
        """Requests that were sent and have not ended."""
        return self._in_flight

    def _sweep_ns(self) -> int:
        return min(max(self._timeout_ns // 20, _SHORTEST_SWEEP_NS), _LONGEST_SWEEP_NS)

    def _sweep(self) -> None:
        """End the requests that are past their deadline."""
        now = perf_counter_ns()
        late = now - self._timeout_ns
        for slot, sent_ns in enumerate(self._sent):
            if 0 < sent_ns <= late:
                self._transport.cancel(slot)
                if self._areas:
                    self._spoiled.add(slot)
                sentence = f"no complete response within {self._timeout_ns / 1e9:g} s"
                self.done(slot, Failure(TIMEOUT, sentence), None)
        self._reactor.call_at(now + self._sweep_ns(), self._sweep)
