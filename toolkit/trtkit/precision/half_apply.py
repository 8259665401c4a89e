# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Carry out a `Plan`: constants in half, Casts at the borders only, one for each value and direction."""

from __future__ import annotations

import copy

import onnx
from onnx import TensorProto, helper

from trtkit.precision.graph_edit import (
    Names,
    all_nodes,
    attribute_of,
    graphs_of,
    replace_inputs,
    set_attribute,
)
from trtkit.precision.half_constants import LARGEST, TYPE_NAMES, Fit, half_tensor
from trtkit.precision.half_plan import FLOAT, Plan
from trtkit.precision.half_rules import TYPE_ATTRIBUTES

_SUFFIXES = {FLOAT: "fp32", TensorProto.FLOAT16: "fp16", TensorProto.BFLOAT16: "bf16"}


def apply_plan(plan: Plan) -> list[str]:
    """Change the plan's model in place, and fill its weights in.

    Returns:
        Notes on constants that did not survive, in words.
    """
    writer = _Writer(plan)
    graphs = list(graphs_of(plan.model.graph))
    # the inner ones first: putting a node back into its graph copies what is inside it
    for graph in reversed(graphs):
        writer.rewrite(graph, main=graph is graphs[0])
    _drop_idle_casts(plan.model, writer.types)
    return writer.notes


class _Writer:
    def __init__(self, plan: Plan) -> None:
        self.plan, self.names = plan, Names(plan.model)
        self.types = dict(plan.types)
        self.notes: list[str] = []
        self.named: dict[tuple[str, int], str] = {}
        values = [name for name, type_ in plan.types.items() if type_ == FLOAT]
        self.needed = {name: plan.needed(name) for name in values}
        self.given = {name: self._given(name) for name in values}
        # looked up while the graph is rewritten, when its nodes no longer have the names the plan knows
        self.adapting = {name for name in values if plan.adapts(name)}

    def _given(self, value: str) -> int:
        """The type of a value whose reader takes any."""
        if not self.plan.adapts(value):
            return self.plan.natural(value)
        return FLOAT if FLOAT in self.needed[value] else self.plan.half

    def name(self, value: str, type_: int) -> str:
        """The name under which a value is found in one of its types."""
        plan = self.plan
        own = plan.border if value in plan.outputs | plan.inputs else self.given[value]
        if type_ == own:
            self.types[value] = type_
            return value
        if (value, type_) not in self.named:
            self.named[value, type_] = self.names.free(f"{value}_{_SUFFIXES[type_]}")
            self.types[self.named[value, type_]] = type_
        return self.named[value, type_]

    def rewrite(self, graph: onnx.GraphProto, *, main: bool) -> None:
        self._initializers(graph)
        nodes = list(graph.node)
        del graph.node[:]
        for value in graph.input:
            self._casts(graph, value.name)
        for node in nodes:
            self._node(graph, node)
        for side in (graph.input, graph.output) if main else ():
            for value in side:
                if value.name in self.given:
                    value.type.tensor_type.elem_type = self.plan.border
        for value in () if main else graph.output:
            if value.name in self.given:
                value.name = self.name(value.name, FLOAT)
        for value in graph.value_info:
            if value.name in self.given:
                value.type.tensor_type.elem_type = self.types[value.name]

    def _initializers(self, graph: onnx.GraphProto) -> None:
        tensors = [self.plan.weights.get(tensor.name, tensor) for tensor in graph.initializer]
        made: list[TensorProto] = []
        for tensor in tensors:
            if tensor.name in self.plan.inputs and tensor.data_type == FLOAT:
                made.append(tensor if self.plan.border == FLOAT else self._half(tensor, tensor.name))
            elif tensor.name not in self.adapting:
                made.append(tensor)
            else:
                made += [self._constant(tensor, type_) for type_ in sorted(self.needed[tensor.name])]
        del graph.initializer[:]
        graph.initializer.extend(made)

    def _constant(self, tensor: TensorProto, type_: int) -> TensorProto:
        name = self.name(tensor.name, type_)
        if type_ == self.plan.half:
            return self._half(tensor, name)
        if name == tensor.name:
            return tensor
        renamed = TensorProto()
        renamed.CopyFrom(tensor)
        renamed.name = name
        return renamed

    def _half(self, tensor: TensorProto, name: str, of: str = "") -> TensorProto:
        half, what = self.plan.half, of or tensor.name
        look, clamp = self.plan.fit(what, tensor), what in self.plan.clamped
        self._note(what, look, clamp)
        return half_tensor(tensor, name, half, clamp=clamp)

    def _note(self, what: str, look: Fit, clamp: bool) -> None:
        kind = TYPE_NAMES[self.plan.half]
        if look.overflowing:
            end = f"are clamped to the largest finite value, {LARGEST[self.plan.half]:.6g}" if clamp else "are infinite"
            self.notes.append(
                f"constant '{what}': {look.overflowing} of {look.elements} values, up to {look.largest:.3g}, "
                f"{end} in {kind}"
            )
        if look.vanishing:
            self.notes.append(f"constant '{what}': {look.vanishing} of {look.elements} nonzero values are 0 in {kind}")

    def _node(self, graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
        adapting = [name for name in node.output if name in self.adapting]
        if node.op_type == "Constant" and adapting:
            graph.node.extend(self._constant_nodes(node))
        elif adapting:
            graph.node.extend(self._dequantizers(node))
        else:
            self._retype(node)
            made = list(node.output)
            self._rename_outputs(node)
            graph.node.append(node)
            for name in made:
                self._casts(graph, name)

    def _constant_nodes(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        found, value = [], node.output[0]
        for position, type_ in enumerate(sorted(self.needed[value])):
            name = self.names.free(f"{node.name}_{_SUFFIXES[type_]}") if position else node.name
            tensor = attribute_of(node, "value").t  # type: ignore[union-attr]
            kept = tensor if type_ == FLOAT else self._half(tensor, tensor.name, value)
            found.append(helper.make_node("Constant", [], [self.name(value, type_)], name, value=kept))
        return found

    def _dequantizers(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """One DequantizeLinear for each type that is wanted, each with the scale in that type."""
        found, value, scale = [], node.output[0], node.input[1]
        for position, type_ in enumerate(sorted(self.needed[value])):
            twin = copy.deepcopy(node)
            twin.name = self.names.free(f"{node.name}_{_SUFFIXES[type_]}") if position else node.name
            twin.input[1] = self.name(scale, type_)
            twin.output[0] = self.name(value, type_)
            if attribute_of(node, "output_dtype") is not None:
                set_attribute(twin, "output_dtype", type_)
            found.append(twin)
        return found

    def _retype(self, node: onnx.NodeProto) -> None:
        """Let a node read its inputs in the types it wants, and say in its attributes what it makes."""
        plan = self.plan
        for index, name in enumerate(node.input):
            if name in self.given:
                wanted = plan.wants(node, index)
                node.input[index] = self.name(name, self.given[name] if wanted is None else wanted)
        if not plan.slots[node.name].outputs:
            return
        made = plan.half if node.name in plan.halves else FLOAT
        if node.op_type in TYPE_ATTRIBUTES:
            set_attribute(node, TYPE_ATTRIBUTES[node.op_type], made)
        elif node.op_type == "ConstantOfShape" and made != FLOAT:
            fill = attribute_of(node, "value")
            tensor = fill.t if fill is not None else helper.make_tensor("", FLOAT, [1], [0.0])
            set_attribute(node, "value", self._half(tensor, "", node.output[0]))

    def _rename_outputs(self, node: onnx.NodeProto) -> None:
        for index, name in enumerate(node.output):
            if name in self.given:
                node.output[index] = self.name(name, self.given[name])

    def _casts(self, graph: onnx.GraphProto, value: str) -> None:
        """The other type of a value, if somebody wants it, right behind what makes it."""
        if value not in self.given:
            return
        made = self.given[value]
        for type_ in sorted(self.needed[value] - {made}):
            result = self.name(value, type_)
            name = self.names.free(f"{value}_to_{_SUFFIXES[type_]}")
            graph.node.append(helper.make_node("Cast", [self.name(value, made)], [result], name, to=type_))


def _drop_idle_casts(model: onnx.ModelProto, types: dict[str, int]) -> None:
    """Remove Casts to the type their input has: the graph had them where half and FP32 met before."""
    results = {value.name for graph in graphs_of(model.graph) for value in graph.output}
    idle: dict[str, str] = {}
    for node in all_nodes(model):
        to = attribute_of(node, "to")
        if node.op_type != "Cast" or to is None or types.get(node.input[0]) != to.i:
            continue
        if to.i in _SUFFIXES and node.output[0] not in results:
            idle[node.output[0]] = idle.get(node.input[0], node.input[0])
    for graph in graphs_of(model.graph) if idle else ():
        kept = [node for node in graph.node if not idle.keys() & set(node.output)]
        if len(kept) < len(graph.node):
            del graph.node[:]
            graph.node.extend(kept)
    if idle:
        replace_inputs(model.graph.node, idle)
