# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The load loop over a scripted transport, and the HTTP transport against a peer that misbehaves on purpose."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from trtkit.errors import ServerError, ServerUnavailableError
from trtkit.perf import runner
from trtkit.perf.address import Address
from trtkit.perf.closed_loop import ClosedLoop
from trtkit.perf.http_transport import HttpTransport
from trtkit.perf.measurement import Load
from trtkit.perf.recorder import Recorder
from trtkit.perf.transport import Failure

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class ScriptedTransport:
    """Ends each request in the next turn of the event loop, as `script(number)` says; `None` never ends it."""

    def __init__(self, script):
        self.script = script
        self.sent = []
        self.in_flight = self.most_in_flight = 0
        self.loop = None

    def send(self, slot, request):
        number = len(self.sent)
        self.sent.append((slot, request))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        outcome = self.script(number)
        if outcome != "never":
            asyncio.get_running_loop().call_soon(self._end, slot, outcome)

    def _end(self, slot, outcome):
        self.in_flight -= 1
        self.loop.done(slot, outcome)


def run_loop(script, slots, requests, until):
    """Run a closed loop until `until(transport, recorder)`, drain it, and give everything back."""

    async def run():
        transport, recorder = ScriptedTransport(script), Recorder()
        transport.loop = loop = ClosedLoop(transport, slots, requests, recorder)
        loop.start()
        while not until(transport):
            await asyncio.sleep(0)
        drained = await loop.drain(0.05)
        return transport, recorder.cut(), drained

    return asyncio.run(run())


def test_every_slot_carries_one_request_at_a_time_and_requests_are_taken_in_turn():
    transport, cut, drained = run_loop(lambda _: None, 3, 4, lambda t: len(t.sent) >= 40)
    assert transport.most_in_flight == 3
    assert [request for _, request in transport.sent] == [number % 4 for number in range(len(transport.sent))]
    assert {slot for slot, _ in transport.sent} == {0, 1, 2}
    assert drained
    assert transport.in_flight == 0
    assert len(cut.latencies_ns) == len(transport.sent)
    assert (cut.latencies_ns > 0).all()


def test_failed_requests_are_counted_and_the_slot_goes_on_at_once():
    def script(number):
        return Failure("HTTP 500", f"boom {number}") if number % 2 else None

    transport, cut, _ = run_loop(script, 1, 1, lambda t: len(t.sent) >= 20)
    (error,) = cut.errors
    assert (error.kind, error.message) == ("HTTP 500", "boom 1")
    assert error.count == len(transport.sent) // 2
    assert len(cut.latencies_ns) + error.count == len(transport.sent)


def test_a_lost_connection_makes_the_slot_wait_before_its_next_request():
    async def run():
        transport, waits = ScriptedTransport(lambda _: Failure("connection", "gone", disconnected=True)), []
        transport.loop = loop = ClosedLoop(transport, 1, 1, Recorder())
        loop.start()
        loop._loop = type("Clock", (), {"call_later": lambda _, wait, send, slot: (waits.append(wait), send(slot))})()
        while len(waits) < 8:
            await asyncio.sleep(0)
        await loop.drain(0.05)
        return waits

    waits = asyncio.run(run())
    assert waits[:4] == [0.02, 0.04, 0.08, 0.16]
    assert waits[6:8] == [0.5, 0.5]


def test_the_wait_starts_small_again_after_a_success():
    async def run():
        outcomes = [Failure("connection", "gone", True), Failure("connection", "gone", True), None]
        transport, waits = ScriptedTransport(lambda number: outcomes[number % 3]), []
        transport.loop = loop = ClosedLoop(transport, 1, 1, Recorder())
        loop.start()
        loop._loop = type("Clock", (), {"call_later": lambda _, wait, send, slot: (waits.append(wait), send(slot))})()
        while len(waits) < 4:
            await asyncio.sleep(0)
        await loop.drain(0.05)
        return waits

    assert asyncio.run(run())[:4] == [0.02, 0.04, 0.02, 0.04]


def test_draining_sends_nothing_more_and_tells_of_requests_that_never_end():
    transport, cut, drained = run_loop(lambda number: "never" if number == 5 else None, 2, 1, lambda t: len(t.sent) > 9)
    assert not drained
    assert len(cut.latencies_ns) == len(transport.sent) - 1


def test_a_slot_that_waits_sends_nothing_after_the_drain():
    async def run():
        transport = ScriptedTransport(lambda _: Failure("connection", "gone", disconnected=True))
        transport.loop = loop = ClosedLoop(transport, 1, 1, Recorder())
        loop.start()
        await asyncio.sleep(0)
        drained = await loop.drain(1.0)
        await asyncio.sleep(0.06)  # the first wait is 0.02 s
        return drained, transport.sent

    assert asyncio.run(run()) == (True, [(0, 0)])


class BrokenTransport(ScriptedTransport):
    """Raises inside a callback of the event loop."""

    def __init__(self, error):
        super().__init__(lambda _: None)
        self.error = error

    async def open(self, done):
        self.loop = SimpleNamespace(done=done)
        asyncio.get_running_loop().call_soon(self._raise)

    def _raise(self):
        raise self.error

    async def close(self):
        pass


def run_plan(transport):
    load = Load("m", "", "http", "h:1", 1, 1, 1, 0.0, 0.02, 1.0, 100.0)
    with ThreadPoolExecutor(1) as thread:
        plan = runner._Plan(load, 3, 3, None, lambda: ServerError("no statistics"), thread)
        return asyncio.run(runner._run(plan, transport))


def test_a_defect_inside_a_callback_is_raised_and_not_only_logged():
    with pytest.raises(ZeroDivisionError):
        run_plan(BrokenTransport(ZeroDivisionError()))


def test_grpcs_meaningless_error_is_no_defect():
    assert len(run_plan(BrokenTransport(BlockingIOError(11, "Resource temporarily unavailable"))).cuts) == 3


@asynccontextmanager
async def peer(handle):
    """A TCP server that calls `handle(reader, writer, number of the connection)`."""
    number = 0

    async def accept(reader, writer):
        nonlocal number
        number += 1
        try:
            await handle(reader, writer, number)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()


def outcomes_of(handle, count, *, timeout_s=5.0, pause_s=0.0):
    """Send `count` requests, one after the other, and say how each ended."""

    async def run():
        outcomes, ended, defects = [], asyncio.Event(), []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: defects.append(context))

        def done(slot, failure):
            assert slot == 0
            outcomes.append(failure)
            ended.set()

        async with peer(handle) as address:
            transport = HttpTransport(address, [b"question"], 1, timeout_s)
            await transport.open(done)
            for _ in range(count):
                ended.clear()
                transport.send(0, 0)
                await asyncio.wait_for(ended.wait(), 20)
                await asyncio.sleep(pause_s)
            await transport.close()
        assert defects == []  # neither in the transport nor in the peer's own assertions
        return outcomes

    return asyncio.run(run())


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
    assert (first.kind, first.message, second) == ("timeout", "no complete response within 0.2 s", None)


def test_a_server_that_is_gone_fails_each_request():
    async def run():
        outcomes, ended = [], asyncio.Event()

        def done(slot, failure):
            outcomes.append(failure)
            ended.set()

        async def handle(reader, writer, number):
            await question(reader)

        async with peer(handle) as address:
            transport = HttpTransport(address, [b"question"], 1, 5.0)
            await transport.open(done)
            transport.send(0, 0)
            await ended.wait()
        for _ in range(2):
            ended.clear()
            transport.send(0, 0)
            await ended.wait()
        await transport.close()
        return outcomes

    outcomes = asyncio.run(run())
    assert [failure.kind for failure in outcomes] == ["connection"] * 3
    assert "cannot connect to 127.0.0.1" in outcomes[2].message


def test_nobody_listening_is_an_error_at_the_start():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = Address(*free.getsockname())
    with pytest.raises(ServerUnavailableError, match=f"cannot connect to {address}"):
        asyncio.run(HttpTransport(address, [b""], 2, 5.0).open(lambda *_: None))


@pytest.mark.parametrize(
    ("state", "details", "kind"),
    [
        ("READY", "Socket closed", "connection"),
        ("READY", "recvmsg:Connection reset by peer", "connection"),
        ("TRANSIENT_FAILURE", "anything", "connection"),
        ("READY", "Exceeds maximum queue size", "gRPC UNAVAILABLE"),
    ],
)
def test_an_unavailable_server_is_a_broken_connection_or_a_full_queue(state, details, kind):
    import grpc
    import grpc.aio

    from trtkit.perf.grpc_transport import _failure_of

    class Channel:
        def get_state(self):
            return grpc.ChannelConnectivity[state]

    error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), details)
    assert _failure_of(error, Channel()).kind == kind
