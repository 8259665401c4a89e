# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The rendered Envoy configuration: Envoy's own check over the matrix, and what is decided in it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy_matrix import MATRIX, deploy_project, matrix_project
from deploy_tools import program, run
from trtkit.deploy.envoy.addresses import Addresses
from trtkit.deploy.envoy.bootstrap import bootstrap, render
from trtkit.deploy.figure import plain
from trtkit.deploy.plan import make_plan
from trtkit.deploy.planned import Plan


@pytest.mark.parametrize("name", MATRIX)
def test_envoy_takes_it(tmp_path: Path, name: str) -> None:
    plan = make_plan(matrix_project(tmp_path / "p", name))
    (tmp_path / "envoy.yaml").write_text(render(plan))
    assert yaml.safe_load(render(plan)) == plain(bootstrap(plan))
    run(program("envoy"), "--mode", "validate", "-c", tmp_path / "envoy.yaml")


def test_nothing_in_it_is_deprecated(tmp_path: Path) -> None:
    plan = make_plan(matrix_project(tmp_path / "p", "ingress"))
    (tmp_path / "envoy.yaml").write_text(render(plan))
    command = [program("envoy"), "--mode", "validate", "-c", str(tmp_path / "envoy.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "eprecated" not in done.stdout + done.stderr


def test_steps_of_a_sequence_stay_on_one_server_and_are_not_repeated(tmp_path: Path) -> None:
    plan = make_plan(matrix_project(tmp_path / "p", "cpu"))
    clusters = _clusters(plan)
    assert clusters["triton_http_stable_sequences"]["lb_policy"] == "RING_HASH"
    assert clusters["triton_grpc_stable"]["lb_policy"] == "RING_HASH"
    assert clusters["triton_http_stable"]["lb_policy"] == "LEAST_REQUEST"
    tracker = [route for route in _routes(plan, "http") if _path(route) == "/v2/models/tracker"]
    assert {_cluster_names(route) for route in tracker} == {
        ("triton_http_canary_sequences",),
        ("triton_http_stable_sequences", "triton_http_canary_sequences"),
    }
    for route in [*tracker, *(r for r in _routes(plan, "grpc") if "route" in r)]:
        tried = route["route"]["retry_policy"]["retry_on"].split(",")
        assert not {"reset", "unavailable", "cancelled", "5xx", "gateway-error"} & set(tried)
        assert route["route"]["hash_policy"][0] == {"header": {"header_name": "x-sequence-id"}, "terminal": True}


def test_without_sequences_a_reset_is_tried_again_elsewhere(tmp_path: Path) -> None:
    plan = make_plan(matrix_project(tmp_path / "p", "one_gpu"))
    inference = [route for route in _routes(plan, "http") if "(infer|generate)" in _path(route)]
    assert inference
    for route in inference:
        policy = route["route"]["retry_policy"]
        assert "reset" in policy["retry_on"].split(",")
        assert policy["retry_host_predicate"][0]["name"].endswith("previous_hosts")
    assert all("sequences" not in name for name in _clusters(plan))


def test_streams_have_no_end_and_are_not_repeated(tmp_path: Path) -> None:
    plan = make_plan(matrix_project(tmp_path / "p", "one_gpu"))
    streams = [route for route in _routes(plan, "http") if _path(route).endswith("generate_stream")]
    streams += [route for route in _routes(plan, "grpc") if _path(route).endswith("ModelStreamInfer")]
    assert len(streams) == 4  # each with a canary
    for route in streams:
        assert route["route"]["timeout"] == "0s"
        assert "reset" not in route["route"]["retry_policy"]["retry_on"].split(",")


def test_it_lets_go_of_a_server_before_the_server_gives_up(tmp_path: Path) -> None:
    plan = make_plan(deploy_project(tmp_path / "p", {"target": "cpu", "server": {"exit_timeout_seconds": 7}}))
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    for name, cluster in _clusters(plan).items():
        if name == "admin":
            continue
        idle = cluster["typed_extension_protocol_options"][options]["common_http_protocol_options"]["idle_timeout"]
        assert float(idle.removesuffix("s")) < 7
        assert cluster["health_checks"][0]["reuse_connection"] is False
        assert cluster["circuit_breakers"]["thresholds"][0]["max_retries"] > 1000


def test_clients_are_limited_only_where_it_was_asked_for(tmp_path: Path) -> None:
    limited = make_plan(matrix_project(tmp_path / "a", "ingress"))
    free = make_plan(matrix_project(tmp_path / "b", "gateway"))
    assert any("typed_per_filter_config" in route for route in _routes(limited, "http"))
    assert not any("typed_per_filter_config" in route for route in _routes(free, "http"))
    health = [route for route in _routes(limited, "http") if "health" in _path(route)]
    assert health
    assert not any("typed_per_filter_config" in route for route in health)


def test_administration_is_for_the_container_alone(tmp_path: Path) -> None:
    document = plain(bootstrap(make_plan(matrix_project(tmp_path / "p", "cpu"))))
    assert document["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"
    metrics = _manager(document, "metrics")["route_config"]["virtual_hosts"][0]["routes"]
    assert [route["match"] for route in metrics] == [{"path": "/stats/prometheus"}, {"path": "/ready"}]


def test_without_a_canary_nothing_speaks_of_one(tmp_path: Path) -> None:
    plan = make_plan(matrix_project(tmp_path / "p", "cpu"))
    assert "canary" not in render(plan, Addresses(canary=()))


def _clusters(plan: Plan) -> dict[str, Any]:
    return {cluster["name"]: cluster for cluster in plain(bootstrap(plan))["static_resources"]["clusters"]}


def _routes(plan: Plan, listener: str) -> list[dict[str, Any]]:
    hosts = _manager(plain(bootstrap(plan)), listener)["route_config"]["virtual_hosts"]
    return [route for route in hosts[0]["routes"] if "route" in route]


def _manager(document: dict[str, Any], listener: str) -> dict[str, Any]:
    found = next(each for each in document["static_resources"]["listeners"] if each["name"] == listener)
    manager: dict[str, Any] = found["filter_chains"][0]["filters"][0]["typed_config"]
    return manager


def _path(route: dict[str, Any]) -> str:
    match = route["match"]
    return str(match.get("path_separated_prefix") or match.get("safe_regex", {}).get("regex", ""))


def _cluster_names(route: dict[str, Any]) -> tuple[str, ...]:
    action = route["route"]
    weighted = action.get("weighted_clusters", {}).get("clusters", [])
    return (action["cluster"],) if "cluster" in action else tuple(each["name"] for each in weighted)
