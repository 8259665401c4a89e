# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The states of sequences that the server keeps: what it refuses, and initial states that it does not use.

Source of what is refused: sequence_batch_scheduler.cc, SequenceBatchScheduler::GenerateInitialStateData.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trtkit.lint.data_files import DataFile, data_file, sizes
from trtkit.lint.edits import set_value
from trtkit.lint.finding import Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import rule
from trtkit.lint.shapes import type_of
from trtkit.pbtxt import Path

_FOLDER = "initial_state"


def _initial_states(model: Model) -> Iterator[tuple[Path, Any, Any]]:
    """The path of each initial state, the state and the initial state; where there are two, neither is read."""
    for index, state in enumerate(model.config.sequence_batching.state):
        if len(state.initial_state) == 1:
            yield ("sequence_batching", "state", index, "initial_state", 0), state, state.initial_state[0]


def _file(model: Model, initial: Any) -> DataFile | None:
    return data_file(model, _FOLDER, initial.data_file) if initial.WhichOneof("state_data") == "data_file" else None


@rule("STA001", "initial-state-twice", server=True)
def initial_state_twice(model: Model) -> Iterator[Found]:
    """A state has more than one initial state.

    The field is repeated in the protobuf, but one element is all that may be there.

    Wrong:
        initial_state { name: "zeros" data_type: TYPE_FP32 dims: [ 4 ] zero_data: true }
        initial_state { name: "file" data_type: TYPE_FP32 dims: [ 4 ] data_file: "h0" }

    Right:
        initial_state { name: "zeros" data_type: TYPE_FP32 dims: [ 4 ] zero_data: true }
    """
    for index, state in enumerate(model.config.sequence_batching.state):
        if (count := len(state.initial_state)) > 1:
            words = f"initial_state field for state input '{state.input_name}' must contain exactly one or zero"
            path = ("sequence_batching", "state", index, "initial_state", 1)
            yield model.found(path, f"{words} element. Found '{count}' elements; keep one of them")


@rule("STA002", "initial-state-type", server=True, fixable=True)
def initial_state_type(model: Model) -> Iterator[Found]:
    """An initial state has another data type than its state.

    Its bytes become the state's first value as they are (core: sequence_batch_scheduler.cc, GenerateInitialStateData).

    Wrong:
        state {
          input_name: "h" output_name: "h_out" data_type: TYPE_FP32 dims: [ 4 ]
          initial_state { name: "h0" data_type: TYPE_FP16 dims: [ 4 ] zero_data: true }
        }

    Right:
        state {
          input_name: "h" output_name: "h_out" data_type: TYPE_FP32 dims: [ 4 ]
          initial_state { name: "h0" data_type: TYPE_FP32 dims: [ 4 ] zero_data: true }
        }
    """
    for path, state, initial in _initial_states(model):
        if state.data_type != initial.data_type:
            words = f"The data type used for 'initial_state' field of state '{state.input_name}' does not match the"
            message = f"{words} state data type: {type_of(initial)}, expected {type_of(state)}"
            own, mendable = (*path, "data_type"), initial.zero_data and state.data_type  # a file has a size
            fix = set_value(model.document, own, type_of(state)) if mendable else None
            yield model.found(own, message, fix=fix)


@rule("STA003", "initial-state-without-name", server=True)
def initial_state_without_name(model: Model) -> Iterator[Found]:
    """An initial state has no name.

    The name is any text; the server wants one to speak of it.

    Wrong:
        initial_state { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true }

    Right:
        initial_state { name: "h0" data_type: TYPE_FP32 dims: [ 4 ] zero_data: true }
    """
    for path, state, initial in _initial_states(model):
        if not initial.name:
            words = f"Field 'name' must be set when using initial_state for state input '{state.input_name}'."
            yield model.found((*path, "name"), f"{words} Any text will do")


@rule("STA004", "initial-state-of-one-input-twice", server=True)
def initial_state_of_one_input_twice(model: Model) -> Iterator[Found]:
    """Two states with an initial state have the same input_name.

    The server keeps them by that name, and has no place for a second one (core: sequence_batch_scheduler.cc,
    GenerateInitialStateData).

    Wrong:
        state {
          input_name: "h" output_name: "a" data_type: TYPE_FP32 dims: [ 4 ]
          initial_state { name: "a0" data_type: TYPE_FP32 dims: [ 4 ] zero_data: true }
        }
        state {
          input_name: "h" output_name: "b" data_type: TYPE_FP32 dims: [ 4 ]
          initial_state { name: "b0" data_type: TYPE_FP32 dims: [ 4 ] zero_data: true }
        }

    Right:
        state {
          input_name: "h" output_name: "a" data_type: TYPE_FP32 dims: [ 4 ]
          initial_state { name: "a0" data_type: TYPE_FP32 dims: [ 4 ] zero_data: true }
        }
    """
    seen = set()
    for path, state, _ in _initial_states(model):
        if state.input_name in seen:
            words = f"State input name '{state.input_name}' specified more than once"
            yield model.found((*path[:3], "input_name"), f"{words}; give each state an input of its own")
        seen.add(state.input_name)


@rule("STA005", "initial-state-rank", server=True)
def initial_state_rank(model: Model) -> Iterator[Found]:
    """An initial state has another number of dimensions than its state.

    Neither has the batch dimension (core: sequence_batch_scheduler.cc, GenerateInitialStateData).

    Wrong:
        state {
          input_name: "h" output_name: "h_out" data_type: TYPE_FP32 dims: [ 2, 64 ]
          initial_state { name: "h0" data_type: TYPE_FP32 dims: [ 128 ] zero_data: true }
        }

    Right:
        state {
          input_name: "h" output_name: "h_out" data_type: TYPE_FP32 dims: [ 2, 64 ]
          initial_state { name: "h0" data_type: TYPE_FP32 dims: [ 2, 64 ] zero_data: true }
        }
    """
    for path, state, initial in _initial_states(model):
        if len(initial.dims) != len(state.dims):
            words = "Number of dimensions in 'initial_state' doesn't match the size of 'state' dimensions for state"
            counts = f"{len(initial.dims)} != {len(state.dims)}"
            yield model.found((*path, "dims"), f"{words} input '{state.input_name}'. {counts}: {list(initial.dims)}")


@rule("STA006", "initial-state-with-variable-dims", server=True)
def initial_state_with_variable_dims(model: Model) -> Iterator[Found]:
    """An initial state has a dimension below zero.

    It is data, so each dimension has a size. The server refuses -1, and ends itself at -2 and below (measured
    with 2.51).

    Wrong:
        state {
          input_name: "h" output_name: "h_out" data_type: TYPE_FP32 dims: [ -1 ]
          initial_state { name: "h0" data_type: TYPE_FP32 dims: [ -1 ] zero_data: true }
        }

    Right:
        state {
          input_name: "h" output_name: "h_out" data_type: TYPE_FP32 dims: [ -1 ]
          initial_state { name: "h0" data_type: TYPE_FP32 dims: [ 64 ] zero_data: true }
        }
    """
    for path, state, initial in _initial_states(model):
        for place, dim in enumerate(initial.dims):
            if dim < 0:
                words = f"'initial_state' field for state input name '{state.input_name}' contains variable dimensions"
                yield model.found((*path, "dims", place), f"{words}, got {list(initial.dims)}; say how many")


@rule("STA007", "initial-state-dims", server=True, fixable=True)
def initial_state_dims(model: Model) -> Iterator[Found]:
    """A dimension of an initial state is not that of its state.

    Where the state's is -1, any will do (core: sequence_batch_scheduler.cc, GenerateInitialStateData).

    Wrong:
        state {
          input_name: "h" output_name: "h_out" data_type: TYPE_FP32 dims: [ 64 ]
          initial_state { name: "h0" data_type: TYPE_FP32 dims: [ 32 ] zero_data: true }
        }

    Right:
        state {
          input_name: "h" output_name: "h_out" data_type: TYPE_FP32 dims: [ 64 ]
          initial_state { name: "h0" data_type: TYPE_FP32 dims: [ 64 ] zero_data: true }
        }
    """
    for path, state, initial in _initial_states(model):
        pairs = zip(initial.dims, state.dims, strict=False) if len(initial.dims) == len(state.dims) else ()
        for place, (given, wanted) in enumerate(pairs):
            if given >= 0 and wanted != -1 and given != wanted:
                words = f"'initial_state' dim for input name '{state.input_name}' doesn't match 'state' dim"
                own, mendable = (*path, "dims", place), initial.zero_data and wanted > 0
                fix = set_value(model.document, own, str(wanted)) if mendable else None
                yield model.found(own, f"{words} description. {given} != {wanted}", fix=fix)


@rule("STA008", "initial-state-without-data", server=True)
def initial_state_without_data(model: Model) -> Iterator[Found]:
    """An initial state says neither zero_data nor data_file.

    One of them says what a sequence begins with (core: sequence_batch_scheduler.cc, GenerateInitialStateData).

    Wrong:
        initial_state { name: "h0" data_type: TYPE_FP32 dims: [ 4 ] }

    Right:
        initial_state { name: "h0" data_type: TYPE_FP32 dims: [ 4 ] zero_data: true }
    """
    for path, state, initial in _initial_states(model):
        if initial.WhichOneof("state_data") is None:
            words = f"initial_state setting expects state '{state.input_name}' to have state_data set"
            yield model.found(path, f"{words}; add zero_data: true, or a data_file")


@rule("STA009", "initial-state-file-missing", server=True)
def initial_state_file_missing(model: Model) -> Iterator[Found]:
    """The file of an initial state is not in the model's initial_state folder.

    A folder of that name ends the server (measured with 2.51).

    Wrong:
        m/config.pbtxt: initial_state { … data_file: "h0" }
        m/h0

    Right:
        m/config.pbtxt: initial_state { … data_file: "h0" }
        m/initial_state/h0
    """
    for path, _, initial in _initial_states(model):
        file = _file(model, initial)
        if file is not None and file.words:
            yield model.found((*path, "data_file"), f"{file.words}; the path starts in {_FOLDER}/")


@rule("STA010", "initial-state-file-too-short", server=True)
def initial_state_file_too_short(model: Model) -> Iterator[Found]:
    """The file of an initial state has fewer bytes than its type and dims need.

    It holds the elements as they are in memory, little endian, for one sequence (core: sequence_batch_scheduler.cc,
    GenerateInitialStateData).

    Wrong:
        initial_state { name: "h0" data_type: TYPE_FP32 dims: [ 4 ] data_file: "h0_of_8_bytes" }

    Right:
        initial_state { name: "h0" data_type: TYPE_FP32 dims: [ 4 ] data_file: "h0_of_16_bytes" }
    """
    for path, _, initial in _initial_states(model):
        compared = sizes(_file(model, initial), initial)
        if compared is not None and compared[0] < compared[1]:
            words = f"initial_state setting expects {compared[1]} bytes, but the data provided from"
            yield model.found((*path, "data_file"), f"{words} {initial.data_file} only has {compared[0]} bytes")


@rule("STA011", "initial-state-file-too-long", Severity.WARNING)
def initial_state_file_too_long(model: Model) -> Iterator[Found]:
    """The file of an initial state has more bytes than its type and dims need: the rest is not read.

    The server takes as many bytes as it needs (core: sequence_batch_scheduler.cc, GenerateInitialStateData).

    Wrong:
        initial_state { name: "h0" data_type: TYPE_FP16 dims: [ 4 ] data_file: "h0_of_16_bytes" }

    Right:
        initial_state { name: "h0" data_type: TYPE_FP32 dims: [ 4 ] data_file: "h0_of_16_bytes" }
    """
    for path, _, initial in _initial_states(model):
        compared = sizes(_file(model, initial), initial)
        if compared is not None and compared[0] > compared[1]:
            message = f"{initial.data_file} has {compared[0]} bytes, of which only the first {compared[1]} are read"
            yield model.found((*path, "data_file"), f"{message}; are data_type and dims right?")


@rule("STA012", "initial-state-of-strings", Severity.WARNING)
def initial_state_of_strings(model: Model) -> Iterator[Found]:
    """The initial state of a state of strings comes from a file, which is read and then overwritten with zeros.

    Every state of strings begins as empty strings (sequence_state.cc, SequenceStates::Initialize,
    SetStringDataToZero).

    Wrong:
        initial_state { name: "s0" data_type: TYPE_STRING dims: [ 1 ] data_file: "hello" }

    Right:
        initial_state { name: "s0" data_type: TYPE_STRING dims: [ 1 ] zero_data: true }
    """
    for path, state, initial in _initial_states(model):
        if type_of(initial) == "TYPE_STRING" and initial.WhichOneof("state_data") == "data_file":
            message = f"the state '{state.input_name}' begins as empty strings, whatever is in {initial.data_file}"
            yield model.found((*path, "data_file"), f"{message}; write zero_data: true")


RULES = (
    initial_state_twice, initial_state_type, initial_state_without_name, initial_state_of_one_input_twice,
    initial_state_rank, initial_state_with_variable_dims, initial_state_dims, initial_state_without_data,
    initial_state_file_missing, initial_state_file_too_short, initial_state_file_too_long, initial_state_of_strings,
)  # fmt: skip
