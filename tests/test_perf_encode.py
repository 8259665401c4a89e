# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Requests as bytes and answers as arrays: every data type, format and word, through the real server and by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as messages

from perf_wire import DATATYPES, TYPES, ask_grpc, ask_http, sequence_ids, values, write_models
from trtkit.errors import DataError, ProjectError, ServerError
from trtkit.perf.data.pool import Request
from trtkit.perf.encoding.decode import grpc_answer, http_answer
from trtkit.perf.encoding.encode import (
    HttpOptions,
    generate_stream_request,
    grpc_request,
    grpc_sequenced,
    http_request,
    http_sequenced,
)
from trtkit.perf.encoding.placement import Placement, Region
from trtkit.perf.encoding.tensors import tensor_bytes, tensor_from_bytes, tensor_from_values, tensor_values
from trtkit.perf.server.address import Address
from trtkit.server import RunningServer, serve

SOMEWHERE = Address("10.0.0.5", 8000)
PLAIN = HttpOptions()
X = np.arange(4, dtype=np.float32).reshape(1, 4)
PLACED = Placement({"x_FP32": Region("a", 256, 16)}, {"y_FP32": Region("b", 0, 16)})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository: Path = tmp_path_factory.mktemp("wire")
    write_models(repository)
    with serve(repository) as running:
        yield running


def request(name: str = "FP32", array: np.ndarray = X, **more) -> Request:
    return Request("every_type", "", {f"x_{name}": array}, **more)


def http_address(server: RunningServer) -> Address:
    host, port = server.http_url.split(":")
    return Address(host, int(port))


def grpc_address(server: RunningServer) -> Address:
    host, port = server.grpc_url.split(":")
    return Address(host, int(port))


def over_http(server: RunningServer, asked: Request, options: HttpOptions = PLAIN) -> dict[str, np.ndarray]:
    address = http_address(server)
    return http_answer(ask_http(address, http_request(address, asked, DATATYPES, options)))


def over_grpc(server: RunningServer, asked: Request) -> dict[str, np.ndarray]:
    return grpc_answer(ask_grpc(grpc_address(server), grpc_request(asked, DATATYPES)))


def seen(answer: dict[str, np.ndarray]) -> dict:
    return json.loads(answer["seen"].ravel()[0])


def same(actual: np.ndarray, wanted: np.ndarray) -> None:
    assert actual.dtype == wanted.dtype
    np.testing.assert_array_equal(actual, wanted)


@pytest.mark.triton
@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("shape", [(2, 5), (1, 1), (1, 0)])
def test_every_type_comes_back_as_it_was_sent(server, name, shape):
    array = values(name, shape)
    for answer in (over_http(server, request(name, array)), over_grpc(server, request(name, array))):
        same(answer[f"y_{name}"], array)
        assert answer["seen"].shape == (shape[0], 1)


@pytest.mark.triton
@pytest.mark.parametrize("name", [name for name in TYPES if name not in ("FP16", "BF16")])
@pytest.mark.parametrize("shape", [(2, 5), (1, 0)])
@pytest.mark.parametrize("output_format", ["binary", "json"])
@pytest.mark.parametrize("outputs", ["all", "one"])
def test_json_carries_every_type_but_the_half_ones(server, name, shape, output_format, outputs):
    array = values(name, shape)
    asked = request(name, array, outputs=(f"y_{name}",) if outputs == "one" else None)
    for input_format in ("binary", "json"):
        answer = over_http(server, asked, HttpOptions((), input_format, output_format))
        assert answer.keys() == {f"y_{name}"} | ({"seen"} if outputs == "all" else set())
        if name == "FP64" and input_format == "json":  # the server's JSON parser rounds the last bit
            np.testing.assert_allclose(answer["y_FP64"], array, rtol=3e-16, atol=0)
        else:
            same(answer[f"y_{name}"], array)


@pytest.mark.triton
def test_bytes_that_are_no_text_come_back_even_as_json(server):
    array = np.array([[b"\xff\xfe", b"\x80"]], dtype=object)
    same(over_http(server, request("BYTES", array), HttpOptions(output_format="json"))["y_BYTES"], array)


@pytest.mark.triton
@pytest.mark.parametrize("name", ["FP16", "BF16"])
def test_what_json_cannot_carry_the_server_refuses_too(server, name):
    array = values(name, (1, 3))
    with pytest.raises(DataError, match=f"input 'x_{name}' is {name}, and JSON carries neither FP16, BF16, nor BYTES"):
        over_http(server, request(name, array), HttpOptions(input_format="json"))
    with pytest.raises(DataError, match=f"output 'y_{name}' is {name}, which JSON cannot carry"):
        over_http(server, request(name, array, outputs=(f"y_{name}",)), HttpOptions(output_format="json"))
    with pytest.raises(ServerError, match=f"HTTP 400: sending {name} data via JSON is not supported"):
        over_http(server, request(name, array), HttpOptions(output_format="json"))


@pytest.mark.triton
@pytest.mark.parametrize("compression", ["gzip", "deflate"])
@pytest.mark.parametrize("response_compression", ["", "gzip", "deflate"])
@pytest.mark.parametrize("form", ["binary", "json"])
def test_compressed_both_ways(server, compression, response_compression, form):
    array = values("INT32", (8, 500))
    options = HttpOptions((), form, form, compression, response_compression)
    message = http_request(http_address(server), request("INT32", array), DATATYPES, options)
    assert f"\r\nContent-Encoding: {compression}\r\n".encode() in message
    answer = ask_http(http_address(server), message)
    assert (b"\r\nContent-Encoding: " in answer) is bool(response_compression)
    same(http_answer(answer)["y_INT32"], array)


@pytest.mark.triton
def test_parameters_and_tritons_own_words_arrive(server):
    mine = {"count": 3, "share": 0.5, "name": 'gr"ün', "on": True, "low": -(2**63)}
    own = {"timeout": 7_000_000, "priority": 0}
    for answer in (
        over_http(server, request(parameters=mine | own)),
        over_http(server, request(parameters=mine | own), HttpOptions((), "json", "json")),
        over_grpc(server, request(parameters=mine | own)),
    ):
        assert seen(answer) == {"parameters": mine, "sequence": [0, 0], "timeout": 7_000_000}


@pytest.mark.triton
@pytest.mark.parametrize("sequence_id", [1, 2**63, 2**64 - 1, "abc", "grüße", '"\\"', "x" * 128])
@pytest.mark.parametrize(("start", "end"), [(True, False), (False, True), (False, False), (True, True)])
def test_sequences_arrive(server, sequence_id, start, end):
    asked = request(parameters={"a": 1})
    message = http_request(http_address(server), asked, DATATYPES, sequence=True)
    for _ in range(2):  # a message may be patched again
        message = http_sequenced(message, sequence_id, start, end)
    answers = [http_answer(ask_http(http_address(server), message))]
    patched = grpc_sequenced(grpc_sequenced(grpc_request(asked, DATATYPES), 7, end, start), sequence_id, start, end)
    answers.append(grpc_answer(ask_grpc(grpc_address(server), patched)))
    for answer in answers:
        wanted = {"parameters": {"a": 1}, "sequence": [sequence_id, start + 2 * end], "timeout": 0}
        assert seen(answer) == wanted
        same(answer["y_FP32"], X)


@pytest.mark.triton
def test_a_sequence_may_be_in_the_parameters_too(server):
    words = {"sequence_id": 2**64 - 1, "sequence_start": True}
    assert seen(over_http(server, request(parameters=words)))["sequence"] == [2**64 - 1, 1]
    assert seen(over_grpc(server, request(parameters=words)))["sequence"] == [2**64 - 1, 1]


@pytest.mark.triton
def test_generate_stream(server):
    text = np.array([["one grün three".encode()]], dtype=object)
    asked = Request("tokens", "1", {"text_input": text}, parameters={"temperature": 0.5, "n": 3})
    address = http_address(server)
    message = generate_stream_request(address, asked, HttpOptions((("X-User", "me"),)))
    answer = ask_http(address, message)
    assert b"text/event-stream" in answer
    events = [line[6:] for line in answer.split(b"\n") if line.startswith(b"data: ")]
    answers = [json.loads(event) for event in events]
    assert [item["text_output"] for item in answers] == ["one", "grün", "three"]
    assert json.loads(answers[0]["seen"]) == {"temperature": 0.5, "n": 3}


@pytest.mark.triton
def test_generate_stream_with_lists(server):
    asked = Request(
        "every_type", "", {"x_INT64": np.array([[1, 2**63 - 1]]), "x_FP32": np.array([[1.5]], dtype=np.float32)}
    )
    address = http_address(server)
    answer = ask_http(address, generate_stream_request(address, asked))
    (event,) = [line[6:] for line in answer.split(b"\n") if line.startswith(b"data: ")]
    outputs = json.loads(event)
    assert outputs["y_INT64"] == [1, 2**63 - 1]
    assert outputs["y_FP32"] == 1.5


@pytest.mark.triton
def test_the_servers_refusal_is_its_sentence(server):
    missing = Request("every_type", "", {"x_FP32": X}, outputs=("nothing",))
    with pytest.raises(ServerError, match=r"the server answers HTTP 400: .*nothing"):
        over_http(server, missing)


# without a server


def test_users_headers_are_sent_and_replace_ours():
    options = HttpOptions(headers=(("Host", "triton"), ("x-a", "1"), ("x-a", "2"), ("Authorization", "Bearer x")))
    head = http_request(SOMEWHERE, request(), DATATYPES, options).partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert head[0] == "POST /v2/models/every_type/infer HTTP/1.1"
    assert "Host: triton" in head
    assert "Host: 10.0.0.5:8000" not in head
    assert head.index("x-a: 1") < head.index("x-a: 2")
    assert "Authorization: Bearer x" in head


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (("Content-Length", "3"), "the header Content-Length follows from the request"),
        (("bad name", "3"), "'bad name' is no name of an HTTP header"),
        (("", "3"), "'' is no name of an HTTP header"),
        (("x", "a\r\nEvil: 1"), "is not printable ASCII"),
        (("x", "é"), "is not printable ASCII"),
    ],
)
def test_headers_that_cannot_be_sent(header, sentence):
    with pytest.raises(ProjectError, match=sentence):
        HttpOptions(headers=(header,))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"input_format": "jsn"}, "input format 'jsn' is unknown; did you mean 'json'"),
        ({"output_format": ""}, "output format '' is unknown"),
        ({"compression": "br"}, "compression 'br' is unknown; available: deflate, gzip"),
        ({"response_compression": "br"}, "compression 'br' is unknown"),
    ],
)
def test_options_that_are_unknown(options, sentence):
    with pytest.raises(ProjectError, match=sentence):
        HttpOptions(**options)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("headers", "x", "'headers' is Triton's own"),
        ("binary_data_output", True, "'binary_data_output' is Triton's own"),
        ("triton_x", 1, "'triton_x' is Triton's own"),
        ("priority", 1.0, "'priority' is 1.0; it must be an integer from 0"),
        ("timeout", -1, "'timeout' is -1; it must be an integer from 0"),
        ("timeout", True, "'timeout' is True"),
        ("big", 2**63, "which is no 64-bit integer"),
        ("x", float("nan"), "give a finite number"),
        ("x", None, "must be a bool, an int, a float or a string"),
        ("sequence_id", 0, "sequence id 0 is impossible"),
        ("sequence_id", "y" * 129, "is impossible; give an integer from 1 to"),
    ],
)
def test_parameters_that_cannot_be_sent(name, value, sentence):
    asked = request(parameters={name: value})
    with pytest.raises(ProjectError, match=sentence):
        http_request(SOMEWHERE, asked, DATATYPES)
    with pytest.raises(ProjectError, match=sentence):
        grpc_request(asked, DATATYPES)


def test_sequences_do_not_go_with_their_own_parameters_or_compression():
    with pytest.raises(ProjectError, match="'sequence_start' is set by the sequences themselves"):
        http_request(SOMEWHERE, request(parameters={"sequence_start": True}), DATATYPES, sequence=True)
    with pytest.raises(ProjectError, match="sequences cannot be sent with gzip"):
        http_request(SOMEWHERE, request(), DATATYPES, HttpOptions(compression="gzip"), sequence=True)


@pytest.mark.parametrize("sequence_id", [0, -1, 2**64, "", "ä" * 65, True, None, 1.5])
def test_sequence_ids_that_are_impossible(sequence_id):
    with pytest.raises(ProjectError, match=r"sequence id .* is impossible"):
        http_sequenced(http_request(SOMEWHERE, request(), DATATYPES, sequence=True), sequence_id, True, False)
    with pytest.raises(ProjectError, match=r"sequence id .* is impossible"):
        grpc_sequenced(b"", sequence_id, True, False)


def test_a_sequence_id_whose_json_is_too_long_says_so():
    with pytest.raises(ProjectError, match="takes 202 bytes in JSON, more than 130"):
        http_sequenced(http_request(SOMEWHERE, request(), DATATYPES, sequence=True), '"' * 100, True, False)


def test_a_message_without_room_is_not_patched():
    with pytest.raises(ValueError, match="not found"):
        http_sequenced(http_request(SOMEWHERE, request(), DATATYPES), 1, True, True)


def test_an_input_without_a_type_is_named():
    for build in (lambda asked: http_request(SOMEWHERE, asked, {"x_FP32": "FP32"}), lambda r: grpc_request(r, {})):
        with pytest.raises(DataError, match="data are given for 'x_INT8', which is no input of the model"):
            build(request("INT8", np.zeros((1, 1), np.int8)))


def test_bytes_that_are_no_text_do_not_go_as_json():
    with pytest.raises(DataError, match="input 'x_BYTES' has BYTES that are not UTF-8"):
        http_request(
            SOMEWHERE, request("BYTES", np.array([[b"\xff"]], dtype=object)), DATATYPES, HttpOptions((), "json")
        )


def test_shared_memory_in_a_request():
    message = http_request(SOMEWHERE, request(), DATATYPES, placement=PLACED)
    body = json.loads(message.partition(b"\r\n\r\n")[2])
    where = {"shared_memory_region": "a", "shared_memory_byte_size": 16, "shared_memory_offset": 256}
    assert body["inputs"] == [{"name": "x_FP32", "shape": [1, 4], "datatype": "FP32", "parameters": where}]
    there = {"shared_memory_region": "b", "shared_memory_byte_size": 16}
    assert body["outputs"] == [{"name": "y_FP32", "parameters": there}]
    parsed = messages.ModelInferRequest.FromString(grpc_request(request(), DATATYPES, PLACED))
    assert not parsed.raw_input_contents
    assert {key: value.int64_param or value.string_param for key, value in parsed.inputs[0].parameters.items()} == where
    assert [output.name for output in parsed.outputs] == ["y_FP32"]


def test_only_the_outputs_asked_for():
    asked = request(outputs=("seen", "y_FP32"))
    body = json.loads(http_request(SOMEWHERE, asked, DATATYPES, placement=PLACED).partition(b"\r\n\r\n")[2])
    assert [output["name"] for output in body["outputs"]] == ["seen", "y_FP32"]
    assert body["outputs"][0]["parameters"] == {"binary_data": True}
    parsed = messages.ModelInferRequest.FromString(grpc_request(asked, DATATYPES, PLACED))
    assert [bool(output.parameters) for output in parsed.outputs] == [False, True]


@pytest.mark.parametrize("shape", [(2, 1), (2, 2), (1, 2, 2), (1, 2, 1)])
def test_generate_stream_takes_one_sample_with_one_axis(shape):
    with pytest.raises(DataError, match=r"input 'x_INT8' has the shape \["):
        generate_stream_request(SOMEWHERE, request("INT8", np.zeros(shape, np.int8)))


def test_what_generate_stream_does_not_take():
    with pytest.raises(ProjectError, match="takes no compressed request; leave gzip out"):
        generate_stream_request(SOMEWHERE, request(), HttpOptions(compression="gzip"))
    with pytest.raises(DataError, match="input 'x_FP16' is FP16"):
        generate_stream_request(SOMEWHERE, request("FP16", np.zeros((1, 1), np.float16)))


def _names():
    return st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
        lambda name: (
            not name.startswith("triton_")
            and name not in {"headers", "binary_data_output", "priority", "timeout"}
            and not name.startswith("sequence_")
        )
    )


parameters = st.dictionaries(
    _names(),
    st.one_of(
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    ),
    max_size=4,
)
header_names = st.text("abcdefghijklmnopqrstuvwxyz-_", min_size=1, max_size=8)
header_values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)


def _body(message: bytes) -> tuple[list[str], dict, bytes]:
    head, _, body = message.partition(b"\r\n\r\n")
    lines = head.decode("ascii").split("\r\n")
    fields = {line.partition(": ")[0]: line.partition(": ")[2] for line in lines[1:]}
    assert int(fields["Content-Length"]) == len(body)
    size = int(fields.get("Inference-Header-Content-Length", len(body)))
    return lines, json.loads(body[:size]), body[size:]


@given(parameters, sequence_ids, st.booleans(), st.booleans(), st.booleans())
def test_patching_a_sequence_changes_nothing_else(given_parameters, sequence_id, start, end, ask):
    asked = request(parameters=given_parameters, outputs=("y_FP32",) if ask else None)
    plain = _body(http_request(SOMEWHERE, asked, DATATYPES))[1]
    message = http_request(SOMEWHERE, asked, DATATYPES, sequence=True)
    patched = http_sequenced(message, sequence_id, start, end)
    assert len(patched) == len(message)
    _, body, binary = _body(patched)
    words = {"sequence_id": sequence_id, "sequence_start": start, "sequence_end": end}
    assert body.pop("parameters") == words | plain.pop("parameters", {})
    assert body == plain
    assert binary == X.tobytes()
    assert http_sequenced(patched, 5, end, start) == http_sequenced(message, 5, end, start)


@given(parameters, sequence_ids, st.booleans(), st.booleans())
def test_a_patched_message_has_the_same_fields(given_parameters, sequence_id, start, end):
    plain = grpc_request(request(parameters=given_parameters), DATATYPES)
    parsed = messages.ModelInferRequest.FromString(grpc_sequenced(plain, sequence_id, start, end))
    wanted = messages.ModelInferRequest.FromString(plain)
    if isinstance(sequence_id, str):
        wanted.parameters["sequence_id"].string_param = sequence_id
    else:
        wanted.parameters["sequence_id"].int64_param = (sequence_id + 2**63) % 2**64 - 2**63
    wanted.parameters["sequence_start"].bool_param = start
    wanted.parameters["sequence_end"].bool_param = end
    assert parsed == wanted


@given(st.lists(st.tuples(header_names, header_values), max_size=4), parameters)
def test_headers_and_json_are_what_was_given(headers, given_parameters):
    ours = {"host", "content-type", "content-length", "connection", "transfer-encoding", "content-encoding"}
    headers = [(name, value) for name, value in headers if name not in ours]
    options = HttpOptions(tuple(headers), "json", "json")
    lines, body, _ = _body(http_request(SOMEWHERE, request(parameters=given_parameters), DATATYPES, options))
    assert lines[4:] == [f"{name}: {value.strip()}" for name, value in headers]
    assert body.get("parameters", {}) == given_parameters
    assert body["inputs"][0]["data"] == [0, 1, 2, 3]


@given(st.sampled_from(TYPES), st.lists(st.integers(0, 4), max_size=3), st.integers(0, 99))
def test_tensors_survive_both_forms(name, shape, seed):
    array = values(name, tuple(shape), seed)
    same(tensor_from_bytes(tensor_bytes(array), name, shape), array)
    if name not in ("FP16", "BF16"):
        text = json.dumps(tensor_values("x", array, name))
        same(tensor_from_values(json.loads(text), name, shape), array)


@given(st.binary(max_size=200))
def test_answers_that_are_none_are_data_errors(answer):
    for prefix in (b"", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        with pytest.raises(DataError):
            http_answer(prefix + answer)


@given(st.lists(st.integers(1, 30), max_size=5), st.booleans())
def test_chunks_are_joined(cuts, joined):
    body = b'{"outputs":[{"name":"y","datatype":"INT8","shape":[3],"data":[1,-2,3]}]}'
    pieces, at = [], 0
    for size in [*cuts, len(body)]:
        pieces += [body[at : at + size]] if body[at : at + size] else []
        at += size
    chunked = b"".join(b"%x;note\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    same(http_answer(head + (body if joined else chunked))["y"], np.array([1, -2, 3], dtype=np.int8))


@pytest.mark.parametrize(
    ("head", "body", "sentence"),
    [
        ("Content-Encoding: br", b"x", "has the Content-Encoding 'br', which nobody asked for"),
        ("Content-Encoding: gzip", b"x", "is no gzip data"),
        ("Transfer-Encoding: chunked", b"5\r\nab", "the answer's chunks are cut short"),
        ("Inference-Header-Content-Length: 9", b"{}", "says that its JSON has 9 bytes"),
        ("Inference-Header-Content-Length: 2", b"{}abc", "has 3 bytes of binary outputs and describes 0"),
        ("x: y", b'{"outputs":[{"name":"y","datatype":"INT8","shape":[3]}]}', "does not carry output 'y'"),
        ("x: y", b'{"outputs":[{"name":"y","datatype":"INT8","shape":[3],"data":[1]}]}', "with other data"),
        ("x: y", b'{"outputs":[{"name":"y","datatype":"INT8","shape":[1],"data":["a"]}]}', "with other data"),
        ("x: y", b'{"outputs":[{"name":"y","datatype":"FP16","shape":[1],"data":[1]}]}', "has no form for it"),
        ("x: y", b"[1]", "is no JSON object"),
    ],
)
def test_broken_answers_are_one_sentence(head, body, sentence):
    with pytest.raises(DataError, match=sentence):
        http_answer(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + body)


def test_broken_grpc_answers_are_one_sentence():
    with pytest.raises(DataError, match="is no ModelInferResponse"):
        grpc_answer(b"\xff\xff")
    response = messages.ModelInferResponse(raw_output_contents=[b"a", b"b"])
    response.outputs.add(name="y", datatype="INT8", shape=[1])
    with pytest.raises(DataError, match="describes 1 outputs and carries 2"):
        grpc_answer(response.SerializeToString())
    del response.raw_output_contents[:]
    with pytest.raises(DataError, match="does not carry output 'y'"):
        grpc_answer(response.SerializeToString())


def test_typed_fields_of_other_servers_are_read():
    response = messages.ModelInferResponse()
    tensor = response.outputs.add(name="y", datatype="INT8", shape=[1, 2])
    tensor.contents.int_contents.extend([1, -1])
    text = response.outputs.add(name="t", datatype="BYTES", shape=[2])
    text.contents.bytes_contents.extend([b"\xff", b""])
    outputs = grpc_answer(response.SerializeToString())
    same(outputs["y"], np.array([[1, -1]], dtype=np.int8))
    assert outputs["t"].tolist() == [b"\xff", b""]
