# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""States of sequences that load and are not kept: the server finds out at a sequence's first request."""

from __future__ import annotations

from collections.abc import Iterator

from trtkit.config import ModelInstanceGroup
from trtkit.lint.edits import set_value
from trtkit.lint.finding import Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import rule

_STATE = ("sequence_batching", "state")


@rule("STA013", "state-name-twice", Severity.WARNING)
def state_name_twice(model: Model) -> Iterator[Found]:
    """Two states have the same input_name or output_name: the server keeps one of them only.

    Of two with one output the second is dropped when the model is loaded, of two with one input at the first
    request, with a warning in the log (sequence_batch_scheduler.cc, Create; sequence_state.cc, Initialize).

    Wrong:
        state { input_name: "h" output_name: "h_out" data_type: TYPE_FP32 dims: [ 4 ] }
        state { input_name: "c" output_name: "h_out" data_type: TYPE_FP32 dims: [ 4 ] }

    Right:
        state { input_name: "h" output_name: "h_out" data_type: TYPE_FP32 dims: [ 4 ] }
        state { input_name: "c" output_name: "c_out" data_type: TYPE_FP32 dims: [ 4 ] }
    """
    seen: dict[str, set[str]] = {"input_name": set(), "output_name": set()}
    initial: set[str] = set()  # a second initial state of one input is refused, see STA004
    for index, state in enumerate(model.config.sequence_batching.state):
        refused = len(state.initial_state) == 1 and state.input_name in initial
        for field, names in seen.items():
            name = getattr(state, field)
            if name and name in names and not (refused and field == "input_name"):
                words = f"Detected duplicate '{field}' in the state configuration: '{name}'. This state configuration"
                yield model.found((*_STATE, index, field), f"{words} will be ignored; each state has names of its own")
            names.add(name)
        if len(state.initial_state) == 1:
            initial.add(state.input_name)


@rule("STA014", "state-not-described", Severity.WARNING)
def state_not_described(model: Model) -> Iterator[Found]:
    """A state lacks a name, its data type or its dims, or has a dimension that is no size.

    The server checks none of them when it loads the model; it makes the state's tensor with them at a
    sequence's first request (sequence_state.cc, SequenceStates::Initialize).

    Wrong:
        state { input_name: "h" output_name: "h_out" }

    Right:
        state { input_name: "h" output_name: "h_out" data_type: TYPE_FP32 dims: [ 4 ] }
    """
    for index, state in enumerate(model.config.sequence_batching.state):
        path = (*_STATE, index)
        for field in ("input_name", "output_name", "data_type", "dims"):
            if not getattr(state, field):
                message = f"state '{state.input_name or state.output_name}' must specify '{field}'"
                yield model.found(path, f"{message}: without it the model's first sequence fails")
        for place, dim in enumerate(state.dims):
            if dim < 1 and dim != -1:
                message = f"dimension must be integer >= 1, or -1 to indicate a variable-size dimension, got {dim}"
                yield model.found((*path, "dims", place), message)


@rule("STA015", "growable-memory-without-same-buffer", Severity.WARNING, fixable=True)
def growable_without_same_buffer(model: Model) -> Iterator[Found]:
    """use_growable_memory without use_same_buffer_for_input_output: no sequence can begin.

    Source: sequence_state.cc, SequenceStates::Initialize, at a sequence's first request.

    Wrong:
        state {
          input_name: "kv" output_name: "kv_out" data_type: TYPE_FP16 dims: [ 2, -1 ]
          use_growable_memory: true
        }
        instance_group { kind: KIND_GPU }

    Right:
        state {
          input_name: "kv" output_name: "kv_out" data_type: TYPE_FP16 dims: [ 2, -1 ]
          use_growable_memory: true
          use_same_buffer_for_input_output: true
        }
        instance_group { kind: KIND_GPU }
    """
    for index, state in enumerate(model.config.sequence_batching.state):
        if state.use_growable_memory and not state.use_same_buffer_for_input_output:
            words = "In order to 'use_growable_memory', you must also enable 'use_single_buffer' for state input name"
            own = (*_STATE, index, "use_same_buffer_for_input_output")
            fix = set_value(model.document, own, "true")
            message = f"{words} '{state.input_name}'; set use_same_buffer_for_input_output: true"
            yield model.found((*_STATE, index, "use_growable_memory"), message, fix=fix)


@rule("STA016", "growable-memory-off-gpu", Severity.WARNING)
def growable_off_gpu(model: Model) -> Iterator[Found]:
    """use_growable_memory for instances that are not on a GPU: no sequence can begin.

    The memory grows by CUDA's virtual memory (sequence_state.cc, SequenceStates::Initialize, at a sequence's
    first request).

    Wrong:
        instance_group { kind: KIND_CPU }

    Right:
        instance_group { kind: KIND_GPU }
    """
    growable = [index for index, state in enumerate(model.config.sequence_batching.state) if state.use_growable_memory]
    if not growable:
        return
    for place, group in enumerate(model.config.instance_group):
        if group.kind in (ModelInstanceGroup.KIND_CPU, ModelInstanceGroup.KIND_MODEL):
            words = "'use_growable_memory' can only work with KIND_GPU model instances right now. Please either change"
            name = model.config.sequence_batching.state[growable[0]].input_name
            message = f"{words} the instance type to KIND_GPU or set 'use_growable_memory' to false for state input"
            yield model.found(("instance_group", place, "kind"), f"{message} '{name}'")


@rule("STA017", "python-model-with-states", Severity.WARNING)
def python_model_with_states(model: Model) -> Iterator[Found]:
    """A Python model has states, but the Python backend has no way to write one.

    It never calls TRITONBACKEND_StateNew, so each request of a sequence sees the initial state; keep the state
    in the model, by the CORRID control or `request.correlation_id()`, or write the model for ONNX Runtime,
    TensorRT or PyTorch.

    Wrong:
        backend: "python"
        sequence_batching { state { input_name: "h" output_name: "h_out" data_type: TYPE_FP32 dims: [ 4 ] } }

    Right:
        backend: "python"
        sequence_batching {
          control_input { name: "ID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } }
        }
    """
    states = model.config.sequence_batching.state
    if states and model.config.backend == "python":
        message = f"the Python backend cannot write the state '{states[0].output_name}'; every request sees the"
        yield model.found((*_STATE, 0), f"{message} initial one: keep the state in the model, by the CORRID control")


@rule("STA018", "zero-data-false", Severity.WARNING, fixable=True)
def initial_zero_data_false(model: Model) -> Iterator[Found]:
    """zero_data: false makes zeros all the same.

    That the field is written is what the server looks at (sequence_batch_scheduler.cc,
    GenerateInitialStateData).

    Wrong:
        initial_state { name: "h0" data_type: TYPE_FP32 dims: [ 4 ] zero_data: false }

    Right:
        initial_state { name: "h0" data_type: TYPE_FP32 dims: [ 4 ] zero_data: true }
    """
    for index, state in enumerate(model.config.sequence_batching.state):
        for place, initial in enumerate(state.initial_state):
            if initial.WhichOneof("state_data") == "zero_data" and not initial.zero_data:
                own = (*_STATE, index, "initial_state", place, "zero_data")
                fix = set_value(model.document, own, "true")
                message = f"the state '{state.input_name}' begins as zeros, as with zero_data: true"
                yield model.found(own, f"{message}; write true, or give a data_file", fix=fix)


RULES = (
    state_name_twice, state_not_described, growable_without_same_buffer, growable_off_gpu, python_model_with_states,
    initial_zero_data_false,
)  # fmt: skip
