# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""values.schema.json: what Helm checks values against before it renders anything."""

from __future__ import annotations

import re
from typing import Any

from trtkit.deploy.figure import plain
from trtkit.deploy.kubernetes.helm.collected import ABSENT, Values

_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"
_STRINGS: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "string"}}
_AMOUNTS = {
    "type": "object",
    "additionalProperties": {"type": ["string", "integer"], "pattern": _QUANTITY, "minimum": 0},
}
_COUNT = {"type": "integer", "minimum": 0}
_EITHER = {"type": ["integer", "string"], "minimum": 0, "pattern": r"^[0-9]+%?$"}
_TOLERATION = {
    "key": {"type": "string"},
    "operator": {"enum": ["Exists", "Equal"]},
    "value": {"type": "string"},
    "effect": {"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
    "tolerationSeconds": {"type": "integer"},
}
_STRATEGY = {
    "type": {"enum": ["RollingUpdate", "Recreate"]},
    "rollingUpdate": {
        "type": "object",
        "additionalProperties": False,
        "properties": {"maxSurge": _EITHER, "maxUnavailable": _EITHER},
    },
}
_KNOWN: dict[tuple[str, ...], dict[str, Any]] = {
    ("image", "pullPolicy"): {"enum": ["IfNotPresent", "Always", "Never"]},
    ("repository", "digest"): {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    ("resources",): {
        "type": "object",
        "additionalProperties": False,
        "properties": {"requests": _AMOUNTS, "limits": _AMOUNTS},
    },
    ("strategy",): {"type": "object", "additionalProperties": False, "properties": _STRATEGY},
    ("replicaCount",): _COUNT,
    ("nodeSelector",): _STRINGS,
    ("affinity",): {"type": "object"},
    ("imagePullSecrets",): {
        "type": "array",
        "items": {"type": "object", "additionalProperties": False, "properties": {"name": {"type": "string"}}},
    },
    ("tolerations",): {
        "type": "array",
        "items": {"type": "object", "additionalProperties": False, "properties": _TOLERATION},
    },
    ("vpa", "updateMode"): {"enum": ["Off", "Initial", "InPlaceOrRecreate"]},
    ("autoscaling", "minReplicas"): {"type": "integer", "minimum": 1},
    ("autoscaling", "maxReplicas"): {"type": "integer", "minimum": 1},
    ("podDisruptionBudget", "maxUnavailable"): _EITHER,
    ("podDisruptionBudget", "minAvailable"): _EITHER,
}
"""Values whose fields are known; for the others the type that they have counts."""


def schema_of(values: Values, name: str) -> dict[str, Any]:
    """The schema of the chart's values.

    Args:
        values: of all environments.
        name: of the chart.
    """
    tree: dict[str, Any] = {}
    for path, row in values.rows.items():
        place = tree
        for part in path[:-1]:
            place = place.setdefault(part, _group())["properties"]
        place[path[-1]] = _field(path, row)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": f"Values of the chart {name}",
        **_group(),
        # what a parent chart passes on
        "properties": {"global": {"type": "object"}, **tree},
    }


def _group() -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": {}}


def _field(path: tuple[str, ...], row: list[Any]) -> dict[str, Any]:
    there = [plain(value) for value in row if value is not ABSENT]
    found = _KNOWN.get(path) or (_STRINGS if path[-1] in ("annotations", "labels") else _like(there))
    if ABSENT not in row:
        return found
    return {"anyOf": [found, {"type": "null"}], "description": "null leaves the field out"}


def _like(values: list[Any]) -> dict[str, Any]:
    """The type that values have; of mappings and lists the outermost, since Kubernetes knows more fields than these."""
    if all(isinstance(value, bool) for value in values):
        return {"type": "boolean"}
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return _COUNT if all(value >= 0 for value in values) else {"type": "integer"}
    if all(isinstance(value, str) for value in values):
        quantities = all(re.fullmatch(_QUANTITY, value) and value[-1].isalpha() for value in values)
        return {"type": "string", "pattern": _QUANTITY} if quantities else {"type": "string", "minLength": 1}
    if all(isinstance(value, dict) for value in values):
        return {"type": "object"}
    if all(isinstance(value, list) for value in values):
        kinds = {type(item) for value in values for item in value}
        return {"type": "array", "items": {"type": _TYPES[kinds.pop()]}} if len(kinds) == 1 else {"type": "array"}
    return {"type": sorted({_TYPES[type(value)] for value in values})}


_TYPES: dict[type, str] = {
    str: "string", int: "integer", float: "number", bool: "boolean", dict: "object", list: "array", type(None): "null",
}  # fmt: skip
