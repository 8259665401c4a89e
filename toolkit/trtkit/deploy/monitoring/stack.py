# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The files of a Prometheus, an Alertmanager and a Grafana of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from trtkit.deploy.figure import Noted
from trtkit.deploy.kubernetes.meta import TRACK_LABEL
from trtkit.deploy.monitoring.dashboard import dashboard_text
from trtkit.deploy.monitoring.rule_tests import unit_test_file
from trtkit.deploy.monitoring.rules import rule_file
from trtkit.deploy.monitoring.scope import DCGM_JOB, ENVOY_JOB
from trtkit.deploy.monitoring.timing import Timing, duration, timing_of
from trtkit.deploy.planned import METRICS_PORT, Plan
from trtkit.deploy.yaml_out import dump
from trtkit.errors import ProjectError

DATASOURCE = "prometheus"
"""The uid of the Prometheus in Grafana."""
SERVICES = {"stable": "triton", "canary": "triton-canary"}
"""The services of the Compose project by track."""
DASHBOARDS = "/var/lib/grafana/dashboards"
"""Where Grafana's container finds the dashboards."""


def files(plan: Plan, webhook: str | None = None) -> dict[str, str]:
    """The configuration of all three by relative path, for the services of `trtkit deploy compose`.

    Args:
        plan: what is watched.
        webhook: where Alertmanager finds the file with the address, where that is not as the project file says.

    Raises:
        ProjectError: see `alertmanager_file`.
    """
    return {
        "prometheus/prometheus.yml": prometheus_file(plan),
        "prometheus/rules.yml": rule_file(plan),
        "prometheus/rules_test.yml": unit_test_file(plan),
        "alertmanager/alertmanager.yml": alertmanager_file(plan, webhook),
        "grafana/provisioning/datasources/prometheus.yml": _datasource(plan),
        "grafana/provisioning/dashboards/trtkit.yml": _provider(plan),
        f"grafana/dashboards/{plan.name}.json": dashboard_text(plan, "static"),
    }


def prometheus_file(
    plan: Plan,
    servers: Mapping[str, Mapping[str, str]] | None = None,
    timing: Timing | None = None,
    *,
    alone: bool = False,
) -> str:
    """Prometheus' configuration.

    Args:
        plan: what is watched.
        servers: HOST:PORT of metrics endpoints with their labels; default: the services of the Compose project.
        timing: the plan's own where it is None.
        alone: without Envoy, dcgm-exporter and Alertmanager.
    """
    timing = timing or timing_of(plan)
    interval = duration(timing.interval_s)
    document: dict[str, Any] = {
        "global": {
            "scrape_interval": interval,
            "scrape_timeout": duration(min(10, timing.interval_s)),
            "evaluation_interval": interval,
        },
        "rule_files": ["rules.yml"],
    }
    if not alone:
        document["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": ["alertmanager:9093"]}]}]}
    job = _job(plan.name, servers, plan) if servers else _discovered(plan)
    jobs = [job] + ([] if alone else _around(plan))
    return dump({**document, "scrape_configs": jobs})


def _job(name: str, targets: Mapping[str, Mapping[str, str]], plan: Plan, path: str = "/metrics") -> dict[str, Any]:
    """A scrape job whose series have the labels that prometheus-operator would give them."""
    why = "the labels that rules and the dashboard choose by, as in Kubernetes"
    return {
        "job_name": name,
        "metrics_path": path,
        "static_configs": [
            {"targets": [target], "labels": Noted({"namespace": plan.namespace, **labels}, why)}
            for target, labels in targets.items()
        ],
    }


def _discovered(plan: Plan) -> dict[str, Any]:
    """The servers that DNS knows now: during an update there are two, and without a canary none of its name."""
    found = Noted({"names": [*SERVICES.values()], "type": "A", "port": METRICS_PORT, "refresh_interval": "15s"}, (
        "every container that runs: two while an update lasts, and no canary is no server that is down"
    ))  # fmt: skip
    name = ["__meta_dns_name"]
    return {
        "job_name": plan.name,
        "metrics_path": "/metrics",
        "dns_sd_configs": [found],
        "relabel_configs": [
            {"target_label": "namespace", "replacement": plan.namespace},
            {
                "source_labels": [*name, "__address__"],
                "regex": "(.+);(.+):[0-9]+",
                "target_label": "pod",
                "replacement": Noted("$1-$2", "one for each container, e.g. triton-172.18.0.5"),
            },
            *(
                {"source_labels": name, "regex": service, "target_label": TRACK_LABEL, "replacement": track}
                for track, service in SERVICES.items()
            ),
        ],
    }


def _around(plan: Plan) -> list[dict[str, Any]]:
    jobs = [
        _job(ENVOY_JOB, {"envoy:9901": {}}, plan, "/stats/prometheus"),
        _job("prometheus", {"localhost:9090": {}}, plan),
        _job("alertmanager", {"alertmanager:9093": {}}, plan),
    ]
    return [_job(DCGM_JOB, {"dcgm-exporter:9400": {}}, plan), *jobs] if plan.on_gpu else jobs


def alertmanager_file(plan: Plan, webhook: str | None = None) -> str:
    """Alertmanager's configuration: one receiver, and what not to say twice.

    Args:
        plan: what is watched.
        webhook: the file with the address; default: the project file's.

    Raises:
        ProjectError: that path is relative.
    """
    file = webhook or _absolute(plan.spec.monitoring.webhook_url_file)
    receiver: dict[str, Any] = {"name": "team"}
    if file is not None:
        why = "the address is a secret, and so not in this file; Alertmanager 0.26 or newer reads it"
        receiver["webhook_configs"] = [{"url_file": Noted(file, why), "send_resolved": True}]
    comment = "" if file else "Nobody is told yet: name a file with the address in deploy.monitoring.webhook_url_file."
    same = ["namespace", "job"]
    return dump(
        {
            "route": {
                "receiver": "team",
                "group_by": Noted(["alertname", "namespace", "model"], "one message for all pods of a model"),
                "group_wait": Noted("30s", "for what fires together"),
                "group_interval": "5m",
                "repeat_interval": "4h",
                "routes": [{"matchers": ['severity="critical"'], "receiver": "team", "repeat_interval": "1h"}],
            },
            "receivers": [receiver],
            "inhibit_rules": [
                {
                    "source_matchers": Noted(['alertname="TritonAbsent"'], "with no server at all the rest is known"),
                    "target_matchers": ['alertname=~"TritonPodDown|TritonModelMissing"'],
                    "equal": same,
                },
                {
                    "source_matchers": Noted(['alertname="TritonLatencyHigh"'], "queueing is then a part of it"),
                    "target_matchers": ['alertname="TritonQueueTimeHigh"'],
                    "equal": [*same, "model", TRACK_LABEL],
                },
            ],
        },
        comment=comment,
    )


def _absolute(file: str | None) -> str | None:
    """Alertmanager would look for a relative one in whatever folder it was started in."""
    if file is not None and not file.startswith("/"):
        raise ProjectError(
            f"deploy.monitoring.webhook_url_file is {file}, a relative path; it is the path of the file inside of "
            f"Alertmanager's container, so it has to be absolute, e.g. /run/secrets/{PurePosixPath(file).name}"
        )
    return file


def _datasource(plan: Plan) -> str:
    source = {
        "name": "Prometheus",
        "uid": DATASOURCE,
        "type": "prometheus",
        "access": "proxy",
        "url": "http://prometheus:9090",
        "isDefault": True,
        "jsonData": {
            "httpMethod": "POST",
            "timeInterval": Noted(
                duration(plan.spec.monitoring.interval_seconds), "the scrape interval: $__rate_interval is four of it"
            ),
        },
    }
    return dump({"apiVersion": 1, "datasources": [source]})


def _provider(plan: Plan) -> str:
    provider = {
        "name": "trtkit",
        "type": "file",
        "allowUiUpdates": Noted(False, "changes belong into the project; they would be lost"),
        "options": {"path": DASHBOARDS},
    }
    return dump({"apiVersion": 1, "providers": [provider]})
