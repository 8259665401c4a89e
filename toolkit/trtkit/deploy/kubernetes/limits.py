# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a namespace and its pods are held to: security standard, disruption, quota, priority."""

from __future__ import annotations

from typing import Any

from trtkit.deploy.figure import Noted
from trtkit.deploy.kubernetes.meta import Object, cluster_metadata, metadata, selector
from trtkit.deploy.planned import Plan

PRIORITY = 100_000
"""Above pods without a class (0), far below those of the system (2 000 000 000)."""


def namespace(plan: Plan) -> Object:
    """The namespace, with the Pod Security Standard ``restricted`` as this cluster's version has it."""
    modes = {
        f"pod-security.kubernetes.io/{mode}{suffix}": value
        for mode in ("enforce", "audit", "warn")
        for suffix, value in (("", "restricted"), ("-version", f"v{plan.kube_version}"))
    }
    meta = cluster_metadata(plan, plan.namespace)
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {**meta, "labels": {**meta["labels"], **modes}}}


def priority_class_name(plan: Plan) -> str:
    """Unique in the cluster, as a PriorityClass has no namespace."""
    return f"{plan.namespace}-{plan.name}"


def priority_class(plan: Plan) -> Object:
    """Online serving goes before batch jobs, which take what GPUs are left."""
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": cluster_metadata(plan, priority_class_name(plan)),
        "value": Noted(PRIORITY, "above pods without a class (0): batch jobs give way"),
        "globalDefault": False,
        "preemptionPolicy": "PreemptLowerPriority",
        "description": f"Online inference of {plan.name}",
    }


def disruption_budget(plan: Plan) -> Object:
    """How many pods a drained node may take at once."""
    policy = {}
    if plan.cluster_has("unhealthyPodEvictionPolicy"):
        policy = {"unhealthyPodEvictionPolicy": Noted("AlwaysAllow", "a pod that never gets ready blocks no drain")}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(plan),
        "spec": {
            "maxUnavailable": Noted(1, "also right for one replica and for many: nodes can always be drained"),
            **policy,
            "selector": {"matchLabels": selector(plan)},
        },
    }


def quota(plan: Plan) -> list[Object]:
    """ResourceQuota, and the LimitRange without which other pods of the namespace would be refused; [] for none."""
    cluster = plan.spec.cluster
    hard: dict[str, Any] = {}
    if cluster.quota_gpus is not None and plan.gpu:
        hard[f"requests.{plan.gpu.resource}"] = str(cluster.quota_gpus)
    if cluster.quota_cpu is not None:
        hard["requests.cpu"] = cluster.quota_cpu
    if cluster.quota_memory is not None:
        hard["requests.memory"] = cluster.quota_memory
        hard["limits.memory"] = cluster.quota_memory
    if not hard:
        return []
    one = {
        "type": "Container",
        "default": {"memory": "512Mi", "ephemeral-storage": "1Gi"},
        "defaultRequest": {"cpu": "100m", "memory": "512Mi", "ephemeral-storage": "1Gi"},
    }
    return [
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata(plan), "spec": {"hard": hard}},
        {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": metadata(plan),
            "spec": {"limits": Noted([one], "for containers that say nothing, which a quota would refuse")},
        },
    ]
