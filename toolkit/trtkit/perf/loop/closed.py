# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The closed loop: each slot sends its next request when its last one has ended."""

from __future__ import annotations

from time import perf_counter_ns
from typing import Any

from trtkit.perf.loop.slots import Loop
from trtkit.perf.transports.base import Failure

# waits after a lost connection: a dead server costs a bounded number of attempts
_FIRST_WAIT_NS = 20_000_000
_LONGEST_WAIT_NS = 500_000_000


class ClosedLoop(Loop):
    """Keeps one request in flight on each active slot.

    A latency begins before the request's bytes are handed to the transport (which may first have to open a
    lost connection again) and ends when the transport has seen the whole response.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._active, self._started = self._slots, False
        self._step = self._period = 0
        self._newest = self._reached = 0  # the first slot of the last step, and how many of its requests are that far
        self._lost_in_a_row = [0] * self._slots
        self._waiting: set[int] = set()

    def start(self, start_ns: int) -> None:
        """Begin to send at a time, on all slots unless `activate` was called."""
        super().start(start_ns)
        self._reactor.call_at(start_ns, self._start)

    def _start(self) -> None:
        self._started = True
        self.activate(self._active)

    def activate(self, count: int) -> None:
        """Keep requests in flight on the first `count` slots, and let those of the others end."""
        self._active = min(count, self._slots)
        if self._stopping or not self._started:
            return
        for slot in range(self._active):
            if not self._sent[slot] and slot not in self._waiting:
                self._send(slot, 0)

    def grow(self, step: int, responses: int) -> None:
        """Activate `step` slots more each time that each request of the last ones had so many responses."""
        self._step, self._period = step, responses

    def response(self, slot: int, answer: bytes | None) -> None:
        """A response with content of a stream; it may be the one that was waited for."""
        super().response(slot, answer)
        if self._period and slot >= self._newest and len(self._times[slot]) == self._period:
            self._reached += 1
            if self._reached == self._active - self._newest:
                self._newest, self._reached = self._active, 0
                self.activate(self._active + self._step)

    def _next(self, slot: int, failure: Failure | None) -> None:
        if slot >= self._active:
            return
        if failure is not None and failure.disconnected:
            self._waiting.add(slot)
            wait_ns = min(_FIRST_WAIT_NS << min(self._lost_in_a_row[slot], 16), _LONGEST_WAIT_NS)
            self._lost_in_a_row[slot] += 1
            self._reactor.call_at(perf_counter_ns() + wait_ns, lambda: self._again(slot))
            return
        if failure is None:
            self._lost_in_a_row[slot] = 0
        self._send(slot, 0)

    def _again(self, slot: int) -> None:
        self._waiting.discard(slot)
        if not self._stopping and slot < self._active and not self._sent[slot]:
            self._send(slot, 0)
