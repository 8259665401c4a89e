# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a simulation found: its course, and what it comes to."""

from __future__ import annotations

import csv
import io
import itertools
from dataclasses import asdict, dataclass, fields
from typing import Any

from trtkit.deploy.simulation.settings import Scaler, Settings
from trtkit.deploy.simulation.trace import Trace

_FLAP_S = 600.0  # pods that go and come back, or the other way round, within this time


@dataclass(frozen=True)
class Step:
    """One period of the HPA.

    Attributes:
        time_s: when it ends.
        arrived_per_s: requests per second that came.
        served_per_s: that were finished.
        capacity_per_s: of the ready pods.
        replicas: that the autoscaler has set, at the end.
        ready: pods that are ready, at the end.
        waiting: requests in the queues, at the end.
        wait_ms: mean wait of the requests that came.
        wait_p99_ms: the 99th percentile, at the pods where it was longest.
        missed_per_s: requests per second over the objective.
    """

    time_s: float
    arrived_per_s: float
    served_per_s: float
    capacity_per_s: float
    replicas: int
    ready: int
    waiting: float
    wait_ms: float
    wait_p99_ms: float
    missed_per_s: float


@dataclass(frozen=True)
class Summary:
    """What it comes to.

    Attributes:
        requests: that came.
        served: that were finished within the trace.
        left: that were still in a queue at its end.
        missed: over the objective, the refused and lost ones among them.
        refused: because no pod was ready.
        lost: in pods that were killed at the end of their grace period.
        wait_ms: mean wait.
        worst_wait_ms: the longest 99th percentile of a tick.
        mean_replicas, most_replicas: that the autoscaler had set.
        pod_hours: of all pods, from their creation to their end.
        gpu_hours: the same times the GPUs of a pod.
        ups, downs: changes.
        flaps: changes in the other direction within ten minutes.
    """

    requests: float
    served: float
    left: float
    missed: float
    refused: float
    lost: float
    wait_ms: float
    worst_wait_ms: float
    mean_replicas: float
    most_replicas: int
    pod_hours: float
    gpu_hours: float
    ups: int
    downs: int
    flaps: int

    @property
    def miss_share(self) -> float:
        """Missed by all."""
        return self.missed / self.requests if self.requests else 0.0


@dataclass(frozen=True)
class Result:
    """A simulation."""

    trace: Trace
    scaler: Scaler
    settings: Settings
    steps: tuple[Step, ...]
    summary: Summary
    changes: tuple[tuple[float, int, int], ...]

    @property
    def holds(self) -> bool:
        """Whether no more requests than the objective allows took too long."""
        return self.summary.miss_share <= self.settings.objective.misses

    def to_json(self, *, steps: bool = True) -> dict[str, Any]:
        """All of it; times in s from the beginning."""
        value = {
            "autoscaler": self.scaler.name,
            "min_replicas": self.scaler.minimum,
            "max_replicas": self.scaler.maximum,
            "metrics": [asdict(metric) for metric in self.scaler.metrics],
            "holds": self.holds,
            "miss_share": self.summary.miss_share,
            **asdict(self.summary),
        }
        if steps:
            value["changes"] = [{"time_s": time, "before": one, "after": two} for time, one, two in self.changes]
            value["steps"] = [asdict(step) for step in self.steps]
        return value

    def to_csv(self) -> str:
        """The steps, a line each."""
        out = io.StringIO()
        names = [field.name for field in fields(Step)]
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([f"{value:.6g}" for value in (getattr(step, name) for name in names)] for step in self.steps)
        return out.getvalue()


def flaps_of(changes: tuple[tuple[float, int, int], ...]) -> int:
    """Changes that take back, at least in part, what the one before them did less than ten minutes ago."""
    return sum(
        (after - before) * (new - old) < 0 and later - time <= _FLAP_S
        for (time, before, after), (later, old, new) in itertools.pairwise(changes)
    )
