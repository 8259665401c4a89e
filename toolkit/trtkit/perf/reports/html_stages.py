# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Charts of where the time goes, of an ensemble's steps, and of the sizes of the batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import unescape

import plotly.graph_objects as go

from trtkit.perf.measurement import Measurement
from trtkit.perf.reports.html_charts import Chart, heaviest_last, label, shade, short_label, text
from trtkit.perf.server.stages import EnsembleStages, ModelStages, Stages

_LONGEST = 24
_BAR_PX = 34
_AROUND_PX = 130

MODEL_STAGES: tuple[tuple[str, Callable[[ModelStages], int]], ...] = (
    ("queue", lambda stages: stages.queue_ns),
    ("compute input", lambda stages: stages.compute_input_ns),
    ("compute infer", lambda stages: stages.compute_infer_ns),
    ("compute output", lambda stages: stages.compute_output_ns),
    ("cache", lambda stages: stages.cache_ns),
    ("other in the server", lambda stages: stages.other_ns),
)
"""The stages of a model's request, in the order in which it goes through them."""


def stage_breakdown(measurements: Sequence[Measurement], stages: Sequence[Stages | None]) -> Chart | None:
    """A bar for each load, made of the stages of its mean request; of an ensemble, of the steps of the longest way.

    Args:
        measurements: at least one.
        stages: one for each, in the same order; None where the server gave no figures.
    """
    by_load = dict(zip(map(id, measurements), stages, strict=False))
    held = [(one, found) for one in heaviest_last(measurements) if (found := by_load.get(id(one)))]
    if not held:
        return None
    segments: dict[str, list[float]] = {}
    for place, (_, found) in enumerate(held):
        for name, nanoseconds in segments_of(found):
            segments.setdefault(name, [0.0] * len(held))[place] += nanoseconds / 1e6
    bars = [text(short_label(one)) if one.load.is_open else label(one) for one, _ in held]
    caption = "The mean request's way; together the mean latency that the client saw."
    if any(found.ensembles for _, found in held):
        caption += " Steps of the ensemble that ran side by side with slower ones are left out."
    return _stacked("stages", "Where the time goes (mean, ms)", caption, bars, segments)


def segments_of(stages: Stages) -> list[tuple[str, int]]:
    """What the mean latency is made of, in nanoseconds, by name; names are not escaped."""
    found = [("client and network", stages.client_and_network_ns)]
    if not stages.ensembles:
        return found + [(name, of(stages.model)) for name, of in MODEL_STAGES]
    whole = stages.ensembles[0]
    found += [(step.model, step.mean_ns) for step in whole.steps if step.critical]
    return [*found, ("between the steps", whole.between_ns)]


def _stacked(name: str, title: str, caption: str, bars: Sequence[str], segments: dict[str, list[float]]) -> Chart:
    """Bars lying on each other's end; `bars` are escaped, the segments' names are not."""
    figure = go.Figure()
    for number, (segment, values) in enumerate(segments.items()):
        if any(values):
            figure.add_trace(
                go.Bar(
                    y=list(bars),
                    x=[round(value, 5) for value in values],
                    name=_cut(segment),
                    orientation="h",
                    hovertemplate=f"%{{y}}<br>{text(segment)} %{{x:.3f}} ms<extra></extra>",
                    meta={"series": number},
                )
            )
    figure.update_layout(barmode="stack", bargap=0.3, legend_traceorder="normal")
    figure.update_xaxes(title_text="mean time, ms", rangemode="tozero")
    _name_bars(figure, bars)
    return Chart(name, title, caption, figure, height_px=_AROUND_PX + 20 * len(segments) // 2 + _BAR_PX * len(bars))


def _name_bars(figure: go.Figure, names: Sequence[str]) -> None:
    """Bars from top to bottom. A long name is cut where it is shown, and only there: two may begin alike."""
    figure.update_yaxes(
        type="category",
        autorange="reversed",
        categoryorder="array",
        categoryarray=list(names),
        tickvals=list(names),
        ticktext=[_cut(unescape(name)) for name in names],
    )


def _cut(name: str) -> str:
    """A name for a phone's width, escaped."""
    return text(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…")


def model_breakdown(measurements: Sequence[Measurement], stages: Sequence[Stages | None]) -> Chart | None:
    """The stages of each model of an ensemble at the heaviest load; None for another model."""
    found = _heaviest(measurements, stages)
    if not found:
        return None
    one, parts = found[0], found[1].parts
    segments = {name: [of(part) / 1e6 for part in parts] for name, of in MODEL_STAGES}
    caption = f"Of the mean request of each model at {one.load.label}, as the server counts them."
    return _stacked(
        "models", "The ensemble's models (mean, ms)", caption, [text(part.model) for part in parts], segments
    )


def ensemble_steps(measurements: Sequence[Measurement], stages: Sequence[Stages | None]) -> Chart | None:
    """When each step of an ensemble begins and how long it takes at the heaviest load; None for another model."""
    found = _heaviest(measurements, stages)
    if not found:
        return None
    one, whole = found[0], found[1].ensembles[0]
    figure = go.Figure([_steps(whole, critical=True), _steps(whole, critical=False)])
    figure.update_layout(barmode="overlay", bargap=0.3)
    figure.update_xaxes(title_text="time, ms", rangemode="tozero")
    names = [f"{number}. {text(step.model)}" for number, step in enumerate(whole.steps, 1)]
    _name_bars(figure, names)
    caption = f"From the request's arrival, by mean times at {one.load.label}; only the longest way counts."
    height_px = _AROUND_PX + _BAR_PX * len(whole.steps)
    return Chart("steps", "The ensemble's steps (ms)", caption, figure, height_px)


def _steps(whole: EnsembleStages, *, critical: bool) -> go.Bar:
    steps = [(number, step) for number, step in enumerate(whole.steps, 1) if step.critical == critical]
    return go.Bar(
        y=[f"{number}. {text(step.model)}" for number, step in steps],
        x=[step.mean_ns / 1e6 for _, step in steps],
        base=[step.start_ns / 1e6 for _, step in steps],
        name="on the longest way" if critical else "beside it",
        orientation="h",
        hovertemplate="%{y}<br>%{customdata:.3f} ms<extra></extra>",
        customdata=[step.mean_ns / 1e6 for _, step in steps],
        meta={"series": 2 if critical else 0},
    )


def _heaviest(
    measurements: Sequence[Measurement], stages: Sequence[Stages | None]
) -> tuple[Measurement, Stages] | None:
    """The heaviest load whose stages show an ensemble."""
    by_load = dict(zip(map(id, measurements), stages, strict=False))
    held = [(one, found) for one in heaviest_last(measurements) if (found := by_load.get(id(one)))]
    held = [(one, found) for one, found in held if found.ensembles]
    return held[-1] if held else None


def batch_sizes(measurements: Sequence[Measurement]) -> Chart | None:
    """How many executions had which batch size; None when the server did not say."""
    held = [one for one in heaviest_last(measurements) if one.server and one.server.batches]
    if not held:
        return None
    figure, sizes = go.Figure(), set()
    for number, one in enumerate(held):
        batches = one.server.batches if one.server else ()
        total = sum(batch.execution_count for batch in batches)
        sizes |= {batch.batch_size for batch in batches}
        figure.add_trace(
            go.Bar(
                x=[str(batch.batch_size) for batch in batches],
                y=[round(100 * batch.execution_count / total, 3) for batch in batches],
                name=label(one),
                customdata=[batch.execution_count for batch in batches],
                hovertemplate="batch size %{x}<br>%{y:.1f} % of the executions (%{customdata:,})",
                meta={"shade": shade(number, len(held))} if len(held) > 1 else {"series": 5},
            )
        )
    order = [str(size) for size in sorted(sizes)]
    figure.update_xaxes(title_text="batch size, samples", type="category", categoryorder="array", categoryarray=order)
    figure.update_yaxes(title_text="executions, %", rangemode="tozero")
    figure.update_layout(barmode="group", showlegend=len(held) > 1)
    caption = "How many samples the server gave the model at once, as it counts them."
    return Chart("batch-sizes", "Batch sizes (% of executions)", caption, figure, height_px=320)
