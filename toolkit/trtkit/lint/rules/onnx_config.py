# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The config of a model of the onnxruntime backend against the inputs and outputs of its ONNX file.

The checks are the backend's own (`trtkit.lint.ort_backend`); these rules sort them and add what to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from trtkit.lint.edits import set_value
from trtkit.lint.finding import Fix, Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.onnx_header import OnnxHeader, Tensor
from trtkit.lint.ort_backend import Problem
from trtkit.lint.rule import rule
from trtkit.lint.shapes import type_of


def _of(model: Model, kind: str, side: str = "") -> Iterator[Problem]:
    for problem in model.onnx.problems:
        if problem.kind == kind and (not side or problem.path[0] == side):
            yield problem


def _header(model: Model) -> OnnxHeader | None:
    headers = model.onnx.headers
    return headers[max(headers)] if headers else None


def _tensors(model: Model, side: str) -> tuple[Tensor, ...]:
    header = _header(model)
    if header is None:
        return ()
    return header.outputs if side == "output" else (*header.inputs, *header.initializers)


def _tensor(model: Model, problem: Problem) -> Tensor | None:
    """The graph's tensor that a problem with a config's entry is about."""
    side, index, *_ = (*problem.path, None)
    if side not in ("input", "output") or not isinstance(index, int):
        return None
    entries = getattr(model.config, side)
    name = entries[index].name if index < len(entries) else None
    return next((tensor for tensor in _tensors(model, side) if tensor.name == name), None)


def _unknown(model: Model, side: str) -> Iterator[Found]:
    for problem in _of(model, "name", side):
        given = getattr(model.config, side)[problem.path[1]].name
        close = get_close_matches(given, [tensor.name for tensor in _tensors(model, side)], n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        yield model.found(problem.path, problem.message + hint)


@rule("ONX101", "unknown-input", server=True)
def unknown_input(model: Model) -> Iterator[Found]:
    """The config has an input that the graph does not have.

    Names are those of the graph's inputs, letter by letter (onnxruntime.cc, ValidateInputs).

    Wrong:
        input { name: "image" data_type: TYPE_FP32 dims: [ 3, 224, 224 ] }

    Right:
        input { name: "input.1" data_type: TYPE_FP32 dims: [ 3, 224, 224 ] }
    """
    yield from _unknown(model, "input")


@rule("ONX102", "unknown-output", server=True)
def unknown_output(model: Model) -> Iterator[Found]:
    """The config has an output that the graph does not have.

    A config may leave outputs out, but not name others (onnxruntime.cc, ValidateOutputs).

    Wrong:
        output { name: "scores" data_type: TYPE_FP32 dims: [ 10 ] }

    Right:
        output { name: "logits" data_type: TYPE_FP32 dims: [ 10 ] }
    """
    yield from _unknown(model, "output")


@rule("ONX103", "number-of-inputs", server=True, depends_on_server=True)
def number_of_inputs(model: Model) -> Iterator[Found]:
    """The config has more or fewer inputs than the graph needs.

    Every input of the graph has to be in the config: as input, control or state of sequence batching, or
    batch_input. Those that have a value in the file may be there too, with optional: true (onnxruntime.cc,
    ValidateInputs).

    Wrong:
        input { name: "input_ids" data_type: TYPE_INT64 dims: [ -1 ] }

    Right:
        input { name: "input_ids" data_type: TYPE_INT64 dims: [ -1 ] }
        input { name: "attention_mask" data_type: TYPE_INT64 dims: [ -1 ] }
    """
    header = _header(model)
    for problem in _of(model, "input_count"):
        yield model.found(problem.path, problem.message + (_difference(model, header) if header else ""))


def _difference(model: Model, header: OnnxHeader) -> str:
    config = model.config
    sequence = config.sequence_batching
    given = {entry.name: entry.optional for entry in config.input}
    others = {entry.name for entry in sequence.control_input} | {state.input_name for state in sequence.state}
    others |= {name for entry in config.batch_input for name in entry.target_name}
    needed, with_value = ({tensor.name for tensor in side} for side in (header.inputs, header.initializers))
    parts = {
        "the config leaves out": needed - given.keys() - others,
        "the graph does not have": given.keys() - needed - with_value,
        "has a value in the file and may only be given with optional: true":
            {name for name in given.keys() & with_value if not given[name]},
        "is needed and cannot be optional": {name for name in given.keys() & needed if given[name]},
    }  # fmt: skip
    said = [
        f"{text} {names}" if text.startswith("the ") else f"{names} {text}"
        for text, found in parts.items()
        if (names := ", ".join(f"'{name}'" for name in sorted(found)))
    ]
    return "; " + "; ".join(said) if said else ""


@rule("ONX104", "data-type", server=True, fixable=True)
def data_type(model: Model) -> Iterator[Found]:
    """A data type in the config is not the graph's.

    Nothing converts tensors on their way: clients have to send what the graph takes (onnxruntime.cc,
    ValidateInputs and ValidateOutputs).

    Wrong:
        input { name: "input_ids" data_type: TYPE_INT32 dims: [ -1 ] }

    Right:
        input { name: "input_ids" data_type: TYPE_INT64 dims: [ -1 ] }
    """
    for problem in _of(model, "type"):
        tensor, fix = _tensor(model, problem), None
        if tensor is not None and tensor.data_type not in (None, "TYPE_BF16"):
            fix = _set(model, problem, str(tensor.data_type))
        yield model.found(problem.path, problem.message, fix=fix)


def _set(model: Model, problem: Problem, value: str) -> Fix | None:
    document = model.document
    return set_value(document, problem.path, value) if document and problem.path in document.spans else None


@rule("ONX105", "unsupported-data-type", server=True)
def unsupported_data_type(model: Model) -> Iterator[Found]:
    """The config or the graph has a tensor of a type that the backend does not serve.

    Triton has no FP8 or 4-bit tensors. Inside of the graph they are fine.

    Wrong:
        <opset_import: ["" : 19]> g (float8e4m3fn[N, 4] x) => (float[N, 4] y) { y = Cast <to = 1> (x) }

    Right:
        <opset_import: ["" : 19]> g (float[N, 4] x) => (float[N, 4] y) { y = Neg (x) }
    """
    for problem in _of(model, "unsupported_type"):
        yield model.found(problem.path, f"{problem.message}; cast it in the graph, e.g. to FP32 or FP16")


@rule("ONX106", "dims", server=True)
def dims(model: Model) -> Iterator[Found]:
    """The shape in the config cannot be the graph's.

    With max_batch_size above 0 the batch is not among the dims and Triton puts it before them. An input's fixed
    dimension has to be fixed in the config too, its dynamic one may be; an output has to be exactly as in the graph
    (onnxruntime_utils.cc, CompareDimsSupported). With a reshape it is the reshape's shape that counts.

    Wrong:
        max_batch_size: 8
        input { name: "x" data_type: TYPE_FP32 dims: [ -1, 3, 224, 224 ] }

    Right:
        max_batch_size: 8
        input { name: "x" data_type: TYPE_FP32 dims: [ 3, 224, 224 ] }
    """
    for problem in _of(model, "dims"):
        tensor = _tensor(model, problem)
        hint = ""
        if tensor is not None and tensor.shape is not None and problem.path[-1] != "allow_ragged_batch":
            shape = [dim if isinstance(dim, int) else -1 for dim in tensor.shape]
            wanted = shape[1:] if model.config.max_batch_size > 0 else shape
            hint = f"; write {problem.path[-1]}: {wanted}" if wanted else ""
        yield model.found(problem.path, problem.message + hint)


@rule("ONX107", "dims-of-a-scalar", server=True)
def dims_of_a_scalar(model: Model) -> Iterator[Found]:
    """A tensor of the graph that has no dimensions has others than 1 in the config.

    Triton has no empty dims: a scalar is dims: [ 1 ] (onnxruntime.cc, ValidateInputs).

    Wrong:
        output { name: "loss" data_type: TYPE_FP32 dims: [ -1 ] }

    Right:
        output { name: "loss" data_type: TYPE_FP32 dims: [ 1 ] }
    """
    for problem in _of(model, "scalar"):
        yield model.found(problem.path, problem.message)


@rule("ONX108", "fixed-batch", server=True, depends_on_server=True)
def fixed_batch(model: Model) -> Iterator[Found]:
    """max_batch_size is above 0 and the graph's first dimension is fixed.

    To batch, Triton needs a graph whose first dimension is dynamic in every input and output (onnxruntime_utils.cc,
    CompareDimsSupported).

    Wrong:
        max_batch_size: 8
        input { name: "x" data_type: TYPE_FP32 dims: [ 3, 224, 224 ] }

    Right:
        max_batch_size: 0
        input { name: "x" data_type: TYPE_FP32 dims: [ 1, 3, 224, 224 ] }
    """
    for problem in _of(model, "batch"):
        yield model.found(problem.path, f"{problem.message}; {_TO_BATCH}")


_TO_BATCH = "export the graph with a dynamic first dimension, or write max_batch_size: 0 and all dimensions in dims"


@rule("ONX109", "cannot-be-completed", server=True)
def cannot_be_completed(model: Model) -> Iterator[Found]:
    """The config leaves inputs or outputs to the server and says max_batch_size, but the graph cannot batch.

    The server completes a config from the graph; the first dimension of every input and output has to be
    dynamic for max_batch_size (onnxruntime.cc, AutoCompleteMaxBatch).

    Wrong:
        max_batch_size: 8

    Right:
        max_batch_size: 0
    """
    for problem in _of(model, "autofill"):
        yield model.found(problem.path, f"{problem.message}; {_TO_BATCH}")


@rule("ONX110", "optional-input-of-a-batch", server=True)
def optional_input(model: Model) -> Iterator[Found]:
    """An input is optional in a model that batches.

    The backend takes optional inputs, which have a value in the graph, with max_batch_size: 0 only (onnxruntime.cc,
    ValidateInputs).

    Wrong:
        max_batch_size: 8
        input { name: "scale" data_type: TYPE_FP32 dims: [ 1 ] optional: true }

    Right:
        max_batch_size: 0
        input { name: "scale" data_type: TYPE_FP32 dims: [ 1 ] optional: true }
    """
    for problem in _of(model, "optional"):
        yield model.found(problem.path, problem.message)


@rule("ONX111", "sequence-control", server=True)
def sequence_control(model: Model) -> Iterator[Found]:
    """A control of sequence batching does not fit an input of the graph.

    Each control goes to an input of its name, of dims [ 1 ] beside the batch and of the control's type
    (onnxruntime.cc, ValidateBooleanSequenceControl).

    Wrong:
        control_input { name: "begin" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } }

    Right:
        control_input { name: "START" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } }
    """
    for problem in _of(model, "control"):
        yield model.found(problem.path, problem.message)


@rule("ONX112", "only-in-containers", Severity.ADVICE)
def only_in_containers(model: Model) -> Iterator[Found]:
    """The model uses what trtkit's Python-based onnxruntime backend has not.

    The embedded server of ``trtkit serve`` cannot serve it, so the model cannot be tried without a container: that
    server's Python backend fails every request with a string control. With TYPE_UINT64 clients may still send
    strings; the server hands their hashes over.

    Wrong:
        control_input { name: "CORRID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_STRING } }

    Right:
        control_input { name: "CORRID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } }
    """
    for problem in _of(model, "feature"):
        yield model.found(problem.path, problem.message)


@rule("ONX113", "sequence-state", server=True)
def sequence_state(model: Model) -> Iterator[Found]:
    """A state of sequence batching does not fit the graph.

    The state goes into the input of its input_name and comes out of the output of its output_name, both of its
    data type. NVIDIA's backend counts the inputs at load, and finds the rest at the first request (onnxruntime.cc,
    ValidateInputs and ValidateOutputs).

    Wrong:
        state { input_name: "h" output_name: "hidden" data_type: TYPE_FP32 dims: [ 4 ] }

    Right:
        state { input_name: "h" output_name: "h_out" data_type: TYPE_FP32 dims: [ 4 ] }
    """
    for problem in _of(model, "state"):
        yield model.found(problem.path, problem.message)


@rule("ONX115", "batch-input-target", server=True)
def batch_input_target(model: Model) -> Iterator[Found]:
    """A batch_input does not fit an input of the graph.

    The backend makes the tensor, of the entry's data type, and gives it to the input of each target_name. NVIDIA's
    backend counts the inputs at load, and finds the rest at the first request (onnxruntime.cc, ValidateInputs).

    Wrong:
        batch_input { kind: BATCH_ELEMENT_COUNT target_name: "counts" data_type: TYPE_FP32 source_input: "x" }

    Right:
        batch_input { kind: BATCH_ELEMENT_COUNT target_name: "count" data_type: TYPE_FP32 source_input: "x" }
    """
    for problem in _of(model, "batch_input"):
        yield model.found(problem.path, problem.message)


@rule("ONX114", "only-in-python")
def only_in_python(model: Model) -> Iterator[Found]:
    """The model has a tensor of a type that only trtkit's Python-based onnxruntime backend serves.

    NVIDIA's containers refuse BF16 in an input, an output or a state, although Triton knows it (server issue 8464):
    the model works on the embedded server of ``trtkit serve`` and nowhere else. Inside of the graph BF16 is fine.

    Wrong:
        input { name: "x" data_type: TYPE_BF16 dims: [ 8 ] }

    Right:
        input { name: "x" data_type: TYPE_FP32 dims: [ 8 ] }
    """
    if model.config.backend != "onnxruntime":
        return
    config = model.onnx.completed or model.config
    tensors: list[tuple[tuple[str | int, ...], str, Any]] = [
        ((kind, *([index] if getattr(model.config, kind) else [])), f"{kind} '{entry.name}'", entry)
        for kind in ("input", "output")
        for index, entry in enumerate(getattr(config, kind))
    ]
    for index, state in enumerate(config.sequence_batching.state):
        tensors.append((("sequence_batching", "state", index, "data_type"), f"state '{state.input_name}'", state))
    for path, what, entry in tensors:
        if type_of(entry) == "TYPE_BF16":
            message = f"{what} is TYPE_BF16, which NVIDIA's onnxruntime backend refuses"
            yield model.found(path, f"{message}; cast it in the graph, e.g. to FP32 or FP16")


RULES = (
    unknown_input, unknown_output, number_of_inputs, data_type, unsupported_data_type, dims, dims_of_a_scalar,
    fixed_batch, cannot_be_completed, optional_input, sequence_control, only_in_containers,
    sequence_state, only_in_python, batch_input_target,
)  # fmt: skip
