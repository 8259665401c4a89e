# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The Deployment."""

from __future__ import annotations

from typing import Any

from trtkit.deploy.figure import Noted, noted
from trtkit.deploy.kubernetes.access import service_account_name
from trtkit.deploy.kubernetes.limits import priority_class_name
from trtkit.deploy.kubernetes.meta import (
    CONFIG_ANNOTATION,
    CONTAINER,
    DIGEST_ANNOTATION,
    Object,
    mebibytes,
    metadata,
    pod_labels,
    stable_selector,
)
from trtkit.deploy.kubernetes.placement import placement
from trtkit.deploy.kubernetes.probes import lifecycle, probes
from trtkit.deploy.kubernetes.settings import checksum, environment
from trtkit.deploy.kubernetes.storage import mounts, volumes
from trtkit.deploy.planned import GRPC_PORT, HTTP_PORT, METRICS_PORT, UID, Plan

LOG_MIB = 100
"""Of the container's logs, MiB: kubelet keeps 5 files of 10 MiB, and rotates late."""

_IDENTITY_LABELS = {"azure": {"azure.workload.identity/use": "true"}}


def deployment(plan: Plan) -> Object:
    """The server's pods, and how they are replaced."""
    rollout = plan.rollout
    count = {"replicas": noted(plan.scaling.replicas)} if plan.scaling.kind == "none" else {}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(plan),
        "spec": {
            **count,
            "revisionHistoryLimit": 5,
            "minReadySeconds": noted(rollout.min_ready_seconds),
            "progressDeadlineSeconds": noted(rollout.progress_deadline),
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {
                    "maxSurge": noted(rollout.max_surge),
                    "maxUnavailable": noted(rollout.max_unavailable),
                },
            },
            "selector": {"matchLabels": stable_selector(plan)},
            "template": pod_template(plan),
        },
    }


def pod_template(plan: Plan) -> dict[str, Any]:
    """The pod as the Deployment makes it."""
    identity = _IDENTITY_LABELS.get(plan.spec.storage.kind, {}) if plan.spec.storage.identity else {}
    annotations = {
        DIGEST_ANNOTATION: Noted(plan.digest, "another repository is another digest, and so a rollout"),
        CONFIG_ANNOTATION: Noted(checksum(plan), "of the ConfigMap, which pods read only at their start"),
    }
    return {
        "metadata": {"labels": {**pod_labels(plan), **identity}, "annotations": annotations},
        "spec": {
            "serviceAccountName": service_account_name(plan),
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "priorityClassName": priority_class_name(plan),
            "terminationGracePeriodSeconds": noted(plan.drain.grace),
            "securityContext": pod_security(),
            **placement(plan),
            "containers": [container(plan)],
            "volumes": volumes(plan),
        },
    }


def container(plan: Plan) -> dict[str, Any]:
    """The server's container."""
    program, *options = plan.arguments
    reasons = dict(plan.flags)
    life = lifecycle(plan)
    return {
        "name": CONTAINER,
        "image": plan.served_image,
        "imagePullPolicy": "IfNotPresent",
        "command": [Noted(program, "as process 1, so that SIGTERM reaches it, whatever the image's entry point is")],
        "args": [Noted(option, reasons[option]) if reasons.get(option) else option for option in options],
        "ports": [
            {"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"},
            {"name": "grpc", "containerPort": GRPC_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"},
        ],
        "env": environment(plan),
        "resources": resources(plan),
        **probes(plan),
        **({"lifecycle": life} if life else {}),
        "securityContext": container_security(),
        "volumeMounts": mounts(plan),
    }


def resources(plan: Plan) -> dict[str, Any]:
    """Memory and disk requested as limited; processors without a limit; GPUs only as a limit, which is the request."""
    memory = plan.memory
    host = noted(memory.host, mebibytes(memory.host.whole))
    disk = Noted(mebibytes(memory.temporary.whole + LOG_MIB), f"/tmp, and {LOG_MIB} MiB of logs")
    gpu = {plan.gpu.resource: plan.gpu.count} if plan.gpu else {}
    return {
        "requests": {
            "cpu": Noted(str(memory.cpu.value), f"{memory.cpu.why}; no limit, or requests would be throttled"),
            "memory": host,
            "ephemeral-storage": disk,
        },
        "limits": {"memory": host.value, "ephemeral-storage": disk.value, **gpu},
    }


def pod_security() -> dict[str, Any]:
    """Of a pod, for the Pod Security Standard ``restricted``."""
    return {
        "runAsNonRoot": True,
        "runAsUser": Noted(UID, "triton-server of NVIDIA's images"),
        "runAsGroup": UID,
        "fsGroup": UID,
        "fsGroupChangePolicy": Noted("OnRootMismatch", "else each start changes the owner of every file of a volume"),
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> dict[str, Any]:
    """Of a container, for the Pod Security Standard ``restricted``, and a root file system that nobody writes to."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
