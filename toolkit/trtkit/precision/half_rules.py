# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What of an operator may be FP16 or BF16: by ONNX's operator schemas, and by a few rules they do not hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import onnx
from onnx import TensorProto

HALF_TYPES: dict[str, int] = {"FP16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16}
_TYPE_STRINGS = {TensorProto.FLOAT16: "tensor(float16)", TensorProto.BFLOAT16: "tensor(bfloat16)"}
_FLOAT = "tensor(float)"

# the newest opset a graph is raised to for a half type: Conv and the pools take BF16 from 22 on
OPSET_RAISED_MAX = 22
# a Cast takes BF16 from here on, and one may stand at a border whatever the nodes are
OPSET_BF16_MIN = 13
MAIN_DOMAINS = ("", "ai.onnx")

# operators that would be wrong in half precision, whatever their values are
_STAYS_FP32 = {
    "CumSum": "adds up a long row, and half precision counts no further than 2048",
    "GridSample": "reads at coordinates, which half precision rounds",
    "RoiAlign": "reads at coordinates, which half precision rounds",
}
# operators whose half type TensorRT-RTX 1.7 refuses: most in the parser, a deconvolution in the compiler
_NOT_IN_TENSORRT = {
    TensorProto.FLOAT16: frozenset({"MeanVarianceNormalization"}),
    TensorProto.BFLOAT16: frozenset({
        "ConvTranspose", "GRU", "HardSwish", "LpNormalization", "MeanVarianceNormalization", "Mish",
    }),
}  # fmt: skip
# region and scales decide about sizes; TensorRT wants them in FP32
_FP32_INPUTS = {"Resize": (1, 2), "Upsample": (1,)}
# mean and deviation have the type that the attribute stash_type says, FP32 by default
_FP32_OUTPUTS = {"LayerNormalization": (1, 2)}

# operators whose output type stands in this attribute, and is no input's
TYPE_ATTRIBUTES = {
    "Cast": "to",
    **dict.fromkeys(("EyeLike", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"), "dtype"),
    "Bernoulli": "dtype",
}
# operators that pass values on as they are, or make them without computing
MOVES = frozenset({
    "Cast", "CastLike", "Concat", "ConstantOfShape", "DepthToSpace", "Expand", "EyeLike", "Flatten", "Gather",
    "GatherElements", "GatherND", "Identity", "Pad", "Reshape", "ScatterElements", "ScatterND", "Slice",
    "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
})  # fmt: skip
CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
# what TensorRT fuses with the DequantizeLinear before it, if nothing stands in between
FUSES_DEQUANTIZED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True)
class Slots:
    """Which FP32 tensors of one node may be half, by position.

    Attributes:
        inputs: FP32 inputs that may be half.
        outputs: FP32 outputs that may be half.
        fixed_inputs: FP32 inputs that may not.
        fixed_outputs: FP32 outputs that may not.
        unknown: there is an input or output whose type is not known.
    """

    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    fixed_inputs: tuple[int, ...] = ()
    fixed_outputs: tuple[int, ...] = ()
    unknown: bool = False

    @property
    def any(self) -> bool:
        """Whether the node has to do with FP32 at all."""
        return bool(self.inputs or self.outputs or self.fixed_inputs or self.fixed_outputs)


def slots_of(node: onnx.NodeProto, types: Mapping[str, int], opset: int, half: int) -> Slots:
    """The FP32 inputs and outputs of a node, divided by what its operator's schema allows.

    Args:
        node: of any operator; one of another domain, or unknown, may have no half tensor at all.
        types: element types by value, see `graph_edit.element_types`.
        opset: of the default domain.
        half: ``TensorProto.FLOAT16`` or ``BFLOAT16``.
    """
    inputs = [i for i, name in enumerate(node.input) if types.get(name) == TensorProto.FLOAT]
    outputs = [i for i, name in enumerate(node.output) if types.get(name) == TensorProto.FLOAT]
    unknown = any(name and name not in types for name in (*node.input, *node.output))
    schema = _schema(node, opset)
    if schema is None or unknown or node.op_type in CONTROL_FLOW:
        return Slots((), (), tuple(inputs), tuple(outputs), unknown)
    free = [i for i in inputs if _allows(schema.inputs, i, half) and i not in _FP32_INPUTS.get(node.op_type, ())]
    bound = {_formal(schema.inputs, i).type_str for i in free}
    made = [i for i in outputs if _allows(schema.outputs, i, half) and _follows(node, schema.outputs, i, bound)]
    return Slots(
        tuple(free),
        tuple(made),
        tuple(i for i in inputs if i not in free),
        tuple(i for i in outputs if i not in made),
    )


def stays_fp32(operator: str, half: int) -> str | None:
    """Why an operator is never half, whatever its schema allows; None where it may be."""
    if operator in _NOT_IN_TENSORRT[half]:
        return f"TensorRT has no {operator} in this type"
    return _STAYS_FP32.get(operator)


def _follows(node: onnx.NodeProto, formals: Any, index: int, bound: Collection[str]) -> bool:
    """Whether an output's type is ours to choose: it is that of an input that may be half, or an attribute's."""
    if index in _FP32_OUTPUTS.get(node.op_type, ()):
        return False
    chosen = node.op_type in TYPE_ATTRIBUTES or node.op_type == "ConstantOfShape"
    return chosen or _formal(formals, index).type_str in bound


def opset_for_half(node: onnx.NodeProto, types: Mapping[str, int], opset: int, half: int) -> int:
    """The first opset from the given one on in which a node that makes FP32 values, or quantizes them, may make half.

    The given one where none up to `OPSET_RAISED_MAX` helps. A quantizer's scale may be FP16 from 19 on, and BF16
    came to operators one by one, the last in 22.
    """
    quantizes = node.op_type in ("QuantizeLinear", "DequantizeLinear")
    if not quantizes and (half != TensorProto.BFLOAT16 or TensorProto.FLOAT not in map(types.get, node.output)):
        return opset
    for version in range(opset, OPSET_RAISED_MAX + 1):
        slots = slots_of(node, types, version, half)
        if not slots.fixed_outputs and (slots.inputs or not slots.fixed_inputs):
            return version
    return opset


def _schema(node: onnx.NodeProto, opset: int) -> Any:
    return _schema_of(node.op_type, opset) if node.domain in MAIN_DOMAINS else None


@cache
def _schema_of(operator: str, opset: int) -> Any:
    try:
        return onnx.defs.get_schema(operator, opset, "")
    except onnx.defs.SchemaError:
        return None


def _formal(formals: Any, index: int) -> Any:
    """The formal parameter at a position; the last one of a schema stands for all that follow."""
    return formals[min(index, len(formals) - 1)]


def _allows(formals: Any, index: int, half: int) -> bool:
    types = _formal(formals, index).types
    return _FLOAT in types and _TYPE_STRINGS[half] in types
