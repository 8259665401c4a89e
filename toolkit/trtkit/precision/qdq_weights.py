# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Weights and scales in 8 bits: symmetric, per output channel, stored quantized."""

from __future__ import annotations

from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto

from trtkit.numerics import Array
from trtkit.precision.graph_edit import attribute_of


class Format(NamedTuple):
    """A symmetric 8-bit type: its name in ONNX and numpy, the largest value used, and whether channels get scales.

    FP8 keeps its relative precision whatever the scale, so that scales per channel gain nothing there (errors of
    7 % against 8 % on a convolutional net, 6.4 % against 5.8 % on an encoder), and NVIDIA's own quantizer writes
    one per tensor.
    """

    onnx: int
    numpy: Any
    largest: float
    per_channel: bool


FORMATS = {
    "INT8": Format(TensorProto.INT8, np.int8, 127.0, True),
    # E4M3FN; TensorRT's FP8
    "FP8": Format(TensorProto.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn, 448.0, False),
}


def scale_of(largest: Array, form: Format) -> Array:
    """The FP32 scales for largest magnitudes; 1 where all is 0, because a scale has to be positive."""
    scale = (np.asarray(largest, np.float64) / form.largest).astype(np.float32)
    return np.where(largest > 0, np.maximum(scale, np.finfo(np.float32).tiny), np.float32(1)).astype(np.float32)


def quantize(values: Array, axis: int | None, form: Format) -> tuple[Array, Array]:
    """Quantize weights.

    Args:
        values: the weights.
        axis: of the output channels, each of which gets a scale; None for one scale.
        form: the 8-bit type.

    Returns:
        The quantized values and the FP32 scales, [channels] or [].
    """
    others = None if axis is None else tuple(i for i in range(values.ndim) if i != axis % values.ndim)
    scale = scale_of(np.abs(values).max(axis=others), form)
    shape = [1] * values.ndim
    if axis is not None:
        shape[axis] = -1
    scaled = np.clip(values.astype(np.float64) / scale.reshape(shape), -form.largest, form.largest)
    rounded = np.rint(scaled) if form.onnx == TensorProto.INT8 else scaled
    return rounded.astype(form.numpy), scale


def channel_axis(node: onnx.NodeProto, index: int, rank: int) -> int | None:
    """The axis of a weight that counts the node's output channels; None where one scale has to do.

    Args:
        node: a Conv, ConvTranspose, Gemm or MatMul.
        index: the input that is the weight.
        rank: the weight's number of axes.
    """
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1  # [inputs, outputs / group, ...]
    if node.op_type == "Gemm":
        transposed = attribute_of(node, "transB" if index else "transA")
        rows = bool(transposed.i) if transposed else False
        return int(not rows) if index else int(rows)
    if rank != 2:
        return (
            None  # ONNX Runtime cannot run a batched MatMul with scales per channel, so that nothing could be compared
        )
    return rank - 1 if index else rank - 2
