# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The gRPC transports against the real server: unary calls, streams, errors, large messages and compression."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from time import perf_counter_ns

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from conftest import write_model
from grpc_peers import Notes, Server, frame, prefixed, run
from trtkit.errors import ProjectError
from trtkit.perf.loop.reactor import Reactor
from trtkit.perf.server.address import Address, parse_address
from trtkit.perf.transports import http2
from trtkit.perf.transports.base import Failure
from trtkit.perf.transports.grpc_stream import GrpcStreamTransport, read_response
from trtkit.perf.transports.grpc_transport import GrpcTransport
from trtkit.perf.transports.grpc_wire import MessageError, timeout_header
from trtkit.server import serve

ECHO = """
import time
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x")
            if x.as_numpy().size == 1:
                time.sleep(float(x.as_numpy().reshape(-1)[0]))
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", x.as_numpy())]))
        return responses
"""

# x: how many responses, whether the last one is marked itself, after how many there is an error (-1: none)
COUNT = """
import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            count, marked, error = pb_utils.get_input_tensor_by_name(request, "x").as_numpy().astype(int)
            sender = request.get_response_sender()
            for number in range(count):
                if number == error:
                    sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("boom")))
                y = pb_utils.Tensor("y", np.full(3, number, np.float32))
                last = marked and number == count - 1
                sender.send(pb_utils.InferenceResponse([y]), flags=FINAL if last else 0)
            if not (marked and count):
                sender.send(flags=FINAL)
"""

CONFIG = """
backend: "python"
input {{ name: "x" data_type: TYPE_FP32 dims: {dims} }}
output {{ name: "y" data_type: TYPE_FP32 dims: -1 }}
instance_group {{ count: {count} kind: KIND_CPU }}
{more}
"""
DECOUPLED = "model_transaction_policy { decoupled: true }"


def write_models(repository):
    """`echo`: y = x, after x seconds when it is one number. `count`: a decoupled model."""
    write_model(repository, "echo", CONFIG.format(dims=-1, count=1, more=""), ECHO)
    write_model(repository, "count", CONFIG.format(dims=3, count=1, more=DECOUPLED), COUNT)
    return repository


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with serve(write_models(tmp_path_factory.mktemp("repository"))) as server:
        yield parse_address(server.grpc_url, "grpc")
        assert server.process.poll() is None, server.log_end()


def request(model, values, name="x"):
    values = np.asarray(values, np.float32)
    message = service_pb2.ModelInferRequest(model_name=model)
    message.inputs.add(name=name, datatype="FP32", shape=values.shape)
    message.raw_input_contents.append(values.tobytes())
    return message.SerializeToString()


def values_of(answer):
    (raw,) = service_pb2.ModelInferResponse.FromString(answer).raw_output_contents
    return np.frombuffer(raw, np.float32)


@pytest.mark.triton
@pytest.mark.parametrize("connections", [1, 3])
def test_each_slot_gets_its_own_answers(address, connections):
    plan = {slot: [request("echo", [slot, number, 0.5]) for number in range(10)] for slot in range(8)}
    transport = GrpcTransport(address, timeout_s=30, keep_answers=True, connections=connections)
    notes = run(transport, plan)
    assert notes.failures == [None] * 80
    for slot in plan:
        mine = [values_of(answer).tolist() for number, _, answer in notes.ends if number == slot]
        assert mine == [[slot, number, 0.5] for number in range(10)]


@pytest.mark.triton
def test_answers_that_nobody_wants_are_not_kept(address):
    assert run(GrpcTransport(address, timeout_s=30), {0: [request("echo", [1, 2])] * 5}).ends == [(0, None, None)] * 5


@pytest.mark.triton
def test_the_servers_errors_are_said_in_its_words(address):
    wrong = [request("missing", [1, 2]), request("echo", [1, 2], name="z"), b"\xff\xff", request("echo", [3, 4])]
    no_model, no_input, no_message, fine = run(GrpcTransport(address, timeout_s=30), {0: wrong}).failures
    assert no_model.kind in ("gRPC NOT_FOUND", "gRPC UNAVAILABLE")
    assert "missing" in no_model.message
    assert no_input.kind == "gRPC INVALID_ARGUMENT"
    assert "'z'" in no_input.message
    assert no_message.kind.startswith("gRPC ")
    assert fine is None
    assert not any(failure.disconnected for failure in (no_model, no_input, no_message))


@pytest.mark.triton
@pytest.mark.parametrize("compression", ["", "gzip"])
def test_twenty_megabytes_there_and_back(address, compression):
    values = np.arange(5_000_000, dtype=np.float32)
    transport = GrpcTransport(address, timeout_s=60, keep_answers=True, compression=compression)
    notes = run(transport, {0: [request("echo", values)], 1: [request("echo", values)]})
    assert notes.failures == [None, None]
    for answer in notes.answers:
        np.testing.assert_array_equal(values_of(answer), values)


@pytest.mark.triton
@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_compressed_requests_are_understood(address, compression):
    transport = GrpcTransport(address, timeout_s=30, keep_answers=True, compression=compression)
    notes = run(transport, {0: [request("echo", np.ones(1000)), request("echo", np.zeros(2))]})
    assert notes.failures == [None, None]
    assert [values_of(answer).sum() for answer in notes.answers] == [1000, 0]


@pytest.mark.triton
def test_a_deadline_ends_the_request_at_the_server(address):
    transport = GrpcTransport(address, timeout_s=0.3)
    (failure,) = run(transport, {0: [request("echo", [1.5])]}).failures
    assert failure.kind == "timeout"
    assert failure.message


@pytest.mark.triton
def test_headers_of_the_user_do_not_disturb(address):
    headers = [("X-Team", "vision"), ("trace-bin", "\x00\xff"), ("x-team", "again")]
    assert (
        run(GrpcTransport(address, timeout_s=30, headers=headers), {0: [request("echo", [1, 2])] * 3}).failures
        == [None] * 3
    )


@pytest.mark.triton
@pytest.mark.parametrize("marked", [0, 1])
@pytest.mark.parametrize("compression", ["", "gzip"])
def test_a_decoupled_model_may_answer_never_once_or_often(address, marked, compression):
    counts = [0, 1, 5, 0, 20, 1]
    plan = {slot: [request("count", [count, marked, -1]) for count in counts] for slot in range(3)}
    transport = GrpcStreamTransport(address, timeout_s=30, keep_answers=True, compression=compression)
    notes = run(transport, plan)
    assert notes.failures == [None] * 18
    for slot in plan:
        numbers = [int(values_of(answer)[0]) for number, answer in notes.responses if number == slot]
        assert numbers == [number for count in counts for number in range(count)]


@pytest.mark.triton
def test_a_model_that_is_not_decoupled_answers_once_on_a_stream(address):
    notes = run(GrpcStreamTransport(address, timeout_s=30), {0: [request("echo", [1, 2])] * 3})
    assert notes.ends == [(0, None, None)] * 3
    assert notes.responses == [(0, None)] * 3


@pytest.mark.triton
def test_an_error_in_mid_stream_ends_its_request_only(address):
    plan = {
        0: [request("count", [4, 0, 2]), request("count", [3, 0, -1]), request("missing", [1]), request("echo", [1, 2])]
    }
    notes = run(GrpcStreamTransport(address, timeout_s=30, keep_answers=True), plan)
    boom, fine, missing, again = notes.failures
    assert (boom.kind, fine, missing.kind, again) == ("stream error", None, "stream error", None)
    assert "boom" in boom.message
    assert "missing" in missing.message
    assert [values_of(answer)[0] for _, answer in notes.responses] == [0, 1, 0, 1, 2, 1]


@pytest.mark.triton
def test_a_stream_that_is_given_up_leaves_nothing_for_the_next_request(address):
    def before(notes):
        def give_up(slot):
            if len(notes.responses) == 2:
                notes.transport.cancel(0)
                notes.next(0)

        notes.on_response = give_up

    plan = {0: [request("count", [500, 0, -1]), request("count", [3, 0, -1])]}
    transport = GrpcStreamTransport(address, timeout_s=30, keep_answers=True)
    notes = run(transport, plan, before=before, expected=1)
    assert notes.failures == [None]
    assert [values_of(answer)[0] for _, answer in notes.responses] == [0, 1, 0, 1, 2]


# gRPC's own server with options that Triton's does not have


@contextmanager
def grpc_server(*options):
    """A server whose ModelInfer answers with the request's bytes, some milliseconds later."""

    def answer(message, _context):
        time.sleep(0.005)
        return message

    handlers = {"ModelInfer": grpc.unary_unary_rpc_method_handler(answer)}
    server = grpc.server(ThreadPoolExecutor(8), options=options)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield Address("127.0.0.1", port)
    finally:
        server.stop(None).wait()


def test_a_server_that_ends_connections_by_their_age_loses_no_request():
    ages = ("grpc.max_connection_age_ms", 100), ("grpc.max_connection_age_grace_ms", 5000)
    with grpc_server(*ages) as address:
        plan = {slot: [b"%d %d" % (slot, number) for number in range(100)] for slot in range(4)}
        transport = GrpcTransport(address, timeout_s=30, keep_answers=True)
        replaced = []
        replace = transport._replace
        transport._replace = lambda number: replaced.append(number) or replace(number)
        notes = run(transport, plan)
    assert notes.failures == [None] * 400
    assert sorted(notes.answers) == sorted(message for messages in plan.values() for message in messages)
    assert len(replaced) > 1


@contextmanager
def relay(target, silent):
    """Passes connections on; the first one's answers only until `silent` is set, while it stays open."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        opened = []

        def pump(source, sink, number, answers):
            with suppress(OSError):
                while data := source.recv(65536):
                    if not (answers and number == 0 and silent.is_set()):
                        sink.sendall(data)

        def accept():
            with suppress(OSError):
                while True:
                    pair = listener.accept()[0], socket.create_connection(tuple(target)[:2])
                    number = len(opened)
                    opened.append(pair)
                    for ways in (pair, pair[::-1]):
                        threading.Thread(target=pump, args=(*ways, number, ways[0] is pair[1]), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield Address("127.0.0.1", listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        for pair in opened:
            for one in pair:
                one.close()


def test_a_connection_that_became_silent_is_left():
    silent = threading.Event()
    with grpc_server() as behind, relay(behind, silent) as address, closing(Reactor()) as reactor:
        transport = GrpcTransport(address, timeout_s=5.0)
        notes = Notes(reactor, transport)
        notes.plan, notes.expected = {0: [transport.prepare(b"x")] * 6}, 6

        def given_up():
            transport.cancel(0)
            notes.done(0, Failure("timeout", "late"), None)

        def on_end(_slot):
            if len(notes.ends) == 2:
                silent.set()
                reactor.call_at(perf_counter_ns() + 300_000_000, given_up)

        notes.on_end = on_end
        transport.open(reactor, notes, 1)
        reactor.call_soon(lambda: notes.next(0))
        reactor.run()
        transport.close()
    assert [failure and failure.kind for failure in notes.failures] == [None, None, "timeout", None, None, None]


def test_a_server_that_allows_few_streams_is_served_in_turn():
    with grpc_server(("grpc.max_concurrent_streams", 2)) as address:
        plan = {slot: [b"%d %d" % (slot, number) for number in range(10)] for slot in range(8)}
        notes = run(GrpcTransport(address, timeout_s=30, keep_answers=True), plan)
    assert notes.failures == [None] * 80
    assert sorted(notes.answers) == sorted(message for messages in plan.values() for message in messages)


# what the real server does not do


def responses(*parts):
    return [prefixed(service_pb2.ModelStreamInferResponse(**part).SerializeToString()) for part in parts]


def outputs(final=None):
    answer = service_pb2.ModelInferResponse(model_name="m")
    answer.outputs.add(name="y")
    if final is not None:
        answer.parameters["triton_final_response"].bool_param = final
    return {"infer_response": answer}


def test_more_streams_than_a_connection_takes_get_further_connections():
    seen = []

    def script(peer, number):
        seen.append(number)
        peer.greet((http2.MAX_CONCURRENT_STREAMS, 2))
        while asked := peer.request():
            stream, headers, message = asked
            assert headers[":path"].endswith("/ModelStreamInfer")
            assert "grpc-timeout" not in headers
            assert (
                service_pb2.ModelInferRequest.FromString(message)
                .parameters["triton_enable_empty_final_response"]
                .bool_param
            )
            peer.send(peer.opening(stream), frame(http2.DATA, 0, stream, responses(outputs(True))[0]))

    with Server(script) as address:
        plan = {slot: [request("m", [1])] * 3 for slot in range(5)}
        notes = run(GrpcStreamTransport(address, timeout_s=30), plan)
    assert notes.failures == [None] * 15
    assert sorted(seen) == [1, 2, 3]


def test_a_stream_that_ends_or_is_reset_is_opened_again():
    def script(peer, number):
        peer.greet()
        stream, _, _ = peer.request()
        peer.send(peer.opening(stream), peer.trailers(stream, 13, "no more"))
        assert peer.read()[:3] == (http2.RST_STREAM, 0, stream)
        stream, _, _ = peer.request()
        peer.send(peer.opening(stream), peer.trailers(stream))
        assert peer.read()[:3] == (http2.RST_STREAM, 0, stream)
        stream, _, _ = peer.request()
        peer.send(peer.opening(stream), frame(http2.DATA, 0, stream, responses(outputs(False))[0]))
        peer.send(frame(http2.RST_STREAM, 0, stream, b"\0\0\0\x02"))
        stream, _, _ = peer.request()
        peer.send(peer.opening(stream), frame(http2.DATA, 0, stream, responses(outputs(True))[0]))
        peer.read()

    with Server(script) as address:
        notes = run(GrpcStreamTransport(address, timeout_s=30), {0: [request("m", [1])] * 4})
    assert notes.failures == [
        Failure("gRPC INTERNAL", "no more"),
        Failure("protocol", "the server ended the stream before the last response"),
        Failure("gRPC INTERNAL", "the server reset the stream: INTERNAL_ERROR"),
        None,
    ]
    assert len(notes.responses) == 2


def test_a_stream_moves_to_a_new_connection_when_its_server_goes_away():
    def script(peer, number):
        peer.greet()
        stream, _, _ = peer.request()
        peer.send(peer.opening(stream), frame(http2.GOAWAY, 0, 0, stream.to_bytes(4, "big") + bytes(4)))
        peer.send(frame(http2.DATA, 0, stream, responses(outputs(True))[0]))
        while peer.read():
            pass

    with Server(script) as address:
        notes = run(GrpcStreamTransport(address, timeout_s=30), {0: [request("m", [1])] * 3})
    assert notes.failures == [None] * 3


def test_what_is_no_response_ends_its_request_and_the_stream():
    def script(peer, number):
        peer.greet()
        stream, _, _ = peer.request()
        peer.send(peer.opening(stream), frame(http2.DATA, 0, stream, prefixed(b"\x0a\xff")))
        assert peer.read()[:3] == (http2.RST_STREAM, 0, stream)
        stream, _, _ = peer.request()
        peer.send(peer.opening(stream), frame(http2.DATA, 0, stream, prefixed(b"abc", flag=1)))
        peer.read()

    with Server(script) as address:
        notes = run(GrpcStreamTransport(address, timeout_s=30), {0: [request("m", [1])] * 2})
    assert [failure.message for failure in notes.failures] == [
        "a response on the stream is no ModelStreamInferResponse",
        "a message is compressed with '', which was not asked for",
    ]


@given(
    st.booleans(),
    st.sampled_from([None, False, True]),
    st.text(max_size=300),
    st.text(max_size=200),
    st.dictionaries(st.text(max_size=30), st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.text())),
)
def test_a_response_is_read_as_protobuf_reads_it(content, final, error, name, parameters):
    inner = service_pb2.ModelInferResponse(model_name=name, id="7")
    for key, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param"}[type(value)]
        setattr(inner.parameters[key], kind, value)
    if final is not None:
        inner.parameters["triton_final_response"].bool_param = final
    if content:
        inner.outputs.add(name="y", shape=[1, 300])
        inner.raw_output_contents.append(b"triton_final_response" * 20)
    whole = service_pb2.ModelStreamInferResponse(error_message=error, infer_response=inner)
    message = whole.SerializeToString()
    found = read_response(message)
    assert (found.error, found.content, found.final) == (error or None, content, final)
    assert service_pb2.ModelInferResponse.FromString(message[found.start : found.stop]) == inner


@given(st.binary(max_size=60))
def test_any_bytes_are_a_response_or_an_error(data):
    with suppress(MessageError):
        read_response(data)


@pytest.mark.parametrize(
    ("timeout_s", "header"),
    [(0.3, "300000u"), (30, "30000000u"), (1e-9, "1u"), (100, "100000m"), (1e6, "1000000S"), (1e12, "99999999S")],
)
def test_the_deadline_in_the_header(timeout_s, header):
    assert timeout_header(timeout_s) == header


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"compression": "brotli"}, "compression 'brotli' is unknown to gRPC; available: gzip, deflate"),
        ({"headers": [("a b", "c")]}, "header 'a b' is no name of gRPC metadata"),
        ({"headers": [(":path", "c")]}, "header ':path' is no name"),
        ({"headers": [("grpc-timeout", "1S")]}, "header 'grpc-timeout' is gRPC's own"),
        ({"headers": [("TE", "1S")]}, "header 'TE' is gRPC's own"),
        ({"headers": [("x", "é")]}, "name it 'x-bin'"),
        ({"headers": [("x", "a\nb")]}, "characters other than printable ASCII"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_the_start(options, words):
    with pytest.raises(ProjectError, match=words):
        GrpcTransport(Address("h", 1), timeout_s=1, **options)


def test_an_ipv6_address_is_the_authority_in_brackets():
    transport = GrpcTransport(Address("::1", 8001), timeout_s=1)
    assert b"[::1]:8001" in transport._head.literal


def test_time_is_not_wasted_on_a_closed_connection():
    """A request that is sent in the turn in which its connection is found closed fails or is sent anew, never hangs."""

    def script(peer, number):
        peer.greet()
        while asked := peer.request():
            peer.send(*peer.answer(asked[0]))
            if number < 3:
                return

    with Server(script) as address:
        transport = GrpcTransport(address, timeout_s=5)
        notes = run(
            transport, {0: [b"a"] * 6}, before=lambda notes: setattr(notes, "on_end", lambda _: time.sleep(0.02))
        )
    assert [failure.kind for failure in notes.failures if failure] in ([], ["connection"], ["connection"] * 2)
    assert notes.failures[-1] is None
