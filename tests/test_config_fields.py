# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Every field that the protobuf has, now or later, goes through config.pbtxt and through ``config:`` unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc.model_config_pb2 import ModelConfig

from trtkit import pbtxt
from trtkit.config import is_generated, read_config, to_text
from trtkit.config.block import with_block
from trtkit.config.fields import map_entry
from trtkit.project import load_project

INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
FLOATS = {FieldDescriptor.CPPTYPE_FLOAT: 32, FieldDescriptor.CPPTYPE_DOUBLE: 64}
TEXTS = (
    "x",
    "quotes \" and '",
    "back\\slash",
    "two\nlines\t",
    "Grüße ✓",
    "yes",
    "1",
    "1e3",
    "null",
    "# no comment",
    "",
)


class Quoted(yaml.SafeDumper):
    """Every text in quotes: a plain 1e3 is a number in a project file."""


Quoted.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


def samples(field: FieldDescriptor) -> list[Any]:
    """Values of one plain field: every word of an enum, the ends of a range, awkward texts."""
    if field.enum_type is not None:
        return [value.name for value in field.enum_type.values]
    if field.cpp_type in INTEGERS:
        return [*INTEGERS[field.cpp_type], 1]
    if field.cpp_type in FLOATS:
        return [0.5, -1.0, 1e-20, float("inf"), float("-inf")]
    return [True] if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else list(TEXTS)


def every_value(message: Descriptor) -> Iterator[dict[str, Any]]:
    """For each field of a message and of those inside it, mappings that give it each of its samples, and no other."""
    for field in message.fields:
        if entry := map_entry(field):
            keys = [str(key) for key in samples(entry[0]) if str(key).isprintable()]
            for item in inner(entry[1]):
                yield {field.name: {keys[-1]: item}}
            yield {field.name: {key: next(inner(entry[1])) for key in keys}}
        elif field.is_repeated:
            items = list(inner(field))
            yield {field.name: items}
            yield from ({field.name: [item]} for item in items)
        else:
            yield from ({field.name: item} for item in inner(field))


def inner(field: FieldDescriptor) -> Iterator[Any]:
    """The values of one item of a field; a message empty first."""
    if field.message_type is None:
        yield from samples(field)
    else:
        yield {}
        yield from every_value(field.message_type)


def message_of(value: dict[str, Any], message: Any) -> Any:
    """The message that a block's mapping stands for, made field by field, without json_format."""
    for name, item in value.items():
        field = message.DESCRIPTOR.fields_by_name[name]
        place = getattr(message, name)
        if entry := map_entry(field):
            for key, one in item.items():
                number = int(key) if entry[0].cpp_type in INTEGERS else key
                if entry[1].message_type is None:
                    place[number] = one
                else:
                    message_of(one, place[number])
        elif field.message_type is not None and field.is_repeated:
            for one in item:
                message_of(one, place.add())
        elif field.message_type is not None:
            place.SetInParent()
            message_of(item, place)
        elif field.is_repeated:
            place.extend(number_of(field, one) for one in item)
        else:
            setattr(message, name, number_of(field, item))
    return message


def number_of(field: FieldDescriptor, value: Any) -> Any:
    return field.enum_type.values_by_name[value].number if field.enum_type is not None else value


def through_yaml(block: dict[str, Any], folder: Path) -> ModelConfig:
    """What a ``config:`` block makes of a model that trtkit knows nothing of but its name and its tensors' names."""
    (folder / "m.onnx").write_bytes(b"")
    spec = {"models": {"m": {"source": {"onnx": "m.onnx"}, "config": block}}}
    (folder / "trtkit.yaml").write_text(yaml.dump(spec, Dumper=Quoted, allow_unicode=True), encoding="utf-8")
    known = {side: [{"name": row["name"]} for row in block[side]] for side in ("input", "output") if side in block}
    return with_block({"name": "m", **known}, load_project(folder / "trtkit.yaml"), "m")


def top_level(field: FieldDescriptor) -> list[dict[str, Any]]:
    """Blocks for one field of a ModelConfig, such as a project may have."""
    found = [block for block in every_value(ModelConfig.DESCRIPTOR) if field.name in block]
    if field.name in ("input", "output"):
        rows = [row for block in found for row in block[field.name] if "name" not in row]
        return [{field.name: [{"name": f"t{index}", **row} for index, row in enumerate(rows)]}]
    if field.name == "max_batch_size":
        return [{"max_batch_size": 1}, {"max_batch_size": 2**31 - 1}]
    return [{"name": "m"}] if field.name == "name" else found


@pytest.mark.parametrize("field", [*ModelConfig.DESCRIPTOR.fields], ids=lambda field: field.name)
def test_every_field_goes_through_text(field: FieldDescriptor) -> None:
    for block in (block for block in every_value(ModelConfig.DESCRIPTOR) if field.name in block):
        config = message_of(block, ModelConfig())
        text = to_text(config)
        assert read_config(text, "text") == config == pbtxt.read(text, ModelConfig).message, text
        assert to_text(read_config(text, "text")) == text
        assert is_generated(text)


@pytest.mark.parametrize("field", [*ModelConfig.DESCRIPTOR.fields], ids=lambda field: field.name)
def test_every_field_goes_through_a_config_block(field: FieldDescriptor, tmp_path: Path) -> None:
    for block in top_level(field):
        assert through_yaml(block, tmp_path) == message_of(block, ModelConfig(name="m")), block


def everything(message: Descriptor) -> set[str]:
    """The full names of every field and every word of the enums of a message and of those inside it."""
    names = set()
    for field in message.fields:
        names.add(field.full_name)
        if field.enum_type is not None:
            names |= {f"{field.full_name}={value.name}" for value in field.enum_type.values}
        if field.message_type is not None:
            names |= everything(field.message_type)
    return names


def named(value: Any, message: Descriptor) -> set[str]:
    """The same of what a block's mapping gives."""
    names = set()
    for name, item in value.items():
        field = message.fields_by_name[name]
        names.add(field.full_name)
        if entry := map_entry(field):
            names |= {one.full_name for one in entry}
            field = entry[1]
            items = list(item.values())
        else:
            items = item if field.is_repeated else [item]
        for one in items:
            if field.message_type is not None:
                names |= named(one, field.message_type)
            elif field.enum_type is not None:
                names.add(f"{field.full_name}={one}")
    return names


def test_no_field_word_or_member_is_forgotten() -> None:
    """The two tests above see all that the installed protobuf has."""
    seen = set().union(
        *(named(block, ModelConfig.DESCRIPTOR) for field in ModelConfig.DESCRIPTOR.fields for block in top_level(field))
    )
    assert everything(ModelConfig.DESCRIPTOR) == seen
    assert len(seen) > 200
    assert {
        "inference.ModelDynamicBatching.PriorityQueuePolicyEntry.key",
        "inference.ModelMetrics.metric_control",
    } < seen


# -- whole messages


def plain_values(field: FieldDescriptor, texts: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    if field.enum_type is not None:
        return st.sampled_from([value.name for value in field.enum_type.values])
    if field.cpp_type in INTEGERS:
        return st.integers(*INTEGERS[field.cpp_type])
    if field.cpp_type in FLOATS:
        return st.floats(width=FLOATS[field.cpp_type], allow_nan=False)
    return st.booleans() if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else texts


ANY_TEXT = st.sampled_from(TEXTS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
KEYS = ANY_TEXT.filter(str.isprintable)


@st.composite
def messages(draw: st.DrawFn, message: Descriptor, most: int = 4) -> dict[str, Any]:
    """A mapping of some of a message's fields, at most one of each oneof."""
    chosen = draw(st.lists(st.sampled_from(list(message.fields)), max_size=most)) if message.fields else []
    value: dict[str, Any] = {}
    taken: set[str] = set()
    for field in chosen:
        oneof = field.containing_oneof.name if field.containing_oneof is not None else field.name
        if oneof not in taken:
            taken.add(oneof)
            value[field.name] = draw(values(field))
    return value


def values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if entry := map_entry(field):
        keys = KEYS if entry[0].cpp_type not in INTEGERS else st.integers(*INTEGERS[entry[0].cpp_type]).map(str)
        return st.dictionaries(keys, item_values(entry[1]), min_size=1, max_size=3)
    return st.lists(item_values(field), min_size=1, max_size=3) if field.is_repeated else item_values(field)


def item_values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    return plain_values(field, ANY_TEXT) if field.message_type is None else messages(field.message_type)


def as_a_project_has_it(block: dict[str, Any]) -> dict[str, Any]:
    """The same with the model's own name, names for its tensors, and a batch that can be."""
    fixed = {**block, "name": "m"}
    if "max_batch_size" in block:
        size = block["max_batch_size"]
        fixed["max_batch_size"] = size if size >= 0 else -(size + 1)
    for side in {"input", "output"} & block.keys():
        fixed[side] = [{**row, "name": f"t{index}"} for index, row in enumerate(block[side])]
    return fixed


@settings(max_examples=200)
@given(block=messages(ModelConfig.DESCRIPTOR, 8))
def test_whole_messages_go_through_text_and_a_config_block(
    tmp_path_factory: pytest.TempPathFactory, block: dict[str, Any]
) -> None:
    block = as_a_project_has_it(block)
    config = message_of(block, ModelConfig())
    assert read_config(to_text(config), "text") == config
    assert through_yaml(block, tmp_path_factory.mktemp("project")) == config


@settings(max_examples=100)
@given(block=messages(ModelConfig.DESCRIPTOR, 8), data=st.data())
def test_reasons_are_comments_whatever_they_are_of(block: dict[str, Any], data: st.DataObject) -> None:
    """A reason adds a comment, and at most a field that was at its default already."""
    config = message_of(block, ModelConfig())
    paths = [(name,) for name in ModelConfig.DESCRIPTOR.fields_by_name] + [("input", 0), ("model_warmup", 0, "name")]
    reasons = dict.fromkeys(data.draw(st.lists(st.sampled_from(paths), max_size=5)), 'because it\'s "so" {[')
    text = to_text(config, reasons)
    assert read_config(text, "text") == config
    assert is_generated(text)
    assert all(len(line) <= 120 or "#" in line or "{ " not in line for line in text.splitlines()[1:])
