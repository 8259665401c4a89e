# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The values of one feature in many records, to columns of a tensor."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from trtkit_records import MISSING, BadRecord, shown
from trtkit_schema import REQUIRED, BadSchema, Feature
from trtkit_times import UNITS, time_of

# the kinds of numpy's types that can hold a feature; "f" alone: a fraction would be lost otherwise
_TARGETS = {"number": "f", "integer": "iuf", "boolean": "biuf", "category": "iufO", "string": "O", "timestamp": "iuf"}
# fraction bits that a float needs for today's second, or for today's minute in days
_FRACTION_BITS = {"seconds": 30, "days": 23}
_MOST_LISTED = 10  # categories in a message


class _Wrong(Exception):  # noqa: N818 - never leaves this file
    """The value at this place is not what is expected."""

    def __init__(self, place: int, expected: str) -> None:
        super().__init__(place, expected)
        self.place, self.expected = place, expected


class Column:
    """What turns the values of a feature into columns of a tensor.

    Args:
        feature: as the schema has it.
        target: the numpy type of the tensor.

    Raises:
        BadSchema: the tensor cannot hold the feature, or its default.
    """

    def __init__(self, feature: Feature, target: np.dtype[Any]) -> None:
        self.feature, self._target = feature, target
        self._converted: Callable[[Sequence[Any]], Sequence[Any]] = {
            "number": self._numbers,
            "integer": self._integers,
            "boolean": self._booleans,
            "category": self._categories,
            "string": self._strings,
            "timestamp": self._timestamps,
        }[feature.kind]
        self._low, self._high = feature.low, feature.high
        if target.kind in "iuf":
            bounds = np.finfo(target) if target.kind == "f" else np.iinfo(target)
            self._low, self._high = max(self._low, _plain(bounds.min)), min(self._high, _plain(bounds.max))
        self._indices: dict[Any, Any] = {value: index for index, value in enumerate(feature.categories)}
        self._check()

    def fill(self, values: Sequence[Any], into: np.ndarray) -> None:
        """Convert one value of each record.

        Args:
            values: as JSON has them; MISSING where a record has none.
            into: [records, width of the feature], of the target's type.

        Raises:
            BadRecord: naming the first record whose value is wrong, the path, the value and what was expected.
        """
        try:
            self._write(self._complete(values), into)
        except _Wrong as wrong:
            value = shown(values[wrong.place]) if values[wrong.place] is not MISSING else "missing or null"
            raise BadRecord(
                f"record {wrong.place}: '{'.'.join(self.feature.path)}' is {value}, expected {wrong.expected}"
            ) from None

    def _complete(self, values: Sequence[Any]) -> Sequence[Any]:
        """The converted values; in the place of missing ones the default, which may be None."""
        default = self.feature.default
        if MISSING not in values:
            return self._converted(values)
        if default is REQUIRED:
            raise _Wrong(values.index(MISSING), self._expected())
        if default is not None:
            return self._converted([default if value is MISSING else value for value in values])
        rows = [row for row, value in enumerate(values) if value is not MISSING]
        filled: list[Any] = [None] * len(values)
        try:
            for row, value in zip(rows, self._converted([values[row] for row in rows]), strict=True):
                filled[row] = value
        except _Wrong as wrong:
            raise _Wrong(rows[wrong.place], wrong.expected) from None
        return filled

    def _write(self, converted: Sequence[Any], into: np.ndarray) -> None:
        if not self.feature.one_hot:
            into[:, 0] = converted  # None becomes NaN
            return
        into[:] = 0
        places = [(row, index) for row, index in enumerate(converted) if index is not None]
        if places:
            into[tuple(np.transpose(places))] = 1

    def _expected(self) -> str:
        limits = _span(self.feature.low, self.feature.high)
        return {
            "number": "a number" + limits,
            "integer": "a whole number" + limits,
            "boolean": "true or false",
            "category": f"one of {_listed(self.feature.categories)}",
            "string": "text",
            "timestamp": 'a time as in "2024-05-31T12:30:00Z", or seconds since 1970',
        }[self.feature.kind]

    # each takes values without MISSING and raises _Wrong; the usual case is decided for all values at once

    def _numbers(self, values: Sequence[Any]) -> Sequence[Any]:
        self._check_types(values, {int, float})
        return self._limited(values)

    def _integers(self, values: Sequence[Any]) -> Sequence[Any]:
        if set(map(type, values)) <= {int}:
            return self._limited(values)
        self._check_types(values, {int, float})
        for place, value in enumerate(values):
            if type(value) is float and not value.is_integer():
                raise _Wrong(place, self._expected())
        return self._limited([int(value) for value in values])

    def _booleans(self, values: Sequence[Any]) -> Sequence[Any]:
        self._check_types(values, {bool})
        return values

    def _categories(self, values: Sequence[Any]) -> Sequence[Any]:
        unknown = self.feature.unknown
        # true equals 1 as a key of a dictionary, and 1.0 does
        found = [self._indices.get(value) if type(value) in (str, int) else None for value in values]
        if None in found:
            if unknown is REQUIRED:
                raise _Wrong(found.index(None), self._expected())
            found = [self._indices.get(unknown) if index is None else index for index in found]
        if self._target.kind == "O":
            return [str(self.feature.categories[index]).encode() for index in found]
        return found

    def _strings(self, values: Sequence[Any]) -> Sequence[Any]:
        self._check_types(values, {str})
        try:
            return [value.encode() for value in values]
        except UnicodeEncodeError:
            place = next(i for i, value in enumerate(values) if any("\ud800" <= char <= "\udfff" for char in value))
            raise _Wrong(place, "text without half a surrogate pair") from None

    def _timestamps(self, values: Sequence[Any]) -> Sequence[Any]:
        converted = []
        for place, value in enumerate(values):
            try:
                converted.append(UNITS[self.feature.unit](time_of(value)))
            except (ValueError, OverflowError, OSError):
                raise _Wrong(place, self._expected()) from None
        if self._target.kind != "f":
            converted = [math.floor(value) for value in converted]
        return self._limited(converted)

    def _check_types(self, values: Sequence[Any], expected: set[type]) -> None:
        if not set(map(type, values)) <= expected:
            place = next(place for place, value in enumerate(values) if type(value) not in expected)
            raise _Wrong(place, self._expected())

    def _limited(self, values: Sequence[Any]) -> Sequence[Any]:
        low, high = self._low, self._high
        if not values or (min(values) >= low and max(values) <= high):
            return values
        if self.feature.clip:
            values = [min(max(value, self.feature.low), self.feature.high) for value in values]
        for place, value in enumerate(values):
            if not low <= value <= high:
                raise _Wrong(place, f"a number{_span(low, high)}")
        return values

    def _check(self) -> None:
        """Refuse at load what could never be answered."""
        feature, target = self.feature, self._target
        letters = "biuf" if feature.one_hot else _TARGETS[feature.kind]
        what = f"feature '{feature.name}' ({feature.kind})"
        if target.kind not in letters:
            hint = "; use type integer" if feature.kind == "number" and target.kind in "iu" else ""
            raise BadSchema(f"{what} cannot go to output '{feature.output}', which is {target}{hint}")
        bits = _FRACTION_BITS.get(feature.unit, 0) if feature.kind == "timestamp" and target.kind == "f" else 0
        if bits and np.finfo(target).nmant < bits:
            raise BadSchema(f"{what} in {feature.unit} needs a wider output than {target}; use FP64, or another unit")
        for key, value in (("default", feature.default), ("unknown", feature.unknown)):
            if value is None and not feature.one_hot and target.kind != "f":
                raise BadSchema(f"{what}: {key} is null, which output '{feature.output}' of {target} cannot hold")
        if feature.kind == "category" and not feature.one_hot and len(feature.categories) - 1 > self._high:
            raise BadSchema(f"{what}: its {len(feature.categories)} categories are more than {target} holds")
        try:
            if feature.default is not REQUIRED and feature.default is not None:
                self._converted([feature.default])
        except _Wrong as wrong:
            raise BadSchema(f"{what}: default is {shown(feature.default)}, expected {wrong.expected}") from None


def _span(low: float, high: float) -> str:
    if math.isinf(low) and math.isinf(high):
        return ""
    if math.isinf(high):
        return f" from {low}"
    return f" up to {high}" if math.isinf(low) else f" from {low} to {high}"


def _listed(categories: Sequence[Any]) -> str:
    listed = ", ".join(json.dumps(category) for category in categories[:_MOST_LISTED])
    rest = len(categories) - _MOST_LISTED
    return listed if rest <= 0 else f"{listed} and {rest} more"


def _plain(number: Any) -> Any:
    return number.item() if isinstance(number, np.generic) else number
