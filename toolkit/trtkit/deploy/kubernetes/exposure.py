# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How clients outside of the cluster reach the server: an Ingress, or Gateway API."""

from __future__ import annotations

from itertools import islice
from typing import Any

from trtkit.deploy.figure import Noted
from trtkit.deploy.kubernetes.exposure_paths import public_paths
from trtkit.deploy.kubernetes.meta import Object, metadata
from trtkit.deploy.planned import GRPC_PORT, HTTP_PORT, Plan

GRPC_SERVICES = ("inference.GRPCInferenceService", "grpc.health.v1.Health")
"""Inference, and the health check of gRPC. The first one also manages the server: see `GRPC_METHODS`."""
GRPC_METHODS = (
    "ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer", "ModelStreamInfer",
)  # fmt: skip
"""Those of inference.GRPCInferenceService that clients need; the others manage the server, or tell of it."""
SEQUENCE_HEADER = "x-sequence-id"
"""What clients set to the id of a sequence, so that all its requests reach one pod."""
# limits of the API: https://gateway-api.sigs.k8s.io/reference/spec/
_MATCHES_IN_RULE, _MATCHES_IN_ROUTE = 60, 120
_GRPC_MATCHES_IN_RULE = 8
_NGINX = "nginx.ingress.kubernetes.io"


def exposure_objects(plan: Plan) -> list[Object]:
    """The Ingresses, or the Gateway and its routes; none for a server that stays inside."""
    if plan.spec.exposure.kind == "ingress":
        return [_ingress(plan), *([_grpc_ingress(plan)] if plan.spec.exposure.grpc else [])]
    if plan.spec.exposure.kind == "gateway":
        gateway = [] if plan.spec.exposure.gateway else [_gateway(plan)]
        return [*gateway, *_http_routes(plan), *([_grpc_route(plan)] if plan.spec.exposure.grpc else [])]
    return []


def grpc_host(plan: Plan) -> str:
    """The host for gRPC: another one than for HTTP, since a listener takes routes of one kind for a host."""
    return plan.spec.exposure.grpc_host or f"grpc-{plan.spec.exposure.host}"


def nginx_size(count: int) -> str:
    """Bytes as nginx writes them: ``64m``."""
    for factor, letter in ((1 << 20, "m"), (1 << 10, "k")):
        if count % factor == 0:
            return f"{count // factor}{letter}"
    return str(count)


def _ingress(plan: Plan) -> Object:
    size = plan.spec.server.max_request_bytes
    annotations = {
        f"{_NGINX}/proxy-body-size": Noted(nginx_size(size), f"max_request_bytes {size}, as the server's own limit"),
        f"{_NGINX}/proxy-buffering": Noted("off", "a stream of generate_stream reaches the client as it comes"),
        **_annotations(plan),
    }
    paths = [_ingress_path(plan, path, "Exact", "http") for path in public_paths(plan)]
    return _ingress_object(plan, "", str(plan.spec.exposure.host), annotations, paths)


def _grpc_ingress(plan: Plan) -> Object:
    annotations = {
        f"{_NGINX}/backend-protocol": Noted("GRPC", "for all paths of an Ingress: hence one of its own"),
        f"{_NGINX}/proxy-body-size": Noted("0", "it would count all messages of a stream; the server limits each"),
        **_annotations(plan),
    }
    methods = [f"/{GRPC_SERVICES[0]}/{method}" for method in GRPC_METHODS]
    paths = [_ingress_path(plan, path, "Exact", "grpc") for path in methods]
    paths.append(_ingress_path(plan, f"/{GRPC_SERVICES[1]}", "Prefix", "grpc"))
    return _ingress_object(plan, "grpc", grpc_host(plan), annotations, paths)


def _annotations(plan: Plan) -> dict[str, Any]:
    """What both Ingresses have; of ingress-nginx, other controllers ignore them."""
    exposure = plan.spec.exposure
    timeout = Noted(str(exposure.timeout_seconds), "s between two reads of the answer, not for all of it")
    found: dict[str, Any] = {
        f"{_NGINX}/proxy-read-timeout": timeout,
        f"{_NGINX}/proxy-send-timeout": str(exposure.timeout_seconds),
        f"{_NGINX}/proxy-next-upstream": Noted("error", "what had not reached a pod goes to another"),
    }
    if exposure.tls_secret:
        found[f"{_NGINX}/ssl-redirect"] = "true"
    if exposure.requests_per_second:
        why = "of one address; 503 unless the controller's ConfigMap says limit-req-status-code: 429"
        found[f"{_NGINX}/limit-rps"] = Noted(str(exposure.requests_per_second), why)
    if plan.has_sequences:
        variable = "$http_" + SEQUENCE_HEADER.replace("-", "_")
        why = (
            f"one pod for a sequence: clients send its id as {SEQUENCE_HEADER}; without it, one for a client's address"
        )
        found[f"{_NGINX}/upstream-hash-by"] = Noted(f"{variable}$remote_addr", why)
    return found


def _ingress_object(
    plan: Plan, suffix: str, host: str, annotations: dict[str, Any], paths: list[dict[str, Any]]
) -> Object:
    exposure = plan.spec.exposure
    secret = exposure.tls_secret
    name = Noted(exposure.class_name, "nginx takes gRPC on its TLS port only") if suffix else exposure.class_name
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": metadata(plan, suffix, annotations=annotations),
        "spec": {
            "ingressClassName": name,
            **({"tls": [{"hosts": [host], "secretName": secret}]} if secret else {}),
            "rules": [{"host": host, "http": {"paths": paths}}],
        },
    }


def _ingress_path(plan: Plan, path: str, kind: str, port: str) -> dict[str, Any]:
    return {
        "path": path,
        "pathType": kind,
        "backend": {"service": {"name": plan.name, "port": {"name": port}}},
    }


def _gateway(plan: Plan) -> Object:
    exposure = plan.spec.exposure
    hosts = {"http": str(exposure.host), **({"grpc": grpc_host(plan)} if exposure.grpc else {})}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": metadata(plan),
        "spec": {
            "gatewayClassName": exposure.class_name,
            "listeners": [_listener(name, host, exposure.tls_secret) for name, host in hosts.items()],
        },
    }


def _listener(name: str, host: str, secret: str | None) -> dict[str, Any]:
    common = {"hostname": host, "allowedRoutes": {"namespaces": {"from": "Same"}}}
    if secret is None:
        return {"name": name, "port": 80, "protocol": Noted("HTTP", "unencrypted: no tls_secret is given"), **common}
    certificate = {"kind": "Secret", "name": Noted(secret, f"its certificate has to name {host}")}
    tls = {"mode": "Terminate", "certificateRefs": [certificate]}
    return {"name": name, "port": 443, "protocol": "HTTPS", **common, "tls": tls}


def _http_routes(plan: Plan) -> list[Object]:
    """The paths in as many routes as the API's limits on matches ask for."""
    paths = iter(public_paths(plan))
    routes: list[Object] = []
    while chunk := list(islice(paths, _MATCHES_IN_ROUTE)):
        parts = [chunk[start : start + _MATCHES_IN_RULE] for start in range(0, len(chunk), _MATCHES_IN_RULE)]
        suffix = "http" if not routes else f"http-{len(routes) + 1}"
        routes.append(_http_route(plan, suffix, [_http_rule(plan, part) for part in parts]))
    return routes


def _http_route(plan: Plan, suffix: str, rules: list[dict[str, Any]]) -> Object:
    host: Any = str(plan.spec.exposure.host)
    if plan.has_sequences:
        why = f"the API has no stable affinity: set the implementation's own, by the header {SEQUENCE_HEADER}"
        host = Noted(host, why)
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": metadata(plan, suffix),
        "spec": {"parentRefs": [_parent(plan, "http")], "hostnames": [host], "rules": rules},
    }


def _http_rule(plan: Plan, paths: list[str]) -> dict[str, Any]:
    return {
        "matches": [{"path": {"type": "Exact", "value": path}} for path in paths],
        "timeouts": {
            "request": Noted(f"{plan.spec.exposure.timeout_seconds}s", "from the request to the answer's end")
        },
        "backendRefs": [{"name": plan.name, "port": HTTP_PORT, "weight": 100}],
    }


def _grpc_route(plan: Plan) -> Object:
    methods = [{"method": {"service": GRPC_SERVICES[0], "method": method}} for method in GRPC_METHODS]
    methods.append({"method": {"service": GRPC_SERVICES[1]}})
    backend = {
        "name": plan.name,
        "port": Noted(GRPC_PORT, "appProtocol kubernetes.io/h2c of the Service"),
        "weight": 100,
    }
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GRPCRoute",
        "metadata": metadata(plan, "grpc"),
        "spec": {
            "parentRefs": [_parent(plan, "grpc")],
            "hostnames": [grpc_host(plan)],
            "rules": [{"matches": methods[:_GRPC_MATCHES_IN_RULE], "backendRefs": [backend]}],
        },
    }


def _parent(plan: Plan, listener: str) -> dict[str, Any]:
    exposure = plan.spec.exposure
    if exposure.gateway is None:
        return {"name": plan.name, "sectionName": listener}
    place = {"namespace": exposure.gateway_namespace} if exposure.gateway_namespace else {}
    return {"name": exposure.gateway, **place}
