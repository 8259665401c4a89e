# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What `trtkit doctor cluster` says: the nodes, what is wrong, whether the plan fits, what the project file can say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from trtkit.deploy.clusters import hints
from trtkit.deploy.clusters.findings import Finding, Severity, examine_nodes
from trtkit.deploy.clusters.fit import Place, driver_floor, places
from trtkit.deploy.clusters.node import Node
from trtkit.deploy.clusters.read import Seen
from trtkit.deploy.planned import Plan
from trtkit.images import image_facts, parse_version

OLDEST_KUBERNETES = "1.25"
"""The oldest version that anything is rendered for."""
_ORDER = {"error": 0, "warning": 1, "advice": 2}


@dataclass(frozen=True)
class ClusterReport:
    """What was found.

    Attributes:
        seen: the cluster.
        findings: errors first.
        plan: what is to run there; None where there was no project with a built repository.
        places: every node with how many of the plan's pods fit on it; () without a plan.
        block: values for ``deploy.cluster`` and its neighbours in the project file.
    """

    seen: Seen
    findings: tuple[Finding, ...]
    plan: Plan | None
    places: tuple[Place, ...]
    block: dict[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether nothing keeps what was asked for from working."""
        return not any(finding.severity == "error" for finding in self.findings)

    @property
    def pods(self) -> int:
        """How many of the plan's fit on all nodes together."""
        return sum(place.pods for place in self.places)

    def to_json(self) -> dict[str, Any]:
        """As in ``trtkit doctor cluster --json``."""
        return {
            "holds": self.holds,
            "nodes": [_node_json(node) for node in self.seen.nodes],
            "findings": [finding.to_json() for finding in self.findings],
            "fit": None if self.plan is None else {"pods": self.pods, "nodes": [p.to_json() for p in self.places]},
            "deploy": self.block,
        }


def examine_cluster(seen: Seen, plan: Plan | None = None, image: str | None = None) -> ClusterReport:
    """Everything that can be said about a cluster.

    Args:
        seen: its nodes, and its pods where they are known.
        plan: what is to run there.
        image: the tritonserver image whose driver floor counts where there is no plan.
    """
    found = examine_nodes(seen)
    found += _versions(seen, plan)
    fitting = places(seen, plan) if plan else []
    found += _fit(plan, fitting) if plan else _drivers(seen, image)
    found.sort(key=lambda finding: _ORDER[finding.severity])
    return ClusterReport(seen, tuple(found), plan, tuple(fitting), _block(seen, plan, fitting))


def lowest_version(seen: Seen) -> str | None:
    """The oldest kubelet's, as ``1.30``."""
    numbers = [parse_version(node.version.lstrip("v"))[:2] for node in seen.nodes if node.version]
    return ".".join(map(str, min(numbers))) if numbers and all(len(n) == 2 for n in numbers) else None


def _versions(seen: Seen, plan: Plan | None) -> Iterator[Finding]:
    lowest = lowest_version(seen)
    if lowest is None:
        return
    if parse_version(lowest) < parse_version(OLDEST_KUBERNETES):
        yield Finding("error", (), f"Kubernetes {lowest} is older than {OLDEST_KUBERNETES}; upgrade the cluster")
    if plan and parse_version(plan.kube_version) > parse_version(lowest):
        yield Finding(
            "error", (), f"manifests are rendered for Kubernetes {plan.kube_version}, and the oldest node has {lowest}",
            f'set `deploy: {{kube_version: "{lowest}"}}`',
        )  # fmt: skip


def _drivers(seen: Seen, image: str | None) -> Iterator[Finding]:
    """Nodes whose driver is too old for an image; where only a table without documents says so, it is a warning."""
    facts = image_facts(image) if image else None
    floor = facts.driver if facts else None
    if floor is None:
        return
    old = [n for n in seen.nodes if n.driver and parse_version(n.driver) < parse_version(floor)]
    for version, names in _by(old, lambda node: str(node.driver)).items():
        severity: Severity = "error" if driver_floor(image or "") else "warning"
        yield Finding(
            severity, names, f"driver {version} is older than {floor}, which {image} needs",
            "update the driver, or take an older image; data-centre GPUs may do with the image's cuda-compat package",
        )  # fmt: skip


def _fit(plan: Plan, found: Sequence[Place]) -> Iterator[Finding]:
    needed, most = plan.scaling.replicas.whole, plan.scaling.max_replicas
    wanted = max(1, needed)
    room = sum(place.pods for place in found)
    one = _one_pod(plan)
    if room < wanted:
        yield Finding(
            "error", (), f"{wanted} pods are needed and {room} fit; one takes {one}. {_why(found)}", _help(plan)
        )
        return
    if plan.scaling.kind != "none" and room < most:
        yield Finding("warning", (), f"scaling up to {most} pods needs more nodes: {room} fit; one takes {one}")
    surge = plan.rollout.max_surge.whole
    if surge and room < needed + surge:
        yield Finding(
            "error", (), f"a rollout needs {needed} + {surge} pods at once and {room} fit: it would never end",
            "set `deploy: {rollout: {max_surge: 0, max_unavailable: 1}}`, or free a GPU",
        )  # fmt: skip


def _one_pod(plan: Plan) -> str:
    gpu = f"{plan.gpu.count} {plan.gpu.resource}, " if plan.gpu else ""
    return f"{gpu}{plan.memory.host.text} of memory, {plan.memory.cpu.value} CPU"


def _why(found: Sequence[Place]) -> str:
    """The reasons of the nodes that no pod fits on, the most frequent first."""
    on_gpus = any(place.bound.startswith("nvidia.com/") for place in found)
    with_gpu = [place for place in found if place.node.has_gpu and on_gpus]
    full = [place for place in with_gpu or found if not place.pods]
    reasons = Counter(place.barred or f"not enough free {place.bound}" for place in full)
    told = [f"{reason} ({count} {'node' if count == 1 else 'nodes'})" for reason, count in reasons.most_common(4)]
    return "; ".join(told)


def _help(plan: Plan) -> str:
    spec = plan.spec.gpu
    if spec.mig:
        return f"with NVIDIA's GPU operator: {hints.mig(spec.mig)}"
    if spec.time_slicing:
        return "apply the device plugin's configuration that `trtkit deploy k8s` renders, and label the nodes with it"
    return ""


def _block(seen: Seen, plan: Plan | None, found: Sequence[Place]) -> dict[str, Any]:
    """What the project file's ``deploy:`` block can say of this cluster."""
    block: dict[str, Any] = {"kube_version": lowest_version(seen)} if lowest_version(seen) else {}
    ours = [place for place in found if not place.barred]
    nodes = [place.node for place in ours] if plan else [node for node in seen.nodes if node.usable and node.gpus]
    if not nodes:
        return block
    cluster: dict[str, Any] = {"nodes": len(nodes)}
    resource = plan.gpu.resource if plan and plan.gpu else None if plan else "nvidia.com/gpu"
    counts = [int(node.gpus[resource].allocatable) for node in nodes if resource in node.gpus] if resource else []
    if counts:
        cluster["gpus_per_node"] = min(counts)
    if plan and plan.gpu and seen.pods is not None:
        cluster["free_gpus"] = sum(place.free_gpus for place in ours)
    cluster["node_memory"] = f"{int(min(node.memory.allocatable for node in nodes)) // 2**30}Gi"
    return {**block, **_gpu_block(nodes), "cluster": cluster}


def _gpu_block(nodes: Sequence[Node]) -> dict[str, Any]:
    products = {node.product for node in nodes}
    memory = {node.gpu_memory_mib for node in nodes}
    if len(products) != 1 or None in products:
        return {}
    known = {"memory_mib": memory.pop()} if len(memory) == 1 and None not in memory else {}
    return {"gpu": {"product": products.pop(), **known}}


def _by(nodes: Sequence[Node], key: Any) -> dict[str, tuple[str, ...]]:
    groups: dict[str, list[str]] = {}
    for node in nodes:
        groups.setdefault(key(node), []).append(node.name)
    return {name: tuple(of_group) for name, of_group in groups.items()}


def _node_json(node: Node) -> dict[str, Any]:
    return {
        "name": node.name, "ready": node.ready, "cordoned": node.cordoned, "version": node.version,
        "product": node.product, "gpu_memory_mib": node.gpu_memory_mib, "driver": node.driver,
        "compute_capability": node.compute_capability, "mig_strategy": node.mig_strategy, "sharing": node.sharing,
        "gpus": {k: {"capacity": a.capacity, "allocatable": a.allocatable} for k, a in node.gpus.items()},
        "taints": [taint.text for taint in node.taints],
        "cpu": node.cpu.allocatable, "memory_bytes": node.memory.allocatable,
    }  # fmt: skip
