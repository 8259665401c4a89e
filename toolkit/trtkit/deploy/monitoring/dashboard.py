# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Grafana's dashboard of a plan: its variables, and its rows in the order in which one looks for a cause."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from trtkit.deploy.monitoring.latency import blind_spots
from trtkit.deploy.monitoring.panel import Query, laid_out
from trtkit.deploy.monitoring.rows import rows
from trtkit.deploy.monitoring.scope import Where
from trtkit.deploy.monitoring.timing import duration
from trtkit.deploy.planned import Plan

_SCHEMA = 36


def dashboard_text(plan: Plan, where: Where) -> str:
    """The dashboard as JSON, to be provisioned or imported."""
    return json.dumps(dashboard(plan, where), indent=1, ensure_ascii=False) + "\n"


def dashboard(plan: Plan, where: Where) -> dict[str, Any]:
    """The dashboard of a plan.

    Args:
        plan: what it shows.
        where: ``static`` leaves out what kube-state-metrics would be needed for.
    """
    return {
        "uid": sha256(f"{plan.namespace}/{plan.name}".encode()).hexdigest()[:12],
        "title": f"Triton: {plan.name}",
        "description": " ".join([f"Rendered by trtkit for Triton {plan.release}.", *blind_spots(plan)]),
        "tags": ["triton", "trtkit"],
        "schemaVersion": _SCHEMA,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _variables(plan)},
        "panels": laid_out(rows(plan, where), duration(plan.spec.monitoring.interval_seconds)),
        "annotations": {"list": []},
    }


def expressions(plan: Plan, where: Where) -> list[tuple[str, Query]]:
    """Every expression of the dashboard, with its panel's title."""
    return [(panel.title, query) for row in rows(plan, where) for panel in row.panels for query in panel.queries]


def _variables(plan: Plan) -> list[dict[str, Any]]:
    source = {"name": "datasource", "type": "datasource", "label": "Prometheus", "query": "prometheus", "refresh": 1}
    known = f'nv_inference_request_success{{job="{plan.name}"'
    chosen = f'{known}, namespace=~"$namespace"'
    return [
        {**source, "hide": 0, "includeAll": False, "multi": False},
        {
            **_variable("namespace", f"label_values({known}}}, namespace)"),
            "includeAll": False,
            "multi": False,
            "current": {"text": plan.namespace, "value": plan.namespace},
        },
        _variable("model", f"label_values({chosen}}}, model)"),
        _variable("version", f'label_values({chosen}, model=~"$model"}}, version)'),
        _variable("pod", f"label_values({chosen}}}, pod)"),
    ]


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "label": name.capitalize(),
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": query,
        "refresh": 2,
        "sort": 1,
        "hide": 0,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }
