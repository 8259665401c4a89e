# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What the pods of a cluster hold of its nodes, read from ``kubectl get pods -A -o json``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trtkit.deploy.clusters.values import mapping, mappings, number


@dataclass(frozen=True)
class Pod:
    """A pod that has not ended: where it runs, what it requests (cores, bytes, GPUs), its labels and images."""

    name: str
    namespace: str
    node: str
    requests: Mapping[str, float]
    labels: Mapping[str, str]
    images: tuple[str, ...]


def read_pod(value: Mapping[str, Any]) -> Pod | None:
    """A pod of the API (v1 Pod); None for one that has ended, or is on no node yet."""
    metadata, spec, status = (mapping(value.get(key)) for key in ("metadata", "spec", "status"))
    if status.get("phase") in ("Succeeded", "Failed") or not spec.get("nodeName"):
        return None
    containers = mappings(spec.get("containers"))
    return Pod(
        str(metadata.get("name", "?")),
        str(metadata.get("namespace", "default")),
        str(spec["nodeName"]),
        _requests(containers, mappings(spec.get("initContainers")), mapping(spec.get("overhead"))),
        mapping(metadata.get("labels")),
        tuple(str(container.get("image", "")) for container in containers),
    )


def held(pods: Sequence[Pod], counts: Callable[[Pod], bool]) -> dict[str, dict[str, float]]:
    """What pods request together, by node and resource.

    Args:
        pods: of the cluster.
        counts: whether a pod does; the plan's own are replaced by what it needs.
    """
    sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for pod in filter(counts, pods):
        for resource, amount in pod.requests.items():
            sums[pod.node][resource] += amount
    return {node: dict(of_node) for node, of_node in sums.items()}


def _requests(
    containers: Sequence[Mapping[str, Any]], starters: Sequence[Mapping[str, Any]], overhead: Mapping[str, Any]
) -> dict[str, float]:
    """As the scheduler counts: all containers together, or the largest that runs before them if that is more."""
    sidecars = [c for c in starters if c.get("restartPolicy") == "Always"]
    running = _sum([*containers, *sidecars])
    largest: dict[str, float] = {}
    for starter in starters:
        for name, amount in _of(starter).items():
            largest[name] = max(amount, largest.get(name, 0))
    total = {name: max(running.get(name, 0), largest.get(name, 0)) for name in {*running, *largest}}
    return {name: total.get(name, 0) + number(overhead.get(name)) for name in {*total, *overhead}}


def _sum(containers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    total: dict[str, float] = defaultdict(float)
    for container in containers:
        for name, amount in _of(container).items():
            total[name] += amount
    return dict(total)


def _of(container: Mapping[str, Any]) -> dict[str, float]:
    """Limits stand in for requests that are left out, as they always do for GPUs."""
    resources = mapping(container.get("resources"))
    values = {**mapping(resources.get("limits")), **mapping(resources.get("requests"))}
    return {name: number(value) for name, value in values.items()}
