# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The objects of prometheus-operator, and the dashboard as a ConfigMap."""

from __future__ import annotations

from typing import Any

from trtkit.deploy.figure import Noted
from trtkit.deploy.kubernetes.meta import DIGEST_LABEL, TRACK_LABEL, Object, metadata, selector
from trtkit.deploy.monitoring.dashboard import dashboard_text
from trtkit.deploy.monitoring.rules import groups
from trtkit.deploy.monitoring.timing import duration, timing_of
from trtkit.deploy.planned import Plan

JOB_LABEL = "app.kubernetes.io/instance"
"""Whose value, the plan's name, becomes the label `job`: rules and dashboard choose by it."""
DASHBOARD_LABEL = {"grafana_dashboard": "1"}
"""What the sidecar of Grafana's chart looks for."""


def monitoring_objects(plan: Plan) -> list[Object]:
    """The monitor, the rules and the dashboard of a plan; none where its monitoring is ``none`` or ``static``."""
    kind = plan.spec.monitoring.kind
    if kind not in ("podmonitor", "servicemonitor"):
        return []
    monitor = _pod_monitor(plan) if kind == "podmonitor" else _service_monitor(plan)
    return [monitor, rule_object(plan), dashboard_object(plan)]


def rule_object(plan: Plan) -> Object:
    """The rules as a PrometheusRule."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": _selected(plan),
        "spec": {"groups": groups(plan, timing_of(plan), "kubernetes")},
    }


def dashboard_object(plan: Plan) -> Object:
    """The dashboard as a ConfigMap."""
    base = metadata(plan, "dashboard")
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {**base, "labels": {**base["labels"], **DASHBOARD_LABEL}},
        "data": {f"{plan.name}.json": dashboard_text(plan, "kubernetes")},
    }


def _pod_monitor(plan: Plan) -> Object:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": _selected(plan),
        "spec": {
            **_labels(),
            "selector": {"matchLabels": selector(plan)},
            "podMetricsEndpoints": [_endpoint(plan)],
        },
    }


def _service_monitor(plan: Plan) -> Object:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": _selected(plan),
        "spec": {
            **_labels(),
            "selector": {"matchLabels": selector(plan)},
            "endpoints": [_endpoint(plan)],
        },
    }


def _labels() -> dict[str, Any]:
    return {
        "jobLabel": Noted(JOB_LABEL, "the label `job` that rules and dashboard choose by"),
        "podTargetLabels": [
            Noted(TRACK_LABEL, "tells a canary from stable"),
            Noted(DIGEST_LABEL, "tells which repository a pod serves"),
        ],
    }


def _endpoint(plan: Plan) -> dict[str, Any]:
    interval = plan.spec.monitoring.interval_seconds
    return {
        "port": "metrics",
        "path": "/metrics",
        "interval": duration(interval),
        "scrapeTimeout": Noted(duration(min(10, interval)), "not more than the interval"),
    }


def _selected(plan: Plan) -> dict[str, Any]:
    """Metadata with the labels that the Prometheus selects its monitors and rules by."""
    base = metadata(plan)
    return {**base, "labels": {**base["labels"], **plan.spec.monitoring.labels}}
