# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The environment of the server's container: a ConfigMap, named key by key, and Secrets by reference."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from trtkit.deploy.figure import Noted, plain
from trtkit.deploy.kubernetes.meta import Object, metadata
from trtkit.deploy.planned import Plan

CREDENTIALS = "/var/run/secrets/trtkit/bucket"
"""Where the key file of a Google bucket is mounted."""
KEY_FILE = "credentials.json"
"""The key of its Secret."""

SECRET_KEYS: dict[str, tuple[tuple[str, bool], ...]] = {
    "s3": (("AWS_ACCESS_KEY_ID", True), ("AWS_SECRET_ACCESS_KEY", True), ("AWS_SESSION_TOKEN", False)),
    "gcs": (),
    "azure": (("AZURE_STORAGE_ACCOUNT", True), ("AZURE_STORAGE_KEY", True)),
}
"""The variables that the server reads, which are the keys of the Secret, and whether they have to be there."""


def secret_keys(kind: str) -> list[str]:
    """The keys that the Secret of a bucket has to have, by the kind of storage."""
    return [KEY_FILE] if kind == "gcs" else [key for key, required in SECRET_KEYS[kind] if required]


def settings(plan: Plan) -> dict[str, Any]:
    """The variables that are no secret, by name."""
    values: dict[str, Any] = {
        "HOME": Noted("/tmp", "libraries keep caches there; the root file system is read-only"),
        "PYTHONDONTWRITEBYTECODE": Noted("1", "the repository is read-only"),
    }
    if not plan.on_gpu:
        values["NVIDIA_VISIBLE_DEVICES"] = Noted("void", "the image says all: on a GPU node it would see every GPU")
    storage = plan.spec.storage
    if storage.kind == "s3":
        values["AWS_DEFAULT_REGION"] = Noted(storage.region, "the server finds no region by itself")
    if storage.kind == "gcs" and storage.secret:
        values["GOOGLE_APPLICATION_CREDENTIALS"] = f"{CREDENTIALS}/{KEY_FILE}"
    if storage.kind == "azure" and storage.identity:
        values["AZURE_STORAGE_ACCOUNT"] = str(storage.uri).removeprefix("as://").partition("/")[0]
        values["AZURE_STORAGE_AUTH_TYPE"] = "managed_identity"
    return values


def config_map(plan: Plan) -> Object:
    """The ConfigMap of those variables."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(plan, "settings"), "data": settings(plan)}


def checksum(plan: Plan) -> str:
    """Of the settings: pods read them only when they start."""
    return sha256(json.dumps(plain(settings(plan)), sort_keys=True).encode()).hexdigest()[:16]


def environment(plan: Plan) -> list[dict[str, Any]]:
    """The container's ``env``, each variable with the one key it comes from: no other key of a Secret gets in."""
    rows: list[dict[str, Any]] = [
        {"name": key, "valueFrom": {"configMapKeyRef": {"name": f"{plan.name}-settings", "key": key}}}
        for key in settings(plan)
    ]
    storage = plan.spec.storage
    for key, required in SECRET_KEYS.get(storage.kind, ()) if storage.secret else ():
        reference: dict[str, Any] = {"name": storage.secret, "key": key, **({} if required else {"optional": True})}
        rows.append({"name": key, "valueFrom": {"secretKeyRef": reference}})
    return rows
