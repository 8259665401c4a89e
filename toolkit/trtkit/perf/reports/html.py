# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Measurements as one HTML page that needs nothing else: charts by plotly, light and dark, wide and narrow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from plotly.offline import get_plotlyjs

from trtkit import __version__
from trtkit.errors import ProjectError
from trtkit.perf.measurement import Measurement
from trtkit.perf.reports.html_charts import Chart, distribution, streaming, throughput_latency
from trtkit.perf.reports.html_stages import batch_sizes, ensemble_steps, model_breakdown, stage_breakdown
from trtkit.perf.reports.html_timeline import timeline
from trtkit.perf.reports.report import (
    TEXT_COLUMNS,
    TextTable,
    milliseconds,
    plain,
    rate,
    sentences,
    stage_sentences,
    tables,
    what_did_not_hold,
)

if TYPE_CHECKING:
    from trtkit.perf.server.diagnose import Diagnosis
    from trtkit.perf.server.stages import Stages


def page(
    measurements: Sequence[Measurement],
    *,
    data: str = "",
    stages: Sequence[Stages | None] = (),
    diagnoses: Sequence[Diagnosis] = (),
    facts: Mapping[str, str] | None = None,
) -> str:
    """The whole page. It loads nothing: its Content-Security-Policy forbids every request, also to its own host.

    Args:
        measurements: at least one.
        data: what the requests held.
        stages: where the time went, one for each measurement; may be empty.
        diagnoses: what to try, and why.
        facts: about the run, by name: machine, versions, command line.
    """
    charts = _charts(measurements, stages)
    body = "\n".join(
        [
            _header(measurements, data),
            _tiles(measurements),
            _notes(measurements, stages),
            _diagnoses(diagnoses),
            *map(_chart_section, charts),
            *map(_table_section, tables(measurements, data=data, stages=stages)),
            _facts(measurements, facts or {}),
        ]
    )
    parts = {"title": escape(_title(measurements)), "body": body, "figures": _figures(charts), "plotly": _plotly()}
    return _filled(Path(__file__).with_name("page.html").read_text(encoding="utf-8"), parts)


def write_page(path: Path, text: str) -> None:
    """Write a page.

    Raises:
        ProjectError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise ProjectError(f"{path} cannot be written: {exc.strerror}") from exc


def _filled(template: str, parts: Mapping[str, str]) -> str:
    """The template with its places filled, each once, so that no part's text is taken for a place."""
    pieces = []
    for piece in template.split("{{"):
        name, closed, rest = piece.partition("}}")
        pieces.append(parts[name] + rest if closed and name in parts else piece)
    return "".join(pieces)


def _plotly() -> str:
    return get_plotlyjs().replace("</script", "<\\/script")


def _figures(charts: Sequence[Chart]) -> str:
    """The figures as JSON that cannot end its script element."""
    values = []
    for chart in charts:
        figure = json.loads(chart.figure.to_json())
        figure["layout"].pop("template", None)
        values.append({"name": chart.name, "height": chart.height_px, **figure})
    return json.dumps(values, separators=(",", ":")).replace("<", "\\u003c")


def _charts(measurements: Sequence[Measurement], stages: Sequence[Stages | None]) -> list[Chart]:
    found = [
        throughput_latency(measurements),
        distribution(measurements),
        streaming(measurements),
        timeline(measurements),
        stage_breakdown(measurements, stages),
        ensemble_steps(measurements, stages),
        model_breakdown(measurements, stages),
        batch_sizes(measurements),
    ]
    return [chart for chart in found if chart]


def _title(measurements: Sequence[Measurement]) -> str:
    return f"{plain(measurements[0].load.model)}: load test"


def _header(measurements: Sequence[Measurement], data: str) -> str:
    load = measurements[0].load
    parts = [f"version {plain(load.version)}" if load.version else "", f"{load.protocol} at {plain(load.url)}"]
    parts += [f"batch size {load.batch_size}", plain(data), measurements[0].started_at]
    problem = what_did_not_hold(measurements)
    badge = f'<p class="badge bad">{escape(plain(problem))}</p>' if problem else '<p class="badge good">stable</p>'
    line = escape(" · ".join(part for part in parts if part))
    return f'<header><h1>{escape(plain(load.model))}</h1><p class="soft">{line}</p>{badge}</header>'


def _tiles(measurements: Sequence[Measurement]) -> str:
    best = max(measurements, key=lambda one: one.throughput_infer_per_s)
    latency = best.intended_latency or best.latency
    kind = "from the intended time" if best.intended_latency else "from the send"
    tiles = [
        ("highest throughput", rate(best.throughput_infer_per_s), f"inferences/s at {best.load.label}"),
        ("median latency", f"{milliseconds(latency.p50_ns if latency else None)} ms", kind),
        ("p99 latency", f"{milliseconds(latency.p99_ns if latency else None)} ms", kind),
        ("failed requests", f"{sum(one.error_count for one in measurements):,}", "of all loads"),
    ]
    cells = [
        f'<div class="tile"><span class="soft">{escape(name)}</span><b>{escape(value)}</b>'
        f'<span class="soft">{escape(unit)}</span></div>'
        for name, value, unit in tiles
    ]
    return f'<div class="tiles">{"".join(cells)}</div>'


def _section(title: str, inner: str, caption: str = "") -> str:
    soft = f'<p class="soft">{escape(caption)}</p>' if caption else ""
    return f"<section><h2>{escape(title)}</h2>{soft}{inner}</section>"


def _chart_section(chart: Chart) -> str:
    place = (
        f'<div class="chart" id="chart-{chart.name}" role="img" aria-label="{escape(chart.title)}" '
        f'style="min-height:{chart.height_px}px"></div>'
    )
    return _section(chart.title, place, chart.caption)


def _table_section(table: TextTable) -> str:
    head = "".join(f'<th scope="col"{_kind(name)}>{escape(name)}</th>' for name in table.columns)
    rows = "".join(f"<tr>{''.join(_cells(table.columns, row))}</tr>" for row in table.rows)
    inner = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return _section(table.title, f'<div class="wide">{inner}</div>')


def _cells(columns: Sequence[str], row: Sequence[str]) -> Iterable[str]:
    yield f'<th scope="row">{escape(row[0])}</th>'
    for name, cell in zip(columns[1:], row[1:], strict=True):
        yield f"<td{_kind(name)}>{escape(cell)}</td>"


def _kind(column: str) -> str:
    """The class attribute of a column's cells."""
    if not column:
        return ' class="mark"'
    return ' class="text"' if column in TEXT_COLUMNS else ""


def _notes(measurements: Sequence[Measurement], stages: Sequence[Stages | None]) -> str:
    lines = [line for one in measurements for line in sentences(one)] + stage_sentences(measurements, stages)
    if not lines:
        return ""
    return _section("Errors and warnings", f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>")


def _diagnoses(diagnoses: Sequence[Diagnosis]) -> str:
    """One part for each thing to try, with what was seen at each load."""
    seen: dict[tuple[str, str], dict[str, None]] = {}
    for one in diagnoses:
        seen.setdefault((one.title, one.try_), {})[one.because] = None
    inner = "".join(
        f"<h3>{escape(plain(title))}</h3>{''.join(f'<p>{escape(plain(because))}</p>' for because in because_of)}"
        f'<p class="soft">Try: {escape(plain(attempt))}</p>'
        for (title, attempt), because_of in seen.items()
    )
    return _section("Diagnosis", inner) if inner else ""


def _facts(measurements: Sequence[Measurement], facts: Mapping[str, str]) -> str:
    load = measurements[0].load
    about = {
        "trtkit": __version__,
        "warm-up": f"{load.warmup_s:g} s",
        "windows": f"{load.window_s:g} s each, the last {load.judged_windows} judged",
        "deadline": f"{load.timeout_s:g} s",
        "different requests": f"{load.distinct_requests:,}",
        "shared memory": load.shared_memory,
        "client processes": str(load.processes),
        "seed": str(load.seed),
        **facts,
    }
    rows = "".join(f"<dt>{escape(plain(name))}</dt><dd>{escape(plain(value))}</dd>" for name, value in about.items())
    return _section("About this run", f"<dl>{rows}</dl>")
