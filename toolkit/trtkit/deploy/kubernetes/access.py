# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Who may call the server, what it may call, and as whom."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from trtkit.deploy.figure import Noted
from trtkit.deploy.kubernetes.meta import CLIENT_LABEL, Object, metadata, selector
from trtkit.deploy.planned import GRPC_PORT, HTTP_PORT, METRICS_PORT, Plan

_ANNOTATIONS = {
    "s3": "eks.amazonaws.com/role-arn",
    "gcs": "iam.gke.io/gcp-service-account",
    "azure": "azure.workload.identity/client-id",
}
_METADATA_SERVER = "169.254.169.254/32"
_NAMESPACE = "kubernetes.io/metadata.name"


def service_account_name(plan: Plan) -> str:
    """Of the server's pods."""
    return plan.name


def service_account(plan: Plan) -> Object:
    """An account that may do nothing: no token is mounted, and no role is bound to it."""
    storage = plan.spec.storage
    further = {"annotations": {_ANNOTATIONS[storage.kind]: storage.identity}} if storage.identity else {}
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {**metadata(plan), **further},
        "automountServiceAccountToken": False,
    }


def network_policy(plan: Plan) -> Object:
    """What is not listed is denied, for the server's pods."""
    rules = [{"from": _clients(plan), "ports": _tcp(HTTP_PORT, GRPC_PORT)}]
    if plan.spec.monitoring.kind != "none":
        rules.append({"from": [_namespace(plan.spec.monitoring.namespace)], "ports": _tcp(METRICS_PORT)})
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(plan),
        "spec": {
            "podSelector": {"matchLabels": selector(plan)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": rules,
            "egress": [_dns(), *_bucket(plan)],
        },
    }


def _clients(plan: Plan) -> list[dict[str, Any]]:
    """Pods of this namespace, of namespaces with the label, and of the one where the proxy runs, if that is known."""
    exposure = plan.spec.exposure
    found: list[dict[str, Any]] = [
        {"podSelector": Noted({}, "every pod of this namespace")},
        {"namespaceSelector": {"matchLabels": {CLIENT_LABEL: "true"}}},
    ]
    if exposure.kind == "ingress" and exposure.class_name == "nginx":
        found.append(_namespace("ingress-nginx"))
    if exposure.kind == "gateway" and exposure.gateway_namespace:
        found.append(_namespace(exposure.gateway_namespace))
    return found


def _dns() -> dict[str, Any]:
    node_local = {"cidr": Noted("169.254.20.10/32", "NodeLocal DNSCache")}
    ports = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    return {"to": [_namespace("kube-system"), {"ipBlock": node_local}], "ports": ports}


def _bucket(plan: Plan) -> list[dict[str, Any]]:
    """To the bucket, and to the server that gives tokens for it."""
    storage = plan.spec.storage
    if storage.uri is None:
        return []
    host = urlsplit(storage.uri.removeprefix("s3://")) if storage.kind == "s3" and "://" in storage.uri[5:] else None
    plain_host = storage.uri.removeprefix("s3://").partition("/")[0] if storage.kind == "s3" else ""
    if host is not None or ":" in plain_host:
        port = (host.port or (443 if host.scheme == "https" else 80)) if host else int(plain_host.rpartition(":")[2])
        return [{"ports": Noted(_tcp(port), "an S3 server of your own, in the cluster or outside")}]
    anywhere = {"cidr": "0.0.0.0/0", "except": Noted([_METADATA_SERVER], "the node's own identity")}
    rules: list[dict[str, Any]] = [{"to": [{"ipBlock": anywhere}], "ports": _tcp(443)}]
    if storage.kind == "gcs" and storage.identity:
        rules += [
            {"to": [{"ipBlock": {"cidr": "169.254.169.252/32"}}], "ports": Noted(_tcp(988), "GKE's metadata server")},
            {"to": [{"ipBlock": {"cidr": _METADATA_SERVER}}], "ports": Noted(_tcp(80), "the same, with Dataplane V2")},
        ]
    return rules


def _namespace(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {_NAMESPACE: name}}}


def _tcp(*ports: int) -> list[dict[str, Any]]:
    return [{"protocol": "TCP", "port": port} for port in ports]
