# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Where the server is: the user's URL as host and port."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from trtkit.errors import ProjectError

DEFAULT_PORT = {"http": 8000, "grpc": 8001}


class Address(NamedTuple):
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_address(url: str, protocol: str) -> Address:
    """``HOST:PORT``, ``HOST``, ``http://HOST:PORT`` or ``grpc://HOST:PORT`` as host and port.

    Args:
        url: what the user gave; without a port it is 8000 for HTTP and 8001 for gRPC.
        protocol: ``http`` or ``grpc``.

    Raises:
        ProjectError: another protocol, a scheme of the other protocol, TLS, a path, or no valid port.
    """
    if protocol not in DEFAULT_PORT:
        raise ProjectError(f"protocol '{protocol}' is unknown; available: grpc, http")
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = protocol, url
    if scheme in {"https", "grpcs"}:
        raise ProjectError(f"'{url}': TLS is not supported yet; give the plain {protocol} address, HOST:PORT")
    if scheme != protocol:
        raise ProjectError(f"'{url}' does not fit the protocol {protocol}; give HOST:PORT, or another --protocol")
    return _host_and_port(url, rest, DEFAULT_PORT[protocol])


def _host_and_port(url: str, rest: str, default_port: int) -> Address:
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise ProjectError(f"'{url}' is no server address ({exc}); give HOST:PORT, as in 127.0.0.1:8000") from exc
    if not host or len(host.split()) != 1 or port == 0 or parts.path.strip("/") or parts.query or parts.username:
        raise ProjectError(f"'{url}' is no server address; give HOST:PORT, as in 127.0.0.1:8000")
    return Address(host, port or default_port)
