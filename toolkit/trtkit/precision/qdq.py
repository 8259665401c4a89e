# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Explicit Q/DQ for TensorRT: INT8 and FP8 where a kernel gains from it, every decision with its reason.

The rules are those of NVIDIA's guide to explicit quantization: symmetric, zero point 0, activations per tensor,
weights per output channel and stored quantized, no Q/DQ on biases, quantized inputs rather than outputs (so that
what follows a convolution, such as a Relu, is fused into it), and the other summand of a residual connection.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper, version_converter

from trtkit.errors import BuildError
from trtkit.export.normalize import main_opset
from trtkit.export.sentences import one_line
from trtkit.numerics import Array
from trtkit.precision.calibration import Ranges
from trtkit.precision.graph_edit import (
    Names,
    all_nodes,
    element_types,
    graphs_in,
    graphs_of,
    name_nodes,
    sort_nodes,
)
from trtkit.precision.qdq_weights import FORMATS, channel_axis, quantize, scale_of
from trtkit.precision.quantizable import (
    WEIGHTED,
    Constants,
    Kept,
    drop_unread,
    is_float,
    is_weighted,
    operands,
    residuals,
)

# the first opset whose QuantizeLinear has an axis (13), raised to the one that everything here is made with; the
# first with FP8 (19)
_LOWEST = {"INT8": (13, 17), "FP8": (19, 19)}


@dataclass
class QuantizeResult:
    """A quantized graph.

    Attributes:
        model: the graph.
        quantized: what was quantized: ``nodes``, and the Q/DQ pairs by kind, ``activations`` and ``weights``.
        skipped: the nodes that could have been quantized and were not, with the reason.
    """

    model: onnx.ModelProto
    quantized: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def quantize_tensorrt(
    model: onnx.ModelProto,
    ranges: Ranges,
    dtype: str,
    *,
    keep_nodes: Collection[str] = (),
    keep_operators: Collection[str] = (),
    where: str,
) -> QuantizeResult:
    """Insert Q/DQ pairs around Conv, ConvTranspose, Gemm and MatMul as TensorRT wants them.

    Args:
        model: an FP32 graph; not changed.
        ranges: of its activations, see `trtkit.precision.calibration`.
        dtype: ``INT8``, or ``FP8`` (E4M3FN).
        keep_nodes: node names that stay as they are; ``*`` and ``?`` match as in file names.
        keep_operators: operator types that stay as they are.
        where: FILE:LINE:COLUMN of ``precision:``, for messages.

    Raises:
        BuildError: the graph is quantized already, its opset is too old and cannot be converted, a weight is
            not finite, or nothing could be quantized, with the reasons.
    """
    refuse_quantized(model, where)
    work = at_opset(model, dtype, where)
    name_nodes(work)
    quantizer = _Quantizer(work, ranges, dtype, where)
    kept = Kept(keep_nodes, keep_operators)
    for node in list(work.graph.node):
        if is_weighted(node):
            quantizer.visit(node, kept)
    if not quantizer.nodes:
        raise nothing_quantized(work, dtype, quantizer.skipped, where)
    for node, summand in residuals(work.graph, quantizer.constants):
        if quantizer.is_quantized_convolution(node) and not kept.reason(node):
            quantizer.visit_residual(node, summand)
    for node in inner_nodes(work):
        quantizer.skipped[node.name] = "it is inside an If, Loop or Scan, which is left alone"
    quantizer.finish()
    counts = {"nodes": quantizer.nodes, "activations": len(quantizer.pairs), "weights": len(quantizer.weights)}
    return QuantizeResult(work, counts, quantizer.skipped)


def refuse_quantized(model: onnx.ModelProto, where: str) -> None:
    """Raise when a graph is quantized already."""
    found = Counter(node.op_type for node in all_nodes(model) if node.op_type in _QUANTIZED)
    if found:
        what = ", ".join(f"{count} {name}" for name, count in sorted(found.items()))
        raise BuildError(
            f"{where}: the graph is quantized already ({what}); give the FP32 graph, or precision: fp32 to serve it "
            "as it is"
        )


_QUANTIZED = (
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "MatMulInteger",
    "ConvInteger", "QGemm",
)  # fmt: skip


def nothing_quantized(model: onnx.ModelProto, dtype: str, skipped: dict[str, str], where: str) -> BuildError:
    """The error for a graph in which no node could be quantized, with the reasons by operator."""
    operators = {node.name: node.op_type for node in all_nodes(model)}
    reasons = Counter((operators.get(name, "node"), why) for name, why in skipped.items())
    listed = "; ".join(f"{count} {name}: {why}" for (name, why), count in sorted(reasons.items()))
    why = f"skipped: {listed}" if listed else f"the graph has no {', no '.join(WEIGHTED)}"
    return BuildError(f"{where}: {dtype} was asked for and nothing could be quantized; {why}; choose another precision")


def at_opset(model: onnx.ModelProto, dtype: str, where: str) -> onnx.ModelProto:
    """A copy in an opset that has the Q/DQ operators; BuildError where it cannot be converted to one."""
    lowest, wanted = _LOWEST[dtype]
    opset = main_opset(model)
    if opset >= lowest:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        return copy
    try:
        return version_converter.convert_version(model, wanted)
    except Exception as exc:  # the converter raises RuntimeError and its own C++ classes
        raise BuildError(
            f"{where}: {dtype} needs opset {lowest} or newer; this graph has {opset} and onnx cannot convert it: "
            f"{one_line(exc)}"
        ) from exc


def inner_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """The nodes of an If, Loop or Scan that could be quantized in a main graph."""
    for outer in model.graph.node:
        for graph in (inner for first in graphs_in(outer) for inner in graphs_of(first)):
            yield from filter(is_weighted, graph.node)


class _Quantizer:
    """A graph while it is quantized, node by node."""

    def __init__(self, model: onnx.ModelProto, ranges: Ranges, dtype: str, where: str) -> None:
        self.model, self.graph, self.ranges, self.where = model, model.graph, ranges, where
        self.form, self.dtype = FORMATS[dtype], dtype
        self.names, self.constants, self.types = Names(model), Constants(model), element_types(model)
        self.nodes = 0
        self.skipped: dict[str, str] = {}
        self.pairs: dict[str, str] = {}
        self.weights: dict[tuple[str, int | None], str] = {}
        self._made: dict[str, list[onnx.NodeProto]] = {}
        self._convolutions: set[str] = set()

    def visit(self, node: onnx.NodeProto, kept: Kept) -> None:
        """Quantize a node's factors, or note why not."""
        activations, weights = operands(node, self.constants)
        reason = kept.reason(node) or self._refusal(node, activations, weights)
        if reason:
            self.skipped[node.name] = reason
            return
        for index, name in enumerate(node.input[:2]):
            node.input[index] = self._weight(node, index) if name in weights else self._pair(name, node)
        self.nodes += 1
        if node.op_type == "Conv":
            self._convolutions.update(node.output)

    def _refusal(self, node: onnx.NodeProto, activations: list[str], weights: list[str]) -> str:
        if not activations:
            return "all its inputs are constant"
        if node.op_type not in ("MatMul", "Gemm") and (node.input[0] in weights or not weights):
            return "its weight is not constant"
        for name in (*activations, *weights):
            if not is_float(self.types.get(name)):
                return f"'{name}' is not FP32"
        return next(filter(None, map(self._no_range, activations)), "")

    def _no_range(self, name: str) -> str:
        found = self.ranges.ranges.get(name)
        if found is None:
            return f"the calibration has no range for '{name}'"
        return f"'{name}' was 0 throughout the calibration" if found.dead else ""

    def is_quantized_convolution(self, node: onnx.NodeProto) -> bool:
        """Whether an Add takes the result of a convolution that was quantized."""
        return not self._convolutions.isdisjoint(node.input)

    def visit_residual(self, node: onnx.NodeProto, summand: str) -> None:
        """Let an Add read its other summand in 8 bits, where its range is known."""
        if is_float(self.types.get(summand)) and not self._no_range(summand):
            node.input[list(node.input).index(summand)] = self._pair(summand, node)

    def _pair(self, name: str, reader: onnx.NodeProto) -> str:
        """The dequantized value of an activation; the pair is made for its first reader and shared by all."""
        if name not in self.pairs:
            scale = scale_of(np.asarray(self.ranges.ranges[name].largest), self.form)
            arguments = self._parameters(name, scale)
            middle, end = self.names.free(f"{name}_quantized"), self.names.free(f"{name}_dequantized")
            self._make("QuantizeLinear", [name, *arguments], middle, reader)
            self._make("DequantizeLinear", [middle, *arguments], end, reader)
            self.pairs[name] = end
        return self.pairs[name]

    def _weight(self, node: onnx.NodeProto, index: int) -> str:
        """The dequantized value of a weight that is stored quantized; shared by nodes with the same channels."""
        name = node.input[index]
        values = self.constants.get(name)
        axis = channel_axis(node, index, values.ndim) if self.form.per_channel else None
        if (name, axis) not in self.weights:
            if not np.isfinite(values).all():
                raise BuildError(
                    f"{self.where}: weight '{name}' of {node.op_type} '{node.name}' holds NaN or infinite values"
                )
            stored, scale = quantize(values, axis, self.form)
            quantized = self._constant(f"{name}_{self.dtype.lower()}", stored)
            end = self.names.free(f"{name}_dequantized")
            attributes = {} if axis is None else {"axis": axis}
            self._make("DequantizeLinear", [quantized, *self._parameters(name, scale)], end, node, **attributes)
            self.weights[name, axis] = end
        return self.weights[name, axis]

    def _parameters(self, name: str, scale: Array) -> tuple[str, str]:
        zero = np.zeros(scale.shape, self.form.numpy)
        return self._constant(f"{name}_scale", scale), self._constant(f"{name}_zero", zero)

    def _constant(self, wish: str, values: Array) -> str:
        name = self.names.free(wish)
        self.graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def _make(self, kind: str, inputs: list[str], output: str, before: onnx.NodeProto, **attributes: int) -> None:
        made = helper.make_node(kind, inputs, [output], name=self.names.free(f"{kind}_{output}"), **attributes)
        self._made.setdefault(before.name, []).append(made)

    def finish(self) -> None:
        """Put the new nodes in front of their first readers, and drop the weights that nobody reads any more."""
        nodes = [part for node in self.graph.node for part in (*self._made.get(node.name, ()), node)]
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        sort_nodes(self.graph)  # an Add may stand before the node that its summand's pair was made for
        drop_unread(self.graph, {name for name, _ in self.weights})
