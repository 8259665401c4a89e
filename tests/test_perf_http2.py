# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 for gRPC: frames under any cutting, header blocks, flow control, and servers that misbehave on purpose."""

from __future__ import annotations

import socket
import time
from contextlib import contextmanager
from itertools import pairwise
from unittest.mock import patch

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpc_peers import Server, frame, prefixed, run
from trtkit.errors import ServerUnavailableError
from trtkit.perf.loop.reactor import Reactor
from trtkit.perf.server.address import Address
from trtkit.perf.transports import http2
from trtkit.perf.transports.base import Failure
from trtkit.perf.transports.grpc_transport import GrpcTransport
from trtkit.perf.transports.grpc_wire import MessageReader, interpret, prepare_message, request_head
from trtkit.perf.transports.http2 import HeaderBlocks, Http2Error, RequestHead
from trtkit.perf.transports.http2_connection import Http2Connection
from trtkit.perf.transports.http2_stream import Stream
from trtkit.perf.transports.wire import Endpoint, Wire

HEADERS = [(":status", "200"), ("content-type", "application/grpc")]
names = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=150)
values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200)


class KeptWire(Wire):
    """A wire whose other end keeps what was written."""

    def __init__(self, reactor, endpoint, owner):
        super().__init__(reactor, endpoint, owner)
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.far.setblocking(False)
        self._use(self.near)
        self._step = None
        reactor.add(self._fd, self._on_event)

    def connect(self):
        self._owner.wire_ready(None)

    def written(self):
        """The frames since the last call: kind, flags, stream, payload."""
        data = b""
        while True:
            try:
                data += self.far.recv(1 << 20)
            except BlockingIOError:
                break
        data = data.removeprefix(http2.PREFACE)
        frames = []
        while data:
            word, flags, number = http2.read_head(data)
            frames.append((word & 0xFF, flags, number, data[9 : 9 + (word >> 8)]))
            data = data[9 + (word >> 8) :]
        return frames


class KeptStream(Stream):
    """Notes what its connection says."""

    def __init__(self):
        super().__init__()
        self.notes, self.body = [], b""

    def headers(self, head):
        self.notes.append(head)

    def data(self, data, start, stop):
        self.body += data[start:stop]

    def ended(self):
        self.notes.append("ended")

    def reset(self, code):
        self.notes.append(("reset", code))

    def refused(self, failure):
        self.notes.append(("refused", failure.kind))

    def lost(self, failure):
        self.notes.append(failure)


@contextmanager
def connecting():
    """Makes connections that have greeted a server with the given settings."""
    made = []

    def make(*settings, head=None):
        address, reactor = Address("host", 1), Reactor()
        endpoint = Endpoint(address, socket.AF_INET, ("host", 1), None)
        connection = Http2Connection(reactor, endpoint, head or request_head(address, "/p", (), "", None), 5.0)
        connection.connect()
        connection.wire = connection._wire
        connection.received(http2.settings_frame(settings))
        connection.wire.written()
        made.append((connection, reactor))
        return connection

    try:
        with patch("trtkit.perf.transports.http2_sending.Wire", KeptWire):
            yield make
    finally:
        for connection, reactor in made:
            connection.close()
            connection.wire.far.close()
            reactor.close()


@pytest.fixture
def connect():
    with connecting() as make:
        yield make


def message(body=b"question", ends=True):
    return prepare_message(body, "", ends)


# the parser


@st.composite
def padded(draw, kind, flags, stream, payload):
    """A frame with or without padding, and with or without a priority."""
    if kind == http2.HEADERS and draw(st.booleans()):
        flags |= http2.PRIORITY_FLAG
        payload = b"\x00\x00\x00\x00\x10" + payload
    if draw(st.booleans()):
        size = draw(st.integers(0, 20))
        flags |= http2.PADDED
        payload = bytes([size]) + payload + bytes(size)
    return frame(kind, flags, stream, payload)


@st.composite
def header_frames(draw, stream, block, ends):
    """A header block in HEADERS and CONTINUATION frames."""
    cut = draw(st.integers(0, len(block)))
    end = http2.END_STREAM if ends else 0
    if draw(st.booleans()):
        return draw(padded(http2.HEADERS, http2.END_HEADERS | end, stream, block))
    first = draw(padded(http2.HEADERS, end, stream, block[:cut]))
    return first + frame(http2.CONTINUATION, http2.END_HEADERS, stream, block[cut:])


noise = st.sampled_from(
    [
        b"",
        frame(http2.PING, 0, 0, b"12345678"),
        frame(http2.WINDOW_UPDATE, 0, 0, b"\0\0\0\7"),
        frame(http2.PRIORITY, 0, 1, b"\0\0\0\0\1"),
        frame(0xEE, 0xFF, 77, b"an extension"),
        frame(http2.DATA, 0, 99, b"of a stream that is not known"),
        frame(http2.SETTINGS, http2.ACK, 0),
        http2.settings_frame([(0xABC, 9)]),
    ]
)


@st.composite
def conversations(draw):
    """The frames that answer some calls, and what each call has to be told."""
    table = draw(st.sampled_from([0, 4096]))
    encoder = hpack.Encoder()
    encoder.header_table_size = table
    wire, expected = b"", []
    for number in range(draw(st.integers(1, 4))):
        stream = 2 * number + 1
        body = draw(st.binary(max_size=40))
        opening = [*HEADERS, (draw(names), draw(values))]
        code = draw(st.integers(0, 16))
        trailers = [("grpc-status", str(code)), ("grpc-message", draw(values))]
        wire += draw(noise) + draw(header_frames(stream, encoder.encode(opening), False))
        cut = draw(st.integers(0, len(body)))
        for piece in (body[:cut], body[cut:]):
            wire += draw(padded(http2.DATA, 0, stream, piece)) + draw(noise)
        wire += draw(header_frames(stream, encoder.encode(trailers), True))
        expected.append((body, code))
    return wire, expected


@given(conversations(), st.lists(st.integers(1, 2000), max_size=12), st.booleans())
def test_any_cutting_of_the_stream_says_the_same(conversation, cuts, single):
    wire, expected = conversation
    with connecting() as connect:
        connection = connect()
        streams = [KeptStream() for _ in expected]
        for stream in streams:
            connection.send(stream, message())
        places = [0, *sorted(place for place in cuts if place < len(wire)), len(wire)]
        pieces = [wire[place : place + 1] for place in range(len(wire))] if single else None
        for piece in pieces or [wire[start:end] for start, end in pairwise(places)]:
            connection.received(piece)
        for stream, (body, code) in zip(streams, expected, strict=True):
            first, last, end = stream.notes
            assert (first.status, last.code, end, stream.body) == (200, code, "ended", body)
        assert not connection.streams
        assert not connection.closed


@given(st.binary(max_size=300), st.lists(st.integers(1, 300), max_size=6))
def test_bytes_that_mean_nothing_end_the_connection_or_wait_but_never_raise(data, cuts):
    with connecting() as connect:
        connection = connect()
        stream = KeptStream()
        connection.send(stream, message())
        places = [0, *sorted(place for place in cuts if place < len(data)), len(data)]
        for start, end in pairwise(places):
            if not connection.closed:
                connection.received(data[start:end])


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=60)), max_size=5), st.lists(st.integers(1, 200)))
def test_messages_come_out_of_any_cutting(messages, cuts):
    data = b"".join(prefixed(body, flag) for flag, body in messages)
    places = [0, *sorted(place for place in cuts if place < len(data)), len(data)]
    reader, found = MessageReader(), []
    for start, end in pairwise(places):
        found += reader.feed(data[start:end])
    assert found == messages
    assert reader.empty


@given(st.lists(st.tuples(names, values), max_size=20), st.booleans())
def test_both_forms_of_the_request_head_mean_the_same(fields, large):
    fields = [(":method", "POST"), (":scheme", "https"), (":path", "/a/b"), *fields, ("z", "v" * 300 * large)]
    head = RequestHead(fields)
    decoder = hpack.Decoder()
    for block in (head.first, head.later, head.later, head.untabled + head.literal, head.literal):
        assert [tuple(field) for field in decoder.decode(block)] == fields
    assert not decoder.header_table.dynamic_entries


def test_a_server_that_fills_its_table_although_we_asked_for_none_is_understood():
    blocks = HeaderBlocks(interpret)
    encoder = hpack.Encoder()
    fields = [*HEADERS, ("grpc-status", "5")]
    first, second = encoder.encode(fields), encoder.encode(fields)
    assert first != second
    assert blocks.decode(first) == blocks.decode(second)
    assert not blocks.known
    encoder.header_table_size = 0
    third = encoder.encode(fields)
    assert blocks.decode(third).code == 5
    blocks.decode(encoder.encode(fields))
    assert encoder.encode(fields) in blocks.known


def test_a_server_that_says_another_thing_each_time_does_not_fill_the_memory():
    blocks, encoder = HeaderBlocks(interpret), hpack.Encoder()
    encoder.header_table_size = 0
    for number in range(2000):
        assert blocks.decode(encoder.encode([("grpc-message", str(number))])).message == str(number)
    assert len(blocks.known) <= 256


@pytest.mark.parametrize(
    "wrong",
    [
        http2.settings_frame([(http2.INITIAL_WINDOW_SIZE, 2**31)]),
        http2.settings_frame([(http2.MAX_FRAME_SIZE, 5)]),
        frame(http2.SETTINGS, 0, 0, b"12345"),
        frame(http2.PING, 0, 0, b"1234567"),
        frame(http2.GOAWAY, 0, 0, b"1234567"),
        frame(http2.RST_STREAM, 0, 1, b"123"),
        frame(http2.WINDOW_UPDATE, 0, 0, b"\0\0\0\0"),
        frame(http2.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"),
        frame(http2.PUSH_PROMISE, 0, 1, b"\0\0\0\2"),
        frame(http2.CONTINUATION, 0, 1, b""),
        frame(http2.HEADERS, 0, 1, b"") + frame(http2.DATA, 0, 1, b""),
        frame(http2.HEADERS, 0, 1, b"") + frame(http2.CONTINUATION, 0, 3, b""),
        frame(http2.HEADERS, 0, 1, b"") + frame(http2.CONTINUATION, 0, 1, bytes(65536)) * 17,
        frame(http2.HEADERS, http2.END_HEADERS | http2.PRIORITY_FLAG, 1, b"123"),
        frame(http2.HEADERS, http2.END_HEADERS, 1, b"\xff\xff\xff"),
        frame(http2.DATA, http2.PADDED, 1, b""),
        frame(http2.DATA, http2.PADDED, 1, b"\x05abc"),
        frame(http2.DATA, 0, 1, bytes(65537))[:-1],
    ],
)
def test_what_breaks_the_rules_ends_the_connection_and_its_calls(connect, wrong):
    connection, stream = connect(), KeptStream()
    connection.send(stream, message())
    connection.received(wrong)
    (failure,) = stream.notes
    assert (failure.kind, failure.disconnected) == ("protocol", True)
    assert failure.message.startswith("host:1 breaks HTTP/2: ")
    assert connection.closed


def test_settings_are_refused_in_words():
    with pytest.raises(Http2Error, match="initial window is 4294967295"):
        http2.read_settings(b"\x00\x04\xff\xff\xff\xff")


# the sender


def test_a_call_goes_out_as_one_piece_and_later_ones_only_refer_to_the_headers(connect):
    connection = connect()
    for _ in range(3):
        connection.send(KeptStream(), message())
    (first, data, second, data_2, third, _) = connection.wire.written()
    assert [kind for kind, *_ in (first, data, second, data_2)] == [1, 0, 1, 0]
    assert [first[2], second[2], third[2]] == [1, 3, 5]
    assert len(second[3]) == 8
    decoder = hpack.Decoder()
    assert decoder.decode(first[3]) == decoder.decode(second[3]) == decoder.decode(third[3])
    assert data_2 == (http2.DATA, http2.END_STREAM, 3, prefixed(b"question"))


@pytest.mark.parametrize("late", [False, True])
def test_a_server_without_a_header_table_gets_all_headers_each_time(connect, late):
    setting = (http2.HEADER_TABLE_SIZE, 0)
    connection = connect(*([] if late else [setting]))
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 4096 if late else 0
    if late:
        connection.send(KeptStream(), message())
        decoder.decode(connection.wire.written()[0][3])
        connection.received(http2.settings_frame([setting]))
        assert connection.wire.written() == [(http2.SETTINGS, http2.ACK, 0, b"")]
        decoder.max_allowed_table_size = 0
    for _ in range(3):
        connection.send(KeptStream(), message())
        block = connection.wire.written()[0][3]
        assert dict(decoder.decode(block))[":path"] == "/p"
        assert not decoder.header_table.dynamic_entries


def test_headers_beyond_a_frame_are_continued(connect):
    head = RequestHead([(":method", "POST"), ("x", "y" * 40_000)])
    connection = connect(head=head)
    connection.send(KeptStream(), message())
    first, second, third, data = connection.wire.written()
    assert [first[0], second[0], third[0], data[0]] == [1, 9, 9, 0]
    assert [flags & http2.END_HEADERS for _, flags, _, _ in (first, second, third)] == [0, 0, 4]
    assert dict(hpack.Decoder().decode(first[3] + second[3] + third[3]))["x"] == "y" * 40_000


@given(st.data())
def test_flow_control_is_kept_and_every_byte_arrives(data):
    with connecting() as connect:
        initial = data.draw(st.integers(0, 200), "initial window")
        connection = connect((http2.INITIAL_WINDOW_SIZE, initial))
        bodies = data.draw(st.lists(st.binary(min_size=1, max_size=400), min_size=1, max_size=4), "messages")
        for body in bodies:
            connection.send(KeptStream(), message(body))
        rooms = dict.fromkeys(range(1, 2 * len(bodies), 2), initial)
        got = dict.fromkeys(rooms, b"")
        ended = set()
        for _ in range(200):
            for kind, flags, number, payload in connection.wire.written():
                if kind == http2.DATA:
                    got[number] += payload
                    rooms[number] -= len(payload)
                    assert rooms[number] >= 0
                    if flags & http2.END_STREAM:
                        ended.add(number)
            waiting = sorted(rooms.keys() - ended)
            if not waiting:
                break
            number = data.draw(st.sampled_from(waiting))
            if data.draw(st.booleans()):
                room = data.draw(st.integers(1, 300))
                rooms[number] += room
                connection.received(frame(http2.WINDOW_UPDATE, 0, number, room.to_bytes(4, "big")))
            else:
                changed = data.draw(st.integers(0, 600))
                rooms = {stream: room + changed - initial for stream, room in rooms.items()}
                initial = changed
                connection.received(http2.settings_frame([(http2.INITIAL_WINDOW_SIZE, changed)]))
        else:
            connection.received(http2.settings_frame([(http2.INITIAL_WINDOW_SIZE, 10_000)]))
            for _, _, number, payload in connection.wire.written():
                got[number] = got.get(number, b"") + payload
        assert [got[number] for number in sorted(rooms)] == [prefixed(body) for body in bodies]


def test_our_own_window_is_enlarged_long_before_it_is_used_up(connect):
    connection, stream = connect(), KeptStream()
    stream.data = lambda *_: None
    connection.send(stream, message())
    connection.wire.written()
    piece = frame(http2.DATA, 0, 1, bytes(65536))
    updates = []
    for _ in range(2**29 // 65536):
        connection.received(piece)
        updates += connection.wire.written()
    assert sorted(number for kind, _, number, _ in updates if kind == http2.WINDOW_UPDATE) == [0, 1]
    assert {int.from_bytes(payload, "big") for *_, payload in updates} == {2**29}


def test_the_last_number_of_a_stream_retires_the_connection(connect):
    connection, streams = connect(), [KeptStream() for _ in range(3)]
    connection.send(streams[0], message())
    connection._next = http2.LAST_STREAM
    connection.send(streams[1], message())
    assert connection.closing
    assert not connection.closed
    encoder = hpack.Encoder()
    for number in (1, http2.LAST_STREAM):
        block = encoder.encode([("grpc-status", "0")])
        connection.received(frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, number, block))
    assert [stream.notes[-1] for stream in streams[:2]] == ["ended", "ended"]
    assert connection.closed


def test_a_cancelled_call_is_reset_and_what_still_comes_is_ignored(connect):
    connection, stream = connect(), KeptStream()
    connection.send(stream, message(bytes(100_000)))  # some of it waits for room
    connection.cancel(stream)
    assert connection.wire.written()[-1] == (http2.RST_STREAM, 0, 1, b"\0\0\0\x08")
    connection.received(frame(http2.WINDOW_UPDATE, 0, 1, b"\0\1\0\0") + frame(http2.DATA, 0, 1, b"late"))
    assert stream.notes == []
    assert stream.body == b""
    assert connection.wire.written() == []


def test_an_answer_before_the_whole_question_was_sent_ends_the_sending(connect):
    connection, stream = connect(), KeptStream()
    connection.send(stream, message(bytes(100_000)))
    connection.wire.written()
    block = hpack.Encoder().encode([*HEADERS, ("grpc-status", "8")])
    connection.received(frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, 1, block))
    assert stream.notes[1:] == ["ended"]
    assert connection.wire.written() == [(http2.RST_STREAM, 0, 1, b"\0\0\0\x08")]
    connection.received(frame(http2.WINDOW_UPDATE, 0, 0, b"\0\1\0\0"))
    assert connection.wire.written() == []


def test_no_more_calls_are_begun_than_the_server_allows(connect):
    connection, streams = connect((http2.MAX_CONCURRENT_STREAMS, 2)), [KeptStream() for _ in range(4)]
    for stream in streams:
        connection.send(stream, message())
    assert len(connection.streams) == 2
    assert connection.full
    connection.cancel(streams[2])  # it has no number yet
    connection.received(frame(http2.RST_STREAM, 0, 1, b"\0\0\0\x02"))
    assert [stream.id for stream in streams] == [0, 3, 0, 5]
    assert streams[0].notes == [("reset", 2)]


# servers


def outcomes(script, plan, *, context=None, **options):
    tls = options.pop("tls", None)
    with Server(script, context) as address:
        return run(GrpcTransport(address, tls, timeout_s=20, **options), plan)


def test_a_ping_is_answered_and_settings_are_acknowledged():
    def script(peer, number):
        peer.greet()
        stream, _, _ = peer.request()
        assert peer.acknowledged == 1
        peer.send(frame(http2.PING, 0, 0, b"are you?"))
        assert peer.read() == (http2.PING, http2.ACK, 0, b"are you?")
        peer.send(*peer.answer(stream))
        peer.read()

    assert outcomes(script, {0: [b"x"]}).failures == [None]


def test_tiny_windows_are_waited_for():
    def script(peer, number):
        peer.greet((http2.INITIAL_WINDOW_SIZE, 10))
        kind, _, stream, _ = peer.read()
        assert kind == http2.HEADERS
        body, ends = b"", False
        while not ends:
            _, flags, _, piece = peer.read()
            assert len(piece) <= 10
            body += piece
            ends = flags & http2.END_STREAM
            peer.send(frame(http2.WINDOW_UPDATE, 0, stream, b"\0\0\0\7"))
        peer.send(*peer.answer(stream, body[5:]))
        peer.read()

    question = bytes(range(200))
    assert outcomes(script, {0: [question]}, keep_answers=True).answers == [question]


def test_megabytes_wait_for_the_connections_window_and_for_a_slow_reader():
    question = bytes(range(256)) * 40_000

    def script(peer, number):
        peer.greet((http2.INITIAL_WINDOW_SIZE, 2**31 - 1), (http2.MAX_FRAME_SIZE, 100_000))
        bodies = {}
        while len([stream for stream, body in bodies.items() if len(body) == len(question) + 5]) < 2:
            kind, _, stream, piece = peer.read()
            if kind == http2.DATA:
                bodies[stream] = bodies.get(stream, b"") + piece
                peer.send(frame(http2.WINDOW_UPDATE, 0, 0, len(piece).to_bytes(4, "big")))
        for stream, body in bodies.items():
            assert body[5:] == question
            pieces = [frame(http2.DATA, 0, stream, body[at : at + 16384]) for at in range(0, len(body), 16384)]
            peer.send(peer.opening(stream), *pieces, peer.trailers(stream))
        peer.read()

    assert outcomes(script, {0: [question], 1: [question]}, keep_answers=True).answers == [question] * 2


def test_calls_beyond_a_goaway_are_sent_again_on_a_new_connection_and_earlier_ones_end():
    def script(peer, number):
        peer.greet()
        first = peer.request()
        second = peer.request()
        if number == 1:
            peer.send(frame(http2.GOAWAY, 0, 0, b"\0\0\0\1\0\0\0\0"))
            peer.send(*peer.answer(first[0], b"old"))
            assert peer.read() is None  # the client has closed it: nothing is in flight any more
        else:
            for stream, _, _ in filter(None, (first, second)):
                peer.send(*peer.answer(stream, b"new"))
            peer.read()

    notes = outcomes(script, {0: [b"a", b"c"], 1: [b"b"]}, keep_answers=True)
    assert notes.failures == [None] * 3
    assert sorted(notes.answers) == [b"new", b"new", b"old"]


def test_a_server_that_sends_everybody_away_is_not_asked_for_ever():
    def script(peer, number):
        peer.greet()
        peer.request()
        peer.send(frame(http2.GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\x0bslow down"))
        peer.read()

    (failure,) = outcomes(script, {0: [b"a"]}).failures
    assert (failure.kind, failure.disconnected) == ("connection", True)
    assert failure.message.endswith("ends the connection: ENHANCE_YOUR_CALM (slow down)")


def test_a_reset_stream_says_why_and_a_refused_one_is_tried_again():
    def script(peer, number):
        peer.greet()
        for code in (8, 2, *(7,) * 7, 7, 7):
            stream, _, _ = peer.request()
            peer.send(frame(http2.RST_STREAM, 0, stream, code.to_bytes(4, "big")))
        stream, _, _ = peer.request()
        peer.send(*peer.answer(stream))
        peer.read()

    failures = outcomes(script, {0: [b"a", b"b", b"c", b"d"]}).failures
    assert [failure and failure.kind for failure in failures] == [
        "gRPC CANCELLED",
        "gRPC INTERNAL",
        "gRPC UNAVAILABLE",
        None,
    ]
    assert failures[0].message == "the server reset the stream: CANCEL"


def test_a_connection_lost_in_the_middle_fails_all_its_calls_and_is_opened_again():
    def script(peer, number):
        peer.greet()
        stream, _, _ = peer.request()
        if number == 1:
            peer.request()
            peer.send(peer.opening(stream), frame(http2.DATA, 0, stream, prefixed(b"x" * 10)[:9]))
            return
        while stream:
            peer.send(*peer.answer(stream))
            stream = (peer.request() or [0])[0]

    failures = outcomes(script, {0: [b"a", b"a2"], 1: [b"b", b"b2"]}).failures
    assert [failure and failure.kind for failure in failures] == ["connection", "connection", None, None]
    assert failures[0].disconnected
    assert failures[0].message == "the connection was lost before the response was complete: the server closed it"


def test_a_connection_that_was_closed_between_requests_is_opened_again_without_an_error():
    def script(peer, number):
        peer.greet()
        stream, _, _ = peer.request()
        peer.send(*peer.answer(stream), frame(http2.GOAWAY, 0, 0, stream.to_bytes(4, "big") + bytes(4)))

    assert outcomes(script, {0: [b"a", b"b", b"c"]}).failures == [None] * 3


def test_a_server_that_has_gone_fails_each_request():
    def script(peer, number):
        peer.greet()
        peer.request()

    server = Server(script)
    with server as address:
        transport = GrpcTransport(address, timeout_s=5)
        notes = run(transport, {0: [b"a", b"b", b"c"]}, before=lambda _: server.listener.close())
    assert [failure.kind for failure in notes.failures] == ["connection"] * 3
    assert "cannot connect to 127.0.0.1" in notes.failures[2].message


def test_several_connections_are_used_by_the_slots_in_turn():
    seen = {}

    def script(peer, number):
        peer.greet()
        while asked := peer.request():
            seen.setdefault(number, set()).add(asked[2])
            peer.send(*peer.answer(asked[0]))

    plan = {slot: [b"%d" % slot] * 3 for slot in range(5)}
    assert outcomes(script, plan, connections=2).failures == [None] * 15
    assert sorted(map(sorted, seen.values())) == [[b"0", b"2", b"4"], [b"1", b"3"]]


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (lambda peer, s: [peer.trailers(s, 5, "no model %e2%82%ac %zz")], Failure("gRPC NOT_FOUND", "no model € %zz")),
        (lambda peer, s: [peer.trailers(s, 4, "too slow")], Failure("timeout", "too slow")),
        (lambda peer, s: [peer.trailers(s, 99)], Failure("gRPC 99", "")),
        (
            lambda peer, s: [peer.headers(s, [*HEADERS, ("grpc-status", "14"), ("grpc-message", "full")], 5)],
            Failure("gRPC UNAVAILABLE", "full"),
        ),
        (
            lambda peer, s: [peer.headers(s, [(":status", "100")]), *peer.answer(s)],
            None,
        ),
        (
            lambda peer, s: [
                peer.headers(s, [(":status", "502"), ("content-type", "text/html"), ("server", "nginx/1.2")]),
                frame(http2.DATA, http2.END_STREAM, s, b"<html>"),
            ],
            Failure("HTTP 502", "'nginx/1.2' is no gRPC server: HTTP status 502 with text/html"),
        ),
        (
            lambda peer, s: [peer.headers(s, [(":status", "200")], 5)],
            Failure("protocol", "what answers is no gRPC server: HTTP status 200 with no content type"),
        ),
        (
            lambda peer, s: [peer.opening(s), frame(http2.DATA, http2.END_STREAM, s, prefixed(b"x"))],
            Failure("protocol", "the response ended without grpc-status"),
        ),
    ],
)
def test_what_a_call_ends_with(answer, failure):
    def script(peer, number):
        peer.greet()
        stream, _, _ = peer.request()
        peer.send(*answer(peer, stream))
        peer.read()

    assert outcomes(script, {0: [b"a"]}).failures == [failure]


@pytest.mark.parametrize("body", [b"", prefixed(b"ab")[:-1], prefixed(b"ab") + b"c", prefixed(b"a") * 2])
@pytest.mark.parametrize("cut", [1, 3, 7, 100])
@pytest.mark.parametrize("keep_answers", [False, True])
def test_a_success_must_have_exactly_one_whole_message(body, cut, keep_answers):
    def script(peer, number):
        peer.greet()
        for content in (body, prefixed(b"whole")):
            stream, _, _ = peer.request()
            pieces = [frame(http2.DATA, 0, stream, content[at : at + cut]) for at in range(0, len(content), cut)]
            peer.send(peer.opening(stream), *pieces, peer.trailers(stream))
        peer.read()

    notes = outcomes(script, {0: [b"a", b"b"]}, keep_answers=keep_answers)
    assert notes.failures[0].kind == "protocol"
    assert notes.failures[1] is None
    assert notes.answers == [None, b"whole" if keep_answers else None]


def opening_fails(script, context=None, **options):
    with Server(script, context) as address:
        with pytest.raises(ServerUnavailableError) as caught:
            run(GrpcTransport(address._replace(tls=options.pop("to_tls", False)), timeout_s=5, **options), {0: [b""]})
        return str(caught.value).removeprefix(str(address))


def test_an_http_1_port_is_told_from_a_grpc_port():
    def script(peer, number):
        peer.connection.recv(10)
        peer.connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        peer.connection.recv(1000)

    assert opening_fails(script) == " is not a gRPC port: it answers in HTTP/1"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "what it answers is no HTTP/2"),
        (b"\x15\x03\x03\x00\x02\x02\x50", "it speaks TLS; give grpcs://"),
        (b"", "no answer to HTTP/2's greeting, the server closed it"),
    ],
)
def test_what_is_no_grpc_port_is_told(answer, words):
    def script(peer, number):
        peer.connection.recv(1000)
        peer.connection.sendall(answer)

    assert opening_fails(script) == f" is not a gRPC port: {words}"


def test_nobody_listening_is_an_error_at_the_start():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = Address(*free.getsockname())
    with pytest.raises(ServerUnavailableError, match=f"cannot connect to {address}: Connection refused"):
        run(GrpcTransport(address, timeout_s=5), {0: [b""]})


def test_a_server_that_says_nothing_is_waited_for_only_so_long():
    def script(peer, number):
        peer.read()

    with Server(script) as address, pytest.raises(ServerUnavailableError, match="no answer in time"):
        run(GrpcTransport(address, timeout_s=0.1), {0: [b""]})


def test_a_name_that_nobody_knows_is_one_sentence():
    with pytest.raises(ServerUnavailableError, match="cannot connect to no.such.host.invalid:1: "):
        run(GrpcTransport(Address("no.such.host.invalid", 1), timeout_s=5), {0: [b""]})


def test_tls_with_a_port_that_does_not_speak_it_is_one_sentence():
    def script(peer, number):
        peer.connection.recv(1000)
        peer.connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with Server(script) as address, pytest.raises(ServerUnavailableError, match="cannot connect to .*: TLS failed"):
        run(GrpcTransport(address._replace(tls=True), timeout_s=5), {0: [b""]})


def test_a_cancelled_requests_late_answer_is_not_taken_for_the_next():
    def script(peer, number):
        peer.greet()
        late, _, _ = peer.request()
        peer.send(frame(http2.PING, 0, 0, b"I'm here"))  # a silent connection would be left
        assert peer.read() == (http2.PING, http2.ACK, 0, b"I'm here")
        assert peer.read() == (http2.RST_STREAM, 0, late, b"\0\0\0\x08")
        stream, _, _ = peer.request()
        peer.send(*peer.answer(late, b"late"), *peer.answer(stream, b"in time"))
        peer.read()

    def before(notes):
        def give_up():
            notes.transport.cancel(0)
            notes.next(0)

        notes.reactor.call_at(time.perf_counter_ns() + 50_000_000, give_up)

    with Server(script) as address:
        transport = GrpcTransport(address, timeout_s=20, keep_answers=True)
        notes = run(transport, {0: [b"a", b"b"]}, before=before, expected=1)
    assert notes.answers == [b"in time"]


def test_closing_with_requests_in_flight_tells_nobody():
    def script(peer, number):
        peer.greet()
        while peer.read():
            pass

    with Server(script) as address:
        transport = GrpcTransport(address, timeout_s=20)
        notes = run(
            transport,
            {0: [b"a"], 1: [b"b"]},
            before=lambda notes: notes.reactor.call_at(time.perf_counter_ns() + 50_000_000, notes.reactor.stop),
        )
    assert notes.ends == []
