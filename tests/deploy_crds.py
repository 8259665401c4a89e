# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The fields of operators' kinds that trtkit may render, by hand from their projects' definitions of 2026.

kubernetes-validate has no schemas of these kinds, and an API server drops what a definition does not know, or refuses
it. A field that is not listed here is a mistake, or one to look up and add. A name with ! has to be there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

ANY: Any = None
_SCRAPE = {
    "port": ANY, "path": ANY, "interval": ANY, "scrapeTimeout": ANY, "honorLabels": ANY, "metricRelabelings": ANY,
    "relabelings": ANY, "scheme": ANY,
}  # fmt: skip
_LABELS = {"matchLabels": ANY, "matchExpressions": ANY}
_PARENT = {"name!": ANY, "namespace": ANY, "sectionName": ANY, "group": ANY, "kind": ANY, "port": ANY}
_BACKEND = {"name!": ANY, "port!": ANY, "weight": ANY, "namespace": ANY, "group": ANY, "kind": ANY, "filters": ANY}
_TARGET = {"apiVersion": ANY, "kind": ANY, "name!": ANY}
_SCALING_RULES = {
    "stabilizationWindowSeconds": ANY, "selectPolicy": ANY,
    "policies": {"type!": ANY, "value!": ANY, "periodSeconds!": ANY},
}  # fmt: skip

SPECS: dict[tuple[str, str], dict[str, Any]] = {
    ("monitoring.coreos.com/v1", "PodMonitor"): {
        "selector!": _LABELS, "podMetricsEndpoints!": _SCRAPE, "podTargetLabels": ANY, "jobLabel": ANY,
        "namespaceSelector": {"matchNames": ANY, "any": ANY}, "sampleLimit": ANY,
    },
    ("monitoring.coreos.com/v1", "ServiceMonitor"): {
        "selector!": _LABELS, "endpoints!": _SCRAPE, "podTargetLabels": ANY, "targetLabels": ANY, "jobLabel": ANY,
        "namespaceSelector": {"matchNames": ANY, "any": ANY}, "sampleLimit": ANY,
    },
    ("monitoring.coreos.com/v1", "PrometheusRule"): {
        "groups!": {
            "name!": ANY, "interval": ANY, "labels": ANY, "limit": ANY,
            "rules!": {
                "alert": ANY, "record": ANY, "expr!": ANY, "for": ANY, "keep_firing_for": ANY, "labels": ANY,
                "annotations": ANY,
            },
        },
    },
    ("keda.sh/v1alpha1", "ScaledObject"): {
        "scaleTargetRef!": {**_TARGET, "envSourceContainerName": ANY}, "pollingInterval": ANY, "cooldownPeriod": ANY,
        "initialCooldownPeriod": ANY, "idleReplicaCount": ANY, "minReplicaCount": ANY, "maxReplicaCount": ANY,
        "fallback": {"failureThreshold!": ANY, "replicas!": ANY, "behavior": ANY},
        "advanced": {
            "restoreToOriginalReplicaCount": ANY,
            "horizontalPodAutoscalerConfig": {
                "name": ANY, "behavior": {"scaleUp": _SCALING_RULES, "scaleDown": _SCALING_RULES},
            },
            "scalingModifiers": {"formula": ANY, "target": ANY, "activationTarget": ANY, "metricType": ANY},
        },
        "triggers!": {
            "type!": ANY, "name": ANY, "metricType": ANY, "metadata!": ANY, "useCachedMetrics": ANY,
            "authenticationRef": {"name!": ANY, "kind": ANY},
        },
    },
    ("keda.sh/v1alpha1", "TriggerAuthentication"): {
        "secretTargetRef": {"parameter!": ANY, "name!": ANY, "key!": ANY},
        "env": {"parameter!": ANY, "name!": ANY, "containerName": ANY}, "podIdentity": ANY,
    },
    ("autoscaling.k8s.io/v1", "VerticalPodAutoscaler"): {
        "targetRef!": _TARGET, "updatePolicy": {"updateMode": ANY, "minReplicas": ANY, "evictionRequirements": ANY},
        "resourcePolicy": {
            "containerPolicies": {
                "containerName": ANY, "mode": ANY, "minAllowed": ANY, "maxAllowed": ANY, "controlledResources": ANY,
                "controlledValues": ANY,
            },
        },
    },
    ("gateway.networking.k8s.io/v1", "Gateway"): {
        "gatewayClassName!": ANY, "addresses": ANY, "infrastructure": ANY,
        "listeners!": {
            "name!": ANY, "port!": ANY, "protocol!": ANY, "hostname": ANY,
            "allowedRoutes": {"namespaces": {"from": ANY, "selector": ANY}, "kinds": ANY},
            "tls": {"mode": ANY, "certificateRefs": {"name!": ANY, "kind": ANY, "group": ANY, "namespace": ANY}},
        },
    },
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): {
        "parentRefs": _PARENT, "hostnames": ANY,
        "rules": {
            "name": ANY, "filters": ANY, "backendRefs": _BACKEND, "timeouts": {"request": ANY, "backendRequest": ANY},
            "matches": {
                "path": {"type": ANY, "value": ANY}, "method": ANY,
                "headers": {"type": ANY, "name!": ANY, "value!": ANY}, "queryParams": ANY,
            },
        },
    },
    ("gateway.networking.k8s.io/v1", "GRPCRoute"): {
        "parentRefs": _PARENT, "hostnames": ANY,
        "rules": {
            "name": ANY, "filters": ANY, "backendRefs": _BACKEND,
            "matches": {
                "method": {"type": ANY, "service": ANY, "method": ANY},
                "headers": {"type": ANY, "name!": ANY, "value!": ANY},
            },
        },
    },
    ("serving.kserve.io/v1beta1", "InferenceService"): {
        "predictor!": {
            "model": {
                "modelFormat!": {"name!": ANY, "version": ANY}, "runtime": ANY, "protocolVersion": ANY,
                "storageUri": ANY, "storage": ANY,
                # those of a container
                **dict.fromkeys((
                    "args", "command", "env", "image", "imagePullPolicy", "lifecycle", "livenessProbe", "name", "ports",
                    "readinessProbe", "resources", "securityContext", "startupProbe", "volumeMounts",
                )),
            },
            "minReplicas": ANY, "maxReplicas": ANY, "scaleTarget": ANY, "scaleMetric": ANY, "timeout": ANY,
            "canaryTrafficPercent": ANY, "deploymentStrategy": ANY, "containerConcurrency": ANY, "labels": ANY,
            "annotations": ANY,
            # those of a pod
            **dict.fromkeys((
                "affinity", "automountServiceAccountToken", "enableServiceLinks", "nodeSelector", "priorityClassName",
                "securityContext", "serviceAccountName", "terminationGracePeriodSeconds", "tolerations",
                "topologySpreadConstraints", "volumes",
            )),
        },
    },
}  # fmt: skip


def mistakes(item: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the fields of an operator's object; an unknown kind is a mistake too."""
    known = SPECS.get((item["apiVersion"], item["kind"]))
    if known is None:
        yield f"{item['apiVersion']} {item['kind']} is not known"
    elif isinstance(item.get("spec"), dict):
        yield from _mistakes(item["spec"], known, "spec")
    else:
        yield "there is no spec"


def _mistakes(value: Any, known: dict[str, Any] | None, path: str) -> Iterator[str]:
    if isinstance(value, list):
        for index, each in enumerate(value):
            yield from _mistakes(each, known, f"{path}[{index}]")
    elif known is not None and not isinstance(value, dict):
        yield f"{path} is no mapping"
    elif known is not None:
        fields = {name.rstrip("!"): inner for name, inner in known.items()}
        yield from (f"{path}.{name[:-1]} is missing" for name in known if name.endswith("!") and name[:-1] not in value)
        yield from (f"{path}.{name} is not known" for name in value if name not in fields)
        for name in value.keys() & fields.keys():
            yield from _mistakes(value[name], fields[name], f"{path}.{name}")
