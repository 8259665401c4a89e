# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 keep-alive connections, one a slot, written for little client time per request.

The request's bytes exist before it is sent and go to the socket in one call; nothing is allocated for a request but
the response's bytes.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from time import perf_counter_ns

from trtkit.errors import ServerUnavailableError
from trtkit.perf.loop.reactor import Reactor
from trtkit.perf.server.address import Address, Tls, tls_context
from trtkit.perf.server.control import error_sentence
from trtkit.perf.transports.base import CONNECTION, PROTOCOL, Failure, Listener
from trtkit.perf.transports.http_parser import ProtocolError, Response, ResponseParser
from trtkit.perf.transports.sse import Events
from trtkit.perf.transports.wire import Endpoint, Wire

# connections opened at the same time: above the server's listen backlog the kernel delays some by a second
_OPENED_AT_ONCE = 64


class HttpTransport:
    """Sends prepared HTTP requests.

    Args:
        address: the server.
        tls: how to trust it, for an address with TLS.
        timeout_s: how long connecting may take, in seconds.
        keep_answers: whether the listener wants the answers.
        stream: whether answers are server-sent events (``generate_stream``).
        opened_first: so many slots are connected before the load starts, the others with their first request; all
            when None.
    """

    def __init__(
        self,
        address: Address,
        tls: Tls | None = None,
        *,
        timeout_s: float,
        keep_answers: bool = False,
        stream: bool = False,
        opened_first: int | None = None,
    ) -> None:
        self.address, self.timeout_s = address, timeout_s
        self.keep_answers, self.stream = keep_answers, stream
        self._context = tls_context(tls or Tls(), ["http/1.1"]) if address.tls else None
        self._opened_first = opened_first
        self._connections: list[_Connection] = []

    def open(self, reactor: Reactor, listener: Listener, slots: int) -> None:
        """Open the connections; ServerUnavailableError when one is impossible."""
        self.reactor, self.listener = reactor, listener
        try:
            found = socket.getaddrinfo(*self.address[:2], type=socket.SOCK_STREAM)
        except OSError as exc:
            raise ServerUnavailableError(f"cannot connect to {self.address}: {exc.strerror or exc}") from exc
        first = slots if self._opened_first is None else min(slots, self._opened_first)
        why = ""
        # a name may have several addresses of which the server serves one: localhost is ::1, too
        for family, _, _, _, target in found:
            self.endpoint = Endpoint(self.address, family, target, self._context)
            self._connections = [_Connection(self, slot) for slot in range(slots)]
            why = self._open(iter(self._connections[:first]))
            if not why:
                return
        raise ServerUnavailableError(f"cannot connect to {self.address}: {why}")

    def _open(self, waiting: Iterator[_Connection]) -> str:
        """Open connections, some at a time, on a reactor of their own; why that was impossible, or empty."""
        with closing(Reactor()) as opening:
            while some := list(islice(waiting, _OPENED_AT_ONCE)):
                why = self._open_some(opening, some)
                if why:
                    self.close()  # while the reactor that carries them is open
                    return why
        return ""

    def _open_some(self, opening: Reactor, connections: list[_Connection]) -> str:
        outcomes: list[str] = []

        def opened(why: str) -> None:
            outcomes.append(why)
            if why or len(outcomes) == len(connections):
                opening.stop()

        late = opening.call_at(perf_counter_ns() + round(self.timeout_s * 1e9), lambda: opened("no answer in time"))
        for connection in connections:
            connection.open(opening, opened)
        opening.run()
        late.cancel()
        why = next(filter(None, outcomes), "")
        if not why:
            for connection in connections:
                connection.move(self.reactor)
        return why

    def prepare(self, message: bytes) -> bytes:
        """The message itself: `encode` makes whole requests."""
        return message

    def send(self, slot: int, prepared: bytes) -> None:
        """Send a prepared request on a slot's connection, opening it again if it was lost."""
        self._connections[slot].send(prepared)

    def cancel(self, slot: int) -> None:
        """Close the slot's connection: nothing else ends an HTTP/1.1 request."""
        self._connections[slot].close()

    def close(self) -> None:
        """Close every connection; requests in flight are given up."""
        for connection in self._connections:
            connection.close()


OnOpen = Callable[[str], None]


def _ignore(_why: str) -> None:
    """The default of `_Connection.on_open`."""


class _Connection:
    """The connection of a slot, opened again whenever it is lost; it tells the listener how each request ended."""

    __slots__ = (
        "_again", "_busy", "_events", "_on_open", "_owner", "_parser", "_ready", "_request", "_slot", "_used",
        "_waiting", "wire",
    )  # fmt: skip

    def __init__(self, owner: HttpTransport, slot: int) -> None:
        self._owner, self._slot = owner, slot
        self._events = Events() if owner.stream else None
        self._on_open: OnOpen = _ignore
        self._busy = self._ready = False
        self._used = False  # whether the connection has carried an answer: a server may close such a one at any time
        self._again = False  # whether the present request was sent on another connection before
        self._request = b""
        self._waiting: bytes | None = None
        self.wire: Wire | None = None

    def open(self, reactor: Reactor, on_open: OnOpen = _ignore) -> None:
        """Begin to connect; `on_open` is told "" when it is done, else why it was impossible."""
        self._on_open = on_open
        self._parser = ResponseParser(
            keep=self._owner.keep_answers, on_body=self._on_body if self._events is not None else None
        )
        self._ready = self._used = False
        if self._events is not None:
            self._events = Events()  # what a lost body left over is not of the next one
        self.wire = Wire(reactor, self._owner.endpoint, self)
        self.wire.connect()

    def move(self, reactor: Reactor) -> None:
        """Go on with another reactor."""
        if self.wire is not None:
            self.wire.move(reactor)

    def wire_ready(self, protocol: str | None) -> None:
        self._ready = True
        self._on_open("")
        if self._waiting is not None and self.wire is not None:
            waiting, self._waiting = self._waiting, None
            self.wire.write(waiting)

    def send(self, request: bytes) -> None:
        """Send one request; what the socket does not take at once follows when it can."""
        self._busy, self._again, self._request = True, False, request
        if self._ready:
            self.wire.write(request)  # type: ignore[union-attr]
            return
        self._waiting = request
        if self.wire is None:
            self.open(self._owner.reactor)

    def received(self, data: bytes) -> None:
        if not self._busy:  # nothing was asked: what comes next would not be the answer to the next request
            self.close()
            return
        try:
            response = self._parser.feed(data)
        except ProtocolError as exc:
            self._end(Failure(PROTOCOL, str(exc), True), None, keep=False)
            return
        if response is not None:
            self._respond(response, keep=not response.closes)

    def _respond(self, response: Response, keep: bool) -> None:
        failure = None
        if response.status != 200:
            failure = Failure(f"HTTP {response.status}", error_sentence(response.body))
        elif self._events is not None:
            failure = self._events.end()
        self._end(failure, response.answer, keep)

    def _on_body(self, data: bytes) -> None:
        """A piece of a streamed body."""
        for event in self._events.feed(data):  # type: ignore[union-attr]
            self._owner.listener.response(self._slot, event if self._owner.keep_answers else None)

    def drained(self) -> None:
        """A request has left whole; nothing waits for that."""

    def wire_lost(self, why: str) -> None:
        ready, self._ready, self.wire = self._ready, False, None
        self._on_open(why)
        if not self._busy:
            return
        if ready and self._used and not self._again and not self._parser.begun:
            self._again, self._waiting = True, self._request  # an idle connection that the server had closed
            self.open(self._owner.reactor)
            return
        response = self._parser.end() if ready else None
        if response is not None:
            self._respond(response, keep=False)
            return
        sentence = f"the connection was lost before the response was complete: {why}"
        if not ready:
            sentence = f"cannot connect to {self._owner.address}: {why}"
        self._end(Failure(CONNECTION, sentence, True), None, keep=False)

    def close(self) -> None:
        """Close it; the listener is not told."""
        self._busy = self._ready = False
        self._waiting = None
        if self.wire is not None:
            self.wire.close()
            self.wire = None

    def _end(self, failure: Failure | None, answer: bytes | None, keep: bool) -> None:
        self._busy, self._used = False, True
        if not keep:
            self.close()
        self._owner.listener.done(self._slot, failure, answer)
