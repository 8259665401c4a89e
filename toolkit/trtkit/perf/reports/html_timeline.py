# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The timeline of the HTML page: all measurements one after the other on one axis of seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from trtkit.perf.measurement import Measurement
from trtkit.perf.reports.html_charts import MOST_LABELS, Chart, short_label, text
from trtkit.perf.server.resources import GpuSample, Sample

_MOST_BINS = 600
_SHORTEST_BIN_NS = 50_000_000
_FEWEST_A_BIN = 20
_PANEL_PX = 150
_LATENCY = "latency, ms"
_FAR = 50
_CLOSE_NS = 100_000_000


class _Panel(NamedTuple):
    title: str
    traces: list[go.Scatter]


def judged_ns(measurement: Measurement) -> tuple[int, int]:
    """From when to when the judged windows were, on the clock of the records."""
    ends = np.cumsum([0, *(window.duration_ns for window in measurement.windows)]) + measurement.start_ns
    judged = min(measurement.load.judged_windows, len(measurement.windows))
    return int(ends[len(ends) - 1 - judged]), int(ends[-1])


def timeline(measurements: Sequence[Measurement]) -> Chart | None:
    """Latency, throughput, failures, queue, batch size, GPU and server over time; None when nothing ended."""
    if not any(len(one.all_records) for one in measurements):
        return None
    origin = min(one.start_ns for one in measurements)
    panels = [panel for panel in _panels(measurements, origin) if panel.traces]
    figure = make_subplots(
        rows=len(panels),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.28 / max(len(panels), 2),
        subplot_titles=[panel.title for panel in panels],
    )
    named = set()
    for row, panel in enumerate(panels, 1):
        for trace in panel.traces:
            trace.update(showlegend=len(panel.traces) > 1 and trace.name not in named, legendgroup=trace.name)
            named.add(trace.name)
            figure.add_trace(trace, row=row, col=1)
        figure.update_yaxes(**_axis(panel), row=row, col=1)
    figure.update_annotations(x=0, xanchor="left")
    figure.layout.annotations[0].update(yshift=16)
    figure.update_xaxes(title_text="seconds since the first window", row=len(panels), col=1)
    figure.update_layout(hovermode="x unified")
    _mark_judged(figure, measurements, origin)
    return Chart(
        "timeline",
        "Timeline",
        "Shaded: the judged windows, whose figures the tables show.",
        figure,
        height_px=110 + _PANEL_PX * len(panels),
    )


def _axis(panel: _Panel) -> dict[str, Any]:
    """From zero on; logarithmic where a stall would hide everything else."""
    values = [value for trace in panel.traces for value in trace.y if value]
    if panel.title == _LATENCY and values and max(values) > _FAR * min(values):
        return {"type": "log", "dtick": 1}
    return {"rangemode": "tozero", "nticks": 4}


def _mark_judged(figure: go.Figure, measurements: Sequence[Measurement], origin: int) -> None:
    for one in measurements:
        if not one.windows:
            continue
        start, end = ((moment - origin) / 1e9 for moment in judged_ns(one))
        figure.add_shape(type="rect", x0=start, x1=end, y0=0, y1=1, xref="x", yref="paper", layer="below", line_width=0)
        if 1 < len(measurements) <= MOST_LABELS:
            place = {"x": (start + end) / 2, "y": 1, "xref": "x", "yref": "y domain", "yanchor": "bottom"}
            figure.add_annotation(text=short_label(one), name="level", showarrow=False, **place)


def _panels(measurements: Sequence[Measurement], origin: int) -> Iterator[_Panel]:
    """The panels from top to bottom; one without traces says nothing and is left out."""
    bins = [_Bins(one, origin, _bin_ns(measurements)) for one in measurements if len(one.all_records)]
    latency = [_line("p50", _joined(bins, lambda b: b.percentile(b.latency, 500)), 0)]
    latency.append(_line("p99", _joined(bins, lambda b: b.percentile(b.latency, 990)), 2))
    if any(one.intended_latency for one in measurements):
        latency.append(
            _line("p99 from intended time", _joined(bins, lambda b: b.percentile(b.intended, 990)), 2, "dot")
        )
    yield _Panel(_LATENCY, latency)
    yield _Panel("throughput, inferences/s", [_line("throughput", _joined(bins, lambda b: b.rate()), 1)])
    if any(one.errors for one in measurements):
        failures = _line("failures", _joined(bins, lambda b: b.failures()), 0)
        failures.update(meta={"error": True})
        yield _Panel("failed requests/s", [failures])
    yield from _server_panels([sample for one in measurements for sample in (*_spaced(one.samples), None)], origin)


class _Bins:
    """The requests of one measurement in stretches of equal length, from the first window to the last end."""

    def __init__(self, measurement: Measurement, origin: int, bin_ns: int) -> None:
        records = measurement.all_records
        start = measurement.start_ns
        span = int(records.last_ns[-1]) + 1 - start
        count = max(1, round(span / bin_ns))
        edges = start + span * np.arange(count + 1) // count
        self._batch = measurement.load.batch_size
        self._length_s = span / count / 1e9
        succeeded, failed = records.where(records.ok), records.where(~records.ok)
        self._places = np.searchsorted(succeeded.last_ns, edges)
        self._failed = np.diff(np.searchsorted(failed.last_ns, edges))
        self.latency, self.intended = succeeded.latency_ns, succeeded.intended_latency_ns
        self.seconds = np.round(((edges[:-1] + edges[1:]) / 2 - origin) / 1e9, 4)

    def percentile(self, values: Any, per_mille: int) -> list[float | None]:
        """Of each stretch in milliseconds, nearest rank; None where no request ended."""
        found: list[float | None] = []
        for first, end in zip(self._places[:-1], self._places[1:], strict=True):
            part = np.sort(values[first:end])
            rank = -(-per_mille * len(part) // 1000) - 1
            found.append(round(int(part[rank]) / 1e6, 4) if len(part) else None)
        return found

    def rate(self) -> list[float | None]:
        """Inferences per second."""
        return [round(float(n), 2) for n in np.diff(self._places) * self._batch / self._length_s]

    def failures(self) -> list[float | None]:
        """Failed requests per second."""
        return [round(float(n), 2) for n in self._failed / self._length_s]


def _bin_ns(measurements: Sequence[Measurement]) -> int:
    """Long enough for 20 requests each at the mean rate, and for at most 600 stretches in all."""
    spans = [int(one.all_records.last_ns[-1]) - one.start_ns for one in measurements if len(one.all_records)]
    requests = sum(len(one.all_records) for one in measurements)
    return max(_SHORTEST_BIN_NS, sum(spans) // _MOST_BINS, sum(spans) * _FEWEST_A_BIN // max(requests, 1), 1)


_Points = tuple[list[float | None], list[float | None]]


def _joined(bins: Sequence[_Bins], values: Callable[[_Bins], list[float | None]]) -> _Points:
    """One line through all measurements, with a gap between two of them."""
    x: list[float | None] = []
    y: list[float | None] = []
    for part in bins:
        x += [*part.seconds.tolist(), None]
        y += [*values(part), None]
    return x, y


def _line(name: str, points: _Points, series: int, dash: str = "solid") -> go.Scatter:
    return go.Scatter(
        x=points[0],
        y=points[1],
        name=name,
        mode="lines+markers" if len(points[0]) < 40 else "lines",
        marker={"size": 5},
        line={"dash": dash, "width": 1.8},
        connectgaps=False,
        hovertemplate="%{y}",
        meta={"series": series},
    )


def _spaced(samples: Sequence[Sample]) -> Iterator[Sample]:
    """Without samples right after another one (a window's end): their means are of a few requests."""
    before = None
    for sample in samples:
        if before is None or sample.at_ns - before >= _CLOSE_NS:
            yield sample
        before = sample.at_ns


def _server_panels(samples: Sequence[Sample | None], origin: int) -> Iterator[_Panel]:
    """What the server said about itself at the same times; None stands between two measurements."""
    seconds = [None if sample is None else round((sample.at_ns - origin) / 1e9, 3) for sample in samples]

    def line(name: str, value: Callable[[Sample], float | None], series: int) -> list[go.Scatter]:
        values = [None if sample is None else value(sample) for sample in samples]
        if all(item is None for item in values):
            return []
        return [_line(name, (seconds, [None if item is None else round(item, 4) for item in values]), series)]

    times = line("server queue", lambda s: _ms(s.queue_ns), 3) + line("server compute", lambda s: _ms(s.compute_ns), 4)
    yield _Panel("server queue and compute, ms", times)
    yield _Panel("requests waiting in the server", line("pending", lambda s: s.pending_requests, 4))
    yield _Panel("average batch size", line("batch size", lambda s: s.batch_size_mean, 5))
    gpus = sorted({gpu.uuid for sample in samples if sample for gpu in sample.gpus})
    for title, value in _GPU_PANELS:
        lines = [line(text(uuid), _of(uuid, value), number) for number, uuid in enumerate(gpus)]
        yield _Panel(title, [trace for traces in lines for trace in traces])
    yield _Panel("server CPU, cores", line("server CPU", lambda s: s.server_cpu_share, 0))
    yield _Panel("server memory, MiB", line("server memory", lambda s: _mib(s.server_memory_bytes), 1))


def _of(uuid: str, value: Callable[[GpuSample], float | None]) -> Callable[[Sample], float | None]:
    """The value of one GPU; None in a sample that does not have it."""
    return lambda sample: next((value(gpu) for gpu in sample.gpus if gpu.uuid == uuid), None)


def _ms(nanoseconds: float | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e6


def _mib(size_bytes: float | None) -> float | None:
    return None if size_bytes is None else size_bytes / 2**20


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


_GPU_PANELS: tuple[tuple[str, Callable[[GpuSample], float | None]], ...] = (
    ("GPU utilisation, %", lambda gpu: _percent(gpu.utilization)),
    ("GPU memory, MiB", lambda gpu: _mib(gpu.memory_used_bytes)),
    ("GPU power, W", lambda gpu: gpu.power_w),
)
