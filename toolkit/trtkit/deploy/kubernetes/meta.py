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


def selector(plan: Plan) -> dict[str, str]:
    """The labels that choose the server's pods; never changed, since a Deployment's selector cannot be."""
    return {"app.kubernetes.io/name": "triton", "app.kubernetes.io/instance": plan.name}


def labels(plan: Plan) -> dict[str, str]:
    """The labels of every object."""
    return {
        **selector(plan),
        "app.kubernetes.io/component": "inference-server",
        "app.kubernetes.io/managed-by": "trtkit",
        **plan.spec.labels,
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
