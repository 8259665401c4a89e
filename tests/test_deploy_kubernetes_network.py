# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Who may call whom, by which address, and what a namespace is held to."""

from __future__ import annotations

from typing import Any

import pytest

from deploy_matrix import CONFIGS
from deploy_objects import planned, plans_of, with_spec
from trtkit.deploy.figure import plain
from trtkit.deploy.kubernetes import services
from trtkit.deploy.kubernetes.access import network_policy
from trtkit.deploy.kubernetes.limits import quota


def ports(rules: list[dict[str, Any]]) -> list[list[int]]:
    return [[port["port"] for port in rule["ports"]] for rule in rules]


def test_clients_and_prometheus_get_in_and_nobody_else() -> None:
    spec = plain(network_policy(plans_of("cpu")[""]))["spec"]
    assert ports(spec["ingress"]) == [[8000, 8001], [8002]]
    assert all(rule["from"] for rule in spec["ingress"])
    assert spec["ingress"][1]["from"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    ]
    assert ports(spec["egress"]) == [[53, 53]]
    silent = with_spec(plans_of("cpu")[""], "monitoring", kind="none")
    assert ports(plain(network_policy(silent))["spec"]["ingress"]) == [[8000, 8001]]


@pytest.mark.parametrize(
    ("uri", "port"),
    [
        ("s3://models/digits", 443),
        ("s3://https://minio.example.com:9443/models", 9443),
        ("s3://https://minio.example.com/models", 443),
        ("s3://http://minio.storage:9000/models", 9000),
        ("s3://minio.storage:9000/models", 9000),
    ],
)
def test_a_bucket_is_reached_on_its_port(uri: str, port: int) -> None:
    plan = with_spec(plans_of("s3_keys")[""], "storage", uri=uri)
    assert ports(plain(network_policy(plan))["spec"]["egress"]) == [[53, 53], [port]]


def test_the_node_s_own_identity_is_out_of_reach() -> None:
    rules = plain(network_policy(plans_of("s3_identity")[""]))["spec"]["egress"]
    assert rules[1]["to"][0]["ipBlock"]["except"] == ["169.254.169.254/32"]
    assert ports(plain(network_policy(plans_of("gcs")[""]))["spec"]["egress"]) == [[53, 53], [443], [988], [80]]


@pytest.mark.parametrize(("row", "namespace"), [("ingress", "ingress-nginx"), ("gateway_existing", "infra")])
def test_the_proxy_s_namespace_may_call(row: str, namespace: str) -> None:
    assert namespace in str(plain(network_policy(plans_of(row)[""]))["spec"]["ingress"][0])


# services and limits


def test_a_sequence_s_client_stays_at_its_pod() -> None:
    normal, headless = map(plain, services.services(plans_of("several_models")[""]))
    assert "max_sequence_idle_microseconds: 60000000" in CONFIGS["tracker"]
    assert normal["spec"]["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 60}}
    assert "sessionAffinity" not in headless["spec"]
    assert "sessionAffinity" not in services.services(plans_of("one_gpu")[""])[0]["spec"]


def test_grpc_is_http_2_without_tls_and_metrics_are_one_service_s() -> None:
    normal, headless = map(plain, services.services(plans_of("cpu")[""]))
    assert [port["name"] for port in normal["spec"]["ports"]] == ["http", "grpc", "metrics"]
    # two Services with the metrics port would be scraped twice by a ServiceMonitor
    assert [port["name"] for port in headless["spec"]["ports"]] == ["http", "grpc"]
    assert headless["spec"]["clusterIP"] == "None"
    assert {port["appProtocol"] for port in headless["spec"]["ports"]} == {"http", "kubernetes.io/h2c"}


def test_a_quota_counts_the_gpus_and_other_pods_get_defaults() -> None:
    one, limits = map(plain, quota(plans_of("hpa")[""]))
    assert one["spec"]["hard"] == {"requests.nvidia.com/gpu": "9"}
    assert limits["spec"]["limits"][0]["default"]["memory"]
    assert quota(plans_of("one_gpu")[""]) == []
    memory = with_spec(plans_of("cpu")[""], "cluster", quota_memory="64Gi", quota_cpu="32")
    assert plain(quota(memory))[0]["spec"]["hard"] == {
        "requests.cpu": "32", "requests.memory": "64Gi", "limits.memory": "64Gi",
    }  # fmt: skip


def test_a_drain_is_never_blocked() -> None:
    for row in ("cpu", "keda"):
        budget = [item for key, item in planned(plans_of(row)[""]).items() if key[0] == "PodDisruptionBudget"]
        assert budget[0]["spec"]["maxUnavailable"] == 1
        assert budget[0]["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
