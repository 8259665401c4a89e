# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""HTTP questions whose every wait ends at one deadline: connecting, the handshake, a peer that drips bytes."""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
import time
from collections.abc import Sequence
from typing import Any

from trtkit.errors import ProjectError, ServerUnavailableError
from trtkit.perf.server.address import Address, Tls, tls_context

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110, section 5.6.2
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")


def checked_headers(headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The same headers when they can be sent over HTTP and, as metadata, over gRPC.

    Raises:
        ProjectError: a name that is no token, or a value with other than printable ASCII characters.
    """
    for name, value in headers:
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ProjectError(
                f"the header {name!r} with the value {value!r} cannot be sent; "
                "give a name without blanks and a value of printable ASCII characters"
            )
    return list(headers)


class BoundedHttp:
    """One kept connection for one question at a time; a lost connection is opened again by the next question.

    Args:
        address: where to connect; nothing is sent before the first question.
        tls: for an address with TLS.
        timeout_s: how long each question may take in all, in seconds.
        headers: sent with every question.

    Raises:
        ProjectError: a file of `tls` or a header is wrong.
    """

    def __init__(self, address: Address, tls: Tls, timeout_s: float, headers: Sequence[tuple[str, str]] = ()) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._headers = dict(checked_headers(headers))
        self._connection = _Connection(address, tls_context(tls, ["http/1.1"]) if address.tls else None)

    def exchange(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """The status and the body of the answer.

        Raises:
            ServerUnavailableError: nobody answers in time, not in HTTP/1.1, or its certificate is not trusted.
        """
        self._connection.deadline = time.monotonic() + self._timeout_s
        reused = self._connection.sock is not None
        try:
            return self._once(method, path, body)
        except ServerUnavailableError as exc:
            gone = isinstance(exc.__cause__, ConnectionError)  # RemoteDisconnected is one, a timeout is none
            if not (reused and gone and method == "GET"):
                raise
        return self._once(method, path, body)  # the server closed the idle connection, or was started anew

    def _once(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        try:
            self._connection.request(method, path, body, self._headers)
            response = self._connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException, UnicodeError) as exc:
            self._connection.close()
            raise _one_sentence(exc, self.address) from exc

    def close(self) -> None:
        """Close the connection; the next question would open a new one."""
        self._connection.close()


def _one_sentence(exc: Exception, address: Address) -> ServerUnavailableError:
    if isinstance(exc, http.client.RemoteDisconnected):
        return ServerUnavailableError(f"the server at {address} closed the connection without an answer")
    if isinstance(exc, http.client.IncompleteRead):
        return ServerUnavailableError(f"the server at {address} closed the connection in the middle of an answer")
    if isinstance(exc, http.client.HTTPException):
        return ServerUnavailableError(
            f"{address} is not Triton's HTTP port: it does not speak HTTP/1.1; "
            "give the HTTP port (default 8000), or use --protocol grpc"
        )
    if isinstance(exc, ssl.SSLCertVerificationError):
        return ServerUnavailableError(untrusted(address, exc.verify_message))
    if isinstance(exc, ssl.SSLError):
        reason = (exc.reason or str(exc)).lower().replace("_", " ")
        return ServerUnavailableError(
            f"no TLS connection to {address} ({reason}); if it serves without TLS, give http:// instead of https://"
        )
    return ServerUnavailableError(f"no server answers at {address} ({exc}); start one, or correct --url")


def untrusted(address: Address, reason: str) -> str:
    """The sentence about a server whose certificate is not trusted."""
    return (
        f"the certificate of the server at {address} is not trusted ({reason}); "
        "give the file with its CA's certificate, or turn the verification off"
    )


class _Connection(http.client.HTTPConnection):
    """http.client's connection over a socket that knows the question's deadline."""

    def __init__(self, address: Address, context: ssl.SSLContext | None) -> None:
        super().__init__(address.host, address.port)
        self.deadline = 0.0
        self._address = address
        self._context = context
        if context is not None:
            self.default_port = 443  # so that Host names another port only

    def connect(self) -> None:
        connected = self._dial()
        try:
            if self._context is not None:
                connected.settimeout(self.left_s())
                connected = self._context.wrap_socket(connected, server_hostname=self._address.host)
        except BaseException:
            connected.close()
            raise
        self.sock = _BoundedSocket(connected, self)

    def _dial(self) -> socket.socket:
        """The first of the host's addresses that takes a connection."""
        refused: OSError = OSError("the host has no address")
        for family, kind, protocol, _, where in socket.getaddrinfo(*self._address[:2], type=socket.SOCK_STREAM):
            candidate = socket.socket(family, kind, protocol)
            try:
                candidate.settimeout(self.left_s())
                candidate.connect(where)
                candidate.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return candidate
            except OSError as exc:
                candidate.close()
                refused = exc
        raise refused

    def left_s(self) -> float:
        """Seconds until the deadline; TimeoutError when it has passed."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


class _BoundedSocket:
    """What http.client needs of a socket, each wait bounded by the connection's deadline."""

    def __init__(self, connected: socket.socket, connection: _Connection) -> None:
        self._socket = connected
        self._connection = connection

    def sendall(self, data: bytes) -> None:
        self._socket.settimeout(self._connection.left_s())
        self._socket.sendall(data)

    def makefile(self, *_: Any) -> io.BufferedReader:
        return io.BufferedReader(_BoundedReader(self._socket, self._connection))

    def close(self) -> None:
        self._socket.close()  # takes effect when the last reader is closed


class _BoundedReader(io.RawIOBase):
    def __init__(self, connected: socket.socket, connection: _Connection) -> None:
        self._socket = connected
        self._connection = connection
        self._file = connected.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._socket.settimeout(self._connection.left_s())
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()
