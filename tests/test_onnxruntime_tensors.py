# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Tensors of the onnxruntime backend on a real tritonserver: types, shapes, and every way a client sends them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import ModelProto, TensorProto
from tritonclient import grpc as grpcclient
from tritonclient import http as httpclient
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException, serialize_byte_tensor, shared_memory

import onnx_models
import onnx_sequence_models as models
from onnx_clients import EXPLICIT, Connection, Executions, at_once, tensors, write_model
from trtkit.server import RunningServer, serve

# waits until four rows are there: long enough never to end by itself in a test
FOUR_TOGETHER = """
max_batch_size: 4
dynamic_batching { preferred_batch_size: 4 max_queue_delay_microseconds: 60000000 }
instance_group { count: 1 kind: KIND_CPU }
"""
AT_ONCE = "max_batch_size: 4 instance_group { count: 1 kind: KIND_CPU }\n"
ALONE = "max_batch_size: 0 instance_group { count: 1 kind: KIND_CPU }\n"
STRING, BFLOAT16, FLOAT = TensorProto.STRING, TensorProto.BFLOAT16, TensorProto.FLOAT

# bytes of several encodings, of none, and with zeros inside
WORDS = [
    b"plain",
    "né 漢字".encode(),
    "né".encode("latin-1"),
    "漢".encode("utf-16"),
    b"\xff\xfe\x00\x80",
    b"",
    b"\0",
    b"a\0",
]


def io(direction: str, name: str, kind: str, dims: str, more: str = "") -> str:
    return f'{direction} {{ name: "{name}" data_type: TYPE_{kind} dims: [{dims}] {more} }}\n'


def x_to_y(kind: str, dims: str) -> str:
    return io("input", "x", kind, dims) + io("output", "y", kind, dims)


RESHAPED = io("input", "x", "FP32", "6", "reshape { shape: [2, 3] }") + io(
    "output", "y", "FP32", "3, 2", "reshape { shape: [6] }"
)
OPTIONAL = (
    io("input", "x", "FP32", "2")
    + io("input", "offset", "FP32", "2", "optional: true")
    + io("output", "y", "FP32", "2")
)
LABELLED = (
    io("input", "x", "FP32", "2")
    + io("output", "negative", "FP32", "2", 'label_filename: "labels.txt"')
    + io("output", "absolute", "FP32", "2")
)

MODELS: dict[str, tuple[ModelProto, str]] = {
    "strings": (onnx_models.identity(STRING, ["b", "n"]), FOUR_TOGETHER + x_to_y("STRING", "-1")),
    "strings_now": (onnx_models.identity(STRING, ["b", "n"]), AT_ONCE + x_to_y("STRING", "-1")),
    "bf16": (onnx_models.identity(BFLOAT16, ["b", "n"]), FOUR_TOGETHER + x_to_y("BF16", "-1")),
    "bf16_unbatched": (onnx_models.identity(BFLOAT16, ["n"]), ALONE + x_to_y("BF16", "-1")),
    "floats": (onnx_models.identity(FLOAT, ["b", "n"]), AT_ONCE + x_to_y("FP32", "-1")),
    "floats_unbatched": (onnx_models.identity(FLOAT, ["m", 3]), ALONE + x_to_y("FP32", "-1, 3")),
    "row_sums": (onnx_models.sum_of_dynamic_second_axis(), AT_ONCE),
    "limited": (onnx_models.sum_of_dynamic_second_axis(), AT_ONCE),
    "reshaped": (models.reshapes("2,3", "6"), FOUR_TOGETHER + RESHAPED),
    "optional": (onnx_models.initializer_as_input(), OPTIONAL),
    "labelled": (onnx_models.two_outputs(), AT_ONCE + LABELLED),
    "twice": (models.repeats_rows(2), FOUR_TOGETHER + x_to_y("FP32", "1")),
    "twice_unbatched": (models.repeats_rows(2), ALONE + x_to_y("FP32", "-1, 1")),
    "fewer": (models.drops_the_last_row(), AT_ONCE + x_to_y("FP32", "1")),
    "matmul": (onnx_models.matmul_dynamic_batch(), AT_ONCE),
}


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("tensors")
    for name, (model, config) in MODELS.items():
        folder = write_model(repository, name, model, config)
        if "labels.txt" in config:
            (folder / "labels.txt").write_text("cat\ndog\n")
    with serve(repository, options=EXPLICIT) as running:
        yield running


@pytest.fixture(scope="module", params=["http", "grpc"])
def connection(triton: RunningServer, request: pytest.FixtureRequest) -> Iterator[Connection]:
    made = Connection(request.param, triton.http_url if request.param == "http" else triton.grpc_url)
    yield made
    made.close()


@pytest.fixture(scope="module")
def http(triton: RunningServer) -> Iterator[Connection]:
    made = Connection("http", triton.http_url)
    yield made
    made.close()


@pytest.fixture(scope="module")
def grpc(triton: RunningServer) -> Iterator[Connection]:
    made = Connection("grpc", triton.grpc_url)
    yield made
    made.close()


def strings(*rows: list[bytes]) -> np.ndarray:
    return np.array(rows, dtype=np.object_)


# --------------------------------------------------------------------------------------------- types


@pytest.mark.triton
def test_strings_of_any_encoding_come_back_byte_for_byte(connection: Connection) -> None:
    value = strings(WORDS, WORDS[::-1])
    result = connection.infer("strings_now", {"x": value}).as_numpy("y")
    assert result.tolist() == value.tolist()


@pytest.mark.triton
def test_strings_of_any_encoding_in_one_batch(grpc: Connection) -> None:
    rows = [strings([word, b"-"]) for word in (b"plain", b"\xff", "né".encode(), b"\xfe\x00\xfe")]
    executions = Executions(grpc, "strings")
    answers = at_once(grpc, "strings", [{"x": row} for row in rows])
    assert executions.for_rows(4) == 1
    assert [answer.as_numpy("y").tolist() for answer in answers] == [row.tolist() for row in rows]


@pytest.mark.triton
@pytest.mark.parametrize("fill", [b"a", b"\xff"], ids=["ascii", "bytes"])
def test_a_string_of_a_megabyte(connection: Connection, fill: bytes) -> None:
    value = strings([fill * (1 << 20), b"short"])
    assert connection.infer("strings_now", {"x": value}).as_numpy("y").tolist() == value.tolist()


def bf16(rows: Any) -> np.ndarray:
    return np.array(rows, dtype=ml_dtypes.bfloat16)


@pytest.mark.triton
@pytest.mark.parametrize("shape", [(1,), (7,), (0,)])
def test_bf16_comes_back_bit_for_bit(connection: Connection, shape: tuple[int, ...]) -> None:
    value = np.resize(bf16([1.5, -0.0, np.inf, np.nan, 3e38, 1e-40, 0.1]), shape)
    result = connection.infer("bf16_unbatched", {"x": value})
    output = result.get_output("y")
    assert (output["datatype"] if isinstance(output, dict) else output.datatype) == "BF16"
    assert result.as_numpy("y").shape == shape
    np.testing.assert_array_equal(result.as_numpy("y").astype(np.float32), value.astype(np.float32))


@pytest.mark.triton
def test_bf16_requests_run_as_one_batch(grpc: Connection) -> None:
    rows = [bf16([[i, i + 0.5]]) for i in range(4)]
    executions = Executions(grpc, "bf16")
    answers = at_once(grpc, "bf16", [{"x": row} for row in rows])
    assert executions.for_rows(4) == 1
    found = [answer.as_numpy("y").astype(np.float32).tolist() for answer in answers]
    assert found == [row.astype(np.float32).tolist() for row in rows]


# -------------------------------------------------------------------------------------------- shapes


@pytest.mark.triton
@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        ("floats", (1, 0), np.float32),
        ("floats", (3, 0), np.float32),
        ("floats_unbatched", (0, 3), np.float32),
        ("strings_now", (2, 0), np.object_),
    ],
)
def test_tensors_without_elements(connection: Connection, name: str, shape: tuple[int, ...], kind: type) -> None:
    result = connection.infer(name, {"x": np.empty(shape, kind)}).as_numpy("y")
    assert result.shape == shape


@pytest.mark.triton
def test_what_a_model_makes_of_no_elements(connection: Connection) -> None:
    assert connection.infer("row_sums", {"x": np.empty((2, 0), np.float32)}).as_numpy("y").tolist() == [[0], [0]]


@pytest.mark.triton
def test_an_empty_batch_is_refused_and_the_next_request_is_served(connection: Connection) -> None:
    with pytest.raises(InferenceServerException, match="'x'"):
        connection.infer("floats", {"x": np.empty((0, 3), np.float32)})
    assert connection.infer("floats", {"x": np.ones((1, 3), np.float32)}).as_numpy("y").tolist() == [[1, 1, 1]]


@pytest.mark.triton
def test_reshapes_of_an_input_and_an_output(grpc: Connection) -> None:
    rows = [np.arange(6, dtype=np.float32).reshape(1, 6) + i for i in range(4)]
    answers = at_once(grpc, "reshaped", [{"x": row} for row in rows])
    for answer, row in zip(answers, rows, strict=True):
        np.testing.assert_array_equal(answer.as_numpy("y"), 2 * row.reshape(1, 3, 2))


@pytest.mark.triton
def test_an_optional_input_given_and_left_out_in_turns(connection: Connection) -> None:
    x, offset = np.array([1, 2], np.float32), np.array([100, 100], np.float32)
    for _ in range(2):
        assert connection.infer("optional", {"x": x, "offset": offset}).as_numpy("y").tolist() == [101, 102]
        assert connection.infer("optional", {"x": x}).as_numpy("y").tolist() == [11, 22]


@pytest.mark.triton
def test_rows_beyond_the_batch_are_left_away_as_in_the_cpp_backend(grpc: Connection) -> None:
    rows = [np.array([[value]], np.float32) for value in (1, 2, 3, 4)]
    answers = at_once(grpc, "twice", [{"x": row} for row in rows])
    assert [answer.as_numpy("y").tolist() for answer in answers] == [row.tolist() for row in rows]


@pytest.mark.triton
def test_another_batch_comes_whole_from_a_model_that_does_not_batch(connection: Connection) -> None:
    result = connection.infer("twice_unbatched", {"x": np.array([[1], [2]], np.float32)})
    assert result.as_numpy("y").ravel().tolist() == [1, 2, 1, 2]


@pytest.mark.triton
def test_too_few_rows_for_the_batch_are_an_error_in_the_cpp_backends_words(connection: Connection) -> None:
    message = r"failed to split the output tensor 'y' .*expected batch size of atleast 3 in model output, got 2"
    with pytest.raises(InferenceServerException, match=message):
        connection.infer("fewer", {"x": np.ones((3, 1), np.float32)})


# ------------------------------------------------------------------------------- ways to send and ask

X = np.array([[3, -1], [-2, 5]], np.float32)


@pytest.mark.triton
def test_only_the_outputs_asked_for_are_in_the_answer(connection: Connection) -> None:
    for name in ("negative", "absolute"):
        result = connection.infer("labelled", {"x": X}, [name])
        assert result.as_numpy(name).tolist() == {"negative": -X, "absolute": abs(X)}[name].tolist()
        assert result.get_output({"negative": "absolute", "absolute": "negative"}[name]) is None


@pytest.mark.triton
def test_classification_with_labels_beside_a_plain_output(connection: Connection) -> None:
    wanted = [
        connection.api.InferRequestedOutput("negative", class_count=2),
        connection.api.InferRequestedOutput("absolute"),
    ]
    result = connection.client.infer("labelled", tensors(connection.api, {"x": X}), outputs=wanted)
    classes = [item.decode() for item in result.as_numpy("negative").ravel()]
    assert classes == ["1.000000:1:dog", "-3.000000:0:cat", "2.000000:0:cat", "-5.000000:1:dog"]
    assert result.as_numpy("absolute").tolist() == abs(X).tolist()


@pytest.mark.triton
@pytest.mark.parametrize(("sent", "asked"), [(False, False), (False, True), (True, False)])
def test_json_and_binary_tensors(http: Connection, sent: bool, asked: bool) -> None:
    feeds = {"floats": np.array([[1.5, -2.25]], np.float32), "strings_now": strings([b"plain", "né".encode(), b""])}
    for name, value in feeds.items():
        tensor = httpclient.InferInput("x", list(value.shape), "FP32" if name == "floats" else "BYTES")
        tensor.set_data_from_numpy(value, binary_data=sent)
        wanted = [httpclient.InferRequestedOutput("y", binary_data=asked)]
        found = http.client.infer(name, [tensor], outputs=wanted).as_numpy("y").tolist()
        assert [[x.encode() if isinstance(x, str) else x for x in row] for row in found] == value.tolist()


@pytest.mark.triton
def test_typed_contents_of_grpc(triton: RunningServer, grpc: Connection) -> None:
    """As clients in other languages fill them in, instead of raw bytes."""

    def ask(model: str, datatype: str, shape: list[int], **contents: list) -> Any:
        request = service_pb2.ModelInferRequest(model_name=model)
        tensor = request.inputs.add(name="x", datatype=datatype, shape=shape)
        for field, values in contents.items():
            getattr(tensor.contents, field).extend(values)
        return grpcclient.InferResult(grpc.client._client_stub.ModelInfer(request)).as_numpy("y")

    assert ask("floats", "FP32", [2, 1], fp32_contents=[1.5, -2]).tolist() == [[1.5], [-2]]
    assert ask("strings_now", "BYTES", [1, 2], bytes_contents=[b"a", b"\xff"]).tolist() == [[b"a", b"\xff"]]


@pytest.mark.triton
@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(connection: Connection, algorithm: str) -> None:
    options = (
        {"compression_algorithm": algorithm}
        if connection.protocol == "grpc"
        else {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
    )
    value = np.zeros((4, 5000), np.float32)
    value[2, 77] = 7
    result = connection.infer("floats", {"x": value}, **options)
    np.testing.assert_array_equal(result.as_numpy("y"), value)


@pytest.mark.triton
@pytest.mark.parametrize("words", [[b"plain", "né".encode()], [b"\xff", b""]], ids=["text", "bytes"])
def test_strings_in_shared_memory(connection: Connection, words: list[bytes]) -> None:
    content = serialize_byte_tensor(strings(words))
    size = len(content.item())
    room = size + 64
    handles = {}
    try:
        for side, bytes_ in (("in", size), ("out", room)):
            name = f"trtkit_{side}_{uuid.uuid4().hex}"
            handles[side] = (name, shared_memory.create_shared_memory_region(name, f"/{name}", bytes_))
            connection.client.register_system_shared_memory(name, f"/{name}", bytes_)
        shared_memory.set_shared_memory_region(handles["in"][1], [content])
        tensor = connection.api.InferInput("x", [1, len(words)], "BYTES")
        tensor.set_shared_memory(handles["in"][0], size)
        wanted = connection.api.InferRequestedOutput("y")
        wanted.set_shared_memory(handles["out"][0], room)
        connection.client.infer("strings_now", [tensor], outputs=[wanted])
        found = shared_memory.get_contents_as_numpy(handles["out"][1], np.object_, [1, len(words)])
        assert found.tolist() == [words]
    finally:
        for name, handle in handles.values():
            connection.client.unregister_system_shared_memory(name)
            shared_memory.destroy_shared_memory_region(handle)


# ------------------------------------------------------------------------------------ the load API


@pytest.mark.triton
def test_a_model_is_replaced_by_the_load_api_and_put_back(connection: Connection) -> None:
    feed = {"x": np.ones((1, 64), np.float32)}
    before = connection.infer("matmul", feed).as_numpy("y")
    config = {
        "backend": "onnxruntime",
        "max_batch_size": 2,
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1]}],
        "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [1]}],
    }
    content = onnx_models.sum_of_dynamic_second_axis().SerializeToString()
    connection.client.load_model("matmul", config=json.dumps(config), files={"file:1/model.onnx": content})
    assert connection.infer("matmul", feed).as_numpy("y").tolist() == [[64]]
    connection.client.load_model("matmul")
    np.testing.assert_array_equal(connection.infer("matmul", feed).as_numpy("y"), before)


@pytest.mark.triton
def test_a_config_alone_replaces_the_one_on_disk(connection: Connection) -> None:
    most = {"http": 2, "grpc": 1}[connection.protocol]
    config = {"backend": "onnxruntime", "max_batch_size": most, "instance_group": [{"count": 1, "kind": "KIND_CPU"}]}
    connection.client.load_model("limited", config=json.dumps(config))
    feed = {"x": np.ones((3, 3), np.float32)}
    with pytest.raises(InferenceServerException, match=f"batch-size must be <= {most}"):
        connection.infer("limited", feed)
    feed = {"x": feed["x"][:most]}
    assert connection.infer("limited", feed).as_numpy("y").tolist() == [[3]] * most


@pytest.mark.triton
def test_a_replacement_that_does_not_load_leaves_the_model_in_service(connection: Connection) -> None:
    config = json.dumps({"backend": "onnxruntime"})
    with pytest.raises(InferenceServerException, match="onnx runtime error"):
        connection.client.load_model("matmul", config=config, files={"file:1/model.onnx": b"no graph"})
    result = connection.infer("matmul", {"x": np.zeros((1, 64), np.float32)})
    assert result.as_numpy("y").tolist() == [[0] * 10]
