# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a load loop needs from a transport, and what a transport tells it."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from trtkit.perf.loop.reactor import Reactor

CONNECTION = "connection"
TIMEOUT = "timeout"
PROTOCOL = "protocol"


class Failure(NamedTuple):
    """Why one request failed.

    Attributes:
        kind: what it is counted under: ``connection``, ``timeout``, ``protocol``, ``HTTP 400``,
            ``gRPC UNAVAILABLE``, …
        message: the server's sentence, or ours.
        disconnected: whether the way to the server is gone, so that a short wait before the next try is due.
    """

    kind: str
    message: str
    disconnected: bool = False


class Listener(Protocol):
    """Who is told how requests go: a load loop."""

    def response(self, slot: int, answer: bytes | None) -> None:
        """A response with content arrived on a stream (decoupled models, ``generate_stream``), maybe the last one."""

    def done(self, slot: int, failure: Failure | None, answer: bytes | None) -> None:
        """The request has ended: successfully when `failure` is None."""


class Transport(Protocol):
    """Sends prepared requests. A slot carries one request at a time; slots are independent of each other.

    `answer` in the listener's calls is None unless the transport was told to keep answers: for HTTP the response's
    head, an empty line and its body as they came, without the chunks' sizes; for gRPC the serialised message.
    """

    def open(self, reactor: Reactor, listener: Listener, slots: int) -> None:
        """Connect; ServerUnavailableError when that is impossible.

        Args:
            reactor: the loop that will carry it.
            listener: whom to tell.
            slots: how many there will be; some may never be used.
        """

    def prepare(self, message: bytes) -> Any:
        """What `send` takes for a message of `encode`: everything that can be done before it is sent."""

    def send(self, slot: int, prepared: Any) -> None:
        """Send a request on a slot, connecting again if the connection was lost.

        Never calls the listener before it returns, so that a loop that sends from `done` does not recurse.
        """

    def cancel(self, slot: int) -> None:
        """Give up the slot's request: the listener is not told, and a late answer is not taken for another's."""

    def close(self) -> None:
        """Give up everything in flight without telling the listener, and disconnect."""
