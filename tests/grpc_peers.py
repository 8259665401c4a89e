# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What the tests of the gRPC transports share: a load loop that notes everything, and a scripted HTTP/2 server."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from contextlib import closing
from time import perf_counter_ns

import hpack

from trtkit.perf.loop.reactor import Reactor
from trtkit.perf.server.address import Address
from trtkit.perf.transports import http2
from trtkit.perf.transports.http2 import frame

LIMIT_S = 60


class Notes:
    """Sends requests one after the other on each slot, and notes what the transport says.

    Attributes:
        ends: slot, failure and answer of each request, in the order of their ends.
        responses: slot and answer of each streamed response.
    """

    def __init__(self, reactor, transport):
        self.reactor, self.transport = reactor, transport
        self.plan, self.expected = {}, 0
        self.ends, self.responses = [], []
        self.sending = False
        self.on_end = self.on_response = lambda slot: None

    def next(self, slot):
        if self.plan[slot]:
            self.sending = True
            self.transport.send(slot, self.plan[slot].pop(0))
            self.sending = False
        elif len(self.ends) >= self.expected:
            self.reactor.stop()

    def response(self, slot, answer):
        assert not self.sending, "called by send"
        self.responses.append((slot, answer))
        self.on_response(slot)

    def done(self, slot, failure, answer):
        assert not self.sending, "called by send"
        self.ends.append((slot, failure, answer))
        self.on_end(slot)
        self.next(slot)

    @property
    def failures(self):
        """The failure of each request in the order of their ends."""
        return [failure for _, failure, _ in self.ends]

    @property
    def answers(self):
        """The answer to each request in the order of their ends."""
        return [answer for _, _, answer in self.ends]

    def too_late(self):
        raise AssertionError(f"no end within {LIMIT_S} s; until then: {self.ends} {self.responses}")


def run(transport, plan, *, before=lambda notes: None, expected=None):
    """Run a transport's requests to their ends.

    Args:
        transport: not opened yet.
        plan: the messages of each slot.
        before: called with the notes after the opening.
        expected: how many ends to wait for; default: one for each message.
    """
    with closing(Reactor()) as reactor:
        notes = Notes(reactor, transport)
        transport.open(reactor, notes, max(plan) + 1)
        try:
            notes.plan = {slot: [transport.prepare(message) for message in plan[slot]] for slot in plan}
            notes.expected = sum(map(len, plan.values())) if expected is None else expected
            before(notes)
            reactor.call_at(perf_counter_ns() + LIMIT_S * 1_000_000_000, notes.too_late)
            for slot in plan:
                notes.next(slot)
            reactor.run()
        finally:
            transport.close()
    return notes


class Peer:
    """The server's side of one HTTP/2 connection; every read is bounded in time."""

    def __init__(self, connection, table=0):
        self.connection = connection
        connection.settimeout(LIMIT_S)
        self.file = connection.makefile("rb")
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.encoder.header_table_size = table
        self.acknowledged = 0
        self.begun = {}  # headers and what has come of the message, by stream

    def send(self, *frames):
        self.connection.sendall(b"".join(frames))

    def greet(self, *settings):
        """Take the client's greeting, and give ours."""
        assert self.file.read(len(http2.PREFACE)) == http2.PREFACE
        self.send(http2.settings_frame(settings))
        for identifier, value in settings:
            if identifier == http2.HEADER_TABLE_SIZE:
                self.decoder.max_allowed_table_size = value

    def read(self):
        """The next frame but housekeeping: kind, flags, stream, payload; None when the client has gone."""
        while head := self.file.read(http2.HEAD_SIZE):
            word, flags, stream = http2.read_head(head)
            kind, payload = word & 0xFF, self.file.read(word >> 8)
            if kind == http2.SETTINGS and flags & http2.ACK:
                self.acknowledged += 1
            elif kind not in (http2.SETTINGS, http2.WINDOW_UPDATE):
                return kind, flags, stream, payload
        return None

    def request(self):
        """The next whole request: its stream, headers and message; None when the client has gone."""
        while received := self.read():
            kind, flags, stream, payload = received
            if kind == http2.HEADERS:
                while not flags & http2.END_HEADERS:
                    kind, flags, again, piece = self.read()
                    assert (kind, again) == (http2.CONTINUATION, stream)
                    payload += piece
                self.begun[stream] = dict(self.decoder.decode(payload)), bytearray()
                continue
            assert kind == http2.DATA, received
            headers, body = self.begun[stream]
            body += payload
            size = int.from_bytes(body[1:5], "big")
            if len(body) >= 5 + size:
                message = bytes(body[5:])
                assert len(message) == size
                body.clear()
                return stream, headers, message
        return None

    def headers(self, stream, fields, flags=http2.END_HEADERS):
        return frame(http2.HEADERS, flags, stream, self.encoder.encode(fields, huffman=False))

    def opening(self, stream):
        return self.headers(stream, [(":status", "200"), ("content-type", "application/grpc")])

    def trailers(self, stream, code=0, message=""):
        fields = [("grpc-status", str(code)), *([("grpc-message", message)] if message else [])]
        return self.headers(stream, fields, http2.END_HEADERS | http2.END_STREAM)

    def answer(self, stream, message=b"answer"):
        """The frames of an ordinary answer."""
        return [self.opening(stream), frame(http2.DATA, 0, stream, prefixed(message)), self.trailers(stream)]


def prefixed(message, flag=0):
    return struct.pack(">BI", flag, len(message)) + message


class Server:
    """A server whose connections are handled by `script(peer, number)`, each in a thread; numbers count from 1.

    Args:
        script: handles a connection; errors in it fail the test. The connection is closed after it.
        context: of TLS; None for plain connections.
    """

    def __init__(self, script, context=None):
        self.script, self.context = script, context
        self.errors, self.threads = [], []

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        accepting = threading.Thread(target=self.accept, daemon=True)
        accepting.start()
        self.threads.append(accepting)
        return Address("127.0.0.1", self.listener.getsockname()[1], self.context is not None)

    def accept(self):
        number = 0
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            number += 1
            thread = threading.Thread(target=self.handle, args=(connection, number), daemon=True)
            thread.start()
            self.threads.append(thread)

    def handle(self, connection, number):
        with contextlib.suppress(OSError), connection:
            if self.context is not None:
                connection = self.context.wrap_socket(connection, server_side=True)
            peer = Peer(connection)
            try:
                self.script(peer, number)
            except OSError:
                pass
            except Exception as exc:
                self.errors.append(exc)
            finally:
                peer.file.close()
                connection.close()

    def __exit__(self, kind, *_):
        with contextlib.suppress(OSError):  # a test has closed it
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(LIMIT_S)
        if kind is None and self.errors:
            raise self.errors[0]
