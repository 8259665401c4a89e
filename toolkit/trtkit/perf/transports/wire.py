# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A TCP connection on the reactor, with or without TLS: connecting, reading and writing, never waiting."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple, Protocol

from trtkit.perf.loop.reactor import WRITABLE, Reactor
from trtkit.perf.server.address import Address

Buffer = bytes | memoryview

_READ_AT_ONCE = 64 * 1024
_READ_MUCH = 256 * 1024
_WRITTEN_AT_ONCE = 64  # buffers
_JOINED = 64 * 1024  # bytes that are cheaper to join than to be handed over one by one
_CORKED = 32  # pieces held back while a read is handled: fewer calls of the kernel, but the server is kept busy
_AGAIN = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_CONNECTING = frozenset((0, errno.EINPROGRESS, errno.EAGAIN))


class Endpoint(NamedTuple):
    """Where to connect.

    Attributes:
        address: as the user knows it.
        family: of the socket.
        target: the resolved address, as ``socket.connect`` takes it.
        context: for TLS; None for a plain connection.
    """

    address: Address
    family: int
    target: tuple[object, ...]
    context: ssl.SSLContext | None


class WireOwner(Protocol):
    """Who uses a wire."""

    def wire_ready(self, protocol: str | None) -> None:
        """It is connected; `protocol` is what TLS agreed on (ALPN), None without TLS or agreement."""

    def received(self, data: bytes) -> None:
        """The next bytes. What is written meanwhile leaves when this returns."""

    def drained(self) -> None:
        """All that was written has left."""

    def wire_lost(self, why: str) -> None:
        """The connection is gone, or could not be made; the wire is closed. Never called from `write`."""


class Wire:
    """One connection; `connect` begins, `close` ends it.

    Args:
        reactor: carries it.
        endpoint: where to.
        owner: is told what happens.

    Attributes:
        queued: bytes that were written and have not left.
    """

    def __init__(self, reactor: Reactor, endpoint: Endpoint, owner: WireOwner) -> None:
        self._reactor, self._endpoint, self._owner = reactor, endpoint, owner
        self._out: deque[Buffer] = deque()
        self._corked = self._blocked = False
        self._step: Callable[[], None] | None = self._connected
        self._read_size = _READ_AT_ONCE
        self._closed = False
        self._fd = -1
        self.queued = 0

    def connect(self) -> None:
        """Begin to connect."""
        try:
            plain = socket.socket(self._endpoint.family, socket.SOCK_STREAM)
        except OSError as exc:  # too many open files
            self._lose_soon(_words(exc))
            return
        plain.setblocking(False)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._use(plain)
        self._reactor.add(self._fd, self._on_event)
        try:
            code = plain.connect_ex(self._endpoint.target)
        except OSError as exc:
            code = exc.errno or errno.EINVAL
        if code in _CONNECTING:
            self._want_write(True)
        else:
            self._lose_soon(os.strerror(code))

    def move(self, reactor: Reactor) -> None:
        """Go on with another reactor."""
        self._reactor.remove(self._fd)
        self._reactor = reactor
        reactor.add(self._fd, self._on_event)
        reactor.want_write(self._fd, self._blocked)

    def write(self, data: bytes) -> None:
        """Send bytes, as far as the socket takes them at once; the rest follows."""
        out = self._out
        if self._corked or out:
            out.append(data)
            self.queued += len(data)
            if self._corked and len(out) >= _CORKED:
                self._flush()
            return
        try:
            sent = self._send(data)
        except _AGAIN:
            sent = 0
        except OSError as exc:
            self._lose_soon(_words(exc))
            return
        if sent != len(data):
            out.append(memoryview(data)[sent:])
            self.queued = len(data) - sent
            self._want_write(True)

    def write_many(self, buffers: Sequence[Buffer]) -> None:
        """The same for bytes in several pieces, which are not copied."""
        self._out.extend(buffers)
        self.queued += sum(map(len, buffers))
        if not self._corked:
            self._flush()

    def close(self) -> None:
        """Close it; the owner is not told."""
        if self._closed:
            return
        self._closed = True
        self._out.clear()
        self.queued = 0
        if self._fd >= 0:
            self._reactor.remove(self._fd)
            self._socket.close()

    def _use(self, used: socket.socket) -> None:
        self._socket, self._fd = used, used.fileno()
        self._recv, self._send = used.recv, used.send

    def _connected(self) -> None:
        """The socket is ready: connected, or refused."""
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        context = self._endpoint.context
        if context is None:
            self._step = None
            return
        wrapped = context.wrap_socket(
            self._socket, server_hostname=self._endpoint.address.host, do_handshake_on_connect=False
        )
        self._use(wrapped)
        self._step = self._shake_hands
        self._shake_hands()

    def _shake_hands(self) -> None:
        self._socket.do_handshake()  # type: ignore[attr-defined]
        self._step = None

    def _advance(self, step: Callable[[], None]) -> None:
        try:
            step()
        except ssl.SSLWantReadError:
            self._want_write(False)
            return
        except ssl.SSLWantWriteError:
            self._want_write(True)
            return
        except OSError as exc:
            self._lose(_words(exc))
            return
        self._want_write(False)
        agreed = self._socket.selected_alpn_protocol() if isinstance(self._socket, ssl.SSLSocket) else None
        self._owner.wire_ready(agreed)

    def _on_event(self, mask: int) -> None:
        if self._step is not None:
            self._advance(self._step)
            return
        if mask & WRITABLE:
            self._flush()
            if not self._out:
                self._owner.drained()
        if mask & ~WRITABLE and not self._closed:
            self._read()

    def _read(self) -> None:
        self._corked = True
        try:
            self._read_once()
        finally:
            self._corked = False
        if self._closed:
            return
        if self._out:
            self._flush()
        if not self._out:
            self._owner.drained()

    def _read_once(self) -> None:
        """Hand over what has arrived; with TLS also what is decrypted already, for which no event would come."""
        while True:
            try:
                data = self._recv(self._read_size)
            except _AGAIN:
                return
            except OSError as exc:
                self._lose(_words(exc))
                return
            if not data:
                self._lose("the server closed it")
                return
            if len(data) == _READ_AT_ONCE:
                self._read_size = _READ_MUCH
            self._owner.received(data)
            if self._endpoint.context is None or self._closed or not self._socket.pending():  # type: ignore[attr-defined]
                return

    def _flush(self) -> None:
        """Send what is queued, as far as the socket takes it."""
        out = self._out
        try:
            while out:
                self._drop(self._send_some())
        except _AGAIN:
            if not self._blocked:
                self._want_write(True)
        except OSError as exc:
            self._lose_soon(_words(exc))
        else:
            if self._blocked:
                self._want_write(False)

    def _send_some(self) -> int:
        out = self._out
        # what TLS could not send must come again, with nothing before its end changed: not joined anew
        if len(out) > 1 and not self._blocked:
            if self._endpoint.context is None and self.queued > _JOINED:
                return self._socket.sendmsg(list(islice(out, _WRITTEN_AT_ONCE)))
            joined = b"".join(out)
            out.clear()
            out.append(joined)
        return self._send(out[0])

    def _drop(self, sent: int) -> None:
        """Forget bytes that have left."""
        out = self._out
        self.queued -= sent
        while sent:
            first = out[0]
            if len(first) > sent:
                out[0] = memoryview(first)[sent:]
                return
            sent -= len(first)
            out.popleft()

    def _want_write(self, wanted: bool) -> None:
        self._blocked = wanted
        self._reactor.want_write(self._fd, wanted)

    def _lose(self, why: str) -> None:
        if not self._closed:
            self.close()
            self._owner.wire_lost(why)

    def _lose_soon(self, why: str) -> None:
        self._reactor.call_soon(partial(self._lose, why))


def _words(exc: OSError) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({exc.verify_message})"
    if isinstance(exc, ssl.SSLError):
        return f"TLS failed ({(exc.reason or str(exc)).lower().replace('_', ' ')})"
    return exc.strerror or str(exc) or type(exc).__name__
