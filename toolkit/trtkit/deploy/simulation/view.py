# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What the autoscaler reads: Prometheus' queries over the samples of the pods there are."""

from __future__ import annotations

from collections.abc import Sequence

from trtkit.deploy.simulation.group import Group, Sample
from trtkit.deploy.simulation.replicas import PodCounts
from trtkit.deploy.simulation.server import Fleet
from trtkit.deploy.simulation.settings import Metric, Outage

_STALE_S = 300.0  # of Prometheus: how old the last sample of an instant query may be


class View:
    """The metrics at one moment."""

    def __init__(self, fleet: Fleet, now: float, outage: Outage | None = None) -> None:
        """Look at the fleet's samples; during an outage nothing answers."""
        self._fleet = fleet
        self._now = now
        self._down = outage is not None and outage.begin_s <= now < outage.end_s

    @property
    def down(self) -> bool:
        """Whether Prometheus gives no answer."""
        return self._down

    def values(self, metric: Metric) -> list[float]:
        """The value of each pod that has one."""
        if self._down:
            return []
        found = [(self._value(group, metric), group.count) for group in self._fleet.ready]
        return [value for value, count in found if value is not None for _ in range(count)]

    def counts(self, metric: Metric) -> PodCounts:
        """The pods without a value."""
        pending = sum(group.count for group in self._fleet.starting if group.running_s > self._now)
        pods = self._fleet.replicas
        return PodCounts(pending, pods - pending - len(self.values(metric)), self._fleet.ready_count)

    def total(self, metric: Metric) -> float | None:
        """The value of an external metric: the sum over the pods, or the mean queue time of all requests."""
        if metric.source == "whole" and metric.kind == "queue":
            return self._mean_queue_ms(metric)
        values = self.values(metric)
        if not values:
            return None
        return sum(values) if metric.source == "per_pod" else sum(values) / len(values)

    @property
    def queue_length(self) -> float:
        """Messages that wait."""
        return self._fleet.waiting

    def _window(self, group: Group, metric: Metric) -> Sequence[Sample]:
        return [sample for sample in group.samples if sample.time_s >= self._now - metric.window_s]

    def _value(self, group: Group, metric: Metric) -> float | None:
        if metric.kind in ("pending", "gpu", "cpu"):
            last = group.samples[-1] if group.samples else None
            if last is None or last.time_s < self._now - _STALE_S:
                return None
            return last.pending if metric.kind == "pending" else 100 * last.used
        samples = self._window(group, metric)
        if len(samples) < 2:
            return None
        first, last = samples[0], samples[-1]
        seconds, success, queue_us = (
            last.time_s - first.time_s,
            last.success - first.success,
            last.queue_us - first.queue_us,
        )
        if metric.kind == "rps":
            return success / seconds
        if metric.kind == "queue":  # rate(queue) / (rate(success) > 0) or (pending == 0)
            return queue_us / success / 1000 if success > 0 else 0.0 if last.pending == 0 else None
        # delta() extrapolates to the whole window, and the query adds 1 to the requests
        whole = metric.window_s / seconds
        return whole * queue_us / (1 + whole * success)

    def _mean_queue_ms(self, metric: Metric) -> float | None:
        if self._down:
            return None
        queue_us = success = 0.0
        for group in self._fleet.ready:
            samples = self._window(group, metric)
            if len(samples) > 1:
                seconds = samples[-1].time_s - samples[0].time_s
                queue_us += group.count * (samples[-1].queue_us - samples[0].queue_us) / seconds
                success += group.count * (samples[-1].success - samples[0].success) / seconds
        return queue_us / success / 1000 if success > 0 else None
