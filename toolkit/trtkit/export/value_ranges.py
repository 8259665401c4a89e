# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Which integers an input may hold: ids that index a table must be smaller than the table."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

DEFAULT_RANGE = (0, 2)
# operators that pass values on unchanged, so that an id stays an id behind them
_PASS = {
    "Cast",
    "Identity",
    "Reshape",
    "Unsqueeze",
    "Squeeze",
    "Flatten",
    "Transpose",
    "Expand",
    "Concat",
    "Slice",
}


def index_ranges(model: onnx.ModelProto) -> dict[str, list[int]]:
    """[low, high) of every integer input that indexes a constant table; the smallest table counts."""
    tables = dict(_table_sizes(model.graph))
    origins = {value.name: {value.name} for value in model.graph.input}
    ranges: dict[str, list[int]] = {}
    for node in model.graph.node:
        for name, high in _limits(node, tables, origins):
            ranges[name] = [0, min(high, ranges.get(name, [0, high])[1])]
        if node.op_type in _PASS:
            for output in node.output:
                origins[output] = set().union(*(origins.get(i, set()) for i in node.input))
    return ranges


def _table_sizes(graph: onnx.GraphProto) -> Iterator[tuple[str, list[int]]]:
    for tensor in graph.initializer:
        yield tensor.name, list(tensor.dims)
    for node in graph.node:
        if node.op_type == "Constant":
            yield from ((node.output[0], list(a.t.dims)) for a in node.attribute if a.HasField("t"))


def _limits(
    node: onnx.NodeProto, tables: dict[str, list[int]], origins: dict[str, set[str]]
) -> Iterator[tuple[str, int]]:
    if node.op_type != "Gather" or len(node.input) < 2 or not tables.get(node.input[0]):
        return
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
    size = tables[node.input[0]][axis]
    yield from ((name, size) for name in origins.get(node.input[1], ()))
