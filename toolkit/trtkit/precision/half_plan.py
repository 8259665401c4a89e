# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Decide which nodes of a graph compute in FP16 or BF16, and what type each of its values has then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import onnx
from onnx import TensorProto

from trtkit.precision.graph_edit import all_nodes, attribute_of, constant_tensors, graphs_in, graphs_of
from trtkit.precision.half_constants import LARGEST, TYPE_NAMES, Fit, fit, scale_survives
from trtkit.precision.half_rules import (
    CONTROL_FLOW,
    FUSES_DEQUANTIZED,
    MAIN_DOMAINS,
    MOVES,
    Slots,
    slots_of,
    stays_fp32,
)

FLOAT = TensorProto.FLOAT
# between a mask's constant and the Softmax it is for
_MASKING = MOVES | {"Add", "And", "Mul", "Sub", "Where"}


@dataclass
class Plan:
    """What becomes half.

    Attributes:
        model: the graph; every node and value has a name of its own.
        types: element types of its values, see `graph_edit.element_types`.
        opset: of the default domain.
        half: ``TensorProto.FLOAT16`` or ``BFLOAT16``.
        weights: the constants' values, for those that `model` holds as placeholders.
        border: the type that FP32 inputs and outputs of the model have afterwards.
        asked: nodes that the caller keeps, with the reason.
        reasons: nodes that stay FP32, with the reason; filled by `decide`.
        halves: names of nodes that become half; filled by `decide`.
    """

    model: onnx.ModelProto
    types: Mapping[str, int]
    opset: int
    half: int
    weights: Mapping[str, TensorProto]
    border: int
    asked: Mapping[str, str]
    reasons: dict[str, str] = field(default_factory=dict)
    halves: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.nodes = list(all_nodes(self.model))
        self.slots = {node.name: slots_of(node, self.types, self.opset, self.half) for node in self.nodes}
        self.maker: dict[str, tuple[onnx.NodeProto, int]] = {}
        self.users: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
        for node in self.nodes:
            self.maker.update((name, (node, index)) for index, name in enumerate(node.output) if name)
            for index, name in enumerate(node.input):
                self.users.setdefault(name, []).append((node, index))
        self.fits: dict[str, Fit] = {}
        self.clamped: set[str] = set()
        graphs = list(graphs_of(self.model.graph))
        self.inputs = {value.name for value in graphs[0].input}
        self.outputs = {value.name for value in graphs[0].output}
        self.inner_outputs = {value.name for graph in graphs[1:] for value in graph.output}
        found = {**constant_tensors(self.model), **self.weights}
        self.constants = {
            name: tensor for name, tensor in found.items() if tensor.data_type == FLOAT and name not in self.inputs
        }

    def decide(self) -> Plan:
        """Fill `reasons` and `halves`."""
        for node in self.nodes:
            if (reason := self._reason(node)) is not None:
                self.reasons[node.name] = reason
        self._shapes()
        self._fused_with_dequantized()
        free = [node for node in self.nodes if node.name not in self.reasons and node.op_type != "DequantizeLinear"]
        self.halves = {node.name for node in free if self.slots[node.name].outputs}
        for node in self._moves_between_fp32(free):
            self.halves.discard(node.name)
            self.reasons[node.name] = "passes FP32 values on to nodes that take FP32"
        self.halves.update(node.name for node in free if self._ends_half(node))
        return self

    # what each value is and what each reader wants

    def adapts(self, value: str) -> bool:
        """Whether a value can be had in both types without a Cast: a constant, or what is dequantized by one."""
        if value in self.constants:
            return True
        node, index = self.maker.get(value, (None, 0))
        if node is None or node.op_type != "DequantizeLinear" or node.name in self.reasons:
            return False
        return index in self.slots[node.name].outputs

    def natural(self, value: str) -> int:
        """The type in which a value that does not adapt is made."""
        if value in self.inputs:
            return self.border
        node, index = self.maker.get(value, (None, 0))
        made_half = node is not None and node.name in self.halves and index in self.slots[node.name].outputs
        return self.half if made_half else FLOAT

    def wants(self, node: onnx.NodeProto, index: int) -> int | None:
        """The type in which a node takes its FP32 input; None when it takes any."""
        slots = self.slots[node.name]
        if index in slots.inputs and node.name not in self.reasons:
            if node.op_type == "Cast":
                return None
            return self.half if node.name in self.halves else FLOAT
        return FLOAT

    def needed(self, value: str) -> set[int]:
        """The types in which somebody takes an FP32 value, or which it has to have as an output; never empty."""
        found: set[int | None] = set()
        for node, index in self.users.get(value, []):
            if node.op_type == "DequantizeLinear" and self.adapts(node.output[0]):
                found |= self.needed(node.output[0])
            else:
                found.add(self.wants(node, index))
        if value in self.outputs:
            found.add(self.border)
        if value in self.inner_outputs:
            found.add(FLOAT)
        if not self.adapts(value):
            found.add(self.natural(value))
        return {type_ for type_ in found if type_ is not None} or {FLOAT}

    def fit(self, name: str, tensor: TensorProto) -> Fit:
        """How a constant fits into the half type; each is looked at once."""
        if name not in self.fits:
            self.fits[name] = fit(tensor, self.half)
        return self.fits[name]

    def floats_read(self, node: onnx.NodeProto) -> Iterator[str]:
        """The FP32 values that may be half which a node reads."""
        return (node.input[index] for index in self.slots[node.name].inputs)

    # the decisions, one kind after the other

    def _reason(self, node: onnx.NodeProto) -> str | None:
        slots = self.slots[node.name]
        if node.name in self.asked:
            return self.asked[node.name]
        if node.op_type in CONTROL_FLOW:
            return "passes FP32 values between graphs"
        if not slots.any or node.op_type == "Constant":
            return None
        if node.domain not in MAIN_DOMAINS:
            return f"is an operator of the domain {node.domain}, whose half types are not known"
        if slots.unknown:
            return "works on values whose types are not known"
        if (always := stays_fp32(node.op_type, self.half)) is not None:
            return always
        if not (slots.inputs or slots.outputs):
            return f"{node.op_type} has no {TYPE_NAMES[self.half]} in opset {self.opset}"
        if slots.fixed_outputs and not slots.outputs:
            return f"{node.op_type} gives FP32 only"
        return self._bad_constant(node, slots)

    def _bad_constant(self, node: onnx.NodeProto, slots: Slots) -> str | None:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            return self._bad_scale(node)
        names = [] if node.op_type == "Cast" else [node.input[index] for index in slots.inputs]
        found = [(name, self.constants[name]) for name in names if name in self.constants]
        fill = attribute_of(node, "value")
        if node.op_type == "ConstantOfShape" and fill is not None:
            found.append((node.output[0], fill.t))
        for name, tensor in found:
            look = self.fit(name, tensor)
            if look.overflowing and self._clamps(name, look):
                self.clamped.add(name)
            elif look.overflowing:
                limit = f"{TYPE_NAMES[self.half]} holds up to {LARGEST[self.half]:.6g}"
                return f"its constant '{name}' holds {look.largest:.3g}, {limit}"
        return None

    def _bad_scale(self, node: onnx.NodeProto) -> str | None:
        tensor = self.constants.get(node.input[1])
        if tensor is None:
            return "its scale is computed" if 1 in self.slots[node.name].inputs else None
        if scale_survives(tensor, self.half):
            return None
        look = self.fit(node.input[1], tensor)
        return f"its scale '{node.input[1]}' (up to {look.largest:.3g}) does not survive {TYPE_NAMES[self.half]}"

    def _clamps(self, name: str, look: Fit) -> bool:
        """Whether an overflowing constant may become the largest finite value instead.

        That is so for the large negative values that mask positions before a Softmax, where any will do, and for
        the bounds of a Clip, beyond which there is nothing.
        """
        masks = look.high <= LARGEST[self.half]
        users = self.users.get(name, [])
        return bool(users) and all(
            (node.op_type == "Clip" and index > 0) or (masks and self._masks(node)) for node, index in users
        )

    def _masks(self, node: onnx.NodeProto) -> bool:
        ahead, seen = [node], {node.name}
        while ahead:
            current = ahead.pop()
            if current.op_type in ("Softmax", "LogSoftmax"):
                return current is not node
            if current.op_type in _MASKING:
                following = [user for name in current.output for user, _ in self.users.get(name, [])]
                ahead += [user for user in following if user.name not in seen]
                seen.update(user.name for user in following)
        return False

    def _shapes(self) -> None:
        """Keep what is computed from shapes: sizes and positions are integers that half precision cannot count."""
        fixed = set(constant_tensors(self.model)) | set(self.weights)
        shapes: set[str] = set()
        for node in self.nodes:
            read = [name for name in node.input if name and name not in fixed]
            outputs = [name for name in node.output if name]
            fills = node.op_type in ("ConstantOfShape", "Expand", "Tile", "EyeLike") and node.input[0] not in read
            if node.op_type in ("Shape", "Size"):
                shapes.update(outputs)
            elif graphs_in(node):
                continue
            elif (fills or node.op_type == "ConstantOfShape") or (node.input and not read):
                fixed.update(outputs)
            elif read and shapes.issuperset(read):
                shapes.update(outputs)
                if self.slots[node.name].any:
                    self.reasons.setdefault(node.name, "computes sizes or positions from shapes")

    def _fused_with_dequantized(self) -> None:
        """What takes dequantized FP32 stays FP32, because a Cast in between would keep TensorRT from fusing them."""
        for node in self.nodes:
            if node.op_type in FUSES_DEQUANTIZED and node.name not in self.reasons:
                for name in self.floats_read(node):
                    source = self._dequantizer(name)
                    if source is not None and not self.adapts(source.output[0]):
                        self.reasons[node.name] = f"takes what '{source.name}' dequantizes to FP32"

    def _dequantizer(self, value: str) -> onnx.NodeProto | None:
        """The DequantizeLinear a value comes from, directly or moved."""
        while value in self.maker:
            node, _ = self.maker[value]
            if node.op_type == "DequantizeLinear":
                return node
            if node.op_type not in MOVES or not node.input:
                return None
            value = node.input[0]
        return None

    def _moves_between_fp32(self, free: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
        """The free nodes that only move values from what gives FP32, or any type, to what takes FP32."""
        moves = [node for node in free if node.op_type in MOVES and node.name in self.halves]
        from_fp32: set[str] = set()
        for node in moves:
            if node.op_type == "Cast" or all(self._is_fp32(name, from_fp32) for name in self.floats_read(node)):
                from_fp32.add(node.name)
        found: dict[str, onnx.NodeProto] = {}
        for node in reversed(moves):
            made = [node.output[index] for index in self.slots[node.name].outputs]
            if node.name in from_fp32 and all(self._goes_to_fp32(name, found) for name in made):
                found[node.name] = node
        return list(found.values())

    def _is_fp32(self, value: str, moved: set[str]) -> bool:
        if self.adapts(value) or self.natural(value) == FLOAT:
            return True
        return value in self.maker and self.maker[value][0].name in moved

    def _goes_to_fp32(self, value: str, found: Mapping[str, onnx.NodeProto]) -> bool:
        if value in self.outputs and self.border != FLOAT:
            return False
        takers = [node for node, index in self.users.get(value, []) if self.wants(node, index) == self.half]
        return all(node.name in found for node in takers)

    def _ends_half(self, node: onnx.NodeProto) -> bool:
        """Whether a node that gives no FP32 takes half: when all that it reads is half already."""
        slots = self.slots[node.name]
        if slots.outputs or not slots.inputs or node.op_type == "Cast":
            return False
        given = [name for name in self.floats_read(node) if not self.adapts(name)]
        return bool(given) and all(self.natural(name) == self.half for name in given)
