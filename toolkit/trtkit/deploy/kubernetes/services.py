# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The Services: one address for all pods, and one that names each."""

from __future__ import annotations

import math
from typing import Any

from trtkit.deploy.figure import Noted
from trtkit.deploy.kubernetes.meta import Object, metadata, selector
from trtkit.deploy.planned import GRPC_PORT, HTTP_PORT, METRICS_PORT, Plan

_DAY = 86_400


def services(plan: Plan) -> list[Object]:
    """The Service with one address, and the headless one for clients that balance over the pods themselves."""
    metrics = {"name": "metrics", "port": METRICS_PORT, "targetPort": "metrics", "protocol": "TCP"}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata(plan),
            "spec": {
                "type": "ClusterIP",
                "selector": selector(plan),
                **_affinity(plan),
                "ports": [*_ports(), metrics],
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata(plan, "headless"),
            "spec": {
                "type": "ClusterIP",
                "clusterIP": Noted("None", "DNS gives every ready pod: a gRPC channel to one address stays at one pod"),
                "publishNotReadyAddresses": False,
                "selector": selector(plan),
                "ports": _ports(),
            },
        },
    ]


def _ports() -> list[dict[str, Any]]:
    h2c = Noted("kubernetes.io/h2c", "HTTP/2 without TLS; proxies would speak HTTP/1 to it")
    return [
        {"name": "http", "port": HTTP_PORT, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"},
        {"name": "grpc", "port": GRPC_PORT, "targetPort": "grpc", "protocol": "TCP", "appProtocol": h2c},
    ]


def _affinity(plan: Plan) -> dict[str, Any]:
    """A sequence's state is in one pod: a client stays there for as long as the server keeps an idle sequence."""
    names = [model.name for model in plan.models if model.sequences]
    if not names:
        return {}
    idle = max(
        model.config.sequence_batching.max_sequence_idle_microseconds or 1_000_000
        for model in plan.models
        if model.sequences
    )
    seconds = min(_DAY, max(1, math.ceil(idle / 1e6)))
    why = f"{seconds} s, how long {names[0]} keeps an idle sequence"
    return {
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": Noted(seconds, why)}},
    }
