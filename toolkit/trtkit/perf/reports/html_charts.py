# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The charts of the HTML page as plotly figures, without colours: the page gives those, light or dark.

A trace says in ``meta`` which colour it takes: ``series`` counts through the page's palette, ``shade`` (0 to 1) is a
place between light and heavy load, ``error`` is the colour of failures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from trtkit.perf.loop.records import Integers
from trtkit.perf.measurement import Measurement
from trtkit.perf.reports.report import plain, rate

MOST_LABELS = 12
"""More labels than these would cover each other, also on a wide screen."""


@dataclass(frozen=True)
class Chart:
    """One chart of the page.

    Attributes:
        name: of its place in the page: letters and dashes.
        title: what it shows, with units.
        caption: how to read it, in a sentence.
        figure: the plotly figure; texts in it are escaped.
        height_px: how tall it is drawn.
    """

    name: str
    title: str
    caption: str
    figure: go.Figure
    height_px: int = 380


def label(measurement: Measurement) -> str:
    """The load in few words, escaped."""
    return text(measurement.load.label)


def text(value: str) -> str:
    """A text for a figure: plotly reads some HTML in texts, and names come from strangers."""
    return escape(plain(value), quote=False)


def shade(number: int, count: int) -> float:
    """The place of a level among `count`, from 0 (the first) to 1 (the last)."""
    return number / (count - 1) if count > 1 else 0.35


def heaviest_last(measurements: Sequence[Measurement]) -> list[Measurement]:
    """In the order of the load, so that a line through them does not go back and forth."""
    return sorted(measurements, key=lambda one: (one.load.request_rate, one.load.concurrency))


def throughput_latency(measurements: Sequence[Measurement]) -> Chart | None:
    """Latency percentiles over throughput, a point for each load; None without a successful request."""
    held = [one for one in heaviest_last(measurements) if one.latency]
    if not held:
        return None
    figure = go.Figure()
    for number, (name, per_mille) in enumerate((("p50", 500), ("p90", 900), ("p99", 990))):
        values: list[int | None] = [one.latency.percentile(per_mille) for one in held if one.latency]
        figure.add_trace(_curve(held, values, name, series=number, labelled=name == "p99"))
    if any(one.intended_latency for one in held):
        values = [one.intended_latency.p99_ns if one.intended_latency else None for one in held]
        figure.add_trace(_curve(held, values, "p99 from intended time", series=2, dash="dot"))
    highest = [latency.p99_ns for one in held for latency in (one.latency, one.intended_latency) if latency]
    lowest = [one.latency.p50_ns for one in held if one.latency]
    figure.update_xaxes(title_text="throughput, inferences/s", rangemode="tozero")
    figure.update_yaxes(title_text="latency, ms", **scale(min(lowest), max(highest)))
    return Chart(
        "throughput-latency",
        "Throughput and latency (ms)",
        "One point for each load; hollow points are unstable results. Where throughput stops growing and latency "
        "goes on, the server is full.",
        figure,
    )


def _curve(
    held: Sequence[Measurement],
    values: Sequence[int | None],
    name: str,
    *,
    series: int,
    dash: str = "solid",
    labelled: bool = False,
) -> go.Scatter:
    labelled = labelled and 1 < len(held) <= MOST_LABELS
    symbols = ["circle" if one.stable else "circle-open" for one in held]
    return go.Scatter(
        x=[one.throughput_infer_per_s for one in held],
        y=[None if value is None else value / 1e6 for value in values],
        name=name,
        mode="lines+markers+text" if labelled else "lines+markers",
        text=[short_label(one) for one in held],
        textposition="top left",
        customdata=[label(one) + ("" if one.stable else " (unstable)") for one in held],
        hovertemplate=f"%{{customdata}}<br>%{{x:,.0f}} inferences/s<br>{name} %{{y:.3f}} ms<extra></extra>",
        marker={"size": 9, "symbol": symbols, "line": {"width": 2}},
        line={"dash": dash, "width": 2},
        meta={"series": series},
    )


def short_label(measurement: Measurement) -> str:
    """The load as a number, for labels in a chart."""
    load = measurement.load
    return f"{rate(load.request_rate)}/s" if load.is_open else str(load.concurrency)


def scale(lowest: float, highest: float) -> dict[str, Any]:
    """A logarithmic axis where a linear one would press the small values to the ground; for nanoseconds shown as ms."""
    if not lowest > 0 or highest / lowest <= 15:
        return {"type": "linear", "rangemode": "tozero"}
    decades = range(int(np.floor(np.log10(lowest / 1e6))), int(np.ceil(np.log10(highest / 1e6))) + 1)
    steps = (1, 2, 5) if len(decades) <= 4 else (1,)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def distribution(measurements: Sequence[Measurement]) -> Chart | None:
    """Latency over its percentile up to p99.99, from the send and from the intended time."""
    held = [one for one in measurements if one.latency]
    if not held:
        return None
    figure, extremes = go.Figure(), []
    for number, one in enumerate(held):
        succeeded = one.records.where(one.records.ok)
        colour = {"shade": shade(number, len(held))} if len(held) > 1 else {"series": 0}
        lines = [(label(one) if len(held) > 1 else "from the send", succeeded.latency_ns, "solid", colour)]
        if one.intended_latency:
            name = f"{label(one)}, from intended time" if len(held) > 1 else "from the intended time"
            lines.append((name, succeeded.intended_latency_ns, "dot", colour if len(held) > 1 else {"series": 1}))
        for name, latencies, dash, meta in lines:
            figure.add_trace(percentile_line(name, latencies, dash=dash, meta=meta))
            extremes += [int(latencies.min()), int(latencies.max())]
    percentile_axes(figure, extremes)
    return Chart(
        "distribution",
        "Latency distribution (ms)",
        "How many of the requests were at least this fast; to the right are the slowest ones, each step of the axis "
        "ten times rarer.",
        figure,
    )


def percentile_line(name: str, values_ns: Integers, *, dash: str, meta: dict[str, Any]) -> go.Scatter:
    """At most 200 nearest-rank percentiles, evenly spaced in log(1 / (1 − p)), up to p99.99.

    Args:
        name: escaped.
        values_ns: at least one, in any order.
        dash: plotly's name of the line's kind.
        meta: its colour.
    """
    ordered = np.sort(values_ns)
    count = len(ordered)
    inverse = np.geomspace(1, min(max(count, 2), 10_000), 200)
    ranks = np.clip(np.ceil((1 - 1 / inverse) * count).astype(np.int64), 1, count)
    return go.Scatter(
        x=np.round(inverse, 4),
        y=np.round(ordered[ranks - 1] / 1e6, 5),
        name=name,
        mode="lines",
        line={"dash": dash, "width": 2, "shape": "hv"},
        customdata=np.round(100 - 100 / inverse, 3),
        hovertemplate=f"{name}<br>p%{{customdata}}: %{{y:.3f}} ms<extra></extra>",
        meta=meta,
    )


def percentile_axes(figure: go.Figure, extremes_ns: Sequence[int]) -> None:
    """Axes for lines of `percentile_line`, whose values are between these extremes."""
    names = ("p50", "p90", "p99", "p99.9", "p99.99")
    end = np.log10(max((float(trace.x[-1]) for trace in figure.data), default=10.0)) + 0.05
    figure.update_xaxes(
        title_text="percentile",
        type="log",
        tickvals=[2, 10, 100, 1000, 10_000],
        ticktext=names,
        tickangle=0,
        range=[0, round(float(end), 3)],
    )
    figure.update_yaxes(title_text="latency, ms", **scale(min(extremes_ns), max(extremes_ns)))


def streaming(measurements: Sequence[Measurement]) -> Chart | None:
    """Time to the first token and between tokens over their percentile; None when nothing streamed."""
    held = [one for one in measurements if one.streaming and one.records.streamed]
    figure, extremes = go.Figure(), []
    for number, one in enumerate(held):
        succeeded = one.records.where(one.records.ok)
        parts = (("TTFT", succeeded.first_ns - succeeded.sent_ns, "solid", 0), ("ITL", gaps_ns(one), "dot", 1))
        for name, values, dash, series in parts:
            if len(values):
                colour = {"shade": shade(number, len(held))} if len(held) > 1 else {"series": series}
                named = f"{name}, {label(one)}" if len(held) > 1 else name
                figure.add_trace(percentile_line(named, values, dash=dash, meta=colour))
                extremes += [int(values.min()), int(values.max())]
    if not extremes:
        return None
    percentile_axes(figure, extremes)
    return Chart(
        "streaming",
        "Time to first token (TTFT) and between tokens (ITL), ms",
        "A token is a response with content.",
        figure,
    )


def gaps_ns(measurement: Measurement) -> Integers:
    """The times between the responses of each successful request."""
    succeeded = measurement.records.where(measurement.records.ok)
    gaps = np.diff(succeeded.response_ns)
    last_of_each = np.cumsum(succeeded.responses)[:-1] - 1
    inside = np.ones(len(gaps), bool)
    inside[last_of_each[(last_of_each >= 0) & (last_of_each < len(gaps))]] = False
    return gaps[inside]
