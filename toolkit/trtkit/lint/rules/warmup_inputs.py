# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Warm-up requests against the model's inputs, as the server checks every request.

Nothing is said where the model's inputs are not known here. Source: infer_request.cc, InferenceRequest::Normalize.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from trtkit.dtypes import by_name
from trtkit.errors import nearest
from trtkit.lint.edits import set_value
from trtkit.lint.finding import Edit, Fix, Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import rule
from trtkit.lint.rules.sequence import CORRID, VALUES, controls
from trtkit.lint.rules.warmup import samples, tensors
from trtkit.lint.shapes import shape_text, type_of
from trtkit.pbtxt import Path

_VALUE_TYPES = dict(zip(VALUES, ("TYPE_INT32", "TYPE_FP32", "TYPE_BOOL"), strict=True))


def _inputs(model: Model) -> dict[str, Any] | None:
    """The served model's inputs by name; None when they are not known."""
    if not model.config.model_warmup or model.completed is None:
        return None
    return {each.name: each for each in model.completed.input}


def _made_by_the_server(model: Model) -> dict[str, tuple[str, list[int]]]:
    """Tensors that the server adds to a sequence's requests, and not to a warm-up's: type and dims."""
    made: dict[str, tuple[str, list[int]]] = {}
    for path, kind, control in controls(model):
        given = next((values for values in VALUES if getattr(control, values)), None)
        type_ = type_of(control) if kind == CORRID else _VALUE_TYPES.get(given or "", "")
        made[model.config.sequence_batching.control_input[int(path[2])].name] = (type_, [1])
    for state in model.config.sequence_batching.state:
        made[state.input_name] = (type_of(state), list(state.dims))
    return {name: described for name, described in made.items() if name and described[0]}


def _names(names: Sequence[str]) -> str:
    return "[" + ",".join(f"'{name}'" for name in names) + "]"


def _fits(given: Sequence[int], wanted: Sequence[int]) -> bool:
    pairs = zip(given, wanted, strict=False)
    return len(given) == len(wanted) and all(want in (-1, size) for size, want in pairs)


@rule("WRM007", "warm-up-input-missing", server=True)
def input_missing(model: Model) -> Iterator[Found]:
    """A warm-up gives fewer inputs than the model requires.

    A warm-up is a request like any other, and has to give every input that the config does not call optional (core:
    infer_request.cc, Normalize).

    Wrong:
        input { name: "ids" data_type: TYPE_INT64 dims: [ 8 ] }
        input { name: "mask" data_type: TYPE_INT64 dims: [ 8 ] }
        model_warmup { batch_size: 1 inputs { key: "ids" value { data_type: TYPE_INT64 dims: [ 8 ] zero_data: true } } }

    Right:
        input { name: "ids" data_type: TYPE_INT64 dims: [ 8 ] }
        input { name: "mask" data_type: TYPE_INT64 dims: [ 8 ] }
        model_warmup {
          batch_size: 1
          inputs { key: "ids" value { data_type: TYPE_INT64 dims: [ 8 ] zero_data: true } }
          inputs { key: "mask" value { data_type: TYPE_INT64 dims: [ 8 ] zero_data: true } }
        }
    """
    known = _inputs(model)
    if known is None:
        return
    for path, sample in samples(model):
        required = [name for name, each in known.items() if not each.optional]
        given = [name for name in sorted(sample.inputs) if name in known]
        if len(given) >= len(required):
            continue
        counts = f"{len(known)} inputs"
        if len(required) != len(known):
            counts = f"number of inputs between {len(required)} and {len(known)}"
        missing = [name for name in required if name not in given]
        words = f"expected {counts} but got {len(given)} inputs for model '{model.config.name}'. Got input(s)"
        message = f"{words} {_names(given)}, but missing required input(s) {_names(missing)}"
        yield model.found(path, f"{message}. Please provide all required input(s).")


@rule("WRM008", "warm-up-data-type", server=True, fixable=True)
def data_type(model: Model) -> Iterator[Found]:
    """A warm-up's input has another data type than the model's.

    The server compares them in every request, a warm-up's too (core: infer_request.cc, Normalize).

    Wrong:
        input { name: "ids" data_type: TYPE_INT64 dims: [ 8 ] }
        model_warmup { batch_size: 1 inputs { key: "ids" value { data_type: TYPE_INT32 dims: [ 8 ] zero_data: true } } }

    Right:
        input { name: "ids" data_type: TYPE_INT64 dims: [ 8 ] }
        model_warmup { batch_size: 1 inputs { key: "ids" value { data_type: TYPE_INT64 dims: [ 8 ] zero_data: true } } }
    """
    known = _inputs(model) or {}
    for path, name, tensor in tensors(model) if known else ():
        given, wanted = type_of(tensor), type_of(known[name]) if name in known else ""
        if wanted and wanted != "TYPE_INVALID" and given != wanted:
            shown = by_name(given).name if given.startswith("TYPE_") and given != "TYPE_INVALID" else "<invalid>"
            words = f"inference input '{name}' data-type is '{shown}', but model '{model.config.name}' expects"
            own = (*path, "data_type")
            fix = None if tensor.input_data_file else set_value(model.document, own, wanted)  # a file has a size
            yield model.found(own, f"{words} '{by_name(wanted).name}'; write {wanted}", fix=fix)


@rule("WRM009", "warm-up-shape", server=True, fixable=True)
def shape(model: Model) -> Iterator[Found]:
    """A warm-up's input has another shape than the model's.

    `dims` is that of the input in the config: without the batch dimension when max_batch_size is above 0, and before
    reshape (core: infer_request.cc, Normalize).

    Wrong:
        max_batch_size: 8
        input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }
        model_warmup { batch_size: 1 inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 1, 4 ] zero_data: true } } }

    Right:
        max_batch_size: 8
        input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }
        model_warmup { batch_size: 1 inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } } }
    """
    known = _inputs(model) or {}
    for path, name, tensor in tensors(model) if known else ():
        entry, given = known.get(name), list(tensor.dims)
        if entry is None or not entry.dims or entry.is_shape_tensor or min(given, default=0) < 0:
            continue
        if not _fits(given, entry.dims):
            batching = model.completed is not None and model.completed.max_batch_size > 0
            expected, got = ([-1, *entry.dims], [1, *given]) if batching else (list(entry.dims), given)
            words = f"unexpected shape for input '{name}' for model '{model.config.name}'."
            told = f"Expected {shape_text(expected)}, got {shape_text(got)}"
            hint = "; dims is without the batch dimension" if batching and _fits(given[1:], entry.dims) else ""
            fix = _right_dims(model, (*path, "dims"), tensor, list(entry.dims))
            yield model.found((*path, "dims"), f"{words} {told}{hint}", fix=fix)


def _right_dims(model: Model, path: Path, tensor: Any, dims: list[int]) -> Fix | None:
    """The model's own dims, where they are all known and no file hangs on them."""
    document = model.document
    span = document.spans.get(path) if document is not None else None
    if document is None or span is None or min(dims) < 0 or tensor.WhichOneof("input_data_type") == "input_data_file":
        return None
    if not document.text.startswith("[", span.value):
        return None
    value = f"[ {', '.join(map(str, dims))} ]"
    return Fix(f"set dims: {value}", (Edit(span.value, span.end, value),))


@rule("WRM010", "warm-up-batch-size-above-max", server=True, fixable=True)
def batch_size_above_max(model: Model) -> Iterator[Found]:
    """A warm-up's batch_size is larger than max_batch_size, or than 1 for a model without batching.

    batch_size is the number of requests in one run; a backend answers with an error when they are more than
    it takes (python_be.cc, onnxruntime.cc, tensorrt instance_state.cc).

    Wrong:
        max_batch_size: 4
        model_warmup { batch_size: 8 inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } } }

    Right:
        max_batch_size: 4
        model_warmup { batch_size: 4 inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } } }
    """
    most = model.completed.max_batch_size if model.config.model_warmup and model.completed is not None else -1
    for path, sample in samples(model) if most >= 0 else ():
        if sample.batch_size > max(most, 1):
            words = f"failed to run warmup sample '{sample.name}': batch size {sample.batch_size} for"
            own = (*path, "batch_size")
            fix = set_value(model.document, own, str(max(most, 1)))
            yield model.found(own, f"{words} '{model.config.name}', max allowed is {most}", fix=fix)


@rule("WRM011", "warm-up-without-inputs", server=True)
def without_inputs(model: Model) -> Iterator[Found]:
    """A warm-up gives a batching model no input at all, because all are optional.

    The batch's size is that of the first input (python_be.cc, ProcessRequests).

    Wrong:
        max_batch_size: 4
        input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] optional: true }
        model_warmup { name: "none" batch_size: 1 }

    Right:
        max_batch_size: 4
        input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] optional: true }
        model_warmup {
          name: "one"
          batch_size: 1
          inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } }
        }
    """
    known = _inputs(model)
    if known is None or any(not each.optional for each in known.values()):
        return
    assert model.completed is not None
    for path, sample in samples(model) if model.completed.max_batch_size > 0 else ():
        if not sample.inputs:
            words = f"failed to run warmup sample '{sample.name}': out of bounds index 0: request has 0 inputs"
            yield model.found(path, f"{words}; give one of the model's inputs")


@rule("WRM012", "warm-up-input-without-type", server=True)
def input_without_type(model: Model) -> Iterator[Found]:
    """A warm-up's input that is not in the model's inputs has no data type.

    The Python backend's process ends, and with it sometimes the server (measured with 2.51).

    Wrong:
        inputs { key: "START" value { dims: [ 1 ] zero_data: true } }

    Right:
        inputs { key: "START" value { data_type: TYPE_FP32 dims: [ 1 ] zero_data: true } }
    """
    known = _inputs(model)
    if known is None:
        return
    for path, name, tensor in tensors(model):
        if name not in known and (type_of(tensor) == "TYPE_INVALID" or type_of(tensor).isdigit()):
            yield model.found((*path, "data_type"), f"input '{name}' must specify 'data_type'")


@rule("WRM014", "warm-up-input-unknown", Severity.WARNING)
def input_unknown(model: Model) -> Iterator[Found]:
    """A warm-up gives an input that the model does not have.

    The server hands it on unchecked, for it may be a control or state of sequences; a Python model gets it as
    a further tensor, and others refuse it.

    Wrong:
        input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] optional: true }
        model_warmup { batch_size: 1 inputs { key: "X" value { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } } }

    Right:
        input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] optional: true }
        model_warmup { batch_size: 1 inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } } }
    """
    known = _inputs(model)
    if known is None:
        return
    made = _made_by_the_server(model)
    for path, name, _ in tensors(model):
        if name not in known and name not in made:
            yield model.found(path, f"the model has no input '{name}'; {nearest(name, [*known, *made])}")


@rule("WRM015", "warm-up-control-missing", Severity.WARNING)
def control_missing(model: Model) -> Iterator[Found]:
    """A warm-up of a model with sequences lacks a control or state tensor, or gives it another type or shape.

    Warm-up requests do not go through the sequence batcher, so it adds nothing to them (model_config.proto,
    ModelWarmup; backend_model_instance.cc, GenerateWarmupData).

    Wrong:
        model_warmup { batch_size: 1 inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } } }

    Right:
        model_warmup {
          batch_size: 1
          inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } }
          inputs { key: "START" value { data_type: TYPE_FP32 dims: [ 1 ] zero_data: true } }
        }
    """
    made = _made_by_the_server(model) if model.config.model_warmup else {}
    known = {each.name for each in model.config.input}
    for path, sample in samples(model) if made else ():
        for name, (type_, dims) in made.items():
            if name in known:
                continue
            if name not in sample.inputs:
                message = f"warm-up requests have no '{name}', which the server adds to those of sequences"
                yield model.found(path, f"{message}; add it, of {type_} and dims {dims}")
                continue
            given = sample.inputs[name]
            wrong = type_of(given) != type_ or not _fits(list(given.dims), dims)
            if wrong and type_of(given) != "TYPE_INVALID" and min(given.dims, default=0) >= 0:
                message = f"'{name}' is {type_of(given)} and dims {list(given.dims)} in the warm-up"
                yield model.found((*path, "inputs", name), f"{message}, and {type_} and dims {dims} in a sequence")


@rule("WRM018", "warm-up-required-input-missing", Severity.WARNING)
def required_missing(model: Model) -> Iterator[Found]:
    """A warm-up lacks a required input and has an optional one instead.

    The server counts the inputs only, so the model runs without the required one (infer_request.cc, Normalize).

    Wrong:
        input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }
        input { name: "z" data_type: TYPE_FP32 dims: [ 4 ] optional: true }
        model_warmup { batch_size: 1 inputs { key: "z" value { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } } }

    Right:
        input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }
        input { name: "z" data_type: TYPE_FP32 dims: [ 4 ] optional: true }
        model_warmup { batch_size: 1 inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } } }
    """
    known = _inputs(model) or {}
    required = [name for name, each in known.items() if not each.optional]
    for path, sample in samples(model) if known else ():
        given = [name for name in sample.inputs if name in known]
        missing = [name for name in required if name not in given]
        if missing and len(given) >= len(required):
            yield model.found(path, f"the warm-up has no {_names(missing)}, which the model requires")


RULES = (
    input_missing, data_type, shape, batch_size_above_max, without_inputs, input_without_type, input_unknown,
    control_missing, required_missing,
)  # fmt: skip
