# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The blocks of the project file on top of what trtkit knows: ``config:``, and then one of ``configs:``.

Messages are merged field by field, maps by key, ``input`` and ``output`` by name; every other list is the block's
alone. ``null`` takes away what stood there, and a member of a oneof takes the other's place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from tritonclient.grpc.model_config_pb2 import ModelConfig

from trtkit.config.check import YamlPath, check_fields
from trtkit.config.fields import map_entry
from trtkit.errors import ConfigError, nearest
from trtkit.project import Project

Block = Mapping[str, Any]
_SCHEDULERS = ("dynamic_batching", "sequence_batching", "ensemble_scheduling")


def check_block(project: Project, name: str) -> None:
    """Check a model's ``config:`` and ``configs:`` as far as that can be done before the model is known.

    Raises:
        ConfigError: a field that ModelConfig has not, or a value of another type, with line and column.
    """
    for variant in ("", *project.models[name].configs):
        block, path = blocks(project, name, variant)[-1]
        check_fields(block, ModelConfig.DESCRIPTOR, project, path)
        if "max_batch_size" in block and (block["max_batch_size"] is None or block["max_batch_size"] < 0):
            given = block["max_batch_size"]
            raise ConfigError(
                f"{project.where(*path, 'max_batch_size')}: max_batch_size is {'null' if given is None else given}; "
                "it has to be 0 (no batching) or more"
            )
        if block.get("name", name) != name:
            raise ConfigError(
                f"{project.where(*path, 'name')}: name: '{block['name']}' has to be the model's, '{name}'"
            )


def blocks(project: Project, name: str, variant: str = "") -> list[tuple[Block, YamlPath]]:
    """What goes on top of what trtkit knows, in order, each with its path in the project file.

    Args:
        project: the project.
        name: the model.
        variant: one of its ``configs:``, or ``""`` for config.pbtxt.
    """
    spec, path = project.models[name], ("models", name)
    found: list[tuple[Block, YamlPath]] = [(spec.config, (*path, "config"))]
    if variant in spec.configs:
        found.append((spec.configs[variant], (*path, "configs", variant)))
    return found


def with_block(known: dict[str, Any], project: Project, name: str, variant: str = "") -> ModelConfig:
    """The message of the known fields with the project file's blocks on top.

    Raises:
        ConfigError: what `check_block` finds; or a tensor that the model has not, or an ensemble with a batcher of
            its own.
    """
    check_block(project, name)
    for block, path in blocks(project, name, variant):
        known = on_top(known, block, project, path)
    return json_format.ParseDict(known, ModelConfig())


def on_top(known: dict[str, Any], block: Block, project: Project, path: YamlPath) -> dict[str, Any]:
    """The known fields with one block on top, which has been checked; see `with_block`."""
    merged = _merged(known, {k: v for k, v in block.items() if k not in ("input", "output")}, ModelConfig.DESCRIPTOR)
    for side in ("input", "output"):
        if block.get(side) is not None:
            merged[side] = _merged_tensors(known.get(side, []), block[side], project, (*path, side))
        elif side in block:
            merged.pop(side, None)
    if "ensemble_scheduling" in known and "ensemble_scheduling" not in merged:
        guilty = next(field for field in _SCHEDULERS if field in block)
        raise ConfigError(
            f"{project.where(*path, guilty)}: '{guilty}' cannot be given to an ensemble: its steps are what it is, "
            "and each batches by its own config"
        )
    return merged


def _merged(known: Block, given: Block, message: Descriptor) -> dict[str, Any]:
    merged = dict(known)
    for key, value in given.items():
        field = message.fields_by_name[key]
        if value is None:
            merged.pop(key, None)
            continue
        rivals = field.containing_oneof.fields if field.containing_oneof is not None else ()
        for rival in rivals:
            if rival.name != key:
                merged.pop(rival.name, None)
        merged[key] = _merged_field(merged.get(key), value, field)
    return merged


def _merged_field(known: Any, given: Any, field: FieldDescriptor) -> Any:
    if entry := map_entry(field):
        item, merged = entry[1], dict(known or {})
        for key, value in given.items():
            merged.pop(key, None)
            if value is not None:
                merged[key] = _merged({}, value, item.message_type) if item.message_type else value
        return merged
    if field.message_type is None:
        return [_as_json(item) for item in given] if field.is_repeated else _as_json(given)
    if field.is_repeated:
        return [_merged({}, item, field.message_type) for item in given]
    return _merged(known or {}, given, field.message_type)


def _as_json(value: Any) -> Any:
    """A plain value as json_format takes it, which has no numbers for what is not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _merged_tensors(known: Sequence[Block], given: Sequence[Block], project: Project, path: YamlPath) -> list[Block]:
    rows = {row["name"]: dict(row) for row in known}
    side = str(path[-1])
    message = ModelConfig.DESCRIPTOR.fields_by_name[side].message_type
    for index, row in enumerate(given):
        name = row.get("name")
        if name not in rows:
            raise ConfigError(
                f"{project.where(*path, index)}: the model has no {side} '{name}'; {nearest(str(name), rows)}"
            )
        rows[name] = _merged(rows[name], row, message)
    return list(rows.values())
