# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A config's inputs and outputs against those of the engine that it serves, as engine.json describes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trtkit.config import ModelConfig
from trtkit.errors import nearest
from trtkit.lint.edits import set_value
from trtkit.lint.model import Found, Model
from trtkit.lint.plan_files import Engine, EngineTensor, PlanFile, of_first_plan
from trtkit.lint.rule import Rule, rule
from trtkit.lint.shapes import agree, shape_text, type_of
from trtkit.pbtxt import Path

_TYPES = ModelConfig().input.add().DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_name
_SIDES = ("input", "output")


def _filled_elsewhere(model: Model) -> set[str]:
    """The tensors of a model that its config names outside of input and output."""
    config = model.config
    controls = [each.name for each in config.sequence_batching.control_input]
    states = [name for each in config.sequence_batching.state for name in (each.input_name, each.output_name)]
    batch = [name for each in config.batch_input for name in each.target_name]
    return {*controls, *states, *batch}


def _given(model: Model, engine: Engine) -> Iterator[tuple[str, int, Any, dict[str, EngineTensor]]]:
    """The inputs and outputs of the config, with what the engine has on that side."""
    for side in _SIDES:
        there = engine.of(side)
        for index, tensor in enumerate(getattr(model.config, side)):
            yield side, index, tensor, there


@rule("PLN012", "tensor-that-the-engine-has-not", server=True)
@of_first_plan
def tensor_not_in_engine(model: Model, plan: PlanFile, engine: Engine) -> Iterator[Found]:
    """The config has an input or output that the engine has not.

    Source: tensorrt_backend, model_state.cc, CheckAllowedModelInput and CheckAllowedModelOutput.

    Wrong:
        input { name: "img" data_type: TYPE_FP32 dims: [ 3, 224, 224 ] }  # the engine's: image

    Right:
        input { name: "image" data_type: TYPE_FP32 dims: [ 3, 224, 224 ] }
    """
    for side, index, each, there in _given(model, engine):
        if each.name and each.name not in there:
            words = f"unexpected inference {side} '{each.name}', allowed {side}s are: {', '.join(sorted(there))}"
            yield model.found((side, index, "name"), f"{words}; in {plan.file}; {nearest(each.name, there)}")


@rule("PLN013", "engine-tensor-not-in-the-config", server=True, depends_on_server=True)
@of_first_plan
def engine_tensor_missing(model: Model, plan: PlanFile, engine: Engine) -> Iterator[Found]:
    """The engine has an input or output that the config does not name.

    A config without any inputs, or outputs, is completed from the engine, unless the server is strict.
    Source: tensorrt_backend, instance_state.cc.

    Wrong:
        input { name: "ids" data_type: TYPE_INT32 dims: [ 128 ] }  # the engine's: ids, mask

    Right:
        input { name: "ids" data_type: TYPE_INT32 dims: [ 128 ] }
        input { name: "mask" data_type: TYPE_INT32 dims: [ 128 ] }
    """
    elsewhere = _filled_elsewhere(model)
    for side in _SIDES:
        names, there = [each.name for each in getattr(model.config, side)], engine.of(side)
        strangers = sum(name not in there for name in names)
        lost = [name for name in there if name not in names and name not in elsewhere]
        if (names or model.server.strict) and len(lost) > strangers:
            for name in lost:
                words = f"expected configuration for {side} '{name}' for {model.config.name}"
                yield model.found((side,), f"{words}; {plan.file} has it")


@rule("PLN014", "data-type-of-the-engine", server=True, fixable=True)
@of_first_plan
def type_differs(model: Model, plan: PlanFile, engine: Engine) -> Iterator[Found]:
    """An input or output has another data type than in the engine.

    Source: tensorrt_backend, instance_state.cc.

    Wrong:
        input { name: "ids" data_type: TYPE_INT64 dims: [ 128 ] }  # the engine's is INT32

    Right:
        input { name: "ids" data_type: TYPE_INT32 dims: [ 128 ] }
    """
    for side, index, each, there in _given(model, engine):
        known = there.get(each.name)
        if known is None or not each.data_type or known.dtype not in _TYPES:
            continue
        if type_of(each) != known.dtype:
            words = f"unexpected datatype {known.dtype} for inference {side} '{each.name}', expecting {type_of(each)}"
            path: Path = (side, index, "data_type")
            told = f"{plan.file} has {known.dtype}: write that"
            fix = set_value(model.document, path, known.dtype)
            yield model.found(path, f"{words} for {model.config.name}; {told}", fix=fix)


@rule("PLN015", "dims-of-the-engine", server=True)
@of_first_plan
def dims_differ(model: Model, plan: PlanFile, engine: Engine) -> Iterator[Found]:
    """An input or output has other dims than in the engine.

    With max_batch_size above 0 the batch, the engine's first dimension, is left out of the dims.
    Source: tensorrt_backend, tensorrt_utils.cc, CompareDimsSupported.

    Wrong:
        max_batch_size: 8
        input { name: "x" data_type: TYPE_FP32 dims: [ -1, 3, 224, 224 ] }  # the engine's: [ -1, 3, 224, 224 ]

    Right:
        max_batch_size: 8
        input { name: "x" data_type: TYPE_FP32 dims: [ 3, 224, 224 ] }
    """
    batching = model.config.max_batch_size > 0
    for side, index, each, there in _given(model, engine):
        known = there.get(each.name)
        if known is None or known.shape is None or known.sizes or not each.dims or _ragged(each):
            continue
        dims = list(each.reshape.shape if each.HasField("reshape") else each.dims)
        full = [-1, *dims] if batching else dims
        if not agree(full, known.shape):
            words = f"model '{model.config.name}', tensor '{each.name}': the model expects {len(known.shape)}"
            made = f"{len(full)} dimensions (shape {shape_text(full)}{', with the batch' if batching else ''})"
            told = f"dimensions (shape {shape_text(known.shape)}) but the model configuration specifies {made}"
            yield model.found((side, index, "dims"), f"{words} {told}; {plan.file} has them")


def _ragged(tensor: Any) -> bool:
    return bool(getattr(tensor, "allow_ragged_batch", False))


RULES: tuple[Rule, ...] = (tensor_not_in_engine, engine_tensor_missing, type_differs, dims_differ)
