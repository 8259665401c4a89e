# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The data of warm-up requests: what the server cannot make a request of.

A warm-up runs when the model is loaded, in each instance, and one that fails refuses the model, whatever its
backend. Source: backend_model_instance.cc, TritonModelInstance::GenerateWarmupData and WarmUp.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trtkit.lint.data_files import DataFile, byte_size, data_file, sizes, string_problem
from trtkit.lint.edits import set_value
from trtkit.lint.finding import Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import rule
from trtkit.lint.shapes import type_of
from trtkit.pbtxt import Path

_FOLDER = "warmup"
_MAX_STRING_BYTES = 2**24


def samples(model: Model) -> Iterator[tuple[Path, Any]]:
    """The warm-ups that are run: those with a batch, where an instance is not passive."""
    groups = model.config.instance_group
    if groups and all(group.passive for group in groups):
        return
    for index, sample in enumerate(model.config.model_warmup):
        if sample.batch_size:
            yield ("model_warmup", index), sample


def tensors(model: Model) -> Iterator[tuple[Path, str, Any]]:
    """Each input of the warm-ups that are run, with its path and name."""
    for path, sample in samples(model):
        for name in sorted(sample.inputs):
            yield (*path, "inputs", name), name, sample.inputs[name]


def _source(tensor: Any) -> str:
    return tensor.WhichOneof("input_data_type") or ""


def _file(model: Model, tensor: Any) -> DataFile | None:
    return data_file(model, _FOLDER, tensor.input_data_file) if _source(tensor) == "input_data_file" else None


@rule("WRM001", "warm-up-with-variable-dims", server=True)
def variable_dims(model: Model) -> Iterator[Found]:
    """A warm-up's input has a dimension of -1.

    The server makes the tensor, so each dimension has a size, the batch dimension aside.

    Wrong:
        input { name: "ids" data_type: TYPE_INT64 dims: [ -1 ] }
        model_warmup {
          batch_size: 1
          inputs { key: "ids" value { data_type: TYPE_INT64 dims: [ -1 ] zero_data: true } }
        }

    Right:
        input { name: "ids" data_type: TYPE_INT64 dims: [ -1 ] }
        model_warmup {
          batch_size: 1
          inputs { key: "ids" value { data_type: TYPE_INT64 dims: [ 128 ] zero_data: true } }
        }
    """
    for path, name, tensor in tensors(model):
        if -1 in tensor.dims:
            words = f"warmup setting expects all variable-size dimensions are specified for input '{name}'"
            yield model.found((*path, "dims"), f"{words}, got {list(tensor.dims)}")


@rule("WRM002", "warm-up-with-negative-dims", server=True)
def negative_dims(model: Model) -> Iterator[Found]:
    """A warm-up's input has a dimension of -2 or less.

    The server takes it for a number of bytes: it refuses the model, or ends itself (measured with 2.51).

    Wrong:
        inputs { key: "x" value { data_type: TYPE_FP32 dims: [ -4 ] zero_data: true } }

    Right:
        inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } }
    """
    for path, name, tensor in tensors(model):
        if min(tensor.dims, default=0) < -1 and -1 not in tensor.dims:
            message = f"dimensions of input '{name}' must be 0 or more, got {list(tensor.dims)}"
            yield model.found((*path, "dims"), message)


@rule("WRM003", "warm-up-without-data", server=True)
def without_data(model: Model) -> Iterator[Found]:
    """A warm-up's input says none of zero_data, random_data and input_data_file.

    One of them says what the tensor is filled with (core: backend_model_instance.cc, GenerateWarmupData).

    Wrong:
        inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] } }

    Right:
        inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] random_data: true } }
    """
    for path, name, tensor in tensors(model):
        if not _source(tensor):
            words = f"warmup setting expects input '{name}' to have input_data_type set"
            yield model.found(path, f"{words}; add zero_data: true, random_data: true or an input_data_file")


@rule("WRM004", "warm-up-file-missing", server=True)
def file_missing(model: Model) -> Iterator[Found]:
    """The file of a warm-up's input is not in the model's warmup folder.

    A folder of that name ends the server (measured with 2.51).

    Wrong:
        m/config.pbtxt: input_data_file: "image"
        m/image

    Right:
        m/config.pbtxt: input_data_file: "image"
        m/warmup/image
    """
    for path, _, tensor in tensors(model):
        file = _file(model, tensor)
        if file is not None and file.words:
            yield model.found((*path, "input_data_file"), f"{file.words}; the path starts in {_FOLDER}/")


@rule("WRM005", "warm-up-file-too-short", server=True)
def file_too_short(model: Model) -> Iterator[Found]:
    """The file of a warm-up's input has fewer bytes than its type and dims need.

    It holds the elements of one request as they are in memory, little endian, whatever batch_size is (core:
    backend_model_instance.cc, GenerateWarmupData).

    Wrong:
        inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] input_data_file: "of_8_bytes" } }

    Right:
        inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] input_data_file: "of_16_bytes" } }
    """
    for path, _, tensor in tensors(model):
        compared = sizes(_file(model, tensor), tensor)
        if compared is not None and compared[0] < compared[1]:
            words = f"warmup setting expects {compared[1]} bytes, but the data provided from"
            message = f"{words} {tensor.input_data_file} only has {compared[0]} bytes"
            yield model.found((*path, "input_data_file"), message)


@rule("WRM006", "warm-up-file-of-strings", server=True)
def file_of_strings(model: Model) -> Iterator[Found]:
    """The file of a warm-up's input of strings does not hold one string for each element.

    Each string stands after its length, 4 bytes, little endian (infer_request.cc, ValidateBytesInputs;
    backend_common.cc, ValidateStringBuffer).

    Wrong:
        warmup/text: hello

    Right:
        warmup/text: the bytes 5 0 0 0, then hello
    """
    for path, name, tensor in tensors(model):
        file = _file(model, tensor) if type_of(tensor) == "TYPE_STRING" and min(tensor.dims, default=0) >= 0 else None
        if file is None or file.entry is None or file.words or file.entry.size > _MAX_STRING_BYTES:
            continue
        try:
            content = model.read(file.path)
        except OSError:
            continue  # it cannot be read here, and perhaps by the server
        words = string_problem(content, byte_size("TYPE_INT8", tensor.dims))
        if words:
            message = f"{words} for inference input '{name}' in {tensor.input_data_file}"
            yield model.found((*path, "input_data_file"), f"{message}: before each string stands its length, 4 bytes")


@rule("WRM013", "warm-up-skipped", Severity.WARNING, fixable=True)
def skipped(model: Model) -> Iterator[Found]:
    """A warm-up has no batch_size, or 0: it is skipped.

    For a model without batching one request is batch_size 1, too.

    Wrong:
        model_warmup { name: "first" inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } } }

    Right:
        model_warmup {
          name: "first"
          batch_size: 1
          inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } }
        }
    """
    for index, sample in enumerate(model.config.model_warmup):
        if not sample.batch_size:
            own = ("model_warmup", index, "batch_size")
            fix = set_value(model.document, own, "1")
            message = f"Skipping batch 0 warmup sample '{sample.name}': it never runs; set batch_size to 1 or more"
            yield model.found(own, message, fix=fix)


@rule("WRM016", "warm-up-file-too-long", Severity.WARNING)
def file_too_long(model: Model) -> Iterator[Found]:
    """The file of a warm-up's input has more bytes than its type and dims need: the rest is not read.

    A file for a whole batch is such a one: each of the batch_size requests gets the same first bytes.

    Wrong:
        inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] input_data_file: "of_32_bytes" } }

    Right:
        inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] input_data_file: "of_16_bytes" } }
    """
    for path, _, tensor in tensors(model):
        compared = sizes(_file(model, tensor), tensor)
        if compared is not None and compared[0] > compared[1]:
            words = f"{tensor.input_data_file} has {compared[0]} bytes, of which only the first {compared[1]} are read"
            yield model.found((*path, "input_data_file"), f"{words}; are data_type and dims right?")


@rule("WRM017", "warm-up-data-false", Severity.WARNING, fixable=True)
def data_false(model: Model) -> Iterator[Found]:
    """zero_data: false makes zeros all the same, and random_data: false random data.

    That the field is written is what the server looks at.

    Wrong:
        inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] zero_data: false } }

    Right:
        inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } }
    """
    for path, name, tensor in tensors(model):
        source = _source(tensor)
        if source in ("zero_data", "random_data") and not getattr(tensor, source):
            own = (*path, source)
            fix = set_value(model.document, own, "true")
            message = f"'{name}' gets what {source}: true gives it; write true, or another source of data"
            yield model.found(own, message, fix=fix)


RULES = (
    variable_dims, negative_dims, without_data, file_missing, file_too_short, file_of_strings, skipped,
    file_too_long, data_false,
)  # fmt: skip
