# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Requests made of nothing: random values by data type, shape and range, and zeros."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from trtkit.errors import DataError, nearest
from trtkit.numerics import Array
from trtkit.perf.data.pool import Pool, Request, array_bytes, one_stream
from trtkit.perf.data.shapes import Shapes
from trtkit.perf.data.workload import check_batch_size, input_specs, max_batch_size, random_values, required_inputs
from trtkit.samples import convert
from trtkit.signature import TensorSpec

if TYPE_CHECKING:
    from trtkit.perf.server.control import ModelDescription

Range = tuple[float, float]
_MOST_DISTINCT = 64
_POOL_BYTES = 256 * 2**20
_NUMBER = r"[-+]?[0-9.]{1,40}(?:e[-+]?[0-9]{1,3})?"
_RANGE = re.compile(rf"(?P<low>{_NUMBER}),(?P<high>{_NUMBER})", re.IGNORECASE)


@dataclass(frozen=True)
class Values:
    """What random values are.

    Attributes:
        ranges: the smallest and the largest value by input; floats are uniform between them, integers include both.
            Without a range floats are standard normal and integers 0 or 1, because an id outside the table of an
            embedding makes a model fail.
        string_length: bytes of each BYTES element, 0 or more.
        string: every BYTES element, instead of a random one.
    """

    ranges: Mapping[str, Range] = field(default_factory=dict)
    string_length: int = 16
    string: bytes | None = None


def parse_range(text: str) -> tuple[str, Range]:
    """``NAME:low,high`` as the name and the bounds.

    Raises:
        DataError: another form, or a low above the high.
    """
    name, _, bounds = text.rpartition(":")
    found = _RANGE.fullmatch(bounds.replace(" ", ""))
    low, high = (_number(found["low"]), _number(found["high"])) if found and name else (math.nan, math.nan)
    if not low <= high or math.isinf(low) or math.isinf(high):
        raise DataError(f"range '{text}' is not understood; give NAME:LOW,HIGH as in ids:0,30521")
    return name, (low, high)


def _number(text: str) -> float:
    """Whole numbers as they are, because a 64-bit integer need not be a float; NaN for what is none."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return math.nan


def random_pool(
    description: ModelDescription,
    *,
    batch_size: int = 1,
    shapes: Shapes | None = None,
    values: Values | None = None,
    count: int | None = None,
    seed: int = 0,
) -> Pool:
    """Random requests that differ from each other; each draws its own shape.

    Optional inputs are left out unless a shape or a range names them.

    Args:
        description: what the server says about the model.
        batch_size: samples in one request.
        shapes: sizes of dynamic axes; they may be distributions.
        values: ranges, and the lengths of texts.
        count: how many to make; None for 64, and fewer (never below 8) where they would be more than 256 MiB.
        seed: equal seeds give equal requests.

    Raises:
        DataError: a dynamic dimension without a size, or a shape or range that does not fit.
        ProjectError: a batch size the model does not take.
    """
    values = values or Values()
    specs = input_specs(description.metadata)
    _check_ranges(values.ranges, specs)
    draw = _Drawer(description, batch_size, shapes or Shapes(), values.ranges, seed)

    def one() -> dict[str, Array]:
        return {name: _random(draw.rng, specs[name], sizes, values) for name, sizes in draw().items()}

    made = [one()]
    if count is None:
        bytes_each = max(1, sum(map(array_bytes, made[0].values())))
        count = min(_MOST_DISTINCT, max(8, _POOL_BYTES // bytes_each))
    made += [one() for _ in range(count - 1)]
    return _pool(description, made, "random values")


def zero_pool(
    description: ModelDescription, *, batch_size: int = 1, shapes: Shapes | None = None, string: bytes = b""
) -> Pool:
    """Zeros; 64 requests where the shapes are drawn, else one.

    Args:
        description: what the server says about the model.
        batch_size: samples in one request.
        shapes: sizes of dynamic axes.
        string: every BYTES element.

    Raises:
        DataError: a dynamic dimension without a size, or a shape that does not fit.
        ProjectError: a batch size the model does not take.
    """
    shapes = shapes or Shapes()
    specs = input_specs(description.metadata)
    draw = _Drawer(description, batch_size, shapes, {}, 0)
    drawn = [draw() for _ in range(1 if shapes.is_fixed else _MOST_DISTINCT)]
    made = [{name: _zeros(specs[name], sizes, string) for name, sizes in row.items()} for row in drawn]
    return _pool(description, made, "zeros")


class _Drawer:
    """The full shapes of one request after the other."""

    def __init__(
        self, description: ModelDescription, batch_size: int, shapes: Shapes, ranges: Mapping[str, Range], seed: int
    ) -> None:
        metadata, config = description
        check_batch_size(metadata, config, batch_size)
        self._batch = [batch_size] if max_batch_size(config) else []
        self._specs = input_specs(metadata)
        wanted = {*shapes.names, *ranges, *required_inputs(metadata, config)}
        self._names = [name for name in self._specs if name in wanted]
        self._shapes = shapes
        self.rng = np.random.default_rng(seed)

    def __call__(self) -> dict[str, list[int]]:
        drawn = self._shapes.draw(self.rng, self._specs, len(self._batch), self._names)
        return {name: self._batch + sizes for name, sizes in drawn.items()}


def _pool(description: ModelDescription, made: list[dict[str, Array]], origin: str) -> Pool:
    model = str(description.metadata.get("name", ""))
    return one_stream([Request(model, "", inputs) for inputs in made], origin)


def _check_ranges(ranges: Mapping[str, Range], specs: Mapping[str, TensorSpec]) -> None:
    for name, (low, high) in ranges.items():
        if name not in specs:
            raise DataError(f"a range is given for '{name}', which is no input of the model; {nearest(name, specs)}")
        dtype = specs[name].dtype
        if dtype.name in ("BYTES", "BOOL"):
            raise DataError(f"a range is given for input {specs[name]}; only numbers have one")
        if dtype.is_float:
            continue
        bounds = np.iinfo(np.dtype(dtype.numpy))
        whole = low == int(low) and high == int(high)
        if not whole or low < bounds.min or high > bounds.max:
            raise DataError(f"range {low:g},{high:g} for input {specs[name]} is not of whole numbers of {dtype.name}")


def _random(rng: np.random.Generator, spec: TensorSpec, shape: list[int], values: Values) -> Array:
    if spec.dtype.name == "BYTES":
        fixed = values.string is not None
        return _texts(values.string, shape) if fixed else random_values(rng, spec, shape, (0, 1), values.string_length)
    bounds = values.ranges.get(spec.name)
    if bounds is None:
        return random_values(rng, spec, shape, (0, 1), 0)
    if spec.dtype.is_float:
        return convert(rng.uniform(*bounds, size=shape), spec.dtype, f"range of input {spec}")
    kind: Any = np.dtype(spec.dtype.numpy)
    return np.asarray(rng.integers(int(bounds[0]), int(bounds[1]), size=shape, dtype=kind, endpoint=True))


def _texts(text: bytes | None, shape: list[int]) -> Array:
    array = np.empty(shape, dtype=object)
    array.fill(text)
    return array


def _zeros(spec: TensorSpec, shape: list[int], string: bytes) -> Array:
    if spec.dtype.name == "BYTES":
        return _texts(string, shape)
    kind: Any = np.dtype(spec.dtype.numpy)
    return np.zeros(shape, dtype=kind)
