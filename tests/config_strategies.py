# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies made from the protobuf's descriptor, so that no field can be forgotten."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from trtkit.config import ModelConfig

_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    """One value of a field."""
    if field.message_type is not None:
        return messages(field.message_type)
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    if field.cpp_type in _RANGES:
        low, high = _RANGES[field.cpp_type]
        return st.integers(max(low, -3), 9) | st.integers(low, high)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return st.binary(max_size=8) if field.type == FieldDescriptor.TYPE_BYTES else _TEXTS
    return st.floats(allow_nan=False, width=32)


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor) -> Any:
    """A message with a few of its fields set, each to anything."""
    message: Any = GetMessageClass(descriptor)()
    if not descriptor.fields:
        return message
    for field in draw(st.lists(st.sampled_from(list(descriptor.fields)), max_size=5, unique_by=lambda f: f.name)):
        inner = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for entry in draw(st.lists(messages(field.message_type), max_size=2)):
                if field.message_type.fields_by_name["value"].message_type is None:
                    inner[entry.key] = entry.value
                else:
                    inner[entry.key].CopyFrom(entry.value)
        elif field.is_repeated:
            inner.extend(draw(st.lists(values(field), max_size=3)))
        elif field.message_type is not None:
            inner.CopyFrom(draw(values(field)))
            inner.SetInParent()
        else:
            setattr(message, field.name, draw(values(field)))
    return message


def configs() -> st.SearchStrategy[ModelConfig]:
    """Any ModelConfig, most of which no server would take."""
    return messages(ModelConfig.DESCRIPTOR)
