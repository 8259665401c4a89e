# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""One HTTP/2 connection of a gRPC client: its beginning, what it receives, and its end."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns

from trtkit.perf.loop.reactor import Reactor
from trtkit.perf.transports import http2
from trtkit.perf.transports.base import CONNECTION, PROTOCOL, Failure
from trtkit.perf.transports.grpc_wire import Head, interpret
from trtkit.perf.transports.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEAD_SIZE,
    HEADERS,
    OWN_FRAME,
    PADDED,
    SETTINGS,
    HeaderBlocks,
    Http2Error,
    RequestHead,
    error_name,
    frame,
    read_head,
    read_settings,
    unpadded,
)
from trtkit.perf.transports.http2_sending import Sending
from trtkit.perf.transports.wire import Endpoint

_UPDATE_AT = http2.OWN_WINDOW // 2  # received bytes after which the server's window is enlarged again
_MOST_HEADERS = 1024 * 1024
_NOT_PLAIN = PADDED | http2.PRIORITY_FLAG | END_HEADERS
_TLS_ALERT = b"\x15\x03"


class Http2Connection(Sending):
    """One connection, from connecting to its end; a lost one is not revived but replaced.

    Args:
        reactor: carries it.
        endpoint: where to.
        head: the header block of every call.
        timeout_s: how long connecting may take, in seconds.
        most_streams: how many calls at a time the server is thought to allow until it has said so.
        on_open: told once: None when it can be used, otherwise why it cannot.
    """

    def __init__(
        self,
        reactor: Reactor,
        endpoint: Endpoint,
        head: RequestHead,
        timeout_s: float,
        most_streams: int = http2.LARGEST_WINDOW,
        on_open: Callable[[Failure | None], None] | None = None,
    ) -> None:
        super().__init__(reactor, endpoint, head, most_streams)
        self._timeout_s, self._on_open = timeout_s, on_open
        self._encrypted = endpoint.context is not None
        self._greeted = False
        self._blocks: HeaderBlocks[Head] = HeaderBlocks(interpret)
        self._unread = b""  # the beginning of a frame
        self._fragments: tuple[int, int, bytearray] | None = None  # stream, flags and pieces of a header block
        self._received = 0

    def connect(self) -> None:
        """Begin to connect; calls that are sent meanwhile leave when it is open."""
        self._wire.connect()
        due_ns = perf_counter_ns() + int(self._timeout_s * 1e9)
        self._timer = self._reactor.call_at(due_ns, lambda: self.wire_lost("no answer in time"))

    def move(self, reactor: Reactor) -> None:
        """Go on with another reactor; only when open."""
        self._reactor = reactor
        self._wire.move(reactor)

    def close(self) -> None:
        """Close the connection; the calls in flight are not told."""
        if not self.closed:
            self._timer.cancel()
            super().close()

    def wire_ready(self, protocol: str | None) -> None:
        """Greet the server, which answers with its settings."""
        if self._encrypted and protocol != "h2":
            self._fail(self._no_grpc("it agrees on no HTTP/2 over TLS"))
            return
        self._greeted = True
        self._wire.write(http2.GREETING)

    def wire_lost(self, why: str) -> None:
        """The connection is gone, or could not be made."""
        if self._ready:
            self._fail(Failure(CONNECTION, f"the connection was lost before the response was complete: {why}", True))
        elif self._unread.startswith(_TLS_ALERT):
            self._fail(self._no_grpc("it speaks TLS; give grpcs://"))
        elif self._greeted:
            self._fail(self._no_grpc(f"no answer to HTTP/2's greeting, {why}"))
        else:
            self._fail(Failure(CONNECTION, f"cannot connect to {self._address}: {why}", True))

    def _no_grpc(self, why: str) -> Failure:
        return Failure(CONNECTION, f"{self._address} is not a gRPC port: {why}", True)

    def _fail(self, failure: Failure) -> None:
        """End the connection, and with it every call on it."""
        if self.closed:
            return
        streams = [*self.streams.values(), *self._held]
        was_ready = self._ready
        self.close()
        for stream in streams:
            stream.lost(failure)
        if not was_ready and self._on_open:
            self._on_open(failure)

    def received(self, data: bytes) -> None:
        """Handle the frames in these bytes; the beginning of one waits for the next bytes."""
        self.heard += 1
        if self._unread:
            data = self._unread + data
        if not self._ready and not self._begins_well(data):
            return
        try:
            self._unread = data[self._frames(data) :]
        except Http2Error as exc:
            self._fail(Failure(PROTOCOL, f"{self._address} breaks HTTP/2: {exc}", True))
            return
        if self._held:
            self._release()
        if self.closing:
            self._close_when_done()

    def _begins_well(self, data: bytes) -> bool:
        """Whether a SETTINGS frame comes first, as from every HTTP/2 server; ends the connection if not."""
        if len(data) < HEAD_SIZE:
            self._unread = data
            return False
        word, _, number = read_head(data)
        if word & 0xFF == SETTINGS and word >> 8 <= OWN_FRAME and number == 0:
            return True
        if data.startswith(b"HTTP/1"):
            self._fail(self._no_grpc("it answers in HTTP/1"))
        else:
            self._fail(self._no_grpc("what it answers is no HTTP/2"))
        return False

    def _frames(self, data: bytes) -> int:
        """Handle each whole frame; returns where the first incomplete one begins."""
        position, end, streams, known = 0, len(data), self.streams, self._blocks.known
        while end - position >= HEAD_SIZE:
            word, flags, number = read_head(data, position)
            start = position + HEAD_SIZE
            stop = start + (word >> 8)
            if stop > end:
                if word >> 8 > OWN_FRAME:
                    raise Http2Error(f"a frame has {word >> 8} bytes where {OWN_FRAME} are allowed")
                break
            position = stop
            kind = word & 0xFF
            if self._fragments is not None:
                self._on_continuation(kind, flags, number, data[start:stop])
            elif kind == HEADERS and flags & _NOT_PLAIN == END_HEADERS:
                block = data[start:stop]
                head = known.get(block) or self._blocks.decode(block)
                stream = streams.get(number)
                if stream is not None:
                    stream.headers(head)
                    if flags & END_STREAM:
                        self._end(number)
            elif kind == DATA:
                self._on_data(flags, number, data, start, stop)
            elif kind == HEADERS:
                start, stop = unpadded(kind, flags, data, start, stop)
                self._fragments = number, flags, bytearray()
                self._on_continuation(CONTINUATION, flags, number, data[start:stop])
            elif kind in _CONTROL:
                _CONTROL[kind](self, flags, number, data[start:stop])
        return position

    def _on_data(self, flags: int, number: int, data: bytes, start: int, stop: int) -> None:
        self._received += stop - start
        if self._received >= _UPDATE_AT:
            self._write_update(0, self._received)
            self._received = 0
        stream = self.streams.get(number)
        if stream is None:  # it was cancelled
            return
        stream.received += stop - start
        if flags & PADDED:
            start, stop = unpadded(DATA, flags, data, start, stop)
        if stop > start:
            stream.data(data, start, stop)
        if flags & END_STREAM:
            self._end(number)
        elif stream.received >= _UPDATE_AT:
            self._write_update(number, stream.received)
            stream.received = 0

    def _write_update(self, number: int, room: int) -> None:
        self._wire.write(frame(http2.WINDOW_UPDATE, 0, number, room.to_bytes(4, "big")))

    def _on_continuation(self, kind: int, flags: int, number: int, piece: bytes) -> None:
        """The next piece of a header block that comes in several frames."""
        if self._fragments is None or kind != CONTINUATION or self._fragments[0] != number:
            raise Http2Error("a header block is interrupted")
        _, first_flags, block = self._fragments
        block += piece
        if len(block) > _MOST_HEADERS:
            raise Http2Error(f"a header block has more than {_MOST_HEADERS} bytes")
        if not flags & END_HEADERS:
            return
        self._fragments = None
        head = self._blocks.decode(bytes(block))
        stream = self.streams.get(number)
        if stream is not None:
            stream.headers(head)
            if first_flags & END_STREAM:
                self._end(number)

    def _end(self, number: int) -> None:
        """The server has said all; what we have not said yet is of no use any more."""
        stream = self.streams.pop(number, None)
        if stream is None:  # cancelled by whom its last bytes were given to
            return
        stream.id = 0
        if stream.rest is not None or stream.lasting:
            self._write_reset(number)
            self._drop_rest(stream)
        stream.ended()

    def _on_reset(self, _flags: int, number: int, payload: bytes) -> None:
        code = _number(payload, 4, "RST_STREAM")
        stream = self.streams.get(number)
        if stream is None:
            return
        self._forget(stream)
        if code == http2.REFUSED_STREAM:
            stream.refused(Failure("gRPC UNAVAILABLE", "the server refuses the request's stream"))
        else:
            stream.reset(code)

    def _on_settings(self, flags: int, _number: int, payload: bytes) -> None:
        if flags & ACK:
            return
        for identifier, value in read_settings(payload):
            self._apply(identifier, value)
        self._wire.write(frame(SETTINGS, ACK, 0))
        first, self._ready = not self._ready, True
        self._release()
        if first:
            self._timer.cancel()
            if self._on_open:
                self._on_open(None)

    def _on_ping(self, flags: int, _number: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise Http2Error(f"a PING has {len(payload)} bytes, not 8")
        if not flags & ACK:
            self._wire.write(frame(http2.PING, ACK, 0, payload))

    def _on_goaway(self, _flags: int, _number: int, payload: bytes) -> None:
        if len(payload) < 8:
            raise Http2Error(f"a GOAWAY has {len(payload)} bytes, less than 8")
        last, code = int.from_bytes(payload[:4], "big") & http2.LARGEST_WINDOW, int.from_bytes(payload[4:8], "big")
        words = payload[8:].decode("utf-8", "replace")
        why = f"{self._address} ends the connection: {error_name(code)}" + (f" ({words})" if words else "")
        self._retire()
        unseen = [stream for number, stream in self.streams.items() if number > last]
        for stream in unseen:
            self._forget(stream)
        unseen += self._held
        self._held.clear()
        for stream in unseen:
            stream.refused(Failure(CONNECTION, why, True))

    def _on_window_update(self, _flags: int, number: int, payload: bytes) -> None:
        self._enlarge(number, _number(payload, 4, "WINDOW_UPDATE") & http2.LARGEST_WINDOW)

    def _on_forbidden(self, _flags: int, _number: int, _payload: bytes) -> None:
        raise Http2Error("a frame comes where none of its kind may")


def _number(payload: bytes, size: int, what: str) -> int:
    if len(payload) != size:
        raise Http2Error(f"a {what} has {len(payload)} bytes, not {size}")
    return int.from_bytes(payload, "big")


# kinds that are not here (PRIORITY, extensions) are to be ignored
_CONTROL: dict[int, Callable[[Http2Connection, int, int, bytes], None]] = {
    http2.RST_STREAM: Http2Connection._on_reset,
    SETTINGS: Http2Connection._on_settings,
    http2.PUSH_PROMISE: Http2Connection._on_forbidden,
    http2.PING: Http2Connection._on_ping,
    http2.GOAWAY: Http2Connection._on_goaway,
    http2.WINDOW_UPDATE: Http2Connection._on_window_update,
    CONTINUATION: Http2Connection._on_forbidden,
}
