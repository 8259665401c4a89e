# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Which nodes a quantizer may change, which of their inputs are weights, and which are activations."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import onnx
from onnx import TensorProto

from trtkit.numerics import Array
from trtkit.precision.graph_edit import array_of, attribute_of, constant_tensors, consumers, producers, reads

# operators that have INT8 and FP8 kernels in TensorRT, and take most of the time of most models
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# what ONNX Runtime's CPU provider keeps in 8 bits between two of them, so that nothing is converted there and back
STATIC_CPU = (
    *WEIGHTED, "Relu", "Clip", "LeakyRelu", "Sigmoid", "MaxPool", "AveragePool", "GlobalAveragePool", "Add", "Mul",
    "Concat", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Resize", "Pad",
)  # fmt: skip
# between a Softmax and the MatMul of an attention
_PASSING = ("Dropout", "Cast", "Identity", "Where", "Mul")
_STANDARD = ("", "ai.onnx")
# nodes through which a constant is still one
TRANSPARENT = ("Identity", "Transpose")


@dataclass(frozen=True)
class Kept:
    """What the user wants to stay as it is.

    Attributes:
        nodes: node names; ``*`` and ``?`` match as in file names.
        operators: operator types.
    """

    nodes: Collection[str] = ()
    operators: Collection[str] = ()

    def reason(self, node: onnx.NodeProto) -> str:
        """Why a node is kept, in words; "" when it is not."""
        if node.op_type in self.operators:
            return f"{node.op_type} is kept by keep.operators"
        pattern = next((p for p in self.nodes if p == node.name or fnmatchcase(node.name, p)), None)
        return "" if pattern is None else f"kept by keep.nodes ('{pattern}')"


class Constants:
    """The constant floating-point tensors of a graph: initializers, Constant nodes, and transposed ones of them."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._tensors = constant_tensors(model)
        self._makers = producers(model.graph)

    def __contains__(self, name: str) -> bool:
        maker = self._makers.get(name)
        if maker is not None and maker.op_type in TRANSPARENT:
            return maker.input[0] in self
        return name in self._tensors

    def size(self, name: str) -> int:
        """The number of values of a constant."""
        maker = self._makers.get(name)
        if maker is not None and maker.op_type in TRANSPARENT:
            return self.size(maker.input[0])
        return int(np.prod(self._tensors[name].dims, dtype=np.int64))

    def get(self, name: str) -> Array:
        """The values of a constant."""
        maker = self._makers.get(name)
        if maker is None or maker.op_type not in TRANSPARENT:
            return array_of(self._tensors[name])
        values = self.get(maker.input[0])
        order = attribute_of(maker, "perm")
        if maker.op_type == "Identity":
            return values
        return np.transpose(values, tuple(order.ints) if order else None)


def is_weighted(node: onnx.NodeProto) -> bool:
    """Whether a node is of an operator that can be quantized for TensorRT."""
    return node.op_type in WEIGHTED and node.domain in _STANDARD


def operands(node: onnx.NodeProto, constants: Constants) -> tuple[list[str], list[str]]:
    """The activations and the weights of a node of `WEIGHTED`; its bias is neither."""
    factors = list(dict.fromkeys(node.input[:2]))
    return [n for n in factors if n not in constants], [n for n in factors if n in constants]


def residuals(graph: onnx.GraphProto, constants: Constants) -> Iterator[tuple[onnx.NodeProto, str]]:
    """The additions that TensorRT can compute inside a convolution, each with its other input.

    A convolution whose only reader is an Add takes that Add (and a Relu behind it) into its kernel when the
    other summand is quantized too; in FP32 it would be a kernel and a pass over memory of its own. Where both
    summands are convolutions the first one takes the sum.
    """
    makers, readers = producers(graph), consumers(graph)
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        if node.op_type != "Add" or len(set(node.input)) != 2 or any(name in constants for name in node.input):
            continue
        for one, other in (node.input, reversed(node.input)):
            maker = makers.get(one)
            if maker and maker.op_type == "Conv" and len(readers[one]) == 1 and one not in outputs:
                yield node, other
                break


def is_float(code: int | None) -> bool:
    """Whether an element type is FP32, or not known."""
    return code in (None, TensorProto.FLOAT)


def drop_unread(graph: onnx.GraphProto, names: Collection[str]) -> None:
    """Remove constants that nobody reads any more, and the nodes that made only them.

    Args:
        graph: the main graph, changed in place.
        names: the constants to look at; those behind a Transpose or Identity come with it.
    """
    makers, left = producers(graph), list(names)
    while left:
        name = left.pop()
        outputs = {value.name for value in graph.output}
        if name in outputs or any(name in reads(node) for node in graph.node):
            continue
        maker = makers.get(name)
        if maker is not None:
            left.extend(maker.input)
            graph.node.remove(maker)
            continue
        for tensor in [tensor for tensor in graph.initializer if tensor.name == name]:
            graph.initializer.remove(tensor)


def static_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes of the main graph that the CPU preset may quantize statically."""
    return [node for node in model.graph.node if node.op_type in STATIC_CPU and node.domain in _STANDARD]


def cpu_scheme(model: onnx.ModelProto) -> str:
    """How ONNX Runtime's CPU provider is fastest in INT8.

    ``dynamic`` (activations quantized while it runs) for transformers: graphs with attention (a MatMul of a
    Softmax's result) in which the weights of MatMul and Gemm outnumber those of convolutions. ``static`` (fixed
    ranges) for everything else. Measured with ONNX Runtime 1.31 on one core with VNNI, against FP32: a 6-layer
    encoder of 384 channels is 2.4 times as fast dynamic and 1.7 to 2.1 times static, where Softmax, norms and
    GELU stay FP32 and every conversion back and forth costs a pass over memory; a net of three convolutions is
    2.1 times as fast static and 7 times slower dynamic, because ConvInteger has no fast kernel.
    """
    constants = Constants(model)
    sizes = {"Conv": 0, "MatMul": 0}
    for node in filter(is_weighted, model.graph.node):
        kind = "Conv" if node.op_type.startswith("Conv") else "MatMul"
        sizes[kind] += sum(constants.size(name) for name in operands(node, constants)[1])
    return "dynamic" if _has_attention(model.graph) and sizes["MatMul"] >= sizes["Conv"] else "static"


def _has_attention(graph: onnx.GraphProto) -> bool:
    """Whether a Softmax's result is a factor of a MatMul, or attention is one operator."""
    makers = producers(graph)
    for node in graph.node:
        if node.op_type in ("Attention", "MultiHeadAttention"):
            return True
        if node.op_type == "MatMul":
            maker = makers.get(node.input[0])
            while maker is not None and maker.op_type in _PASSING:
                maker = makers.get(maker.input[0])
            if maker is not None and maker.op_type == "Softmax":
                return True
    return False
