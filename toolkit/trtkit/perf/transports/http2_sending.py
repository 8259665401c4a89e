# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The sending half of an HTTP/2 connection: calls that begin, wait for a place, and wait for room.

A call whose message fits one frame and the flow-control windows is joined from ready parts and goes to the socket at
once; all others take the way through `_held` and `_rests`.
"""

from __future__ import annotations

from collections import deque

from trtkit.perf.loop.reactor import Reactor
from trtkit.perf.server.address import Address
from trtkit.perf.transports.base import CONNECTION, Failure
from trtkit.perf.transports.grpc_wire import Message
from trtkit.perf.transports.http2 import (
    CANCEL,
    CONTINUATION,
    DATA,
    DEFAULT_FRAME,
    DEFAULT_TABLE,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGEST_WINDOW,
    LAST_STREAM,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    RST_STREAM,
    Http2Error,
    RequestHead,
    data_head,
    frame,
)
from trtkit.perf.transports.http2_stream import Stream
from trtkit.perf.transports.wire import Buffer, Endpoint, Wire, WireOwner

_QUEUED = 256 * 1024  # bytes framed ahead of the socket
_JOINED = 64 * 1024  # bytes of a message that are cheaper to copy once more than to be handed over apart
_PIECES = 64  # buffers framed at a time


class Sending(WireOwner):
    """What a connection sends.

    Args:
        reactor: carries it.
        endpoint: where to.
        head: the header block of every call.
        most_streams: how many calls at a time the server is thought to allow until it has said so.

    Attributes:
        streams: the calls in flight by their number.
        closing: whether no more calls may be begun.
        closed: whether the connection is gone.
        most_streams: how many calls at a time the server allows.
    """

    def __init__(self, reactor: Reactor, endpoint: Endpoint, head: RequestHead, most_streams: int) -> None:
        self._reactor, self._head = reactor, head
        self._address: Address = endpoint.address
        self.streams: dict[int, Stream] = {}
        self.most_streams = most_streams
        self.closing = self.closed = self._ready = False
        self.heard = 0  # how often the server said something
        self._next = 1
        self._held: deque[Stream] = deque()  # wait for a place
        self._rests: dict[Stream, None] = {}  # begun, but flow control holds bytes back
        self._window = self._initial = DEFAULT_WINDOW
        self._frame_size = DEFAULT_FRAME
        self._small = -1  # the largest message that can go out in one piece; -1: none can
        self._use_blocks(head.first, head.later)
        self._wire = Wire(reactor, endpoint, self)

    @property
    def full(self) -> bool:
        """Whether another call would have to wait for the end of one."""
        return len(self.streams) + len(self._held) >= self.most_streams

    def send(self, stream: Stream, message: Message) -> None:
        """Begin a call. Calls nothing of any stream before it returns."""
        size = message.size
        if size > self._small or size > self._window or len(self.streams) >= self.most_streams:
            stream.message = message
            self._held.append(stream)
            self._release()
            return
        number = self._next
        self._next = number + 2
        self.streams[number] = stream
        stream.id = number
        stream.window = self._initial - size
        self._window -= size
        identity = number.to_bytes(4, "big")
        self._wire.write(b"".join((self._block_head, identity, self._block, message.head, identity, message.body)))
        if number == LAST_STREAM:
            self._retire()

    def send_more(self, stream: Stream, message: Message) -> None:
        """Another message on an open stream."""
        size = message.size
        if size > self._small or size > self._window or size > stream.window:
            self._queue(stream, message)
            self._pump()
            return
        stream.window -= size
        self._window -= size
        self._wire.write(b"".join((message.head, stream.id.to_bytes(4, "big"), message.body)))

    def hand_over(self, stream: Stream, other: Stream) -> None:
        """From now on `other` is told what the server says on the stream, whose message has been sent."""
        other.id, other.window, other.received = stream.id, stream.window, stream.received
        stream.id = 0
        self.streams[other.id] = other

    def finish(self, stream: Stream) -> None:
        """Say no more on a stream: the server may end it."""
        self._wire.write(frame(DATA, END_STREAM, stream.id))

    def cancel(self, stream: Stream) -> None:
        """Give a call up: nothing of the stream is called any more."""
        if stream.id:
            self._write_reset(stream.id)
            self._forget(stream)
        elif stream in self._held:
            self._held.remove(stream)
        stream.message = None
        self._release()
        self._close_when_done()

    def close(self) -> None:
        """Close the connection; the calls in flight are not told."""
        self.closed = self.closing = True
        self._small = -1
        for stream in (*self.streams.values(), *self._held):
            stream.id, stream.message, stream.rest = 0, None, None
        self.streams.clear()
        self._held.clear()
        self._rests.clear()
        self._wire.close()

    def drained(self) -> None:
        """The socket has room: go on with what was too much."""
        if self._rests:
            self._pump()

    def _use_blocks(self, block: bytes, later: bytes) -> None:
        """The next call's header block, and that of those after it."""
        self._block, self._later = block, later
        self._block_head = (len(block) << 8 | HEADERS).to_bytes(4, "big") + bytes([END_HEADERS])

    def _set_small(self) -> None:
        usable = self._ready and not (self.closing or self._held) and self._block is self._later
        fits = len(self._block) <= self._frame_size
        self._small = min(self._frame_size, self._initial, _JOINED) if usable and fits else -1

    def _release(self) -> None:
        """Begin the calls that have a place now."""
        held = self._held
        while held and self._ready and not self.closing and len(self.streams) < self.most_streams:
            self._begin(held.popleft())
        self._set_small()
        self._pump()
        if held and self.closing:
            self._reactor.call_soon(self._refuse_held)

    def _begin(self, stream: Stream) -> None:
        number = stream.id = self._next
        self._next = number + 2
        self.streams[number] = stream
        stream.window = self._initial
        block, most = self._block, self._frame_size
        for start in range(0, len(block), most):
            flags = END_HEADERS if start + most >= len(block) else 0
            self._wire.write(frame(CONTINUATION if start else HEADERS, flags, number, block[start : start + most]))
        self._use_blocks(self._later, self._later)
        if stream.message is not None:
            self._queue(stream, stream.message)
        if number == LAST_STREAM:
            self._retire()

    def retire(self) -> None:
        """Begin no further calls here, because the server seems to be gone; those in flight may end."""
        self._retire()
        self._close_when_done()

    def _retire(self) -> None:
        """Begin no further calls here: those that wait are sent elsewhere, those in flight may end."""
        self.closing = True
        self._small = -1

    def _refuse_held(self) -> None:
        held = [*self._held]
        self._held.clear()
        for stream in held:
            stream.message = None
            stream.refused(Failure(CONNECTION, f"{self._address} takes no more requests on this connection", True))
        self._close_when_done()

    def _queue(self, stream: Stream, message: Message) -> None:
        stream.message = message
        stream.rest = memoryview(message.body)
        self._rests[stream] = None

    def _pump(self) -> None:
        """Send what flow control and the socket's queue have room for, the oldest message first."""
        while self._rests and self._wire.queued < _QUEUED:
            pieces: list[Buffer] = []
            for stream in [*self._rests]:
                self._cut(stream, pieces)
                if stream.rest is None:
                    del self._rests[stream]
                if len(pieces) >= _PIECES or self._window <= 0:
                    break
            if not pieces:
                return
            self._wire.write_many(pieces)

    def _cut(self, stream: Stream, pieces: list[Buffer]) -> None:
        """Cut a message's rest into DATA frames."""
        rest, message = stream.rest, stream.message
        while rest and message and len(pieces) < _PIECES:
            size = min(len(rest), self._frame_size, self._window, stream.window)
            if size <= 0:
                break
            self._window -= size
            stream.window -= size
            flags = END_STREAM if message.ends and size == len(rest) else 0
            pieces += (data_head(size, flags) + stream.id.to_bytes(4, "big"), rest[:size])
            rest = rest[size:]
        stream.rest = rest or None
        if not rest:
            stream.message = None

    def _write_reset(self, number: int) -> None:
        self._wire.write(frame(RST_STREAM, 0, number, CANCEL.to_bytes(4, "big")))

    def _forget(self, stream: Stream) -> None:
        """The call is no longer in flight."""
        del self.streams[stream.id]
        stream.id = 0
        self._drop_rest(stream)

    def _drop_rest(self, stream: Stream) -> None:
        """What is not sent yet is not to be sent."""
        stream.message = None
        if stream.rest is not None:
            stream.rest = None
            del self._rests[stream]

    def _close_when_done(self) -> None:
        if self.closing and not self.streams and not self._held:
            self.close()

    # what the server says about it

    def _apply(self, identifier: int, value: int) -> None:
        """One of the server's settings."""
        if identifier == HEADER_TABLE_SIZE and value < DEFAULT_TABLE:
            self._use_blocks(self._head.untabled + self._head.literal, self._head.literal)
        elif identifier == MAX_CONCURRENT_STREAMS:
            self.most_streams = value
        elif identifier == MAX_FRAME_SIZE:
            self._frame_size = value
        elif identifier == INITIAL_WINDOW_SIZE:
            for stream in self.streams.values():
                stream.window += value - self._initial
            self._initial = value

    def _enlarge(self, number: int, room: int) -> None:
        """More room for a stream, or for the whole connection (number 0)."""
        if room == 0 and number == 0:
            raise Http2Error("a WINDOW_UPDATE has no size")
        stream = self.streams.get(number)
        if number == 0:
            self._window += room
        elif stream is not None:
            stream.window += room
        if self._window > LARGEST_WINDOW:
            raise Http2Error("its window is beyond 2^31-1 bytes")
        if self._rests:
            self._pump()
