# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""FP32 graphs become FP16 or BF16 graphs for strongly typed engines: the precision stands in the graph.

What may be half is read from ONNX's operator schemas. Nodes that stay FP32 get Casts at their borders, one for each
value and direction. Q/DQ pairs stay what they are, with their scales in half where what surrounds them is half.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

import onnx
from onnx import TensorProto, helper, inliner, version_converter

from trtkit.errors import BuildError, ConfigError, nearest
from trtkit.export.normalize import main_opset
from trtkit.export.sentences import one_line
from trtkit.precision.graph_edit import (
    all_nodes,
    attribute_of,
    element_types,
    graphs_in,
    graphs_of,
    name_nodes,
    name_values,
    set_attribute,
    without_weights,
)
from trtkit.precision.half_apply import apply_plan
from trtkit.precision.half_plan import FLOAT, Plan
from trtkit.precision.half_rules import (
    CONTROL_FLOW,
    HALF_TYPES,
    MAIN_DOMAINS,
    OPSET_BF16_MIN,
    opset_for_half,
    stays_fp32,
)

# the first IR version in which a weight is no input
_IR_MIN = 4


@dataclass(frozen=True)
class HalfResult:
    """A graph in FP16 or BF16.

    Attributes:
        model: the graph; every node has a name of its own.
        converted: the number of nodes that take or give half now.
        kept: nodes that work on FP32 values and stay FP32, with the reason in words.
        halves: their names in the graph's order, without the DequantizeLinear, which follow what reads them.
        notes: what else is worth knowing: constants that overflow or vanish, an opset that was raised.
    """

    model: onnx.ModelProto
    converted: int
    kept: dict[str, str]
    notes: list[str]
    halves: tuple[str, ...]


def to_half(
    model: onnx.ModelProto,
    dtype: str,
    *,
    keep_nodes: Collection[str] = (),
    keep_operators: Collection[str] = (),
    keep_io_types: bool = True,
) -> HalfResult:
    """Convert a graph to FP16 or BF16.

    Args:
        model: not changed; all its tensors in memory.
        dtype: ``FP16`` or ``BF16``.
        keep_nodes: names of nodes that stay FP32; ``*`` and ``?`` match as in file names. What is inside a kept
            If, Loop or Scan stays too.
        keep_operators: operator types that stay FP32, e.g. ``Softmax``.
        keep_io_types: whether FP32 inputs and outputs stay FP32.

    Returns:
        The converted graph; equal arguments give equal bytes. Its opset is the given one, or the first in which the
        operators' schemas have the half type (19 for quantizers, at most 22 for BF16).

    Raises:
        ConfigError: the type is neither, or a name to keep matches nothing.
        BuildError: the graph has no FP32 tensors, or ONNX cannot infer its types.
    """
    half = HALF_TYPES.get(dtype)
    if half is None:
        raise ConfigError(f"'{dtype}' is no half-precision type; {nearest(dtype, HALF_TYPES)}")
    graph = _prepared(model)
    asked = nodes_asked(graph, keep_nodes, keep_operators)
    graph, notes = _raised(graph, half, asked)
    types = element_types(graph)
    if TensorProto.FLOAT not in types.values():
        raise BuildError(f"the graph has no FP32 tensor that could become {dtype}; leave its precision as it is")
    away = {tensor.name for tensor in graph.graph.initializer if tensor.data_location == TensorProto.EXTERNAL}
    weights = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name in away}
    plan = Plan(graph, types, main_opset(graph), half, weights, FLOAT if keep_io_types else half, asked).decide()
    kept, converted = dict(_kept(plan)), _converted(plan)
    halves = tuple(node.name for node in plan.nodes if node.name in plan.halves)
    notes += apply_plan(plan)
    return HalfResult(graph, converted, kept, notes, halves)


def _prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without the large weights, in which every node and value has a name of its own."""
    graph = without_weights(model)
    if graph.functions:
        graph = inliner.inline_local_functions(graph)
    if graph.ir_version < _IR_MIN:
        weights = {tensor.name for tensor in graph.graph.initializer}
        inputs = [value for value in graph.graph.input if value.name not in weights]
        del graph.graph.input[:]
        graph.graph.input.extend(inputs)
        graph.ir_version = _IR_MIN
    domains = {part.domain for part in (*graph.opset_import, *all_nodes(graph))}
    if domains.isdisjoint(MAIN_DOMAINS):  # a Cast at a border will need it
        graph.opset_import.append(helper.make_opsetid("", OPSET_BF16_MIN))
    name_nodes(graph)
    name_values(graph)
    for node in all_nodes(graph):
        if node.op_type == "Constant":
            _plain_constant(node)
    return graph


def _plain_constant(node: onnx.NodeProto) -> None:
    """A Constant that holds its numbers as an attribute gets them as a tensor."""
    single, several = attribute_of(node, "value_float"), attribute_of(node, "value_floats")
    if single is not None:
        tensor = helper.make_tensor("", TensorProto.FLOAT, [], [single.f])
    elif several is not None:
        tensor = helper.make_tensor("", TensorProto.FLOAT, [len(several.floats)], several.floats)
    else:
        return
    del node.attribute[:]
    set_attribute(node, "value", tensor)


def nodes_asked(model: onnx.ModelProto, names: Collection[str], operators: Collection[str]) -> dict[str, str]:
    """The nodes that the caller keeps, with the pattern or operator that says so.

    Raises:
        ConfigError: a name or an operator matches nothing.
    """
    nodes = list(all_nodes(model))
    known, types = {node.name for node in nodes}, {node.op_type for node in nodes}
    found: dict[str, str] = {}
    for operator in operators:
        if operator not in types:
            raise ConfigError(f"keep: the graph has no operator '{operator}'; {nearest(operator, types)}")
        _keep(found, [node for node in nodes if node.op_type == operator], f"{operator} is kept")
    for pattern in names:
        matching = [node for node in nodes if node.name == pattern or fnmatchcase(node.name, pattern)]
        # a name may hold brackets, which are no pattern then
        matching = [node for node in nodes if node.name == pattern] if pattern in known else matching
        if not matching:
            raise ConfigError(f"keep: the graph has no node '{pattern}'; {nearest(pattern, known)}")
        _keep(found, matching, "is kept by name")
    return found


def _keep(found: dict[str, str], nodes: list[onnx.NodeProto], reason: str) -> None:
    for node in nodes:
        found.setdefault(node.name, reason)
        for graph in graphs_in(node):
            for inner in graphs_of(graph):
                for one in inner.node:
                    found.setdefault(one.name, f"'{node.name}' around it {reason}")


def _raised(model: onnx.ModelProto, half: int, asked: Collection[str]) -> tuple[onnx.ModelProto, list[str]]:
    """The model in the first opset whose schemas let its nodes be half, and a note if that is another one."""
    opset, types = main_opset(model), element_types(model)
    nodes = [node for node in all_nodes(model) if node.name not in asked and not stays_fp32(node.op_type, half)]
    lowest = OPSET_BF16_MIN if half == TensorProto.BFLOAT16 else opset
    wanted = max(opset, lowest, *(opset_for_half(node, types, opset, half) for node in nodes))
    if wanted == opset:
        return model, []
    try:
        raised = version_converter.convert_version(model, wanted)
    except Exception as exc:  # the converter's errors have no common base
        if opset < lowest:
            raise BuildError(
                f"BF16 needs opset {lowest}; this graph has {opset} and onnx cannot convert it: {one_line(exc)}"
            ) from exc
        return model, [f"the opset stays {opset}, where some operators are FP32 only: {one_line(exc)}"]
    raised.ir_version = max(raised.ir_version, helper.find_min_ir_version_for(raised.opset_import, True))
    name_nodes(raised)
    name_values(raised)
    return raised, [f"opset {opset} raised to {wanted}, the first in which all its operators have the type"]


def _kept(plan: Plan) -> Iterator[tuple[str, str]]:
    for node in plan.nodes:
        slots, reason = plan.slots[node.name], plan.reasons.get(node.name)
        if not slots.any or node.op_type in (*CONTROL_FLOW, "Constant", "Shape", "Size"):
            continue
        if reason is not None:
            yield node.name, reason
        elif node.op_type == "DequantizeLinear" and plan.half not in plan.needed(node.output[0]):
            yield node.name, "is read in FP32 only"
        elif node.op_type not in ("Cast", "DequantizeLinear") and node.name not in plan.halves:
            yield node.name, "reads FP32 values and gives none"


def _converted(plan: Plan) -> int:
    dequantized = [node.output[0] for node in plan.nodes if node.op_type == "DequantizeLinear"]
    return len(plan.halves) + sum(plan.adapts(name) and plan.half in plan.needed(name) for name in dequantized)
