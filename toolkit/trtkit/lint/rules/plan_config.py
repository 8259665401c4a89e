# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A config against the engine that it serves, as engine.json describes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trtkit.config import ModelConfig
from trtkit.errors import nearest
from trtkit.lint.edits import set_value
from trtkit.lint.finding import Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.plan_files import Engine, EngineTensor, PlanFile, plan_files
from trtkit.lint.rule import Rule, rule
from trtkit.pbtxt import Path

_TYPES = ModelConfig().input.add().DESCRIPTOR.fields_by_name["data_type"].enum_type
_SIDES = ("input", "output")


def _engines(model: Model) -> Iterator[tuple[PlanFile, Engine]]:
    """The plans whose engine.json describes them."""
    for plan in plan_files(model):
        if plan.engine is not None and plan.header is not None and not plan.manifest_problem:
            yield plan, plan.engine


def _indices(model: Model) -> list[tuple[Path, str]]:
    """The profiles that the instance groups list, with their places."""
    return [
        (("instance_group", group, "profile", index), profile)
        for group, each in enumerate(model.config.instance_group)
        for index, profile in enumerate(each.profile)
    ]


def _listed(model: Model, engine: Engine) -> list[int]:
    """The profiles that are used: those listed, or the first one."""
    given = {int(text) for _, text in _indices(model) if text.isdigit()}
    return sorted(index for index in given if index < max(1, len(engine.profiles))) or [0]


def _batches(model: Model, engine: Engine) -> list[tuple[int, int]]:
    """The batches that the profiles in use take."""
    return [found for index in _listed(model, engine) if (found := engine.batches(index)) is not None]


@rule("PLN010", "max-batch-size-above-the-engine", server=True, fixable=True)
def batch_above_engine(model: Model) -> Iterator[Found]:
    """max_batch_size is larger than what the engine's profiles take.

    Those that instance_group lists count, and only the first profile where none is listed.
    Source: tensorrt_backend, model_state.cc, AutoCompleteConfigHelper.

    Wrong:
        max_batch_size: 16  # the engine's profile takes 1 to 8

    Right:
        max_batch_size: 8
    """
    for plan, engine in _engines(model):
        batches = _batches(model, engine)
        largest = max((high for _, high in batches), default=None)
        given = model.config.max_batch_size
        if largest is not None and given > largest:
            words = f"configuration specified max-batch {given} but TensorRT engine only supports max-batch {largest}"
            used = ", ".join(str(index) for index in _listed(model, engine))
            told = f"{plan.file} was built so (profile {used}); set it to {largest}, or build with larger profiles"
            fix = set_value(model.document, ("max_batch_size",), str(largest)) if model.document is not None else None
            yield model.found(("max_batch_size",), f"{words}; {told}", fix=fix)
            return


@rule("PLN011", "profile-beyond-the-engine", server=True)
def profile_beyond_engine(model: Model) -> Iterator[Found]:
    """An instance_group lists a profile that the engine does not have.

    Source: tensorrt_backend, model_state.cc, GetProfileIndices.

    Wrong:
        instance_group { profile: [ "0", "2" ] }  # the engine has 2 profiles

    Right:
        instance_group { profile: [ "0", "1" ] }
    """
    for _, engine in _engines(model):
        count = max(1, len(engine.profiles))
        beyond = [(path, text) for path, text in _indices(model) if text.isdigit() and int(text) >= count]
        for path, text in beyond:
            words = f"configuration specified invalid profile {text}"
            told = f"Number of profiles supported by TensorRT engine: {count}"
            yield model.found(path, f"{words}. {told}; they are counted from 0")
        if beyond:
            return


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
def tensor_not_in_engine(model: Model) -> Iterator[Found]:
    """The config has an input or output that the engine has not.

    Source: tensorrt_backend, model_state.cc, CheckAllowedModelInput and CheckAllowedModelOutput.

    Wrong:
        input { name: "img" data_type: TYPE_FP32 dims: [ 3, 224, 224 ] }  # the engine's: image

    Right:
        input { name: "image" data_type: TYPE_FP32 dims: [ 3, 224, 224 ] }
    """
    for plan, engine in _engines(model):
        bad = [(side, index, each.name, there) for side, index, each, there in _given(model, engine)]
        bad = [row for row in bad if row[2] and row[2] not in row[3]]
        for side, index, name, there in bad:
            words = f"unexpected inference {side} '{name}', allowed {side}s are: {', '.join(sorted(there))}"
            yield model.found((side, index, "name"), f"{words}; in {plan.file}; {nearest(name, there)}")
        if bad:
            return


@rule("PLN013", "engine-tensor-not-in-the-config", server=True)
def engine_tensor_missing(model: Model) -> Iterator[Found]:
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
    for plan, engine in _engines(model):
        missing = []
        for side in _SIDES:
            names = [each.name for each in getattr(model.config, side)]
            strangers = sum(name not in engine.of(side) for name in names)
            lost = [name for name in engine.of(side) if name not in names and name not in elsewhere]
            if (names or model.server.strict) and len(lost) > strangers:
                missing += [(side, name) for name in lost]
        for side, name in missing:
            words = f"expected configuration for {side} '{name}' for {model.config.name}"
            yield model.found((side,), f"{words}; {plan.file} has it")
        if missing:
            return


@rule("PLN014", "data-type-of-the-engine", server=True, fixable=True)
def type_differs(model: Model) -> Iterator[Found]:
    """An input or output has another data type than in the engine.

    Source: tensorrt_backend, instance_state.cc.

    Wrong:
        input { name: "ids" data_type: TYPE_INT64 dims: [ 128 ] }  # the engine's is INT32

    Right:
        input { name: "ids" data_type: TYPE_INT32 dims: [ 128 ] }
    """
    for plan, engine in _engines(model):
        found = False
        for side, index, each, there in _given(model, engine):
            known = there.get(each.name)
            if known is None or not each.data_type or known.dtype not in _TYPES.values_by_name:
                continue
            given = _TYPES.values_by_number[each.data_type].name
            if given != known.dtype:
                found = True
                words = f"unexpected datatype {known.dtype} for inference {side} '{each.name}', expecting {given}"
                path: Path = (side, index, "data_type")
                fix = set_value(model.document, path, known.dtype) if model.document is not None else None
                told = f"{plan.file} has {known.dtype}: write that"
                yield model.found(path, f"{words} for {model.config.name}; {told}", fix=fix)
        if found:
            return


@rule("PLN015", "dims-of-the-engine", server=True)
def dims_differ(model: Model) -> Iterator[Found]:
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
    for plan, engine in _engines(model):
        found = False
        for side, index, each, there in _given(model, engine):
            known = there.get(each.name)
            if known is None or known.shape is None or known.sizes or not each.dims or _ragged(each):
                continue
            dims = list(each.reshape.shape if each.HasField("reshape") else each.dims)
            full = [-1, *dims] if batching else dims
            if not _agree(full, known.shape):
                found = True
                words = f"model '{model.config.name}', tensor '{each.name}': the model expects {len(known.shape)}"
                made = f"{len(full)} dimensions (shape {_text(full)}{', with the batch' if batching else ''})"
                told = f"dimensions (shape {_text(known.shape)}) but the model configuration specifies {made}"
                yield model.found((side, index, "dims"), f"{words} {told}; {plan.file} has them")
        if found:
            return


def _ragged(tensor: Any) -> bool:
    return bool(getattr(tensor, "allow_ragged_batch", False))


def _agree(one: Any, other: Any) -> bool:
    return len(one) == len(other) and all(a == b or -1 in (a, b) for a, b in zip(one, other, strict=True))


def _text(shape: Any) -> str:
    return "[" + ",".join(str(size) for size in shape) + "]"


@rule("PLN016", "only-the-first-profile", Severity.ADVICE)
def only_first_profile(model: Model) -> Iterator[Found]:
    """The engine has several profiles, and the config uses the first one only.

    Without ``profile`` an instance group gets profile 0, and max_batch_size is limited by it.
    Source: tensorrt_backend, model_state.cc, GetProfileIndices.

    Wrong:
        instance_group { kind: KIND_GPU }  # the engine has 2 profiles

    Right:
        instance_group { kind: KIND_GPU profile: [ "0", "1" ] }
    """
    for plan, engine in _engines(model):
        if len(engine.profiles) > 1 and not _indices(model):
            every = ", ".join(f'"{index}"' for index in range(len(engine.profiles)))
            message = f"{plan.file} has {len(engine.profiles)} profiles and only profile 0 is used"
            yield model.found(("instance_group",), f"{message}; write profile: [ {every} ] in the instance groups")
            return


def _taken(batches: list[tuple[int, int]], size: int) -> bool:
    return any(low <= size <= high for low, high in batches)


@rule("PLN017", "batch-that-no-profile-takes", Severity.WARNING)
def batch_gap(model: Model) -> Iterator[Found]:
    """There are batches up to max_batch_size that no profile in use takes.

    The server makes such a batch all the same; its requests then fail.
    Source: tensorrt_backend, instance_state.cc, GetMostOptimizedProfile.

    Wrong:
        max_batch_size: 32  # the profiles take 1 to 4 and 16 to 32

    Right:
        max_batch_size: 32  # the profiles take 1 to 8 and 9 to 32
    """
    for plan, engine in _engines(model):
        batches = sorted(_batches(model, engine))
        top = min(model.config.max_batch_size, max((high for _, high in batches), default=0))
        reached, gaps = 0, []
        for low, high in batches:
            if low > reached + 1 and reached < top:
                gaps.append((reached + 1, min(low - 1, top)))
            reached = max(reached, high)
        if gaps:
            told = ", ".join(f"{low} to {high}" if low < high else str(low) for low, high in gaps[:5])
            message = f"no profile in use of {plan.file} takes a batch of {told}, so such requests fail"
            yield model.found(("max_batch_size",), f"{message}; build profiles without gaps, or list more of them")
            return


@rule("PLN018", "preferred-batch-size-of-no-profile", Severity.ADVICE)
def preferred_of_no_profile(model: Model) -> Iterator[Found]:
    """A preferred batch size is not the one that a profile was optimized for.

    TensorRT chooses the kernels of a profile for its opt shape. Preferred sizes are worth their delay where they
    are those; without such profiles they are better left out.
    Source: Triton's docs, batcher.md, preferred batch sizes.

    Wrong:
        dynamic_batching { preferred_batch_size: [ 6 ] }  # the profile's opt is 8

    Right:
        dynamic_batching { preferred_batch_size: [ 8 ] }
    """
    for _, engine in _engines(model):
        best = sorted(engine.best_batches(_listed(model, engine)))
        found = False
        for index, size in enumerate(model.config.dynamic_batching.preferred_batch_size if best else ()):
            if size not in best:
                found = True
                path: Path = ("dynamic_batching", "preferred_batch_size", index)
                told = ", ".join(str(each) for each in best)
                yield model.found(path, f"no profile in use is optimized for a batch of {size}; they are for {told}")
        if found:
            return


@rule("PLN019", "cuda-graph-that-is-not-captured", Severity.WARNING)
def graph_not_captured(model: Model) -> Iterator[Found]:
    """A graph_spec is for a batch that is never made, or leaves an input of the engine out.

    The server logs that the graph could not be captured and runs without it.
    Source: tensorrt_backend, instance_state.cc, BuildCudaGraph and SetCudaGraphShape.

    Wrong:
        optimization { cuda { graphs: true graph_spec { batch_size: 64 } } }  # the profile takes 1 to 8

    Right:
        optimization { cuda { graphs: true graph_spec { batch_size: 8 } } }
    """
    for plan, engine in _engines(model):
        batches, found = _batches(model, engine), False
        for index, spec in enumerate(model.config.optimization.cuda.graph_spec):
            path: Path = ("optimization", "cuda", "graph_spec", index)
            most = model.config.max_batch_size or spec.batch_size
            if spec.batch_size and batches and not (spec.batch_size <= most and _taken(batches, spec.batch_size)):
                found = True
                told = ", ".join(f"{low} to {high}" for low, high in batches)
                message = f"no CUDA graph is of use for batch {spec.batch_size}: max_batch_size is {most}"
                yield model.found((*path, "batch_size"), f"{message} and the profiles in use take {told}")
            for name in [name for name in engine.of("input") if spec.input and name not in spec.input]:
                found = True
                words = f"trt failed to set binding dimension for unknown input '{name}' for {model.config.name}"
                yield model.found((*path, "input"), f"{words}; {plan.file} has it: give its dims too")
        if found:
            return


RULES: tuple[Rule, ...] = (
    batch_above_engine, profile_beyond_engine, tensor_not_in_engine, engine_tensor_missing, type_differs,
    dims_differ, only_first_profile, batch_gap, preferred_of_no_profile, graph_not_captured,
)  # fmt: skip
