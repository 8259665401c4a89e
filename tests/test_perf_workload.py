# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""From what the user asks for to the bytes on the wire: levels, addresses, shapes, requests."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtkit.errors import DataError, ProjectError
from trtkit.perf import batches, parse_levels, parse_shape, random_inputs
from trtkit.perf.address import Address, parse_address
from trtkit.perf.encode import grpc_request, http_request, tensor_bytes
from trtkit.perf.workload import checked


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("8", [8]),
        ("1,4,8", [1, 4, 8]),
        ("8, 1", [8, 1]),
        ("1:4", [1, 2, 3, 4]),
        ("1:8:3", [1, 4, 7]),
        ("1:64:*2", [1, 2, 4, 8, 16, 32, 64]),
        ("3:20:*3", [3, 9]),
        ("5:5", [5]),
        ("1,2:4:2,4", [1, 2, 4]),
    ],
)
def test_levels(text, levels):
    assert parse_levels(text) == levels


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1.5", "x", "1,,2", "0:4", "4:1", "1:8:0", "1:8:*1", "1:8:*", "1:2:3:4", "1:9999", "٣", "²"]
)
def test_levels_that_make_no_sense_name_what_was_given(text):
    with pytest.raises(ProjectError, match="concurrency '"):
        parse_levels(text)


@given(st.integers(1, 500), st.integers(0, 500), st.integers(1, 50))
def test_a_range_of_levels_is_pythons_with_its_end(start, length, step):
    assert parse_levels(f"{start}:{start + length}:{step}") == list(range(start, start + length + 1, step))


@pytest.mark.parametrize(
    ("url", "protocol", "address"),
    [
        ("10.0.0.5:8000", "http", Address("10.0.0.5", 8000)),
        ("triton", "http", Address("triton", 8000)),
        ("triton", "grpc", Address("triton", 8001)),
        ("http://triton:9/", "http", Address("triton", 9)),
        ("grpc://triton:9", "grpc", Address("triton", 9)),
        ("[::1]:9", "http", Address("::1", 9)),
    ],
)
def test_addresses(url, protocol, address):
    assert parse_address(url, protocol) == address
    assert parse_address(str(address), protocol) == address


@pytest.mark.parametrize(
    ("url", "protocol", "words"),
    [
        ("https://triton:8000", "http", "TLS"),
        ("grpc://triton:8001", "http", "does not fit the protocol http"),
        ("triton:8000/v2/models", "http", "HOST:PORT"),
        ("triton:port", "http", "HOST:PORT"),
        ("triton:99999", "http", "HOST:PORT"),
        ("triton:0", "http", "HOST:PORT"),
        ("", "http", "HOST:PORT"),
        ("two words:80", "http", "HOST:PORT"),
        ("triton", "tcp", "protocol 'tcp'"),
    ],
)
def test_addresses_that_make_no_sense(url, protocol, words):
    with pytest.raises(ProjectError, match=words):
        parse_address(url, protocol)


def test_shapes_on_the_command_line():
    assert parse_shape("image:3,224,224") == ("image", [3, 224, 224])
    assert parse_shape("layer:0:8") == ("layer:0", [8])


@pytest.mark.parametrize("text", ["image", "image:", ":3", "image:3,", "image:0", "image:-1", "image:3x4"])
def test_shapes_that_make_no_sense(text):
    with pytest.raises(DataError, match="NAME:SIZE"):
        parse_shape(text)


def model(*inputs, max_batch_size=8, optional=()):
    """Metadata and config as the server gives them; inputs are (name, datatype, dims without the batch)."""
    batch = [-1] if max_batch_size else []
    metadata = {
        "name": "m",
        "inputs": [{"name": name, "datatype": datatype, "shape": [*batch, *dims]} for name, datatype, dims in inputs],
    }
    config = {
        "max_batch_size": max_batch_size,
        "input": [{"name": name, "optional": name in optional} for name, _, _ in inputs],
    }
    return metadata, config


def test_random_requests_have_the_models_types_and_full_shapes():
    described = model(
        ("f", "FP32", [3, -1]), ("i", "INT64", [4]), ("b", "BF16", [2]), ("t", "BYTES", [2]), ("l", "BOOL", [1])
    )
    requests = random_inputs(*described, {"f": [3, 5]}, batch_size=4, count=3, string_length=7)
    assert len(requests) == 3
    first = requests[0]
    assert {name: (array.dtype.name, array.shape) for name, array in first.items()} == {
        "f": ("float32", (4, 3, 5)),
        "i": ("int64", (4, 4)),
        "b": ("uint16", (4, 2)),
        "t": ("object", (4, 2)),
        "l": ("bool", (4, 1)),
    }
    assert {len(item) for item in first["t"].ravel()} == {7}
    assert b"".join(first["t"].ravel()).decode("ascii").islower()
    assert not np.array_equal(first["f"], requests[1]["f"])


def test_random_integers_stay_small_unless_a_range_is_given():
    described = model(("i", "INT32", [1000]), ("u", "UINT8", [1000]))
    default = random_inputs(*described, count=1)[0]
    assert set(default["i"].ravel().tolist()) == {0, 1}
    assert set(default["u"].ravel().tolist()) == {0, 1}
    wider = random_inputs(*described, count=1, integers=(5, 7))[0]
    assert set(wider["i"].ravel().tolist()) == {5, 6, 7}


def test_equal_seeds_give_equal_requests():
    described = model(("f", "FP32", [3]))
    one, same, other = (random_inputs(*described, seed=seed, count=1)[0]["f"] for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_grpc_gives_numbers_as_strings():
    metadata = {"name": "m", "inputs": [{"name": "x", "datatype": "FP32", "shape": ["-1", "4"]}]}
    assert random_inputs(metadata, {"max_batch_size": 8}, batch_size=2)[0]["x"].shape == (2, 4)
    assert random_inputs(metadata, {}, {"x": [3, 4]})[0]["x"].shape == (3, 4)  # no max_batch_size: it is 0


def test_a_dynamic_dimension_needs_a_size_and_the_error_says_how():
    described = model(("image", "FP32", [3, -1, -1]))
    with pytest.raises(DataError, match=r"input image FP32 .*--shape image:3,8,8"):
        random_inputs(*described)


@pytest.mark.parametrize("sizes", [[3], [3, 4, 5, 6], [4, 5, 5], [3, 0, 5]])
def test_a_shape_has_to_fit(sizes):
    with pytest.raises(DataError, match="does not fit input image"):
        random_inputs(*model(("image", "FP32", [3, -1, -1])), {"image": sizes})


def test_a_shape_for_an_unknown_input_names_those_that_exist():
    with pytest.raises(DataError, match="did you mean 'image'"):
        random_inputs(*model(("image", "FP32", [3])), {"imag": [3]})


def test_optional_inputs_are_left_out_unless_a_shape_names_them():
    described = model(("x", "FP32", [2]), ("mask", "FP32", [2]), optional=("mask",))
    assert list(random_inputs(*described)[0]) == ["x"]
    assert list(random_inputs(*described, {"mask": [2]})[0]) == ["x", "mask"]


@pytest.mark.parametrize(("most", "asked"), [(8, 9), (0, 2), (8, 0)])
def test_a_batch_the_model_does_not_take(most, asked):
    with pytest.raises(ProjectError, match=f"batch size {asked}"):
        random_inputs(*model(("x", "FP32", [2]), max_batch_size=most), batch_size=asked)


def test_samples_become_batches_in_their_order_and_the_last_one_is_filled_up():
    samples = {"x": np.arange(10, dtype=np.float32).reshape(5, 2)}
    requests = batches(samples, *model(("x", "FP32", [2])), batch_size=2)
    assert [request["x"][:, 0].tolist() for request in requests] == [[0, 2], [4, 6], [8, 0]]


def test_fewer_samples_than_a_batch_are_repeated():
    samples = {"x": np.arange(2, dtype=np.float32).reshape(2, 1)}
    (request,) = batches(samples, *model(("x", "FP32", [1])), batch_size=5)
    assert request["x"].ravel().tolist() == [0, 1, 0, 1, 0]


def test_samples_of_a_model_without_a_batch_dimension_are_sent_one_by_one():
    described = model(("x", "FP32", [2]), max_batch_size=0)
    requests = batches({"x": np.arange(6, dtype=np.float32).reshape(3, 2)}, *described, batch_size=1)
    assert [request["x"].tolist() for request in requests] == [[0, 1], [2, 3], [4, 5]]


def test_samples_of_a_model_whose_own_first_axis_is_the_batch_keep_it():
    described = model(("x", "FP32", [-1, 2]), max_batch_size=0)
    requests = batches({"x": np.arange(4, dtype=np.float32).reshape(2, 2)}, *described, batch_size=1)
    assert [request["x"].tolist() for request in requests] == [[[0, 1]], [[2, 3]]]


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ({}, "no data for input x"),
        ({"x": np.zeros((3, 2)), "z": np.zeros((3, 2))}, "'z', which is no input"),
        ({"x": np.zeros((3, 5), np.float32), "y": np.zeros((3, 1), np.int32)}, "shape"),
        ({"x": np.zeros((3, 2), np.float32), "y": np.zeros((4, 1), np.int32)}, "equal, non-zero number"),
        ({"x": np.zeros((0, 2), np.float32), "y": np.zeros((0, 1), np.int32)}, "equal, non-zero number"),
        ({"x": np.zeros((3, 2), np.float32), "y": np.zeros((3, 1), np.float32)}, "INT32 is needed"),
    ],
)
def test_samples_that_do_not_fit(samples, words):
    with pytest.raises(DataError, match=words):
        batches(samples, *model(("x", "FP32", [2]), ("y", "INT32", [1])), batch_size=1)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"x": np.zeros((1, 2))}, "axis 0 must be 4"),
        ({"x": np.zeros((4, 3))}, "shape"),
        ({"y": np.zeros((4, 2))}, "'y', which is no input"),
        ({}, "no data for input x"),
    ],
)
def test_a_request_that_does_not_fit(request_, words):
    with pytest.raises(DataError, match=words):
        checked([request_], *model(("x", "FP32", [2])), 4)


def test_no_request_at_all_is_an_error():
    with pytest.raises(DataError, match="at least one"):
        checked([], *model(("x", "FP32", [2])), 1)


def test_a_request_is_converted_to_the_models_types():
    (request,) = checked(
        [{"x": [[1.0, 2.0]], "t": np.array([["é"]])}], *model(("x", "FP16", [2]), ("t", "BYTES", [1])), 1
    )
    assert request["x"].dtype == np.float16
    assert request["t"].tolist() == [["é".encode()]]


def test_tensor_bytes_are_those_of_tritonclient():
    from tritonclient.utils import serialize_byte_tensor

    texts = np.array([[b"a", b""], [b"\x00\xff", b"long" * 100]], dtype=object)
    assert tensor_bytes(texts) == serialize_byte_tensor(texts).item()
    numbers = np.arange(6, dtype=np.int16).reshape(2, 3)
    assert tensor_bytes(numbers.T) == b"\x00\x00\x03\x00\x01\x00\x04\x00\x02\x00\x05\x00"
    assert tensor_bytes(numbers.astype(">i2")) == tensor_bytes(numbers)


ARRAYS = {"x": np.zeros((1, 2), np.float32), "t": np.array([[b"abc"]], dtype=object)}
TYPES = {"x": "FP32", "t": "BYTES"}


@pytest.mark.parametrize("outputs", [None, ["y"]])
def test_http_requests_are_those_of_the_binary_tensor_extension(outputs):
    wire = http_request(Address("h", 1), "a b", "3", TYPES, ARRAYS, outputs)
    head, _, body = wire.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ") for line in lines[1:])
    assert lines[0] == "POST /v2/models/a%20b/versions/3/infer HTTP/1.1"
    assert int(headers["Content-Length"]) == len(body)
    size = int(headers["Inference-Header-Content-Length"])
    assert body[size:] == bytes(8) + b"\x03\x00\x00\x00abc"
    question = json.loads(body[:size])
    assert question["inputs"] == [
        {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}},
        {"name": "t", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": 7}},
    ]
    if outputs:
        assert question["outputs"] == [{"name": "y", "parameters": {"binary_data": True}}]
    else:
        assert question["parameters"] == {"binary_data_output": True}


def test_grpc_requests_are_serialised_model_infer_requests():
    from tritonclient.grpc import service_pb2

    message = service_pb2.ModelInferRequest.FromString(grpc_request("m", "3", TYPES, ARRAYS, ["y"]))
    assert (message.model_name, message.model_version) == ("m", "3")
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in message.inputs] == [
        ("x", "FP32", [1, 2]),
        ("t", "BYTES", [1, 1]),
    ]
    assert list(message.raw_input_contents) == [bytes(8), b"\x03\x00\x00\x00abc"]
    assert [output.name for output in message.outputs] == ["y"]
