# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Ingress and Gateway API: valid, and open for inference only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import tritonclient.grpc.service_pb2 as pb

from deploy_custom_resources import check
from deploy_matrix import MODELS, deploy_project
from trtkit.deploy.figure import plain
from trtkit.deploy.kubernetes.exposure import GRPC_METHODS, GRPC_SERVICES, exposure_objects, nginx_size
from trtkit.deploy.kubernetes.exposure_paths import public_paths
from trtkit.deploy.kubernetes.services import services
from trtkit.deploy.plan import make_plan
from trtkit.deploy.planned import Plan

EVERY = MODELS["several_models"]
NGINX = "nginx.ingress.kubernetes.io/"
INGRESS = {"kind": "ingress", "host": "digits.example.com"}
GATEWAY = {"kind": "gateway", "host": "digits.example.com"}
# what of the server's HTTP interface manages it, or tells of it
INSIDE = (
    "/v2/repository/index", "/v2/repository/models/encoder/load", "/v2/systemsharedmemory/status",
    "/v2/cudasharedmemory/region/a/register", "/v2/trace/setting", "/v2/models/encoder/trace/setting",
    "/v2/models/encoder/versions/1/trace/setting", "/v2/logging", "/v2/models/stats", "/v2/models/encoder/stats",
    "/v2/models/encoder/config", "/metrics", "/v2/models/other/infer",
)  # fmt: skip


def plan_of(folder: Path, exposure: dict[str, Any], models: tuple[str, ...] = ("encoder",), **block: Any) -> Plan:
    return make_plan(deploy_project(folder / "digits", {"target": "cpu", "exposure": exposure, **block}, models))


def rendered(plan: Plan) -> dict[tuple[str, str], dict[str, Any]]:
    return {(item["kind"], item["metadata"]["name"]): plain(item) for item in exposure_objects(plan)}


def ingress_paths(item: dict[str, Any]) -> list[tuple[str, str]]:
    return [(path["pathType"], path["path"]) for rule in item["spec"]["rules"] for path in rule["http"]["paths"]]


def is_open(path: str, rules: list[tuple[str, str]]) -> bool:
    """Whether a path is routed: Exact, or below a Prefix."""
    return any(path == value or (kind != "Exact" and path.startswith(f"{value}/")) for kind, value in rules)


def test_a_server_inside_has_no_objects(tmp_path: Path) -> None:
    assert exposure_objects(plan_of(tmp_path, {"kind": "none"})) == []


def test_ingresses_are_ones_that_every_kubernetes_knows(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {**INGRESS, "tls_secret": "tls", "requests_per_second": 50}, EVERY)
    found = rendered(plan)
    assert set(found) == {("Ingress", "digits"), ("Ingress", "digits-grpc")}
    for item in found.values():
        for minor in range(28, 37):
            kubernetes_validate.validate(item, f"1.{minor}", strict=True)


def test_an_ingress_is_open_for_inference_and_closed_for_the_rest(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, INGRESS, EVERY)
    found = rendered(plan)
    rules = ingress_paths(found["Ingress", "digits"])
    for model in EVERY:
        for path in ("", "/ready", "/infer", "/versions/1/infer", "/generate", "/generate_stream"):
            assert is_open(f"/v2/models/{model}{path}", rules)
    assert not [path for path in INSIDE if is_open(path, rules)]
    rules = ingress_paths(found["Ingress", "digits-grpc"])
    assert is_open("/inference.GRPCInferenceService/ModelInfer", rules)
    assert is_open("/grpc.health.v1.Health/Check", rules)
    assert not is_open("/inference.GRPCInferenceService/RepositoryModelLoad", rules)


def test_the_grpc_methods_are_those_of_the_service() -> None:
    service = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert service.full_name == GRPC_SERVICES[0]
    every = {method.name for method in service.methods}
    assert set(GRPC_METHODS) <= every
    managing = {"Repository", "Shared", "Trace", "Log", "Statistics", "Config"}
    assert not [name for name in GRPC_METHODS if any(word in name for word in managing)]
    # a method that is neither ours nor one that manages would be a new one, to be decided on
    assert not [n for n in every - set(GRPC_METHODS) if not any(word in n for word in managing)]


def test_what_an_ingress_tells_nginx(tmp_path: Path) -> None:
    exposure = {**INGRESS, "tls_secret": "tls", "requests_per_second": 50, "timeout_seconds": 120}
    found = rendered(plan_of(tmp_path, exposure, server={"max_request_bytes": 100 << 20}))
    http = found["Ingress", "digits"]["metadata"]["annotations"]
    grpc = found["Ingress", "digits-grpc"]["metadata"]["annotations"]
    assert http[f"{NGINX}proxy-body-size"] == "100m"
    assert http[f"{NGINX}proxy-buffering"] == "off"
    assert http[f"{NGINX}proxy-read-timeout"] == http[f"{NGINX}proxy-send-timeout"] == "120"
    assert http[f"{NGINX}limit-rps"] == "50"
    assert f"{NGINX}backend-protocol" not in http
    assert grpc[f"{NGINX}backend-protocol"] == "GRPC"
    assert grpc[f"{NGINX}proxy-body-size"] == "0"
    assert f"{NGINX}upstream-hash-by" not in http
    assert all(isinstance(value, str) for value in (*http.values(), *grpc.values()))
    spec = found["Ingress", "digits"]["spec"]
    assert spec["tls"] == [{"hosts": ["digits.example.com"], "secretName": "tls"}]
    assert spec["ingressClassName"] == "nginx"


def test_without_a_secret_there_is_no_tls(tmp_path: Path) -> None:
    found = rendered(plan_of(tmp_path, {**INGRESS, "grpc": False}))
    assert set(found) == {("Ingress", "digits")}
    assert "tls" not in found["Ingress", "digits"]["spec"]
    assert f"{NGINX}ssl-redirect" not in found["Ingress", "digits"]["metadata"]["annotations"]


def test_requests_of_a_sequence_reach_one_pod(tmp_path: Path) -> None:
    for item in rendered(plan_of(tmp_path, INGRESS, ("tracker",))).values():
        assert item["metadata"]["annotations"][f"{NGINX}upstream-hash-by"] == "$http_x_sequence_id$remote_addr"


def test_a_gateway_of_our_own_has_a_listener_for_each_host(tmp_path: Path) -> None:
    found = rendered(plan_of(tmp_path, {**GATEWAY, "tls_secret": "tls"}))
    for item in found.values():
        check(item)
    listeners = {each["name"]: each for each in found["Gateway", "digits"]["spec"]["listeners"]}
    assert listeners["http"]["hostname"] == "digits.example.com"
    assert listeners["grpc"]["hostname"] == "grpc-digits.example.com"
    assert {(each["port"], each["protocol"]) for each in listeners.values()} == {(443, "HTTPS")}
    for route in (found["HTTPRoute", "digits-http"], found["GRPCRoute", "digits-grpc"]):
        (parent,) = route["spec"]["parentRefs"]
        assert parent["name"] == "digits"
        assert [listeners[parent["sectionName"]]["hostname"]] == route["spec"]["hostnames"]


def test_an_existing_gateway_is_referred_to(tmp_path: Path) -> None:
    found = rendered(plan_of(tmp_path, {**GATEWAY, "gateway": "public", "gateway_namespace": "infra", "grpc": False}))
    assert set(found) == {("HTTPRoute", "digits-http")}
    (route,) = found.values()
    check(route)
    assert route["spec"]["parentRefs"] == [{"name": "public", "namespace": "infra"}]


def test_routes_are_open_for_inference_and_closed_for_the_rest(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, {**GATEWAY, "timeout_seconds": 90}, EVERY)
    found = rendered(plan)
    rules = found["HTTPRoute", "digits-http"]["spec"]["rules"]
    matches = [(m["path"]["type"], m["path"]["value"]) for rule in rules for m in rule["matches"]]
    assert [path for _, path in matches] == list(public_paths(plan))
    assert not [path for path in INSIDE if is_open(path, matches)]
    assert {rule["timeouts"]["request"] for rule in rules} == {"90s"}
    (rule,) = found["GRPCRoute", "digits-grpc"]["spec"]["rules"]
    methods = [(m["method"]["service"], m["method"].get("method")) for m in rule["matches"]]
    assert len(methods) <= 8
    assert ("inference.GRPCInferenceService", "ModelStreamInfer") in methods
    assert ("inference.GRPCInferenceService", None) not in methods  # that would be all of them


def test_routes_reach_ports_that_the_service_has(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, GATEWAY)
    (service,) = [plain(item) for item in services(plan) if item["metadata"]["name"] == plan.name]
    ports = {port["port"] for port in service["spec"]["ports"]}
    names = {port["name"] for port in service["spec"]["ports"]}
    for (kind, _), item in rendered(plan).items():
        for rule in item["spec"].get("rules", []) if kind != "Gateway" else []:
            assert {backend["port"] for backend in rule["backendRefs"]} <= ports
            assert {backend["name"] for backend in rule["backendRefs"]} == {service["metadata"]["name"]}
    assert {"http", "grpc"} <= names


def test_many_models_take_several_routes(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, GATEWAY)
    (model,) = plan.models
    many = replace(plan, models=tuple(replace(model, name=f"model{index}", versions=(1, 2)) for index in range(30)))
    routes = [item for (kind, _), item in rendered(many).items() if kind == "HTTPRoute"]
    assert [route["metadata"]["name"] for route in routes] == [
        "digits-http", "digits-http-2", "digits-http-3", "digits-http-4",
    ]  # fmt: skip
    for route in routes:
        check(route)
    values = [m["path"]["value"] for route in routes for rule in route["spec"]["rules"] for m in rule["matches"]]
    assert values == list(public_paths(many))
    assert len(values) == 2 + 30 * 3 * 5


@pytest.mark.parametrize(("count", "text"), [(64 << 20, "64m"), (1536, "1536"), (2048, "2k"), (1 << 30, "1024m")])
def test_sizes_as_nginx_has_them(count: int, text: str) -> None:
    assert nginx_size(count) == text
