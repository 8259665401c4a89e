# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A block of ModelConfig fields in the project file: every mistake is found, with its place, before protobuf sees it.

YAML's types are not guessed, because the build reads some of these fields too (``"8"`` is not 8). ``null`` is no
value: it takes a field away.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from trtkit.config.fields import map_entry
from trtkit.errors import ConfigError, nearest
from trtkit.project import Project

YamlPath = tuple[str | int, ...]

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_PYTHON_TYPES: dict[int, tuple[type, ...]] = {
    FieldDescriptor.CPPTYPE_INT32: (int,),
    FieldDescriptor.CPPTYPE_INT64: (int,),
    FieldDescriptor.CPPTYPE_UINT32: (int,),
    FieldDescriptor.CPPTYPE_UINT64: (int,),
    FieldDescriptor.CPPTYPE_FLOAT: (float, int),
    FieldDescriptor.CPPTYPE_DOUBLE: (float, int),
    FieldDescriptor.CPPTYPE_BOOL: (bool,),
    FieldDescriptor.CPPTYPE_STRING: (str,),
}
_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
}
_FLOAT_MAX = (2 - 2**-23) * 2.0**127
_CANONICAL = re.compile(r"0|-?[1-9][0-9]*")


def check_fields(value: Any, message: Descriptor, project: Project, path: YamlPath) -> None:
    """Check the fields of one message.

    Args:
        value: what the project file gives.
        message: what it is to be.
        project: knows the places.
        path: of the value in the project file.

    Raises:
        ConfigError: an unknown field, a value of another type or out of range, or two fields that exclude each other,
            with line and column.
    """
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{project.where(*path)}: '{_name(path)}' takes fields of {message.name}, got {_shown(value)}"
        )
    chosen: dict[str, str] = {}
    for key, inner in value.items():
        field = message.fields_by_name.get(key)
        if field is None:
            raise ConfigError(
                f"{project.where(*path, key)}: '{key}' is no field of {message.name}; "
                f"{nearest(key, message.fields_by_name)}"
            )
        if inner is None:
            continue
        if field.containing_oneof is not None:
            other = chosen.setdefault(field.containing_oneof.name, key)
            if other != key:
                raise ConfigError(
                    f"{project.where(*path, key)}: '{other}' and '{key}' exclude each other; leave one of them out"
                )
        _check_field(inner, field, project, (*path, key))


def _check_field(value: Any, field: FieldDescriptor, project: Project, path: YamlPath) -> None:
    if entry := map_entry(field):
        _check_map(value, *entry, project, path)
    elif field.is_repeated:
        if not isinstance(value, list):
            raise ConfigError(f"{project.where(*path)}: '{path[-1]}' takes a list, got {_shown(value)}")
        for index, item in enumerate(value):
            _check_value(item, field, project, (*path, index))
    else:
        _check_value(value, field, project, path)


def _check_map(value: Any, keys: FieldDescriptor, values: FieldDescriptor, project: Project, path: YamlPath) -> None:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{project.where(*path)}: '{path[-1]}' takes names and their values, got {_shown(value)}")
    for key, item in value.items():
        if limits := _RANGES.get(keys.cpp_type):
            low, high = limits
            if not _CANONICAL.fullmatch(key) or not low <= int(key) <= high:
                raise ConfigError(
                    f"{project.where(*path, key)}: the keys of '{path[-1]}' are whole numbers from {low} to {high}, "
                    f"got {_shown(key)}"
                )
        if item is not None:
            _check_value(item, values, project, (*path, key))


def _check_value(value: Any, field: FieldDescriptor, project: Project, path: YamlPath) -> None:
    name = _name(path)
    if field.message_type is not None:
        check_fields(value, field.message_type, project, path)
    elif field.enum_type is not None:
        names = field.enum_type.values_by_name
        if not isinstance(value, str) or value not in names:
            raise ConfigError(
                f"{project.where(*path)}: '{name}': {_shown(value)} is no {field.enum_type.name}; "
                f"{nearest(str(value), names)}"
            )
    elif type(value) not in _PYTHON_TYPES[field.cpp_type]:
        wanted = _PYTHON_TYPES[field.cpp_type][0]
        hint = f'; write "{value}"' if wanted is str and isinstance(value, int | float) else ""
        raise ConfigError(f"{project.where(*path)}: '{name}' takes {_WORDS[wanted]}, got {_shown(value)}{hint}")
    else:
        _check_range(value, field, f"{project.where(*path)}: '{name}'")


def _check_range(value: Any, field: FieldDescriptor, where: str) -> None:
    if limits := _RANGES.get(field.cpp_type):
        low, high = limits
        if not low <= value <= high:
            raise ConfigError(f"{where} takes whole numbers from {low} to {high}, got {value}")
    elif field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT and math.isfinite(value) and abs(value) > _FLOAT_MAX:
        raise ConfigError(f"{where} takes 32-bit floating-point numbers, got {value}")


def _name(path: YamlPath) -> str:
    """What the file calls a value; one of a list by the list's name."""
    return next(part for part in reversed(path) if isinstance(part, str))


def _shown(value: Any) -> str:
    return "nothing" if value is None else f"{value!r}"[:80]
