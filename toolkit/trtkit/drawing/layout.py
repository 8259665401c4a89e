# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Where everything of a graph stands: columns from left to right, lines that cross no box.

Inputs are the first column; then steps and tensors take turns. A line between neighbouring columns runs in the gap
between them, where nothing else is. A line over several columns keeps a free place in each column on its way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from trtkit.drawing.boxes import Box, step_box, tensor_box
from trtkit.drawing.graph import Graph

_GAP_X, _GAP_Y, _LANE = 64.0, 22.0, 8.0
_SWEEPS = 16


@dataclass(frozen=True)
class Line:
    """A line from the right side of one box to the left side of another.

    Attributes:
        points: its corners from left to right; it is level inside a column, and bent only in the gaps.
    """

    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Layout:
    """A drawing.

    Attributes:
        boxes: with their places.
        lines: the same.
        width: of all of it.
        height: the same.
    """

    boxes: list[Box]
    lines: list[Line]
    width: float
    height: float


@dataclass(eq=False)
class _Place:
    """A box's place in a column, or the free place of a line; `y` is of its middle."""

    column: int
    height: float
    box: Box | None = None
    y: float = 0.0
    before: list[_Link] = field(default_factory=list)
    after: list[_Link] = field(default_factory=list)


@dataclass(eq=False)
class _Link:
    """A piece of a line, between neighbouring columns; ports are heights from the middles."""

    source: _Place
    target: _Place
    source_port: float
    target_port: float


def layout(graph: Graph) -> Layout:
    """Place the steps and tensors of a graph."""
    places, lines = _places(graph)
    columns: list[list[_Place]] = [[] for _ in range(1 + max((p.column for p in places), default=0))]
    for place in places:
        columns[place.column].append(place)
    _order(columns)
    _align(columns)
    top = min((place.y - place.height / 2 for place in places), default=0.0)
    lefts, width = _lefts(columns)
    for place in places:
        place.y -= top
        if place.box:
            column = lefts[place.column]
            place.box.x = column[0] + (column[1] - place.box.width) / 2
            place.box.y = place.y - place.box.height / 2
    height = max((place.y + place.height / 2 for place in places), default=0.0)
    boxes = [place.box for place in places if place.box]
    return Layout(boxes, [_line(links, lefts) for links in lines], width, height)


def _places(graph: Graph) -> tuple[list[_Place], list[list[_Link]]]:
    """A place for every box, and one for each line in each column on its way; and the lines."""
    columns = _columns(graph)
    tensors = {key: _box_place(columns[key], tensor_box(tensor)) for key, tensor in graph.tensors.items()}
    steps = [_box_place(columns[index], step_box(step)) for index, step in enumerate(graph.steps)]
    places, lines = [*tensors.values(), *steps], []
    for step, place in zip(graph.steps, steps, strict=True):
        box = place.box
        assert box is not None
        ends = [(tensors[key], place, 0.0, box.port("in", own)) for own, key in step.inputs.items()]
        ends += [(place, tensors[key], box.port("out", own), 0.0) for own, key in step.outputs.items()]
        for source, target, source_port, target_port in ends:
            on_its_way = [_Place(column, _LANE) for column in range(source.column + 1, target.column)]
            lines.append(list(_links([source, *on_its_way, target], source_port, target_port)))
            places += on_its_way
    return places, lines


def _box_place(column: int, box: Box) -> _Place:
    return _Place(column, box.height, box)


def _links(way: Sequence[_Place], source_port: float, target_port: float) -> Iterator[_Link]:
    for index, (source, target) in enumerate(pairwise(way)):
        last = index == len(way) - 2
        link = _Link(source, target, source_port if index == 0 else 0.0, target_port if last else 0.0)
        source.after.append(link)
        target.before.append(link)
        yield link


def _columns(graph: Graph) -> dict[str | int, int]:
    """The column of each tensor, by key, and of each step, by index."""
    columns: dict[str | int, int] = dict.fromkeys(graph.tensors, 0)
    for index, step in enumerate(graph.steps):  # in the order of the data
        columns[index] = 1 + max((columns[key] for key in step.inputs.values()), default=0)
        for key in step.outputs.values():
            columns[key] = max(columns[key], columns[index] + 1)
    read = {key for step in graph.steps for key in step.inputs.values()}
    last = max(columns.values(), default=0)
    for key, tensor in graph.tensors.items():
        if tensor.role == "output" and key not in read:
            columns[key] = last
    return columns


def _order(columns: list[list[_Place]]) -> None:
    """Order each column so that few lines cross: by the mean place of what they lead to, from both sides in turn."""
    best, fewest = [list(column) for column in columns], _crossings(columns)
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        for column in columns if forward else reversed(columns):
            ranks = _ranks(columns)
            column.sort(key=lambda place: _mean(_neighbours(place, ranks, forward), ranks[place]))
        crossings = _crossings(columns)
        if crossings < fewest:
            best, fewest = [list(column) for column in columns], crossings
    for column, ordered in zip(columns, best, strict=True):
        column[:] = ordered


def _ranks(columns: Sequence[Sequence[_Place]]) -> dict[_Place, float]:
    return {place: float(rank) for column in columns for rank, place in enumerate(column)}


def _neighbours(place: _Place, ranks: dict[_Place, float], forward: bool) -> list[float]:
    """The ranks of the places that lines lead to; within a box, by the port."""
    if forward:
        return [ranks[link.source] + _fraction(link.source, link.source_port) for link in place.before]
    return [ranks[link.target] + _fraction(link.target, link.target_port) for link in place.after]


def _fraction(place: _Place, port: float) -> float:
    return port / (place.height + 1)


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _crossings(columns: Sequence[Sequence[_Place]]) -> int:
    ranks = _ranks(columns)
    count = 0
    for column in columns:
        ends = sorted(
            (ranks[link.source] + _fraction(link.source, link.source_port),
             ranks[link.target] + _fraction(link.target, link.target_port))
            for place in column for link in place.after
        )  # fmt: skip
        count += sum(a[1] > b[1] for i, a in enumerate(ends) for b in ends[i + 1 :])
    return count


def _align(columns: Sequence[Sequence[_Place]]) -> None:
    """Give every place a height near what its lines lead to, keeping the order and the distances."""
    for column in columns:
        _settle(column, [0.0] * len(column))
    for sweep in range(_SWEEPS):
        for column in columns if sweep % 2 == 0 else list(reversed(columns)):
            _settle(column, [_wanted(place, sweep) for place in column])


def _wanted(place: _Place, sweep: int) -> float:
    """The height at which the lines on one side, in the last sweeps on both, are level."""
    before = [link.source.y + link.source_port - link.target_port for link in place.before]
    after = [link.target.y + link.target_port - link.source_port for link in place.after]
    if sweep >= _SWEEPS - 3:
        return _mean(before + after, place.y)
    return _mean((before or after) if sweep % 2 == 0 else (after or before), place.y)


def _settle(column: Sequence[_Place], wanted: Sequence[float]) -> None:
    """The heights nearest to the wanted ones (least squares) with room between neighbours.

    With the room taken off, the heights only have to rise: neighbours that do not are pooled into their mean.
    """
    offsets, offset = [], 0.0
    for index, place in enumerate(column):
        if index:
            offset += (column[index - 1].height + place.height) / 2 + _GAP_Y
        offsets.append(offset)
    pools: list[tuple[float, int]] = []
    for value, shift in zip(wanted, offsets, strict=True):
        mean, size = value - shift, 1
        while pools and pools[-1][0] > mean:
            other, count = pools.pop()
            mean, size = (mean * size + other * count) / (size + count), size + count
        pools.append((mean, size))
    settled = [mean for mean, size in pools for _ in range(size)]
    for place, value, shift in zip(column, settled, offsets, strict=True):
        place.y = value + shift


def _lefts(columns: Sequence[Sequence[_Place]]) -> tuple[list[tuple[float, float]], float]:
    """The left side and the width of each column, and the width of all; many lines get a wider gap."""
    found, x = [], 0.0
    for column in columns:
        width = max((place.box.width for place in column if place.box), default=0.0)
        found.append((x, width))
        x += width + _GAP_X + min(4.0 * sum(len(place.after) for place in column), 80.0)
    return found, found[-1][0] + found[-1][1] if found else 0.0


def _line(links: Sequence[_Link], lefts: Sequence[tuple[float, float]]) -> Line:
    points: list[tuple[float, float]] = []
    for link in links:
        x, width = lefts[link.source.column]
        box = link.source.box
        if box:
            points.append((box.x + box.width, link.source.y + link.source_port))
        points.append((x + width, link.source.y + link.source_port))
        points.append((lefts[link.target.column][0], link.target.y + link.target_port))
        if link.target.box:
            points.append((link.target.box.x, link.target.y + link.target_port))
    return Line(tuple(points))
