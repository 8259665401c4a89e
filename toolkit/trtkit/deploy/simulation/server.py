# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The pods: they start, share the load evenly, queue what they cannot serve, and go on serving while they stop."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random

from trtkit.deploy.simulation.group import Group, Sample
from trtkit.deploy.simulation.queueing import PodQueue
from trtkit.deploy.simulation.settings import Lifecycle, Settings


@dataclass
class Starting:
    """Pods that are not ready yet: Pending until `running_s`, then loading until `ready_s`."""

    count: int
    running_s: float
    ready_s: float


@dataclass
class Stopping:
    """Pods that get nothing new: until they are empty, not before `least_s` nor after `most_s`."""

    group: Group
    least_s: float
    most_s: float


@dataclass
class Tick:
    """What happened in a tick: numbers of requests, s.

    Attributes:
        arrived: all that came.
        served: all that were finished.
        missed: of those that arrived, over the objective.
        refused: of those, because no pod was ready.
        lost: in pods that were killed.
        waited_s: the sum of the waits of those that arrived.
        worst_s: the 99th percentile of the wait at the pods where it was longest.
    """

    arrived: float = 0.0
    served: float = 0.0
    missed: float = 0.0
    refused: float = 0.0
    lost: float = 0.0
    waited_s: float = 0.0
    worst_s: float = 0.0

    def add(self, other: Tick) -> None:
        """What happened afterwards."""
        self.arrived += other.arrived
        self.served += other.served
        self.missed += other.missed
        self.refused += other.refused
        self.lost += other.lost
        self.waited_s += other.waited_s
        self.worst_s = max(self.worst_s, other.worst_s)


class Fleet:
    """All pods of a Deployment."""

    def __init__(self, settings: Settings, replicas: int, *, held: bool) -> None:
        """Begin with so many ready pods, which are idle.

        Args:
            settings: of the simulation.
            replicas: 0 or more.
            held: whether requests wait in a message queue while no pod is ready; else they are refused.
        """
        pod = settings.pod
        self._life: Lifecycle = settings.lifecycle
        self._tick_s = settings.tick_s
        self._limit_s = settings.objective.latency_s - pod.service_s
        self._held = held
        self.queue = PodQueue(pod.slots, pod.capacity, settings.tick_s, pod.batch_delay_s)
        self.ready: list[Group] = [Group(replicas, 0.0)] if replicas else []
        self.starting: list[Starting] = []
        self.stopping: list[Stopping] = []
        self.outside: deque[tuple[float, float]] = deque()  # held requests: how many, since when

    @property
    def ready_count(self) -> int:
        """Pods that are ready."""
        return sum(group.count for group in self.ready)

    @property
    def replicas(self) -> int:
        """Pods that are not stopping."""
        return self.ready_count + sum(group.count for group in self.starting)

    @property
    def alive(self) -> int:
        """Pods that have their GPU."""
        return self.replicas + sum(one.group.count for one in self.stopping)

    @property
    def inside(self) -> float:
        """Requests in pods and in the message queue."""
        pods = sum(group.count * group.content for group in self.ready)
        stopping = sum(one.group.count * one.group.content for one in self.stopping)
        return pods + stopping + sum(number for number, _ in self.outside)

    @property
    def waiting(self) -> float:
        """Requests that wait, in pods or in the message queue."""
        return sum(group.count * self.queue.waiting(group.content) for group in self.ready) + sum(
            number for number, _ in self.outside
        )

    def scale(self, replicas: int, now: float) -> None:
        """Start or stop pods until there are so many."""
        change = replicas - self.replicas
        if change > 0:
            self._start(change, now)
        elif change < 0:
            self._stop(-change, now)

    def _start(self, count: int, now: float) -> None:
        life = self._life
        on_new_nodes = min(count, max(0, self.alive + count - life.room)) if life.node_s > 0 else 0
        pull_s = 0.0 if life.node_s > 0 else life.pull_s  # nodes that were there before have the image
        for number, wait_s in ((count - on_new_nodes, pull_s), (on_new_nodes, life.node_s + life.pull_s)):
            if number:
                running = now + wait_s
                self.starting.append(Starting(number, running, running + life.load_s + life.probe_s))

    def _stop(self, count: int, now: float) -> None:
        """As the ReplicaSet's controller chooses: those not ready first, then those ready for the least time."""
        for group in sorted(self.starting, key=lambda one: -one.ready_s):
            gone = min(count, group.count)
            group.count -= gone
            count -= gone
        self.starting = [group for group in self.starting if group.count]
        for ready in sorted(self.ready, key=lambda one: -one.ready_s):
            gone = min(count, ready.count)
            if gone:
                life = self._life
                self.stopping.append(Stopping(ready.split(gone), now + life.pre_stop_s, now + life.grace_s))
            count -= gone
        self.ready = [group for group in self.ready if group.count]

    def tick(self, now: float, rate: float) -> Tick:
        """Go on by a tick.

        Args:
            now: when it begins, s.
            rate: of the arrivals, requests per second.
        """
        self._promote(now)
        tick = Tick(arrived=rate * self._tick_s)
        pods = self.ready_count
        if pods == 0:
            self._without_pods(now, tick)
        else:
            released, ages = self._release(now)
            for group in self.ready:
                served = group.tick(self.queue, (rate + released / self._tick_s) / pods, self._tick_s)
                self._account(tick, group, rate * self._tick_s / pods, served, [(n / pods, age) for n, age in ages])
        self._finish(now, tick)
        return tick

    def _promote(self, now: float) -> None:
        for group in self.starting:
            if group.ready_s <= now:
                self.ready.append(Group(group.count, now))
        self.starting = [group for group in self.starting if group.ready_s > now]

    def _without_pods(self, now: float, tick: Tick) -> None:
        if self._held:
            self.outside.append((tick.arrived, now))
        else:
            tick.refused = tick.missed = tick.arrived

    def _release(self, now: float) -> tuple[float, list[tuple[float, float]]]:
        """What waited in the message queue goes to the pods: how many, and each part with its age in s."""
        ages = [(number, now - since) for number, since in self.outside]
        self.outside.clear()
        return sum(number for number, _ in ages), ages

    def _account(
        self, tick: Tick, group: Group, arrived: float, served: float, held: list[tuple[float, float]]
    ) -> None:
        wait, count = group.wait, group.count
        tick.served += count * served
        tick.missed += count * arrived * wait.longer_than(self._limit_s)
        tick.waited_s += count * arrived * wait.mean_s
        if arrived > 0:
            tick.worst_s = max(tick.worst_s, wait.quantile(0.99))
        for number, age in held:
            tick.missed += count * number * wait.longer_than(self._limit_s - age)
            tick.waited_s += count * number * (wait.mean_s + age)
            tick.worst_s = max(tick.worst_s, wait.quantile(0.99) + age)

    def _finish(self, now: float, tick: Tick) -> None:
        """Stopping pods serve what they have, and end."""
        left: list[Stopping] = []
        end = now + self._tick_s
        for one in self.stopping:
            tick.served += one.group.count * one.group.tick(self.queue, 0.0, self._tick_s)
            if end >= one.most_s:
                tick.lost += one.group.count * one.group.content
            elif end >= one.least_s and one.group.content < self.queue.idle_content:
                tick.served += one.group.count * one.group.content
            else:
                left.append(one)
        self.stopping = left

    def scrape(self, now: float, random: Random, keep_s: float) -> None:
        """Prometheus reads every ready pod."""
        self._merge(now - keep_s)
        for group in self.ready:
            while group.samples and group.samples[0].time_s < now - keep_s:
                group.samples.pop(0)
            pending = sum(self._pending(group, random) for _ in range(group.count)) / group.count
            group.samples.append(Sample(now, int(group.served), int(group.waited_us), pending, group.used))

    def _merge(self, before_s: float) -> None:
        """Groups that have long been alike become one: they go on alike, and there is less to compute."""
        merged: list[Group] = []
        for group in self.ready:
            last = merged[-1] if merged else None
            if last and max(last.ready_s, group.ready_s) < before_s and last.is_like(group):
                last.count += group.count
            else:
                merged.append(group)
        self.ready = merged

    def _pending(self, group: Group, random: Random) -> int:
        """A look at one pod's gauge: a whole number around what is there."""
        wait, capacity = group.wait, self.queue.capacity
        value = (
            wait.backlog_s * capacity
            + max(0.0, wait.mean_s - wait.backlog_s - wait.delayed * wait.further_s) * group.rate
        )
        if wait.further_s > 0 and random.random() < wait.delayed:
            value += random.expovariate(1 / (wait.further_s * capacity))
        return int(value + random.random())
