# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""One node, read from ``kubectl get nodes -o json``: its GPUs, what NVIDIA's programs and the clouds say about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trtkit.deploy.clusters.values import mapping, mappings, number

GPU_PREFIX = "nvidia.com/"
_DRIVER = (
    "nvidia.com/cuda.driver-version.full",
    tuple(f"nvidia.com/cuda.driver-version.{part}" for part in ("major", "minor", "revision")),
    tuple(f"nvidia.com/cuda.driver.{part}" for part in ("major", "minor", "rev")),
)  # fmt: skip
"""Labels of the driver's version, newest form first; GPU feature discovery has deprecated the last one."""
_HARDWARE = (
    "nvidia.com/gpu.present", "feature.node.kubernetes.io/pci-10de.present",
    "feature.node.kubernetes.io/pci-0302_10de.present", "feature.node.kubernetes.io/pci-0300_10de.present",
)  # fmt: skip
"""Labels with the value true of nodes with a GPU of NVIDIA (PCI vendor 10de), whether or not a plugin offers it."""
_CLOUDS = (
    ("k8s.amazonaws.com/accelerator", "EKS"), ("cloud.google.com/gke-accelerator", "GKE"),
    ("kubernetes.azure.com/accelerator", "AKS"),
)  # fmt: skip


@dataclass(frozen=True)
class Taint:
    """A taint that keeps pods away; those of the effect PreferNoSchedule do not, and are left out."""

    key: str
    value: str
    effect: str

    @property
    def text(self) -> str:
        """As ``kubectl taint`` takes it."""
        return f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"


@dataclass(frozen=True)
class Amount:
    """Of one resource on one node."""

    capacity: float
    allocatable: float


@dataclass(frozen=True)
class Node:
    """A node.

    Attributes:
        ready: whether its kubelet says so.
        cordoned: whether it takes no new pods (``kubectl cordon``).
        taints: those that keep pods away, without the cordon's own.
        gpus: GPU resources by name, e.g. ``nvidia.com/gpu`` and ``nvidia.com/mig-1g.10gb``.
        cpu, memory: in cores and bytes.
        version: of the kubelet, e.g. ``v1.30.4-gke.1``.
    """

    name: str
    ready: bool
    cordoned: bool
    taints: tuple[Taint, ...]
    labels: Mapping[str, str]
    gpus: Mapping[str, Amount]
    cpu: Amount
    memory: Amount
    version: str

    @property
    def usable(self) -> bool:
        """Whether pods may be scheduled on it, taints aside."""
        return self.ready and not self.cordoned

    @property
    def has_gpu(self) -> bool:
        """Whether a GPU is built in, as far as resources and labels tell."""
        offered = any(amount.capacity for amount in self.gpus.values())
        return offered or self.cloud is not None or any(self.labels.get(label) == "true" for label in _HARDWARE)

    @property
    def cloud(self) -> str | None:
        """EKS, GKE or AKS, where a label of theirs says that the node has a GPU."""
        return next((cloud for label, cloud in _CLOUDS if self.labels.get(label)), None)

    @property
    def product(self) -> str | None:
        """GPU feature discovery's name of the GPU; it ends in -SHARED where pods share one, and in a MIG profile."""
        return self.labels.get("nvidia.com/gpu.product")

    @property
    def gpu_memory_mib(self) -> int | None:
        """Of one GPU, or of one slice with the MIG strategy `single`."""
        return _integer(self.labels.get("nvidia.com/gpu.memory"))

    @property
    def driver(self) -> str | None:
        """The NVIDIA driver's version, e.g. ``570.86.15``."""
        for form in _DRIVER:
            names = (form,) if isinstance(form, str) else form
            values = [self.labels[name] for name in names if self.labels.get(name)]
            if values:
                return ".".join(values)
        return None

    @property
    def replicas(self) -> int:
        """How many pods share one GPU; 1 where none do."""
        return _integer(self.labels.get("nvidia.com/gpu.replicas")) or 1

    @property
    def sharing(self) -> str | None:
        """``time-slicing`` or ``mps`` where pods share a GPU; older discovery only tells that they do."""
        named = self.labels.get("nvidia.com/gpu.sharing-strategy")
        if named and named != "none":
            return named
        shared = self.replicas > 1 or "nvidia.com/gpu.shared" in self.gpus or (self.product or "").endswith("-SHARED")
        return "time-slicing" if shared else None

    @property
    def mig_strategy(self) -> str | None:
        """``single`` or ``mixed``; None where GPUs are not sliced."""
        strategy = self.labels.get("nvidia.com/mig.strategy")
        return strategy if strategy in ("single", "mixed") else None

    @property
    def mig_state(self) -> str | None:
        """Of the operator's MIG manager: success, pending, rebooting or failed."""
        return self.labels.get("nvidia.com/mig.config.state")

    @property
    def compute_capability(self) -> str | None:
        """E.g. ``8.9``."""
        major, minor = (self.labels.get(f"nvidia.com/gpu.compute.{part}") for part in ("major", "minor"))
        return f"{major}.{minor or 0}" if major else None


def read_node(value: Mapping[str, Any]) -> Node:
    """A node of the API (v1 Node); fields that are absent or of another type count as not there."""
    metadata, spec, status = (mapping(value.get(key)) for key in ("metadata", "spec", "status"))
    capacity, allocatable = mapping(status.get("capacity")), mapping(status.get("allocatable"))
    conditions = {c.get("type"): c.get("status") for c in mappings(status.get("conditions"))}
    names = sorted({name for name in {*capacity, *allocatable} if _is_gpu(name)})
    return Node(
        name=str(metadata.get("name", "?")),
        ready=conditions.get("Ready") == "True",
        cordoned=spec.get("unschedulable") is True,
        taints=tuple(taint for t in mappings(spec.get("taints")) if (taint := _taint(t))),
        labels={str(key): str(label) for key, label in mapping(metadata.get("labels")).items()},
        gpus={name: _amount(name, capacity, allocatable) for name in names},
        cpu=_amount("cpu", capacity, allocatable),
        memory=_amount("memory", capacity, allocatable),
        version=str(mapping(status.get("nodeInfo")).get("kubeletVersion", "")),
    )


def _is_gpu(name: str) -> bool:
    return name.startswith((f"{GPU_PREFIX}gpu", f"{GPU_PREFIX}mig-"))


def _amount(name: str, capacity: Mapping[str, Any], allocatable: Mapping[str, Any]) -> Amount:
    whole = number(capacity.get(name))
    return Amount(whole, number(allocatable.get(name, whole)))


def _taint(value: Mapping[str, Any]) -> Taint | None:
    """None for the cordon's own, which `cordoned` says, and for those that only ask."""
    key, effect = str(value.get("key", "")), str(value.get("effect", ""))
    if effect not in ("NoSchedule", "NoExecute") or key.startswith("node.kubernetes.io/"):
        return None
    return Taint(key, str(value.get("value") or ""), effect)


def _integer(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None
