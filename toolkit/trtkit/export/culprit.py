# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Which node of a graph baked the batch in: every value is looked at, for two rows alone and together."""

from __future__ import annotations

import copy
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx

from trtkit.errors import ExportError
from trtkit.export.batch_proof import rows_of, same_values
from trtkit.export.onnx_file import inner_graphs
from trtkit.export.runtime import Session
from trtkit.numerics import Array

# their results say how large something is, not what is in it
_SHAPE_OPERATORS = ("Shape", "Size")
_NUMPY_TYPES = re.compile(r"tensor\((float16|float|double|u?int\d+|bool|string)\)")
_RUNNING = re.compile(r"running (\w+) node\. Name:'([^']*)'")

_OR = " or "

Values = dict[str, Array]


def culprit(model: onnx.ModelProto, rows: Mapping[str, Array], folder: Path, output: str = "") -> str:
    """Name the node behind which the rows no longer follow the batch.

    Args:
        model: the graph; not changed.
        rows: inputs of at least two rows that differ.
        folder: where the graph's external data are.
        output: the output that went wrong, if one is known.

    Returns:
        ``the node that baked it in is …``, or that none was found; two nodes where one moves the batch off the
        first axis, as some do with reason, and a later one cannot be run.
    """
    graph = _named_copy(model)
    failed: onnx.NodeProto | None = None
    while True:
        result = _values(graph, rows, folder)
        if not isinstance(result, str):
            break
        named = _RUNNING.search(result)
        nodes = list(graph.graph.node)
        index = next((i for i, node in enumerate(nodes) if named and node.name == named[2]), -1)
        if index < 0:
            return "the node that baked it in could not be found"
        failed = nodes[index]
        del graph.graph.node[index:]
    return _sentence(graph.graph, failed, output, *result)


def _sentence(
    graph: onnx.GraphProto, failed: onnx.NodeProto | None, output: str, singles: list[Values], both: Values
) -> str:
    look = _Look(graph, singles, both)
    mixing = look.first_that_mixes()
    ends = {name for name in _reads(failed) if look.carries(name) and not look.leads(name)} if failed else {output}
    moving = look.last_that_moves(ends)
    nodes = [mixing] if mixing else [node for node in (moving, failed) if node]
    if not nodes:
        return "no single node is to blame"
    return f"the node that baked it in is {_OR.join(map(_shown, nodes))}"


def _shown(node: onnx.NodeProto) -> str:
    return f"{node.op_type} '{node.name}'"


def _named_copy(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every node has a name of its own."""
    clone = copy.deepcopy(model)
    seen: set[str] = set()
    for node in clone.graph.node:
        name = node.name or next(filter(None, node.output), "")
        node.name = name if name not in seen else f"{name} {len(seen)}"
        seen.add(node.name)
    return clone


def _values(model: onnx.ModelProto, rows: Mapping[str, Array], folder: Path) -> tuple[list[Values], Values] | str:
    """Every value of a graph for two rows alone and for both together, or why it cannot be run."""
    del model.graph.output[:]
    for name in dict.fromkeys(name for node in model.graph.node for name in node.output if name):
        model.graph.output.add(name=name)
    if not model.graph.output:
        return [{}, {}], {}
    try:
        session = _session(model, folder)
        names = [name for name, type_ in session.output_types.items() if _NUMPY_TYPES.fullmatch(type_)]
        singles = [session.run(rows_of(rows, row, row + 1), names) for row in range(2)]
        return singles, session.run(rows_of(rows, 0, 2), names)
    except (ExportError, ValueError) as exc:
        return str(exc)


def _session(model: onnx.ModelProto, folder: Path) -> Session:
    """A session beside the external data, which ONNX Runtime looks for next to the file."""
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".onnx") as file:
        file.write(model.SerializeToString())
        file.flush()
        return Session(Path(file.name), optimize=False)


def carriers(graph: onnx.GraphProto) -> set[str]:
    """The values that are made of the inputs' rows: not of constants, and not of shapes only."""
    found = {value.name for value in graph.input}
    for node in graph.node:
        if node.op_type not in _SHAPE_OPERATORS and not found.isdisjoint(_reads(node)):
            found.update(filter(None, node.output))
    return found


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads, the inner graphs' use of outer values included."""
    yield from node.input
    for attribute in node.attribute:
        for inner in inner_graphs(attribute):
            for inner_node in inner.node:
                yield from _reads(inner_node)


class _Look:
    """A graph with its values for two rows, each alone (`singles`) and both together."""

    def __init__(self, graph: onnx.GraphProto, singles: list[Values], both: Values) -> None:
        self.graph, self.singles, self.both = graph, singles, both
        self.inputs = {value.name for value in graph.input}
        self.carriers = carriers(graph)

    def carries(self, name: str) -> bool:
        """Whether a value is made of the inputs' rows."""
        return name in self.carriers

    def leads(self, name: str) -> bool:
        """Whether the batch is the first axis of a value."""
        if name in self.inputs or name not in self.both:
            return name in self.inputs
        return self.singles[0][name].shape[:1] == (1,) and self.both[name].shape[:1] == (2,)

    def first_that_mixes(self) -> onnx.NodeProto | None:
        """The first node whose result for two rows is not made of its results for each of them."""
        first, second = self.singles
        for node in self.graph.node:
            for name in self.carriers.intersection(node.output).intersection(self.both):
                if not _follows(first[name], second[name], self.both[name]):
                    return node
        return None

    def last_that_moves(self, ends: set[str]) -> onnx.NodeProto | None:
        """The last node on the way to some values that takes the batch on the first axis and gives it elsewhere."""
        wanted = set(ends)
        for node in reversed(self.graph.node):
            if wanted.isdisjoint(node.output):
                continue
            reads = set(_reads(node))
            wanted |= reads
            results = [name for name in node.output if self.carries(name) and name in self.both]
            if results and not all(map(self.leads, results)) and any(map(self.leads, reads & self.carriers)):
                return node
        return None


def _follows(first: Array, second: Array, both: Array) -> bool:
    """Whether a value is the two rows' values side by side along some axis, or the same for any rows."""
    if first.shape == second.shape == both.shape and _same(first, both) and _same(first, second):
        return True
    if first.ndim != both.ndim or first.shape != second.shape:
        return False
    for axis in range(both.ndim):
        grown = [size * (2 if i == axis else 1) for i, size in enumerate(first.shape)]
        if list(both.shape) == grown:
            stacked = np.stack([first, second], axis + 1).reshape(both.shape)  # rows taking turns
            if _same(np.concatenate([first, second], axis), both) or _same(stacked, both):
                return True
    return False


def _same(one: Array, other: Array) -> bool:
    return same_values(one, other, coarse=True)
