# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Server-sent events, as Triton's ``generate_stream`` answers: ``data: {…}`` and an empty line for each response.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html; the server writes an error as
``data: {"error":"…"}``.
"""

from __future__ import annotations

import json
import re

from trtkit.perf.transports.base import Failure

_END = re.compile(rb"\r?\n\r?\n")


class Events:
    """Cuts the pieces of a body into events; used again for the next body after `end`."""

    def __init__(self) -> None:
        self._buffer = b""
        self._failure: Failure | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """The data of each event that these bytes complete; errors are kept for `end`."""
        *complete, self._buffer = _END.split(self._buffer + data)
        found = [event for event in map(_data, complete) if event]
        events = []
        for event in found:
            if event.startswith(b'{"error"'):
                self._failure = self._failure or Failure("stream error", _sentence(event))
            else:
                events.append(event)
        return events

    def end(self) -> Failure | None:
        """The body has ended: the first error in it, or None."""
        failure, self._failure, self._buffer = self._failure, None, b""
        return failure


def _data(event: bytes) -> bytes:
    """The lines of an event's data, joined by line ends."""
    lines = [line[5:].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines)


def _sentence(event: bytes) -> str:
    try:
        return str(json.loads(event)["error"])
    except (ValueError, KeyError, TypeError):
        return event[:200].decode("utf-8", "replace")
