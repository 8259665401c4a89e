# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Envoy's clusters: how it finds the servers, knows which are well, and lets go of those that stop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from trtkit.deploy.envoy.addresses import CANARY, STABLE, Addresses, Server
from trtkit.deploy.figure import Noted
from trtkit.deploy.planned import Plan

Node = dict[str, Any]

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_MAX_REQUESTS = 10_000


def cluster_name(wire: str, track: str, *, sticky: bool = False) -> str:
    """The name of a cluster, which Envoy's metrics carry.

    Args:
        wire: ``http`` or ``grpc``.
        track: ``stable`` or ``canary``.
        sticky: whether requests of a sequence stay on one server.
    """
    return f"triton_{wire}_{track}{'_sequences' if sticky else ''}"


def clusters(plan: Plan, addresses: Addresses) -> list[Node]:
    """Every cluster: each protocol and track, the sticky ones of sequence models, and Envoy's own administration."""
    admin = {
        "name": "admin",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": _assignment("admin", [("127.0.0.1", addresses.admin)]),
    }
    return [*_servers(plan, addresses), admin]


def _servers(plan: Plan, addresses: Addresses) -> Iterator[Node]:
    for track, servers in ((STABLE, addresses.stable), (CANARY, addresses.canary)):
        if not servers:
            continue
        # the name of a gRPC request's model is in its body: where one model has sequences, all requests are sticky
        yield _cluster(plan, cluster_name("http", track), servers, "http", sticky=False)
        yield _cluster(plan, cluster_name("grpc", track), servers, "grpc", sticky=plan.has_sequences)
        if plan.has_sequences:
            yield _cluster(plan, cluster_name("http", track, sticky=True), servers, "http", sticky=True)


def _cluster(plan: Plan, name: str, servers: Sequence[Server], wire: str, *, sticky: bool) -> Node:
    places = [(server.host, server.http if wire == "http" else server.grpc) for server in servers]
    return {
        "name": name,
        "cluster_type": {
            "name": "envoy.cluster.dns",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster",
                "dns_refresh_rate": Noted("2s", "a server that was added is found so soon"),
                "dns_lookup_family": "V4_ONLY",
            },
        },
        "connect_timeout": "1s",
        "lb_policy": (
            Noted("RING_HASH", "requests of a sequence have to reach the same server")
            if sticky
            else Noted("LEAST_REQUEST", "requests take unequal times; turns would queue behind the slow ones")
        ),
        "load_assignment": _assignment(name, places),
        "health_checks": [_health_check(plan, wire)],
        "outlier_detection": _outliers(),
        "circuit_breakers": _limits(),
        "typed_extension_protocol_options": {_HTTP_OPTIONS: _protocol(plan, wire)},
    }


def _assignment(name: str, places: Sequence[tuple[str, int]]) -> Node:
    endpoints = [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}} for host, port in places
    ]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}


def _health_check(plan: Plan, wire: str) -> Node:
    path = "/v2/health/ready" if plan.spec.server.strict else "/v2/health/live"
    asked: Node = (
        {"http_health_check": {"path": path}} if wire == "http" else {"grpc_health_check": {"service_name": ""}}
    )
    return {
        "timeout": Noted("2s", "a server under load still answers in this time; only a hung one does not"),
        "interval": "1s",
        "no_traffic_interval": Noted("1s", "60 s by default, in which an idle Envoy would not see a server go"),
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        "reuse_connection": Noted(False, "a stopping server answers on open connections, and refuses new ones"),
        **asked,
    }


def _outliers() -> Node:
    return {
        "split_external_local_origin_errors": Noted(True, "tells a server that is not there from a model that fails"),
        "enforcing_consecutive_5xx": Noted(0, "a failing model answers 500; the server is well"),
        "enforcing_success_rate": 0,
        "enforcing_local_origin_success_rate": 0,
        "consecutive_gateway_failure": 5,
        "enforcing_consecutive_gateway_failure": 100,
        "consecutive_local_origin_failure": 2,
        "interval": "1s",
        "base_ejection_time": "5s",
        "max_ejection_time": "30s",
        "max_ejection_percent": Noted(50, "never the last server"),
    }


def _limits() -> Node:
    limits = {
        "max_connections": Noted(_MAX_REQUESTS, "1024 by default; the server has queues of its own"),
        "max_pending_requests": _MAX_REQUESTS,
        "max_requests": _MAX_REQUESTS,
        "max_retries": Noted(_MAX_REQUESTS, "3 at a time by default: a server that stops fails more than that at once"),
    }
    return {"thresholds": [limits]}


def _protocol(plan: Plan, wire: str) -> Node:
    return {
        "@type": f"type.googleapis.com/{_HTTP_OPTIONS}",
        "common_http_protocol_options": {
            "idle_timeout": Noted(f"{plan.drain.idle_timeout.value}s", plan.drain.idle_timeout.why)
        },
        "explicit_http_config": {"http_protocol_options" if wire == "http" else "http2_protocol_options": {}},
    }
