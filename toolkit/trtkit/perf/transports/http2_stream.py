# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""One gRPC call as its HTTP/2 connection sees it."""

from __future__ import annotations

from trtkit.perf.transports.base import Failure
from trtkit.perf.transports.grpc_wire import Head, Message


class Stream:
    """One call; a subclass says what its answers mean."""

    __slots__ = ("id", "message", "received", "rest", "window")

    lasting = False
    """Whether our side stays open after the message."""

    def __init__(self) -> None:
        self.id = 0  # 0 while it is not on a connection
        self.window = 0  # bytes that may be sent
        self.received = 0  # bytes since the server's window was last enlarged
        self.message: Message | None = None  # waits for a place, or for room for its rest
        self.rest: memoryview | None = None

    def headers(self, head: Head) -> None:
        """The response's headers, or its trailers. Must not call the listener."""

    def data(self, data: bytes, start: int, stop: int) -> None:
        """The next bytes of the response: ``data[start:stop]``."""

    def ended(self) -> None:
        """The server has ended the stream in order."""

    def reset(self, code: int) -> None:
        """The server has reset the stream."""

    def refused(self, failure: Failure) -> None:
        """The server has not looked at the call, so that it may be sent again, on another connection."""

    def lost(self, failure: Failure) -> None:
        """The connection is gone."""
