# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Whether a plan's pods fit on the nodes of a cluster, and what keeps them from those that they do not fit on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trtkit.deploy.clusters.findings import untolerated
from trtkit.deploy.clusters.node import Node
from trtkit.deploy.clusters.pods import Pod, held
from trtkit.deploy.clusters.read import Seen
from trtkit.deploy.clusters.values import number
from trtkit.deploy.kubernetes.meta import selector
from trtkit.deploy.kubernetes.placement import DRIVER_MAJOR
from trtkit.deploy.planned import Plan
from trtkit.images import image_facts, parse_version


@dataclass(frozen=True)
class Place:
    """What one node offers a plan.

    Attributes:
        node: the node.
        barred: why pods may not run there; '' where they may.
        free_gpus: of the plan's resource, that no other pod holds; 0 on a CPU target.
        pods: how many of the plan's fit.
        bound: what runs out first: the GPU's resource, ``memory`` or ``cpu``.
    """

    node: Node
    barred: str
    free_gpus: int
    pods: int
    bound: str

    def to_json(self) -> dict[str, Any]:
        """As in ``trtkit doctor cluster --json``."""
        return {
            "node": self.node.name, "fits": self.pods, "free_gpus": self.free_gpus,
            "why_not": self.barred or (f"not enough free {self.bound}" if not self.pods else ""),
        }  # fmt: skip


def places(seen: Seen, plan: Plan) -> list[Place]:
    """Every node, with how many pods of the plan fit on it.

    Args:
        seen: the cluster; where its pods are not known, everything counts as free.
        plan: its own running pods count as gone, since its new ones take their place.
    """
    taken = held(seen.pods or (), lambda pod: not _is_ours(pod, plan))
    return [_place(node, taken.get(node.name, {}), plan) for node in seen.nodes]


def driver_floor(image: str) -> str | None:
    """The oldest driver for an image, where a document says so."""
    facts = image_facts(image)
    return facts.sure("driver") if facts else None


def _place(node: Node, taken: Mapping[str, float], plan: Plan) -> Place:
    barred = _barred(node, plan)
    needs = _needs(plan)
    free = {name: _allocatable(node, name) - taken.get(name, 0) for name in needs}
    rooms = {name: int(max(0.0, free[name]) // amount) for name, amount in needs.items()}
    bound = min(rooms, key=lambda name: rooms[name])
    gpus = int(max(0.0, free[plan.gpu.resource])) if plan.gpu else 0
    return Place(node, barred, gpus, 0 if barred else rooms[bound], bound)


def _needs(plan: Plan) -> dict[str, float]:
    """Of one pod: GPUs, bytes, cores."""
    gpu = {plan.gpu.resource: float(plan.gpu.count)} if plan.gpu else {}
    return {**gpu, "memory": float(plan.memory.host.value) * 2**20, "cpu": max(number(plan.memory.cpu.value), 0.001)}


def _allocatable(node: Node, resource: str) -> float:
    if resource in ("cpu", "memory"):
        return (node.cpu if resource == "cpu" else node.memory).allocatable
    return node.gpus[resource].allocatable if resource in node.gpus else 0.0


def _is_ours(pod: Pod, plan: Plan) -> bool:
    return pod.namespace == plan.namespace and selector(plan).items() <= pod.labels.items()


def _barred(node: Node, plan: Plan) -> str:
    """Why a plan's pods may not run on a node: its state, its taints, its labels, its GPU."""
    if not node.ready:
        return "not Ready"
    if node.cordoned:
        return "cordoned"
    if untolerated(node):
        return f"tainted with {', '.join(untolerated(node))}"
    wrong = [f"{k}={v}" for k, v in plan.spec.cluster.node_selector.items() if node.labels.get(k) != v]
    if wrong:
        return f"without the label {', '.join(wrong)}"
    return _barred_by_gpu(node, plan) if plan.gpu else ""


def _barred_by_gpu(node: Node, plan: Plan) -> str:
    gpu = plan.gpu
    assert gpu is not None
    if not _allocatable(node, gpu.resource):
        others = ", ".join(name for name, amount in node.gpus.items() if amount.allocatable)
        return f"offers no {gpu.resource}" + (f", but {others}" if others else "")
    if gpu.product and node.product != gpu.product:
        return f"its label nvidia.com/gpu.product is {node.product or 'absent'}, wanted {gpu.product}"
    return _old_driver(node, plan) or _small_gpu(node, plan) or _other_capability(node, plan)


def _old_driver(node: Node, plan: Plan) -> str:
    gpu = plan.gpu
    assert gpu is not None
    if gpu.driver and DRIVER_MAJOR not in node.labels:
        return f"without the label {DRIVER_MAJOR}, which the pods' affinity asks for"
    floor = gpu.driver or driver_floor(plan.image)
    if floor and node.driver and parse_version(node.driver) < parse_version(floor):
        return f"its driver {node.driver} is older than {floor}, which {plan.image} needs"
    return ""


def _small_gpu(node: Node, plan: Plan) -> str:
    least = plan.gpu.min_node_memory if plan.gpu else None
    if least is None:
        return ""
    if node.gpu_memory_mib is None:
        return "without the label nvidia.com/gpu.memory, which the pods' affinity asks for"
    if node.gpu_memory_mib <= float(least.value):
        return f"its GPU has {node.gpu_memory_mib} MiB, wanted more than {least.text}"
    return ""


def _other_capability(node: Node, plan: Plan) -> str:
    """TensorRT's plans run on the GPUs they were built for, and on no others."""
    wanted, has = plan.target.compute_capabilities, node.compute_capability
    if plan.target.backend == "tensorrt" and wanted and has and has not in wanted:
        return f"its compute capability is {has}, and the plans are for {', '.join(wanted)}"
    return ""
