# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Low-precision graphs on ONNX Runtime's CPU provider, with the roundings they really have.

Measured with ONNX Runtime 1.31.1: it has few FP16 kernels, puts Casts around the other nodes, and drops the Casts
between two of them, at every optimization level; values then never are FP16, and an overflow is never seen. For
BF16 it has no kernels, and the scale of a quantizer may not be BF16. FP8 quantizers run, but its optimizer
moves them into operators that take no FP8, and drops a Relu before them as it does for UINT8.

So each node computes in FP32 here, and its results are rounded by a Cast to the half type and one back, a pair that
ONNX Runtime keeps between FP32 nodes. Inside a node sums are FP32, as in TensorRT's kernels; for one addition,
multiplication, division or root the result is exactly the half type's own, because FP32 has more than twice its bits.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import TensorProto, helper, numpy_helper

from trtkit.errors import BuildError
from trtkit.export.runtime import Session
from trtkit.numerics import Array
from trtkit.precision.graph_edit import (
    Names,
    array_of,
    attribute_of,
    element_types,
    graphs_of,
    name_nodes,
    name_values,
    set_attribute,
    without_weights,
)
from trtkit.precision.half_rules import CONTROL_FLOW, MOVES, TYPE_ATTRIBUTES

_HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_FP8 = tuple(code for name, code in TensorProto.DataType.items() if name.startswith("FLOAT8"))
# their results have the half type's values if what they read has; the others that move values may add or make some
_EXACT = (MOVES | CONTROL_FLOW) - {"Cast", "CastLike", "EyeLike", "ScatterElements", "ScatterND"}


def cpu_runnable(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph that ONNX Runtime's CPU provider runs with the roundings of the given one.

    Args:
        model: not changed; any mixture of FP32, FP16, BF16 and Q/DQ of INT8 and FP8, all tensors in memory.

    Returns:
        A graph with the same inputs and outputs, by name and type; only BF16 ones are FP32, rounded to BF16,
        because ONNX Runtime's Python API cannot pass BF16.

    Raises:
        BuildError: ONNX cannot infer the graph's types.
    """
    emulated = without_weights(model)
    name_nodes(emulated)
    name_values(emulated)
    writer = _Writer(emulated, {tensor.name: tensor for tensor in model.graph.initializer})
    graphs = list(graphs_of(emulated.graph))
    for graph in reversed(graphs):  # the inner ones first, because putting a node back copies what is inside it
        writer.rewrite(graph, main=graph is graphs[0])
    return emulated


def has_fp8(model: onnx.ModelProto) -> bool:
    """Whether any tensor of a graph is FP8."""
    return any(type_ in _FP8 for type_ in element_types(model).values())


def cpu_session(model: onnx.ModelProto) -> Session:
    """A session of `cpu_runnable`; as the graph is written where it holds FP8, which the optimizer does not understand.

    Raises:
        BuildError: the graph is above 2 GB, more than a session takes from memory.
        ExportError: ONNX Runtime refuses it.
    """
    runnable = cpu_runnable(model)
    try:
        content = runnable.SerializeToString()
    except Exception as exc:  # protobuf's EncodeError and ValueError have no common base of its own
        raise BuildError(f"the graph is above 2 GB in the precision it is tried in: {type(exc).__name__}") from exc
    return Session(content, optimize=not has_fp8(runnable))


class _Writer:
    """What was half keeps its name, and is FP32 with values that the half type has.

    A half input or output of the model keeps its name at the border, and the value inside gets another one.
    """

    def __init__(self, model: onnx.ModelProto, weights: dict[str, TensorProto]) -> None:
        self.names, self.weights = Names(model), weights
        types = element_types(model)
        self.halves = {name: type_ for name, type_ in types.items() if type_ in _HALVES}
        self.fp8 = {name for name, type_ in types.items() if type_ in _FP8}
        self.inputs = [value.name for value in model.graph.input if value.name in self.halves]
        border = [*self.inputs, *(value.name for value in model.graph.output if value.name in self.halves)]
        self.inside = {name: self.names.free(f"{name}_inside") for name in dict.fromkeys(border)}

    def rewrite(self, graph: onnx.GraphProto, *, main: bool) -> None:
        nodes = list(graph.node)
        del graph.node[:]
        tensors = [self.weights.get(tensor.name, tensor) if main else tensor for tensor in graph.initializer]
        del graph.initializer[:]
        graph.initializer.extend(self._initializer(tensor) for tensor in tensors)
        if main:
            for name in self.inputs:
                graph.node.extend(self._entering(name))
        for node in nodes:
            graph.node.extend(self._node(node))
        if main:
            for value in graph.output:
                graph.node.extend(self._leaving(value.name))
        else:
            for value in graph.output:
                value.name = self.inside.get(value.name, value.name)
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.name in self.halves and not (main and self._stays_fp16(value.name)):
                value.type.tensor_type.elem_type = TensorProto.FLOAT

    def _stays_fp16(self, name: str) -> bool:
        return name in self.inside and self.halves[name] == TensorProto.FLOAT16

    def _initializer(self, tensor: TensorProto) -> TensorProto:
        if tensor.data_type not in _HALVES or (tensor.name in self.inputs and self._stays_fp16(tensor.name)):
            return tensor
        name = tensor.name if tensor.name in self.inputs else self.inside.get(tensor.name, tensor.name)
        return numpy_helper.from_array(_fp32(tensor), name)

    def _entering(self, name: str) -> Iterator[onnx.NodeProto]:
        if self._stays_fp16(name):
            yield self._cast(name, self.inside[name], TensorProto.FLOAT)
        else:
            yield from self._rounding(name, self.inside[name], TensorProto.BFLOAT16)

    def _leaving(self, name: str) -> Iterator[onnx.NodeProto]:
        if name in self.inside and name not in self.inputs:
            to = TensorProto.FLOAT16 if self._stays_fp16(name) else TensorProto.FLOAT
            yield self._cast(self.inside[name], name, to)

    def _node(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        for index, name in enumerate(node.input):
            node.input[index] = self.inside.get(name, name)
        if node.op_type == "Cast" and node.output[0] in self.halves:
            yield from self._cast_to_half(node)
            return
        _widen(node)
        if node.op_type == "QuantizeLinear" and node.output[0] in self.fp8:
            given, node.input[0] = node.input[0], self.names.free(f"{node.input[0]}_for_fp8")
            yield self._barrier(given, node.input[0])
        exact = node.op_type in _EXACT or node.op_type == "Constant"
        after: list[onnx.NodeProto] = []
        for index, name in enumerate(node.output):
            result = self.inside.get(name, name)
            dequantizes_fp8 = node.op_type == "DequantizeLinear" and node.input[0] in self.fp8
            if name in self.halves and not exact:
                node.output[index] = self.names.free(f"{name}_exact")
                after += self._rounding(node.output[index], result, self.halves[name])
            elif dequantizes_fp8:
                node.output[index] = self.names.free(f"{result}_fp8")
                after.append(self._barrier(node.output[index], result))
            else:
                node.output[index] = result
        yield node
        yield from after

    def _cast_to_half(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        result = self.inside.get(node.output[0], node.output[0])
        node.output[0] = self.names.free(f"{result}_half")
        yield node
        yield self._cast(node.output[0], result, TensorProto.FLOAT)

    def _barrier(self, source: str, result: str) -> onnx.NodeProto:
        """The larger of a value and itself: what keeps the optimizer from fusing an FP8 quantizer with a neighbour."""
        return helper.make_node("Max", [source, source], [result], self.names.free(f"{result}_barrier"))

    def _rounding(self, source: str, result: str, half: int) -> list[onnx.NodeProto]:
        between = self.names.free(f"{result}_half")
        return [self._cast(source, between, half), self._cast(between, result, TensorProto.FLOAT)]

    def _cast(self, source: str, result: str, to: int) -> onnx.NodeProto:
        return helper.make_node("Cast", [source], [result], self.names.free(f"{result}_cast"), to=to)


def _widen(node: onnx.NodeProto) -> None:
    """A node that says in an attribute that it makes half makes FP32."""
    name = "output_dtype" if node.op_type == "DequantizeLinear" else TYPE_ATTRIBUTES.get(node.op_type, "")
    given = attribute_of(node, name)
    if given is not None and given.i in _HALVES:
        set_attribute(node, name, TensorProto.FLOAT)
    value = attribute_of(node, "value")
    if node.op_type in ("Constant", "ConstantOfShape") and value is not None and value.t.data_type in _HALVES:
        set_attribute(node, "value", numpy_helper.from_array(_fp32(value.t), value.t.name))


def _fp32(tensor: TensorProto) -> Array:
    return array_of(tensor).astype("float32")
