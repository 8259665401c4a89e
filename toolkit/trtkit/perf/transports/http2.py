# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""HTTP/2's frames and header blocks (RFC 9113 and RFC 7541), as far as a client of gRPC needs them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from hpack import Decoder
from hpack.exceptions import HPACKError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_SIZE = 9
# a frame's head: 24 bits of length and 8 of its kind as one number, flags, stream
read_head = struct.Struct(">IBI").unpack_from

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY_FLAG = 0x1, 0x1, 0x4, 0x8, 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = range(1, 6)
DEFAULT_TABLE = 4096
DEFAULT_WINDOW = 65_535
DEFAULT_FRAME = 16_384
LARGEST_FRAME = 2**24 - 1
LARGEST_WINDOW = 2**31 - 1
LAST_STREAM = 2**31 - 1

OWN_FRAME = 64 * 1024  # bytes of a frame that we take
OWN_WINDOW = 2**30

NO_ERROR, REFUSED_STREAM, CANCEL = 0x0, 0x7, 0x8
# fmt: off
_ERRORS = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)
# fmt: on

# different header blocks that are remembered: a server that writes another sentence each time must not fill the memory
_MOST_KNOWN = 256
_DYNAMIC_FIRST = 62  # the index of the newest entry of the dynamic table, after the 61 of the static one
_ENTRY_OVERHEAD = 32  # what an entry counts beside its name and value
_STATIC = {(b":method", b"POST"): 3, (b":scheme", b"http"): 6, (b":scheme", b"https"): 7}


class Http2Error(Exception):
    """The server's bytes are no HTTP/2, or break its rules: the connection is of no more use."""


def error_name(code: int) -> str:
    """An error code of RST_STREAM or GOAWAY by its name in RFC 9113, section 7."""
    return _ERRORS[code] if code < len(_ERRORS) else f"error code {code}"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One whole frame."""
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def data_head(size: int, flags: int) -> bytes:
    """The first five bytes of a DATA frame's head: all but the stream."""
    return struct.pack(">IB", size << 8 | DATA, flags)


def settings_frame(settings: Sequence[tuple[int, int]]) -> bytes:
    """A SETTINGS frame of pairs of identifier and value."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in settings))


GREETING = (
    PREFACE
    + settings_frame(
        ((HEADER_TABLE_SIZE, 0), (ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, OWN_WINDOW), (MAX_FRAME_SIZE, OWN_FRAME))
    )
    + frame(WINDOW_UPDATE, 0, 0, (LARGEST_WINDOW - DEFAULT_WINDOW).to_bytes(4, "big"))
)
"""What a client says first: no header table, no pushes, and so much room that windows are rarely enlarged."""


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """The pairs of identifier and value of a SETTINGS frame; Http2Error for what RFC 9113, section 6.5.2, forbids."""
    if len(payload) % 6:
        raise Http2Error(f"its SETTINGS frame has {len(payload)} bytes")
    pairs: list[tuple[int, int]] = list(struct.iter_unpack(">HI", payload))
    for identifier, value in pairs:
        if identifier == INITIAL_WINDOW_SIZE and value > LARGEST_WINDOW:
            raise Http2Error(f"its initial window is {value} bytes, beyond 2^31-1")
        if identifier == MAX_FRAME_SIZE and not DEFAULT_FRAME <= value <= LARGEST_FRAME:
            raise Http2Error(f"its largest frame is {value} bytes, not 2^14 to 2^24-1")
    return pairs


def unpadded(kind: int, flags: int, data: bytes, start: int, stop: int) -> tuple[int, int]:
    """Where the content of a DATA or HEADERS frame lies between its padding and priority fields."""
    if flags & PADDED:
        if start == stop:
            raise Http2Error("a padded frame is empty")
        padding = data[start]
        start, stop = start + 1, stop - padding
    if kind == HEADERS and flags & PRIORITY_FLAG:
        start += 5
    if start > stop:
        raise Http2Error("a frame is smaller than its padding")
    return start, stop


class RequestHead:
    """The header block that all requests of a transport share.

    The first request of a connection puts every field into the server's table; each later one is a byte per field.
    A server with a table smaller than the usual 4096 bytes gets the fields in full each time.

    Args:
        fields: names (lower case) and values, pseudo-header fields first.

    Attributes:
        first: the block that fills the server's table; needs an empty table of 4096 bytes.
        later: the block that refers to it.
        literal: the block that needs no table.
        untabled: what `literal` must follow once when the server has made its table smaller.
    """

    untabled = b"\x20"

    def __init__(self, fields: Sequence[tuple[str, str]]) -> None:
        pairs = [(name.encode("ascii"), value.encode("latin-1")) for name, value in fields]
        dynamic = [pair for pair in pairs if pair not in _STATIC]
        newest = _DYNAMIC_FIRST + len(dynamic) - 1
        index = {pair: newest - place for place, pair in enumerate(dynamic)} | _STATIC
        self.literal = b"".join(_field(pair, b"\x00") for pair in pairs)
        self.first = b"".join(_field(pair, b"\x40") for pair in pairs)
        self.later = b"".join(_integer(index[pair], 7, 0x80) for pair in pairs)
        size = sum(len(name) + len(value) + _ENTRY_OVERHEAD for name, value in dynamic)
        if size > DEFAULT_TABLE or len(set(dynamic)) < len(dynamic):
            self.first = self.later = self.literal


def _field(pair: tuple[bytes, bytes], kind: bytes) -> bytes:
    if pair in _STATIC:
        return _integer(_STATIC[pair], 7, 0x80)
    return kind + b"".join(_integer(len(text), 7, 0) + text for text in pair)


def _integer(value: int, bits: int, prefix: int) -> bytes:
    """An integer in the low `bits` of its first byte and what follows (RFC 7541, section 5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([prefix | value])
    encoded = [prefix | most]
    value -= most
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


Meaning = TypeVar("Meaning")


class HeaderBlocks(Generic[Meaning]):
    """The header blocks of one connection, each decoded once.

    We ask for a header table of size 0. A server that heeds it writes equal blocks for equal headers, so that a block's
    meaning can be remembered; for one that does not, every block is decoded.

    Args:
        interpret: makes of a block's fields what the caller wants to know.

    Attributes:
        known: meanings by block, for a look-up without a call; empty when blocks depend on those before them.
    """

    def __init__(self, interpret: Callable[[Sequence[tuple[bytes, bytes]]], Meaning]) -> None:
        self._interpret = interpret
        self._decoder = Decoder()
        self.known: dict[bytes, Meaning] = {}

    def decode(self, block: bytes) -> Meaning:
        """The meaning of a block; Http2Error when it cannot be decoded."""
        table = self._decoder.header_table
        depends = bool(table.dynamic_entries)
        try:
            fields = self._decoder.decode(block, raw=True)
        except HPACKError as exc:
            raise Http2Error(f"a header block cannot be decoded: {exc}") from exc
        meaning = self._interpret(fields)  # type: ignore[arg-type]
        if table.dynamic_entries or len(self.known) >= _MOST_KNOWN:
            self.known.clear()
        if not (depends or table.dynamic_entries):
            self.known[block] = meaning
        return meaning
