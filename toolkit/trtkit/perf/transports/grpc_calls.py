# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What both gRPC transports share: connections to one server, and calls that a server may turn away."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import closing
from time import perf_counter_ns

from trtkit.errors import ProjectError, ServerUnavailableError
from trtkit.perf.loop.reactor import Reactor, Timer
from trtkit.perf.server.address import Address, Tls, tls_context
from trtkit.perf.transports.base import Failure, Listener
from trtkit.perf.transports.grpc_wire import COMPRESSIONS, Head, Message, failure_of_reset, request_head
from trtkit.perf.transports.http2_connection import Http2Connection
from trtkit.perf.transports.http2_stream import Stream
from trtkit.perf.transports.wire import Endpoint

_SERVICE = "/inference.GRPCInferenceService/"
# A call that the server has not looked at is sent again: at once, then after 2, 4, 8, … ms, and then it has failed.
# A gRPC server counts a call for a moment longer than its client, and refuses what goes beyond its limit meanwhile.
_MOST_ATTEMPTS = 7


class GrpcConnections:
    """Connections to one server, opened at the start and whenever one is lost.

    Args:
        address: the server.
        tls: how to trust it, for an address with TLS.
        timeout_s: how long connecting may take, in seconds; for unary calls also the deadline the server is told.
        headers: further request headers, names and values; values of names in ``-bin`` are sent in base64.
        compression: of the requests: "", gzip or deflate.
        keep_answers: whether the listener wants the answers.
        connections: how many; a slot uses number ``slot % connections``.

    Raises:
        ProjectError: an unknown compression, a header that gRPC does not allow, unreadable TLS files.
    """

    method = ""
    told_deadline = True

    def __init__(
        self,
        address: Address,
        tls: Tls | None = None,
        *,
        timeout_s: float,
        headers: Sequence[tuple[str, str]] = (),
        compression: str = "",
        keep_answers: bool = False,
        connections: int = 1,
    ) -> None:
        if compression not in COMPRESSIONS:
            raise ProjectError(f"compression '{compression}' is unknown to gRPC; available: gzip, deflate")
        self.address, self.timeout_s, self.compression = address, timeout_s, compression
        self.keep_answers = keep_answers
        deadline_s = timeout_s if self.told_deadline else None
        self._head = request_head(address, _SERVICE + self.method, headers, compression, deadline_s)
        self._context = tls_context(tls or Tls(), ["h2"]) if address.tls else None
        self._count = connections
        self._connections: list[Http2Connection] = []
        self.calls: Sequence[Call] = ()  # by slot
        self._others: list[Http2Connection] = []  # no more calls begin there, some may still end

    def open(self, reactor: Reactor, listener: Listener, slots: int) -> None:
        """Open all connections; ServerUnavailableError when one is impossible."""
        self.reactor, self.listener = reactor, listener
        host, port = self.address[:2]
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as exc:
            raise ServerUnavailableError(f"cannot connect to {self.address}: {exc.strerror or exc}") from exc
        # a name may have several addresses of which the server serves one: localhost is ::1, too
        endpoints = [Endpoint(self.address, family, target, self._context) for family, _, _, _, target in found]
        for endpoint in endpoints:
            self._endpoint = endpoint
            failure = self._open_all(reactor)
            if failure is None:
                return
        raise ServerUnavailableError(failure.message if failure else f"{self.address} has no address")

    def _open_all(self, reactor: Reactor) -> Failure | None:
        """Open every connection at the present endpoint, on a reactor of their own until they are open."""
        outcomes: list[Failure | None] = []
        with closing(Reactor()) as opening:

            def opened(failure: Failure | None) -> None:
                outcomes.append(failure)
                if failure or len(outcomes) == self._count:
                    opening.stop()

            self._connections = [
                Http2Connection(opening, self._endpoint, self._head, self.timeout_s, on_open=opened)
                for _ in range(self._count)
            ]
            for connection in self._connections:
                connection.connect()
            opening.run()
            failure = next(filter(None, outcomes), None)
            for connection in self._connections:
                if failure:
                    connection.close()
                elif not connection.closed:
                    connection.move(reactor)
        return failure

    def _replace(self, number: int) -> Http2Connection:
        """A new connection in the place of one that begins no more calls; not waited for."""
        old = self._connections[number]
        self._others = [other for other in (*self._others, old) if not other.closed]
        self._connections[number] = self._connect(old.most_streams)
        return self._connections[number]

    def _connect(self, most_streams: int) -> Http2Connection:
        new = Http2Connection(self.reactor, self._endpoint, self._head, self.timeout_s, most_streams)
        new.connect()
        return new

    def close(self) -> None:
        """Close every connection; calls in flight are given up."""
        for call in self.calls:
            call.forget_timer()
        for connection in (*self._connections, *self._others):
            connection.close()

    def begin(self, call: Call, message: Message) -> None:
        """Begin a slot's call, maybe not for the first time."""
        raise NotImplementedError


class Call(Stream):
    """The call of a slot. A subclass reads its answer, and says in `_fail` that it failed.

    Args:
        owner: the transport.
        slot: which of its slots this is.
    """

    __slots__ = ("attempts", "connection", "first", "heard", "last", "owner", "prepared", "slot", "timer")

    def __init__(self, owner: GrpcConnections, slot: int) -> None:
        super().__init__()
        self.owner, self.slot = owner, slot
        self.connection: Http2Connection | None = None  # None: it is on none
        self.prepared: Message | None = None
        self.heard = 0  # how often the server had said something when it began
        self.attempts = 0  # how often the server has turned it away
        self.timer: Timer | None = None  # of the next attempt
        self.first: Head | None = None  # the response's headers
        self.last: Head | None = None  # the same, later its trailers

    def headers(self, head: Head) -> None:
        """The response's headers, or its trailers."""
        if self.first is None and head.status >= 200:
            self.first = head
        self.last = head

    def give_up(self) -> None:
        """End the call; the listener is not told."""
        self.forget_timer()
        if self.connection is not None:
            self.connection.cancel(self)
            self.connection = None

    def forget_timer(self) -> None:
        """Make no further attempt."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def refused(self, failure: Failure) -> None:
        """The server has not looked at the call: send it again, but not for ever."""
        self.connection = None
        self.attempts += 1
        if self.attempts >= _MOST_ATTEMPTS:
            self._fail(failure)
        elif self.attempts == 1:
            self._begin_again()
        else:
            due_ns = perf_counter_ns() + (1_000_000 << self.attempts - 1)
            self.timer = self.owner.reactor.call_at(due_ns, self._begin_again)

    def _begin_again(self) -> None:
        self.timer = None
        if self.prepared is not None:
            self.owner.begin(self, self.prepared)

    def lost(self, failure: Failure) -> None:
        """The connection is gone."""
        self._fail(failure)

    def reset(self, code: int) -> None:
        """The server has reset the stream."""
        self._fail(failure_of_reset(code))

    def _fail(self, failure: Failure) -> None:
        """The call is on no connection any more, and has no answer."""
        raise NotImplementedError
