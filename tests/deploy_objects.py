# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Rendered Kubernetes objects as values, to be compared; and the plans of the matrix, each made once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from deploy_matrix import MATRIX, matrix_project
from trtkit.deploy.figure import plain
from trtkit.deploy.kubernetes.objects import objects
from trtkit.deploy.plan import make_plans
from trtkit.deploy.planned import Plan
from trtkit.project import Project

Key = tuple[str, str, str]
KUBE_VERSIONS = ("1.28", "1.30", "1.33", "1.36")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parsed(text: str) -> dict[Key, dict[str, Any]]:
    """The objects of a YAML text by kind, namespace and name; '' for the namespace of what has none."""
    return keyed(item for item in yaml.load_all(text, _LOADER) if item is not None)


def planned(plan: Plan) -> dict[Key, dict[str, Any]]:
    """The objects that a plan asks for, in the same form."""
    return keyed(plain(item) for item in objects(plan))


def keyed(items: Iterable[dict[str, Any]]) -> dict[Key, dict[str, Any]]:
    found: dict[Key, dict[str, Any]] = {}
    for item in items:
        key = (item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"])
        assert key not in found, f"{key} is there twice"
        found[key] = item
    return found


@cache
def project_of(row: str) -> Project:
    """The project of a row of the matrix, in a folder that is called digits."""
    folder = Path(tempfile.mkdtemp(prefix="trtkit-matrix-")) / "digits"
    return matrix_project(folder, row)


@cache
def plans_of(row: str, kube_version: str | None = None) -> dict[str, Plan]:
    """The plans of a row: '' for the block itself, and each environment's."""
    base, environments = make_plans(project_of(row), kube_version=kube_version)
    return {"": base, **environments}


def matrix_plans(kube_version: str | None = None) -> Iterator[tuple[str, Plan]]:
    """Every plan of the matrix, with a name such as ``environments/staging``."""
    for row in MATRIX:
        for environment, plan in plans_of(row, kube_version).items():
            yield f"{row}/{environment}".rstrip("/"), plan


def with_spec(plan: Plan, part: str, **changes: Any) -> Plan:
    """The plan with other values in one part of its `deploy:` block."""
    inner = getattr(plan.spec, part).model_copy(update=changes)
    return replace(plan, spec=plan.spec.model_copy(update={part: inner}))
