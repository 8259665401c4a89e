# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""gRPC streaming: one ModelStreamInfer call per slot, kept open, with one request in flight on it."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from trtkit.perf.loop.reactor import Reactor
from trtkit.perf.transports.base import PROTOCOL, Failure, Listener
from trtkit.perf.transports.grpc_calls import Call, GrpcConnections
from trtkit.perf.transports.grpc_wire import (
    Message,
    MessageError,
    MessageReader,
    decompress,
    failure_of,
    prepare_message,
)
from trtkit.perf.transports.http2_connection import Http2Connection
from trtkit.perf.transports.http2_stream import Stream

STREAM_ERROR = "stream error"

_TRUE = b"\x08\x01"  # InferParameter.bool_param
_FINAL = b"\x0a\x15triton_final_response"  # the key of an entry of ModelInferResponse.parameters
_ASK = b"triton_enable_empty_final_response"
# ModelInferRequest.parameters[_ASK] = true; a message may be followed by more of its fields
_ASK_ENTRY = bytes([0x0A, len(_ASK)]) + _ASK + bytes([0x12, len(_TRUE)]) + _TRUE
_ASKED = bytes([0x22, len(_ASK_ENTRY)]) + _ASK_ENTRY
# field numbers of ModelStreamInferResponse and of ModelInferResponse
_ERROR_MESSAGE, _INFER_RESPONSE = 1, 2
_PARAMETERS, _OUTPUTS = 4, 5


class GrpcStreamTransport(GrpcConnections):
    """Sends prepared ``ModelInferRequest`` messages on streams of ModelStreamInfer.

    The listener's `response` is called for each response with outputs, `done` when the server has marked the last one.
    A stream whose request fails before the last response is left: what still comes on it answers no later request.
    Where a connection is full (SETTINGS_MAX_CONCURRENT_STREAMS), further ones are opened.
    """

    method = "ModelStreamInfer"
    told_deadline = False  # the stream outlives its requests

    def open(self, reactor: Reactor, listener: Listener, slots: int) -> None:
        """Open all connections, but no stream yet; ServerUnavailableError when one is impossible."""
        super().open(reactor, listener, slots)
        self.calls: list[_StreamCall] = [_StreamCall(self, slot) for slot in range(slots)]

    def prepare(self, message: bytes) -> Message:
        """A serialised ``ModelInferRequest`` that also asks for a mark on the last response."""
        return prepare_message(message + _ASKED, self.compression, ends=False)

    def send(self, slot: int, prepared: Message) -> None:
        """Send a request on the slot's stream, opening it (and its connection) if necessary."""
        call = self.calls[slot]
        call.prepared, call.attempts, call.busy = prepared, 0, True
        connection = call.connection
        if connection is None:
            self.begin(call, prepared)
        elif connection.closing:  # its server lets calls end, but takes no new requests
            connection.cancel(call)
            self.begin(call, prepared)
        else:
            connection.send_more(call, prepared)

    def begin(self, call: _StreamCall, message: Message) -> None:  # type: ignore[override]
        """Open a slot's stream with its first request."""
        call.restart()
        call.connection = self._with_room(call.slot % self._count)
        call.connection.send(call, message)

    def _with_room(self, number: int) -> Http2Connection:
        connection = self._connections[number]
        if connection.closing:
            return self._replace(number)
        if not connection.full:
            return connection
        for further in range(self._count, len(self._connections)):
            if self._connections[further].closing:
                return self._replace(further)
            if not self._connections[further].full:
                return self._connections[further]
        self._connections.append(self._connect(connection.most_streams))
        return self._connections[-1]

    def cancel(self, slot: int) -> None:
        """Give the slot's stream up: the server is told, the listener is not."""
        call = self.calls[slot]
        call.busy = False
        call.give_up()


class _StreamCall(Call):
    """The stream of a slot: one request at a time, any number of responses to it."""

    __slots__ = ("busy", "reader")

    lasting = True

    def __init__(self, owner: GrpcStreamTransport, slot: int) -> None:
        super().__init__(owner, slot)
        self.busy = False  # whether a request is in flight
        self.restart()

    def restart(self) -> None:
        """Be ready for another stream."""
        self.reader = MessageReader()
        self.first = self.last = None

    def data(self, data: bytes, start: int, stop: int) -> None:
        reader = self.reader
        for compressed, message in reader.feed(data[start:stop]):
            if not self.busy or reader is not self.reader:  # too late, or the stream was given up meanwhile
                return
            try:
                if compressed:
                    message = decompress(message, self.first.encoding if self.first else "")
                self._on_response(message, read_response(message))
            except MessageError as exc:
                self.give_up()
                self._end(Failure(PROTOCOL, str(exc)))

    def _on_response(self, message: bytes, response: StreamResponse) -> None:
        if response.error is not None:
            if response.final is False:  # without a mark the request was refused as a whole
                self._leave()
            self._end(Failure(STREAM_ERROR, response.error))
            return
        if response.content:
            answer = message[response.start : response.stop] if self.owner.keep_answers else None
            reader = self.reader
            self.owner.listener.response(self.slot, answer)
            if not self.busy or reader is not self.reader:  # the listener gave it up
                return
        if response.final is not False:  # unmarked: a server that knows one response a request only
            self._end(None)

    def _leave(self) -> None:
        """Leave the stream to itself until its model has ended the failed request."""
        if self.connection is not None:
            self.connection.hand_over(self, _Leftover(self.connection, self.reader))
            self.connection = None
            self.restart()

    def _end(self, failure: Failure | None) -> None:
        """The request has ended; the stream may stay."""
        self.busy = False
        self.owner.listener.done(self.slot, failure, None)

    def _fail(self, failure: Failure) -> None:
        self.connection = None
        if self.busy:
            self._end(failure)

    def ended(self) -> None:
        early = Failure(PROTOCOL, "the server ended the stream before the last response")
        self._fail(failure_of(self.first, self.last) or early)

    def refused(self, failure: Failure) -> None:
        if self.busy:
            super().refused(failure)
        else:
            self.connection = None


class _Leftover(Stream):
    """A stream on which a failed request still runs: its responses are dropped, and then it is ended in order."""

    __slots__ = ("connection", "reader")

    def __init__(self, connection: Http2Connection, reader: MessageReader) -> None:
        super().__init__()
        self.connection, self.reader = connection, reader

    def data(self, data: bytes, start: int, stop: int) -> None:
        with suppress(MessageError):
            for compressed, message in self.reader.feed(data[start:stop]):
                if not compressed and read_response(message).final:
                    self.connection.finish(self)


class StreamResponse(NamedTuple):
    """What a ModelStreamInferResponse says about its request.

    Attributes:
        error: its error message; None without one.
        content: whether it carries outputs.
        final: whether it is marked as the last one; None when it has no such mark.
        start: where its ModelInferResponse begins in the message.
        stop: where that ends.
    """

    error: str | None
    content: bool
    final: bool | None
    start: int
    stop: int


def read_response(message: bytes) -> StreamResponse:
    """Look into a serialised ModelStreamInferResponse, no farther than necessary; MessageError when it is none."""
    error, content, final, first, last = None, False, None, 0, 0
    try:
        position = 0
        while position < len(message):
            field, start, position = _field(message, position)
            if field == _ERROR_MESSAGE and position > start:
                error = message[start:position].decode("utf-8", "replace")
            elif field == _INFER_RESPONSE:
                first, last = start, position
                content, final = _read_inner(message, start, position)
    except (IndexError, ValueError) as exc:
        raise MessageError("a response on the stream is no ModelStreamInferResponse") from exc
    return StreamResponse(error, content, final, first, last)


def _read_inner(message: bytes, position: int, end: int) -> tuple[bool, bool | None]:
    """Whether a ModelInferResponse has outputs, and its mark."""
    content, final = False, None
    while position < end:
        field, start, position = _field(message, position)
        if field == _OUTPUTS:
            content = True
        elif field == _PARAMETERS and message.startswith(_FINAL, start):
            final = message.endswith(_TRUE, start, position)
    return content, final


def _field(message: bytes, position: int) -> tuple[int, int, int]:
    """The number of a field, where its content begins and where it ends (protobuf's wire format)."""
    key, position = _varint(message, position)
    kind = key & 7
    if kind == 2:
        size, position = _varint(message, position)
    elif kind == 0:
        return key >> 3, position, _varint(message, position)[1]
    elif kind in (1, 5):
        size = 8 if kind == 1 else 4
    else:
        raise ValueError(f"wire type {kind}")
    if position + size > len(message):
        raise ValueError("cut short")
    return key >> 3, position, position + size


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
