# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a simulation is made from."""

from __future__ import annotations

from dataclasses import dataclass, field

from trtkit.deploy.cron import CronWindow
from trtkit.deploy.simulation.behavior import Behavior, default_behavior

METRICS = ("pending", "queue", "rps", "gpu", "cpu")
UNITS = {"pending": "requests", "queue": "ms", "rps": "requests/s", "gpu": "%", "cpu": "%", "queue_us_chart": "µs"}
NVIDIA_TARGET_US = 50.0
"""Of the HPA in the server repository's deploy/k8s-onprem chart: mean queue time of a pod."""


@dataclass(frozen=True)
class Pod:
    """What one pod does.

    Attributes:
        capacity: requests per second, at most.
        service_s: what a request takes without waiting, s.
        slots: requests that are served at the same time; capacity x service, rounded.
        batch_delay_s: what the dynamic batcher waits for company, s; the server counts it as queue time.
        gpus: of a pod; 0 on a CPU target.
    """

    capacity: float
    service_s: float
    slots: int
    batch_delay_s: float = 0.0
    gpus: int = 1


@dataclass(frozen=True)
class Lifecycle:
    """What a pod needs to start and to stop, s.

    Attributes:
        node_s: until a new node is there; only for pods beyond `room`.
        pull_s: for the image; where nodes take time, only on the new ones.
        load_s: until the server is ready: no port is open before.
        probe_s: until the probe has seen it.
        pre_stop_s: in which a stopping pod still gets nothing new but goes on.
        grace_s: after which it is killed.
        room: pods that fit on the nodes there are.
    """

    node_s: float = 0.0
    pull_s: float = 0.0
    load_s: float = 30.0
    probe_s: float = 5.0
    pre_stop_s: float = 15.0
    grace_s: float = 90.0
    room: int = 1_000_000


@dataclass(frozen=True)
class Metric:
    """One metric that an autoscaler looks at.

    Attributes:
        kind: of `METRICS`, or queue_us_chart (NVIDIA's chart, with its query).
        target: for each pod, in `UNITS`.
        source: pods (prometheus-adapter, AverageValue of the pods), per_pod (external, AverageValue) or whole
            (external, Value).
        window_s: of the query's rate, s.
    """

    kind: str
    target: float
    source: str = "pods"
    window_s: float = 60.0

    @property
    def text(self) -> str:
        """E.g. ``pending 8 requests``."""
        name = "queue" if self.kind == "queue_us_chart" else self.kind
        return f"{name} {self.target:.4g} {UNITS[self.kind]}"


@dataclass(frozen=True)
class Fallback:
    """KEDA's, for a metric that cannot be read.

    Attributes:
        failures: after more than so many in a row it asks for `replicas`.
        replicas: how many.
        keeps_more: or for those there are, where they are more (behavior currentReplicasIfHigher).
    """

    failures: int
    replicas: int
    keeps_more: bool = False


@dataclass(frozen=True)
class Keda:
    """What KEDA adds to its HPA.

    Attributes:
        polling_s: between two looks at the triggers, which decide between none and one replica.
        cooldown_s: after the last active trigger, before the last pods go (min 0 only).
        initial_cooldown_s: before that, while no trigger has been active yet.
        cron: hours with more replicas.
        queue_length: of a message queue, for each replica; requests then wait in it where there is no pod.
        null_is_zero: ignoreNullValues of the prometheus trigger.
        fallback: what happens without a metric.
    """

    polling_s: float = 30.0
    cooldown_s: float = 300.0
    initial_cooldown_s: float = 0.0
    cron: tuple[CronWindow, ...] = ()
    queue_length: float | None = None
    null_is_zero: bool = False
    fallback: Fallback | None = None


@dataclass(frozen=True)
class Scaler:
    """An autoscaler.

    Attributes:
        name: for people.
        minimum, maximum: replicas.
        metrics: all of them; the highest proposal counts. () keeps the minimum.
        behavior: of the HPA; None for one without the block, which the controller treats by older rules.
        tolerance: of the ratio of metric and target.
        sync_s: between two decisions (--horizontal-pod-autoscaler-sync-period).
        scrape_s: between two looks of Prometheus at a pod.
        keda: None for a plain HPA.
    """

    name: str
    minimum: int
    maximum: int
    metrics: tuple[Metric, ...] = ()
    behavior: Behavior | None = field(default_factory=default_behavior)
    tolerance: float = 0.1
    sync_s: float = 15.0
    scrape_s: float = 15.0
    keda: Keda | None = None


@dataclass(frozen=True)
class Objective:
    """What is promised.

    Attributes:
        latency_s: of a request, wait and service.
        misses: the share of requests that may take longer.
    """

    latency_s: float
    misses: float = 0.01


@dataclass(frozen=True)
class Outage:
    """A time in which no metric can be read, s from the beginning."""

    begin_s: float
    end_s: float


@dataclass(frozen=True)
class Settings:
    """All of it but the load and the autoscaler.

    Attributes:
        pod: what a pod does.
        lifecycle: how it starts and stops.
        objective: what is promised.
        tick_s: of the simulation.
        seed: of the metrics' sampling noise.
        outage: None for none.
        initial: replicas at the beginning; default: those the first rate needs, at least the minimum.
    """

    pod: Pod
    lifecycle: Lifecycle
    objective: Objective
    tick_s: float = 1.0
    seed: int = 0
    outage: Outage | None = None
    initial: int | None = None
