# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Where to cut a space of sizes so that requests, each padded to the largest size of its part, are padded least."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod

Point = tuple[int, ...]
Range = tuple[int, int]
Region = tuple[Range, ...]  # by axis, both ends belong to it


@dataclass(frozen=True, slots=True)
class Load:
    """Recorded requests as points, and what each costs when it is padded.

    The elements of a request padded to the sizes ``top`` are ``sum over j of weight[j] * prod(top ** powers[j])``:
    one summand for each way in which inputs depend on the axes.

    Attributes:
        powers: by summand, how often each axis occurs in it.
        points: the different sizes that requests have.
        weights: by point, by summand, over all its requests; zeros for a size that only has to be reached.
    """

    powers: tuple[Point, ...]
    points: tuple[Point, ...]
    weights: tuple[Point, ...]

    @property
    def tops(self) -> Point:
        """The largest size of each axis."""
        return tuple(max(sizes) for sizes in zip(*self.points, strict=True))

    def volumes(self, top: Point) -> tuple[int, ...]:
        """By summand, the elements of a weight of 1."""
        return tuple(prod(size**power for size, power in zip(top, one, strict=True)) for one in self.powers)

    def elements(self, chosen: Sequence[int], top: Point) -> int:
        """The elements of the chosen points when each is padded to ``top``."""
        volumes = self.volumes(top)
        return sum(_dot(self.weights[index], volumes) for index in chosen)

    def inside(self, region: Region) -> list[int]:
        """The points in a region."""
        return [
            index
            for index, point in enumerate(self.points)
            if all(low <= size <= high for size, (low, high) in zip(point, region, strict=True))
        ]


def _dot(weights: Sequence[int], volumes: Sequence[int]) -> int:
    return sum(weight * volume for weight, volume in zip(weights, volumes, strict=True))


@dataclass(frozen=True, slots=True)
class Parts:
    """Regions in the order of their sizes, and the elements of all requests when each is padded to its region."""

    elements: int
    regions: tuple[Region, ...]


def divide(load: Load, lows: Point, most: int) -> list[Parts]:
    """The best parts found for each number of them.

    With one axis the parts are the best there are. With several they are the better of two: the best cuts along one
    axis alone, and guillotine cuts, where each cut splits one part in two along one axis and is the one that saves
    most at that point. Such an order of cuts is not always the best, and is never worse than one axis alone.

    Args:
        load: the requests.
        lows: the smallest size that the parts have to take, by axis.
        most: the largest number of parts.

    Returns:
        For 1, 2, … parts the best. Together the regions hold every size from the lows to the largest of each axis,
        each once. The list ends early when nothing is padded any more.
    """
    found = []
    for axis in range(len(lows)):
        slabs = _slabs(load, axis, lows, most)
        found.append(slabs[:-1] + _split_on(load, slabs[-1], most))
    if len(lows) > 1:
        found.append(_split_on(load, found[0][0], most))
    unpadded = sum(load.elements([index], point) for index, point in enumerate(load.points))
    best: list[Parts] = []
    for count in range(min(most, max(map(len, found)))):
        best.append(min((one[count] for one in found if count < len(one)), key=lambda parts: parts.elements))
        if best[-1].elements == unpadded:
            break
    return best


def _slabs(load: Load, axis: int, lows: Point, most: int) -> list[Parts]:
    """The best cuts along one axis, for 1, 2, … parts; the other axes are whole in each."""
    sizes = sorted({point[axis] for point in load.points})
    sums = [[0] * len(load.powers) for _ in sizes]
    for point, weights in zip(load.points, load.weights, strict=True):
        own = sums[bisect_left(sizes, point[axis])]
        own[:] = [before + weight for before, weight in zip(own, weights, strict=True)]
    before = [list(accumulate(column, initial=0)) for column in zip(*sums, strict=True)]
    tops = load.tops
    volumes = [load.volumes((*tops[:axis], size, *tops[axis + 1 :])) for size in sizes]

    def cost(begin: int, end: int) -> int:
        """The elements when sizes[begin:end] are padded to the last of them."""
        return sum((one[end] - one[begin]) * volume for one, volume in zip(before, volumes[end - 1], strict=True))

    whole = tuple(zip(lows, tops, strict=True))
    return [
        Parts(elements, tuple((*whole[:axis], ends, *whole[axis + 1 :]) for ends in _ranges(lows[axis], last_sizes)))
        for elements, ends in best_cuts(cost, len(sizes), most)
        for last_sizes in [[sizes[end - 1] for end in ends]]
    ]


def _ranges(low: int, ends: Sequence[int]) -> Iterator[Range]:
    yield from zip((low, *(end + 1 for end in ends[:-1])), ends, strict=True)


def best_cuts(cost: Callable[[int, int], int], length: int, most: int) -> list[tuple[int, list[int]]]:
    """Cut 0..length into 1, 2, … consecutive parts with the least sum of costs, exactly.

    Dynamic programming over the last cut. The cost of padding meets the quadrangle inequality,
    cost(a, c) + cost(b, d) <= cost(a, d) + cost(b, c) for a <= b <= c <= d, since what lies in a..b is padded to the
    end of c..d at least as far as to c's. So the best last cut never moves down when the end moves up, and each layer
    takes length * log(length) steps instead of length ** 2.

    Args:
        cost: of the part begin..end, end excluded.
        length: how many items there are.
        most: the largest number of parts; at most one per item.

    Returns:
        By number of parts, the least sum of costs and the ends of the parts.
    """
    least = [0] + [cost(0, end) for end in range(1, length + 1)]
    cuts: list[list[int]] = []  # by layer, by end: where the last part begins
    results = [(least[length], [length])]
    for parts in range(2, min(most, length) + 1):
        least, begins = _layer(cost, least, parts, length)
        cuts.append(begins)
        ends = [length]
        for layer in reversed(cuts):
            ends.append(layer[ends[-1]])
        results.append((least[length], ends[::-1]))
    return results


def _layer(
    cost: Callable[[int, int], int], least: Sequence[int], parts: int, length: int
) -> tuple[list[int], list[int]]:
    """The least cost of 0..end in so many parts, and where its last part begins, for every end."""
    best, begins = [0] * (length + 1), [0] * (length + 1)
    waiting = [(parts, length, parts - 1, length - 1)]  # ends, and the begins that can be best for them
    while waiting:
        low, high, first, last = waiting.pop()
        if low > high:
            continue
        end = (low + high) // 2
        best[end], begins[end] = min(
            (least[begin] + cost(begin, end), begin) for begin in range(first, min(last, end - 1) + 1)
        )
        waiting += [(low, end - 1, first, begins[end]), (end + 1, high, begins[end], last)]
    return best, begins


def _split_on(load: Load, parts: Parts, most: int) -> list[Parts]:
    """The parts, and these after each further guillotine cut, which is the one that saves most at that point."""
    if len(parts.regions) >= most:
        return [parts]
    regions = {region: _best_split(load, region, load.inside(region)) for region in parts.regions}
    results = [parts]
    while len(regions) < most:
        region, (saved, axis, size, members) = max(regions.items(), key=lambda item: (item[1][0], item[0]))
        if not saved:
            break
        del regions[region]
        low, high = region[axis]
        for ends in ((low, size), (size + 1, high)):
            part = (*region[:axis], ends, *region[axis + 1 :])
            inside = [index for index in members if ends[0] <= load.points[index][axis] <= ends[1]]
            regions[part] = _best_split(load, part, inside)
        results.append(Parts(results[-1].elements - saved, tuple(sorted(regions))))
    return results


def _best_split(load: Load, region: Region, members: Sequence[int]) -> tuple[int, int, int, Sequence[int]]:
    """The elements that the best split of a region saves, its axis and the last size of the lower part."""
    top = tuple(high for _, high in region)
    whole = load.volumes(top)
    best = (0, 0, 0)
    for axis, (_, high) in enumerate(region):
        below = [0] * len(load.powers)
        for index in sorted(members, key=lambda index: load.points[index][axis]):
            size = load.points[index][axis]
            below = [one + weight for one, weight in zip(below, load.weights[index], strict=True)]
            if size < high:
                saved = _dot(below, whole) - _dot(below, load.volumes((*top[:axis], size, *top[axis + 1 :])))
                best = max(best, (saved, -axis, -size))
    return best[0], -best[1], -best[2], members
