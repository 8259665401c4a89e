# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Nodes and pods as `kubectl get -o json` prints them: the labels are those that GPU feature discovery (0.17),
NVIDIA's GPU operator, EKS and GKE document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

DRIVER = {
    "nvidia.com/cuda.driver-version.full": "570.86.15", "nvidia.com/cuda.driver-version.major": "570",
    "nvidia.com/cuda.driver-version.minor": "86", "nvidia.com/cuda.driver-version.revision": "15",
    "nvidia.com/cuda.runtime-version.full": "12.8", "nvidia.com/cuda.runtime-version.major": "12",
    "nvidia.com/cuda.runtime-version.minor": "8",
}  # fmt: skip
OLD_DRIVER = {
    "nvidia.com/cuda.driver-version.full": "535.104.05", "nvidia.com/cuda.driver-version.major": "535",
    "nvidia.com/cuda.driver-version.minor": "104", "nvidia.com/cuda.driver-version.revision": "05",
}  # fmt: skip
DEPRECATED_DRIVER = {
    "nvidia.com/cuda.driver.major": "535", "nvidia.com/cuda.driver.minor": "104", "nvidia.com/cuda.driver.rev": "05",
}  # fmt: skip
PRESENT = {
    "nvidia.com/gpu.present": "true", "feature.node.kubernetes.io/pci-10de.present": "true",
    "nvidia.com/mig.capable": "false", "nvidia.com/mig.strategy": "none", "nvidia.com/gpu.mode": "compute",
}  # fmt: skip


def discovered(product: str, memory: int, count: int, capability: str, family: str, **further: str) -> dict[str, str]:
    """What GPU feature discovery puts on a node."""
    major, minor = capability.split(".")
    return {
        **PRESENT, **DRIVER,
        "nvidia.com/gpu.product": product, "nvidia.com/gpu.memory": str(memory), "nvidia.com/gpu.count": str(count),
        "nvidia.com/gpu.replicas": "1", "nvidia.com/gpu.family": family, "nvidia.com/gpu.compute.major": major,
        "nvidia.com/gpu.compute.minor": minor, "nvidia.com/gpu.machine": "AS-4125GS-TNRT",
        "nvidia.com/gpu.sharing-strategy": "none", "nvidia.com/mps.capable": "false",
        **{f"nvidia.com/{key}": value for key, value in further.items()},
    }  # fmt: skip


def node(
    name: str,
    labels: Mapping[str, str] | None = None,
    gpus: Mapping[str, int] | None = None,
    *,
    ready: bool = True,
    cordoned: bool = False,
    taints: tuple[Mapping[str, str], ...] = (),
    allocatable: Mapping[str, int] | None = None,
    version: str = "v1.30.4",
    cpu: str = "31850m",
    memory: str = "126Gi",
) -> dict[str, Any]:
    """A node of 32 cores and 128 GiB, unless said otherwise."""
    resources = {name: str(count) for name, count in (gpus or {}).items()}
    offered = {**resources, **{name: str(count) for name, count in (allocatable or {}).items()}}
    unschedulable = {"unschedulable": True} if cordoned else {}
    own = [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}] if cordoned else []
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": {**unschedulable, "taints": [*taints, *own]},
        "status": {
            "capacity": {"cpu": "32", "memory": "131906824Ki", "pods": "110", **resources},
            "allocatable": {"cpu": cpu, "memory": memory, "pods": "110", **offered},
            "conditions": [
                {"type": "MemoryPressure", "status": "False"},
                {"type": "Ready", "status": "True" if ready else "Unknown"},
            ],
            "nodeInfo": {"kubeletVersion": version, "architecture": "amd64", "operatingSystem": "linux"},
        },
    }


def pod(name: str, on: str, gpus: Mapping[str, int] | None = None, **further: Any) -> dict[str, Any]:
    """A running pod that requests 1 core and 2 GiB, and GPUs by their limits."""
    limits = {"memory": "2Gi", **{name: str(count) for name, count in (gpus or {}).items()}}
    resources = {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": limits}
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": further.get("namespace", "other"), "labels": further.get("labels", {})},
        "spec": {
            "nodeName": on,
            "containers": [{"name": "c", "image": further.get("image", "app:1"), "resources": resources}],
            "initContainers": further.get("starters", []),
        },
        "status": {"phase": further.get("phase", "Running")},
    }


def listed(*items: Mapping[str, Any]) -> str:
    """As kubectl prints several objects."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(items)})


GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
L40S = discovered("NVIDIA-L40S", 46068, 2, "8.9", "ada-lovelace")
A100 = discovered("NVIDIA-A100-SXM4-80GB", 81920, 8, "8.0", "ampere")

L40S_NODE = node("l40s", L40S, {"nvidia.com/gpu": 2}, taints=(GPU_TAINT,))
MIG_MIXED = node(
    "mig-mixed",
    {
        **A100, "nvidia.com/mig.capable": "true", "nvidia.com/mig.strategy": "mixed",
        "nvidia.com/mig.config.state": "success",
    },
    {"nvidia.com/gpu": 0, "nvidia.com/mig-1g.10gb": 7, "nvidia.com/mig-3g.40gb": 2},
)  # fmt: skip
MIG_SINGLE = node(
    "mig-single",
    {
        **discovered("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", 9728, 56, "8.0", "ampere"),
        "nvidia.com/mig.capable": "true", "nvidia.com/mig.strategy": "single",
    },
    {"nvidia.com/gpu": 56},
)  # fmt: skip
TIME_SLICED = node(
    "sliced",
    {
        **discovered("NVIDIA-L40S-SHARED", 46068, 2, "8.9", "ada-lovelace"),
        "nvidia.com/gpu.replicas": "4", "nvidia.com/gpu.sharing-strategy": "time-slicing",
    },
    {"nvidia.com/gpu": 8},
)  # fmt: skip
NO_PLUGIN = node("bare", {"feature.node.kubernetes.io/pci-10de.present": "true"})
OLD = node("old", {**L40S, **OLD_DRIVER}, {"nvidia.com/gpu": 2})
CORDONED = node("cordoned", L40S, {"nvidia.com/gpu": 2}, cordoned=True)
EKS = node(
    "ip-10-0-1-7.ec2.internal",
    {"k8s.amazonaws.com/accelerator": "nvidia-l4", "node.kubernetes.io/instance-type": "g6.12xlarge"},
    version="v1.29.8-eks-a737599",
)  # fmt: skip
GKE = node(
    "gke-pool-1-abc",
    {"cloud.google.com/gke-accelerator": "nvidia-l4", "cloud.google.com/gke-nodepool": "pool-1"},
    {"nvidia.com/gpu": 1}, taints=(GPU_TAINT,), version="v1.31.1-gke.1846000",
)  # fmt: skip
CPU_NODE = node("cpu")
CONTROL_PLANE = node("control", taints=({"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"},))
