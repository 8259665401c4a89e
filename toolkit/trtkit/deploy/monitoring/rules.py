# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The rules of a plan: which there are, and as a rule file or the spec of a PrometheusRule."""

from __future__ import annotations

from typing import Any

from trtkit.deploy.monitoring.alerts_gpu import gpu_alerts
from trtkit.deploy.monitoring.alerts_kubernetes import kubernetes_alerts
from trtkit.deploy.monitoring.alerts_promised import promised_alerts
from trtkit.deploy.monitoring.alerts_servers import proxy_alerts, server_alerts
from trtkit.deploy.monitoring.latency import blind_spots
from trtkit.deploy.monitoring.records import records
from trtkit.deploy.monitoring.rule import Alert
from trtkit.deploy.monitoring.scope import Where
from trtkit.deploy.monitoring.timing import Timing, duration, timing_of
from trtkit.deploy.planned import Plan
from trtkit.deploy.yaml_out import dump


def alerts(plan: Plan, timing: Timing, where: Where) -> list[Alert]:
    """The alert rules of a plan."""
    return [
        *promised_alerts(plan, timing),
        *server_alerts(plan, timing),
        *proxy_alerts(plan, timing, where),
        *gpu_alerts(plan, timing, where),
        *kubernetes_alerts(plan, timing, where),
    ]


def groups(plan: Plan, timing: Timing, where: Where) -> list[dict[str, Any]]:
    """The rule groups; the names hold the plan's, since Prometheus wants them to be different in one file."""
    interval = duration(timing.interval_s)
    return [
        {
            "name": f"{plan.name}.records",
            "interval": interval,
            "rules": [record.document() for record in records(plan, timing)],
        },
        {
            "name": f"{plan.name}.alerts",
            "interval": interval,
            "rules": [alert.document() for alert in alerts(plan, timing, where)],
        },
    ]


def rule_file(plan: Plan, timing: Timing | None = None, where: Where = "static") -> str:
    """The rules as a file for Prometheus.

    Args:
        plan: what they are for.
        timing: the plan's own where it is None.
        where: ``static`` leaves out what kube-state-metrics would be needed for.
    """
    return dump({"groups": groups(plan, timing or timing_of(plan), where)}, comment=remarks(plan))


def remarks(plan: Plan) -> str:
    """What a reader should know before the rules; '' for nothing."""
    return "\n".join(["What these rules cannot see:", *blind_spots(plan)]) if blind_spots(plan) else ""
