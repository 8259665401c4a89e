# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The names and labels that all objects of a plan share."""

from __future__ import annotations

from typing import Any

from trtkit.deploy.planned import Plan

Object = dict[str, Any]
"""A Kubernetes object; `Noted` values in it become comments."""

CONTAINER = "triton"
"""The server's container."""
DIGEST_ANNOTATION = "trtkit.io/repo-digest"
"""On the pod template: another repository is another digest, and so a rollout."""
TRACK_LABEL = "track"
"""On pods: ``stable`` or ``canary``; copied to the metrics by podTargetLabels."""


CONFIG_ANNOTATION = "trtkit.io/config-checksum"
"""On the pod template: a changed ConfigMap is a rollout too."""
DIGEST_LABEL = "trtkit.io/digest"
"""On pods: the first characters of the digest, for monitoring; a label has room for 63."""
CLIENT_LABEL = "trtkit.io/triton-client"
"""On other namespaces: their pods may call the server."""


def selector(plan: Plan) -> dict[str, str]:
    """The labels that choose the server's pods; never changed, since a Deployment's selector cannot be."""
    return {"app.kubernetes.io/name": "triton", "app.kubernetes.io/instance": plan.name}


def labels(plan: Plan) -> dict[str, str]:
    """The labels of every object; those of the project file cannot take pods out of their own selector."""
    return {
        **selector(plan),
        "app.kubernetes.io/component": "inference-server",
        "app.kubernetes.io/managed-by": "trtkit",
        **plan.spec.labels,
        **selector(plan),
    }


def metadata(plan: Plan, suffix: str = "", **further: Any) -> dict[str, Any]:
    """An object's metadata.

    Args:
        plan: whose object it is.
        suffix: after the plan's name, e.g. ``headless`` for ``digits-headless``.
        further: other fields, e.g. ``annotations``.
    """
    name = f"{plan.name}-{suffix}" if suffix else plan.name
    return {"name": name, "namespace": plan.namespace, "labels": labels(plan), **further}


def cluster_metadata(plan: Plan, name: str) -> dict[str, Any]:
    """The metadata of an object that belongs to no namespace."""
    return {"name": name, "labels": labels(plan)}


def stable_selector(plan: Plan) -> dict[str, str]:
    """The labels of the Deployment's own pods: a canary beside it has the same ones but for `TRACK_LABEL`."""
    return {**selector(plan), TRACK_LABEL: "stable"}


def pod_labels(plan: Plan) -> dict[str, str]:
    """The labels of the server's pods."""
    return {**labels(plan), TRACK_LABEL: "stable", DIGEST_LABEL: plan.digest[:12]}


def mebibytes(count: int) -> str:
    """A quantity, e.g. ``2048Mi``."""
    return f"{count}Mi"
