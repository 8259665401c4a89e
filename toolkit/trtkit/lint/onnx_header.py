# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The interface of an ONNX file, without its weights: inputs, outputs, opsets, files of external data.

The file's protobuf is walked field by field, and nodes and weights are stepped over, so that a file of gigabytes
costs as many small reads as it has large tensors. Field numbers are those of onnx.proto
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). Files are anyone's: whatever is in one, the result is a
header or `OnnxHeaderError`. What a damaged file has beside its interface is not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from trtkit.dtypes import by_onnx
from trtkit.errors import TrtkitError
from trtkit.lint.protobuf_wire import BYTES, VARINT, Wire, WireError, signed

# TensorProto.DataType, by number
ELEMENT_TYPES = (
    "UNDEFINED", "FLOAT", "UINT8", "INT8", "UINT16", "INT16", "INT32", "INT64", "STRING", "BOOL", "FLOAT16", "DOUBLE",
    "UINT32", "UINT64", "COMPLEX64", "COMPLEX128", "BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2",
    "FLOAT8E5M2FNUZ", "UINT4", "INT4", "FLOAT4E2M1", "FLOAT8E8M0", "UINT2", "INT2", "FLOAT6E2M3",
    "FLOAT6E3M2",
)  # fmt: skip

# tags: a field's number, and how it is written
_FIRST_TEXT, _SECOND_TEXT = 1 << 3 | BYTES, 2 << 3 | BYTES
_FIRST_NUMBER, _SECOND_NUMBER = 1 << 3 | VARINT, 2 << 3 | VARINT
_MODEL_IR_VERSION, _MODEL_GRAPH, _MODEL_OPSET = 1 << 3 | VARINT, 7 << 3 | BYTES, 8 << 3 | BYTES
_GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 5 << 3 | BYTES, 11 << 3 | BYTES, 12 << 3 | BYTES
_GRAPH_SPARSE_INITIALIZER, _SPARSE_VALUES = 15 << 3 | BYTES, 1 << 3 | BYTES
_TENSOR_NAME, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 8 << 3 | BYTES, 13 << 3 | BYTES, 14 << 3 | VARINT
_INFO_NAME, _INFO_TYPE = 1 << 3 | BYTES, 2 << 3 | BYTES
_TYPE_ELEMENT, _TYPE_SHAPE, _SHAPE_DIM = 1 << 3 | VARINT, 2 << 3 | BYTES, 1 << 3 | BYTES
_KINDS = {
    1 << 3 | BYTES: "tensor", 4 << 3 | BYTES: "sequence", 5 << 3 | BYTES: "map", 7 << 3 | BYTES: "opaque",
    8 << 3 | BYTES: "sparse_tensor", 9 << 3 | BYTES: "optional",
}  # fmt: skip
_EXTERNAL = 1  # TensorProto.DataLocation


class OnnxHeaderError(TrtkitError):
    """The bytes are no ONNX model: what is wrong with them, and at which byte."""


@dataclass(frozen=True, slots=True)
class Tensor:
    r"""An input or output of a graph.

    Attributes:
        name: as in the graph; bytes that are not UTF-8 are written as ``\xff``.
        kind: ``tensor``, or the word for what it is instead (``sequence``, ``map``, ``optional``, ``sparse_tensor``,
            ``opaque``); ``untyped`` where the file does not say, which is allowed for outputs.
        element: ONNX's name of the element type, e.g. ``FLOAT16``; None where `kind` is not ``tensor``.
        data_type: Triton's, e.g. ``TYPE_FP16``; None where Triton has none.
        shape: by dimension a number, the name of a dynamic one, or None for one without a name; None as a whole
            when even the rank is unknown.
    """

    name: str
    kind: str
    element: str | None
    data_type: str | None
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True, slots=True)
class OnnxHeader:
    """What an ONNX file says of its interface.

    Attributes:
        size: bytes of the file.
        ir_version: of the file's format; 0 when it does not say.
        opsets: version by domain; the standard operators' is ``""``.
        inputs: what must be given, in the graph's order.
        initializers: inputs that have a value in the file.
        outputs: in the graph's order.
        external_data: files with weights of the main graph, as the model calls them, from its folder; and how many
            bytes each must have at least (0: not said).
    """

    size: int
    ir_version: int
    opsets: Mapping[str, int]
    inputs: tuple[Tensor, ...]
    initializers: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    external_data: Mapping[str, int]

    @property
    def is_of_tensors(self) -> bool:
        """Whether every input and output is a tensor, as far as the file says."""
        tensors = (*self.inputs, *self.initializers, *self.outputs)
        return all(tensor.kind in ("tensor", "untyped") for tensor in tensors)


def read_header(stream: BinaryIO, size: int) -> OnnxHeader:
    """Read the interface of an ONNX file.

    Args:
        stream: the file; it is read forwards only, with steps over what is not wanted.
        size: bytes of the file.

    Raises:
        OnnxHeaderError: the bytes are cut, damaged, or no ONNX model.
        OSError: the file cannot be read.
    """
    found = _Found()
    wire = Wire(stream, size)
    try:
        for tag, start, end in wire.fields(0, size):
            if tag == _MODEL_GRAPH:
                found.has_graph = True
                _read_graph(wire, start, end, found)
            elif tag == _MODEL_IR_VERSION:
                found.ir_version = signed(start)
            elif tag == _MODEL_OPSET:
                _read_opset(wire, start, end, found)
    except WireError as exc:
        raise OnnxHeaderError(f"it is not an ONNX model: {exc}") from exc
    if not found.has_graph:
        raise OnnxHeaderError(f"it is not an ONNX model: there is no graph up to its end at byte {size}")
    return found.header(size)


@dataclass(slots=True)
class _Found:
    """What has been read so far; a message may come in several parts, which belong together."""

    has_graph: bool = False
    ir_version: int = 0
    opsets: dict[str, int] = field(default_factory=dict)
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    with_value: set[str] = field(default_factory=set)
    external_data: dict[str, int] = field(default_factory=dict)

    def header(self, size: int) -> OnnxHeader:
        return OnnxHeader(
            size=size,
            ir_version=self.ir_version,
            opsets=self.opsets,
            inputs=tuple(tensor for tensor in self.inputs if tensor.name not in self.with_value),
            initializers=tuple(tensor for tensor in self.inputs if tensor.name in self.with_value),
            outputs=tuple(self.outputs),
            external_data=self.external_data,
        )


def _read_opset(wire: Wire, start: int, end: int, found: _Found) -> None:
    domain, version = "", 0
    for tag, first, last in wire.fields(start, end):
        if tag == _FIRST_TEXT:
            domain = wire.text(first, last)
        elif tag == _SECOND_NUMBER:
            version = signed(first)
    found.opsets["" if domain == "ai.onnx" else domain] = version


def _read_graph(wire: Wire, start: int, end: int, found: _Found) -> None:
    for tag, first, last in wire.fields(start, end):
        if tag == _GRAPH_INITIALIZER:
            _read_initializer(wire, first, last, found)
        elif tag == _GRAPH_INPUT:
            found.inputs.append(_read_tensor(wire, first, last))
        elif tag == _GRAPH_OUTPUT:
            found.outputs.append(_read_tensor(wire, first, last))
        elif tag == _GRAPH_SPARSE_INITIALIZER:
            for part, values, values_end in wire.fields(first, last):
                if part == _SPARSE_VALUES:  # whose name is that of the whole
                    _read_initializer(wire, values, values_end, found)


def _read_initializer(wire: Wire, start: int, end: int, found: _Found) -> None:
    external: dict[str, str] = {}
    is_external, name = False, ""
    for tag, first, last in wire.fields(start, end):
        if tag == _TENSOR_NAME:
            name = wire.text(first, last)
        elif tag == _TENSOR_EXTERNAL:
            key, value = _read_entry(wire, first, last)
            external[key] = value
        elif tag == _TENSOR_LOCATION:
            is_external = first == _EXTERNAL
    found.with_value.add(name)
    if is_external and "location" in external:
        location = external["location"]
        needed = _number(external.get("offset")) + _number(external.get("length"))
        found.external_data[location] = max(needed, found.external_data.get(location, 0))


def _read_entry(wire: Wire, start: int, end: int) -> tuple[str, str]:
    key = value = ""
    for tag, first, last in wire.fields(start, end):
        if tag == _FIRST_TEXT:
            key = wire.text(first, last)
        elif tag == _SECOND_TEXT:
            value = wire.text(first, last)
    return key, value


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 20 else 0


@dataclass(slots=True)
class _Type:
    """The type of a tensor as far as it has been read."""

    kind: str = "untyped"
    element: int = 0
    shape: list[int | str | None] | None = None


def _read_tensor(wire: Wire, start: int, end: int) -> Tensor:
    name = ""
    found = _Type()
    for tag, first, last in wire.fields(start, end):
        if tag == _INFO_NAME:
            name = wire.text(first, last)
        elif tag == _INFO_TYPE:
            _read_type(wire, first, last, found)
    shape = None if found.shape is None else tuple(found.shape)
    if found.kind != "tensor":
        return Tensor(name, found.kind, None, None, None)
    if not found.element:
        return Tensor(name, "untyped", None, None, shape)
    known = found.element < len(ELEMENT_TYPES)
    dtype = by_onnx(found.element)
    element = ELEMENT_TYPES[found.element] if known else f"TYPE {found.element}"
    return Tensor(name, "tensor", element, dtype.triton if dtype else None, shape)


def _read_type(wire: Wire, start: int, end: int, found: _Type) -> None:
    for tag, first, last in wire.fields(start, end):
        kind = _KINDS.get(tag)
        if kind is not None and kind != found.kind:  # of several kinds the last one holds
            found.kind, found.element, found.shape = kind, 0, None
        if kind == "tensor":
            _read_tensor_type(wire, first, last, found)


def _read_tensor_type(wire: Wire, start: int, end: int, found: _Type) -> None:
    for tag, first, last in wire.fields(start, end):
        if tag == _TYPE_ELEMENT:
            found.element = first & 0xFFFFFFFF
        elif tag == _TYPE_SHAPE:
            found.shape = found.shape or []
            for part, dim, dim_end in wire.fields(first, last):
                if part == _SHAPE_DIM:
                    found.shape.append(_read_dimension(wire, dim, dim_end))


def _read_dimension(wire: Wire, start: int, end: int) -> int | str | None:
    dimension: int | str | None = None
    for tag, first, last in wire.fields(start, end):
        if tag == _FIRST_NUMBER:
            value = signed(first)
            dimension = value if value >= 0 else None
        elif tag == _SECOND_TEXT:
            dimension = wire.text(first, last) or None
    return dimension
