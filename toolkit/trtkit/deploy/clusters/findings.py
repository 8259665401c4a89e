# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What is missing or wrong on the nodes of a cluster, whatever is to run there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trtkit.deploy.clusters import hints
from trtkit.deploy.clusters.node import Node
from trtkit.deploy.clusters.read import Seen

Severity = Literal["error", "warning", "advice"]
TOLERATED = ("nvidia.com/gpu", "NoSchedule")
"""Key and effect of the taints that the rendered pods tolerate."""


@dataclass(frozen=True)
class Finding:
    """Something about a cluster.

    Attributes:
        severity: an error keeps what was asked for from working.
        nodes: those it is about; () for the cluster.
        message: what is wrong, with the figures.
        fix: what to do, often a command line; '' where nothing is to be done.
    """

    severity: Severity
    nodes: tuple[str, ...]
    message: str
    fix: str = ""

    def to_json(self) -> dict[str, Any]:
        """As in ``trtkit doctor cluster --json``."""
        return {"severity": self.severity, "nodes": list(self.nodes), "message": self.message, "fix": self.fix}


def examine_nodes(seen: Seen) -> list[Finding]:
    """What can be said without knowing what is to run."""
    if not seen.nodes:
        return [Finding("error", (), "the cluster has no nodes")]
    return [finding for check in _CHECKS for finding in check(seen)]


def untolerated(node: Node) -> tuple[str, ...]:
    """The taints of a node that keep the rendered pods away."""
    return tuple(taint.text for taint in node.taints if (taint.key, taint.effect) != TOLERATED)


def grouped(
    nodes: Sequence[Node], severity: Severity, message: Callable[[Node], str | None], fix: Callable[[Node], str]
) -> Iterator[Finding]:
    """One finding for all nodes of which the same is to be said.

    Args:
        nodes: to look at.
        severity: of the findings.
        message: of a node; None where there is nothing to say.
        fix: for a node; NODE in it becomes the node's name, where the finding is about one only.
    """
    by_text: dict[tuple[str, str], list[str]] = {}
    for node in nodes:
        text = message(node)
        if text is not None:
            by_text.setdefault((text, fix(node)), []).append(node.name)
    for (text, what), names in by_text.items():
        yield Finding(severity, tuple(names), text, what.replace("NODE", names[0]) if len(names) == 1 else what)


def _states(seen: Seen) -> Iterator[Finding]:
    yield from grouped(
        seen.nodes, "warning", lambda n: None if n.ready else "not Ready", lambda n: "kubectl describe node NODE"
    )
    yield from grouped(
        seen.nodes, "warning", lambda n: "cordoned: takes no new pods" if n.cordoned else None,
        lambda n: "kubectl uncordon NODE   # when its maintenance is over",
    )  # fmt: skip


def _plugin(seen: Seen) -> Iterator[Finding]:
    """A GPU that no plugin offers, or that the plugin has found unhealthy."""
    with_gpu = [node for node in seen.nodes if node.has_gpu and node.ready]
    yield from grouped(
        [node for node in with_gpu if not any(amount.capacity for amount in node.gpus.values())], "error",
        lambda n: "a GPU is built in, and none is offered: NVIDIA's device plugin does not run here, or has no driver",
        lambda n: hints.PLUGIN_OF_CLOUD.get(n.cloud or "", hints.DEVICE_PLUGIN),
    )  # fmt: skip
    yield from grouped(
        with_gpu, "error", _unhealthy, lambda n: "kubectl logs of the device plugin on that node; look for XID errors"
    )


def _unhealthy(node: Node) -> str | None:
    bad = [(name, a) for name, a in node.gpus.items() if a.allocatable < a.capacity]
    parts = [f"{a.capacity - a.allocatable:.0f} of {a.capacity:.0f} {name} unhealthy" for name, a in bad]
    return ", ".join(parts) or None


def _discovery(seen: Seen) -> Iterator[Finding]:
    """Labels that GPU feature discovery should have put on."""
    offered = [node for node in seen.nodes if any(amount.allocatable for amount in node.gpus.values())]
    yield from grouped(
        offered, "warning",
        lambda n: "GPU feature discovery does not run: no label nvidia.com/gpu.product, which affinity chooses by"
        if n.product is None else None,
        lambda n: hints.LABELS_OF_CLOUD.get(n.cloud or "", hints.DEVICE_PLUGIN),
    )  # fmt: skip
    yield from grouped(
        [node for node in offered if node.product is not None], "warning",
        lambda n: "the driver's version is not on a label (nvidia.com/cuda.driver-version.*)"
        if n.driver is None else None,
        lambda n: "update GPU feature discovery: " + hints.DEVICE_PLUGIN,
    )  # fmt: skip


def _sharing(seen: Seen) -> Iterator[Finding]:
    yield from grouped(
        [node for node in seen.nodes if node.sharing], "warning",
        lambda n: f"{n.replicas} pods share each GPU by {n.sharing}: its memory is not divided between them, and "
        "utilization is that of all of them",
        lambda n: "where pods need a GPU of their own, choose other nodes, or take the sharing out of the plugin's "
        "configuration",
    )  # fmt: skip


def _slicing(seen: Seen) -> Iterator[Finding]:
    yield from grouped(
        seen.nodes, "warning",
        lambda n: f"slicing by MIG is {n.mig_state}" if n.mig_state not in (None, "success") else None,
        lambda n: "kubectl logs of nvidia-mig-manager on that node; no pod may hold the GPU meanwhile",
    )  # fmt: skip


def _taints(seen: Seen) -> Iterator[Finding]:
    """Only of GPU nodes: a control plane's is meant."""
    yield from grouped(
        [node for node in seen.nodes if node.has_gpu], "warning",
        lambda n: f"tainted with {', '.join(untolerated(n))}, which the rendered pods do not tolerate"
        if untolerated(n) else None,
        lambda n: f"kubectl taint node NODE {untolerated(n)[0]}-   # or add the toleration in an overlay",
    )  # fmt: skip


def _exporter(seen: Seen) -> Iterator[Finding]:
    if seen.pods is None or not any(node.has_gpu for node in seen.nodes):
        return
    if not any("dcgm-exporter" in " ".join((pod.name, *pod.images)) for pod in seen.pods):
        yield Finding(
            "advice", (), "no DCGM exporter runs: no GPU metrics for the dashboard and the alerts", hints.DCGM_EXPORTER
        )


_CHECKS = (_states, _plugin, _discovery, _sharing, _slicing, _taints, _exporter)
