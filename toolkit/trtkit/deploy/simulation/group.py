# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Pods that have had the same load, computed once for all of them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from trtkit.deploy.simulation.queueing import PodQueue, Wait

NOTHING = Wait(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Sample:
    """What Prometheus reads from one pod: the counters are whole numbers.

    Attributes:
        time_s: of the scrape.
        success: nv_inference_request_success.
        queue_us: nv_inference_queue_duration_us.
        pending: nv_inference_pending_request_count, the mean over the group's pods.
        used: utilization from 0 to 1 just now.
    """

    time_s: float
    success: int
    queue_us: int
    pending: float
    used: float


@dataclass
class Group:
    """Pods that became ready at the same time, so that each of them has had the same load; values are for one pod.

    Attributes:
        count: pods.
        ready_s: since when.
        content: requests in a pod, waiting and served.
        rows: requests in the order they came: how many, and their mean wait in s.
        served: requests so far.
        waited_us: queue time of the served ones.
        used: utilization in the last tick.
        rate: arrivals in the last tick, requests per second.
        wait: of those.
        samples: that Prometheus has of it.
    """

    count: int
    ready_s: float
    content: float = 0.0
    rows: deque[tuple[float, float]] = field(default_factory=deque)
    served: float = 0.0
    waited_us: float = 0.0
    used: float = 0.0
    rate: float = 0.0
    wait: Wait = NOTHING
    samples: list[Sample] = field(default_factory=list)

    def split(self, count: int) -> Group:
        """Take pods out of the group; they have the same content."""
        self.count -= count
        return Group(
            count, self.ready_s, self.content, deque(self.rows), self.served, self.waited_us, self.used, self.rate,
            self.wait,
        )  # fmt: skip

    def is_like(self, other: Group) -> bool:
        """Whether the pods of both have the same to do."""
        return abs(self.content - other.content) <= 1e-9 * (1 + self.content) and len(self.rows) == len(other.rows)

    def tick(self, queue: PodQueue, rate: float, tick_s: float) -> float:
        """Go on by a tick with so many requests per second for each pod; returns what each of them served."""
        before = self.content
        self.content, self.used = queue.step(before, rate)
        self.rate, self.wait = rate, queue.wait((before + self.content) / 2, rate) if rate > 0 else NOTHING
        served = before + rate * tick_s - self.content
        if rate > 0:
            self.rows.append((rate * tick_s, self.wait.mean_s))
        self.served += served
        self._leave(served)
        return served

    def _leave(self, served: float) -> None:
        """Requests leave in the order they came; the server counts their queue time when they do."""
        while served > 0 and self.rows:
            number, wait_s = self.rows[0]
            gone = min(number, served)
            self.waited_us += gone * wait_s * 1e6
            served -= gone
            if gone < number:
                self.rows[0] = (number - gone, wait_s)
            else:
                self.rows.popleft()
