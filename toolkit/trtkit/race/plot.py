# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The error-latency plot of a race as SVG, with the same bytes for the same numbers."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import Any

from trtkit.race.axes import draw_axes, draw_budget, draw_points
from trtkit.race.choose import Choice
from trtkit.race.measure import Row
from trtkit.race.points import Point, point_of

_QUIET = "#5f6570"
# inches; the height grows by a line for each candidate that cannot be drawn
_WIDTH, _HEAD, _AXES_HEIGHT, _FOOT, _LINE, _LEFT, _RIGHT = 8.0, 0.75, 3.9, 0.62, 0.19, 0.85, 0.2
# text as outlines, because a viewer's own font would need other places; $ in a name is no formula
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "trtkit", "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 9.5,
    "text.parse_math": False,
}  # fmt: skip


def plot_svg(rows: Sequence[Row], choice: Choice, title: str) -> bytes:
    """Latency at the batch that decided against the drop of the metric, or the error without a metric.

    Without a metric the error is the largest one as a share of what its precision's tolerance allows, because
    each precision has its own. No error, or a better metric, stands on a line of its own below the logarithmic
    axis. Candidates that cannot be drawn are listed below.

    Args:
        rows: what was measured.
        choice: what was chosen.
        title: the model's name.

    Returns:
        The SVG document in UTF-8.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    with mpl.rc_context(_STYLE):
        figure = draw(rows, choice, title)
        out = io.BytesIO()
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None, "Creator": "trtkit"})
    return out.getvalue()


def draw(rows: Sequence[Row], choice: Choice, title: str) -> Any:
    """The plot as a matplotlib Figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points = [point for row in rows if (point := point_of(row, choice))]
    below = _listed(rows, points, choice)
    foot = _FOOT + _LINE * len(below) + (0.1 if below else 0.0)
    height = _HEAD + _AXES_HEIGHT + foot
    figure = Figure(figsize=(_WIDTH, height), dpi=100)
    FigureCanvasAgg(figure)  # measures the texts that are placed around each other
    at = f"batch {choice.batch}" if choice.batch else "whole requests"
    left = _LEFT / _WIDTH
    _line(figure, left, 1 - 0.27 / height, f"{title}: error and latency, {at}", fontsize=11, fontweight="bold")
    _line(figure, left, 1 - 0.5 / height, choice.why, fontsize=8.5, color=_QUIET)
    for index, line in enumerate(reversed(below)):
        _line(figure, 0.25 / _WIDTH, (0.15 + _LINE * index) / height, line, fontsize=8.5, color=_QUIET)
    if points:
        width = (_WIDTH - _LEFT - _RIGHT) / _WIDTH
        axes = figure.add_axes((left, foot / height, width, _AXES_HEIGHT / height))
        scale = draw_axes(axes, points, choice)
        draw_points(axes, points, scale, draw_budget(axes, scale, choice))
    else:
        figure.text(0.5, 0.5, "no candidate was timed", ha="center", color=_QUIET)
    return figure


def _listed(rows: Sequence[Row], points: Sequence[Point], choice: Choice) -> list[str]:
    """The lines below the plot: candidates without a point, with their sentences."""
    drawn = {point.name for point in points}
    return [f"{row.name}: {choice.verdicts[row.name]}" for row in rows if row.name not in drawn]


def _line(figure: Any, x: float, y: float, text: str, **style: Any) -> None:
    """A line of text, cut at a word where the figure ends."""
    shown = " ".join(text.split())
    line = figure.text(x, y, shown, va="center", **style)
    renderer = figure.canvas.get_renderer()
    while line.get_window_extent(renderer).x1 > figure.bbox.width - 8 and len(shown) > 2:
        shown = textwrap.shorten(text, len(shown) - 1, placeholder=" …") if " " in shown else f"{shown[:-2]}…"
        line.set_text(shown)
