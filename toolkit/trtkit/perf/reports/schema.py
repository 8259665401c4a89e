# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema of ``trtkit perf --json``, made from the classes whose fields it holds and their docstrings."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from inspect import getdoc
from typing import Any, Union, get_args, get_origin, get_type_hints

from trtkit.perf.checks.verify import Verification
from trtkit.perf.loop.records import Records
from trtkit.perf.measurement import Measurement
from trtkit.perf.server.diagnose import Diagnosis
from trtkit.perf.server.resources import Resources, Sample
from trtkit.perf.server.server_side import ServerFigures
from trtkit.perf.server.stages import Stages
from trtkit.perf.statistics.capacity import Capacity, Trial
from trtkit.perf.statistics.compare import Comparison, Difference
from trtkit.perf.statistics.goodput import Goodput
from trtkit.perf.statistics.student import Interval

_SCALARS: dict[Any, str] = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}
_NUMBER_OR_NULL = {"type": ["number", "null"]}
_STRINGS = {"type": "array", "items": {"type": "string"}}

_NOT_WRITTEN = {Measurement: {"records", "all_records"}, Trial: {"measurement", "only_too_little"}}
"""Fields that the JSON form leaves out."""

_ALSO_WRITTEN: dict[type, dict[str, dict[str, Any]]] = {
    Measurement: {
        "label": {"type": "string", "description": "The load in a few words."},
        "error_count": {"type": "integer", "description": "Failed requests of all windows and of the end."},
        "latency_histogram": {
            "type": "string",
            "description": "Latencies from the send in microseconds: an HDR histogram, V2, compressed, base64.",
        },
    },
    ServerFigures: {
        "compute_ns": {"type": ["integer", "null"], "description": "Input, inference and output together."},
        "cache_hit_share": {**_NUMBER_OR_NULL, "description": "Hits by look-ups in the response cache, 0 to 1."},
    },
    Goodput: {"share": {"type": "number", "description": "Good requests of all, 0 to 1."}},
    Verification: {"ok": {"type": "boolean", "description": "Answers were compared, and none was wrong."}},
    Trial: {"holds": {"type": "boolean", "description": "Whether the load held."}},
    Capacity: {"sentence": {"type": "string", "description": "The result in one sentence."}},
    Difference: {
        "worse": {"type": "boolean", "description": "Whether B is significantly worse."},
        "better": {"type": "boolean", "description": "Whether B is significantly better."},
    },
    Diagnosis: {"load": {"type": "string", "description": "The load it is of."}},
    Comparison: {
        "fired": {**_STRINGS, "description": "Conditions of --fail-if that came true."},
        "undecided": {**_STRINGS, "description": "Conditions of --fail-if that nobody can tell."},
    },
}
"""What the JSON form has beside the fields."""

_NAMES = {one.__name__: one for one in (Interval, Measurement, Records, Resources, Sample, ServerFigures, Verification)}
"""Classes that annotations name without importing them at run time."""


def json_schema() -> dict[str, Any]:
    """The schema, JSON Schema 2020-12. No property is unknown; ``_ns`` is nanoseconds, ``_s`` seconds."""
    definitions: dict[str, Any] = {}
    comparison = {
        "comparisons": {"type": "array", "items": _schema(Comparison, definitions)},
        "unmatched": {**_STRINGS, "description": "Loads that were measured on one side only."},
        "failed": {"type": "boolean", "description": "Whether a condition of --fail-if came true."},
    }
    properties = {
        "data": {"type": "string", "description": "What the requests held."},
        "measurements": {"type": "array", "minItems": 1, "items": _schema(Measurement, definitions)},
        "stages": {
            "type": "array",
            "items": _any_of([_schema(Stages, definitions), {"type": "null"}]),
            "description": "Where the time went, one for each measurement; null where nobody knows.",
        },
        "diagnoses": {
            "type": "array",
            "items": _schema(Diagnosis, definitions),
            "description": "With --diagnose: what bounds the throughput, and what to try.",
        },
        "capacity": {"description": "With --find-capacity.", **_schema(Capacity, definitions)},
        "comparison": {"description": "With --baseline.", **_object(comparison)},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "trtkit perf --json",
        "description": "Times are integers of nanoseconds (_ns) or numbers of seconds (_s); rates are per second.",
        **_object(properties, required=["data", "measurements"]),
        "$defs": dict(sorted(definitions.items())),
    }


def _object(properties: Mapping[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


def _schema(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of an annotation; classes become definitions."""
    if hint in _SCALARS:
        return {"type": _SCALARS[hint]}
    if isinstance(hint, type) and (is_dataclass(hint) or hasattr(hint, "_fields")):
        return _reference(hint, definitions)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _any_of([_schema(part, definitions) for part in arguments])
    if origin is tuple:  # always of any length here
        return {"type": "array", "items": _schema(arguments[0], definitions)}
    raise TypeError(f"no JSON form is known for {hint}")


def _any_of(parts: list[dict[str, Any]]) -> dict[str, Any]:
    if all(part.keys() == {"type"} for part in parts):
        return {"type": [part["type"] for part in parts]}
    return {"anyOf": parts}


def _reference(cls: type, definitions: dict[str, Any]) -> dict[str, Any]:
    name = cls.__name__
    if name not in definitions:
        definitions[name] = {}  # so that a class within itself ends
        definitions[name] = _class(cls, definitions)
    return {"$ref": f"#/$defs/{name}"}


def _class(cls: type, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(cls, localns=_NAMES)
    names = [field.name for field in fields(cls)] if is_dataclass(cls) else list(cls._fields)  # type: ignore[attr-defined]
    described = _attributes(getdoc(cls) or "")
    properties = {}
    for name in names:
        if name not in _NOT_WRITTEN.get(cls, ()):
            properties[name] = _schema(hints[name], definitions)
            if described.get(name):
                properties[name]["description"] = described[name]
    summary = (getdoc(cls) or "").split("\n\n")[0].replace("\n", " ")
    return {"description": summary, **_object({**properties, **_ALSO_WRITTEN.get(cls, {})})}


def _attributes(docstring: str) -> dict[str, str]:
    """What a docstring says of each attribute."""
    _, _, section = docstring.partition("Attributes:\n")
    parts = re.split(r"^    (\w+): ", section.split("\n\n")[0], flags=re.MULTILINE)
    texts = (re.sub(r"\bNone\b", "null", re.sub(r"[\s`]+", " ", text)).strip() for text in parts[2::2])
    return dict(zip(parts[1::2], texts, strict=True))
