# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The HTTP transport on its reactor, against peers that misbehave on purpose."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager
from time import perf_counter_ns

import pytest

from trtkit.errors import ServerUnavailableError
from trtkit.perf.loop.reactor import Reactor
from trtkit.perf.server.address import Address, Tls
from trtkit.perf.transports.base import TIMEOUT, Failure
from trtkit.perf.transports.http_transport import HttpTransport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextmanager
def peer(handle, context=None):
    """A TCP server in a thread of its own that calls `handle(reader, writer, number of the connection)`."""
    ready, numbers, defects = threading.Event(), iter(range(1, 1000)), []
    found = {}

    async def accept(reader, writer):
        try:
            await handle(reader, writer, next(numbers))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except AssertionError as exc:
            defects.append(exc)
        finally:
            writer.close()

    async def serve():
        server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
        found["port"], found["loop"], found["stop"] = (
            server.sockets[0].getsockname()[1],
            asyncio.get_running_loop(),
            asyncio.Event(),
        )
        ready.set()
        await found["stop"].wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait(10)
    try:
        yield Address("127.0.0.1", found["port"], context is not None)
    finally:
        found["loop"].call_soon_threadsafe(found["stop"].set)
        thread.join(10)
    assert defects == []  # in the peer's own assertions


class Asker:
    """A listener that sends one request after the other on slot 0, with a pause between them."""

    def __init__(self, reactor, transport, count, pause_s=0.0, timeout_s=None, message=b"question"):
        self.reactor, self.transport, self.left = reactor, transport, count
        self.pause_ns, self.timeout_s = round(pause_s * 1e9), timeout_s
        self.message = message
        self.outcomes, self.answers, self.responses = [], [], []
        self.timer = None

    def ask(self):
        self.left -= 1
        self.transport.send(0, self.transport.prepare(self.message))
        if self.timeout_s:
            self.timer = self.reactor.call_at(perf_counter_ns() + round(self.timeout_s * 1e9), self.late)

    def late(self):
        self.transport.cancel(0)
        self.done(0, Failure(TIMEOUT, "late"), None)

    def response(self, slot, answer):
        self.responses.append(answer)

    def done(self, slot, failure, answer):
        assert slot == 0
        if self.timer:
            self.timer.cancel()
        self.outcomes.append(failure)
        self.answers.append(answer)
        if self.left:
            self.reactor.call_at(perf_counter_ns() + self.pause_ns, self.ask)
        else:
            self.reactor.call_at(perf_counter_ns() + self.pause_ns, self.reactor.stop)


def asked(address, count, *, tls=None, pause_s=0.0, timeout_s=None, message=b"question", **options):
    """Ask `count` times and return the listener."""
    reactor = Reactor()
    transport = HttpTransport(address, tls, timeout_s=5.0, **options)
    asker = Asker(reactor, transport, count, pause_s, timeout_s, message)
    stuck = reactor.call_at(perf_counter_ns() + 30_000_000_000, reactor.stop)
    transport.open(reactor, asker, 1)
    reactor.call_soon(asker.ask)
    reactor.run()
    stuck.cancel()
    transport.close()
    reactor.close()
    assert asker.left == 0
    return asker


def outcomes_of(handle, count, **options):
    """How each of `count` requests, sent one after the other, ended."""
    with peer(handle) as address:
        return asked(address, count, **options).outcomes


async def question(reader):
    assert await reader.readexactly(8) == b"question"


def test_one_connection_is_used_for_all_requests_of_a_slot():
    async def handle(reader, writer, number):
        assert number == 1
        while True:
            await question(reader)
            writer.write(OK)

    assert outcomes_of(handle, 5) == [None] * 5


def test_a_connection_that_the_server_wants_to_close_is_opened_again_without_an_error():
    async def handle(reader, writer, number):
        await question(reader)
        writer.write(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert await reader.read() == b""  # no other question comes on this connection

    assert outcomes_of(handle, 3) == [None] * 3


def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one():
    async def handle(reader, writer, number):
        await question(reader)
        writer.write(OK)
        if number == 1:
            await asyncio.sleep(0.05)
            writer.write(OK.replace(b"200", b"500"))
            await reader.read()

    assert outcomes_of(handle, 2, pause_s=0.2) == [None, None]


def test_an_error_response_says_the_servers_sentence_and_keeps_the_connection():
    async def handle(reader, writer, number):
        assert number == 1
        for body in (b'{"error":"no such input"}', b"plain words"):
            await question(reader)
            writer.write(b"HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await question(reader)
        writer.write(OK)

    assert outcomes_of(handle, 3) == [Failure("HTTP 400", "no such input"), Failure("HTTP 400", "plain words"), None]


def test_a_connection_that_is_lost_fails_its_request_and_is_opened_again():
    async def handle(reader, writer, number):
        await question(reader)
        writer.write(OK[:10] if number == 1 else OK)

    first, second = outcomes_of(handle, 2)
    assert (first.kind, first.disconnected) == ("connection", True)
    assert second is None


def test_a_request_that_meets_a_closed_idle_connection_is_sent_again():
    async def handle(reader, writer, number):
        await question(reader)
        writer.write(OK)
        if number == 1:
            await question(reader)  # and closes the connection in this very moment, without an answer

    assert outcomes_of(handle, 2) == [None, None]


def test_a_request_is_sent_again_only_once():
    async def handle(reader, writer, number):
        await question(reader)
        if number == 1:
            writer.write(OK)
            await question(reader)

    first, second = outcomes_of(handle, 2)
    assert (first, second.kind) == (None, "connection")


def test_what_a_lost_stream_left_over_is_not_of_the_next_one():
    async def handle(reader, writer, number):
        await question(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        if number == 1:
            writer.write(chunk(b'data: {"error":"no more room"}\n\ndata: {"t'))
        else:
            writer.write(chunk(b'data: {"t":1}\n\n') + b"0\r\n\r\n")
            await reader.read()

    with peer(handle) as address:
        asker = asked(address, 2, stream=True, keep_answers=True)
    assert [failure and failure.kind for failure in asker.outcomes] == ["connection", None]
    assert asker.responses == [b'{"t":1}']


def test_a_response_without_a_length_is_complete_when_the_connection_ends():
    async def handle(reader, writer, number):
        await question(reader)
        writer.write(b'HTTP/1.1 500 Oops\r\n\r\n{"error":"boom"}')

    assert outcomes_of(handle, 2) == [Failure("HTTP 500", "boom")] * 2


def test_what_is_no_http_is_counted_as_such():
    async def handle(reader, writer, number):
        await question(reader)
        writer.write(b"\x00\x00\x12\x04" if number == 1 else OK)
        await reader.read()

    first, second = outcomes_of(handle, 2)
    assert (first.kind, second) == ("protocol", None)


def test_a_request_without_an_answer_ends_at_its_deadline_and_its_late_answer_is_not_taken_for_the_next():
    async def handle(reader, writer, number):
        await question(reader)
        if number == 1:
            await asyncio.sleep(0.3)
        writer.write(OK)

    first, second = outcomes_of(handle, 2, timeout_s=0.2)
    assert (first.kind, second) == ("timeout", None)


def test_a_server_that_is_gone_fails_each_request():
    async def handle(reader, writer, number):
        await question(reader)

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = Address(*listener.getsockname())
        reactor = Reactor()
        transport = HttpTransport(address, timeout_s=5.0)
        asker = Asker(reactor, transport, 3)
        transport.open(reactor, asker, 1)
        accepted, _ = listener.accept()
        accepted.close()
    asker.ask()
    reactor.run()
    transport.close()
    reactor.close()
    assert [failure.kind for failure in asker.outcomes] == ["connection"] * 3
    assert all(failure.disconnected for failure in asker.outcomes)
    assert "cannot connect to 127.0.0.1" in asker.outcomes[2].message


def test_nobody_listening_is_an_error_at_the_start():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = Address(*free.getsockname())
    reactor = Reactor()
    with pytest.raises(ServerUnavailableError, match=f"cannot connect to {address}"):
        HttpTransport(address, timeout_s=5.0).open(reactor, Asker(reactor, None, 1), 2)
    reactor.close()


def test_a_name_that_does_not_exist_is_an_error_at_the_start():
    reactor = Reactor()
    with pytest.raises(ServerUnavailableError, match=r"cannot connect to no\.such\.host\.invalid:80"):
        HttpTransport(Address("no.such.host.invalid", 80), timeout_s=5.0).open(reactor, Asker(reactor, None, 1), 1)
    reactor.close()


def test_a_large_request_and_a_large_answer_pass_whole():
    body = bytes(range(256)) * 40_000

    async def handle(reader, writer, number):
        for _ in range(2):
            assert await reader.readexactly(len(body)) == body
            await asyncio.sleep(0.05)  # the socket's buffers are full meanwhile
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    with peer(handle) as address:
        asker = asked(address, 2, message=body, keep_answers=True)
    assert asker.outcomes == [None, None]
    assert all(answer.partition(b"\r\n\r\n")[2] == body for answer in asker.answers)


def test_answers_are_kept_with_their_heads_and_without_the_sizes_of_chunks():
    async def handle(reader, writer, number):
        await question(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await asyncio.sleep(0.02)
        writer.write(b"2\r\nde\r\n0\r\n\r\n")
        await question(reader)
        writer.write(OK)

    with peer(handle) as address:
        asker = asked(address, 2, keep_answers=True)
    assert asker.answers == [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nabcde", OK]


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


def test_each_server_sent_event_is_a_response():
    async def handle(reader, writer, number):
        for _ in range(2):
            await question(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            writer.write(chunk(b'data: {"t":1}\n\ndata: {"t"'))
            await asyncio.sleep(0.02)
            writer.write(chunk(b":2}\n\n: a comment\n\n") + b"0\r\n\r\n")

    with peer(handle) as address:
        asker = asked(address, 2, stream=True, keep_answers=True)
    assert asker.outcomes == [None, None]
    assert asker.responses == [b'{"t":1}', b'{"t":2}'] * 2


def test_an_error_in_a_stream_fails_the_request_with_its_sentence():
    async def handle(reader, writer, number):
        await question(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(chunk(b'data: {"t":1}\n\n') + chunk(b'data: {"error":"no more room"}\n\n') + b"0\r\n\r\n")
        await question(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")

    with peer(handle) as address:
        asker = asked(address, 2, stream=True)
    assert asker.outcomes == [Failure("stream error", "no more room"), None]
    assert asker.responses == [None]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "key"), "-out", str(folder / "cert")]
    try:
        subprocess.run([*command, *files], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return folder


def test_tls_with_large_messages_and_a_connection_that_is_opened_again(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert", certificate / "key")
    body = bytes(range(256)) * 4_000

    async def handle(reader, writer, number):
        for _ in range(2):
            assert await reader.readexactly(len(body)) == body
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()

    with peer(handle, context) as address:
        asker = asked(address, 5, tls=Tls(ca=certificate / "cert"), message=body, keep_answers=True, pause_s=0.05)
    kinds = [failure and failure.kind for failure in asker.outcomes]
    assert kinds.count(None) >= 4  # a request may meet the connection in the moment in which it is closed
    assert all(answer.endswith(body) for answer, kind in zip(asker.answers, kinds, strict=True) if kind is None)


def test_a_certificate_that_nobody_trusts_is_an_error_at_the_start(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert", certificate / "key")

    async def handle(reader, writer, number):
        await reader.read()

    reactor = Reactor()
    with peer(handle, context) as address, pytest.raises(ServerUnavailableError, match="certificate"):
        HttpTransport(address, timeout_s=5.0).open(reactor, Asker(reactor, None, 1), 1)
    reactor.close()
