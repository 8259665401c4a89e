# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""One thread, one loop: sockets that are ready and timers that are due.

A plain epoll loop has less to do per request than asyncio, and its timers are precise: epoll's own time-outs are whole
milliseconds, a timerfd wakes within some 50 µs. Where there is no epoll (macOS), ``select.poll`` takes its place, with
timers to the millisecond.
"""

from __future__ import annotations

import ctypes
import os
import select
from collections.abc import Callable
from heapq import heappop, heappush
from time import perf_counter_ns

READABLE = select.POLLIN
WRITABLE = select.POLLOUT

OnEvent = Callable[[int], None]

# Linux's numbers, the same on every architecture that Triton runs on
_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK = 0o4000
_TFD_CLOEXEC = 0o2000000
_TFD_TIMER_ABSTIME = 1


class Timer:
    """A callback at a time; `Reactor.call_at` makes it."""

    __slots__ = ("callback", "when_ns")

    def __init__(self, when_ns: int, callback: Callable[[], None]) -> None:
        self.when_ns = when_ns
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """It will not be called any more."""
        self.callback = None

    def __lt__(self, other: Timer) -> bool:
        return self.when_ns < other.when_ns


class Reactor:
    """Calls back when a file descriptor is ready or a time has come; all from `run`, one after the other.

    An exception in a callback ends `run` with it.
    """

    def __init__(self) -> None:
        self._poll = select.epoll() if hasattr(select, "epoll") else select.poll()
        self._events: dict[int, OnEvent] = {}
        self._timers: list[Timer] = []
        self._soon: list[Callable[[], None]] = []
        self._running = False
        self._alarm = _Alarm.open()
        if self._alarm:
            self.add(self._alarm.fd, self._alarm.acknowledge)

    def add(self, fd: int, on_event: OnEvent) -> None:
        """Watch a descriptor for input; `on_event` is called with its event mask."""
        self._events[fd] = on_event
        self._poll.register(fd, READABLE)

    def want_write(self, fd: int, wanted: bool) -> None:
        """Watch a descriptor for room to write, too; or no longer."""
        self._poll.modify(fd, READABLE | WRITABLE if wanted else READABLE)

    def remove(self, fd: int) -> None:
        """Stop watching a descriptor, before it is closed. Events that were already read are dropped."""
        del self._events[fd]
        self._poll.unregister(fd)

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Timer:
        """Call back at a time of ``time.perf_counter_ns``, or as soon as possible after it."""
        timer = Timer(when_ns, callback)
        heappush(self._timers, timer)
        return timer

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call back in the loop's next turn."""
        self._soon.append(callback)

    def run(self) -> None:
        """Serve events and timers until `stop`."""
        self._running = True
        events, timers, poll = self._events, self._timers, self._poll.poll
        while self._running:
            ready = poll(self._wait()) if timers or self._soon else poll()
            for fd, mask in ready:
                on_event = events.get(fd)  # an earlier event may have removed it
                if on_event is not None:
                    on_event(mask)
            if timers or self._soon:
                self._call_due()

    def stop(self) -> None:
        """End `run` after the present callback's turn."""
        self._running = False

    def close(self) -> None:
        """Give the descriptors back."""
        if self._alarm:
            os.close(self._alarm.fd)
        if hasattr(self._poll, "close"):
            self._poll.close()

    def _wait(self) -> float:
        """How long poll may wait: with an alarm set, for ever. Seconds for epoll, milliseconds for poll."""
        if self._soon:
            return 0
        when_ns = self._timers[0].when_ns
        if self._alarm:
            if when_ns <= perf_counter_ns():
                return 0
            self._alarm.set(when_ns)
            return -1
        return max(0.0, (when_ns - perf_counter_ns()) / 1e6)

    def _call_due(self) -> None:
        if self._soon:
            soon, self._soon = self._soon, []
            for callback in soon:
                callback()
        timers = self._timers
        now = perf_counter_ns()
        while timers and timers[0].when_ns <= now:
            due = heappop(timers).callback
            if due is not None:
                due()


class _Spec(ctypes.Structure):
    """``struct itimerspec``: the interval, then the time, each in seconds and nanoseconds."""

    _fields_ = (("interval", ctypes.c_long * 2), ("value", ctypes.c_long * 2))


class _Alarm:
    """A timerfd on the clock of ``time.perf_counter_ns``."""

    def __init__(self, libc: ctypes.CDLL, fd: int) -> None:
        self.fd = fd
        self._settime = libc.timerfd_settime
        self._spec = _Spec()
        self._at_ns = 0

    @classmethod
    def open(cls) -> _Alarm | None:
        """A new one; None where the system has none."""
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "timerfd_create"):
            return None
        fd = libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        return cls(libc, fd) if fd >= 0 else None

    def set(self, when_ns: int) -> None:
        """Be ready at a time; setting the same time again costs nothing."""
        if when_ns == self._at_ns:
            return
        self._at_ns = when_ns
        self._spec.value[0], self._spec.value[1] = divmod(when_ns, 1_000_000_000)
        self._settime(self.fd, _TFD_TIMER_ABSTIME, ctypes.byref(self._spec), None)

    def acknowledge(self, _mask: int) -> None:
        """It went off: be silent again."""
        self._at_ns = 0
        try:
            os.read(self.fd, 8)
        except BlockingIOError:  # it was set anew in between
            return
