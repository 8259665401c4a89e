# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A simulation as a picture: load and capacity, replicas, and waits; a column for each autoscaler."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trtkit.deploy.simulation.result import Result
from trtkit.errors import ProjectError

_LOAD, _READY, _SET, _WAIT, _MISS, _QUIET, _GRID = (
    "#1f4e79", "#0b7a53", "#8a8f98", "#6b4c9a", "#b5482a", "#5f6570", "#e6e8eb",
)  # fmt: skip
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "trtkit", "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 9,
    "text.parse_math": False,
}  # fmt: skip
FORMATS = (".png", ".svg")
_MOST_POINTS = 400  # of a curve; a longer one is drawn as a band
_FLOOR = 200.0  # waits this many times shorter than the objective lie on the axis


def write_plot(results: Sequence[Result], path: Path) -> None:
    """Draw simulations of the same load beside each other.

    Args:
        results: one or more.
        path: of the file, .png or .svg.

    Raises:
        ProjectError: another ending, or the file cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise ProjectError(f"--plot {path}: the name has to end in {' or '.join(FORMATS)}")
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        figure = draw(results)
        out = io.BytesIO()
        if path.suffix.lower() == ".svg":
            figure.savefig(out, format="svg", metadata={"Date": None, "Creator": "trtkit"})
        else:
            figure.savefig(out, format="png", dpi=150, metadata={"Software": "trtkit"})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(out.getvalue())
    except OSError as exc:
        raise ProjectError(f"--plot: {path} cannot be written: {exc.strerror}") from exc


def draw(results: Sequence[Result]) -> Any:
    """The picture as a matplotlib Figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.4 + 4.7 * len(results), 7.6))
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, len(results), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 2, 3))
    for column, result in enumerate(results):
        unit_s = 3600.0 if result.trace.duration_s >= 7200 else 60.0
        times = [step.time_s / unit_s for step in result.steps]
        _load(axes[0][column], result, times)
        _replicas(axes[1][column], result, times)
        _waits(axes[2][column], result, times)
        _title(axes[0][column], result)
        axes[2][column].set_xlabel(_clock(result, unit_s))
        for row in range(3):
            _frame(axes[row][column], times)
    for row, text in enumerate(("requests per second", "pods", "wait, 99th percentile")):
        axes[row][0].set_ylabel(text)
        axes[row][0].legend(loc="upper left", fontsize=7.5, frameon=True, framealpha=0.85, edgecolor="none")
    _limits(axes, results)
    figure.align_ylabels()
    figure.tight_layout(h_pad=0.8, w_pad=1.2)
    return figure


def _band(axes: Any, times: Sequence[float], values: Sequence[float], color: str, label: str) -> None:
    """A curve; of a long one, the mean, and lightly what lies between the lowest and the highest value of a part."""
    size = -(-len(values) // _MOST_POINTS)
    if size == 1:
        axes.step(times, values, color=color, linewidth=1.3, where="pre", label=label)
        return
    parts = [values[index : index + size] for index in range(0, len(values), size)]
    ends = [times[min(index + size, len(times)) - 1] for index in range(0, len(values), size)]
    low, high = [min(part) for part in parts], [max(part) for part in parts]
    axes.fill_between(ends, low, high, color=color, alpha=0.28, linewidth=0, step="pre")
    axes.step(ends, [sum(part) / len(part) for part in parts], color=color, linewidth=1.2, where="pre", label=label)


def _load(axes: Any, result: Result, times: Sequence[float]) -> None:
    rates = [step.arrived_per_s for step in result.steps]
    _band(axes, times, [step.capacity_per_s for step in result.steps], _READY, "capacity of ready pods")
    _band(axes, times, rates, _LOAD, "load")


def _replicas(axes: Any, result: Result, times: Sequence[float]) -> None:
    _band(axes, times, [float(step.replicas) for step in result.steps], _SET, "set by the autoscaler")
    _band(axes, times, [float(step.ready) for step in result.steps], _READY, "ready")


def _waits(axes: Any, result: Result, times: Sequence[float]) -> None:
    from matplotlib.ticker import FuncFormatter

    limit_ms = 1000 * (result.settings.objective.latency_s - result.settings.pod.service_s)
    waits = [max(step.wait_p99_ms, limit_ms / _FLOOR) for step in result.steps]
    late = [step.missed_per_s > 0.01 * step.arrived_per_s for step in result.steps]
    _band(axes, times, waits, _WAIT, "wait")
    axes.axhline(
        limit_ms, color=_MISS, linewidth=1.1, linestyle=(0, (6, 3)), label=f"objective less service: {limit_ms:.4g} ms"
    )
    axes.fill_between(
        times, 0, 1, where=late, step="mid", transform=axes.get_xaxis_transform(), color=_MISS, alpha=0.18, linewidth=0,
        label="more than 1 % too late",
    )  # fmt: skip
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:g} ms" if value < 1000 else f"{value / 1000:g} s")
    )
    axes.set_yticks([], minor=True)


def _title(axes: Any, result: Result) -> None:
    summary = result.summary
    hours = f"{summary.gpu_hours:.1f} GPU-hours" if result.settings.pod.gpus else f"{summary.pod_hours:.1f} pod-hours"
    color = _READY if result.holds else _MISS
    axes.set_title(title(result), fontsize=9.5, fontweight="bold", loc="left", pad=20)
    late = 100 * summary.miss_share
    share = f"{late:.3g}" if late >= 0.001 else "0" if late == 0 else "< 0.001"
    text = f"{share} % too late, {hours}, {summary.ups + summary.downs} changes"
    axes.text(0, 1.03, text, transform=axes.transAxes, fontsize=8.5, color=color)


def title(result: Result) -> str:
    """E.g. ``HPA: pending 8 requests, 2 to 12 pods``."""
    scaler = result.scaler
    if not scaler.metrics and scaler.minimum == scaler.maximum:
        return scaler.name
    metrics = "" if scaler.name.startswith("NVIDIA") else ": " + ", ".join(metric.text for metric in scaler.metrics)
    return f"{scaler.name}{metrics}; {scaler.minimum} to {scaler.maximum} pods"


def _clock(result: Result, unit_s: float) -> str:
    if unit_s == 60:
        return "minutes"
    start = result.trace.start
    return (
        "hours" if start.hour or start.minute else f"hours from {start:%Y-%m-%d %H:%M} {start.tzname() or ''}".rstrip()
    )


def _frame(axes: Any, times: Sequence[float]) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=3, color=_QUIET, labelleft=True)
    axes.set_xlim(0, times[-1])
    if 20 <= times[-1] <= 30:
        axes.set_xticks(range(0, int(times[-1]) + 1, 4))


def _limits(axes: Any, results: Sequence[Result]) -> None:
    """Room for the legends above the curves; the waits end at a minute unless they are far longer."""
    most = max(step.capacity_per_s for result in results for step in result.steps)
    load = max(step.arrived_per_s for result in results for step in result.steps)
    axes[0][0].set_ylim(0, 1.3 * max(most, load))
    axes[1][0].set_ylim(0, 1.45 * max(max(step.replicas, step.ready) for result in results for step in result.steps))
    limit_ms = 1000 * min(result.settings.objective.latency_s - result.settings.pod.service_s for result in results)
    highest = max(step.wait_p99_ms for result in results for step in result.steps)
    axes[2][0].set_ylim(limit_ms / _FLOOR, 200 * max(highest, limit_ms))
