# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Tensors in the two forms of the KServe v2 protocol: binary, and JSON."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trtkit.dtypes import DType, by_name
from trtkit.errors import DataError, nearest
from trtkit.numerics import Array

# the server refuses them in both directions: JSON has numbers of one kind, and these have no text form there
NOT_IN_JSON = ("FP16", "BF16")


def tensor_bytes(array: Array) -> bytes:
    """A tensor in the binary form: little endian, row-major.

    Each element of a BYTES tensor (`object` elements) is preceded by its length in four bytes.
    """
    if array.dtype.kind == "O":
        return b"".join(struct.pack("<I", len(item)) + item for item in array.ravel().tolist())
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()


def tensor_from_bytes(data: bytes, datatype: str, shape: Sequence[int]) -> Array:
    """The inverse of `tensor_bytes`.

    Args:
        data: exactly the tensor; for BYTES something else may follow, as in an area of shared memory.
        datatype: the KServe v2 name.
        shape: the full shape.

    Returns:
        A read-only array; BYTES as an `object` array of ``bytes``, BF16 as uint16 bit patterns.

    Raises:
        DataError: an unknown type, or another number of bytes than the shape needs.
    """
    dtype, count = by_name(datatype), math.prod(shape)
    if dtype.name == "BYTES":
        return _object_array(_strings(data, count), shape)
    if len(data) != count * dtype.byte_size:
        raise DataError(
            f"a {datatype} tensor of shape {list(shape)} has {len(data)} bytes and needs {count * dtype.byte_size}"
        )
    return np.frombuffer(data, dtype=np.dtype(dtype.numpy).newbyteorder("<")).reshape(tuple(shape))


def _strings(data: bytes, count: int) -> list[bytes]:
    strings, at = [], 0
    for number in range(count):
        size = int.from_bytes(data[at : at + 4], "little")
        if len(data) < at + 4 + size:
            raise DataError(f"a BYTES tensor of {count} elements is cut short in element {number}")
        strings.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return strings


def _object_array(items: Sequence[bytes], shape: Sequence[int]) -> Array:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(tuple(shape))


def datatype_of(name: str, datatypes: Mapping[str, str]) -> str:
    """The data type of an input; DataError when the model has no such input."""
    if name not in datatypes:
        raise DataError(f"data are given for '{name}', which is no input of the model; {nearest(name, datatypes)}")
    return datatypes[name]


def byte_size(datatype: str, shape: Sequence[int]) -> int | None:
    """Bytes of a tensor in the binary form; None for BYTES, whose elements differ in size."""
    dtype = by_name(datatype)
    return math.prod(shape) * dtype.byte_size if dtype.byte_size else None


def tensor_values(name: str, array: Array, datatype: str) -> list[Any]:
    """The elements in the JSON form, flat and row-major.

    Args:
        name: the input's, for the error.
        array: in the type of `datatype`.
        datatype: the KServe v2 name.

    Raises:
        DataError: JSON cannot carry it: FP16 and BF16, and BYTES that are not UTF-8.
    """
    if datatype in NOT_IN_JSON:
        raise DataError(
            f"input '{name}' is {datatype}, and JSON carries neither FP16, BF16, nor BYTES that are not UTF-8; "
            "send it as binary"
        )
    values: list[Any] = array.ravel().tolist()
    if datatype != "BYTES":
        return values
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError as exc:
        raise DataError(
            f"input '{name}' has BYTES that are not UTF-8 ({exc.object[:16]!r}), which JSON cannot carry; "
            "send it as binary"
        ) from exc


def tensor_from_values(values: Any, datatype: str, shape: Sequence[int]) -> Array:
    """The inverse of `tensor_values`; takes nested lists too.

    BYTES were decoded with ``surrogateescape``, because the server puts bytes that are not UTF-8 into its JSON.

    Raises:
        DataError: an unknown type, or elements that do not fit type or shape.
    """
    dtype = by_name(datatype)
    try:
        if dtype.name == "BYTES":
            items = [value.encode("utf-8", "surrogateescape") for value in _flat(values)]
            return _object_array(items, shape)
        return _numbers(values, dtype).reshape(tuple(shape))
    except (AttributeError, OverflowError, TypeError, ValueError) as exc:
        raise DataError(f"the answer has a {datatype} tensor of shape {list(shape)} with other data: {exc}") from exc


def _numbers(values: Any, dtype: DType) -> Array:
    if dtype.name in NOT_IN_JSON:
        raise DataError(f"the answer has a {dtype.name} tensor as JSON, which has no form for it")
    return np.array(values, dtype=dtype.numpy)


def _flat(values: Any) -> list[Any]:
    if not isinstance(values, list):
        return [values]
    return [item for value in values for item in _flat(value)]
