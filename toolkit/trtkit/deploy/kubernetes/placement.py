# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Which nodes pods may run on, by the labels of GPU feature discovery, and how they spread over them."""

from __future__ import annotations

from typing import Any

from trtkit.deploy.figure import Noted
from trtkit.deploy.kubernetes.meta import selector
from trtkit.deploy.planned import GpuPlan, Plan

PRODUCT, MEMORY = "nvidia.com/gpu.product", "nvidia.com/gpu.memory"
DRIVER_MAJOR, DRIVER_MINOR = "nvidia.com/cuda.driver-version.major", "nvidia.com/cuda.driver-version.minor"


def placement(plan: Plan) -> dict[str, Any]:
    """The pod's fields that choose nodes."""
    found: dict[str, Any] = {}
    if plan.spec.cluster.node_selector:
        found["nodeSelector"] = dict(plan.spec.cluster.node_selector)
    terms = _terms(plan.gpu) if plan.gpu else []
    if terms:
        required = {"nodeSelectorTerms": terms}
        found["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    if plan.gpu:
        found["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    return {**found, "topologySpreadConstraints": [_spread(plan, "hostname"), _spread(plan, "zone")]}


def _terms(gpu: GpuPlan) -> list[dict[str, Any]]:
    """Alternatives, of which a node has to meet one."""
    every: list[dict[str, Any]] = [_is(PRODUCT, gpu.product)] if gpu.product else []
    if gpu.min_node_memory is not None:
        figure = gpu.min_node_memory
        every.append(_more(MEMORY, figure.whole, f"MiB: {figure.why}"))
    drivers = _drivers(gpu.driver) if gpu.driver else [[]]
    return [{"matchExpressions": [*every, *driver]} for driver in drivers if every or driver]


def _drivers(oldest: str) -> list[list[dict[str, Any]]]:
    """A newer major version, or this one with a minor that is new enough; Gt leaves the number itself out."""
    major, _, rest = oldest.partition(".")
    minor = rest.partition(".")[0]
    why = f"the image needs driver {oldest}"
    if not minor.isdigit() or int(minor) == 0:
        return [[_more(DRIVER_MAJOR, int(major) - 1, why)]]
    return [
        [_more(DRIVER_MAJOR, int(major), why)],
        [_is(DRIVER_MAJOR, major), _more(DRIVER_MINOR, int(minor) - 1, why)],
    ]


def _is(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "operator": "In", "values": [value]}


def _more(key: str, limit: int, why: str) -> dict[str, Any]:
    return {"key": key, "operator": "Gt", "values": [Noted(str(limit), why)]}


def _spread(plan: Plan, over: str) -> dict[str, Any]:
    """Evenly where that is possible: a pod in the wrong place is better than none."""
    topology = {"hostname": "kubernetes.io/hostname", "zone": "topology.kubernetes.io/zone"}[over]
    found: dict[str, Any] = {
        "topologyKey": topology,
        "maxSkew": 1,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector(plan)},
    }
    if plan.cluster_has("topologySpreadConstraints.matchLabelKeys"):
        found["matchLabelKeys"] = Noted(["pod-template-hash"], "only pods of the same version count")
    return found
