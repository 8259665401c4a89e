# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs with tensors that ONNX Runtime's Python API has no numpy arrays for: BF16, and strings that are not UTF-8.

Such tensors go in and out as OrtValues. BF16 elements are uint16 here, strings are bytes objects.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import OrtDevice, OrtValue
from trtkit_ort_config import Graph

# TensorProto.DataType
_STRING, _BFLOAT16 = 8, 16
# std::string of libstdc++: a pointer, a length, and 16 bytes more
_STRING_BYTES = 32


class StringsError(Exception):
    """A string that is not UTF-8 cannot be read out of this build of ONNX Runtime."""


def run_exactly(
    session: ort.InferenceSession, graph: Graph, names: Sequence[str], feed: Mapping[str, np.ndarray], options: Any
) -> list[np.ndarray]:
    """What ``session.run`` does, with strings of any encoding and BF16.

    Args:
        session: of the graph.
        graph: the interface of the session.
        names: of the outputs to give.
        feed: the inputs; bytes objects for strings, uint16 for BF16.
        options: RunOptions, or None.

    Returns:
        The outputs in the order of their names; bytes objects for strings, uint16 for BF16.

    Raises:
        StringsError: an output has strings, and this build of ONNX Runtime keeps them in an unknown way.
    """
    known = {**graph.inputs, **graph.initializers}
    values = {name: _to_value(array, known[name].element) for name, array in feed.items()}
    found = session._sess.run_with_ort_values(values, list(names), options)
    return [_from_value(value, graph.outputs[name].element) for name, value in zip(names, found, strict=True)]


def bfloat16_of(capsule: Any) -> np.ndarray:
    """The elements of a DLPack capsule of BF16, as uint16; a copy."""
    value = OrtValue.from_dlpack(capsule, False)  # which lives as long as it
    return _elements(value).copy()


def bfloat16_capsule(elements: np.ndarray) -> Any:
    """A DLPack capsule of BF16 that owns its memory, of uint16 elements."""
    value = OrtValue.ortvalue_from_shape_and_onnx_type(list(elements.shape), _BFLOAT16, _cpu())
    _elements(value)[...] = elements
    return value.to_dlpack()


def _to_value(array: np.ndarray, element: str) -> OrtValue:
    if element == "string":
        return _string_value(array)
    if element == "bfloat16":
        value = OrtValue.ortvalue_from_shape_and_onnx_type(list(array.shape), _BFLOAT16, _cpu())
        _elements(value)[...] = array
        return value
    return OrtValue.ortvalue_from_numpy(np.asarray(array, order="C"), _cpu())


def _from_value(value: OrtValue, element: str) -> np.ndarray:
    if element == "string":
        return _strings_of(value)
    return _elements(value).copy() if element == "bfloat16" else value.numpy()


def _cpu() -> OrtDevice:
    return OrtDevice(OrtDevice.cpu(), OrtDevice.default_memory(), 0)


def _elements(value: OrtValue) -> np.ndarray:
    """The memory of a BF16 tensor, as uint16."""
    shape = value.shape()
    count = math.prod(shape)
    memory = (ctypes.c_uint16 * count).from_address(value.data_ptr()) if count else (ctypes.c_uint16 * 0)()
    return np.frombuffer(memory, dtype=np.uint16).reshape(shape)


def _string_value(array: np.ndarray) -> OrtValue:
    """A tensor of strings of any bytes: the output of a graph that is one constant, for there is no other way in."""
    session = ort.InferenceSession(_constant_model(array), providers=["CPUExecutionProvider"])
    return session._sess.run_with_ort_values({}, ["y"], None)[0]


def _strings_of(value: OrtValue) -> np.ndarray:
    if not _layout_is_known():
        raise StringsError("an output string is not UTF-8, and this build of onnxruntime gives no other")
    return _read_strings(value)


def _read_strings(value: OrtValue) -> np.ndarray:
    shape = value.shape()
    strings = np.empty(math.prod(shape), dtype=np.object_)
    for index in range(len(strings)):
        pointer, length = (ctypes.c_size_t * 2).from_address(value.data_ptr() + _STRING_BYTES * index)
        strings[index] = ctypes.string_at(pointer, length)
    return strings.reshape(shape)


@cache
def _layout_is_known() -> bool:
    """Whether strings lie in memory as libstdc++ has them: those of the inside of a string, and those outside."""
    expected = np.array([b"\xff\x00short", b"", b"longer than what fits into a string itself"], dtype=np.object_)
    value = _string_value(expected)
    first, length = (ctypes.c_size_t * 2).from_address(value.data_ptr())
    # a short string's pointer leads into the string itself: elsewhere it could lead anywhere
    if first != value.data_ptr() + 16 or length != len(expected[0]):
        return False
    return bool((_read_strings(value) == expected).all())


def _constant_model(array: np.ndarray) -> bytes:
    """An ONNX model in protobuf's wire format whose output ``y`` is the constant; IR version 8, opset 13."""
    dims = b"".join(_number(1, size) for size in array.shape)
    strings = b"".join(_field(6, item) for item in array.ravel())
    tensor = dims + _number(2, _STRING) + strings
    attribute = _field(1, b"value") + _field(5, tensor) + _number(20, 4)  # AttributeProto.TENSOR
    node = _field(2, b"y") + _field(4, b"Constant") + _field(5, attribute)
    output = _field(1, b"y") + _field(2, _field(1, _number(1, _STRING)))
    graph = _field(1, node) + _field(2, b"strings") + _field(12, output)
    return _number(1, 8) + _field(7, graph) + _field(8, _number(2, 13))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _field(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    pieces = bytearray()
    while value > 0x7F:
        pieces.append(value & 0x7F | 0x80)
        value >>= 7
    pieces.append(value)
    return bytes(pieces)


def needs_exact_runs(tensors: Iterable[Any]) -> bool:
    """Whether a graph's inputs or outputs have a type that no numpy array has."""
    return any(tensor.element == "bfloat16" for tensor in tensors)
