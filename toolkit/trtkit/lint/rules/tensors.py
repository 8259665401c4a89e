# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Inputs and outputs: name, type, dims, format (core: model_config_utils.cc, ValidateModelInput and -Output)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from trtkit.lint.edits import removed
from trtkit.lint.judged import is_final, tensors_config
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import rule
from trtkit.pbtxt import Path

TENSORRT = "tensorrt_plan"
KINDS = ("input", "output")


@dataclass(frozen=True)
class Tensor:
    """An input or output of a config: the message, where it is, and how the server calls it."""

    message: Any
    path: Path

    @property
    def words(self) -> str:
        """E.g. ``model input 'x'``."""
        return f"model {self.path[0]} '{self.message.name}'"


def tensors(model: Model) -> Iterator[Tensor]:
    """The inputs and outputs that the server validates."""
    config = tensors_config(model)
    for kind in KINDS:
        for index, message in enumerate(getattr(config, kind)):
            yield Tensor(message, (kind, index))


def _for(model: Model) -> str:
    return f"for {model.config.name}"


@rule("TEN001", "tensor-without-name", server=True)
def tensor_without_name(model: Model) -> Iterator[Found]:
    """An input or output has no name.

    Core: model_config_utils.cc, ValidateIOShape.

    Wrong:
        input { data_type: TYPE_FP32 dims: [ 4 ] }

    Right:
        input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }
    """
    for tensor in tensors(model):
        if not tensor.message.name:
            yield model.found(tensor.path, f"model {tensor.path[0]} must specify 'name' {_for(model)}")


@rule("TEN002", "tensor-without-data-type", server=True, depends_on_server=True)
def tensor_without_type(model: Model) -> Iterator[Found]:
    """An input or output has no data type.

    A model.py may fill it in by auto_complete_config, unless --disable-auto-complete-config is given (core:
    model_config_utils.cc, ValidateIOShape).

    Wrong:
        input { name: "x" dims: [ 4 ] }

    Right:
        input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }
    """
    for tensor in tensors(model):
        if not tensor.message.data_type and is_final(model):
            yield model.found(tensor.path, f"{tensor.words} must specify 'data_type' {_for(model)}")


@rule("TEN003", "tensor-without-dims", server=True, depends_on_server=True)
def tensor_without_dims(model: Model) -> Iterator[Found]:
    """An input or output has no dims.

    Where a request has one number per row, write dims: [ 1 ], and reshape { } if the model wants none. A
    model.py may fill dims in by auto_complete_config, unless --disable-auto-complete-config is given (core:
    model_config_utils.cc, ValidateIOShape).

    Wrong:
        input { name: "x" data_type: TYPE_FP32 dims: [ ] }

    Right:
        input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] }
    """
    for tensor in tensors(model):
        if not tensor.message.dims and is_final(model):
            yield model.found(tensor.path, f"{tensor.words} must specify 'dims' {_for(model)}")


@rule("TEN004", "dimension-not-positive", server=True)
def dimension_not_positive(model: Model) -> Iterator[Found]:
    """A dimension is neither a positive number nor -1.

    Core: model_config_utils.cc, ValidateIOShape.

    Wrong:
        input { name: "x" data_type: TYPE_FP32 dims: [ 0 ] }

    Right:
        input { name: "x" data_type: TYPE_FP32 dims: [ -1 ] }
    """
    for tensor in tensors(model):
        for index, value in enumerate(tensor.message.dims):
            if value < 1 and value != -1:
                yield model.found(
                    (*tensor.path, "dims", index),
                    f"{tensor.words} dimension must be integer >= 1, or -1 to indicate a variable-size dimension "
                    f"{_for(model)}; got {value}",
                )


@rule("TEN005", "format-without-three-dims", server=True)
def format_without_three_dims(model: Model) -> Iterator[Found]:
    """An input in FORMAT_NHWC or FORMAT_NCHW has not three dims.

    The batch does not count: dims are those of one image (core: model_config_utils.cc, ValidateModelInput).

    Wrong:
        input { name: "image" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 1, 3, 224, 224 ] }

    Right:
        input { name: "image" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 3, 224, 224 ] }
    """
    for tensor in tensors(model):
        message = tensor.message
        if tensor.path[0] == "input" and message.format in (1, 2) and len(message.dims) not in (0, 3):
            yield model.found(
                (*tensor.path, "dims"),
                f"model input NHWC/NCHW require 3 dims {_for(model)}; '{message.name}' has {len(message.dims)}",
            )


def _only_for_tensorrt(model: Model, field: str, words: str) -> Iterator[Found]:
    platform = model.config.platform
    if platform == TENSORRT:
        return
    for tensor in tensors(model):
        if getattr(tensor.message, field):
            path = (*tensor.path, field)
            yield model.found(
                path,
                f"{words} {_for(model)}; '{tensor.message.name}' has {field}, and the platform is '{platform}'",
                fix=removed(model.document, path),
            )


@rule("TEN006", "shape-tensor-outside-tensorrt", server=True, fixable=True)
def shape_tensor_outside_tensorrt(model: Model) -> Iterator[Found]:
    """A shape tensor is declared for a backend other than TensorRT.

    Shape tensors are a notion of TensorRT: other backends take them as any tensor (core:
    model_config_utils.cc, ValidateModelInput).

    Wrong:
        platform: "onnxruntime_onnx"
        input { name: "size" data_type: TYPE_INT32 dims: [ 2 ] is_shape_tensor: true }

    Right:
        platform: "onnxruntime_onnx"
        input { name: "size" data_type: TYPE_INT32 dims: [ 2 ] }
    """
    yield from _only_for_tensorrt(model, "is_shape_tensor", "shape tensors are only supported for TensorRT platform")


@rule("TEN007", "non-linear-format-outside-tensorrt", server=True, fixable=True)
def non_linear_outside_tensorrt(model: Model) -> Iterator[Found]:
    """A non-linear format is declared for a backend other than TensorRT.

    Core: model_config_utils.cc, ValidateNonLinearFormatIO.

    Wrong:
        platform: "onnxruntime_onnx"
        input { name: "x" data_type: TYPE_FP16 dims: [ 8, 4, 4 ] is_non_linear_format_io: true }

    Right:
        platform: "onnxruntime_onnx"
        input { name: "x" data_type: TYPE_FP16 dims: [ 8, 4, 4 ] }
    """
    yield from _only_for_tensorrt(
        model, "is_non_linear_format_io", "Non-linear IO format is only supported for the TensorRT platform"
    )


@rule("TEN008", "non-linear-format-without-three-dims", server=True)
def non_linear_without_three_dims(model: Model) -> Iterator[Found]:
    """A tensor in a non-linear format has not three dims.

    Core: model_config_utils.cc, ValidateNonLinearFormatIO.

    Wrong:
        platform: "tensorrt_plan"
        input { name: "x" data_type: TYPE_FP16 dims: [ 8 ] is_non_linear_format_io: true }

    Right:
        platform: "tensorrt_plan"
        input { name: "x" data_type: TYPE_FP16 dims: [ 8, 4, 4 ] is_non_linear_format_io: true }
    """
    if model.config.platform != TENSORRT:
        return
    for tensor in tensors(model):
        message = tensor.message
        if message.is_non_linear_format_io and len(message.dims) not in (0, 3):
            yield model.found(
                (*tensor.path, "dims"),
                f"Non-linear IO format {tensor.path[0]} requires 3 dims {_for(model)}; "
                f"'{message.name}' has {len(message.dims)}",
            )


RULES = (
    tensor_without_name,
    tensor_without_type,
    tensor_without_dims,
    dimension_not_positive,
    format_without_three_dims,
    shape_tensor_outside_tensorrt,
    non_linear_outside_tensorrt,
    non_linear_without_three_dims,
)
