# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Optimization profiles: the shapes an engine is built for, checked before TensorRT sees them.

The library is silent about unknown inputs, about size 0 and about profiles that overlap, and its answer to a wrong
order of sizes is a -1 that nobody has to read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations
from math import prod

from trtkit.engine.boxes import (
    Axes,
    Box,
    Profile,
    Shape,
    ShapeRange,
    find_axes,
    intersection,
    parted,
    text,
)
from trtkit.engine.profile_cover import profile_for, profile_gaps
from trtkit.engine.profile_forms import as_yaml, default_profiles, from_json, profiles_from_spec, to_json
from trtkit.errors import nearest

__all__ = [
    "Profile",
    "Shape",
    "ShapeRange",
    "as_yaml",
    "default_profiles",
    "from_json",
    "profile_for",
    "profile_gaps",
    "profile_problems",
    "profiles_from_spec",
    "to_json",
]

_LARGEST = (1 << 31) - 1  # TensorRT counts the sizes of an axis in 32 bits


def profile_problems(
    inputs: Mapping[str, Shape],
    profiles: Sequence[Profile],
    *,
    axes: Mapping[str, tuple[int | str, ...]] | None = None,
    max_batch_size: int | None = None,
    shape_tensors: Collection[str] = (),
    overlapping: bool = False,
) -> Iterator[str]:
    """What is wrong with profiles, in sentences, before TensorRT is asked.

    Args:
        inputs: full shapes by name, -1 for a dynamic axis.
        profiles: what was asked for; full shapes, and the values of shape tensors.
        axes: full shapes with the names of dynamic axes; equal names are equal sizes, "" is no name.
        max_batch_size: the server's; 0 is no batching, None is unknown, and nothing is said about batches then.
        shape_tensors: the inputs whose values are sizes; their ranges hold values, which may be 0 or negative.
        overlapping: accept profiles that share shapes, as long as they are not the same.
    """
    dynamic = {name: shape for name, shape in inputs.items() if -1 in shape or name in shape_tensors}
    if dynamic and not profiles:
        listed = ", ".join(f"{name}{list(shape)}" for name, shape in dynamic.items())
        what = "have dynamic axes" if len(dynamic) > 1 else "has dynamic axes"
        yield f"a profile is needed: {listed} {what}{' or hold sizes' if shape_tensors else ''}"
    found = find_axes(inputs, names=axes, batched=bool(max_batch_size), shape_tensors=shape_tensors)
    boxes: dict[int, Box] = {}
    for index, profile in enumerate(profiles):
        own = list(_own_problems(inputs, dynamic, profile, shape_tensors)) or list(_axis_problems(found, profile))
        yield from (f"profile {index}{problem}" for problem in own)
        if not own:
            boxes[index] = found.box(profile)
    if max_batch_size and found.batch:
        yield from _batch_problems({index: box[found.batch] for index, box in boxes.items()}, max_batch_size)
    for pair in combinations(boxes, 2):
        yield from _pair_problems(found, profiles, boxes, pair, overlapping)


def _own_problems(
    inputs: Mapping[str, Shape], dynamic: Mapping[str, Shape], profile: Profile, shape_tensors: Collection[str]
) -> Iterator[str]:
    """What is wrong with one profile's inputs, each alone."""
    for name, shape in dynamic.items():
        if name not in profile:
            yield f" has no {'values' if name in shape_tensors else 'shapes'} for input '{name}' {list(shape)}"
    for name, given in profile.items():
        if name not in inputs:
            yield f": '{name}' is no input; {nearest(name, inputs)}"
        elif name in shape_tensors:
            yield from (f": {problem}" for problem in _value_problems(name, inputs[name], given))
        else:
            yield from (f": {problem}" for problem in _range_problems(name, inputs[name], given))


def _range_problems(name: str, shape: Shape, given: ShapeRange) -> Iterator[str]:
    for kind, sizes in _three(given):
        if len(sizes) != len(shape):
            yield f"{kind} of '{name}' is {list(sizes)}, the input has {len(shape)} dimensions: {list(shape)}"
            return
        if any(size < 1 for size in sizes):
            yield f"{kind} of '{name}' is {list(sizes)}; every size has to be at least 1"
        if any(size > _LARGEST for size in sizes):
            yield f"{kind} of '{name}' is {list(sizes)}; TensorRT takes sizes up to {_LARGEST}"
        if any(dim not in (-1, size) for dim, size in zip(shape, sizes, strict=True)):
            yield f"{kind} of '{name}' is {list(sizes)}, the input is fixed to {list(shape)}"
    yield from _order_problems(name, "axis", given)


def _value_problems(name: str, shape: Shape, given: ShapeRange) -> Iterator[str]:
    if -1 in shape:
        yield f"'{name}' {list(shape)} holds sizes, and TensorRT needs to know how many; give it a fixed length"
        return
    for kind, values in _three(given):
        if len(values) != prod(shape):
            yield f"{kind} of '{name}' is {list(values)}; it holds sizes, {prod(shape)} of them: give those values"
            return
    yield from _order_problems(name, "value", given)


def _three(given: ShapeRange) -> Iterator[tuple[str, Shape]]:
    yield from (("min", given.min), ("opt", given.opt), ("max", given.max))


def _order_problems(name: str, what: str, given: ShapeRange) -> Iterator[str]:
    for index, (low, best, high) in enumerate(zip(given.min, given.opt, given.max, strict=True)):
        if not low <= best <= high:
            yield f"'{name}' needs min <= opt <= max in {what} {index}, got {low}, {best}, {high}"


def _axis_problems(found: Axes, profile: Profile) -> Iterator[str]:
    """What is wrong between the inputs of one profile: axes of one name have one size."""
    for axis in found.names:
        places = found.places(axis)
        ranges = [(profile[name].min[index], profile[name].max[index]) for name, index in places]
        best = [profile[name].opt[index] for name, index in places]
        if axis == found.batch and len(set(ranges)) > 1:
            told = _each(places, [f"{low}..{high}" for low, high in ranges])
            yield f": a request has one batch size, but the batch ranges differ: {told}; give every input the same"
        elif max(low for low, _ in ranges) > min(high for _, high in ranges):
            told = _each(places, [f"{low}..{high}" for low, high in ranges])
            yield f": no request can satisfy it: '{axis}' is one size, and these ranges share none: {told}"
        elif len(set(best)) > 1:
            yield f": '{axis}' is one size, but opt differs: {_each(places, best)}; give every input the same"


def _each(places: Sequence[tuple[str, int]], values: Sequence[object]) -> str:
    return ", ".join(f"axis {index} of '{name}' {value}" for (name, index), value in zip(places, values, strict=True))


def _batch_problems(batches: Mapping[int, tuple[int, int]], limit: int) -> Iterator[str]:
    """What is wrong between the batch ranges of profiles and the server's max_batch_size."""
    for index, (low, high) in batches.items():
        if low > limit:
            yield (
                f"profile {index} takes batches from {low} on, which no request reaches: max_batch_size is {limit}; "
                "leave it out or raise max_batch_size"
            )
        elif high > limit:
            yield (
                f"profile {index} takes batches up to {high}, which no request reaches: max_batch_size is {limit}; "
                f"lower its max to {limit} or raise max_batch_size"
            )
    if batches and (largest := max(high for _, high in batches.values())) < limit:
        yield (
            f"no profile takes a batch above {largest}, but max_batch_size is {limit}, so larger batches would be "
            f"refused; raise a profile's max to {limit} or lower max_batch_size to {largest}"
        )
    if batches and (smallest := min(low for low, _ in batches.values())) > 1:
        yield f"no profile takes batch 1, the smallest is {smallest}, so a single request would be refused"


def _pair_problems(
    found: Axes, profiles: Sequence[Profile], boxes: Mapping[int, Box], pair: tuple[int, int], overlapping: bool
) -> Iterator[str]:
    one, two = pair
    first, second = boxes[one], boxes[two]
    if first == second and _best(found, profiles[one]) == _best(found, profiles[two]):
        yield f"profile {two} is the same as profile {one}; leave one of them out"
        return
    shared = intersection(first, second)
    if shared is None or overlapping:
        return
    change = parted(first, second, found.batch)
    if change is None:
        advice = "leave one of them out"
    else:
        which, axis, (low, high) = change
        advice = f"they no longer do when '{axis}' of profile {pair[which]} is {low}..{high}"
    names = [name for name, places in found.of.items() if any(places)]
    example = ", ".join(f"{name} {_example(found, profiles[one], name, shared)}" for name in names)
    yield (
        f"profiles {one} and {two} overlap: both take {text(shared)}, for example {example}, and the rule by which "
        f"the server picks one of them is not to be relied on; {advice}"
    )


def _best(found: Axes, profile: Profile) -> dict[str, int]:
    return {axis: profile[name].opt[index] for axis in found.names for name, index in found.places(axis)}


def _example(found: Axes, profile: Profile, name: str, shared: Box) -> list[int]:
    """The smallest shape of an input that both take; where no axis is free, the fixed size."""
    return [profile[name].min[index] if axis is None else shared[axis][0] for index, axis in enumerate(found.of[name])]
