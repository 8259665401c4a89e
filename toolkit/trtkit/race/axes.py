# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Axes, budget and labelled points of the error-latency plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from trtkit.race.choose import Choice
from trtkit.race.labels import Box, place
from trtkit.race.points import Point, Scale, budget, scale_of

_CHOSEN, _FITS, _OUTSIDE, _QUIET, _GRID = "#0b7a53", "#3a6ea5", "#b5482a", "#5f6570", "#e6e8eb"
# latencies that differ by more than this are told apart only on a logarithmic axis
_LOG_ABOVE = 6.0
_MARK_RADIUS_PIXELS = 7.0


def draw_axes(axes: Any, points: Sequence[Point], choice: Choice) -> Scale:
    """Scales, ticks and titles of both axes."""
    scale = scale_of(points, budget(choice))
    margin = (scale.top / scale.zero) ** 0.09
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=3, color=_QUIET)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_yscale("log")
    axes.set_ylim(scale.zero / margin, scale.top * margin)
    _error_ticks(axes, scale)
    axes.set_ylabel("largest error / tolerance" if choice.max_drop is None else "drop of the metric")
    axes.yaxis.set_label_coords(-0.09, 0.5)  # the ticks' texts have different widths
    _latency_axis(axes, [point.latency_ms for point in points])
    return scale


def _error_ticks(axes: Any, scale: Scale) -> None:
    first, last = round(math.log10(scale.low)), math.floor(math.log10(scale.high) + 1e-9)
    powers = range(first, last + 1, max(1, (last - first) // 5))
    ticks = {scale.zero: "0"} | {10.0**power: f"{10.0**power:g}" for power in powers}
    if scale.top > scale.high:
        ticks[scale.top] = "NaN"
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.set_yticks([], minor=True)
    # errors of 0 are not to scale, and so are those that are no number
    for inner, outer in ((scale.low, scale.zero), (scale.high, scale.top)):
        if inner != outer:
            axes.axhline(math.sqrt(inner * outer), color=_QUIET, linewidth=0.7, linestyle=(0, (1, 3)))


def _latency_axis(axes: Any, times_ms: Sequence[float]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator

    least, most = min(times_ms), max(times_ms)
    if most <= _LOG_ABOVE * least:
        axes.set_xlim(0.0, most * 1.2)
        axes.set_xlabel("milliseconds of a run")
        return
    axes.set_xscale("log")
    room = (most / least) ** 0.15
    axes.set_xlim(least / room, most * room)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if most < 200 * least else (1.0,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xticks([], minor=True)
    axes.set_xlabel("milliseconds of a run (logarithmic)")


def draw_budget(axes: Any, scale: Scale, choice: Choice) -> list[Box]:
    """The line that errors have to stay below; what it covers, in pixels."""
    limit = budget(choice)
    height = scale.position(limit)
    axes.axhline(height, color=_OUTSIDE, linewidth=1.1, linestyle=(0, (6, 3)), gid="budget")
    text = "the tolerance of each precision" if choice.max_drop is None else f"budget: a drop of {limit:g}"
    label = axes.annotate(
        text, (1.0, height), xycoords=("axes fraction", "data"), xytext=(-2, 3), textcoords="offset points",
        ha="right", va="bottom", fontsize=8, color=_OUTSIDE,
    )  # fmt: skip
    frame = _frame(axes)
    line = float(axes.transData.transform((axes.get_xlim()[1], height))[1])
    return [Box(frame.left, line - 2, frame.right, line + 2), _box(label, axes)]


def draw_points(axes: Any, points: Sequence[Point], scale: Scale, avoid: Sequence[Box]) -> None:
    """The points, the chosen one marked, and a label for each."""
    places = [(point.latency_ms, scale.position(point.error)) for point in points]
    labels = []
    for point, (x, y) in zip(points, places, strict=True):
        colour = _colour(point)
        mark = {"marker": "*", "s": 190, "zorder": 4} if point.is_chosen else {"marker": "o", "s": 46, "zorder": 3}
        axes.scatter([x], [y], color=colour, edgecolors="white", linewidths=0.8, clip_on=False, **mark)
        labels.append(_label(axes, point, colour))
    pixels = [(float(x), float(y)) for x, y in axes.transData.transform(places)]
    sizes = [(box.right - box.left, box.top - box.bottom) for box in (_box(label, axes) for label in labels)]
    boxes = place(pixels, sizes, _frame(axes), radius=_MARK_RADIUS_PIXELS, avoid=avoid)
    to_data = axes.transData.inverted()
    for label, box, (x, y) in zip(labels, boxes, pixels, strict=True):
        label.set_position(to_data.transform((box.left + 2, box.top - 2)))
        end = box.nearest(x, y)
        if math.dist((x, y), end) > 2 * _MARK_RADIUS_PIXELS:
            (x0, y0), (x1, y1) = to_data.transform((x, y)), to_data.transform(end)
            axes.plot([x0, x1], [y0, y1], color=_QUIET, linewidth=0.6, zorder=2)


def _label(axes: Any, point: Point, colour: str) -> Any:
    name = f"{point.name} (taken)" if point.is_chosen else point.name if point.is_inside else f"{point.name} (outside)"
    return axes.text(
        point.latency_ms, axes.get_ylim()[0], f"{name}\n{point.text}",
        fontsize=8, color=colour, va="top", ha="left", linespacing=1.25, zorder=5, gid=f"label-{point.name}",
        fontweight="bold" if point.is_chosen else "normal",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0},
    )  # fmt: skip


def _colour(point: Point) -> str:
    return _CHOSEN if point.is_chosen else _FITS if point.is_inside else _OUTSIDE


def _box(text: Any, axes: Any) -> Box:
    left, bottom, right, top = map(float, text.get_window_extent(axes.figure.canvas.get_renderer()).extents)
    return Box(left - 2, bottom - 2, right + 2, top + 2)


def _frame(axes: Any) -> Box:
    return Box(*map(float, axes.get_window_extent(axes.figure.canvas.get_renderer()).extents))
