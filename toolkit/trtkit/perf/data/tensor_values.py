# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""One tensor from what a JSON file says of it, or from its binary form."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from trtkit.errors import DataError
from trtkit.numerics import Array
from trtkit.perf.data.shapes import fitted
from trtkit.samples import convert, one_line
from trtkit.signature import TensorSpec


def tensor(where: str, given: Any, spec: TensorSpec, batch_axes: int, sizes: Sequence[int] | None = None) -> Array:
    """One tensor of a step, of one sample, in the model's data type.

    Args:
        where: the place, for errors.
        given: a list of values, ``{"b64": …}`` or ``{"content": …, "shape": …}``.
        spec: the tensor, full shape.
        batch_axes: 1 when axis 0 of `spec` is the batch, else 0.
        sizes: the shape without the batch axis, where `given` has none.

    Raises:
        DataError: another form, or values that do not fit.
    """
    content = given
    if isinstance(given, dict):
        if "shape" in given:
            sizes = fitted(spec, batch_axes, _given_shape(where, given["shape"]))
        content = given if "b64" in given else given.get("content")
    if isinstance(content, list):
        flat, nesting = _values(where, content, spec)
    elif isinstance(content, dict) and isinstance(content.get("b64"), str):
        flat = from_raw(where, _from_base64(where, content["b64"]), spec)
        nesting = flat.shape
    else:
        raise DataError(f'{where}: expected a list of values, {{"b64": TEXT}}, or {{"content": either, "shape": […]}}')
    own = isinstance(given, dict) and "shape" in given
    if len(nesting) > 1 and not own:
        sizes = None  # nested lists have a shape themselves
    shape = _shape(where, spec, batch_axes, sizes, flat.size, nesting)
    if math.prod(shape) != flat.size:
        raise DataError(f"{where}: {flat.size} values for the shape {shape}, which has {math.prod(shape)}")
    return flat.reshape(shape)


def _given_shape(where: str, shape: Any) -> list[int]:
    if not isinstance(shape, list) or not all(type(size) is int and size >= 1 for size in shape):
        raise DataError(f"{where}: shape {shape!r:.80} needs a list of whole numbers of 1 or more")
    return shape


def _shape(
    where: str, spec: TensorSpec, batch_axes: int, sizes: Sequence[int] | None, count: int, nesting: tuple[int, ...]
) -> list[int]:
    if sizes is not None:
        return list(sizes)
    dims = list(spec.dims[batch_axes:])
    if len(nesting) == len(dims) and all(dim in (-1, size) for dim, size in zip(dims, nesting, strict=True)):
        return list(nesting)
    fixed = math.prod(dim for dim in dims if dim >= 0)
    if dims.count(-1) == 1 and fixed and count % fixed == 0:
        return [count // fixed if dim < 0 else dim for dim in dims]
    if -1 in dims:
        raise DataError(
            f'{where}: {spec} has dynamic dimensions; give {{"content": […], "shape": […]}}, '
            f"or --shape {spec.name}:SIZE,…"
        )
    return dims


def _values(where: str, values: list[Any], spec: TensorSpec) -> tuple[Array, tuple[int, ...]]:
    kind: Any = np.dtype(spec.dtype.numpy)
    is_whole = kind.kind in "iu" and not spec.dtype.is_float
    try:
        # numpy makes floats of integers that need 64 bits without a sign beside others
        array = np.array(values, dtype=object if is_whole or kind.kind == "O" else None)
    except (ValueError, OverflowError) as exc:
        raise DataError(f"{where}: the values are ragged, or no numbers: {one_line(exc)}") from exc
    if array.size == 0:
        return np.empty(0, dtype=kind), array.shape
    if is_whole:
        return _whole(where, array, spec, kind).ravel(), array.shape
    return convert(array, spec.dtype, f"{where}: the values").ravel(), array.shape


def _whole(where: str, array: Array, spec: TensorSpec, kind: Any) -> Array:
    items = array.ravel().tolist()
    if not all(isinstance(item, int) for item in items):
        other = next(item for item in items if not isinstance(item, int))
        if isinstance(other, list):
            raise DataError(f"{where}: the values are ragged; every row needs the same length")
        raise DataError(f"{where}: the values have {other!r:.40}; {spec.dtype.name} is needed")
    bounds = np.iinfo(kind)
    if min(items) < bounds.min or max(items) > bounds.max:
        raise DataError(f"{where}: the values have some outside {spec.dtype.name}")
    return array.astype(kind)


def _from_base64(where: str, text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise DataError(f"{where}: b64 is no base64: {one_line(exc)}") from exc


def from_raw(where: str, raw: bytes, spec: TensorSpec) -> Array:
    """A flat array from a tensor's binary form: little endian, BYTES elements with four bytes of length each.

    Raises:
        DataError: the bytes are no whole number of elements.
    """
    if spec.dtype.name == "BYTES":
        return _raw_texts(where, raw)
    if len(raw) % spec.dtype.byte_size:
        raise DataError(f"{where}: {len(raw)} bytes are no whole number of {spec.dtype.name} elements")
    kind: Any = np.dtype(spec.dtype.numpy)
    return np.frombuffer(raw, dtype=kind.newbyteorder("<")).astype(kind)


def _raw_texts(where: str, raw: bytes) -> Array:
    texts: list[bytes] = []
    at = 0
    while at < len(raw):
        size = struct.unpack_from("<I", raw, at)[0] if at + 4 <= len(raw) else len(raw)
        at += 4 + size
        if at > len(raw):
            raise DataError(
                f"{where}: BYTES need four bytes of length before each element; element {len(texts)} has none"
            )
        texts.append(raw[at - size : at])
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array
