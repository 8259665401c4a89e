# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Unary gRPC calls with request bytes that were serialised once; answers are counted or kept, but not parsed."""

from __future__ import annotations

from trtkit.perf.loop.reactor import Reactor
from trtkit.perf.transports.base import PROTOCOL, Failure, Listener
from trtkit.perf.transports.grpc_calls import Call, GrpcConnections
from trtkit.perf.transports.grpc_wire import (
    PREFIX_SIZE,
    Message,
    MessageError,
    MessageReader,
    decompress,
    failure_of,
    prepare_message,
    read_prefix,
)


class GrpcTransport(GrpcConnections):
    """Sends prepared ``ModelInferRequest`` messages as unary calls of ModelInfer."""

    method = "ModelInfer"

    def open(self, reactor: Reactor, listener: Listener, slots: int) -> None:
        """Open all connections; ServerUnavailableError when one is impossible."""
        super().open(reactor, listener, slots)
        self.calls: list[_Call] = [_Call(self, slot) for slot in range(slots)]

    def prepare(self, message: bytes) -> Message:
        """A serialised ``ModelInferRequest``, ready to be sent."""
        return prepare_message(message, self.compression, ends=True)

    def send(self, slot: int, prepared: Message) -> None:
        """Begin a call, connecting again if the connection was lost."""
        call = self.calls[slot]
        call.prepared = prepared
        call.attempts = 0
        self.begin(call, prepared)

    def begin(self, call: _Call, message: Message) -> None:  # type: ignore[override]
        """Begin a slot's call, maybe not for the first time."""
        connection = self._connections[call.slot % self._count]
        if connection.closing:
            connection = self._replace(call.slot % self._count)
        call.connection, call.heard = connection, connection.heard
        call.first = call.last = call.missing = None
        if call.reader is not None or self.keep_answers:
            call.restart()
        connection.send(call, message)

    def cancel(self, slot: int) -> None:
        """Give the slot's call up: the server is told, the listener is not.

        When the server has not said a word since the call, a proxy may have lost it without saying so: the next call
        takes another connection.
        """
        call = self.calls[slot]
        connection = call.connection
        call.give_up()
        if connection is not None and connection.heard == call.heard:
            connection.retire()


class _Call(Call):
    """The call of a slot: one message there, one back."""

    __slots__ = ("messages", "missing", "reader")

    def __init__(self, owner: GrpcTransport, slot: int) -> None:
        super().__init__(owner, slot)
        self.missing: int | None = None  # bytes until the message is complete; None before its prefix
        self.restart()

    def restart(self) -> None:
        """Be ready for another answer: without a reader its bytes are only counted."""
        self.reader = MessageReader() if self.owner.keep_answers else None
        self.messages: list[tuple[bool, bytes]] = []

    def data(self, data: bytes, start: int, stop: int) -> None:
        if self.missing is not None:
            self.missing -= stop - start
        elif self.reader is None and stop - start >= PREFIX_SIZE:
            self.missing = read_prefix(data, start)[1] + PREFIX_SIZE + start - stop
        else:
            self.reader = self.reader or MessageReader()
            self.messages += self.reader.feed(data[start:stop])

    def ended(self) -> None:
        last = self.last
        if last is not None and last.code == 0 and self.missing == 0:
            self.connection = None
            self.owner.listener.done(self.slot, None, None)
        else:
            self._end_slowly()

    def _end_slowly(self) -> None:
        """The end of a failed call, or of one whose message was read."""
        failure, answer = failure_of(self.first, self.last), None
        if failure is None:
            if self.reader is None or not self.reader.empty or len(self.messages) != 1:
                failure = Failure(PROTOCOL, "the response says that all is well, but is not exactly one whole message")
            elif self.owner.keep_answers:
                failure, answer = self._answer(*self.messages[0])
        self._end(failure, answer)

    def _answer(self, compressed: bool, message: bytes) -> tuple[Failure | None, bytes | None]:
        try:
            return None, decompress(message, self.first.encoding if self.first else "") if compressed else message
        except MessageError as exc:
            return Failure(PROTOCOL, str(exc)), None

    def _end(self, failure: Failure | None, answer: bytes | None) -> None:
        self.connection = None
        self.messages = []
        self.owner.listener.done(self.slot, failure, answer)

    def _fail(self, failure: Failure) -> None:
        self._end(failure, None)
