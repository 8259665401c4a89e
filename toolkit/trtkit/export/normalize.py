# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Make a graph one that ONNX Runtime and TensorRT take, or say why it cannot be."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx
from onnx import shape_inference, version_converter

from trtkit.compat import IR_MAX, OPSET_MAX
from trtkit.dtypes import by_onnx
from trtkit.errors import ExportError
from trtkit.export.onnx_file import EXTERNAL_ABOVE_BYTES
from trtkit.signature import Dim, Signature, TensorSpec


def normalize(model: onnx.ModelProto, where: str) -> tuple[onnx.ModelProto, list[str]]:
    """Pin opset and IR version, run the checker, infer shapes.

    Returns:
        The graph, and what was changed, in words.

    Raises:
        ExportError: the checker refuses it, or its opset is too new and cannot be converted.
    """
    changes: list[str] = []
    _drop_initializer_inputs(model)
    opset = main_opset(model)
    if opset > OPSET_MAX:
        model = _convert(model, opset, where)
        changes.append(f"opset {opset} converted to {OPSET_MAX}")
    if model.ir_version > IR_MAX:
        changes.append(f"IR version {model.ir_version} lowered to {IR_MAX}")
        model.ir_version = IR_MAX
    if model.ByteSize() < EXTERNAL_ABOVE_BYTES:
        model = _inferred(model, where)
        check(model, where)
    return model, changes


def main_opset(model: onnx.ModelProto) -> int:
    """The version of ONNX's default operator set that the graph uses."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def check(model: onnx.ModelProto | Path, where: str) -> None:
    """Run onnx.checker on a graph, or on a file (the only way above 2 GB)."""
    try:
        onnx.checker.check_model(str(model) if isinstance(model, Path) else model)
    except onnx.checker.ValidationError as exc:
        raise ExportError(f"{where}: the exported graph is not valid ONNX: {_one_line(exc)}") from exc


def _convert(model: onnx.ModelProto, opset: int, where: str) -> onnx.ModelProto:
    try:
        return version_converter.convert_version(model, OPSET_MAX)
    except Exception as exc:  # the converter raises RuntimeError and its own C++ classes
        raise ExportError(
            f"{where}: opset {opset} is newer than {OPSET_MAX}, the newest that ONNX Runtime 1.18 and TensorRT 10.0 "
            f"take, and onnx cannot convert it: {_one_line(exc)}; export with opset 17 or 18"
        ) from exc


def _inferred(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    try:
        return shape_inference.infer_shapes(model, strict_mode=False, data_prop=True)
    except Exception as exc:  # InferenceError and protobuf errors share no public base
        raise ExportError(f"{where}: shape inference failed: {_one_line(exc)}") from exc


def _one_line(exc: BaseException) -> str:
    return " ".join(str(exc).split())[:600]


def _drop_initializer_inputs(model: onnx.ModelProto) -> None:
    """Weights listed as inputs (IR 3 wanted that) are no inputs of the served model."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)


def signature_of(model: onnx.ModelProto, where: str) -> Signature:
    """The graph's inputs and outputs.

    Raises:
        ExportError: one of them is no tensor, of a type Triton has no name for, or without a rank.
    """
    return Signature(
        tuple(tensor_specs(model.graph.input, "input", where)), tuple(tensor_specs(model.graph.output, "output", where))
    )


def tensor_specs(values: Iterable[onnx.ValueInfoProto], side: str, where: str) -> Iterable[TensorSpec]:
    for value in values:
        if not value.type.HasField("tensor_type"):
            kind = value.type.WhichOneof("value") or "nothing"
            raise ExportError(f"{where}: {side} '{value.name}' is a {kind}; Triton serves tensors only")
        tensor = value.type.tensor_type
        dtype = by_onnx(tensor.elem_type)
        if dtype is None:
            name = onnx.TensorProto.DataType.Name(tensor.elem_type)
            raise ExportError(
                f"{where}: {side} '{value.name}' has the type {name}, which Triton does not know; cast it in the graph"
            )
        if not tensor.HasField("shape"):
            raise ExportError(
                f"{where}: {side} '{value.name}' has no rank; export it with one (dynamic axes are fine)"
            )
        yield TensorSpec(value.name, dtype, tuple(_dim(dim) for dim in tensor.shape.dim))


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    return dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else dim.dim_param


def fill_missing_ranks(model: onnx.ModelProto, shapes: dict[str, list[int]]) -> None:
    """Give outputs without a rank the rank that was observed; all their axes are dynamic.

    Args:
        model: changed in place.
        shapes: an observed shape by output name.
    """
    for value in model.graph.output:
        if not value.type.tensor_type.HasField("shape"):
            for axis in range(len(shapes[value.name])):
                value.type.tensor_type.shape.dim.add(dim_param=f"{value.name}_{axis}")


def name_batch_axis(model: onnx.ModelProto) -> None:
    """Give the proven batch axis of every input and output one name: the first input's, else ``batch``."""
    values = (*model.graph.input, *model.graph.output)
    name = values[0].type.tensor_type.shape.dim[0].dim_param or "batch"
    for value in values:
        value.type.tensor_type.shape.dim[0].dim_param = name
