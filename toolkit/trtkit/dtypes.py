# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The tensor data types, once, with the name each of our neighbours gives them.

Triton's names are those of ``model_config.proto`` (``TYPE_FP32``) without the prefix, which are also the
names of the KServe v2 protocol, except that ``TYPE_STRING`` is ``BYTES`` there. ONNX's codes are those of
``TensorProto.DataType``. This file imports nothing heavy: numpy's types are given by name.
"""

from __future__ import annotations

from dataclasses import dataclass

from trtkit.errors import DataError, nearest


@dataclass(frozen=True, slots=True)
class DType:
    """One tensor data type.

    Attributes:
        name: the KServe v2 name, e.g. ``FP32``, ``BYTES``.
        onnx: the code in ``onnx.TensorProto.DataType``.
        numpy: numpy's name; ``object`` for BYTES (``bytes`` elements), ``uint16`` as the storage of BF16.
        byte_size: bytes of one element; 0 when elements differ in size (BYTES).
        is_float: whether errors are measured (True) or elements are compared exactly (False).
    """

    name: str
    onnx: int
    numpy: str
    byte_size: int
    is_float: bool = False

    @property
    def triton(self) -> str:
        """The name in config.pbtxt, e.g. ``TYPE_FP32``; ``TYPE_STRING`` for BYTES."""
        return "TYPE_STRING" if self.name == "BYTES" else f"TYPE_{self.name}"


DTYPES = (
    DType("BOOL", 9, "bool", 1),
    DType("UINT8", 2, "uint8", 1),
    DType("UINT16", 4, "uint16", 2),
    DType("UINT32", 12, "uint32", 4),
    DType("UINT64", 13, "uint64", 8),
    DType("INT8", 3, "int8", 1),
    DType("INT16", 5, "int16", 2),
    DType("INT32", 6, "int32", 4),
    DType("INT64", 7, "int64", 8),
    DType("FP16", 10, "float16", 2, is_float=True),
    DType("BF16", 16, "uint16", 2, is_float=True),
    DType("FP32", 1, "float32", 4, is_float=True),
    DType("FP64", 11, "float64", 8, is_float=True),
    DType("BYTES", 8, "object", 0),
)

_BY_NAME = {name: dtype for dtype in DTYPES for name in (dtype.name, dtype.triton)}
_BY_ONNX = {dtype.onnx: dtype for dtype in DTYPES}
_BY_NUMPY = {dtype.numpy: dtype for dtype in DTYPES if dtype.name != "BF16"}


def by_name(name: str) -> DType:
    """The type with this KServe v2 or config.pbtxt name; DataError for an unknown one."""
    try:
        return _BY_NAME[name]
    except KeyError as exc:
        raise DataError(f"data type '{name}' is not one Triton knows; {nearest(name, _BY_NAME)}") from exc


def by_onnx(code: int) -> DType | None:
    """The type with this ``TensorProto.DataType`` code; None where Triton has no such tensor type."""
    return _BY_ONNX.get(code)


def by_numpy(name: str) -> DType:
    """The type of a numpy dtype's name (``str`` and ``bytes`` kinds are BYTES); DataError otherwise."""
    if name.startswith(("str", "bytes", "<U", "|S")):
        return _BY_NUMPY["object"]
    try:
        return _BY_NUMPY[name]
    except KeyError as exc:
        raise DataError(f"numpy data type '{name}' has no Triton type; {nearest(name, _BY_NUMPY)}") from exc
