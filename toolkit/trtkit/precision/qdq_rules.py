# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a quantized graph has to look like, whoever quantized it: counted and checked before an engine sees it.

TensorRT refuses zero points other than 0, scales that are not positive, INT32 and INT16 data, a number of scales
that is not the number of channels, quantized constants that anything but a DequantizeLinear reads, and the
QOperator format. About the rest it is silent, and wrong: UINT8 with zero point 0, or no zero point (which means
UINT8 in ONNX), is computed as INT8, and an infinite scale is taken. All observed with TensorRT-RTX 1.7.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from trtkit.numerics import Array
from trtkit.precision.graph_edit import (
    all_nodes,
    array_of,
    attribute_of,
    constant_tensors,
    consumers,
    element_types,
    graphs_of,
    producers,
    without_weights,
)

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
# ONNX Runtime's other formats: quantized operators instead of Q/DQ around float ones
INTEGER_OPERATORS = (
    "QLinearConv", "QLinearMatMul", "QLinearAdd", "QLinearMul", "QLinearAveragePool", "QLinearGlobalAveragePool",
    "QLinearConcat", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "QLinearWhere", "QGemm", "QAttention",
    "MatMulInteger", "ConvInteger", "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "MatMulIntegerToFloat",
    "DynamicQuantizeLSTM",
)  # fmt: skip
_EIGHT_BITS = {TensorProto.INT8: "INT8", TensorProto.FLOAT8E4M3FN: "FLOAT8E4M3FN"}
_NAMES = {code: name for name, code in TensorProto.DataType.items()}


def count_qdq(model: onnx.ModelProto) -> dict[str, int]:
    """How much of a graph is quantized.

    Returns:
        ``activations`` (pairs of QuantizeLinear and DequantizeLinear on values that requests change),
        ``weights`` (DequantizeLinear on constants, biases in INT32 apart) and ``integer_operators`` (such as
        MatMulInteger).
    """
    view = _View(model)
    activations = weights = 0
    for node in view.nodes:
        if node.op_type == DEQUANTIZE:
            constant = view.is_constant(node.input[0])
            weights += constant and view.element_type(node.input[0]) != TensorProto.INT32
            activations += not constant and view.maker(node.input[0]) == QUANTIZE
    operators = sum(node.op_type in INTEGER_OPERATORS for node in view.nodes)
    return {"activations": activations, "weights": weights, "integer_operators": operators}


def qdq_problems(model: onnx.ModelProto, flavour: str) -> list[str]:
    """What is wrong with a quantized graph, one sentence each; empty when all is well.

    Args:
        model: the graph.
        flavour: ``tensorrt``, or ``cpu`` for ONNX Runtime's CPU provider.
    """
    assert flavour in ("tensorrt", "cpu"), flavour
    view = _View(model)
    problems: list[str] = []
    for node in view.nodes:
        if node.op_type in (QUANTIZE, DEQUANTIZE):
            problems += view.parameter_problems(node)
            problems += view.tensorrt_problems(node) if flavour == "tensorrt" else view.cpu_problems(node)
        elif node.op_type in INTEGER_OPERATORS and flavour == "tensorrt":
            problems.append(f"{_shown(node)} is a quantized operator of ONNX Runtime; TensorRT takes Q/DQ pairs only")
        elif node.op_type == "ConvInteger":
            problems.append(f"{_shown(node)} is slower than an FP32 Conv on a CPU; quantize convolutions statically")
        elif flavour == "tensorrt":
            problems += view.constant_problems(node)
    if not problems and not any(count_qdq(model).values()):
        return ["nothing is quantized: the graph has neither Q/DQ pairs nor integer operators"]
    return problems


def _shown(node: onnx.NodeProto) -> str:
    return f"{node.op_type} '{node.name or next(filter(None, node.output), '')}'"


@dataclass(frozen=True)
class _Parameters:
    """What stands behind a Q or DQ node: its scale, zero point and 8-bit type, as far as they are constant."""

    scale: Array | None
    zero: Array | None
    dtype: int


class _View:
    """A graph as the rules look at it."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(all_nodes(model))
        self._constants = constant_tensors(model)
        graphs = list(graphs_of(model.graph))
        self._makers = {name: node for graph in graphs for name, node in producers(graph).items()}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for graph in graphs:
            for name, nodes in consumers(graph).items():
                self._readers.setdefault(name, []).extend(nodes)
        self._outputs = {value.name for graph in graphs for value in graph.output}
        self._types = element_types(model)
        self._shapes = _shapes(model)

    def maker(self, name: str) -> str:
        """The operator that makes a value; "" for inputs and initializers."""
        node = self._makers.get(name)
        return node.op_type if node is not None else ""

    def element_type(self, name: str) -> int | None:
        """The element type of a value; None where it is not known."""
        return self._types.get(name)

    def is_constant(self, name: str) -> bool:
        """Whether a value is a constant, or a quantized one."""
        maker = self._makers.get(name)
        return (maker.input[0] if maker is not None and maker.op_type == QUANTIZE else name) in self._constants

    def _value(self, node: onnx.NodeProto, index: int) -> Array | None:
        name = node.input[index] if index < len(node.input) else ""
        return array_of(self._constants[name]) if name in self._constants else None

    def _parameters(self, node: onnx.NodeProto) -> _Parameters:
        zero = node.input[2] if len(node.input) > 2 else ""
        wanted = attribute_of(node, "output_dtype")
        # ONNX's default for a QuantizeLinear without a zero point is UINT8
        code = wanted.i if wanted is not None and wanted.i else TensorProto.UINT8
        if node.op_type == DEQUANTIZE:
            code = self._types.get(node.input[0], code)
        return _Parameters(self._value(node, 1), self._value(node, 2), self._types.get(zero, code))

    def parameter_problems(self, node: onnx.NodeProto) -> Iterator[str]:
        """Scales that are not positive, finite and constant, or too few or too many of them."""
        scale = self._parameters(node).scale
        what = f"{_shown(node)} of '{node.input[0]}'"
        if scale is None:
            yield f"{what}: its scale '{node.input[1]}' is not constant"
            return
        values = scale.astype(np.float64).ravel()
        bad = values[~(np.isfinite(values) & (values > 0))]
        if bad.size:
            yield f"{what}: {bad.size} of its {values.size} scales are not positive and finite, e.g. {bad[0]:g}"
        yield from self._channel_problems(node, values.size, what)

    def _channel_problems(self, node: onnx.NodeProto, scales: int, what: str) -> Iterator[str]:
        zero = self._value(node, 2)
        if zero is not None and zero.size != scales:
            yield f"{what}: {zero.size} zero points for {scales} scales"
        shape = self._shapes.get(node.input[0])
        given = attribute_of(node, "axis")
        scale = self._value(node, 1)
        if shape is None or scale is None or scale.ndim != 1 or (scales == 1 and given is None):
            return
        axis = given.i if given is not None else 1
        if not -len(shape) <= axis < len(shape):
            if scales > 1:
                yield f"{what}: axis {axis} is out of range for {len(shape)} axes"
        elif shape[axis] is not None and scales not in (1, shape[axis]):
            yield f"{what}: {scales} scales for {shape[axis]} channels along axis {axis}"

    def tensorrt_problems(self, node: onnx.NodeProto) -> Iterator[str]:
        """Zero points other than 0, types other than INT8 and FP8, biases, and a Q without its DQ."""
        found, what = self._parameters(node), f"{_shown(node)} of '{node.input[0]}'"
        if found.dtype == TensorProto.INT32:
            yield f"{what}: INT32 biases stay FP32 for TensorRT; quantize without biases"
        elif found.dtype not in _EIGHT_BITS:
            yield (
                f"{what}: its type is {_NAMES.get(found.dtype, found.dtype)}; TensorRT takes "
                f"{' and '.join(_EIGHT_BITS.values())}"
            )
        if found.zero is not None and np.any(found.zero.astype(np.float64) != 0):
            yield f"{what}: its zero point is not 0; TensorRT's quantization is symmetric"
        elif found.zero is None and len(node.input) > 2 and node.input[2]:
            yield f"{what}: its zero point '{node.input[2]}' is not constant"
        if found.scale is not None and found.scale.size > 1 and not self.is_constant(node.input[0]):
            yield f"{what}: an activation with {found.scale.size} scales; only weights may have one per channel"
        if node.op_type == QUANTIZE:
            yield from self._unpaired(node, what)

    def _unpaired(self, node: onnx.NodeProto, what: str) -> Iterator[str]:
        output = node.output[0]
        others = [reader for reader in self._readers.get(output, []) if reader.op_type != DEQUANTIZE]
        if others:
            yield f"{what}: {_shown(others[0])} reads its result; a DequantizeLinear has to follow"
        elif output in self._outputs or output not in self._readers:
            yield f"{what}: no DequantizeLinear follows"

    def cpu_problems(self, node: onnx.NodeProto) -> Iterator[str]:
        """Types for which ONNX Runtime's CPU provider has no kernels."""
        found = self._parameters(node)
        if found.dtype in (TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2):
            yield f"{_shown(node)} of '{node.input[0]}': FP8 has no kernels on a CPU; use int8"

    def constant_problems(self, node: onnx.NodeProto) -> Iterator[str]:
        """Quantized weights that something else than a DequantizeLinear reads, such as a Gather or Reshape."""
        if node.op_type == "Constant":
            return
        for name in node.input:
            tensor = self._constants.get(name)
            if tensor is None or tensor.data_type not in _EIGHT_BITS:
                continue
            yield f"{_shown(node)} reads the quantized constant '{name}'; only a DequantizeLinear may"


def _shapes(model: onnx.ModelProto) -> dict[str, list[int | None]]:
    """The shapes of values by name, None for a dynamic size; values of unknown rank are not among them."""
    inferred = onnx.shape_inference.infer_shapes(without_weights(model))
    found: dict[str, list[int | None]] = {}
    for graph in graphs_of(inferred.graph):
        for value in (*graph.value_info, *graph.input, *graph.output):
            if value.type.tensor_type.HasField("shape"):
                dims = value.type.tensor_type.shape.dim
                found[value.name] = [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]
    found.update((name, list(tensor.dims)) for name, tensor in constant_tensors(model).items())
    return found
