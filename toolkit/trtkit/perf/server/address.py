# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Where the server is, and how to trust it: the user's URL as host and port, and TLS."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from trtkit.errors import ProjectError

DEFAULT_PORT = {"http": 8000, "grpc": 8001}
# Triton serves TLS over gRPC only, on its usual port; HTTPS is what a proxy in front of it serves
_DEFAULT_TLS_PORT = {"http": 443, "grpc": 8001}
_TLS_SCHEMES = {"https": "http", "grpcs": "grpc"}


class Address(NamedTuple):
    """A host, a port, and whether the connection is encrypted."""

    host: str
    port: int
    tls: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Tls:
    """Whom to trust and who we are, for an encrypted connection; without effect on a plain one.

    Attributes:
        ca: PEM file of the certificates that may sign the server's; the system's own when None.
        certificate: PEM file of the client's certificate, for servers that ask for one.
        key: PEM file of its private key, without a password; None when `certificate` holds it too.
        verify: False accepts every certificate, of every host.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    verify: bool = True


def parse_address(url: str, protocol: str) -> Address:
    """The server's address from ``HOST:PORT``, ``HOST``, or a URL of the protocol.

    Args:
        url: what the user gave: with ``http://`` or ``https://`` for HTTP, ``grpc://`` or ``grpcs://`` for gRPC,
            or without a scheme. Without a port it is 8000 for HTTP, 443 for HTTPS, and 8001 for gRPC.
        protocol: ``http`` or ``grpc``.

    Raises:
        ProjectError: another protocol, a scheme of the other protocol, a path, or no valid port.
    """
    if protocol not in DEFAULT_PORT:
        raise ProjectError(f"protocol '{protocol}' is unknown; available: grpc, http")
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = protocol, url
    scheme = scheme.lower()
    tls = scheme in _TLS_SCHEMES
    if _TLS_SCHEMES.get(scheme, scheme) != protocol:
        raise ProjectError(f"'{url}' does not fit the protocol {protocol}; give HOST:PORT, or another --protocol")
    host, port = _host_and_port(url, rest)
    return Address(host, port or (_DEFAULT_TLS_PORT if tls else DEFAULT_PORT)[protocol], tls)


def _host_and_port(url: str, rest: str) -> tuple[str, int | None]:
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise ProjectError(f"'{url}' is no server address ({exc}); give HOST:PORT, as in 127.0.0.1:8000") from exc
    if not host or len(host.split()) != 1 or port == 0 or parts.path.strip("/") or parts.query or parts.username:
        raise ProjectError(f"'{url}' is no server address; give HOST:PORT, as in 127.0.0.1:8000")
    return host, port


def tls_context(tls: Tls, alpn: Sequence[str]) -> ssl.SSLContext:
    """A client's context for encrypted connections, TLS 1.2 or newer.

    Args:
        tls: whom to trust and who we are.
        alpn: the protocols to offer, the preferred one first: ``h2`` for gRPC, ``http/1.1`` for HTTP.

    Raises:
        ProjectError: a file cannot be read, is no PEM file, has a password, or certificate and key do not fit.
    """
    context = ssl.create_default_context(cafile=_certificates(tls.ca)) if tls.verify else _trusting_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if alpn:
        context.set_alpn_protocols(list(alpn))
    _identify(context, tls)
    return context


def _trusting_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _certificates(file: Path | None) -> str | None:
    """The file's name after a look into it; None for the system's own certificates."""
    if file is None:
        return None
    _readable(file, "the CA certificates")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except ssl.SSLError as exc:
        raise ProjectError(f"{file}: no PEM file with CA certificates ({_reason(exc)})") from exc
    return str(file)


def _identify(context: ssl.SSLContext, tls: Tls) -> None:
    """Load the client's certificate and key into the context."""
    if tls.certificate is None:
        if tls.key is not None:
            raise ProjectError(f"{tls.key}: a private key is of no use without its certificate; give both files")
        return
    _readable(tls.certificate, "the client's certificate")
    if tls.key is not None:
        _readable(tls.key, "the client's private key")
    key = tls.key or tls.certificate

    def no_password() -> str:
        raise ProjectError(f"{key}: the private key has a password; give a file without one")

    try:
        context.load_cert_chain(tls.certificate, tls.key, password=no_password)
    except ssl.SSLError as exc:
        files = str(tls.certificate) if tls.key is None else f"{tls.certificate} and {tls.key}"
        raise ProjectError(f"{files}: no PEM certificate with its own private key ({_reason(exc)})") from exc


def _readable(file: Path, what: str) -> None:
    try:
        with file.open("rb"):
            pass
    except OSError as exc:
        raise ProjectError(f"{file}: {what} cannot be read ({exc.strerror})") from exc


def _reason(exc: ssl.SSLError) -> str:
    return (exc.reason or str(exc)).lower().replace("_", " ")
