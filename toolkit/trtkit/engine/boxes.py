# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a profile takes, as a box: one range of sizes for each axis that a request can choose.

Axes of one name have one size in every request, so they are one axis of the box; so is the batch of all inputs
when the server batches. Fixed axes are left out. Whether two profiles share a shape is then a question of ranges.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod

Shape = tuple[int, ...]
Range = tuple[int, int]  # both ends belong to it
Box = dict[str, Range]  # by axis, in the order of the inputs


@dataclass(frozen=True, slots=True)
class ShapeRange:
    """The shapes of one input in one profile: min <= opt <= max in every axis, full shapes, batch first.

    For a shape tensor (an input whose *values* are sizes) the three hold its values.
    """

    min: Shape
    opt: Shape
    max: Shape


Profile = Mapping[str, ShapeRange]


@dataclass(frozen=True, slots=True)
class Axes:
    """The axes that requests can choose, and where they stand.

    Attributes:
        of: by input, the axis at each place; None where the size is fixed.
        batch: the axis that the server batches along; None when it does not batch.
    """

    of: Mapping[str, tuple[str | None, ...]]
    batch: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """Every axis once, in the order of the inputs."""
        return tuple(dict.fromkeys(name for places in self.of.values() for name in places if name is not None))

    def places(self, axis: str) -> list[tuple[str, int]]:
        """The inputs and positions where an axis stands."""
        return [(name, index) for name, own in self.of.items() for index, one in enumerate(own) if one == axis]

    def box(self, profile: Profile) -> Box:
        """The sizes that a profile takes; a range with its ends exchanged where no request can fit."""
        return {axis: self._shared(axis, profile) for axis in self.names}

    def _shared(self, axis: str, profile: Profile) -> Range:
        ranges = [(profile[name].min[index], profile[name].max[index]) for name, index in self.places(axis)]
        return max(low for low, _ in ranges), min(high for _, high in ranges)


def find_axes(
    inputs: Mapping[str, Shape],
    *,
    names: Mapping[str, tuple[int | str, ...]] | None = None,
    batched: bool = False,
    shape_tensors: Collection[str] = (),
) -> Axes:
    """The axes that requests can choose.

    Args:
        inputs: full shapes by name, -1 for a dynamic axis.
        names: the same shapes with the names of dynamic axes, where they are known; "" is no name.
        batched: whether the first dynamic axis of every input is the batch, under whatever name.
        shape_tensors: inputs whose values count, each value an axis of its own.
    """
    of: dict[str, tuple[str | None, ...]] = {}
    for name, shape in inputs.items():
        if name in shape_tensors:
            of[name] = tuple(f"{name}[{index}]" for index in range(prod(shape)))
        else:
            given = dict(enumerate((names or {}).get(name, ())))
            of[name] = tuple(_axis(name, index, dim, given.get(index)) for index, dim in enumerate(shape))
    if not batched:
        return Axes(of, None)
    firsts = [of[name][0] for name, shape in inputs.items() if shape and name not in shape_tensors]
    batches = [axis for axis in firsts if axis is not None]
    if not batches:
        return Axes(of, None)
    batch = next((axis for axis in batches if not axis.endswith("[0]")), "batch")
    return Axes({n: tuple(batch if axis in batches else axis for axis in places) for n, places in of.items()}, batch)


def _axis(name: str, index: int, dim: int, given: int | str | None) -> str | None:
    if dim != -1:
        return None
    return given if isinstance(given, str) and given else f"{name}[{index}]"


def intersection(first: Box, second: Box) -> Box | None:
    """The sizes that both boxes take, or None."""
    shared = {axis: (max(low, second[axis][0]), min(high, second[axis][1])) for axis, (low, high) in first.items()}
    return shared if all(low <= high for low, high in shared.values()) else None


def subtract(box: Box, taken: Box) -> list[Box]:
    """What is left of a box without another, in disjoint boxes."""
    shared = intersection(box, taken)
    if shared is None:
        return [box]
    left, rest = [], dict(box)
    for axis, (low, high) in shared.items():
        begin, end = rest[axis]
        left += [{**rest, axis: one} for one in ((begin, low - 1), (high + 1, end)) if one[0] <= one[1]]
        rest[axis] = (low, high)
    return left


def hull(boxes: Collection[Box]) -> Box:
    """The smallest box around boxes of the same axes."""
    axes = next(iter(boxes), {})
    return {axis: (min(box[axis][0] for box in boxes), max(box[axis][1] for box in boxes)) for axis in axes}


def parted(first: Box, second: Box, batch: str | None) -> tuple[int, str, Range] | None:
    """The smallest change to one of two overlapping boxes after which they share nothing.

    Axes in which the two are staggered come first, then those with one equal end, then those in which one lies
    inside the other; the batch only when nothing else can be cut, because a server batches along it.

    Returns:
        Which box (0 or 1), its axis and the new range; None when the two are equal.
    """
    choices = []
    for axis, (low, high) in first.items():
        other_low, other_high = second[axis]
        if (low, high) == (other_low, other_high):
            continue
        staggered = (low < other_low) == (high < other_high) and low != other_low and high != other_high
        one_end = low == other_low or high == other_high
        rank = (axis == batch, 0 if staggered else 1 if one_end else 2, axis)
        choices.append((rank, axis, (low, high), (other_low, other_high)))
    if not choices:
        return None
    _, axis, one, two = min(choices)
    first_begins, first_ends_later = one[0] < two[0], one[1] > two[1]
    if one[0] == two[0] or (one[1] != two[1] and first_begins != first_ends_later):
        return (0 if first_ends_later else 1), axis, (min(one[1], two[1]) + 1, max(one[1], two[1]))
    return (0 if first_begins else 1), axis, (min(one[0], two[0]), max(one[0], two[0]) - 1)


def text(box: Box, only: Collection[str] | None = None) -> str:
    """``batch 1..8, sequence 5``: a box in words."""
    parts = ((axis, *ends) for axis, ends in box.items() if only is None or axis in only)
    return ", ".join(f"{axis} {low}" if low == high else f"{axis} {low}..{high}" for axis, low, high in parts)
