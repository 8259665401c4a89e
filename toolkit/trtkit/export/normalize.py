# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Make a graph one that ONNX Runtime and TensorRT take, or say why it cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import inliner, shape_inference, version_converter

from trtkit.compat import IR_MAX, OPSET_EXPORT, OPSET_MAX
from trtkit.errors import ExportError
from trtkit.export.onnx_file import write_onnx
from trtkit.export.runtime import Session
from trtkit.export.sentences import one_line

# TensorRT 10.0 reads opset 9 and newer, ONNX Runtime 7 and newer
_OPSET_MIN = 9
# the first that lets weights be no inputs
_IR_MIN = 4


@dataclass(frozen=True)
class Normalized:
    """A graph that can be served.

    Attributes:
        model: the graph; its weights are in the folder when they are large.
        changes: what was changed, in words.
        before: the graph as it was, to compare with, where its operators were converted and ONNX Runtime
            takes it as it was.
    """

    model: onnx.ModelProto
    changes: list[str]
    before: Session | None = None


def normalize(model: onnx.ModelProto, folder: Path, where: str) -> Normalized:
    """Run the checker, pin opset and IR version, infer shapes.

    Args:
        model: changed in place.
        folder: receives the graph as it is, because files are the only form that is checked above 2 GB.
        where: for messages.

    Raises:
        ExportError: the checker refuses it, or its opset is too new and cannot be converted.
    """
    path = _write_checked(model, folder, where)
    changes: list[str] = []
    if model.functions:
        changes.append(f"{len(model.functions)} local functions inlined")
        model = inliner.inline_local_functions(model)
    _drop_initializer_inputs(model)
    _pin_ir_version(model, changes)
    before, opset = None, main_opset(model)
    if opset > OPSET_MAX:
        before = _loaded(path)
        model = _lowered(model, opset, where)
        changes.append(f"opset {opset} converted to {OPSET_MAX}")
    elif opset < _OPSET_MIN:
        before = _loaded(path)
        model = _raised(model, opset, changes)
    return Normalized(_inferred(model, where), changes, before)


def _write_checked(model: onnx.ModelProto, folder: Path, where: str) -> Path:
    """The graph as a file that the checker takes; outputs without a rank, which it refuses, may still get one."""
    for value in model.graph.input:
        if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape"):
            raise ExportError(f"{where}: input '{value.name}' has no rank; export it with one (dynamic axes are fine)")
    unknown = [value for value in model.graph.output if value.name in outputs_without_rank(model)]
    for value in unknown:
        value.type.tensor_type.shape.SetInParent()
    path = write_onnx(model, folder, where)
    check(path, where)
    for value in unknown:
        value.type.tensor_type.ClearField("shape")
    return path


def main_opset(model: onnx.ModelProto) -> int:
    """The version of ONNX's default operator set that the graph uses."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def check(path: Path, where: str) -> None:
    """Run onnx.checker on a file."""
    try:
        onnx.checker.check_model(str(path))
    except Exception as exc:  # ValidationError, but RuntimeError and others for damaged graphs
        raise ExportError(f"{where}: the graph is not valid ONNX: {one_line(exc)}") from exc


def _drop_initializer_inputs(model: onnx.ModelProto) -> None:
    """Weights listed as inputs (IR 3 wanted that) are no inputs of the served model."""
    weights = {tensor.name for tensor in model.graph.initializer}
    weights |= {tensor.values.name for tensor in model.graph.sparse_initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)


def _pin_ir_version(model: onnx.ModelProto, changes: list[str]) -> None:
    wanted = min(max(model.ir_version, _IR_MIN), IR_MAX)
    if model.ir_version != wanted:
        word = f"IR version {model.ir_version} {'lowered' if model.ir_version > wanted else 'raised'} to {wanted}"
        changes.append(word)
        model.ir_version = wanted


def _loaded(path: Path) -> Session | None:
    try:
        return Session(path)
    except ExportError:
        return None


def _lowered(model: onnx.ModelProto, opset: int, where: str) -> onnx.ModelProto:
    try:
        return version_converter.convert_version(model, OPSET_MAX)
    except Exception as exc:  # the converter raises RuntimeError and its own C++ classes
        raise ExportError(
            f"{where}: opset {opset} is newer than {OPSET_MAX}, the newest that ONNX Runtime 1.18 and TensorRT 10.0 "
            f"take, and onnx cannot convert it: {one_line(exc)}; export with opset 17 or 18"
        ) from exc


def _raised(model: onnx.ModelProto, opset: int, changes: list[str]) -> onnx.ModelProto:
    """The graph in a newer opset, or as it is where onnx cannot convert it: ONNX Runtime may still take it."""
    try:
        converted = version_converter.convert_version(model, OPSET_EXPORT)
    except Exception as exc:  # see _lowered
        changes.append(f"opset {opset} kept, as onnx cannot convert it to {OPSET_EXPORT}: {one_line(exc)}")
        return model
    changes.append(f"opset {opset} converted to {OPSET_EXPORT}")
    return converted


def _inferred(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    try:
        return shape_inference.infer_shapes(model, strict_mode=False, data_prop=True)
    except Exception as exc:  # InferenceError and protobuf errors share no public base
        raise ExportError(f"{where}: shape inference failed: {one_line(exc)}") from exc


def outputs_without_rank(model: onnx.ModelProto) -> list[str]:
    """The names of the graph's outputs that are tensors of unknown rank."""
    tensors = [value for value in model.graph.output if value.type.HasField("tensor_type")]
    return [value.name for value in tensors if not value.type.tensor_type.HasField("shape")]


def correct_outputs(model: onnx.ModelProto, observed: Mapping[str, Sequence[int]]) -> list[str]:
    """Make what the graph says of its outputs' shapes true: exporters write the sizes of their example.

    Args:
        model: changed in place; axes that turn out to have another size become dynamic.
        observed: the shape an output really had, by its name.

    Returns:
        What was changed, in words.
    """
    changes: list[str] = []
    for value in model.graph.output:
        shape, sizes = value.type.tensor_type.shape, list(observed[value.name])
        known = value.type.tensor_type.HasField("shape")
        said = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in shape.dim]
        if not known or len(said) != len(sizes):
            del shape.dim[:]
            shape.SetInParent()  # a scalar has a shape without axes
            for axis in range(len(sizes)):
                shape.dim.add(dim_param=f"{value.name}_{axis}")
        wrong = [axis for axis, size in enumerate(said) if size > 0 and known and sizes[axis : axis + 1] != [size]]
        for axis in wrong if len(said) == len(sizes) else ():
            shape.dim[axis].dim_param = f"{value.name}_{axis}"
        if not known:
            changes.append(f"output '{value.name}' had no rank and has {len(sizes)} axes")
        elif wrong or len(said) != len(sizes):
            changes.append(f"output '{value.name}' said {[size or '?' for size in said]} and has the shape {sizes}")
    return changes


def adopt_sizes(model: onnx.ModelProto, inferred: Mapping[str, Sequence[int | None]]) -> bool:
    """Fix the output axes that ONNX Runtime finds to be fixed: its backend refuses a config that says otherwise.

    Args:
        model: changed in place.
        inferred: the sizes of each output's axes, None for a dynamic one.

    Returns:
        Whether there were any.
    """
    changed = False
    for value in model.graph.output:
        dims = value.type.tensor_type.shape.dim
        sizes = inferred.get(value.name, ())
        for dim, size in zip(dims, sizes if len(sizes) == len(dims) else (), strict=False):
            if size is not None and size > 0 and not dim.HasField("dim_value"):
                dim.dim_value = size
                changed = True
    return changed


def name_batch_axis(model: onnx.ModelProto) -> None:
    """Give the proven batch axis of every input and output one name: the first input's, else ``batch``."""
    values = (*model.graph.input, *model.graph.output)
    name = values[0].type.tensor_type.shape.dim[0].dim_param or "batch"
    for value in values:
        value.type.tensor_type.shape.dim[0].dim_param = name
