# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""INT8 as ONNX Runtime's CPU provider runs it fastest: static Q/DQ for convolutions, dynamic for transformers.

Measured with ONNX Runtime 1.31 on one core with VNNI, a net of three convolutions, 32 images at once: 2.15 times as
fast as FP32 with UINT8 activations and INT8 weights, 1.06 times with UINT8 weights, and 1.8 times where only Conv,
Gemm and MatMul are quantized, because what lies between them goes back to FP32. Scales per channel cost no time and
halve the error. On x86 processors without VNNI sums of products may saturate; measure the metric on such a machine.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import shape_inference

from trtkit import compat
from trtkit.artifacts import file_errors
from trtkit.errors import BuildError
from trtkit.export.onnx_file import read_onnx
from trtkit.export.quiet import quiet
from trtkit.export.sentences import one_line
from trtkit.precision.calibration import Ranges
from trtkit.precision.cpu_prepare import bias_problem, plain_biases, store_constants
from trtkit.precision.graph_edit import all_nodes, consumers, element_types, name_nodes, producers, sort_nodes
from trtkit.precision.qdq import QuantizeResult, at_opset, inner_nodes, nothing_quantized, refuse_quantized
from trtkit.precision.qdq_rules import DEQUANTIZE, QUANTIZE, count_qdq
from trtkit.precision.quantizable import (
    STATIC_CPU,
    Constants,
    Kept,
    cpu_scheme,
    is_float,
    is_weighted,
    operands,
    static_nodes,
)

__all__ = ["cpu_scheme", "quantize_cpu"]


def quantize_cpu(
    model_file: Path,
    ranges: Ranges | None,
    folder: Path,
    *,
    keep_nodes: Collection[str] = (),
    keep_operators: Collection[str] = (),
    where: str,
) -> QuantizeResult:
    """Quantize a graph for ONNX Runtime's CPU provider; inputs and outputs keep their types.

    Args:
        model_file: the FP32 graph.
        ranges: of its tensors; only the dynamic scheme does without.
        folder: for intermediate files.
        keep_nodes: node names that stay as they are; ``*`` and ``?`` match as in file names.
        keep_operators: operator types that stay as they are.
        where: FILE:LINE:COLUMN of ``precision:``, for messages.

    Returns:
        The graph; ``quantized`` counts ``nodes`` and what `count_qdq` counts.

    Raises:
        BuildError: the graph is quantized already, ONNX Runtime's quantizer fails, or nothing could be
            quantized, with the reasons.
    """
    model = read_onnx(model_file, where)
    refuse_quantized(model, where)
    store_constants(model)
    kept = Kept(keep_nodes, keep_operators)
    if cpu_scheme(model) == "dynamic":
        return _dynamic(at_opset(model, "INT8", where), folder, kept, where)
    if ranges is None:
        raise BuildError(f"{where}: static INT8 needs the ranges of a calibration; give the model `calibration:`")
    return _static(at_opset(_folded(model, folder, where), "INT8", where), ranges, kept, where)


def _static(model: onnx.ModelProto, ranges: Ranges, kept: Kept, where: str) -> QuantizeResult:
    """Unsigned activations and per-channel signed weights in Q/DQ form, from our ranges."""
    name_nodes(model)
    plain_biases(model)
    left = _left_static(model, ranges, kept)
    if all(node.name in left for node in model.graph.node if is_weighted(node)):
        raise nothing_quantized(model, "INT8", _weighted_only(model, left), where)
    package = compat.require("onnxruntime.quantization")
    method = package.CalibrationMethod.MinMax  # what the ranges are by now
    data = {name: (np.float32(found.low), np.float32(found.high)) for name, found in ranges.ranges.items()}
    tensors = compat.require("onnxruntime.quantization.calibrate").TensorsData(method, data)

    def run() -> onnx.ModelProto:
        quantizer = compat.require("onnxruntime.quantization.qdq_quantizer").QDQQuantizer(
            shape_inference.infer_shapes(model), per_channel=True, reduce_range=False,
            weight_qType=package.QuantType.QInt8, activation_qType=package.QuantType.QUInt8, tensors_range=tensors,
            nodes_to_quantize=[], nodes_to_exclude=sorted(left), op_types_to_quantize=list(STATIC_CPU),
            extra_options={},
        )  # fmt: skip
        quantizer.quantize_model()
        sort_nodes(quantizer.model.model.graph)  # ONNX Runtime's own sort overlooks what an If or Loop reads
        return quantizer.model.model

    result = _foreign(run, where)
    _float_outputs(model, result)
    return _result(model, result, _weighted_only(model, left), where)


def _left_static(model: onnx.ModelProto, ranges: Ranges, kept: Kept) -> dict[str, str]:
    """The nodes that are not to be quantized, with the reason."""
    constants, types = Constants(model), element_types(model)
    left: dict[str, str] = {}
    for node in static_nodes(model):
        activations = [n for n in (*node.input, *node.output) if n and n not in constants]
        floats = [n for n in activations if is_float(types.get(n))]
        missing = [n for n in floats if n not in ranges.ranges]
        reason = kept.reason(node) or _not_fp32(node, types)
        if not reason and is_weighted(node) and node.op_type != "MatMul" and not operands(node, constants)[1]:
            reason = "its weight is not constant"
        if not reason and is_weighted(node):
            reason = bias_problem(node, constants)
        if not reason and missing:
            reason = f"the calibration has no range for '{missing[0]}'"
        if reason:
            left[node.name] = reason
    return left


def _not_fp32(node: onnx.NodeProto, types: Mapping[str, int]) -> str:
    other = [name for name in node.input[:2] if not is_float(types.get(name))] if is_weighted(node) else []
    return f"'{other[0]}' is not FP32" if other else ""


def _weighted_only(model: onnx.ModelProto, left: dict[str, str]) -> dict[str, str]:
    """The reasons for the nodes that matter; that a Reshape stays FP32 beside an FP32 Conv is no news."""
    return {node.name: left[node.name] for node in model.graph.node if is_weighted(node) and node.name in left}


def _float_outputs(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """Let a last Gemm or MatMul give FP32 as it computes it, instead of one of 256 values.

    Two scores that are nearly equal stay different, at no cost: the kernels write FP32 just as fast. A
    convolution would become an FP32 one, and what stands for a Relu is the clipping of its Q/DQ pair.
    """
    first, makers, readers = producers(before.graph), producers(after.graph), consumers(after.graph)
    for value in after.graph.output:
        if first.get(value.name) is None or first[value.name].op_type not in ("Gemm", "MatMul"):
            continue
        last = makers[value.name]
        middle = makers.get(last.input[0])
        maker = makers.get(middle.input[0]) if middle is not None else None
        if last.op_type != DEQUANTIZE or middle is None or middle.op_type != QUANTIZE or maker is None:
            continue
        if len(readers[last.input[0]]) == len(readers[middle.input[0]]) == 1:
            maker.output[0] = value.name
            after.graph.node.remove(last)
            after.graph.node.remove(middle)


def _dynamic(model: onnx.ModelProto, folder: Path, kept: Kept, where: str) -> QuantizeResult:
    """Constant factors of MatMul and Gemm in INT8, their activations quantized while the graph runs."""
    name_nodes(model)
    weighted = [node for node in model.graph.node if is_weighted(node)]
    types = element_types(model)
    left = {node.name: reason for node in weighted if (reason := kept.reason(node) or _not_fp32(node, types))}
    package = compat.require("onnxruntime.quantization")
    source, target = folder / "float.onnx", folder / "dynamic.onnx"
    _write_for_quantizer(model, source)

    def run() -> onnx.ModelProto:
        package.quantize_dynamic(
            source, target, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=package.QuantType.QInt8,
            # a Gemm is made a MatMul and an Add first
            nodes_to_exclude=[name for kept_name in sorted(left) for name in (kept_name, f"{kept_name}_MatMul")],
            extra_options={"MatMulConstBOnly": True},
        )  # fmt: skip
        return onnx.load(str(target))

    result = _foreign(run, where)
    constants = Constants(model)
    float_left = {node.name.removesuffix("_MatMul") for node in result.graph.node if is_weighted(node)}
    for node in weighted:
        if node.name in float_left and node.name not in left:
            left[node.name] = _why_not_dynamic(node, constants)
    return _result(model, result, left, where)


def _why_not_dynamic(node: onnx.NodeProto, constants: Constants) -> str:
    if node.op_type.startswith("Conv"):
        return "a convolution quantized dynamically is slower than in FP32"
    activations, weights = operands(node, constants)
    if not weights or node.input[1] in activations:
        return "its right factor is not constant"
    return "ONNX Runtime's dynamic quantizer has no form for it"


def _result(before: onnx.ModelProto, after: onnx.ModelProto, left: dict[str, str], where: str) -> QuantizeResult:
    left |= {node.name: "it is inside an If, Loop or Scan, which is left alone" for node in inner_nodes(before)}
    counts = count_qdq(after)
    nodes = sum(node.name not in left for node in before.graph.node if is_weighted(node))
    if not nodes or not any(counts.values()):
        raise nothing_quantized(before, "INT8", left, where)
    after.ir_version = min(after.ir_version, compat.IR_MAX)
    return QuantizeResult(after, {"nodes": nodes, **counts}, left)


def _folded(model: onnx.ModelProto, folder: Path, where: str) -> onnx.ModelProto:
    """The graph with batch normalizations folded into the convolutions before them.

    ONNX Runtime folds them when it loads a graph, but not across Q/DQ nodes, where they would stay FP32.
    """
    makers = producers(model.graph)
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization" and node.input[0] in makers]
    if not any(makers[node.input[0]].op_type.startswith("Conv") for node in norms):
        return model
    source, target = folder / "unfolded.onnx", folder / "folded.onnx"
    _write_for_quantizer(model, source)

    def run() -> onnx.ModelProto:
        prepare = compat.require("onnxruntime.quantization.shape_inference").quant_pre_process
        prepare(str(source), str(target), skip_symbolic_shape=True)
        return onnx.load(str(target))

    folded = _foreign(run, where)
    used = {node.domain for node in all_nodes(folded)} | {""}
    imports = [entry for entry in folded.opset_import if entry.domain in used]  # it lists every domain it knows
    del folded.opset_import[:]
    folded.opset_import.extend(imports)
    return folded


def _write_for_quantizer(model: onnx.ModelProto, file: Path) -> None:
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    del plain.graph.value_info[:]  # the quantizer transposes weights, whose old shapes would contradict the new ones
    with file_errors(f"writing {file}"):
        file.write_bytes(plain.SerializeToString(deterministic=True))


def _foreign(run: Callable[[], onnx.ModelProto], where: str) -> onnx.ModelProto:
    """Run ONNX Runtime's quantizer, which prints, logs and raises whatever it likes."""
    try:
        with quiet():
            return run()
    except Exception as exc:  # ValueError, RuntimeError, KeyError, ONNX Runtime's own classes
        raise BuildError(f"{where}: ONNX Runtime's quantizer failed: {type(exc).__name__}: {one_line(exc)}") from exc
