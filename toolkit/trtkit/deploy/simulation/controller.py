# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The autoscaler: the HPA's control loop, and what KEDA does around it.

The HPA as in reconcileAutoscaler and computeReplicasForMetrics (kube-controller-manager 1.36), KEDA as in
pkg/scaling/executor/scale_scaledobjects.go and pkg/fallback (2.20): KEDA turns its triggers into external metrics of an
HPA with at least one replica, and only decides by itself between none and some.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from trtkit.deploy.cron import CronWindow
from trtkit.deploy.simulation.behavior import History, limited
from trtkit.deploy.simulation.replicas import NoMetricError, for_external_per_pod, for_external_value, for_pods
from trtkit.deploy.simulation.settings import Keda, Metric, Scaler
from trtkit.deploy.simulation.view import View


class Autoscaler:
    """One HPA, of KEDA or not, over the time of a simulation."""

    def __init__(self, scaler: Scaler, replicas: int, start: datetime) -> None:
        """Begin with so many replicas at a time of day."""
        self.replicas = replicas
        self._scaler = scaler
        self._start = start.astimezone(timezone.utc)
        self._history = History()
        self._failures: dict[Metric, int] = {}
        self._active_s: float | None = None
        self._cron: dict[CronWindow, tuple[bool, datetime]] = {}

    @property
    def minimum(self) -> int:
        """Of the HPA, which has at least one."""
        return max(1, self._scaler.minimum)

    def sync(self, now: float, view: View) -> int:
        """The HPA's decision; returns the replicas."""
        before, scaler = self.replicas, self._scaler
        if not self._proposals() or before == 0:
            return before
        if before > scaler.maximum or before < self.minimum:
            after = min(max(before, self.minimum), scaler.maximum)
        else:
            self._history.begin(now, before)
            try:
                wanted = self._wanted(now, view)
            except NoMetricError:
                return before
            after = limited(scaler.behavior, self._history, now, before, wanted, self.minimum, scaler.maximum)
        if after != before:
            self._history.remember(now, before, after)
            self.replicas = after
        return after

    def _proposals(self) -> list[Callable[[float, View], int]]:
        """Each metric's way to its replicas."""
        keda = self._scaler.keda
        found: list[Callable[[float, View], int]] = [
            lambda now, view, metric=metric: self._of_metric(metric, view)  # type: ignore[misc]
            for metric in self._scaler.metrics
        ]
        if keda is not None:
            found += [
                lambda now, view, window=window: self._of_cron(window, now)  # type: ignore[misc]
                for window in keda.cron
            ]
            if keda.queue_length is not None:
                found.append(lambda now, view: self._of_queue(keda, view))
        return found

    def _wanted(self, now: float, view: View) -> int:
        """The most that a metric asks for.

        Raises:
            NoMetricError: none has a value; or one has none, and the others ask for fewer pods.
        """
        found: list[int] = []
        missing = 0
        for proposal in self._proposals():
            try:
                found.append(proposal(now, view))
            except NoMetricError:
                missing += 1
        if not found or (missing and max(found) < self.replicas):
            raise NoMetricError
        return max(found)

    def _of_metric(self, metric: Metric, view: View) -> int:
        tolerance = self._scaler.tolerance
        if metric.source == "pods":
            return for_pods(self.replicas, view.values(metric), metric.target, view.counts(metric), tolerance)
        value = self._external(metric, view)
        if metric.source == "per_pod":
            return for_external_per_pod(self.replicas, value, metric.target, tolerance)
        return for_external_value(self.replicas, value, metric.target, view.counts(metric).ready, tolerance)

    def _external(self, metric: Metric, view: View) -> float | None:
        """What KEDA's metrics server answers."""
        value, keda = view.total(metric), self._scaler.keda
        if value is not None or keda is None:
            self._failures[metric] = 0
            return value
        if keda.null_is_zero and not view.down:
            return 0.0
        self._failures[metric] = self._failures.get(metric, 0) + 1
        fallback = keda.fallback
        if fallback is None or metric.source != "per_pod" or self._failures[metric] <= fallback.failures:
            return None
        return metric.target * (max(fallback.replicas, self.replicas) if fallback.keeps_more else fallback.replicas)

    def _of_cron(self, window: CronWindow, now: float) -> int:
        value = window.replicas if self._in_window(window, now) else 1
        return for_external_per_pod(self.replicas, value, 1.0, self._scaler.tolerance)

    def _of_queue(self, keda: Keda, view: View) -> int:
        assert keda.queue_length is not None
        return for_external_per_pod(
            self.replicas, float(int(view.queue_length)), keda.queue_length, self._scaler.tolerance
        )

    def _in_window(self, window: CronWindow, now: float) -> bool:
        moment = self._start + timedelta(seconds=now)
        known = self._cron.get(window)
        if known is None or moment >= known[1]:
            known = self._cron[window] = window.state(moment)
        return known[0]

    def poll(self, now: float, view: View) -> int:
        """KEDA's own look at its triggers; returns the replicas."""
        keda = self._scaler.keda
        if keda is None:
            return self.replicas
        if self._is_active(keda, now, view):
            self._active_s = now
            if self.replicas == 0:
                self.replicas = self.minimum
        elif self._scaler.minimum == 0 and self.replicas > 0:
            never = self._active_s is None and keda.initial_cooldown_s < now
            if never or (self._active_s is not None and self._active_s + keda.cooldown_s < now):
                self.replicas = 0
        elif self.replicas < self._scaler.minimum:
            self.replicas = self._scaler.minimum
        return self.replicas

    def _is_active(self, keda: Keda, now: float, view: View) -> bool:
        """Whether a trigger is above its activation value, 0."""
        if any(self._in_window(window, now) for window in keda.cron):
            return True
        if keda.queue_length is not None and int(view.queue_length) > 0:
            return True
        return any((view.total(metric) or 0.0) > 0 for metric in self._scaler.metrics)
