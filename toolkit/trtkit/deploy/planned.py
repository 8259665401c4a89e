# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What follows from the repository, the target and the measurements: the one source of every rendered file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from trtkit.config import ModelConfig
from trtkit.deploy.figure import Figure, Origin
from trtkit.deploy.releases import has_field, has_metric
from trtkit.project import Deploy, Target

HTTP_PORT, GRPC_PORT, METRICS_PORT = 8000, 8001, 8002
MODELS_PATH = "/models"
"""Where the repository lies in the container, unless it is a bucket."""
UID = 1000
"""The user triton-server of NVIDIA's images, and its group."""


@dataclass(frozen=True)
class ServedModel:
    """A model of the repository, as far as serving it depends on it.

    Attributes:
        name: of its folder.
        config: as it is served.
        backend: Triton's name of it, e.g. ``onnxruntime``; ``ensemble`` for one.
        versions: the version numbers that the version policy serves.
        weight_bytes: of the files of those versions.
        instances: all instances on one server, over the GPUs of a pod and the versions.
        steps: an ensemble's models, and those a routing part calls; () for others.
    """

    name: str
    config: ModelConfig
    backend: str
    versions: tuple[int, ...]
    weight_bytes: int
    instances: int
    steps: tuple[str, ...] = ()

    @property
    def decoupled(self) -> bool:
        """Whether a request may have several responses."""
        return bool(self.config.model_transaction_policy.decoupled)

    @property
    def sequences(self) -> bool:
        """Whether requests of a sequence have to reach the same server."""
        return bool(self.config.HasField("sequence_batching"))

    @property
    def cached(self) -> bool:
        """Whether its answers are kept in the response cache."""
        return bool(self.config.response_cache.enable)

    @property
    def python(self) -> bool:
        """Whether it runs in processes of the Python backend, which share memory with the server."""
        return self.backend == "python"


@dataclass(frozen=True)
class Memory:
    """What one pod needs.

    Attributes:
        gpu: of the GPUs together, MiB; None on a CPU target.
        host: requested and limited, MiB; /dev/shm is part of it.
        shm: of /dev/shm, MiB.
        temporary: of /tmp, MiB; remote repositories are copied there.
        cpu: cores, as a quantity.
        parts: what `gpu` and `host` are made of, by name, MiB: ``gpu weights``, ``gpu context``, ``host pinned pool``.
        computed_shm: what `shm` is where the block does not declare it, MiB.
    """

    gpu: Figure | None
    host: Figure
    shm: Figure
    temporary: Figure
    cpu: Figure
    parts: dict[str, Figure]
    computed_shm: int = 0


@dataclass(frozen=True)
class GpuPlan:
    """Which GPUs a pod gets.

    Attributes:
        resource: in ``limits``, e.g. ``nvidia.com/gpu`` or ``nvidia.com/mig-1g.10gb``.
        count: how many of it, for each pod.
        product: the node label nvidia.com/gpu.product; None for any.
        memory: of one GPU or slice, MiB; None where the product is not known.
        pods_per_gpu: how many pods fit on one GPU (or slice) with what they need; 1 unless it is shared.
        driver: the oldest driver for the image, e.g. ``570.86``; None where it is not known.
        min_node_memory: what the label nvidia.com/gpu.memory has to be greater than, MiB; None for a named product.
    """

    resource: str
    count: int
    product: str | None
    memory: Figure | None
    pods_per_gpu: Figure
    driver: str | None
    min_node_memory: Figure | None


@dataclass(frozen=True)
class Startup:
    """From the container's start to the first answer.

    Attributes:
        load: loading all models, s.
        budget: how long the startup probe waits before the container is restarted, s.
        period: between two probes, s.
        failures: how many may fail: ``failures x period >= budget``.
    """

    load: Figure
    budget: Figure
    period: int
    failures: int


@dataclass(frozen=True)
class Drain:
    """From the decision to stop a pod to its end, s.

    Attributes:
        pre_stop: the wait before SIGTERM, in which the endpoints spread.
        exit_timeout: tritonserver's, for requests in flight.
        grace: terminationGracePeriodSeconds: ``pre_stop + exit_timeout + margin``.
        idle_timeout: after which a proxy closes idle connections; shorter than `exit_timeout`, which they would use up.
        unload: of the models, after the last request and within `exit_timeout`.
    """

    pre_stop: Figure
    exit_timeout: Figure
    grace: Figure
    idle_timeout: Figure
    unload: Figure


@dataclass(frozen=True)
class RolloutPlan:
    """How pods are replaced; see apps/v1 DeploymentStrategy."""

    max_surge: Figure
    max_unavailable: Figure
    min_ready_seconds: Figure
    progress_deadline: Figure


@dataclass(frozen=True)
class ScalingPlan:
    """How many pods there are.

    Attributes:
        kind: none, hpa or keda.
        replicas: the smallest number, and the only one without scaling.
        max_replicas: the largest.
        metric: pending, queue, rps, gpu or cpu.
        metric_why: why that one.
        counted: the models whose requests rps counts; see `called_models`. () for all.
        target: of the metric for each pod: requests, ms, requests per second, percent, percent.
        capacity: requests per second of one pod within the objective; None where nothing was measured.
        up_seconds, down_seconds: stabilization windows.
        up_percent, up_period: at most so many pods, of those there are, come in so many seconds.
        down_percent, down_period: at most so many go.
    """

    kind: str
    replicas: Figure
    max_replicas: int
    metric: str
    metric_why: str
    counted: tuple[str, ...]
    target: Figure
    capacity: Figure | None
    up_seconds: Figure
    up_percent: Figure
    up_period: Figure
    down_seconds: Figure
    down_percent: Figure
    down_period: Figure


@dataclass(frozen=True)
class Objective:
    """What is promised for one model, with the environment's defaults filled in; None where nothing is."""

    model: str
    latency_p99_ms: float | None
    queue_ms: float | None
    error_ratio: float | None


@dataclass(frozen=True)
class Plan:
    """Everything that renderers need, and where it comes from.

    Attributes:
        name: of the objects.
        environment: '' for the block itself.
        spec: the ``deploy:`` block as this environment has it.
        target_name, target: where the models run.
        image: the tritonserver image that pods run, or that the rendered Dockerfile starts from.
        release: its NGC release, e.g. ``25.01``.
        models: those that are served, by name.
        digest: SHA-256 over the served models' files in the repository, as 64 hexadecimal digits.
        flags: tritonserver's options, without the repository and the ports, each with the reason it is there.
        warnings: sentences that a reader should know.
    """

    name: str
    environment: str
    spec: Deploy
    target_name: str
    target: Target
    image: str
    release: str
    models: tuple[ServedModel, ...]
    digest: str
    memory: Memory
    gpu: GpuPlan | None
    startup: Startup
    drain: Drain
    rollout: RolloutPlan
    scaling: ScalingPlan
    objectives: tuple[Objective, ...]
    flags: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...] = field(default=())

    @property
    def on_gpu(self) -> bool:
        """Whether pods have a GPU."""
        return self.gpu is not None

    @property
    def namespace(self) -> str:
        """Of the objects."""
        return self.spec.namespace

    @property
    def kube_version(self) -> str:
        """Of the cluster, e.g. ``1.30``."""
        return self.spec.kube_version

    @property
    def served_image(self) -> str:
        """What pods run: the image of our own where the repository is baked into it, else the server's."""
        return f"{self.spec.registry}:{self.digest[:12]}" if self.baked and self.spec.registry else self.image

    @property
    def baked(self) -> bool:
        """Whether the repository is part of the image."""
        return self.spec.storage.kind == "baked"

    @property
    def repository_uri(self) -> str:
        """What ``--model-repository`` is given."""
        return self.spec.storage.uri or MODELS_PATH

    @property
    def backends(self) -> tuple[str, ...]:
        """The backends the repository needs, sorted; ensembles need none."""
        return tuple(sorted({model.backend for model in self.models} - {"ensemble"}))

    @property
    def has_sequences(self) -> bool:
        """Whether a model needs all requests of a sequence on the same server."""
        return any(model.sequences for model in self.models)

    @property
    def has_cache(self) -> bool:
        """Whether a model's answers are kept in the response cache."""
        return any(model.cached for model in self.models)

    def server_has_metric(self, metric: str) -> bool:
        """Whether the server has a metric."""
        return has_metric(self.release, metric)

    def cluster_has(self, field_name: str) -> bool:
        """Whether the cluster knows a field of `releases.KUBERNETES`."""
        return has_field(self.kube_version, field_name)

    @property
    def arguments(self) -> list[str]:
        """The whole command line of tritonserver, the repository and the ports included; for a container."""
        return [
            "tritonserver",
            f"--model-repository={self.repository_uri}",
            f"--http-port={HTTP_PORT}",
            f"--grpc-port={GRPC_PORT}",
            f"--metrics-port={METRICS_PORT}",
            *(flag for flag, _ in self.flags),
        ]

    def figures(self) -> Iterator[tuple[str, str, Figure]]:
        """Every figure: its group, its name, itself."""
        groups: dict[str, Any] = {
            "memory": self.memory, "GPU": self.gpu, "start": self.startup, "drain": self.drain,
            "rollout": self.rollout, "scaling": self.scaling,
        }  # fmt: skip
        for group, value in groups.items():
            if group == "scaling":
                origin: Origin = "declared" if self.spec.scaling.metric else "preset"
                yield group, "metric", Figure(self.scaling.metric, "", self.scaling.metric_why, origin)
            for name, item in vars(value).items() if value is not None else ():
                if isinstance(item, Figure):
                    yield group, name.replace("_", " "), item
        for name, item in self.memory.parts.items():
            yield "memory parts", name, item
