# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Sizes for dynamic axes: ``NAME:3,224,224``, and distributions from which each request draws its own."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trtkit.errors import DataError, nearest
from trtkit.signature import TensorSpec

_FORMS = "a size (128), a range (16..128), choice(16|32|64) or normal(MEAN,DEVIATION)"
_SIZE = r"[0-9]{1,18}"
_NUMBER = r"[0-9]{1,18}(?:\.[0-9]{1,18})?"
_AXIS = re.compile(
    rf"(?P<size>{_SIZE})"
    rf"|(?P<low>{_SIZE})\.\.(?P<high>{_SIZE})"
    rf"|choice\((?P<choice>\s*{_SIZE}\s*(?:\|\s*{_SIZE}\s*)*)\)"
    rf"|normal\(\s*(?P<mean>{_NUMBER})\s*,\s*(?P<deviation>{_NUMBER})\s*\)"
)


@dataclass(frozen=True)
class Axis:
    """The sizes an axis may have.

    Attributes:
        sizes: the sizes to choose from, all equally likely; the bounds of a range, both included.
        is_range: whether `sizes` are the bounds of a range.
        normal: mean and standard deviation of a normal distribution, rounded and never below 1; None for another.
    """

    sizes: tuple[int, ...] = ()
    is_range: bool = False
    normal: tuple[float, float] | None = None

    def draw(self, rng: np.random.Generator) -> int:
        """One size, 1 or more."""
        if self.normal is not None:
            return max(1, round(rng.normal(*self.normal)))
        if self.is_range:
            return int(rng.integers(self.sizes[0], self.sizes[1], endpoint=True))
        return self.sizes[0] if len(self.sizes) == 1 else int(rng.choice(self.sizes))

    @property
    def is_fixed(self) -> bool:
        """Whether every draw gives the same size."""
        return self.normal is None and len(set(self.sizes)) == 1

    def __str__(self) -> str:
        if self.normal is not None:
            return f"normal({self.normal[0]:g},{self.normal[1]:g})"
        if self.is_range:
            return f"{self.sizes[0]}..{self.sizes[1]}"
        return str(self.sizes[0]) if len(self.sizes) == 1 else f"choice({'|'.join(map(str, self.sizes))})"


@dataclass(frozen=True)
class ShapeRule:
    """The sizes of one input, or of several that are drawn together.

    Attributes:
        names: the inputs; in a request they all get the same draw.
        axes: one for each axis without the batch axis, or one for each dynamic axis.
    """

    names: tuple[str, ...]
    axes: tuple[Axis, ...]

    def __str__(self) -> str:
        return f"{','.join(self.names)}:{','.join(map(str, self.axes))}"


def parse_shape_rule(text: str) -> ShapeRule:
    """``NAME:AXIS,AXIS,…`` or ``NAME,NAME:AXIS,…`` for inputs that are drawn together.

    An axis is a size, ``16..128`` (uniform, both ends included), ``choice(16|32|64)`` or ``normal(64,16)`` (mean and
    standard deviation, rounded, never below 1). ``image:3,224,224`` is perf_analyzer's form.

    Raises:
        DataError: another form, or a size below 1.
    """
    names, _, given = text.rpartition(":")
    parts = re.split(r",(?![^(]*\))", given)
    listed = tuple(name.strip() for name in names.split(","))
    if not all(listed):
        raise DataError(f"shape '{text}' is not understood; give NAME:SIZE,SIZE,… as in image:3,224,224")
    if len(set(listed)) != len(listed):
        raise DataError(f"shape '{text}' names an input twice")
    return ShapeRule(listed, tuple(_axis(part.strip(), text) for part in parts))


def _axis(part: str, text: str) -> Axis:
    found = _AXIS.fullmatch(part)
    if found is None:
        raise DataError(
            f"shape '{text}': '{part}' is not understood; give NAME:SIZE,SIZE,… where a SIZE may be {_FORMS}"
        )
    if found["mean"]:
        return Axis(normal=(float(found["mean"]), float(found["deviation"])))
    low = found["low"]
    listed = [low, found["high"]] if low else (found["size"] or found["choice"]).split("|")
    sizes = tuple(int(size) for size in listed)
    if min(sizes) < 1 or (low and sizes[0] > sizes[1]):
        raise DataError(f"shape '{text}': '{part}' is impossible; give NAME:SIZE,… with sizes of 1 or more, low..high")
    return Axis(sizes, is_range=bool(low))


class Shapes:
    """The shapes of a run's requests.

    Args:
        rules: one at most for each input.

    Raises:
        DataError: two rules for one input.
    """

    def __init__(self, rules: Iterable[ShapeRule] = ()) -> None:
        self.rules = tuple(rules)
        names = [name for rule in self.rules for name in rule.names]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f"two shapes are given for input '{twice[0]}'; give one")
        self.names = frozenset(names)

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Shapes:
        """From what ``--shape`` was given, in any number."""
        return cls(map(parse_shape_rule, texts))

    @classmethod
    def fixed(cls, sizes: Mapping[str, Sequence[int]]) -> Shapes:
        """From the sizes themselves, by input."""
        return cls(ShapeRule((name,), tuple(Axis((size,)) for size in row)) for name, row in sizes.items())

    def __bool__(self) -> bool:
        return bool(self.rules)

    @property
    def is_fixed(self) -> bool:
        """Whether all requests get the same shapes."""
        return all(axis.is_fixed for rule in self.rules for axis in rule.axes)

    def draw(
        self, rng: np.random.Generator, specs: Mapping[str, TensorSpec], batch_axes: int, names: Collection[str]
    ) -> dict[str, list[int]]:
        """The sizes of each input for one request, without the batch axis.

        Args:
            rng: equal generators give equal shapes.
            specs: the model's inputs with full shapes.
            batch_axes: 1 when axis 0 is the batch, else 0.
            names: the inputs to give sizes to.

        Raises:
            DataError: a rule for an unknown input, a dynamic axis without a size, or sizes that do not fit.
        """
        given: dict[str, list[int]] = {}
        for rule in self.rules:
            drawn = [axis.draw(rng) for axis in rule.axes]
            given |= dict.fromkeys(rule.names, drawn)
        for name in given:
            if name not in specs:
                raise DataError(
                    f"a shape is given for '{name}', which is no input of the model; {nearest(name, specs)}"
                )
        return {name: fitted(specs[name], batch_axes, given.get(name)) for name in names}


def fitted(spec: TensorSpec, batch_axes: int, given: Sequence[int] | None) -> list[int]:
    """The sizes of an input's axes after the batch axis.

    Args:
        spec: the input, full shape.
        batch_axes: 1 when axis 0 is the batch, else 0.
        given: a size for each axis, or for each dynamic axis; None for the model's own.

    Raises:
        DataError: a dynamic axis without a size, or sizes that do not fit.
    """
    dims = spec.dims[batch_axes:]
    if given is None and -1 not in dims:
        return list(dims)
    example = ",".join("8" if dim < 0 else str(dim) for dim in dims)
    if given is None:
        raise DataError(f"input {spec} has dynamic dimensions; say their sizes with --shape {spec.name}:{example}")
    sizes = list(given)
    if len(sizes) != len(dims) and len(sizes) == dims.count(-1):
        rest = iter(sizes)
        sizes = [next(rest) if dim < 0 else dim for dim in dims]
    fits = len(sizes) == len(dims) and all(
        size >= 1 and dim in (-1, size) for dim, size in zip(dims, sizes, strict=True)
    )
    if not fits:
        without = " without the batch dimension" if batch_axes else ""
        raise DataError(f"shape {list(given)} does not fit input {spec}; as in --shape {spec.name}:{example}{without}")
    return sizes
