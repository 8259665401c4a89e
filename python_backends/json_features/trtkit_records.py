# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Records of strict JSON, and the values in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NoReturn

MISSING = object()
"""What `value_at` finds where a record has nothing."""


class BadRecord(ValueError):  # noqa: N818 - the sentence is a request's error
    """A record cannot be used."""


def parse(data: bytes, row: int, most_bytes: int) -> Any:
    """Read one record.

    Args:
        data: JSON in UTF-8.
        row: of the record, for the message.
        most_bytes: a larger record is refused unread: its values take up to 50 times its memory.

    Raises:
        BadRecord: it is too large, no UTF-8, no JSON (NaN and Infinity are none), has a key twice, numbers of
            thousands of digits, or nests too deeply; or it is neither an object nor an array.
    """
    if len(data) > most_bytes:
        raise BadRecord(
            f"record {row} has {len(data)} bytes, expected at most {most_bytes} (parameter max_record_bytes)"
        )
    try:
        record = _DECODER.decode(data.decode())
    except UnicodeDecodeError as error:
        raise BadRecord(f"record {row} is not UTF-8: {error.reason} at byte {error.start}") from None
    except RecursionError:
        raise BadRecord(f"record {row} nests too deeply") from None
    except ValueError as error:  # also of `int`, for too many digits
        raise BadRecord(f"record {row} is not JSON: {error}") from None
    if not isinstance(record, dict | list):
        raise BadRecord(f"record {row} is {shown(record)}, expected an object or an array")
    return record


def value_at(record: Any, path: Sequence[str], row: int) -> Any:
    """The value at the path; MISSING where a key, a position or the object that would have it is absent or null.

    Raises:
        BadRecord: the path leads into a value that is neither object nor array.
    """
    value = record
    for depth, step in enumerate(path):
        if isinstance(value, dict):
            value = value.get(step, MISSING)
        elif isinstance(value, list) and _is_position(step):
            position = int(step)
            value = value[position] if position < len(value) else MISSING
        else:
            expected = "an array" if step.isdigit() else "an object"
            raise BadRecord(f"record {row}: '{'.'.join(path[:depth])}' is {shown(value)}, expected {expected}")
        if value is None or value is MISSING:
            return MISSING
    return value


def check_keys(record: Any, known: dict[str, Any], row: int, path: tuple[str, ...] = ()) -> None:
    """Refuse keys that no feature uses.

    Args:
        record: an object, an array, or what stands in its place.
        known: a dictionary for each key that may be there, with what may be in its value; empty: anything. Of an
            array, positions; it may have others.
        row: of the record, for the message.
        path: to this object.

    Raises:
        BadRecord: naming the first such key.
    """
    if known and isinstance(record, list):
        record = {step: record[int(step)] for step in known if _is_position(step) and int(step) < len(record)}
    if not known or not isinstance(record, dict):
        return
    for key, value in record.items():
        if key not in known:
            where = ".".join((*path, key))
            raise BadRecord(f"record {row} has {shown(where)}, which is not in the schema")
        check_keys(value, known[key], row, (*path, key))


def _is_position(step: str) -> bool:
    return step.isascii() and step.isdigit()


def shown(value: Any) -> str:
    """A value in a message: JSON, cut where it is long."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"an array of {len(value)}"
    text = "missing" if value is MISSING else json.dumps(value)
    return text if len(text) <= 60 else text[:60] + "…"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entry = dict(pairs)
    if len(entry) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {shown(key)} stands twice in one object")
            seen.add(key)
    return entry


def _refuse(literal: str) -> NoReturn:
    raise ValueError(f"{literal} is no JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)
