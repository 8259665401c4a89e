# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit deploy monitoring``."""

from __future__ import annotations

from pathlib import Path

import click

from trtkit.cli.deploy_common import deliver, environment_option, output_options

_HELP = """Render Prometheus rules with their unit tests, scrape configuration, and a Grafana dashboard.

Rules follow from the objectives in `deploy.slo`, and from what this release of the server measures.

\b
  prometheus/   prometheus.yml, rules.yml and rules_test.yml, for a Prometheus of your own
  alertmanager/ alertmanager.yml
  grafana/      data source and dashboard, to be provisioned or imported
  kubernetes/   PodMonitor or ServiceMonitor, PrometheusRule with its tests, and the dashboard as a ConfigMap;
                `trtkit deploy k8s` renders these objects too

\b
    trtkit deploy monitoring
    promtool test rules deploy/monitoring/prometheus/rules_test.yml

docs/deploy-monitoring.md has every rule and panel: formula, source, threshold, unit."""


@click.command(help=_HELP)
@environment_option
@output_options("deploy/monitoring")
def monitoring(
    environment: str, project_path: Path | None, output: Path | None, check: bool, force: bool, as_json: bool
) -> int:
    """Render, write, and say what the rules cannot see."""
    from trtkit.cli.common import console
    from trtkit.deploy.monitoring.latency import blind_spots
    from trtkit.deploy.monitoring.rendered import monitoring_files
    from trtkit.deploy.plan import make_plan
    from trtkit.project import find_project

    project = find_project(project_path)
    plan = make_plan(project, environment)
    folder = output or project.root / "deploy" / "monitoring"
    if not as_json:
        for line in blind_spots(plan):
            console(stderr=True).print(f"warning: {line}", markup=False, soft_wrap=True)
    files = monitoring_files(plan)
    after = f"next: promtool test rules {folder}/prometheus/rules_test.yml"
    if "kubernetes/monitoring.yaml" in files:
        after += f"\n      kubectl apply -f {folder}/kubernetes/monitoring.yaml   # needs prometheus-operator"
    return deliver(files, folder, "monitoring", check=check, force=force, as_json=as_json, after=after)
