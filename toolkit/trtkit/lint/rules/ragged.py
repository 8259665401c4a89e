# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""batch_input and batch_output (core: model_config_utils.cc, ValidateBatchIO)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trtkit.errors import nearest
from trtkit.lint.finding import Severity
from trtkit.lint.judged import is_final, tensors_config
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import rule
from trtkit.pbtxt import Path

_TYPES = (8, 11)  # TYPE_INT32, TYPE_FP32


def _batch_fields(model: Model, *fields: str) -> Iterator[tuple[Path, Any, str]]:
    """The entries of batch_input or batch_output: where, what, and the kind's name ('' for none)."""
    config = tensors_config(model)
    for field in fields:
        for index, entry in enumerate(getattr(config, field)):
            kinds = entry.DESCRIPTOR.fields_by_name["kind"].enum_type.values_by_number
            yield (field, index), entry, kinds[entry.kind].name if entry.kind in kinds else ""


def _source_count(model: Model, field: str) -> Iterator[Found]:
    for path, entry, kind in _batch_fields(model, field):
        count = len(entry.source_input)
        if kind and count != 1:
            yield model.found(
                (*path, "source_input"),
                f"{field.replace('_', ' ')} kind '{kind}' expects 1 source input, got {count} for {model.config.name}",
            )


def _unknown_kind(model: Model, field: str) -> Iterator[Found]:
    for path, entry, kind in _batch_fields(model, field):
        if not kind:
            known = ", ".join(entry.DESCRIPTOR.fields_by_name["kind"].enum_type.values_by_name)
            yield model.found(
                (*path, "kind"),
                f"unknown {field.replace('_', ' ')} kind '' for {model.config.name}; {entry.kind} is none of {known}",
            )


@rule("RAG001", "batch-input-needs-one-source", server=True)
def batch_input_source(model: Model) -> Iterator[Found]:
    """A batch_input has not exactly one source_input.

    Every kind counts or measures the elements of one input (core: model_config_utils.cc, ValidateBatchIO).

    Wrong:
        batch_input { kind: BATCH_ELEMENT_COUNT target_name: "sizes" data_type: TYPE_INT32 }

    Right:
        batch_input { kind: BATCH_ELEMENT_COUNT target_name: "sizes" data_type: TYPE_INT32 source_input: "x" }
    """
    yield from _source_count(model, "batch_input")


@rule("RAG002", "batch-input-data-type", server=True)
def batch_input_type(model: Model) -> Iterator[Found]:
    """A batch_input is neither of 32-bit integers nor of 32-bit floats.

    The server makes the tensor itself, of one of these two types (core: model_config_utils.cc, ValidateBatchIO).

    Wrong:
        batch_input { kind: BATCH_ELEMENT_COUNT target_name: "sizes" data_type: TYPE_INT64 source_input: "x" }

    Right:
        batch_input { kind: BATCH_ELEMENT_COUNT target_name: "sizes" data_type: TYPE_INT32 source_input: "x" }
    """
    for path, entry, _ in _batch_fields(model, "batch_input"):
        if entry.data_type not in _TYPES:
            yield model.found(
                (*path, "data_type"), f"batch input data type must be TYPE_INT32 or TYPE_FP32 for {model.config.name}"
            )


@rule("RAG003", "batch-input-kind", server=True)
def batch_input_kind(model: Model) -> Iterator[Found]:
    """A batch_input's kind is a number that no kind has.

    A number without a name gets through the parser of the text format, and no further (core: model_config_utils.cc,
    ValidateBatchIO).

    Wrong:
        batch_input { kind: 9 target_name: "sizes" data_type: TYPE_INT32 source_input: "x" }

    Right:
        batch_input { kind: BATCH_ELEMENT_COUNT target_name: "sizes" data_type: TYPE_INT32 source_input: "x" }
    """
    yield from _unknown_kind(model, "batch_input")


@rule("RAG004", "batch-source-unknown", server=True, depends_on_server=True)
def source_unknown(model: Model) -> Iterator[Found]:
    """The source_input of a batch_input or batch_output is no input of the model.

    Its shape is what the server looks at in each request (core: model_config_utils.cc, ValidateBatchIO).

    Wrong:
        input { name: "x" data_type: TYPE_FP32 dims: [ -1 ] }
        batch_input { target_name: "sizes" data_type: TYPE_INT32 source_input: "X" }

    Right:
        input { name: "x" data_type: TYPE_FP32 dims: [ -1 ] }
        batch_input { target_name: "sizes" data_type: TYPE_INT32 source_input: "x" }
    """
    for path, entry, _ in _batch_fields(model, "batch_input", "batch_output"):
        names = [each.name for each in tensors_config(model).input]
        for index, name in enumerate(entry.source_input):
            if name not in names and is_final(model):
                yield model.found(
                    (*path, "source_input", index),
                    f"unknown source input name '{name}' for {model.config.name}; {nearest(name, names)}",
                )


@rule("RAG005", "batch-output-needs-one-source", server=True)
def batch_output_source(model: Model) -> Iterator[Found]:
    """A batch_output has not exactly one source_input.

    The shape of one input says how the output is divided among the requests (core: model_config_utils.cc,
    ValidateBatchIO).

    Wrong:
        batch_output { kind: BATCH_SCATTER_WITH_INPUT_SHAPE target_name: "y" }

    Right:
        batch_output { kind: BATCH_SCATTER_WITH_INPUT_SHAPE target_name: "y" source_input: "x" }
    """
    yield from _source_count(model, "batch_output")


@rule("RAG006", "batch-output-kind", server=True)
def batch_output_kind(model: Model) -> Iterator[Found]:
    """A batch_output's kind is a number that no kind has.

    A number without a name gets through the parser of the text format, and no further (core: model_config_utils.cc,
    ValidateBatchIO).

    Wrong:
        batch_output { kind: 3 target_name: "y" source_input: "x" }

    Right:
        batch_output { kind: BATCH_SCATTER_WITH_INPUT_SHAPE target_name: "y" source_input: "x" }
    """
    yield from _unknown_kind(model, "batch_output")


@rule("RAG007", "batch-output-target-unknown", server=True, depends_on_server=True)
def target_unknown(model: Model) -> Iterator[Found]:
    """The target of a batch_output is no output of the model.

    It is the output that the server divides among the requests (core: model_config_utils.cc, ValidateBatchIO).

    Wrong:
        output { name: "y" data_type: TYPE_FP32 dims: [ -1 ] }
        batch_output { target_name: "Y" source_input: "x" }

    Right:
        output { name: "y" data_type: TYPE_FP32 dims: [ -1 ] }
        batch_output { target_name: "y" source_input: "x" }
    """
    for path, entry, _ in _batch_fields(model, "batch_output"):
        names = [each.name for each in tensors_config(model).output]
        for index, name in enumerate(entry.target_name):
            if name not in names and is_final(model):
                yield model.found(
                    (*path, "target_name", index),
                    f"unknown target output name '{name}' for {model.config.name}; {nearest(name, names)}",
                )


@rule("RAG008", "batch-output-target-twice", server=True)
def target_twice(model: Model) -> Iterator[Found]:
    """A batch_output names one target twice.

    An output is divided among the requests once (core: model_config_utils.cc, ValidateBatchIO).

    Wrong:
        batch_output { target_name: [ "y", "y" ] source_input: "x" }

    Right:
        batch_output { target_name: [ "y" ] source_input: "x" }
    """
    for path, entry, _ in _batch_fields(model, "batch_output"):
        targets = list(entry.target_name)
        for index, name in enumerate(targets):
            if name in targets[:index]:
                yield model.found(
                    (*path, "target_name", index),
                    f"target output name '{name}' can only be specified once for {model.config.name}",
                )


@rule("RAG009", "batch-output-without-target", server=True)
def no_target(model: Model) -> Iterator[Found]:
    """A batch_output has no target_name.

    The core lets it pass, and the backend then reads a name that is not there: the whole server ends with
    signal 11, and with it every other model (backend: backend_model.cc; measured with 2.51 and the Python
    backend).

    Wrong:
        batch_output { source_input: "x" }

    Right:
        batch_output { target_name: "y" source_input: "x" }
    """
    for path, entry, _ in _batch_fields(model, "batch_output"):
        if not entry.target_name:
            yield model.found(
                path, "the batch_output has no target_name, which ends the whole server (signal 11); name an output"
            )


@rule("RAG010", "ragged-without-batching", Severity.WARNING, depends_on_server=True)
def ragged_without_batching(model: Model) -> Iterator[Found]:
    """An input may be ragged, but the model does not batch.

    Ragged means that requests of different shapes share a batch (server: docs/user_guide/ragged_batching.md).

    Wrong:
        max_batch_size: 0
        input { name: "x" data_type: TYPE_FP32 dims: [ -1 ] allow_ragged_batch: true }

    Right:
        max_batch_size: 16
        input { name: "x" data_type: TYPE_FP32 dims: [ -1 ] allow_ragged_batch: true }
    """
    if tensors_config(model).max_batch_size == 0:
        for index, tensor in enumerate(model.config.input):
            if tensor.allow_ragged_batch and is_final(model):
                yield model.found(
                    ("input", index, "allow_ragged_batch"),
                    f"input '{tensor.name}' may be ragged, but max_batch_size is 0: there are no batches",
                )


RULES = (
    batch_input_source,
    batch_input_type,
    batch_input_kind,
    source_unknown,
    batch_output_source,
    batch_output_kind,
    target_unknown,
    target_twice,
    no_target,
    ragged_without_batching,
)
