# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The config of a Python model: its part's own config.pbtxt, and on top what the project file says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf import json_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from trtkit.config.block import Block, blocks, check_block, on_top, with_block
from trtkit.config.model import tensor_row
from trtkit.config.reasons import Explained, Path, Reasons, still_true
from trtkit.dtypes import by_name
from trtkit.errors import ConfigError, nearest
from trtkit.parts import FUNCTION_PART, is_routing, part_config, part_reads
from trtkit.pbtxt import Document, read
from trtkit.project import InputSpec, Project
from trtkit.signature import TensorSpec

_OF_TRITON = ("EXECUTION_ENV_PATH", "FORCE_CPU_ONLY_INPUT_TENSORS", "TRITON_BATCH_STRATEGY_PATH")
_SIDES = ("input", "output")


def explained_part(
    project: Project, name: str, known: Block | None = None, why: Reasons | None = None, variant: str = ""
) -> Explained:
    """The config of a model made of a part or of a Python function, and why its values are what they are.

    Args:
        project: holds ``inputs:``, ``outputs:``, ``parameters:`` and the blocks.
        name: the model.
        known: what the build knows: parameters, or tensors and a batch that follow from other models.
        why: the reasons of those.
        variant: one of the model's ``configs:``; ``""`` for config.pbtxt.

    Raises:
        ConfigError: a block holds what ModelConfig has not, a parameter that the part has not, tensors without a
            shape, or shapes without the batch that the model is to have.
    """
    check_block(project, name)
    document, known = read(part_config(part_of(project, name)), ModelConfig), known or {}
    fields: dict[str, Any] = json_format.MessageToDict(document.message, preserving_proto_field_name=True)
    given = {"parameters": _parameters(project, name, document)}
    layers = [block for block, _ in blocks(project, name, variant)]
    replaced = _tensors(project, name, {**fields, **known}, layers)
    if _tensors_are_examples(project, name):
        fields = {key: value for key, value in fields.items() if key not in _SIDES}
    fields |= {**known, "name": name, "parameters": {**fields.get("parameters", {}), **known.get("parameters", {})}}
    fields = on_top(fields | replaced, given, project, ("models", name))
    new = {*known, *replaced} | ({*_SIDES} if _tensors_are_examples(project, name) else set())
    kept = {path: text for path, text in _comments(document).items() if path[0] not in new - {"parameters"}}
    for side in _SIDES:
        fields[side] = [*fields.get(side, []), *_new_rows(fields.get(side, []), side, layers)]
    config = with_block(fields, project, name, variant)
    for side in _SIDES:
        _refuse_without(project, name, side, config)
    return Explained(config, still_true({**kept, **(why or {})}, config, [given, *layers]))


def part_of(project: Project, name: str) -> str:
    """The part that a Python model is made of."""
    source = project.models[name].source
    assert source is not None, f"{name} is an ensemble"
    return source.part or FUNCTION_PART


def _tensors_are_examples(project: Project, name: str) -> bool:
    part = part_of(project, name)
    return part == FUNCTION_PART or is_routing(part)


def _parameters(project: Project, name: str, document: Document) -> dict[str, dict[str, str] | None]:
    """``parameters:`` as ModelConfig has them, all of them texts.

    Raises:
        ConfigError: one that the part does not read.
    """
    part, given = part_of(project, name), project.models[name].parameters
    for key in given:
        if key not in _OF_TRITON and not part_reads(part, key):
            where = project.where("models", name, "parameters", key)
            known = document.message.parameters
            raise ConfigError(f"{where}: the part '{part}' has no parameter '{key}'; {nearest(key, known)}")
    return {key: None if value is None else {"string_value": _text(value)} for key, value in given.items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _tensors(project: Project, name: str, fields: Block, layers: Sequence[Block]) -> dict[str, Any]:
    """``inputs:`` and ``outputs:`` as rows, in place of the part's, and the batch that goes with them."""
    spec = project.models[name]
    sides = {side: given for side, given in (("input", spec.inputs), ("output", spec.output_specs)) if given}
    shapes = [tuple(each.shape) for tensors in sides.values() for each in tensors.values()]
    if not shapes:
        return {}
    batched = (
        all(isinstance(shape[0], str) if shape else False for shape in shapes) and len({s[0] for s in shapes}) == 1
    )
    wanted = next((block["max_batch_size"] for block in reversed(layers) if "max_batch_size" in block), None)
    size = int(fields.get("max_batch_size", 0) if wanted is None else wanted)
    if size and not batched:
        if wanted is not None or not _tensors_are_examples(project, name):
            raise _no_batch(project, name, size)
        size = 0
    rows = {
        side: [tensor_row(_spec(key, each), size) for key, each in tensors.items()] for side, tensors in sides.items()
    }
    return {**rows, "max_batch_size": size}


def _spec(name: str, given: InputSpec) -> TensorSpec:
    return TensorSpec(name, by_name(given.data_type), tuple(given.shape))


def _no_batch(project: Project, name: str, size: int) -> ConfigError:
    return ConfigError(
        f"{project.where('models', name, 'inputs')}: max_batch_size is {size}, so that the first axis of every input "
        "and output is the batch: give all of them one name there, e.g. [batch, 4]; or give `config: "
        "{max_batch_size: 0}`"
    )


def _new_rows(known: Sequence[Block], side: str, layers: Sequence[Block]) -> Iterator[Block]:
    """Tensors that a block gives whole, and that the part's config leaves out: optional ones, or a function's."""
    names = {row["name"] for row in known}
    for row in (row for block in layers for row in block.get(side) or []):
        if row.get("name") and row["name"] not in names and "data_type" in row and "dims" in row:
            names.add(row["name"])
            yield {"name": row["name"]}


def _refuse_without(project: Project, name: str, side: str, config: ModelConfig) -> None:
    if not getattr(config, side):
        passes_on = is_routing(part_of(project, name))
        models = "the models that it passes requests on to as `models: [A, B]`, or " if passes_on else ""
        raise ConfigError(
            f"{project.where('models', name)}: model '{name}' has no {side}s; give it {models}"
            f"`{side}s: {{NAME: {{data_type: FP32, shape: [batch, 4]}}}}`"
        )


def _comments(document: Document) -> dict[Path, str]:
    """The part's own words about its tensors and parameters: at the end of the line, or alone above it."""
    lines: dict[int, str] = {}
    for comment in document.comments:
        line, _ = document.position(comment.offset)
        text = comment.text.lstrip("#").strip()
        if comment.alone:  # goes with those above it to what stands below
            lines[line + 1] = f"{lines.pop(line, '')} {text}".strip()
        else:
            lines[line] = text
    rows = [path for path in document.spans if path[0] in (*_SIDES, "parameters") and len(path) == 2]
    places = {tuple(path): document.where(path)[0] for path in rows}
    return {path: lines[line] for path, line in places.items() if line in lines}
