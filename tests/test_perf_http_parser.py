# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The HTTP response parser: any cutting of a byte stream into pieces gives the same responses."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trtkit.perf.transports.http_parser import ProtocolError, Response, ResponseParser

STATUSES = (200, 201, 400, 404, 500, 503)


def with_length(status, body, extra=()):
    return b"".join(
        [
            b"HTTP/1.1 %d Whatever\r\n" % status,
            *(line + b"\r\n" for line in extra),
            b"Content-Length: %d\r\n\r\n" % len(body),
            body,
        ]
    )


def chunked(status, chunks, trailer=b"", extension=b""):
    lines = [b"HTTP/1.1 %d Whatever\r\nTransfer-Encoding: chunked\r\n\r\n" % status]
    lines += [b"%x%s\r\n%s\r\n" % (len(chunk), extension, chunk) for chunk in chunks if chunk]
    return b"".join([*lines, b"0\r\n", trailer, b"\r\n"])


@st.composite
def responses(draw):
    """A response on the wire, and what the parser has to make of it."""
    status = draw(st.sampled_from(STATUSES))
    body = draw(st.binary(max_size=300))
    expected_body = b"" if status == 200 else body
    extra = draw(
        st.lists(
            st.sampled_from(
                [
                    b"Content-Type: text/plain",
                    b"Inference-Header-Content-Length: 7",
                    b"X-Content-Length: 9",
                    b"connection: keep-alive",
                ]
            ),
            max_size=3,
        )
    )
    closes = draw(st.booleans())
    if closes:
        extra.append(draw(st.sampled_from([b"Connection: close", b"CONNECTION: Close"])))
    informational = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
    if draw(st.booleans()):
        return informational + with_length(status, body, extra), Response(status, expected_body, closes)
    cut = draw(st.integers(0, len(body)))
    wire = chunked(
        status,
        [body[:cut], body[cut:]],
        draw(st.sampled_from([b"", b"X-Checksum: 1\r\n"])),
        draw(st.sampled_from([b"", b";name=value"])),
    )
    return informational + wire, Response(status, expected_body, False)


def pieces(wire, cuts):
    places = [0, *sorted(place for place in cuts if place < len(wire)), len(wire)]
    return [wire[start:end] for start, end in pairwise(places) if start < end]


@given(st.lists(responses(), min_size=1, max_size=4), st.lists(st.integers(1, 700), max_size=12))
@example([(with_length(200, b"x"), Response(200, b"", False))], list(range(1, 100)))
@example([(chunked(500, [b"boom"]), Response(500, b"boom", False))], list(range(1, 200)))
def test_any_cutting_gives_the_same_responses(expected, cuts):
    parser = ResponseParser()
    for wire, response in expected:
        *before, last = pieces(wire, cuts)
        assert [parser.feed(piece) for piece in before] == [None] * len(before)
        assert parser.feed(last) == response


@given(st.binary(max_size=50), st.lists(st.integers(1, 100), max_size=5))
def test_a_body_without_a_length_ends_with_the_connection(body, cuts):
    parser = ResponseParser()
    for piece in pieces(b"HTTP/1.1 500 Oops\r\n\r\n" + body, cuts):
        assert parser.feed(piece) is None
    assert parser.end() == Response(500, body, True)


@given(responses(), st.data())
def test_a_response_that_is_cut_short_is_no_response(expected, data):
    wire, _ = expected
    parser = ResponseParser()
    for piece in pieces(wire[: data.draw(st.integers(0, len(wire) - 1))], [1, 20, 60]):
        assert parser.feed(piece) is None
    assert parser.end() is None


def test_a_status_without_a_body_is_complete_after_its_head():
    parser = ResponseParser()
    assert parser.feed(b"HTTP/1.1 204 No Content\r\n\r\n") == Response(204, b"", False)
    assert parser.feed(with_length(200, b"abc")) == Response(200, b"", False)


def test_an_http_1_0_server_closes_the_connection():
    parser = ResponseParser()
    assert parser.feed(b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx") == Response(200, b"", True)


@pytest.mark.parametrize("words", ["close", "Close", "keep-alive, close", "\tclose ", "upgrade,close"])
def test_a_server_says_in_several_ways_that_it_closes(words):
    wire = f"HTTP/1.1 200 OK\r\nConnection:{words}\r\nContent-Length: 0\r\n\r\n".encode()
    assert ResponseParser().feed(wire).closes


def test_a_header_that_only_speaks_of_closing_closes_nothing():
    wire = b"HTTP/1.1 200 OK\r\nConnection: enclosed\r\nX-Connection: close\r\nContent-Length: 0\r\n\r\n"
    assert not ResponseParser().feed(wire).closes


def test_only_the_beginning_of_a_long_error_body_is_kept():
    response = ResponseParser().feed(with_length(500, b"x" * 1_000_000))
    assert response == Response(500, b"x" * 65536, False)


@pytest.mark.parametrize(
    ("wire", "words"),
    [
        (b"\x00\x00\x12\x04\x00\x00\x00", "not HTTP"),  # the first frame of an HTTP/2 server: the gRPC port
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 abc\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "Content-Length"),
        (with_length(200, b"abc") + b"d", "1 bytes follow"),
        (with_length(400, b"abc") + b"de", "2 bytes follow"),
        (chunked(200, [b"abc"]) + b"def", "3 bytes follow"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", "chunk size"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\n", "chunk size"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", "chunk size"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", "line end"),
    ],
)
def test_what_is_no_response_is_refused(wire, words):
    with pytest.raises(ProtocolError, match=words):
        ResponseParser().feed(wire)
