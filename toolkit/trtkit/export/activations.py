# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How much memory a graph's intermediate tensors need, estimated from their shapes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import onnx
from onnx import TensorProto, helper, shape_inference

_LARGEST_FILE = 2**31 - 1  # protobuf reads no larger message
_STRING_BYTES = 32
_LARGEST_SHAPE = 1 << 14  # of a tensor that holds a shape, with its name


@dataclass(frozen=True)
class Activations:
    """An estimate.

    Attributes:
        peak_bytes: the most that is alive at once when nodes run in the file's order and memory is reused.
        unknown: tensors whose shape could not be inferred; they count nothing.
        assumed: names of dynamic dimensions that were taken as `dynamic`, besides the batch.
    """

    peak_bytes: int
    unknown: int
    assumed: tuple[str, ...]


def activations_of(file: Path, batch: int, dynamic: int = 512) -> Activations | None:
    """Estimate the memory of a graph's inputs, outputs and intermediate tensors.

    Args:
        file: an ONNX file; its weights count nothing.
        batch: what the first dimension of every input is, where it is dynamic.
        dynamic: what every other dynamic dimension is taken for.

    Returns:
        None for a file that cannot be read, or is too large to.
    """
    try:
        if file.stat().st_size > _LARGEST_FILE:
            return None
        model = onnx.load(str(file), load_external_data=False)
        assumed = tuple(_fix_sizes(model.graph, batch, dynamic))
        del model.graph.value_info[:]
        _drop_weights(model.graph)
        graph = shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:  # protobuf's and onnx's errors share no class, and the file may be anyone's
        return None
    sizes = _sizes(graph)
    return Activations(_peak(graph, sizes), sum(size is None for size in sizes.values()), assumed)


def _drop_weights(graph: onnx.GraphProto) -> None:
    """Forget the values of large weights, which inference would copy several times; shapes depend on small ones."""
    for weight in graph.initializer:
        if weight.ByteSize() > _LARGEST_SHAPE:
            for name in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
                weight.ClearField(name)


def _fix_sizes(graph: onnx.GraphProto, batch: int, dynamic: int) -> Iterator[str]:
    """Give every dynamic dimension a size, the same one for the same name."""
    weights = {each.name for each in graph.initializer}
    named: dict[str, int] = {}
    for value in graph.input:
        if value.name in weights:
            continue
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value") or dim.dim_value < 1:
                name = dim.dim_param or f"{value.name}[{axis}]"
                if axis and name not in named:
                    yield name
                dim.dim_value = named.setdefault(name, dynamic if axis else batch)
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")


def _sizes(graph: onnx.GraphProto) -> dict[str, int | None]:
    """Bytes of every tensor that is no weight; None where the shape is not known."""
    known = {value.name: _bytes(value) for value in (*graph.input, *graph.value_info, *graph.output)}
    weights = {each.name for each in graph.initializer}
    names = [value.name for value in graph.input] + [name for node in graph.node for name in node.output if name]
    return {name: known.get(name) for name in names if name not in weights}


def _bytes(value: onnx.ValueInfoProto) -> int | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape") or not all(dim.HasField("dim_value") for dim in tensor.shape.dim):
        return None
    if tensor.elem_type == TensorProto.STRING:
        each = _STRING_BYTES
    else:
        try:
            each = helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
        except KeyError:  # of an operator that the package does not know
            return None
    return prod(dim.dim_value for dim in tensor.shape.dim) * each


def _peak(graph: onnx.GraphProto, sizes: dict[str, int | None]) -> int:
    """The most bytes alive at once: from a tensor's node to its last reader, outputs to the end."""
    last = {value.name: len(graph.node) for value in graph.output}
    for index, node in enumerate(graph.node):
        for name in node.input:
            last[name] = max(last.get(name, 0), index)
    ends: dict[int, list[str]] = {}
    for name in sizes:
        ends.setdefault(last.get(name, -1), []).append(name)
    alive = peak = sum(sizes.get(value.name) or 0 for value in graph.input)
    for index, node in enumerate(graph.node):
        alive += sum(sizes.get(name) or 0 for name in node.output if name)
        peak = max(peak, alive)
        alive -= sum(sizes[name] or 0 for name in ends.get(index, ()))
    return peak
