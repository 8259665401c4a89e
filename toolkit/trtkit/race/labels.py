# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Where the labels of points go so that none covers another, a point or a line, as geometry in pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle: left, bottom, right, top."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: Box) -> bool:
        """Whether they share more than an edge."""
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )

    def inside(self, frame: Box) -> bool:
        """Whether no part is outside the frame."""
        return (
            self.left >= frame.left
            and self.right <= frame.right
            and self.bottom >= frame.bottom
            and self.top <= frame.top
        )

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """The point of the rectangle that is nearest to another."""
        return min(max(x, self.left), self.right), min(max(y, self.bottom), self.top)


def place(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
    *,
    radius: float,
    avoid: Sequence[Box] = (),
) -> list[Box]:
    """A rectangle for the label of each point, near it; beside the point first, then farther and farther away.

    Args:
        points: (x, y) of each.
        sizes: (width, height) of each label.
        frame: what the labels have to stay in.
        radius: the size of a point's mark, and the least distance of a label from its own.
        avoid: rectangles that no label covers while there is room elsewhere.

    Returns:
        The rectangles in the order of the points. They overlap only where the frame has no room at all.
    """
    marks = [Box(x - radius, y - radius, x + radius, y + radius) for x, y in points]
    placed: list[Box] = []
    for point, size in zip(points, sizes, strict=True):
        around = [box for box in _around(point, size, radius, frame) if box.inside(frame)]
        for taken in ([*marks, *placed, *avoid], [*marks, *placed], placed):
            free = next((box for box in around if not any(box.overlaps(other) for other in taken)), None)
            if free is not None:
                break
        placed.append(free or (around or list(_around(point, size, radius, frame)))[0])
    return placed


def _around(point: tuple[float, float], size: tuple[float, float], radius: float, frame: Box) -> Iterator[Box]:
    """Rectangles around a point: right, left, above and below, then on wider and wider rings."""
    (x, y), (width, height) = point, size
    reach = math.hypot(frame.right - frame.left, frame.top - frame.bottom)
    distance = radius + 3.0
    while distance < reach:
        for turn in (0, 8, 4, 12, 2, 6, 14, 10, 1, 15, 7, 9, 3, 5, 13, 11):
            angle = turn * math.pi / 8
            middle_x = x + math.cos(angle) * (distance + width / 2)
            middle_y = y + math.sin(angle) * (distance + height / 2)
            left, bottom = middle_x - width / 2, middle_y - height / 2
            yield Box(left, bottom, left + width, bottom + height)
        distance += max(4.0, height / 4)
