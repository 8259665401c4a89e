# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What the chart's values are called: the usual names where there are such, else one made of the field's path."""

from __future__ import annotations

import re

from trtkit.deploy.kubernetes.meta import CONTAINER

Path = tuple[str, ...]
"""From an object to a field; items of lists by ``[name]`` where they have one, else by ``[0]``."""

_POD = ("spec", "template", "spec")
_BOX = (*_POD, "containers", f"[{CONTAINER}]")
_METRIC = ("spec", "metrics", "[0]")
_TRIGGER = ("spec", "triggers", "[*]", "metadata")

FIELDS: dict[str, dict[Path, Path]] = {
    "Deployment": {
        ("spec", "replicas"): ("replicaCount",),
        ("spec", "strategy"): ("strategy",),
        ("spec", "template", "metadata", "annotations", "trtkit.io/repo-digest"): ("repository", "digest"),
        (*_POD, "terminationGracePeriodSeconds"): ("terminationGracePeriodSeconds",),
        (*_POD, "nodeSelector"): ("nodeSelector",),
        (*_POD, "affinity"): ("affinity",),
        (*_POD, "tolerations"): ("tolerations",),
        (*_POD, "imagePullSecrets"): ("imagePullSecrets",),
        (*_POD, "topologySpreadConstraints"): ("topologySpreadConstraints",),
        (*_POD, "volumes", "[shm]", "emptyDir", "sizeLimit"): ("shm", "sizeLimit"),
        (*_POD, "volumes", "[tmp]", "emptyDir", "sizeLimit"): ("tmp", "sizeLimit"),
        (*_BOX, "imagePullPolicy"): ("image", "pullPolicy"),
        (*_BOX, "args"): ("server", "args"),
        (*_BOX, "resources"): ("resources",),
        (*_BOX, "lifecycle"): ("lifecycle",),
        (*_BOX, "startupProbe", "failureThreshold"): ("startupProbe", "failureThreshold"),
        (*_BOX, "startupProbe", "periodSeconds"): ("startupProbe", "periodSeconds"),
    },
    "ServiceAccount": {("metadata", "annotations"): ("serviceAccount", "annotations")},
    "HorizontalPodAutoscaler": {
        ("spec", "minReplicas"): ("autoscaling", "minReplicas"),
        ("spec", "maxReplicas"): ("autoscaling", "maxReplicas"),
        (*_METRIC, "pods", "target", "averageValue"): ("autoscaling", "targetAverageValue"),
        (*_METRIC, "resource", "target", "averageUtilization"): ("autoscaling", "targetCPUUtilizationPercentage"),
        ("spec", "behavior"): ("autoscaling", "behavior"),
    },
    "ScaledObject": {
        ("spec", "minReplicaCount"): ("keda", "minReplicaCount"),
        ("spec", "maxReplicaCount"): ("keda", "maxReplicaCount"),
        ("spec", "pollingInterval"): ("keda", "pollingInterval"),
        ("spec", "cooldownPeriod"): ("keda", "cooldownPeriod"),
        (*_TRIGGER, "serverAddress"): ("keda", "prometheusAddress"),
        (*_TRIGGER, "threshold"): ("keda", "threshold"),
        ("spec", "triggers", "[queue]", "metadata", "value"): ("keda", "queueLength"),
        ("spec", "advanced", "horizontalPodAutoscalerConfig", "behavior"): ("keda", "behavior"),
        ("spec", "fallback"): ("keda", "fallback"),
    },
    "VerticalPodAutoscaler": {("spec", "updatePolicy", "updateMode"): ("vpa", "updateMode")},
    "Gateway": {
        ("spec", "gatewayClassName"): ("gateway", "className"),
        ("spec", "listeners"): ("gateway", "listeners"),
    },
    "PriorityClass": {("value",): ("priorityClass", "value")},
}
"""Fields that are values whether environments differ in them or not; ``[*]`` is any item of a list."""

OFFERED: dict[str, dict[Path, tuple[str, ...]]] = {
    "Deployment": {
        ("spec",): ("replicas",),
        _POD: ("nodeSelector", "affinity", "tolerations", "imagePullSecrets"),
    },
}
"""Fields that are values although no environment has them, by the mapping that they belong to."""

_FURTHER: dict[str, dict[Path, str]] = {
    "Ingress": {
        ("metadata", "annotations"): "annotations",
        ("spec", "ingressClassName"): "className",
        ("spec", "rules", "[0]", "host"): "host",
        ("spec", "tls"): "tls",
    },
    "HTTPRoute": {("spec", "hostnames"): "hostnames", ("spec", "parentRefs"): "parentRefs"},
    "GRPCRoute": {("spec", "hostnames"): "hostnames", ("spec", "parentRefs"): "parentRefs"},
    "PodMonitor": {("metadata", "labels"): "labels", ("spec", "podMetricsEndpoints", "[0]", "interval"): "interval"},
    "ServiceMonitor": {("metadata", "labels"): "labels", ("spec", "endpoints", "[0]", "interval"): "interval"},
    "PodDisruptionBudget": {
        ("spec", "maxUnavailable"): "maxUnavailable",
        ("spec", "minAvailable"): "minAvailable",
    },
    "ResourceQuota": {("spec", "hard"): "hard"},
}
"""The same below the name of the object, of which there may be several."""

_OBJECTS = {
    "HorizontalPodAutoscaler": "autoscaling", "ScaledObject": "keda", "VerticalPodAutoscaler": "vpa",
    "GRPCRoute": "grpcRoute", "HTTPRoute": "httpRoute",
}  # fmt: skip
_TOGETHER = {("ConfigMap", "dashboard"): "dashboard", ("ConfigMap", "settings"): "settings"}
# the role that the only object of a kind has, and that its name in the values does without
_PLAIN_ROLES = {"kserve", "settings", ""}
_ALWAYS = {"Deployment", "Service", "ServiceAccount"}
_SILENT = {"spec", "template", "metadata", "containers", f"[{CONTAINER}]", "data", "annotations", "labels"}


def object_name(kind: str, role: str) -> str:
    """An object's name in the values: ``ingress``, ``ingressGrpc``, ``podDisruptionBudget``."""
    base = _OBJECTS.get(kind, kind[:1].lower() + kind[1:])
    if (kind, role) in _TOGETHER:
        return _TOGETHER[kind, role]
    same = role in _PLAIN_ROLES or camel(role).lower() == base.lower().removesuffix("route").removesuffix("monitor")
    return base if same else camel(f"{base}-{role}")


def has_switch(kind: str, role: str) -> bool:
    """Whether people may want to go without an object; without the others nothing runs."""
    return kind not in _ALWAYS and (kind, role) != ("ConfigMap", "settings")


def field_name(kind: str, role: str, path: Path) -> Path | None:
    """Where a field is in the values, if it is one that people look for there."""
    any_item = tuple("[*]" if part.startswith("[") else part for part in path)
    for form in (path, any_item):
        if form in FIELDS.get(kind, {}):
            return FIELDS[kind][form]
    short = _FURTHER.get(kind, {}).get(path)
    return (object_name(kind, role), short) if short else None


def automatic_name(kind: str, role: str, path: Path) -> Path:
    """A name for any field: the object, and the telling parts of the path."""
    parts = [part.strip("[]") for part in path if part not in _SILENT]
    return object_name(kind, role), camel("-".join(parts[-3:]))


def camel(text: str) -> str:
    """``a-b.c/D`` as ``aBCD``; always a name that templates can use."""
    first, *others = [part for part in re.split(r"[^A-Za-z0-9]+", text) if part] or ["value"]
    name = first[:1].lower() + first[1:] + "".join(part[:1].upper() + part[1:] for part in others)
    return name if name[0].isalpha() else f"item{name}"
