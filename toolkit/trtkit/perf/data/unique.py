# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Distinct requests in any number from a few, for servers whose response cache would answer repeated ones.

Each made request carries its number, written where it changes least. The first of these that has room:

1. floats: the lowest bits of the mantissa, of as many elements as it takes to keep the bits few (an element that is
   zero becomes a tiny normal number first, an infinite one the largest; at most half of the mantissa is used);
2. BYTES: spaces, tabs and line ends after the first text, which decoders of JSON and images, and most tokenizers,
   ignore;
3. integers and booleans: elements from the end, with values that the input has somewhere in the pool (no id leaves
   the range of the user's own).

Two made requests with equal shapes have different numbers in the same places, so they differ whatever they were
made of; requests with other shapes, or without the same inputs, differ anyway.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trtkit.errors import DataError
from trtkit.numerics import Array
from trtkit.perf.data.pool import Pool, Request, one_stream

UNIQUE_BYTES = 2 * 2**30
_BLANKS = (b" ", b"\t", b"\n", b"\r")
# half of the mantissa, and the tiny number in place of a zero: a normal one, whose mantissa is all zeros
_FLOATS = {"FP16": (5, 2.0**-14), "BF16": (3, 2.0**-20), "FP32": (11, 2.0**-20), "FP64": (26, 2.0**-20)}

Write = Callable[[dict[str, Array], int], None]
"""Writes a number into the inputs of a request; replaces arrays, never changes them."""


def distinct(pool: Pool) -> int:
    """How many different requests a pool has; equal shapes and bytes are equal requests."""
    return len({_key(request) for request in pool.requests})


def fitting(pool: Pool, limit_bytes: int = UNIQUE_BYTES) -> int:
    """How many requests of a pool's mean size fit into memory.

    Args:
        pool: the requests.
        limit_bytes: what all inputs together may take.
    """
    return max(1, limit_bytes * len(pool) // max(1, pool.byte_size))


def uniquely(
    pool: Pool, count: int, datatypes: Mapping[str, str], *, limit_bytes: int = UNIQUE_BYTES, offset: int = 0
) -> Pool:
    """At least `count` requests no two of which are equal; the pool itself when it has them already.

    What is made has no `expected` answer: its inputs are not those of the answer any more.

    Args:
        pool: requests that may be equal to each other, taken in turn.
        count: how many are needed.
        datatypes: KServe v2 data types of the inputs by name; they tell BF16 from UINT16.
        limit_bytes: what all inputs together may take.
        offset: of the numbers that are written; processes that share a load need different ones, `count` apart.

    Raises:
        DataError: they would need more memory than the limit, or the inputs have no room for so many numbers.
    """
    if offset == 0 and len(pool) >= count and distinct(pool) == len(pool):
        return pool
    most = fitting(pool, limit_bytes)
    if count > most:
        raise DataError(
            f"{count} different requests would take {count * pool.byte_size // len(pool) / 2**30:.1f} GiB; "
            f"{most} fit in {limit_bytes / 2**30:g} GiB: measure for a shorter time, or with fewer requests"
        )
    writers = _writers(pool, offset + count, datatypes)
    made = [_numbered(pool.requests[index % len(pool)], offset + index, writers) for index in range(count)]
    if len(pool.streams) == 1:
        return one_stream(made, f"{pool.origin}, made different")
    streams = _streams(pool, count)
    return Pool(tuple(made), streams, f"{pool.origin}, made different")


def _streams(pool: Pool, count: int) -> tuple[tuple[int, ...], ...]:
    """The streams once for each time that the whole pool was taken."""
    size = len(pool)
    shifted = [tuple(start + index for index in stream) for start in range(0, count, size) for stream in pool.streams]
    cut = [tuple(index for index in stream if index < count) for stream in shifted]
    return tuple(stream for stream in cut if stream)


def _numbered(request: Request, number: int, writers: Mapping[Any, Write]) -> Request:
    inputs = dict(request.inputs)
    writers[_form(request)](inputs, number)
    return replace(request, inputs=inputs, expected=None)


def _form(request: Request) -> tuple[Any, ...]:
    """Requests of one form have their numbers in the same places."""
    return (request.model, request.version, *sorted((name, array.shape) for name, array in request.inputs.items()))


def is_cached(config: Mapping[str, Any]) -> bool:
    """Whether a model's configuration lets the server answer repeated requests from its response cache."""
    return bool(config.get("response_cache", {}).get("enable", False))


def _key(request: Request) -> tuple[Any, ...]:
    values = [
        tuple(array.ravel().tolist())
        if array.dtype.kind == "O"
        else hashlib.blake2b(np.ascontiguousarray(array).tobytes()).digest()
        for _, array in sorted(request.inputs.items())
    ]
    return (_form(request), tuple(values), tuple(sorted(request.parameters.items())))


def _writers(pool: Pool, numbers: int, datatypes: Mapping[str, str]) -> dict[Any, Write]:
    """How to write a number below `numbers` into the requests of each form."""
    ranges = _ranges(pool)
    writers: dict[Any, Write] = {}
    for request in pool.requests:
        if _form(request) not in writers:
            writers[_form(request)] = _writer(request, numbers, datatypes, ranges)
    return writers


def _writer(
    request: Request, numbers: int, datatypes: Mapping[str, str], ranges: Mapping[str, tuple[int, int]]
) -> Write:
    kinds = {name: _float_type(array, datatypes.get(name, "")) for name, array in request.inputs.items()}
    floats = [_FloatRoom(name, kind) for name, kind in kinds.items() if kind]
    for room in sorted(floats, key=lambda room: request.inputs[room.name].size, reverse=True):
        if room.fit(request.inputs[room.name].size, numbers):
            return room.write
    texts = [name for name, array in request.inputs.items() if array.dtype.kind == "O" and array.size]
    if texts:
        return _TextRoom(texts[0], numbers).write
    whole = _WholeRoom({n: ranges[n] for n in ranges if n in request.inputs and n not in {r.name for r in floats}})
    if whole.fit(request, numbers):
        return whole.write
    raise DataError(
        f"{numbers} different requests cannot be made from the data of model '{request.model}': its inputs have room "
        f"for {whole.room(request)}; give more samples, a wider --range, or a shorter measurement"
    )


def _float_type(array: Array, datatype: str) -> str:
    """``FP16``, ``BF16``, ``FP32`` or ``FP64``; empty for anything else."""
    if array.dtype.kind == "f":
        return f"FP{8 * array.itemsize}"
    return "BF16" if datatype == "BF16" and array.dtype == np.uint16 else ""


def _ranges(pool: Pool) -> dict[str, tuple[int, int]]:
    """The smallest and the largest value of each input of whole numbers."""
    found: dict[str, tuple[int, int]] = {}
    for request in pool.requests:
        for name, array in request.inputs.items():
            if array.dtype.kind in "biu" and array.size:
                low, high = int(array.min()), int(array.max())
                known = found.get(name, (low, high))
                found[name] = (min(low, known[0]), max(high, known[1]))
    return found


@dataclass
class _FloatRoom:
    """The lowest bits of the first elements of a float input."""

    name: str
    datatype: str
    bits: int = 0
    elements: int = 0

    def fit(self, size: int, numbers: int) -> bool:
        needed = max(1, (numbers - 1).bit_length())
        most, _ = _FLOATS[self.datatype]
        self.bits = -(-needed // size) if size else most + 1
        self.elements = -(-needed // max(1, self.bits))
        return self.bits <= most

    def write(self, inputs: dict[str, Array], number: int) -> None:
        array = np.array(inputs[self.name], order="C")
        whole: Any = np.dtype(f"uint{8 * array.itemsize}")
        flat = array.reshape(-1)[: self.elements]
        words = flat.view(whole)
        if self.datatype == "BF16":
            words[(words & 0x7FFF) == 0] = np.float32(_FLOATS["BF16"][1]).view(np.uint32) >> 16
            words[(words & 0x7FFF) == 0x7F80] -= 1
        else:
            flat[flat == 0] = _FLOATS[self.datatype][1]
            flat[np.isposinf(flat)], flat[np.isneginf(flat)] = np.finfo(flat.dtype).max, np.finfo(flat.dtype).min
        mask = (1 << self.bits) - 1
        digits = [(number >> (self.bits * place)) & mask for place in range(self.elements)]
        words &= whole.type(~np.array(mask, dtype=whole))
        words |= np.array(digits, dtype=whole)
        inputs[self.name] = array


class _TextRoom:
    """Blanks after the first text of a BYTES input, as many for every number."""

    def __init__(self, name: str, numbers: int) -> None:
        self._name = name
        self._width = max(1, -(-(numbers - 1).bit_length() // 2))

    def write(self, inputs: dict[str, Array], number: int) -> None:
        array = np.array(inputs[self._name])
        blanks = b"".join(_BLANKS[(number >> (2 * place)) & 3] for place in range(self._width))
        array.reshape(-1)[0] = array.reshape(-1)[0] + blanks
        inputs[self._name] = array


class _WholeRoom:
    """Elements from the end of the inputs of whole numbers, within the values these have."""

    def __init__(self, ranges: Mapping[str, tuple[int, int]]) -> None:
        wide = {name: bounds for name, bounds in ranges.items() if bounds[1] > bounds[0]}
        self._ranges = dict(sorted(wide.items(), key=lambda item: item[1][0] - item[1][1]))
        self._elements: dict[str, int] = {}

    def room(self, request: Request) -> int:
        """How many different numbers fit."""
        return math.prod((high - low + 1) ** request.inputs[n].size for n, (low, high) in self._ranges.items())

    def fit(self, request: Request, numbers: int) -> bool:
        left = numbers
        for name, (low, high) in self._ranges.items():
            size, radix = request.inputs[name].size, high - low + 1
            used = 0
            while left > 1 and used < size:
                left, used = -(-left // radix), used + 1
            self._elements[name] = used
        return left <= 1

    def write(self, inputs: dict[str, Array], number: int) -> None:
        for name, used in self._elements.items():
            if not used:
                continue
            array = np.array(inputs[name], order="C")
            low, high = self._ranges[name]
            flat = array.reshape(-1)
            for place in range(1, used + 1):
                number, digit = divmod(number, high - low + 1)
                flat[-place] = low + digit
            inputs[name] = array
