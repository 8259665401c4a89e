# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The simulation: tick by tick, the pods serve, Prometheus looks, the autoscaler decides."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random

from trtkit.deploy.simulation.controller import Autoscaler
from trtkit.deploy.simulation.result import Result, Step, Summary, flaps_of
from trtkit.deploy.simulation.server import Fleet, Tick
from trtkit.deploy.simulation.settings import Scaler, Settings
from trtkit.deploy.simulation.trace import Trace
from trtkit.deploy.simulation.view import View


def simulate(trace: Trace, scaler: Scaler, settings: Settings) -> Result:
    """Replay a load against an autoscaler.

    The same arguments give the same result: the only chance in it, the sampling of the pending gauge, has a seed.
    """
    first = settings.initial if settings.initial is not None else initial_replicas(trace, scaler, settings)
    held = scaler.keda is not None and scaler.keda.queue_length is not None
    run = _Run(trace, scaler, settings, Fleet(settings, first, held=held), Autoscaler(scaler, first, trace.start))
    for index, rate in enumerate(trace.ticks(settings.tick_s)):
        run.tick(index * settings.tick_s, rate)
    return run.result()


def initial_replicas(trace: Trace, scaler: Scaler, settings: Settings) -> int:
    """Enough for the first minute at 70 % of the capacity, within the limits."""
    rates = trace.ticks(60.0)
    needed = math.ceil(rates[0] / (0.7 * settings.pod.capacity))
    return min(scaler.maximum, max(scaler.minimum, needed))


@dataclass
class _Run:
    """The state of a simulation."""

    trace: Trace
    scaler: Scaler
    settings: Settings
    fleet: Fleet
    autoscaler: Autoscaler
    random: Random = field(init=False)
    steps: list[Step] = field(default_factory=list)
    changes: list[tuple[float, int, int]] = field(default_factory=list)
    total: Tick = field(default_factory=Tick)
    recent: Tick = field(default_factory=Tick)
    pod_s: float = 0.0
    replica_s: float = 0.0
    most: int = 0
    recent_s: float = 0.0

    def __post_init__(self) -> None:
        self.random = Random(self.settings.seed)
        self.next_scrape = self.scaler.scrape_s / 2  # Prometheus and the HPA do not keep step with each other
        self.next_sync = self.scaler.sync_s
        self.next_poll = 0.0
        self.keep_s = max([300.0, *(metric.window_s for metric in self.scaler.metrics)])
        self.most = self.autoscaler.replicas

    def tick(self, now: float, rate: float) -> None:
        """One tick, and what is due at its end."""
        tick_s = self.settings.tick_s
        self._add(self.fleet.tick(now, rate), tick_s)
        self.pod_s += self.fleet.alive * tick_s
        self.replica_s += self.autoscaler.replicas * tick_s
        end = now + tick_s
        if end >= self.next_scrape:
            self.next_scrape += self.scaler.scrape_s
            self.fleet.scrape(end, self.random, self.keep_s)
        keda = self.scaler.keda
        if keda is not None and end >= self.next_poll:
            self.next_poll = end + keda.polling_s
            self._change(end, self.autoscaler.poll)
        if end >= self.next_sync:
            self.next_sync += self.scaler.sync_s
            self._change(end, self.autoscaler.sync)
            self._step(end)

    def _change(self, now: float, decide: object) -> None:
        before = self.autoscaler.replicas
        view = View(self.fleet, now, self.settings.outage)
        after = decide(now, view)  # type: ignore[operator]
        if after != before:
            self.changes.append((now, before, after))
            self.most = max(self.most, after)
            self.fleet.scale(after, now)

    def _add(self, tick: Tick, tick_s: float) -> None:
        self.recent.add(tick)
        self.recent_s += tick_s

    def _step(self, now: float) -> None:
        recent, seconds = self.recent, self.recent_s
        self.steps.append(
            Step(
                now,
                recent.arrived / seconds,
                recent.served / seconds,
                self.fleet.ready_count * self.settings.pod.capacity,
                self.autoscaler.replicas,
                self.fleet.ready_count,
                self.fleet.waiting,
                1000 * recent.waited_s / recent.arrived if recent.arrived else 0.0,
                1000 * recent.worst_s,
                recent.missed / seconds,
            )
        )
        self.total.add(recent)
        self.recent, self.recent_s = Tick(), 0.0

    def result(self) -> Result:
        """What was found."""
        self.total.add(self.recent)
        total, inside = self.total, self.fleet.inside
        duration = len(self.trace.ticks(self.settings.tick_s)) * self.settings.tick_s
        # requests still outside of any pod were never judged
        never = sum(number for number, _ in self.fleet.outside)
        summary = Summary(
            requests=total.arrived,
            served=total.served,
            left=inside,
            missed=min(total.arrived, total.missed + total.lost + never),
            refused=total.refused,
            lost=total.lost,
            wait_ms=1000 * total.waited_s / total.arrived if total.arrived else 0.0,
            worst_wait_ms=1000 * total.worst_s,
            mean_replicas=self.replica_s / duration,
            most_replicas=self.most,
            pod_hours=self.pod_s / 3600,
            gpu_hours=self.pod_s / 3600 * self.settings.pod.gpus,
            ups=sum(after > before for _, before, after in self.changes),
            downs=sum(after < before for _, before, after in self.changes),
            flaps=flaps_of(tuple(self.changes)),
        )
        return Result(self.trace, self.scaler, self.settings, tuple(self.steps), summary, tuple(self.changes))
