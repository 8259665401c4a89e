# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What an API server or a controller would refuse of scaling and exposure is refused here, and what has no effect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy_matrix import deploy_project
from perf_results import measurement
from trtkit.deploy.plan import make_plan
from trtkit.errors import ProjectError

GATEWAY = {"kind": "gateway", "host": "digits.example.com"}
INGRESS = {"kind": "ingress", "host": "digits.example.com"}
L40S = {"target": "gpu", "gpu": {"product": "NVIDIA-L40S"}}
HOURS = {"timezone": "Asia/Shanghai", "start": "0 8 * * *", "end": "0 20 * * *", "replicas": 4}


def keda(**over: Any) -> dict[str, Any]:
    return {"scaling": {"kind": "keda", "max_replicas": 4, "cron": [{**HOURS, **over}]}}


def scaled(**scaling: Any) -> dict[str, Any]:
    return {"scaling": {"kind": "hpa", **scaling}}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"exposure": {**GATEWAY, "requests_per_second": 50}}, "exposure.requests_per_second: 50, and Gateway API has no"),
    ({"exposure": {**GATEWAY, "grpc_host": "digits.example.com"}}, "exposure.grpc_host: digits.example.com is the"),
    ({"exposure": {**GATEWAY, "gateway": "g", "grpc_host": "digits.example.com"}}, "either HTTPRoutes or GRPCRoutes"),
    ({"exposure": {**GATEWAY, "gateway": "public", "tls_secret": "tls"}}, "exposure.tls_secret: tls, and the existing"),
    ({"exposure": {**GATEWAY, "gateway_namespace": "infra"}}, "exposure.gateway_namespace: infra, and no existing"),
    ({"exposure": {**GATEWAY, "timeout_seconds": 100_000}}, "exposure.timeout_seconds: 100000; Gateway API takes"),
    ({"exposure": {**INGRESS, "gateway": "public"}}, "exposure.gateway: public, and an Ingress uses no Gateway"),
    ({"scaling": {"hpa": True}}, "scaling.hpa: true, and kind is none"),
    (scaled(hpa=False), "scaling.hpa: false, and kind is hpa"),
    (scaled(down_stabilization_seconds=3601), "scaling.down_stabilization_seconds: 3601 s; an HPA takes 3600"),
    (scaled(up_stabilization_seconds=4000), "scaling.up_stabilization_seconds: 4000 s"),
    (scaled(up_period_seconds=1801), "scaling.up_period_seconds: 1801 s; an HPA takes 1800"),
    (scaled(down_period_seconds=3600), "scaling.down_period_seconds: 3600 s; an HPA takes 1800"),
    (scaled(metric="rps", target=0.0004), "scaling.target: 0.0004 is less than 0.001"),
    (scaled(metric="cpu", target=0.4), "scaling.target: 0.4 of metric cpu, a whole percentage"),
    ({**L40S, **scaled(metric="gpu", target=0.8)}, "scaling.target: 0.8 of metric gpu, which DCGM counts from"),
    ({**L40S, **scaled(metric="gpu", target=120)}, "scaling.target: 120 of metric gpu"),
    (scaled(prometheus_url="prometheus:9090"), "scaling.prometheus_url: 'prometheus:9090' is no address"),
    (scaled(prometheus_url="http://prom:port"), "scaling.prometheus_url: 'http://prom:port' is no address"),
    (scaled(prometheus_url="http://[prom"), "is no address"),
    (scaled(prometheus_url="https://me:secret@prom"), "it holds a user or a password, which would stand in a manifest"),
    (keda(start="0 8 * *"), "scaling.cron: entry 1: cron '0 8 * *' has 4 fields"),
    (keda(timezone="Mars/Olympus"), "cron time zone 'Mars/Olympus' is not known"),
    (keda(end="0 8 * * *"), "entry 1: cron start and end are both"),
    (keda(replicas=5), "entry 1: 5 replicas are more than max_replicas 4"),
    (keda(replicas=2), "entry 1: 2 replicas change nothing; min_replicas is 2 already"),
    ({**L40S, "kube_version": "1.33", "scaling": {"vpa": "InPlaceOrRecreate"}}, "InPlaceOrRecreate restarts GPU pods"),
    ({"kube_version": "1.32", "scaling": {"vpa": "InPlaceOrRecreate"}}, "needs Kubernetes 1.33 to resize"),
    ({"scaling": {"kind": "keda", "metric": "cpu", "vpa": "Initial"}}, "Initial and KEDA on cpu change each other's"),
]  # fmt: skip


@pytest.mark.parametrize(("block", "sentence"), REFUSED, ids=lambda value: value[:40] if isinstance(value, str) else "")
def test_refused(tmp_path: Path, block: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ProjectError) as caught:
        make_plan(deploy_project(tmp_path, {"target": "cpu", **block}))
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("trtkit.yaml:")


@pytest.mark.parametrize(
    "block",
    [
        {"exposure": {**INGRESS, "grpc_host": "digits.example.com"}},  # paths of their own, and annotations of theirs
        {"exposure": {**GATEWAY, "grpc_host": "digits.example.com", "grpc": False}},
        {"exposure": {**GATEWAY, "timeout_seconds": 99_999}},
        {"exposure": {"host": "digits.example.com", "requests_per_second": 5}},  # an environment sets the kind
        scaled(down_stabilization_seconds=3600, up_stabilization_seconds=3600),
        scaled(up_period_seconds=1800, down_period_seconds=1800),
        scaled(metric="rps", target=0.001),
        scaled(metric="cpu", target=150),
        scaled(prometheus_url="https://prom.example.com/prefix"),
        keda(),
        {"kube_version": "1.33", "scaling": {"vpa": "InPlaceOrRecreate"}},
    ],
)
def test_not_refused(tmp_path: Path, block: dict[str, Any]) -> None:
    make_plan(deploy_project(tmp_path, {"target": "cpu", **block}))


def test_a_model_whose_name_is_no_label_is_not_selected_by_one(tmp_path: Path) -> None:
    block = {"target": "cpu", **scaled(metric="rps")}
    project = deploy_project(tmp_path, block, ("encoder", "echo", "pipeline"))
    config = project.repository / "pipeline" / "config.pbtxt"
    name = "p" * 64
    config.write_text(config.read_text().replace('"pipeline"', f'"{name}"'))
    config.parent.rename(project.repository / name)
    with pytest.raises(ProjectError, match="is no value of a label, by which an HPA selects models"):
        make_plan(project)


def test_a_model_that_nobody_measured_is_named(tmp_path: Path) -> None:
    report = {"data": "", "measurements": [measurement(model="encoder").to_json()]}
    (tmp_path / "perf.json").write_text(json.dumps(report))
    block = {"target": "cpu", "measurements": {"perf": ["perf.json"]}, **scaled()}
    (found,) = [each for each in make_plan(deploy_project(tmp_path, block, ("encoder", "cached"))).warnings
                if "rps counts" in each]  # fmt: skip
    assert found.startswith("requests of cached were not measured, and rps counts them like those of encoder; measure")
