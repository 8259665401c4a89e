# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 keep-alive connections, one a slot, written for little client time per request.

The request's bytes exist before it is sent and go to the socket in one call; no task, future or timer is made
for a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from trtkit.errors import ServerUnavailableError
from trtkit.perf.address import Address
from trtkit.perf.control import error_sentence
from trtkit.perf.http_parser import ProtocolError, Response, ResponseParser
from trtkit.perf.transport import CONNECTION, PROTOCOL, TIMEOUT, Done, Failure

# connections opened at the same time: above the server's listen backlog the kernel delays some by a second
_OPENED_AT_ONCE = 64


class HttpTransport:
    """Sends prepared HTTP requests.

    Args:
        address: the server.
        requests: the bytes of each prepared request.
        slots: how many connections.
        timeout_s: after which a request without a complete response has failed, in seconds.
    """

    def __init__(self, address: Address, requests: Sequence[bytes], slots: int, timeout_s: float) -> None:
        self._address = address
        self._requests = requests
        self._timeout_s = timeout_s
        self._slots = slots
        self._connections: dict[int, _Connection] = {}
        self._deadlines: dict[int, float] = {}  # of the requests in flight by slot, oldest first
        self._reopening: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def open(self, done: Done) -> None:
        """Open all connections; ServerUnavailableError when one is impossible."""
        self._loop = asyncio.get_running_loop()
        self._done = done
        for first in range(0, self._slots, _OPENED_AT_ONCE):
            slots = range(self._slots)[first : first + _OPENED_AT_ONCE]
            outcomes = await asyncio.gather(*(self._connect(slot) for slot in slots), return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise ServerUnavailableError(f"cannot connect to {self._address}: {_why(outcome)}") from outcome
        self._timer = self._loop.call_later(self._timeout_s, self._check_deadlines)

    async def _connect(self, slot: int) -> _Connection:
        opening = self._loop.create_connection(lambda: _Connection(self, slot), *self._address)
        _, connection = await asyncio.wait_for(opening, self._timeout_s)
        self._connections[slot] = connection
        return connection

    def send(self, slot: int, request: int) -> None:
        """Send a prepared request on a slot's connection, opening it again if it was lost."""
        connection = self._connections[slot]
        if connection.closed:
            task = self._loop.create_task(self._reopen(slot, request))
            self._reopening.add(task)
            task.add_done_callback(self._reopening.discard)
        else:
            self._deadlines[slot] = self._loop.time() + self._timeout_s
            connection.send(self._requests[request])

    async def _reopen(self, slot: int, request: int) -> None:
        try:
            connection = await self._connect(slot)
            if connection.closed:
                raise ConnectionError("the server closed the connection")
        except (OSError, asyncio.TimeoutError) as exc:
            self._done(slot, Failure(CONNECTION, f"cannot connect to {self._address}: {_why(exc)}", True))
            return
        self._deadlines[slot] = self._loop.time() + self._timeout_s
        connection.send(self._requests[request])

    def finished(self, slot: int, failure: Failure | None, keep: bool) -> None:
        """A connection's request has ended; `keep` says whether the connection can carry another one."""
        del self._deadlines[slot]
        if not keep:
            self._connections[slot].abort()
        self._done(slot, failure)

    def _check_deadlines(self) -> None:
        now = self._loop.time()
        for slot, deadline in list(self._deadlines.items()):
            if deadline > now:
                break
            self.finished(slot, Failure(TIMEOUT, f"no complete response within {self._timeout_s:g} s"), keep=False)
        oldest = next(iter(self._deadlines.values()), now + self._timeout_s)
        self._timer = self._loop.call_at(oldest, self._check_deadlines)

    async def close(self) -> None:
        """Close every connection; requests in flight are given up."""
        if self._timer:
            self._timer.cancel()
        for task in list(self._reopening):
            task.cancel()
        for connection in self._connections.values():
            connection.abort()
        await asyncio.sleep(0)  # let the event loop close the sockets


class _Connection(asyncio.Protocol):
    """One connection; it tells the transport how each request ended."""

    __slots__ = ("_busy", "_owner", "_parser", "_slot", "_socket", "closed")

    def __init__(self, owner: HttpTransport, slot: int) -> None:
        self._owner = owner
        self._slot = slot
        self._parser = ResponseParser()
        self._busy = False
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = transport

    def send(self, request: bytes) -> None:
        self._busy = True
        self._socket.write(request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if not self._busy:  # nothing was asked: what comes next would not be the answer to the next request
            self.abort()
            return
        try:
            response = self._parser.feed(data)
        except ProtocolError as exc:
            self._end(Failure(PROTOCOL, str(exc), True), keep=False)
            return
        if response is not None:
            self._end(_failure_of(response), keep=not response.closes)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if not self._busy:
            return
        response = None if exc else self._parser.end()
        if response is not None:
            self._end(_failure_of(response), keep=False)
        else:
            why = _why(exc) if exc else "the server closed it"
            self._end(
                Failure(CONNECTION, f"the connection was lost before the response was complete: {why}", True),
                keep=False,
            )

    def abort(self) -> None:
        self._busy = False
        self.closed = True
        self._socket.abort()  # type: ignore[attr-defined]

    def _end(self, failure: Failure | None, keep: bool) -> None:
        self._busy = False
        self._owner.finished(self._slot, failure, keep)


def _failure_of(response: Response) -> Failure | None:
    if response.status == 200:
        return None
    return Failure(f"HTTP {response.status}", error_sentence(response.body))


def _why(exc: BaseException) -> str:
    return "no answer in time" if isinstance(exc, asyncio.TimeoutError) else str(exc) or type(exc).__name__
