# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The boxes of a drawing: their texts, and how large they have to be for them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from trtkit.drawing.graph import Step, Tensor, printable

TITLE, SMALL = 13.0, 11.0  # font sizes, in pixels
_ADVANCE = 0.602  # of a monospaced letter, in font sizes; DejaVu Sans Mono's and Menlo's, Consolas is narrower
_LINE, _PAD = 16.0, 12.0
_LONGEST = 40  # letters of a name; the whole of a longer one is in the box's tooltip


@dataclass(frozen=True)
class Text:
    """A line of text in a box.

    Attributes:
        text: what it says.
        size: of the font.
        x: from the box's left side, of the text's anchor.
        y: of the baseline, from the box's top.
        anchor: ``start``, ``middle`` or ``end``.
    """

    text: str
    size: float
    x: float
    y: float
    anchor: str = "middle"

    @property
    def width(self) -> float:
        """What it takes."""
        return text_width(self.text, self.size)


@dataclass
class Box:
    """A step or a tensor with its texts; the layout gives it its place.

    Attributes:
        kind: ``step``, ``unknown``, ``input``, ``output`` or ``inner``.
        tooltip: the whole of what may be shortened inside.
        width: in pixels.
        height: the same.
        texts: inside it.
        ports: by (``in`` or ``out``, the step's own name of a tensor), the height where the line ends, from the middle.
    """

    kind: str
    tooltip: str
    width: float
    height: float
    texts: list[Text]
    ports: dict[tuple[str, str], float] = field(default_factory=dict)
    x: float = 0.0
    y: float = 0.0

    def port(self, side: str, name: str) -> float:
        """Where the line of an input (``in``) or output (``out``) ends, from the middle."""
        return self.ports[side, name]


def text_width(text: str, size: float) -> float:
    """The width of a monospaced text; letters of East Asian scripts are twice as wide."""
    letters = sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
    return letters * _ADVANCE * size


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST // 2]}…{name[-_LONGEST // 2 + 1 :]}"


def tensor_box(tensor: Tensor) -> Box:
    """A tensor: its name, its data type and dims."""
    lines = ((_short(tensor.name), TITLE), (_short(tensor.type_text), SMALL))
    width = max(text_width(text, size) for text, size in lines) + 2 * _PAD
    texts = [Text(text, size, width / 2, 17 + _LINE * index) for index, (text, size) in enumerate(lines)]
    return Box(tensor.role, f"{tensor.name}: {tensor.type_text}", width, 2 * _LINE + 9, texts)


def step_box(step: Step) -> Box:
    """A step: its model, what is said of it, and its own names of what it reads and writes."""
    head = [(_short(step.model), TITLE), *((_short(fact), SMALL) for fact in step.facts)]
    rows = max(len(step.inputs), len(step.outputs))
    sides = [[_short(name) for name in side] for side in (step.inputs, step.outputs)]
    width = max([text_width(text, size) for text, size in head] + [_row_width(sides, row) for row in range(rows)])
    width += 2 * _PAD
    texts = [Text(text, size, width / 2, 19 + _LINE * index) for index, (text, size) in enumerate(head)]
    below = 19 + _LINE * len(head) + 4
    height = below + _LINE * rows - 4
    box = Box("step" if step.known else "unknown", " ".join((step.model, *step.facts)), width, height, texts)
    for side, names, shown in (("in", step.inputs, sides[0]), ("out", step.outputs, sides[1])):
        for row, (own, text) in enumerate(zip(names, shown, strict=True)):
            y = below + _LINE * row
            x, anchor = (_PAD, "start") if side == "in" else (width - _PAD, "end")
            box.texts.append(Text(text, SMALL, x, y, anchor))
            box.ports[side, own] = y - 4 - height / 2
    return box


def _row_width(sides: Sequence[Sequence[str]], row: int) -> float:
    """The width of an input's and an output's name beside each other."""
    return sum(text_width(side[row], SMALL) for side in sides if row < len(side)) + 2 * _PAD
