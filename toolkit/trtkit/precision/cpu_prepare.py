# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Put constants into the form in which ONNX Runtime's quantizer knows them.

Found with ONNX Runtime 1.31.1: it takes the result of a Constant or of a transposed constant for an activation, and
quantizes a bias with one scale for each scale of the weight, whatever shape the bias has. The factor of a Gemm's bias,
`beta`, it drops without applying it; and what it makes of a Gemm whose bias is an activation, the optimizer computes
wrongly.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from trtkit.precision.graph_edit import Names, attribute_of, initializers
from trtkit.precision.qdq_weights import channel_axis
from trtkit.precision.quantizable import TRANSPARENT, Constants, drop_unread


def store_constants(model: onnx.ModelProto) -> None:
    """Make initializers of constants that nodes make: Constant, and Transpose or Identity of a constant.

    Args:
        model: changed in place; the main graph only.
    """
    constants, before = Constants(model), set(initializers(model.graph))
    results = {value.name for value in model.graph.output}
    made = [node for node in model.graph.node if node.op_type in ("Constant", *TRANSPARENT)]
    made = [node for node in made if node.output[0] in constants and node.output[0] not in results]
    values = [numpy_helper.from_array(constants.get(node.output[0]), node.output[0]) for node in made]
    for node in made:
        model.graph.node.remove(node)
    model.graph.initializer.extend(values)
    drop_unread(model.graph, before)


def plain_biases(model: onnx.ModelProto) -> None:
    """Give each Gemm with a constant bias one of [channels] and no factor, where it can be; changed in place."""
    constants, names = Constants(model), Names(model)
    for node in model.graph.node:
        channels, factor = _channels(node, constants) if node.op_type == "Gemm" else 0, attribute_of(node, "beta")
        if not channels:
            continue
        bias = constants.get(node.input[2])
        if (bias.shape == (channels,) and factor is None) or bias.shape not in _one_row(channels):
            continue
        row = np.broadcast_to(bias.ravel(), (channels,)) * np.float32(1 if factor is None else factor.f)
        node.input[2] = names.free(f"{node.input[2]}_by_channel")
        model.graph.initializer.append(numpy_helper.from_array(row, node.input[2]))
        if factor is not None:
            node.attribute.remove(factor)


def _one_row(channels: int) -> tuple[tuple[int, ...], ...]:
    """The shapes of a Gemm's bias that is the same in all rows."""
    return (), (1,), (1, 1), (channels,), (1, channels)


def bias_problem(node: onnx.NodeProto, constants: Constants) -> str:
    """Why a Conv, ConvTranspose or Gemm cannot be quantized with its bias; "" where it can."""
    if len(node.input) < 3 or not node.input[2]:
        return ""
    if node.input[2] not in constants:
        return "its bias is not constant"
    group = attribute_of(node, "group")
    if node.op_type == "ConvTranspose" and group is not None and group.i > 1:
        return "ONNX Runtime's quantizer has no form for the bias of a grouped ConvTranspose"
    fits = constants.get(node.input[2]).shape == (_channels(node, constants),)
    return "" if fits else "its bias is not one value for each channel"


def _channels(node: onnx.NodeProto, constants: Constants) -> int:
    """The number of scales that a node's weight gets; 0 if it has no constant weight with a constant bias."""
    if len(node.input) < 3 or node.input[1] not in constants or node.input[2] not in constants:
        return 0
    weight = constants.get(node.input[1])
    axis = channel_axis(node, 1, weight.ndim)
    return 0 if axis is None else weight.shape[axis]
