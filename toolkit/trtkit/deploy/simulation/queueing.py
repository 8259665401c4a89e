# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How long requests wait in a pod: Poisson arrivals, a fixed service time, several slots (M/D/c), and a backlog.

The mean wait of M/D/c is Cosmetatos' approximation from Erlang's C. Between two moments the pod's content follows the
pointwise-stationary fluid flow approximation (Wang, Tipper, Banerjee 1996): requests leave at the rate of the
stationary queue with the same content. It has the right mean at a steady load, grows as a fluid in overload, and
loses no request.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

_FULL = 0.9999  # the highest utilization of the tables; a pod in overload works at it


@dataclass(frozen=True)
class Tables:
    """A pod's stationary queue, by utilization.

    Attributes:
        slots: requests that are served at the same time.
        capacity: requests per second, at most.
        utilization: from 0 to almost 1, ascending.
        content: mean number of requests in the pod, waiting and served.
        waiting: those of them that wait.
        delayed: probability that a request waits at all.
    """

    slots: int
    capacity: float
    utilization: Sequence[float]
    content: Sequence[float]
    waiting: Sequence[float]
    delayed: Sequence[float]


@dataclass(frozen=True)
class Wait:
    """How long the requests wait that arrive at some moment, s.

    Each of them waits `backlog_s`; on top of it, the share `delayed` waits exponentially with the mean `further_s`.
    """

    backlog_s: float
    delayed: float
    further_s: float
    least_s: float = 0.0

    @property
    def mean_s(self) -> float:
        """The mean of all."""
        return max(self.least_s, self.backlog_s + self.delayed * self.further_s)

    def longer_than(self, limit_s: float) -> float:
        """The share of requests that wait longer."""
        if limit_s < self.least_s or limit_s < self.backlog_s or limit_s < 0:
            return 1.0
        if self.further_s <= 0:
            return 0.0
        return self.delayed * math.exp(-(limit_s - self.backlog_s) / self.further_s)

    def quantile(self, share: float) -> float:
        """The wait that this share of requests does not exceed, s."""
        over = 1 - share
        further = self.further_s * math.log(self.delayed / over) if self.delayed > over and self.further_s > 0 else 0.0
        return max(self.least_s, self.backlog_s + further)


def erlang_c(slots: int, utilization: float) -> float:
    """The probability that a request has to wait, in M/M/c; 0 <= utilization < 1."""
    offered, blocked = slots * utilization, 1.0
    for servers in range(1, slots + 1):  # Erlang's B by its recursion, which does not overflow
        blocked = offered * blocked / (servers + offered * blocked)
    return blocked / (1 - utilization * (1 - blocked))


def waiting_mdc(slots: int, utilization: float) -> float:
    """The mean number of requests that wait in M/D/c, by Cosmetatos (1976); 0 <= utilization < 1."""
    if utilization <= 0:
        return 0.0
    in_mmc = erlang_c(slots, utilization) * utilization / (1 - utilization)
    correction = (1 - utilization) * (slots - 1) * (math.sqrt(4 + 5 * slots) - 2) / (16 * utilization * slots)
    # in light traffic the exact ratio to M/M/c is c / (c + 1), which the correction would exceed
    return in_mmc * min((1 + correction) / 2, slots / (slots + 1))


@lru_cache(maxsize=64)
def tables(slots: int, capacity: float) -> Tables:
    """The stationary queue of a pod with so many slots and requests per second."""
    steps = [1 - (1 - index / 400) ** 2 * 1.0 for index in range(400)]
    grid = [*(value for value in steps if value < _FULL), _FULL]
    waiting = [waiting_mdc(slots, value) for value in grid]
    content = [slots * value + waits for value, waits in zip(grid, waiting, strict=True)]
    return Tables(slots, capacity, grid, content, waiting, [erlang_c(slots, value) for value in grid])


class PodQueue:
    """The arithmetic of one tick of a pod; it keeps no state of the pod."""

    def __init__(self, slots: int, capacity: float, tick_s: float, least_s: float = 0.0) -> None:
        """Prepare the tables.

        Args:
            slots: requests that are served at the same time, 1 or more.
            capacity: requests per second, at most.
            tick_s: between two moments.
            least_s: what a request waits at least: the dynamic batcher's delay.
        """
        self.capacity = capacity
        self._tables = tables(slots, capacity)
        self._tick_s = tick_s
        self._least_s = least_s
        self._through = tick_s * capacity
        self._sums = [
            content + self._through * used
            for content, used in zip(self._tables.content, self._tables.utilization, strict=True)
        ]

    def step(self, content: float, rate: float) -> tuple[float, float]:
        """The requests in the pod a tick later, and its utilization in the tick.

        Implicit, so that a tick may be longer than the service: `after + tick * capacity * used(after) = before + new`.
        """
        total = content + self._tick_s * rate
        used = _interpolate(self._sums, self._tables.utilization, total)
        return max(0.0, total - self._through * used), used

    def wait(self, content: float, rate: float) -> Wait:
        """What requests wait that arrive at this rate at a pod with this content.

        What a steady load of this rate would have waiting is random; the rest is a backlog ahead of everyone. In
        overload the random part is the mirror image of the same distance below the capacity (the reflection of a
        Brownian motion with drift).
        """
        known = self._tables
        now = _interpolate(known.content, known.utilization, content)
        steady = max(0.0, min(now, 1 - abs(1 - rate / known.capacity)))
        waiting = max(0.0, content - known.slots * now)
        random = _interpolate(known.utilization, known.waiting, steady)
        delayed = _interpolate(known.utilization, known.delayed, steady)
        mean_s = random / (known.capacity * steady) if steady > 0 else 0.0
        backlog_s = max(0.0, waiting - random) / known.capacity
        return Wait(backlog_s, delayed, mean_s / delayed if delayed > 0 else 0.0, self._least_s)

    def waiting(self, content: float) -> float:
        """How many requests of this content wait."""
        known = self._tables
        return max(0.0, content - known.slots * _interpolate(known.content, known.utilization, content))

    @property
    def idle_content(self) -> float:
        """Fewer requests than these are none."""
        return 0.01


def _interpolate(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    """Linear between the points, constant outside."""
    if x <= xs[0]:
        return ys[0]
    if x >= xs[-1]:
        return ys[-1]
    index = bisect_right(xs, x)
    x0, x1 = xs[index - 1], xs[index]
    return ys[index - 1] + (ys[index] - ys[index - 1]) * (x - x0) / (x1 - x0)
