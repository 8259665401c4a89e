# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The closed loop: every slot sends its next request as soon as its last one ended."""

from __future__ import annotations

import asyncio
from time import perf_counter_ns

from trtkit.perf.recorder import Recorder
from trtkit.perf.transport import Failure, Transport

# waits after a lost connection, in seconds: a dead server costs a bounded number of attempts
_FIRST_WAIT_S = 0.02
_LONGEST_WAIT_S = 0.5


class ClosedLoop:
    """Keeps one request in flight on each slot.

    A latency begins before the request's bytes are handed to the transport (which may first have to open a
    lost connection again) and ends when the transport has seen the whole response.

    Args:
        transport: to be opened, with `done` as its callback, before `start`.
        slots: the concurrency.
        requests: how many prepared requests to take in turn.
        recorder: is told of every request that ended.
    """

    def __init__(self, transport: Transport, slots: int, requests: int, recorder: Recorder) -> None:
        self._transport = transport
        self._requests = requests
        self._recorder = recorder
        self._next = 0
        self._started_ns = [0] * slots
        self._lost_in_a_row = [0] * slots
        self._in_flight = 0
        self._stopping = False
        self._idle: asyncio.Event | None = None

    def start(self) -> None:
        """Send the first request on every slot."""
        self._loop = asyncio.get_running_loop()
        for slot in range(len(self._started_ns)):
            self._send(slot)

    def _send(self, slot: int) -> None:
        if self._stopping:
            return
        request = self._next
        self._next = request + 1 if request + 1 < self._requests else 0
        self._in_flight += 1
        self._started_ns[slot] = perf_counter_ns()
        self._transport.send(slot, request)

    def done(self, slot: int, failure: Failure | None) -> None:
        """The transport's callback: record, and send the next request."""
        latency_ns = perf_counter_ns() - self._started_ns[slot]
        self._in_flight -= 1
        if failure is None:
            self._recorder.succeeded(latency_ns)
            self._lost_in_a_row[slot] = 0
        else:
            self._recorder.failed(failure)
        if self._stopping:
            self._stopped()
        elif failure is not None and failure.disconnected:
            self._loop.call_later(self._wait_s(slot), self._send, slot)
        else:
            self._send(slot)

    def _wait_s(self, slot: int) -> float:
        wait = min(_FIRST_WAIT_S * 2 ** min(self._lost_in_a_row[slot], 16), _LONGEST_WAIT_S)
        self._lost_in_a_row[slot] += 1
        return wait

    async def drain(self, timeout_s: float) -> bool:
        """Send nothing more and wait for what is in flight; False when it has not ended after `timeout_s`."""
        self._stopping = True
        self._idle = asyncio.Event()
        self._stopped()
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except asyncio.TimeoutError:
            return False
        return True

    def _stopped(self) -> None:
        if self._idle and not self._in_flight:
            self._idle.set()
