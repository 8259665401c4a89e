# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Grafana's panels as values, and how they are laid out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

WIDTH = 24
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_STAT_HEIGHT, _HEIGHT = 4, 8


@dataclass(frozen=True)
class Query:
    """One expression of a panel.

    Attributes:
        expr: PromQL with the dashboard's variables.
        legend: e.g. ``{{model}}``.
        limit: whether it is an objective, drawn as a dashed line.
    """

    expr: str
    legend: str
    limit: bool = False


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: what it shows.
        what: how to read it; behind the (i).
        unit: by Grafana's names: ``s``, ``µs``, ``ms``, ``reqps``, ``percentunit``, ``bytes``, ``mbytes``, ``short``.
        queries: its expressions.
        kind: a graph over time, or one number.
        stacked: whether the series add up.
        limit: where it turns red; None for nowhere.
        width: of the dashboard's 24 columns.
        most: the axis' end, e.g. 1 for shares.
    """

    title: str
    what: str
    unit: str
    queries: tuple[Query, ...]
    kind: Literal["timeseries", "stat"] = "timeseries"
    stacked: bool = False
    limit: float | None = None
    width: int = 8
    most: float | None = None


@dataclass(frozen=True)
class Row:
    """A headline and its panels."""

    title: str
    panels: tuple[Panel, ...]


def laid_out(rows: Iterable[Row], interval: str) -> list[dict[str, Any]]:
    """The panels of a dashboard in Grafana's own form, from left to right and from top to bottom.

    Args:
        rows: the panels.
        interval: between two scrapes. $__rate_interval is four of it; a data source that is set to a shorter one than
            is scraped would make windows with a single sample, and empty panels.
    """
    found: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        found.append(
            {
                "type": "row",
                "id": len(found) + 1,
                "title": row.title,
                "collapsed": False,
                "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": y},
                "panels": [],
            }
        )
        y += 1
        for panel, x, line in _placed(row.panels):
            place = {"h": _height(panel), "w": panel.width, "x": x, "y": y + line}
            found.append({"id": len(found) + 1, "gridPos": place, "interval": interval, **_panel(panel)})
        y += max(line + _height(panel) for panel, _, line in _placed(row.panels))
    return found


def _placed(panels: Iterable[Panel]) -> Iterator[tuple[Panel, int, int]]:
    """Each panel with its column and its line below the headline."""
    x = line = height = 0
    for panel in panels:
        if x + panel.width > WIDTH:
            x, line, height = 0, line + height, 0
        yield panel, x, line
        x, height = x + panel.width, max(height, _height(panel))


def _height(panel: Panel) -> int:
    return _STAT_HEIGHT if panel.kind == "stat" else _HEIGHT


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": " ".join(panel.what.split()),
        "datasource": _SOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _SOURCE,
                "expr": query.expr,
                "legendFormat": query.legend,
                "range": True,
                "instant": False,
            }
            for index, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": _overrides(panel)},
        "options": _stat_options() if panel.kind == "stat" else _graph_options(),
        "transformations": [],
        "transparent": False,
        "repeatDirection": "h",
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.limit is not None:
        steps.append({"color": "red", "value": panel.limit})
    found: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": steps},
        **({"max": panel.most} if panel.most is not None else {}),
    }
    if panel.kind == "timeseries":
        found["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 30 if panel.stacked else 0,
            "spanNulls": False,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "off" if panel.limit is None else "dashed"},
        }
    else:
        found["noValue"] = "no traffic"
    return found


def _overrides(panel: Panel) -> list[dict[str, Any]]:
    if not any(query.limit for query in panel.queries):
        return []
    return [
        {
            "matcher": {"id": "byRegexp", "options": "/^objective/"},
            "properties": [
                {"id": "color", "value": {"mode": "fixed", "fixedColor": "red"}},
                {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 8]}},
                {"id": "custom.fillOpacity", "value": 0},
            ],
        }
    ]


def _graph_options() -> dict[str, Any]:
    return {
        "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["mean", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _stat_options() -> dict[str, Any]:
    return {
        "reduceOptions": {"calcs": ["lastNotNull"], "values": False},
        "graphMode": "area",
        "colorMode": "value",
        "justifyMode": "auto",
        "textMode": "auto",
        "orientation": "auto",
    }
