# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Disjoint profiles from recorded request shapes: the ones that pad least, and what each of them saves."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from trtkit.engine.boxes import Axes, ShapeRange
from trtkit.engine.cuts import Load, Point, Region, divide
from trtkit.engine.derived import Derived, DerivedProfile, count_rows, profile_rows
from trtkit.engine.recorded import Recorded, axes_of, read_shapes, request_problems
from trtkit.errors import BuildError, DataError, ProjectError
from trtkit.signature import TensorSpec

__all__ = ["Derived", "DerivedProfile", "count_rows", "derive_profiles", "profile_rows", "read_shapes"]


def derive_profiles(
    recorded: Sequence[Recorded],
    inputs: Sequence[TensorSpec],
    count: int,
    max_batch_size: int,
    *,
    smallest_seen: bool = False,
) -> Derived:
    """Profiles that pad the recorded requests least.

    What is made small is the number of elements, over all inputs, that are added when every request is padded to the
    largest shape of its profile. Where the server batches and other axes are dynamic, every profile takes batches
    from 1 to max_batch_size, because the server makes batches of every size; the cuts are along the other axes, and
    a request counts with the rows that it has. Where the batch is the only dynamic axis, the cuts are along it, and
    the last profile reaches to max_batch_size.

    The profiles leave no gaps: each begins where the one before it ends, and the first at 1, because a request
    smaller than all recorded ones should be served too. Cuts along one axis are the best there are; for several axes
    see `trtkit.engine.cuts.divide`.

    The opt of an axis is its median in the profile, each request counted with its elements: half of the work is done
    at sizes up to it. A batch that is not cut has max_batch_size; a profile without requests has its max.

    Args:
        recorded: full shapes of requests, and how many had these.
        inputs: the model's.
        count: how many profiles, at most.
        max_batch_size: the server's; 0 is no batching, and the first axis is one like the others.
        smallest_seen: begin the first profile at the smallest recorded sizes instead, for a graph that cannot run
            with size 1.

    Returns:
        As many profiles as were asked for, or fewer when more would save nothing.

    Raises:
        ProjectError: the count is below 1.
        BuildError: the model has no dynamic axes.
        DataError: nothing was recorded, or a recorded shape does not fit the model or max_batch_size.
    """
    if count < 1:
        raise ProjectError(f"{count} profiles cannot be derived; --count is 1 or more")
    axes = axes_of(inputs, batched=max_batch_size > 0)
    if not axes.names:
        raise BuildError(
            f"{', '.join(map(str, inputs))}: no axis is dynamic, so there is nothing to derive profiles for"
        )
    _check(recorded, inputs, axes, max_batch_size)
    cut = [axis for axis in axes.names if axis != axes.batch] or [axes.names[0]]
    load, requests = _load(recorded, inputs, axes, cut, max_batch_size)
    lows = tuple(min(sizes) if smallest_seen and cut != [axes.batch] else 1 for sizes in zip(*load.points, strict=True))
    by_count = divide(load, lows, count)
    own = [load.elements([index], point) for index, point in enumerate(load.points)]
    profiles = tuple(
        _profile(load, requests, own, region, inputs, axes, cut, max_batch_size) for region in by_count[-1].regions
    )
    notes = _notes(profiles, load, cut, count, limited=cut == [axes.batch])
    padded = tuple(parts.elements - sum(own) for parts in by_count)
    return Derived(profiles, padded, sum(requests), sum(own), tuple(notes))


def _check(recorded: Sequence[Recorded], inputs: Sequence[TensorSpec], axes: Axes, max_batch_size: int) -> None:
    if not recorded:
        raise DataError("no request shapes were recorded, so no profiles can be derived")
    for shapes, number in recorded:
        for problem in request_problems(shapes, inputs, axes):
            raise DataError(f"a recorded request does not fit the model: {problem}")
        if axes.batch:
            name, index = axes.places(axes.batch)[0]
            if shapes[name][index] > max_batch_size:
                raise DataError(
                    f"{number} recorded request{'s have' if number > 1 else ' has'} {shapes[name][index]} rows "
                    f"('{name}' {list(shapes[name])}), more than max_batch_size {max_batch_size}, so the server "
                    "refuses them; raise max_batch_size or leave them out"
                )


def _load(
    recorded: Sequence[Recorded], inputs: Sequence[TensorSpec], axes: Axes, cut: Sequence[str], max_batch_size: int
) -> tuple[Load, list[int]]:
    """The requests as points in the axes that are cut, and how many there are at each."""
    terms = [(spec, tuple(axes.of[spec.name].count(axis) for axis in cut)) for spec in inputs]
    powers = tuple(dict.fromkeys(one for _, one in terms))
    where = [axes.places(axis)[0] for axis in cut]
    weights: dict[Point, list[int]] = {}
    requests: dict[Point, int] = {}
    for shapes, number in recorded:
        point = tuple(shapes[name][index] for name, index in where)
        own = weights.setdefault(point, [0] * len(powers))
        requests[point] = requests.get(point, 0) + number
        for spec, one in terms:
            rest = (
                size
                for size, axis in zip(shapes.get(spec.name, spec.dims), axes.of[spec.name], strict=True)
                if axis not in cut
            )
            own[powers.index(one)] += number * prod(rest)
    if cut == [axes.batch]:  # the server's batches are larger than any request
        weights.setdefault((max_batch_size,), [0] * len(powers))
    points = sorted(weights)
    load = Load(powers, tuple(points), tuple(tuple(weights[point]) for point in points))
    return load, [requests.get(point, 0) for point in points]


def _profile(
    load: Load,
    requests: Sequence[int],
    own: Sequence[int],
    region: Region,
    inputs: Sequence[TensorSpec],
    axes: Axes,
    cut: Sequence[str],
    max_batch_size: int,
) -> DerivedProfile:
    members = load.inside(region)
    ranges = {}
    if axes.batch:
        ranges[axes.batch] = (1, max_batch_size, max_batch_size)
    for position, axis in enumerate(cut):
        low, high = region[position]
        ranges[axis] = (low, _median([(load.points[index][position], own[index]) for index in members], high), high)
    elements, padded = sum(own[i] for i in members), load.elements(members, tuple(high for _, high in region))
    return DerivedProfile(
        {spec.name: _shapes(spec, axes, ranges) for spec in inputs if -1 in spec.dims},
        {axis: f"{ranges[axis][0]}..{ranges[axis][2]}" for axis in cut},
        {axis: ranges[axis][1] for axis in cut},
        sum(requests[index] for index in members),
        elements,
        padded - elements,
        load.elements(members, load.tops) - padded,
    )


def _shapes(spec: TensorSpec, axes: Axes, ranges: dict[str, tuple[int, int, int]]) -> ShapeRange:
    places = list(zip(spec.dims, axes.of[spec.name], strict=True))
    low, best, high = (tuple(dim if axis is None else ranges[axis][kind] for dim, axis in places) for kind in range(3))
    return ShapeRange(low, best, high)


def _median(weighted: Sequence[tuple[int, int]], default: int) -> int:
    """The smallest size up to which half of the weight lies."""
    whole, below = sum(weight for _, weight in weighted), 0
    for size, weight in sorted(weighted):
        below += weight
        if 2 * below >= whole:
            return size
    return default


def _notes(
    profiles: Sequence[DerivedProfile], load: Load, cut: Sequence[str], count: int, *, limited: bool
) -> list[str]:
    notes = []
    if len(profiles) < count:
        notes.append(f"{len(profiles)} instead of {count} profiles: with these nothing is padded, more save nothing")
    if not limited:
        largest = " or ".join(f"'{axis}' above {size}" for axis, size in zip(cut, load.tops, strict=True))
        notes.append(f"a request with {largest} was never recorded and will be refused")
    for index, one in enumerate(profiles):
        if not one.requests:
            sizes = ", ".join(f"{axis} {ends}" for axis, ends in one.sizes.items())
            why = "the server's larger batches" if limited else "shapes between the recorded ones"
            notes.append(f"profile {index} ({sizes}) takes none of the recorded requests; it is there for {why}")
    return notes
