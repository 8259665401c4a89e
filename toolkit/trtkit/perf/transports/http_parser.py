# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The responses of an HTTP/1.1 server, from any cutting of its byte stream into pieces.

Only what a load generator needs: the status, where the response ends, whether the connection stays open, and
the body of an error. A successful body is skipped unless it is asked for. Servers repeat themselves, so a head that
was seen before is not read again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

_HEAD_LIMIT = 64 * 1024
_KEPT_BODY_LIMIT = 64 * 1024
_NO_BODY = frozenset((204, 304))
_HEX = b"0123456789abcdefABCDEF"
# what _left says when it does not count the bytes that are still to come
_NO_LENGTH = -1
_UNTIL_CLOSE = -2


class Response(NamedTuple):
    """One complete response.

    Attributes:
        status: the HTTP status code.
        body: the first 64 KiB of the body when the status is not 200; empty otherwise.
        closes: whether the server ends the connection after it.
        answer: head, empty line and body without the chunks' sizes, when answers are kept; None otherwise.
    """

    status: int
    body: bytes
    closes: bool
    answer: bytes | None = None


class _Head(NamedTuple):
    """What a head says: the status, how the body is delimited (its length, or one of the codes below), the end."""

    status: int
    length: int
    closes: bool


_CHUNKED = -3
_LINE_END = b"\r\n"
_CONNECTION = re.compile(rb"\r\nconnection:([^\r\n]*)")
_HEADS: dict[bytes, _Head] = {}
_MOST_HEADS = 256


class ProtocolError(Exception):
    """The bytes are no HTTP/1.x response."""


class ResponseParser:
    """Parses the responses of one connection, one after the other.

    Args:
        keep: whether `Response.answer` is wanted.
        on_body: is given each piece of a successful body.
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_chunk",
        "_closes",
        "_head",
        "_keep_all",
        "_kept",
        "_left",
        "_on_body",
        "_read",
        "_skips",
        "_status",
    )

    def __init__(self, keep: bool = False, on_body: Callable[[bytes], None] | None = None) -> None:
        self._keep_all, self._on_body = keep, on_body
        self._skips = not keep and on_body is None
        self._start()

    def _start(self) -> None:
        self._buffer = b""
        self._kept = b""
        self._head = b""
        self._chunk = 0
        self._body: list[bytes] = []
        self._status = 0
        self._left = _NO_LENGTH
        self._closes = False
        self._read: Callable[[bytes], Response | None] = self._read_head

    def feed(self, data: bytes) -> Response | None:
        """Take the next bytes of the stream.

        Returns:
            The response these bytes completed, None while it is incomplete.

        Raises:
            ProtocolError: not HTTP/1.x, or bytes follow the end of the response (nothing was asked for them).
        """
        return self._read(data)

    @property
    def begun(self) -> bool:
        """Whether some bytes of a response have come that is not complete."""
        return bool(self._buffer) or self._read != self._read_head

    def end(self) -> Response | None:
        """The stream ended: the response whose end that is; None when it cut one short, or none had begun."""
        return self._finish() if self._left == _UNTIL_CLOSE else None

    def _read_head(self, data: bytes) -> Response | None:
        if self._buffer:
            data = self._buffer + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            if len(data) > _HEAD_LIMIT or not b"HTTP/1.".startswith(data[:7]):
                raise ProtocolError(f"the answer is not HTTP/1.x; it begins with {data[:24]!r}")
            self._buffer = data
            return None
        self._buffer = b""
        body = end + 4
        self._use_head(data[:body])
        if self._left >= 0 and self._status == 200 and self._skips:  # the common case: no copy of the body
            return self._count(len(data) - body)
        return self._read(data[body:])

    def _use_head(self, head: bytes) -> None:
        """Choose how the body is read."""
        known = _HEADS.get(head)
        if known is None:
            known = _parse_head(head[:-2])
            if len(_HEADS) < _MOST_HEADS:
                _HEADS[head] = known
        self._status, self._left, self._closes = known
        if self._keep_all:
            self._head = head
        if self._status < 200:
            self._read = self._skip_informational
        elif self._left >= 0:
            self._read = self._read_length
        else:
            self._read = self._read_chunks if self._left == _CHUNKED else self._read_until_close

    def _skip_informational(self, data: bytes) -> Response | None:
        self._start()
        return self._read_head(data)

    def _read_length(self, data: bytes) -> Response | None:
        if self._status != 200 or not self._skips:
            self._keep(data)
        return self._count(len(data))

    def _count(self, size: int) -> Response | None:
        if size < self._left:
            self._left -= size
            return None
        return self._finish(unexpected=size - self._left)

    def _read_until_close(self, data: bytes) -> Response | None:
        self._keep(data)
        return None

    def _read_chunks(self, data: bytes) -> Response | None:
        """``size CRLF data CRLF`` … ``0 CRLF trailers CRLF``; the buffer holds a size line that is not complete yet.

        `_chunk` counts the bytes of the present chunk that are still to come, with the line end after it.
        """
        while data:
            if self._chunk:
                data = self._take_chunk(data)
                continue
            line, separator, rest = (self._buffer + data).partition(b"\r\n")
            if not separator:
                self._buffer = line
                return None
            self._buffer, data = b"", rest
            size = _chunk_size(line)
            if size == 0:
                self._read = self._read_trailers
                return self._read_trailers(data)
            self._chunk = size + 2
        return None

    def _take_chunk(self, data: bytes) -> bytes:
        """Take what there is of the present chunk; the bytes after it."""
        own = data[: self._chunk]
        body = own[: max(self._chunk - 2, 0)]
        self._keep(body)
        self._chunk -= len(own)
        end = own[len(body) :]
        if end != _LINE_END[2 - self._chunk - len(end) : 2 - self._chunk]:
            raise ProtocolError("a chunk is not followed by a line end")
        return data[len(own) :]

    def _read_trailers(self, data: bytes) -> Response | None:
        self._buffer += data
        while True:
            line, separator, rest = self._buffer.partition(b"\r\n")
            if not separator:
                return None
            self._buffer = rest
            if not line:
                return self._finish(unexpected=len(rest))

    def _keep(self, data: bytes) -> None:
        if self._keep_all:
            self._body.append(data)
        if self._status != 200:
            if len(self._kept) < _KEPT_BODY_LIMIT:
                self._kept += data[: _KEPT_BODY_LIMIT - len(self._kept)]
        elif self._on_body and data:
            self._on_body(data)

    def _finish(self, unexpected: int = 0) -> Response:
        if unexpected:
            raise ProtocolError(f"{unexpected} bytes follow the end of the response")
        answer = b"".join([self._head, *self._body]) if self._keep_all else None
        response = Response(self._status, self._kept, self._closes, answer)
        self._start()
        return response


def _parse_head(head: bytes) -> _Head:
    """Read the status line and the few headers that matter; `head` ends with one line end."""
    if not head.startswith(b"HTTP/1.") or not head[9:12].isdigit():
        raise ProtocolError(f"the answer is not HTTP/1.x; it begins with {head[:24]!r}")
    status = int(head[9:12])
    lower = head.lower()
    tokens = b",".join(_CONNECTION.findall(lower)).split(b",")
    closes = b"close" in (token.strip() for token in tokens) or lower.startswith(b"http/1.0")
    if status in _NO_BODY:
        return _Head(status, 0, closes)
    if b"\r\ntransfer-encoding:" in lower:
        return _Head(status, _CHUNKED, closes)
    length = _header(lower, b"\r\ncontent-length:")
    if length is None:
        return _Head(status, _UNTIL_CLOSE, True)
    if not length.isdigit():
        raise ProtocolError(f"Content-Length is {length!r}")
    return _Head(status, int(length), closes)


def _header(head: bytes, name: bytes) -> bytes | None:
    """The value of a header; `name` and `head` are in lower case, `name` with its line start and colon."""
    start = head.find(name)
    return None if start < 0 else head[start + len(name) : head.index(b"\r\n", start + 2)].strip()


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    if not digits or digits.strip(_HEX):
        raise ProtocolError(f"the chunk size is {line[:24]!r}")
    return int(digits, 16)
