# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What all services of the Compose project have in common, and the versions of their images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trtkit.deploy.figure import Noted

Node = dict[str, Any]

IMAGES: dict[str, tuple[str, str]] = {
    "envoy": ("ENVOY_IMAGE", "docker.io/envoyproxy/envoy:v1.40.0"),
    "prometheus": ("PROMETHEUS_IMAGE", "docker.io/prom/prometheus:v2.53.3"),
    "alertmanager": ("ALERTMANAGER_IMAGE", "docker.io/prom/alertmanager:v0.28.1"),
    "grafana": ("GRAFANA_IMAGE", "docker.io/grafana/grafana:11.4.0"),
    "dcgm-exporter": ("DCGM_EXPORTER_IMAGE", "nvcr.io/nvidia/k8s/dcgm-exporter:4.2.3-4.1.3-ubuntu22.04"),
    "redis": ("REDIS_IMAGE", "docker.io/library/redis:7.4-alpine"),
    "rabbitmq": ("RABBITMQ_IMAGE", "docker.io/library/rabbitmq:4.0-alpine"),
    "s3": ("S3_IMAGE", "docker.io/motoserver/moto:5.2.5"),
}
"""Image of each service besides Triton: the variable of .env that replaces it, and the version it was written for."""


def variable(name: str, default: str) -> str:
    """A reference to a variable of .env."""
    return f"${{{name}:-{default}}}"


def image(service: str) -> str:
    """The image of a service, which .env can replace."""
    return variable(*IMAGES[service])


def hardened(memory: str, *, pids: int = 256) -> Node:
    """A service that has no rights it does not need, and a log that cannot fill the disk.

    Args:
        memory: its limit, e.g. ``512m``.
        pids: how many processes and threads it may have.
    """
    return {
        "restart": "unless-stopped",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "read_only": True,
        "mem_limit": memory,
        "pids_limit": pids,
        "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "5"}},
    }


def probe(command: Sequence[str], *, start: Any = "30s") -> Node:
    """A health check.

    Args:
        command: what has to succeed, in exec form.
        start: how long failures do not count after the start.
    """
    return {
        "test": ["CMD", *command],
        "interval": "10s",
        "timeout": "5s",
        "retries": 3,
        "start_period": start,
        "start_interval": Noted("2s", "ready is seen soon; Docker Engine before 25 leaves it out"),
    }


def over_tcp(port: int, path: str) -> list[str]:
    """A GET request by bash alone, for images without curl; it fails unless the answer is 200."""
    ask = f'printf "GET {path} HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n" >&3'
    return ["bash", "-c", f'exec 3<>/dev/tcp/127.0.0.1/{port} && {ask} && read -r _ code _ <&3 && [ "$$code" = 200 ]']
