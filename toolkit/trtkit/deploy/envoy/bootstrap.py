# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Envoy's configuration: the listeners, and the file."""

from __future__ import annotations

from typing import Any

from trtkit.deploy.envoy.addresses import COMPOSE, Addresses
from trtkit.deploy.envoy.clusters import clusters
from trtkit.deploy.envoy.routes import grpc_routes, http_routes
from trtkit.deploy.figure import Figure, Noted, noted
from trtkit.deploy.planned import Plan
from trtkit.deploy.yaml_out import dump

Node = dict[str, Any]

_OWN_MIB, _LARGEST_AT_ONCE = 256, 8
_TYPES = "type.googleapis.com/envoy.extensions"
_HEAD = """Envoy in front of {name}: HTTP on {http}, gRPC on {grpc}, metrics for Prometheus on {metrics}.
Every request that a stopping server refuses goes to another one; see docs/deploy-containers.md of trtkit.
Check it with: envoy --mode validate -c envoy.yaml"""


def render(plan: Plan, addresses: Addresses = COMPOSE) -> str:
    """The configuration as a file.

    Args:
        plan: what is served.
        addresses: where Envoy listens and the servers are.
    """
    ports = {"http": addresses.http, "grpc": addresses.grpc, "metrics": addresses.metrics}
    return dump(bootstrap(plan, addresses), comment=_HEAD.format(name=plan.name, **ports))


def bootstrap(plan: Plan, addresses: Addresses = COMPOSE) -> Node:
    """The configuration as a document, with `Noted` values; see `render`."""
    return {
        "node": {"id": "envoy", "cluster": plan.name},
        "admin": {
            "address": _socket("127.0.0.1", addresses.admin),
        },
        "layered_runtime": {
            "layers": [
                {"name": "static", "static_layer": {}},
                {"name": "admin", "admin_layer": {}},
            ]
        },
        "overload_manager": _overload(plan),
        "static_resources": {
            "listeners": [
                _listener("http", addresses.listen, addresses.http, _http(plan, addresses)),
                _listener("grpc", addresses.listen, addresses.grpc, _grpc(plan, addresses)),
                _listener("metrics", addresses.listen, addresses.metrics, _metrics()),
            ],
            "clusters": clusters(plan, addresses),
        },
    }


def memory_mib(plan: Plan) -> Figure:
    """What Envoy may use: its own, and a few of the largest requests, each of which it holds until it is answered."""
    largest = -(-plan.spec.server.max_request_bytes // 2**20)
    mib = _OWN_MIB + _LARGEST_AT_ONCE * largest
    return Figure(mib, "MiB", f"{_OWN_MIB} + {_LARGEST_AT_ONCE} of the largest requests ({largest} MiB)", "preset")


def _overload(plan: Plan) -> Node:
    """Refuse what is too much instead of ending for want of memory, or of files."""
    monitors = f"{_TYPES}.resource_monitors"
    heap = {
        "@type": f"{monitors}.fixed_heap.v3.FixedHeapConfig",
        "max_heap_size_bytes": noted(memory_mib(plan), (memory_mib(plan).whole - _OWN_MIB // 2) * 2**20),
    }
    connections = {
        "@type": f"{monitors}.downstream_connections.v3.DownstreamConnectionsConfig",
        "max_active_downstream_connections": Noted(20_000, "without a limit, clients use up the files"),
    }
    full = {"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": 0.95}}
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            {"name": "envoy.resource_monitors.fixed_heap", "typed_config": heap},
            {"name": "envoy.resource_monitors.global_downstream_max_connections", "typed_config": connections},
        ],
        "actions": [
            {"name": Noted("envoy.overload_actions.stop_accepting_requests", "answers 503"), "triggers": [full]}
        ],
    }


def _http(plan: Plan, addresses: Addresses) -> Node:
    manager = _manager(plan, "http", http_routes(plan, addresses))
    manager["stream_idle_timeout"] = f"{plan.spec.exposure.timeout_seconds}s"
    manager["request_timeout"] = Noted(f"{plan.spec.exposure.timeout_seconds}s", "for the request to arrive")
    manager["http_filters"] = [*_limit(plan), _buffer(plan), _router()]
    return manager


def _grpc(plan: Plan, addresses: Addresses) -> Node:
    manager = _manager(plan, "grpc", grpc_routes(plan, addresses))
    manager["codec_type"] = Noted("HTTP2", "clients come without TLS and without asking first (h2c)")
    manager["http2_protocol_options"] = {"max_concurrent_streams": 1000}
    manager["stream_idle_timeout"] = f"{plan.spec.exposure.timeout_seconds}s"
    manager["http_filters"] = [*_limit(plan), _router()]
    return manager


def _metrics() -> Node:
    """Prometheus reads the metrics; nothing else of the administration is reachable."""
    routes = [{"match": {"path": path}, "route": {"cluster": "admin"}} for path in ("/stats/prometheus", "/ready")]
    return {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "metrics",
        "route_config": {"virtual_hosts": [{"name": "metrics", "domains": ["*"], "routes": routes}]},
        "http_filters": [_router()],
    }


def _manager(plan: Plan, name: str, routes: list[Node]) -> Node:
    return {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "use_remote_address": True,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": Noted("REJECT_REQUEST", "they could get around the paths below"),
        "common_http_protocol_options": {
            "idle_timeout": "3600s",
            "headers_with_underscores_action": "ALLOW",
        },
        "request_headers_timeout": "10s",
        "access_log": [_access_log(name)],
        "route_config": {
            "name": name,
            "virtual_hosts": [{"name": plan.name, "domains": ["*"], "routes": routes}],
        },
    }


def _access_log(wire: str) -> Node:
    """What went wrong and what was tried again, not every request."""
    at_least_400 = {"op": "GE", "value": {"default_value": 400, "runtime_key": "access_log.status"}}
    any_of: list[Node] = [{"status_code_filter": {"comparison": at_least_400}}, {"response_flag_filter": {}}]
    if wire == "grpc":
        any_of.append({"grpc_status_filter": {"statuses": ["OK"], "exclude": True}})
    fields = {
        "time": "%START_TIME%", "method": "%REQ(:METHOD)%", "path": "%REQ(:PATH)%", "status": "%RESPONSE_CODE%",
        "grpc_status": "%GRPC_STATUS%", "flags": "%RESPONSE_FLAGS%", "details": "%RESPONSE_CODE_DETAILS%",
        "duration_ms": "%DURATION%", "tries": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "server": "%UPSTREAM_HOST%",
        "cluster": "%UPSTREAM_CLUSTER%",
    }  # fmt: skip
    return {
        "name": "envoy.access_loggers.stdout",
        "filter": Noted({"or_filter": {"filters": any_of}}, "a log of every request is for the time of a search"),
        "typed_config": {
            "@type": f"{_TYPES}.access_loggers.stream.v3.StdoutAccessLog",
            "log_format": {"json_format": fields},
        },
    }


def _limit(plan: Plan) -> list[Node]:
    if plan.spec.exposure.requests_per_second is None:
        return []
    kind = f"{_TYPES}.filters.http.local_ratelimit.v3.LocalRateLimit"
    name = "envoy.filters.http.local_ratelimit"
    return [{"name": name, "typed_config": {"@type": kind, "stat_prefix": "off"}}]


def _buffer(plan: Plan) -> Node:
    kind = f"{_TYPES}.filters.http.buffer.v3.Buffer"
    why = "server.max_request_bytes; larger ones get 413, and a whole request can be sent again"
    return {
        "name": "envoy.filters.http.buffer",
        "typed_config": {"@type": kind, "max_request_bytes": Noted(plan.spec.server.max_request_bytes, why)},
    }


def _router() -> Node:
    kind = f"{_TYPES}.filters.http.router.v3.Router"
    return {"name": "envoy.filters.http.router", "typed_config": {"@type": kind}}


def _listener(name: str, address: str, port: int, manager: Node) -> Node:
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {"name": name, "address": _socket(address, port), "filter_chains": [chain]}


def _socket(address: str, port: int) -> Node:
    return {"socket_address": {"address": address, "port_value": port}}
