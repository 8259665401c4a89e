# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Where the repository and the temporary files lie in a pod: claims, volumes and mounts."""

from __future__ import annotations

import math
from typing import Any

from trtkit.deploy.figure import Figure, Noted, noted
from trtkit.deploy.kubernetes.meta import Object, mebibytes, metadata
from trtkit.deploy.kubernetes.settings import CREDENTIALS
from trtkit.deploy.planned import MODELS_PATH, Plan

COPIES = 4
"""How many digests a rendered claim has room for: the one that is served, one being copied, two to go back to."""


def renders_claim(plan: Plan) -> bool:
    """Whether the claim is one of ours, and not one that was there before."""
    return plan.spec.storage.kind == "pvc" and plan.spec.storage.claim is None


def claim_name(plan: Plan) -> str:
    """The PersistentVolumeClaim with the repository."""
    return plan.spec.storage.claim or f"{plan.name}-models"


def folder(plan: Plan) -> str | None:
    """The repository's folder in the claim; None for its root.

    In a claim of ours each digest has a folder of its own, which is never written again; in one that was there before,
    the project file says where.
    """
    path = (plan.spec.storage.path or "").strip("/")
    if not renders_claim(plan):
        return path or None
    return "/".join(part for part in (path, plan.digest[:12]) if part)


def claim_size(plan: Plan) -> Figure:
    """What a rendered claim asks for."""
    if plan.spec.storage.size is not None:
        return Figure(plan.spec.storage.size, "", "storage.size of the project file", "declared")
    weights = sum(model.weight_bytes for model in plan.models)
    size = 2 ** max(0, math.ceil(math.log2(max(1, COPIES * weights) / 2**30)))
    why = f"{COPIES} x {weights / 2**20:.1f} MiB of models, as a power of two: a claim grows, and never shrinks"
    return Figure(f"{size}Gi", "", why, "computed")


def claim(plan: Plan) -> list[Object]:
    """The PersistentVolumeClaim; [] where one is there, or none is needed."""
    if not renders_claim(plan):
        return []
    storage = plan.spec.storage
    chosen = {"storageClassName": storage.storage_class} if storage.storage_class else {}
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": metadata(plan, "models"),
            "spec": {
                "accessModes": [storage.access_mode],
                **chosen,
                "resources": {"requests": {"storage": noted(claim_size(plan))}},
            },
        }
    ]


def volumes(plan: Plan) -> list[dict[str, Any]]:
    """The pod's volumes."""
    memory = plan.memory
    found: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {"sizeLimit": _size(memory.temporary)}}]
    if _own_shm(plan):
        found.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": _size(memory.shm)}})
    if plan.spec.storage.kind == "pvc":
        reference = {"claimName": claim_name(plan), "readOnly": True}
        found.append({"name": "models", "persistentVolumeClaim": reference})
    if _has_key_file(plan):
        found.append({"name": "bucket", "secret": {"secretName": plan.spec.storage.secret, "defaultMode": 0o440}})
    return found


def mounts(plan: Plan) -> list[dict[str, Any]]:
    """The container's volumeMounts."""
    found: list[dict[str, Any]] = [{"name": "tmp", "mountPath": "/tmp"}]
    if _own_shm(plan):
        found.append({"name": "shm", "mountPath": "/dev/shm"})
    if plan.spec.storage.kind == "pvc":
        inner = folder(plan)
        below = {"subPath": Noted(inner, _WHY_FOLDER) if renders_claim(plan) else inner} if inner else {}
        found.append({"name": "models", "mountPath": MODELS_PATH, "readOnly": True, **below})
    if _has_key_file(plan):
        found.append({"name": "bucket", "mountPath": CREDENTIALS, "readOnly": True})
    return found


_WHY_FOLDER = "the digest: a folder is written once"


def _own_shm(plan: Plan) -> bool:
    """Under MPS the device plugin mounts the /dev/shm that it shares with its daemon."""
    return plan.spec.gpu.mps is None


def _has_key_file(plan: Plan) -> bool:
    return plan.spec.storage.kind == "gcs" and plan.spec.storage.secret is not None


def _size(figure: Figure) -> Noted:
    return noted(figure, mebibytes(figure.whole))
