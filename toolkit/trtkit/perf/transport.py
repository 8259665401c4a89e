# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a load loop needs from a transport, and what a transport tells it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

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


Done = Callable[[int, "Failure | None"], None]
"""Called once for each request with its slot and, if it failed, why."""


class Transport(Protocol):
    """Sends prepared requests. A slot carries one request at a time; slots are independent of each other.

    `send` never calls `done` before it returns, so that a loop that sends the next request from `done` does
    not recurse without end. A lost connection is opened again by the next `send` of its slot.
    """

    async def open(self, done: Done) -> None:
        """Connect; ServerUnavailableError when that is impossible."""

    def send(self, slot: int, request: int) -> None:
        """Send the prepared request number `request` on `slot`."""

    async def close(self) -> None:
        """Give up what is in flight, without calling `done`, and disconnect."""
