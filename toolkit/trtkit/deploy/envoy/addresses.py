# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Where Envoy listens, and where the servers are."""

from __future__ import annotations

from dataclasses import dataclass

from trtkit.deploy.planned import GRPC_PORT, HTTP_PORT

STABLE, CANARY = "stable", "canary"
"""The two tracks; by default all requests go to the first."""
METRICS_LISTENER = 9901


@dataclass(frozen=True)
class Server:
    """A tritonserver, or a name in DNS behind which there are several with the same ports.

    Attributes:
        host: a name or an address.
        http, grpc: its ports.
    """

    host: str
    http: int = HTTP_PORT
    grpc: int = GRPC_PORT


@dataclass(frozen=True)
class Addresses:
    """Everything that differs between a Compose project and a trial on one machine.

    Attributes:
        stable: the servers.
        canary: those of a release that is tried out; ``()`` prepares none.
        listen: the interface for clients.
        http, grpc: the ports for clients.
        metrics: the port on which Prometheus reads Envoy's metrics, and nothing else is answered.
        admin: Envoy's administration, on the loopback interface.
    """

    stable: tuple[Server, ...] = (Server("triton"),)
    canary: tuple[Server, ...] = (Server("triton-canary"),)
    listen: str = "0.0.0.0"
    http: int = HTTP_PORT
    grpc: int = GRPC_PORT
    metrics: int = METRICS_LISTENER
    admin: int = 9902


COMPOSE = Addresses()
"""Of the rendered Compose project."""
