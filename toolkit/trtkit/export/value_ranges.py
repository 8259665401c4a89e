# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Which integers an input may hold: ids that index a table must be smaller than the table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import onnx
from onnx import numpy_helper

from trtkit.export.onnx_file import inner_graphs

DEFAULT_RANGE = (0, 2)
# operators that pass the values of some inputs on unchanged, so that an id stays an id behind them
_PASS_FIRST = {
    "Cast", "CastLike", "Clip", "Dropout", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice",
    "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
}  # fmt: skip
_PASS_ALL = {"Concat", "Max", "Min", "Where"}
# (input that is indexed, input that indexes it) by operator; the axis is an attribute of the node
_INDEXED_BY_AXIS = {"Gather": (0, 1), "GatherElements": (0, 1), "ScatterElements": (0, 1)}
_INDEXED_BY_LAST_AXIS = {"GatherND": (0, 1), "ScatterND": (0, 1)}
_TABLES_OF_ROWS = {"EmbedLayerNormalization": ((2, 0), (4, 1))}

Shape = list[int]


def index_ranges(model: onnx.ModelProto) -> dict[str, list[int]]:
    """[low, high) of every input that indexes something of a known size; the smallest size counts.

    Args:
        model: with inferred shapes, so that tables behind a Cast or DequantizeLinear are known too.
    """
    walk = _Walk()
    walk.graph(model.graph, {}, {value.name: {value.name} for value in model.graph.input})
    return walk.ranges


class _Walk:
    """One pass over a graph and its inner graphs; `ranges` is filled on the way."""

    def __init__(self) -> None:
        self.ranges: dict[str, list[int]] = {}

    def graph(self, graph: onnx.GraphProto, outer: Mapping[str, Shape], origins: dict[str, set[str]]) -> None:
        """Note the limits of a graph; `origins` says from which inputs of the model a value's numbers are."""
        shapes = {**outer, **dict(_shapes(graph))}
        scalars = dict(_scalars(graph))
        for node in graph.node:
            for index, limit in _limits(node, shapes, scalars):
                for name in origins.get(index, ()):
                    self.ranges[name] = [0, min(limit, self.ranges.get(name, [0, limit])[1])]
            if node.op_type in _PASS_FIRST | _PASS_ALL:
                passing = node.input if node.op_type in _PASS_ALL else node.input[:1]
                origins |= dict.fromkeys(node.output, set().union(*(origins.get(name, set()) for name in passing)))
            for attribute in node.attribute:
                for inner in inner_graphs(attribute):
                    self.graph(inner, shapes, {**origins, **_handed_in(node, inner, origins)})


def _handed_in(node: onnx.NodeProto, body: onnx.GraphProto, origins: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The origins of a Loop's or Scan's own inputs, by their names inside; an If has none."""
    return {inside.name: origins.get(name, set()) for inside, name in zip(body.input, node.input, strict=False)}


def _limits(node: onnx.NodeProto, shapes: Mapping[str, Shape], scalars: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """(name of the indexing value, size of what it indexes) for each index of a node."""
    inputs = dict(enumerate(node.input))
    if node.op_type in _INDEXED_BY_AXIS:
        data, index = _INDEXED_BY_AXIS[node.op_type]
        shape, axis = shapes.get(inputs.get(data, ""), []), _attribute(node, "axis")
        sizes = shape[axis : axis + 1 or None] if -len(shape) <= axis < len(shape) else []
        yield from _limit(inputs.get(index, ""), sizes)
    elif node.op_type in _INDEXED_BY_LAST_AXIS:
        data, index = _INDEXED_BY_LAST_AXIS[node.op_type]
        first = _attribute(node, "batch_dims")
        depth = next(iter(shapes.get(inputs.get(index, ""), [])[-1:]), 0)
        sizes = shapes.get(inputs.get(data, ""), [])[first:]
        yield from _limit(inputs.get(index, ""), sizes[:depth] if depth > 0 else sizes)
    elif node.op_type == "OneHot":
        yield from _limit(inputs.get(0, ""), [scalars.get(inputs.get(1, ""), 0)])
    for table, index in _TABLES_OF_ROWS.get(node.op_type, ()):
        yield from _limit(inputs.get(index, ""), shapes.get(inputs.get(table, ""), [])[:1])


def _limit(index: str, sizes: Iterable[int]) -> Iterator[tuple[str, int]]:
    known = [size for size in sizes if size > 0]
    if known:
        yield index, min(known)


def _attribute(node: onnx.NodeProto, name: str) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), 0)


def _shapes(graph: onnx.GraphProto) -> Iterator[tuple[str, Shape]]:
    """The shapes known of a graph's values, with -1 for a dynamic axis."""
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            yield value.name, [dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims]
    for name, tensor in _constants(graph):
        yield name, list(tensor.dims)


def _scalars(graph: onnx.GraphProto) -> Iterator[tuple[str, int]]:
    for name, tensor in _constants(graph):
        if list(tensor.dims) in ([], [1]) and tensor.data_location != onnx.TensorProto.EXTERNAL:
            value = numpy_helper.to_array(tensor)
            if value.dtype.kind in "iuf" and abs(float(value.reshape(()))) < 1e9:
                yield name, int(value.reshape(()))


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    yield from ((tensor.name, tensor) for tensor in graph.initializer)
    for node in graph.node:
        if node.op_type == "Constant":
            yield from ((node.output[0], a.t) for a in node.attribute if a.HasField("t"))
