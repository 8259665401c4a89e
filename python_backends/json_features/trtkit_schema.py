# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The schema of records: which features there are, where they stand and what they may be."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from trtkit_times import UNITS

REQUIRED = object()
"""The default of a feature that every record must have."""

_KEYS = {
    "number": ("min", "max", "out_of_range"),
    "integer": ("min", "max", "out_of_range"),
    "boolean": (),
    "category": ("categories", "encoding", "unknown"),
    "string": (),
    "timestamp": ("unit",),
}
_COMMON = ("name", "type", "path", "output", "default")


class BadSchema(ValueError):  # noqa: N818 - Triton shows the class's name before the sentence
    """The schema cannot be used."""


@dataclass(frozen=True)
class Feature:
    """One feature of the records.

    Attributes:
        name: as the schema has it.
        path: keys of objects and positions in arrays, from the record to the value.
        kind: number, integer, boolean, category, string or timestamp.
        output: the tensor it goes to.
        default: for a missing value, as a record would have it; None: NaN (no category); REQUIRED: there is none.
        low: the least number.
        high: the largest.
        clip: numbers outside are moved to the limit; otherwise they are errors.
        categories: the vocabulary, text or whole numbers, without repetition.
        one_hot: a column for each category.
        unknown: the category of a value outside the vocabulary; None: no category; REQUIRED: it is an error.
        unit: of a timestamp.
    """

    name: str
    path: tuple[str, ...]
    kind: str
    output: str = "features"
    default: Any = REQUIRED
    low: float = -math.inf
    high: float = math.inf
    clip: bool = False
    categories: tuple[str | int, ...] = ()
    one_hot: bool = False
    unknown: Any = REQUIRED
    unit: str = "seconds"

    @property
    def width(self) -> int:
        """How many columns it takes."""
        return len(self.categories) if self.one_hot else 1


@dataclass(frozen=True)
class Schema:
    """All features, in the order of their columns; ``strict``: a record has nothing else."""

    features: tuple[Feature, ...]
    strict: bool


def read_schema(path: str) -> Schema:
    """Read and check a schema file: JSON in UTF-8, see README.md.

    Raises:
        BadSchema: naming the file, the feature and the key.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            content = json.load(file, object_pairs_hook=_unique)
        if not isinstance(content, dict):
            raise BadSchema("expected an object with 'features'")
        _known_keys(content, ("features", "additional"))
        entries = _typed(content, "features", list, "an array with an object for each feature")
        features = tuple(_feature(entry, index) for index, entry in enumerate(entries))
        _distinct(features)
        return Schema(features, strict=_choice(content, "additional", ("ignore", "error")) == "error")
    except (ValueError, RecursionError) as error:  # of UTF-8, of JSON, ours
        raise BadSchema(f"schema '{path}': {error}") from None


def _feature(entry: Any, index: int) -> Feature:
    if not isinstance(entry, dict):
        raise BadSchema(f"feature {index} is {json.dumps(entry)[:60]}, expected an object with name and type")
    try:
        name = _typed(entry, "name", str, "text")
        kind = _choice(entry, "type", tuple(_KEYS), default=None)
        _known_keys(entry, (*_COMMON, *_KEYS[kind]))
        low, high = _limit(entry, "min", -math.inf), _limit(entry, "max", math.inf)
        if low > high:
            raise BadSchema(f"min {low} is above max {high}")
        categories = _categories(entry) if kind == "category" else ()
        return Feature(
            name, _path(entry, name), kind, _typed(entry, "output", str, "the name of a tensor", "features"),
            entry.get("default", REQUIRED), low, high,
            _choice(entry, "out_of_range", ("error", "clip")) == "clip",
            categories, _choice(entry, "encoding", ("index", "one_hot")) == "one_hot", _unknown(entry, categories),
            _choice(entry, "unit", tuple(UNITS)),
        )  # fmt: skip
    except BadSchema as error:
        raise BadSchema(f"feature {index} ({json.dumps(entry.get('name'))[:60]}): {error}") from None


def _distinct(features: Collection[Feature]) -> None:
    if not features:
        raise BadSchema("there is no feature")
    seen: set[str] = set()
    for feature in features:
        if feature.name in seen:
            raise BadSchema(f"there are two features '{feature.name}'")
        seen.add(feature.name)


def _path(entry: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """``a.b.0``, or a list for keys with dots; by default the name, taken as one key."""
    given = entry.get("path", [name])
    parts = given.split(".") if isinstance(given, str) else given
    if not isinstance(parts, list) or not parts or not all(isinstance(part, str) for part in parts):
        raise BadSchema(f'path is {json.dumps(given)[:60]}, expected text as in "a.b.0", or a list of texts')
    return tuple(parts)


def _limit(entry: Mapping[str, Any], key: str, default: float) -> float:
    value = entry.get(key, default)
    if type(value) not in (int, float) or math.isnan(value):
        raise BadSchema(f"{key} is {json.dumps(value)[:60]}, expected a number")
    return value


def _categories(entry: Mapping[str, Any]) -> tuple[str | int, ...]:
    expected = "an array of texts or whole numbers, at least one"
    values = _typed(entry, "categories", list, expected)
    if not values or any(type(value) not in (str, int) for value in values):
        raise BadSchema(f"categories is {json.dumps(values)[:60]}, expected {expected}")
    if len(set(values)) < len(values):
        raise BadSchema("a category stands twice in categories")
    return tuple(values)


def _unknown(entry: Mapping[str, Any], categories: Collection[Any]) -> Any:
    value = entry.get("unknown", REQUIRED)
    if value is REQUIRED or value is None or (type(value) in (str, int) and value in categories):
        return value
    raise BadSchema(f"unknown is {json.dumps(value)[:60]}, expected one of categories, or null")


def _typed(entry: Mapping[str, Any], key: str, kind: type, expected: str, default: Any = None) -> Any:
    value = entry.get(key, default)
    if not isinstance(value, kind) or value == "":
        given = json.dumps(value)[:60] if key in entry else "missing"
        raise BadSchema(f"{key} is {given}, expected {expected}")
    return value


def _choice(entry: Mapping[str, Any], key: str, options: tuple[str, ...], default: str | None = "") -> Any:
    """One of the options; by default the first, with None there is no default."""
    value = _typed(entry, key, str, f"one of {', '.join(options)}", options[0] if default == "" else default)
    if value not in options:
        raise BadSchema(f"{key} is {json.dumps(value)[:60]}, expected one of {', '.join(options)}")
    return value


def _known_keys(entry: Mapping[str, Any], known: Collection[str]) -> None:
    for key in entry:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}"
            raise BadSchema(f"unknown key '{key[:60]}'; {hint}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entry = dict(pairs)
    if len(entry) < len(pairs):
        raise BadSchema("a key stands twice in one object")
    return entry
