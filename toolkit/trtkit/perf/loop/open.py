# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The open loop: requests have times."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from trtkit.perf.loop.slots import Loop
from trtkit.perf.transports.base import Failure


class OpenLoop(Loop):
    """Sends each request at its time, whether earlier ones were answered or not.

    A request whose time has come when every slot is taken waits for one; that wait is part of its latency from the
    intended time and of the schedule's lag, and `delayed` counts it.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.delayed = 0
        self._backlog: deque[int] = deque()

    def schedule(self, offsets_ns: Iterator[int], in_order: bool) -> None:
        """Say when to send.

        Args:
            offsets_ns: nanoseconds after the start, ascending; the loop is exhausted after the last.
            in_order: whether slots are taken in turn (sequences), and not the one that was free last.
        """
        self._offsets = offsets_ns
        self._free = deque(range(self._slots))
        self._take = self._free.popleft
        self._give = self._free.append if in_order else self._free.appendleft

    def start(self, start_ns: int) -> None:
        """Begin at a time: the zero of the offsets."""
        super().start(start_ns)
        self._start_ns = start_ns
        self._due_ns = 0
        self._arm()

    def _arm(self) -> None:
        """Wait for the next time."""
        offset = next(self._offsets, None)
        if offset is None:
            self._no_more()
            return
        self._due_ns = self._start_ns + offset
        self._reactor.call_at(self._due_ns, self._due)

    def _due(self) -> None:
        if self._stopping:
            return
        if self._free:
            if not self._send_on(self._take(), self._due_ns):
                return
        else:
            self.delayed += 1
            self._backlog.append(self._due_ns)
        self._arm()

    def _send_on(self, slot: int, intended_ns: int) -> bool:
        if self._send(slot, intended_ns):
            return True
        self._give(slot)
        return False

    def _next(self, slot: int, failure: Failure | None) -> None:
        if self._backlog:
            self._send_on(slot, self._backlog.popleft())
        else:
            self._give(slot)
            if self._on_idle:
                self._finish(slot)
        if self._on_idle:
            self._check_idle()

    def _out_of_requests(self) -> None:
        """What waits for a slot has no request any more."""
        self._backlog.clear()
        super()._out_of_requests()

    def _check_idle(self) -> None:
        if not self._backlog or self._stopping:
            super()._check_idle()

    @property
    def waiting(self) -> int:
        """Requests whose time has come and that have no slot yet."""
        return len(self._backlog)
