# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A graph as an SVG file of its own: no fonts, scripts or styles from elsewhere.

Every text stands on a box of its own colour and lines are of a middle grey, so that it reads on any background.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from xml.sax.saxutils import escape

from trtkit.drawing.boxes import SMALL, TITLE, Box, Text, text_width
from trtkit.drawing.graph import Graph, printable
from trtkit.drawing.layout import Line, layout

_MARGIN, _HEAD = 16.0, 44.0
_FONT = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"
_INK, _GREY = "#1b2733", "#7b8794"
# fill and border by kind
_COLOURS = {
    "input": ("#e3f4e6", "#4c9a5e"),
    "output": ("#fdeede", "#c98a3a"),
    "inner": ("#f3f4f6", "#8c96a3"),
    "step": ("#eaf1fb", "#5b7db1"),
    "unknown": ("#fbeaea", "#b3473f"),
}


def to_svg(graph: Graph) -> str:
    """The picture of a graph."""
    placed = layout(graph)
    heading = printable(graph.heading)
    head_width = text_width(heading, TITLE) + 24
    width, height = max(placed.width, head_width) + 2 * _MARGIN, placed.height + _HEAD + 2 * _MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" font-family="{_FONT}">',
            f"<title>{escape(heading)}</title>",
            '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
            f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z" fill="{_GREY}"/></marker></defs>',
            f'<g transform="translate({_MARGIN:.0f} {_MARGIN:.0f})">',
            f'<rect width="{head_width:.1f}" height="26" rx="5" fill="{_INK}"/>',
            f'<text x="12" y="18" font-size="{TITLE:.0f}" fill="#ffffff">{escape(heading)}</text>',
            f'<g transform="translate(0 {_HEAD:.0f})">',
            f'<g fill="none" stroke="{_GREY}" stroke-width="1.5">',
            *(_path(line) for line in placed.lines),
            "</g>",
            *(text for box in placed.boxes for text in _box(box)),
            "</g>",
            "</g>",
            "</svg>",
            "",
        ]
    )


def _path(line: Line) -> str:
    """Level inside the columns, bent in the gaps between them."""
    points = line.points
    parts = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for (x, y), (to_x, to_y) in pairwise(points):
        middle = (x + to_x) / 2
        level = abs(y - to_y) < 0.05
        bent = f"C{middle:.1f} {y:.1f} {middle:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"
        if to_x - x > 0.05:
            parts.append(f"H{to_x:.1f}" if level else bent)
    return f'<path d="{"".join(parts)}" marker-end="url(#arrow)"/>'


def _box(box: Box) -> Iterator[str]:
    fill, border = _COLOURS[box.kind]
    radius = 6 if box.kind in ("step", "unknown") else box.height / 2
    dashes = ' stroke-dasharray="5 3"' if box.kind == "unknown" else ""
    yield f'<g transform="translate({box.x:.1f} {box.y:.1f})">'
    yield f"<title>{escape(printable(box.tooltip))}</title>"
    yield (
        f'<rect width="{box.width:.1f}" height="{box.height:.1f}" rx="{radius:.1f}" fill="{fill}" '
        f'stroke="{border}" stroke-width="1.5"{dashes}/>'
    )
    for index, text in enumerate(box.texts):
        yield _text(text, bold=index == 0)
    yield "</g>"


def _text(text: Text, *, bold: bool) -> str:
    weight = ' font-weight="bold"' if bold and text.size > SMALL else ""
    return (
        f'<text x="{text.x:.1f}" y="{text.y:.1f}" font-size="{text.size:.0f}" text-anchor="{text.anchor}"{weight} '
        f'fill="{_INK}" xml:space="preserve">{escape(text.text)}</text>'
    )
