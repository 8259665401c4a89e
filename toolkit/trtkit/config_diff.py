# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Two ModelConfigs compared as messages: which field has which value on either side.

Comments, the order of fields and the spelling of numbers do not matter. Rows with names (inputs, instance groups,
warm-ups, states) are matched by their names, so that a row put in between changes one row and not all that follow.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from trtkit.config import ModelConfig

ABSENT = "(not set)"
_NAMES = ("name", "input_name")  # the fields that name a row, in the order in which they are looked for


@dataclass(frozen=True)
class Difference:
    """One place where two configs differ.

    Attributes:
        path: e.g. ``dynamic_batching.max_queue_delay_microseconds`` or ``input[x].dims``.
        first: the value on the first side, as in config.pbtxt; ``(not set)`` where there is none.
        second: the same of the second side.
    """

    path: str
    first: str
    second: str

    def __str__(self) -> str:
        return f"{self.path}: {self.first} -> {self.second}"

    def to_json(self) -> dict[str, str]:
        """The three texts by name."""
        return asdict(self)


def differences(first: ModelConfig, second: ModelConfig) -> list[Difference]:
    """Where two configs differ, in the order of ModelConfig's fields; empty exactly when they are equal messages."""
    return list(_messages(first, second, ""))


def _messages(first: Message, second: Message, path: str) -> Iterator[Difference]:
    fields: Any = first.DESCRIPTOR.fields  # two implementations of descriptors have two types
    for field in fields:
        inner = f"{path}.{field.name}" if path else field.name
        one, other = getattr(first, field.name), getattr(second, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            yield from _maps(one, other, field.message_type.fields_by_name["value"], inner)
        elif field.is_repeated and field.message_type is not None:
            yield from _rows(one, other, field, inner)
        elif field.is_repeated:
            texts = [f"[{', '.join(_text(value, field) for value in values)}]" for values in (one, other)]
            yield from _texts(inner, *texts)
        elif field.message_type is not None or field.containing_oneof:
            has = [message.HasField(field.name) for message in (first, second)]
            yield from _values(one if has[0] else None, other if has[1] else None, field, inner)
        else:
            yield from _texts(inner, _text(one, field), _text(other, field))


def _texts(path: str, first: str, second: str) -> Iterator[Difference]:
    if first != second:
        yield Difference(path, first, second)


def _values(first: Any, second: Any, field: FieldDescriptor, path: str) -> Iterator[Difference]:
    """One value on each side; None where it is not set."""
    if field.message_type is not None and first is not None and second is not None:
        yield from _messages(first, second, path)
    else:
        yield from _texts(path, *(ABSENT if value is None else _text(value, field) for value in (first, second)))


def _maps(
    first: Mapping[Any, Any], second: Mapping[Any, Any], value: FieldDescriptor, path: str
) -> Iterator[Difference]:
    for key in sorted({*first, *second}):
        yield from _values(first.get(key), second.get(key), value, f"{path}[{key}]")


def _rows(
    first: Sequence[Message], second: Sequence[Message], field: FieldDescriptor, path: str
) -> Iterator[Difference]:
    """Repeated messages, by name where every row of both sides has one of its own."""
    names, others = _names_of(first), _names_of(second)
    if names is None or others is None:
        names, others = ([str(index) for index in range(len(side))] for side in (first, second))
    one, other = dict(zip(names, first, strict=True)), dict(zip(others, second, strict=True))
    for name in [*one, *(name for name in other if name not in one)]:
        yield from _values(one.get(name), other.get(name), field, f"{path}[{name}]")
    kept, again = [name for name in one if name in other], [name for name in other if name in one]
    yield from _texts(f"{path} (order)", ", ".join(kept), ", ".join(again))


def _names_of(rows: Sequence[Message]) -> list[str] | None:
    """The names of rows; None where not all have one, or two the same."""
    key = next((key for key in _NAMES if rows and key in rows[0].DESCRIPTOR.fields_by_name), None)
    if key is None:
        return [] if not rows else None
    names = [str(getattr(row, key)) for row in rows]
    return names if all(names) and len(set(names)) == len(names) else None


def _text(value: Any, field: FieldDescriptor) -> str:
    """A value as it stands in config.pbtxt, on one line."""
    if field.message_type is not None:
        inside = text_format.MessageToString(value, as_one_line=True, use_short_repeated_primitives=True).strip()
        return f"{{ {inside} }}" if inside else "{}"
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return str(known.name if known else value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
