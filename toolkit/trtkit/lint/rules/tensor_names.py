# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Tensors that have one name twice, labels twice, or a type without a name."""

from __future__ import annotations

from collections.abc import Iterator

from trtkit.lint.finding import Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import rule
from trtkit.lint.rules.tensors import KINDS
from trtkit.pbtxt import Path


@rule("TEN009", "two-label-files-for-one-output", server=True)
def two_label_files(model: Model) -> Iterator[Found]:
    """Two outputs of the same name have a file of labels each.

    Core: label_provider.cc, AddLabels.

    Wrong:
        output { name: "y" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "a.txt" }
        output { name: "y" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "b.txt" }

    Right:
        output { name: "y" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "a.txt" }
    """
    seen: set[str] = set()
    for index, output in enumerate(model.config.output):
        if not output.label_filename:
            continue
        if output.name in seen:
            yield model.found(("output", index, "label_filename"), f"multiple label files for '{output.name}'")
        seen.add(output.name)


@rule("TEN010", "label-file-outside-model", server=True)
def label_file_outside(model: Model) -> Iterator[Found]:
    """A file of labels is outside the model's directory.

    The newest servers refuse it; 2.51 reads it (core: model.cc, Model::Init).

    Wrong:
        output { name: "y" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "../labels.txt" }

    Right:
        output { name: "y" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "labels.txt" }
    """
    if not model.server.is_from((2, 70)):
        return
    for index, output in enumerate(model.config.output):
        depth = 0
        for part in output.label_filename.split("/"):
            depth += -1 if part == ".." else part not in ("", ".")
            if depth < 0:
                yield model.found(
                    ("output", index, "label_filename"),
                    f"label file path '{output.label_filename}' for output '{output.name}' in model "
                    f"'{model.config.name}' is outside model directory",
                )
                break


def _twice(model: Model, kind: str) -> Iterator[tuple[Path, str]]:
    seen: set[str] = set()
    for index, message in enumerate(getattr(model.config, kind)):
        if message.name and message.name in seen:
            yield (kind, index), message.name
        seen.add(message.name)


@rule("TEN011", "input-twice", Severity.WARNING)
def input_twice(model: Model) -> Iterator[Found]:
    """Two inputs have the same name.

    The server keeps the first, but counts both among those a request must bring, so that every request is
    refused (core: model.cc, Model::Init; infer_request.cc, Normalize).

    Wrong:
        input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }
        input { name: "x" data_type: TYPE_INT32 dims: [ 4 ] }

    Right:
        input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }
        input { name: "mask" data_type: TYPE_INT32 dims: [ 4 ] }
    """
    for path, name in _twice(model, "input"):
        yield model.found(path, f"input '{name}' is there already; no request can bring it twice: rename or remove it")


@rule("TEN012", "output-twice", Severity.WARNING)
def output_twice(model: Model) -> Iterator[Found]:
    """Two outputs have the same name.

    The server keeps the first and forgets the second (core: model.cc, Model::Init).

    Wrong:
        output { name: "y" data_type: TYPE_FP32 dims: [ 4 ] }
        output { name: "y" data_type: TYPE_INT32 dims: [ 1 ] }

    Right:
        output { name: "y" data_type: TYPE_FP32 dims: [ 4 ] }
        output { name: "label" data_type: TYPE_INT32 dims: [ 1 ] }
    """
    for path, name in _twice(model, "output"):
        labelled = [each for each in model.config.output if each.name == name and each.label_filename]
        if len(labelled) < 2:  # else the server refuses the model: TEN009
            yield model.found(path, f"output '{name}' is there already; only the first is kept: rename or remove it")


@rule("TEN013", "data-type-without-name", Severity.WARNING)
def type_without_name(model: Model) -> Iterator[Found]:
    """A data type is given as a number that no type has.

    The server loads the model, and no request can be of such a type (measured with 2.51).

    Wrong:
        input { name: "x" data_type: 99 dims: [ 4 ] }

    Right:
        input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }
    """
    for kind in KINDS:
        for index, message in enumerate(getattr(model.config, kind)):
            known = message.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
            if message.data_type not in known:
                types = ", ".join(value.name for number, value in known.items() if number)
                yield model.found(
                    (kind, index, "data_type"),
                    f"model {kind} '{message.name}' has data_type {message.data_type}, which no type has; use {types}",
                )


RULES = (two_label_files, label_file_outside, input_twice, output_twice, type_without_name)
