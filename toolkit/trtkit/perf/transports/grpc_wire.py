# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What gRPC puts into HTTP/2: request headers, message prefixes, and how a call ended (gRPC over HTTP/2)."""

from __future__ import annotations

import base64
import gzip
import re
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote

from trtkit import __version__
from trtkit.errors import ProjectError
from trtkit.perf.server.address import Address
from trtkit.perf.transports.base import PROTOCOL, TIMEOUT, Failure
from trtkit.perf.transports.http2 import END_STREAM, RequestHead, data_head, error_name

PREFIX_SIZE = 5  # of a message: whether it is compressed, and its length
read_prefix = struct.Struct(">BI").unpack_from

COMPRESSIONS = ("", "gzip", "deflate")
# fmt: off
_CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)
# fmt: on
# what an HTTP/2 error code means for a call, where that is not INTERNAL
_OF_RESET = {7: "UNAVAILABLE", 8: "CANCELLED", 11: "RESOURCE_EXHAUSTED", 12: "PERMISSION_DENIED"}
_MOST_TIMEOUT_DIGITS = 10**8
_OWN_HEADERS = frozenset(("te", "content-type", "host", "connection", "user-agent", "transfer-encoding", "upgrade"))
_NAME = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(r"[ -~]*")


class Head(NamedTuple):
    """What a response's headers or trailers say.

    Attributes:
        status: the HTTP status; 0 in trailers.
        content_type: of the response.
        server: what answered, in its own words.
        encoding: of compressed messages.
        code: ``grpc-status``; None when it is missing.
        message: ``grpc-message``, decoded.
    """

    status: int
    content_type: str
    server: str
    encoding: str
    code: int | None
    message: str


def interpret(fields: Sequence[tuple[bytes, bytes]]) -> Head:
    """The fields of a header block that gRPC gives a meaning to."""
    values = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in fields}
    status, code = values.get(":status", "0"), values.get("grpc-status")
    content_type = values.get("content-type", "")
    return Head(
        int(status) if status.isdecimal() else 0,
        content_type,
        values.get("server", ""),
        values.get("grpc-encoding", ""),
        None if code is None else int(code) if code.isdecimal() else 2,
        unquote(values.get("grpc-message", "")),
    )


def failure_of(first: Head | None, last: Head | None) -> Failure | None:
    """Why a call failed, from its response's headers and its trailers; None after ``grpc-status: 0``.

    Args:
        first: the headers.
        last: the trailers; the same object when there were only trailers.
    """
    if last is not None and last.code is not None and (first is None or first.status in (0, 200)):
        return failure_of_code(last.code, last.message)
    if first is None:
        return Failure(PROTOCOL, "the response has no headers")
    if first.status != 200 or not first.content_type.startswith("application/grpc"):
        who = f"'{first.server}'" if first.server else "what answers"
        kind = f"HTTP {first.status}" if first.status != 200 else PROTOCOL
        return Failure(
            kind, f"{who} is no gRPC server: HTTP status {first.status} with {first.content_type or 'no content type'}"
        )
    return Failure(PROTOCOL, "the response ended without grpc-status")


def failure_of_code(code: int, message: str) -> Failure | None:
    """A gRPC status as a failure; None for OK."""
    if code == 0:
        return None
    name = _CODES[code] if code < len(_CODES) else str(code)
    if name == "DEADLINE_EXCEEDED":
        return Failure(TIMEOUT, message or "the server gave the request up at its deadline")
    return Failure(f"gRPC {name}", message)


def failure_of_reset(code: int) -> Failure:
    """The failure of a call whose stream the server reset."""
    return Failure(f"gRPC {_OF_RESET.get(code, 'INTERNAL')}", f"the server reset the stream: {error_name(code)}")


def request_head(
    address: Address, path: str, headers: Sequence[tuple[str, str]], compression: str, timeout_s: float | None
) -> RequestHead:
    """The header block of every call of a transport.

    Args:
        address: the server.
        path: ``/package.Service/Method``.
        headers: the user's own.
        compression: of the requests' messages: "", gzip or deflate.
        timeout_s: the deadline that the server is told; None for none.

    Raises:
        ProjectError: a header that gRPC does not allow.
    """
    fields = [
        (":method", "POST"),
        (":scheme", "https" if address.tls else "http"),
        (":path", path),
        (":authority", str(address)),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", f"trtkit/{__version__}"),
        ("grpc-accept-encoding", "identity,deflate,gzip"),
    ]
    if compression:
        fields.append(("grpc-encoding", compression))
    if timeout_s is not None:
        fields.append(("grpc-timeout", timeout_header(timeout_s)))
    return RequestHead([*fields, *(_metadata(name, value) for name, value in headers)])


def timeout_header(timeout_s: float) -> str:
    """A time in seconds as the value of ``grpc-timeout``: at most eight digits, rounded up."""
    for unit, per_second in (("u", 1e6), ("m", 1e3), ("S", 1.0)):
        number = -int(-timeout_s * per_second // 1)
        if number < _MOST_TIMEOUT_DIGITS:
            return f"{max(1, number)}{unit}"
    return f"{_MOST_TIMEOUT_DIGITS - 1}S"


def _metadata(name: str, value: str) -> tuple[str, str]:
    """A header of the user as it goes over the wire: ``-bin`` values in base64."""
    lower = name.strip().lower()
    if not _NAME.fullmatch(lower):
        raise ProjectError(f"header '{name}' is no name of gRPC metadata; give letters, digits, '-', '_' and '.'")
    if lower.startswith("grpc-") or lower in _OWN_HEADERS:
        raise ProjectError(f"header '{name}' is gRPC's own; leave it out")
    if lower.endswith("-bin"):
        return lower, base64.b64encode(value.encode()).decode().rstrip("=")
    if not _VALUE.fullmatch(value):
        raise ProjectError(f"header '{name}' has characters other than printable ASCII; name it '{lower}-bin'")
    return lower, value


class Message(NamedTuple):
    """A request's message, ready to be sent.

    Attributes:
        head: the DATA frame's head without the stream, for when one frame holds it all.
        body: the prefix and the message.
        size: of the body, in bytes: what flow control counts.
        ends: whether it is the last of its stream.
    """

    head: bytes
    body: bytes
    size: int
    ends: bool


def prepare_message(message: bytes, compression: str, ends: bool) -> Message:
    """A serialised message with its prefix, compressed if asked for.

    Args:
        message: the serialised message.
        compression: "", gzip or deflate.
        ends: whether it is the last of its stream.
    """
    if compression == "gzip":
        message = gzip.compress(message, mtime=0)
    elif compression:
        message = zlib.compress(message)
    body = struct.pack(">BI", bool(compression), len(message)) + message
    return Message(data_head(len(body) & 0xFFFFFF, END_STREAM if ends else 0), body, len(body), ends)


class MessageError(Exception):
    """A response's message cannot be read."""


class MessageReader:
    """Takes the messages out of a stream's DATA, however it was cut."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept = bytearray()

    def feed(self, data: bytes) -> list[tuple[bool, bytes]]:
        """Whether it is compressed, and the bytes, of each message that these bytes completed."""
        if not self._kept and len(data) >= PREFIX_SIZE:
            compressed, size = read_prefix(data)
            if len(data) == PREFIX_SIZE + size:
                return [(bool(compressed), data[PREFIX_SIZE:])]
        self._kept += data
        kept, position, messages = self._kept, 0, []
        while len(kept) - position >= PREFIX_SIZE:
            compressed, size = read_prefix(kept, position)
            end = position + PREFIX_SIZE + size
            if end > len(kept):
                break
            messages.append((bool(compressed), bytes(memoryview(kept)[position + PREFIX_SIZE : end])))
            position = end
        del kept[:position]
        return messages

    @property
    def empty(self) -> bool:
        """Whether no part of a message is left over."""
        return not self._kept


def decompress(message: bytes, encoding: str) -> bytes:
    """A compressed message as it was; MessageError for an unknown encoding or broken bytes."""
    try:
        if encoding == "gzip":
            return gzip.decompress(message)
        if encoding == "deflate":
            return zlib.decompress(message)
    except (OSError, EOFError, zlib.error) as exc:
        raise MessageError(f"a message in {encoding} cannot be decompressed: {exc}") from exc
    raise MessageError(f"a message is compressed with '{encoding}', which was not asked for")
