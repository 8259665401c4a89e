# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Small helpers for changing ONNX graphs: free names, what a node reads, order, constants, element types.

A *graph* here is a ``GraphProto``: a model's main one, or one inside an If, Loop or Scan. Inner graphs see the values
of the graphs around them. After `name_values` and `name_nodes` a value or a node is known by its name alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper, shape_inference

from trtkit.errors import BuildError
from trtkit.export.onnx_file import inner_graphs
from trtkit.export.sentences import one_line
from trtkit.numerics import Array

# shapes, axes and scales, which shape inference reads, are smaller; weights are larger
_SMALL_BYTES = 1024


class Names:
    """Names that nothing in a model has yet.

    Args:
        model: every value and node of it, inner graphs included, counts as taken.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._taken = set(_names(model))

    def free(self, wish: str) -> str:
        """The wish, or the wish with the first free number behind it; taken from now on."""
        name, number = wish, 2
        while name in self._taken or not name:
            name, number = f"{wish}_{number}", number + 1
        self._taken.add(name)
        return name


def _names(model: onnx.ModelProto) -> Iterator[str]:
    for graph in graphs_of(model.graph):
        yield from (value.name for value in (*graph.input, *graph.output, *graph.value_info))
        yield from (tensor.name for tensor in graph.initializer)
        yield from (tensor.values.name for tensor in graph.sparse_initializer)
        for node in graph.node:
            yield from (node.name, *node.input, *node.output)


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and every graph inside it, the outer ones first, in the order of their nodes."""
    yield graph
    for node in graph.node:
        for inner in graphs_in(node):
            yield from graphs_of(inner)


def graphs_in(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs that a node holds directly; empty for most."""
    return [inner for attribute in node.attribute for inner in inner_graphs(attribute)]


def all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node of a model, those of inner graphs included."""
    for graph in graphs_of(model.graph):
        yield from graph.node


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """The values a node reads: its inputs that are given, and outer values that its inner graphs use."""
    yield from filter(None, node.input)
    for graph in graphs_in(node):
        yield from outer_values(graph)


def outer_values(graph: onnx.GraphProto) -> Iterator[str]:
    """The values a graph uses and does not define: those of the graphs around it."""
    own = {value.name for value in graph.input} | set(initializers(graph))
    own |= {tensor.values.name for tensor in graph.sparse_initializer}
    own.update(name for node in graph.node for name in node.output)
    used = [name for node in graph.node for name in reads(node)]
    yield from dict.fromkeys(name for name in (*used, *(value.name for value in graph.output)) if name not in own)


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node a name of its own: a node without one gets its operator's and first output's."""
    names = Names(model)
    seen: set[str] = set()
    for node in all_nodes(model):
        if not node.name or node.name in seen:
            first = next(filter(None, node.output), "")
            node.name = names.free(node.name or f"{node.op_type}_{first}")
        seen.add(node.name)


def name_values(model: onnx.ModelProto) -> None:
    """Give every value a name that no other graph of the model uses, by renaming those of inner graphs.

    ONNX lets graphs that do not see each other, such as the two branches of an If, use a name twice.
    """
    names, seen = Names(model), set[str]()
    for graph in graphs_of(model.graph):
        own = [value.name for value in graph.input] + list(initializers(graph))
        own += [name for node in graph.node for name in node.output if name]
        renamed = {name: names.free(name) for name in dict.fromkeys(own) if name in seen}
        if renamed:
            _rename(graph, renamed)
        seen.update(renamed.get(name, name) for name in own)


def _rename(graph: onnx.GraphProto, renamed: Mapping[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = renamed.get(value.name, value.name)
    for node in graph.node:
        for index, name in enumerate(node.output):
            node.output[index] = renamed.get(name, name)
    replace_inputs(graph.node, renamed)


def initializers(graph: onnx.GraphProto) -> dict[str, TensorProto]:
    """The graph's own initializers by name; sparse ones are not among them."""
    return {tensor.name: tensor for tensor in graph.initializer}


def constant_tensors(model: onnx.ModelProto) -> dict[str, TensorProto]:
    """Every constant by its value's name: initializers, and Constant nodes with a tensor in ``value``."""
    found: dict[str, TensorProto] = {}
    for graph in graphs_of(model.graph):
        found.update(initializers(graph))
        for node in graph.node:
            tensor = attribute_of(node, "value")
            if node.op_type == "Constant" and tensor is not None:
                found[node.output[0]] = tensor.t
    return found


def attribute_of(node: onnx.NodeProto, name: str) -> onnx.AttributeProto | None:
    """A node's attribute by name; None when it has none of it."""
    return next((attribute for attribute in node.attribute if attribute.name == name), None)


def set_attribute(node: onnx.NodeProto, name: str, value: object) -> None:
    """Give a node this attribute, instead of one of that name if it has one."""
    rest = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*rest, onnx.helper.make_attribute(name, value)])


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """The node that makes each value of this graph (inner graphs apart)."""
    return {name: node for node in graph.node for name in node.output if name}


def consumers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """The nodes of this graph that read each value, directly or in their inner graphs, in the graph's order."""
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in dict.fromkeys(reads(node)):
            found.setdefault(name, []).append(node)
    return found


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put the nodes in an order in which each stands behind what it reads; equal ranks keep their order.

    Raises:
        BuildError: nodes wait for each other.
    """
    nodes = list(graph.node)
    maker = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    waits = [{maker[name] for name in reads(node) if name in maker} for node in nodes]
    readers: dict[int, list[int]] = {}
    for index, needs in enumerate(waits):
        for need in needs:
            readers.setdefault(need, []).append(index)
    ready = [index for index, needs in enumerate(waits) if not needs]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for reader in readers.get(index, []):
            waits[reader].discard(index)
            if not waits[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(nodes):
        stuck = next(node.name for index, node in enumerate(nodes) if waits[index])
        raise BuildError(f"the graph's nodes wait for each other in a circle, among them '{stuck}'")
    if order != list(range(len(nodes))):
        del graph.node[:]
        graph.node.extend(nodes[index] for index in order)


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """The element type (``TensorProto.DataType``) of every tensor that has a known one, by its value's name.

    From ONNX's type inference, the declared inputs and outputs and the constants; sequences and optionals, and what
    operators of other domains give without saying so, are not among them.

    Args:
        model: not changed; above 2 GB too, because the inference does not see the weights' values.

    Raises:
        BuildError: the inference refuses the graph, in its own words.
    """
    try:
        inferred = shape_inference.infer_shapes(without_weights(model))
    except Exception as exc:  # InferenceError, but also RuntimeError for damaged graphs
        raise BuildError(f"the types of the graph's values cannot be inferred: {one_line(exc)}") from exc
    found: dict[str, int] = {}
    for graph in graphs_of(inferred.graph):
        for value in (*graph.value_info, *graph.input, *graph.output):
            if value.type.HasField("tensor_type") and value.type.tensor_type.elem_type:
                found[value.name] = value.type.tensor_type.elem_type
        found.update((tensor.name, tensor.data_type) for tensor in graph.initializer)
    return found


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose large constants are empty (as external data): for whoever needs their types and shapes only."""
    slim = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.name != "graph":
            _assign(slim, field.name, value)
    _slim_graph(model.graph, slim.graph)
    return slim


def _assign(message: object, name: str, value: object) -> None:
    held = getattr(message, name)
    if hasattr(held, "CopyFrom"):
        held.CopyFrom(value)
    elif hasattr(held, "extend"):
        held.extend(value)
    else:
        setattr(message, name, value)


def _slim_graph(graph: onnx.GraphProto, slim: onnx.GraphProto) -> None:
    for field, value in graph.ListFields():
        if field.name != "initializer":
            _assign(slim, field.name, value)
    for tensor in graph.initializer:
        copy = slim.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        if byte_size(tensor) <= _SMALL_BYTES or tensor.data_type == TensorProto.STRING:
            copy.CopyFrom(tensor)
        else:
            copy.data_location = TensorProto.EXTERNAL
            copy.external_data.add(key="location", value="weights")


def byte_size(tensor: TensorProto) -> int:
    """The bytes of a tensor's values by its shape, at most one element off for types below a byte."""
    return int(np.prod(tensor.dims, dtype=np.int64)) * max(1, int(_itemsize(tensor.data_type)))


def _itemsize(data_type: int) -> int:
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(data_type)).itemsize


def array_of(tensor: TensorProto) -> Array:
    """A tensor's values."""
    return numpy_helper.to_array(tensor)


def replace_inputs(nodes: Iterable[onnx.NodeProto], renamed: Mapping[str, str]) -> None:
    """Make nodes read other values under the given names, in their inner graphs too."""
    for node in nodes:
        for index, name in enumerate(node.input):
            if name in renamed:
                node.input[index] = renamed[name]
        for graph in graphs_in(node):
            replace_inputs(graph.node, renamed)
            for value in graph.output:
                value.name = renamed.get(value.name, value.name)
