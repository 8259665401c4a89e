# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""From what the user asks for to the requests of a load: levels, addresses, shapes, random and unique payloads."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtkit.errors import DataError, ProjectError
from trtkit.perf import batches
from trtkit.perf.data.generated import Values, parse_range, random_pool, zero_pool
from trtkit.perf.data.pool import Pool, Request, in_order, joined, one_stream
from trtkit.perf.data.shapes import Axis, ShapeRule, Shapes, parse_shape_rule
from trtkit.perf.data.unique import distinct, fitting, is_cached, uniquely
from trtkit.perf.data.workload import checked
from trtkit.perf.load_levels import parse_levels
from trtkit.perf.server.address import Address, parse_address
from trtkit.perf.server.control import ModelDescription


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
    assert list(parse_levels(text, "concurrency", whole=True)) == levels


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1.5", "x", "1,,2", "0:4", "4:1", "1:8:0", "1:8:*1", "1:8:*", "1:2:3:4", "٣", "²"]
)
def test_levels_that_make_no_sense_name_what_was_given(text):
    with pytest.raises(ProjectError, match="concurrency '"):
        parse_levels(text, "concurrency", whole=True)


@given(st.integers(1, 500), st.integers(0, 500), st.integers(1, 50))
def test_a_range_of_levels_is_pythons_with_its_end(start, length, step):
    levels = list(parse_levels(f"{start}:{start + length}:{step}", "concurrency", whole=True))
    assert levels == list(range(start, start + length + 1, step))


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


def random_inputs(metadata, config, shapes=None, batch_size=1, count=8, seed=0, integers=None, string_length=16):
    """The inputs of a random pool; `shapes` are sizes, `integers` a range for all inputs."""
    names = [tensor["name"] for tensor in metadata["inputs"]]
    values = Values(dict.fromkeys(names, integers) if integers else {}, string_length)
    made = random_pool(
        ModelDescription(metadata, config), batch_size=batch_size, shapes=Shapes.fixed(shapes or {}), values=values,
        count=count, seed=seed,
    )  # fmt: skip
    return [request.inputs for request in made.requests]


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


def described(*inputs, **more):
    return ModelDescription(*model(*inputs, **more))


sizes = st.integers(1, 10**6)
axes = st.one_of(
    st.builds(lambda size: Axis((size,)), sizes),
    st.builds(lambda low, more: Axis((low, low + more), is_range=True), sizes, st.integers(0, 1000)),
    st.builds(lambda row: Axis(tuple(row)), st.lists(sizes, min_size=2, max_size=4)),
    st.builds(lambda mean, deviation: Axis(normal=(mean, deviation)), st.integers(0, 999), st.integers(0, 99)),
)
names = st.lists(st.sampled_from(["ids", "mask", "layer:0", "a b"]), min_size=1, max_size=3, unique=True)


@given(names, st.lists(axes, min_size=1, max_size=4))
def test_a_shape_says_what_it_was_read_from(listed, row):
    rule = ShapeRule(tuple(listed), tuple(row))
    assert parse_shape_rule(str(rule)) == rule


@given(axes, st.integers(0, 9))
def test_sizes_are_drawn_from_what_was_asked(axis, seed):
    draw = axis.draw(np.random.default_rng(seed))
    assert draw >= 1
    if axis.is_range:
        assert axis.sizes[0] <= draw <= axis.sizes[1]
    elif axis.normal is None:
        assert draw in axis.sizes


@given(st.text(alphabet="ids:,.|()0123456789choicenrmal -", max_size=30))
def test_any_text_is_a_shape_or_a_sentence(text):
    try:
        rule = parse_shape_rule(text)
    except DataError:
        pass
    else:
        assert rule.names
        assert all(axis.draw(np.random.default_rng(0)) >= 1 for axis in rule.axes)


@pytest.mark.parametrize(
    "text",
    ["ids", "ids:", ":8", "ids:8,", "ids:0", "ids:16..8", "ids:0..8", "ids:choice()", "ids:choice(8|)",
     "ids:choice(0|8)", "ids:normal(8)", "ids:normal(-8,1)", "ids,ids:8", "ids,:8", "ids:8..", "ids:²",
     "ids:normal(8,1"],
)  # fmt: skip
def test_shapes_that_are_not_understood(text):
    with pytest.raises(DataError, match="^shape '"):
        parse_shape_rule(text)


def test_a_normal_distribution_has_its_mean_and_deviation():
    axis = parse_shape_rule("ids:normal(64,16)").axes[0]
    rng = np.random.default_rng(0)
    drawn = [axis.draw(rng) for _ in range(4000)]
    assert abs(np.mean(drawn) - 64) < 1.5
    assert abs(np.std(drawn) - 16) < 1.5


IDS = described(("ids", "INT64", [-1]), ("mask", "INT64", [-1]), ("image", "FP32", [3, -1, 4]))


def test_inputs_that_are_named_together_are_drawn_together():
    pool = random_pool(IDS, shapes=Shapes.parse(["ids,mask:4..64", "image:5"]), count=50)
    lengths = [request.inputs["ids"].shape[1] for request in pool.requests]
    assert lengths == [request.inputs["mask"].shape[1] for request in pool.requests]
    assert len(set(lengths)) > 20
    assert {request.inputs["image"].shape for request in pool.requests} == {(1, 3, 5, 4)}
    apart = random_pool(IDS, shapes=Shapes.parse(["ids:4..64", "mask:4..64", "image:3,5,4"]), count=50)
    assert any(request.inputs["ids"].shape != request.inputs["mask"].shape for request in apart.requests)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["ids:8", "ids:9"], "two shapes are given for input 'ids'"),
        (["ids,mask:8", "imag:8"], "'imag', which is no input"),
        (["ids,mask:8"], "input image FP32 .*--shape image:3,8,4"),
        (["ids,mask:8", "image:3,5"], "does not fit input image"),
        (["ids,mask,image:2,2"], "does not fit input ids"),
    ],
)
def test_shapes_that_do_not_fit_the_model(texts, words):
    with pytest.raises(DataError, match=words):
        random_pool(IDS, shapes=Shapes.parse(texts))


def test_the_same_seed_gives_the_same_pool():
    make = partial(random_pool, IDS, shapes=Shapes.parse(["ids,mask:choice(3|5)", "image:2"]), count=5)
    one, same, other = make(seed=1), make(seed=1), make(seed=2)
    assert [r.inputs["image"].tobytes() for r in one.requests] == [r.inputs["image"].tobytes() for r in same.requests]
    assert one.requests[0].inputs["image"].tobytes() != other.requests[0].inputs["image"].tobytes()


def test_a_pool_is_many_requests_but_no_gigabytes():
    assert len(random_pool(described(("x", "FP32", [4])))) == 64
    assert len(random_pool(described(("x", "UINT8", [16 * 2**20])))) == 16
    with pytest.raises(ProjectError, match="batch size 9"):
        random_pool(described(("x", "FP32", [4])), batch_size=9)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_whole_numbers_stay_in_their_range(one, other):
    low, high = min(one, other), max(one, other)
    name, bounds = parse_range(f"a:b:{low},{high}")
    assert (name, bounds) == ("a:b", (low, high))
    array = random_pool(described(("x", "INT64", [20])), values=Values({"x": bounds}), count=1).requests[0].inputs["x"]
    assert array.dtype == np.int64
    assert low <= int(array.min()) <= int(array.max()) <= high


def test_floats_are_uniform_in_their_range():
    made = random_pool(described(("x", "FP16", [1000])), values=Values({"x": parse_range("x:-1,0.5")[1]}), count=1)
    array = made.requests[0].inputs["x"]
    assert array.dtype == np.float16
    assert -1 <= array.min() < -0.9
    assert 0.4 < array.max() <= 0.5


@pytest.mark.parametrize(
    "text", ["x", "x:", "x:1", "x:2,1", ":1,2", "x:a,b", "x:1,2,3", "x:nan,1", "x:1,inf", "x:1.1.1,2"]
)
def test_ranges_that_are_not_understood(text):
    with pytest.raises(DataError, match="NAME:LOW,HIGH"):
        parse_range(text)


@pytest.mark.parametrize(
    ("ranges", "words"),
    [
        ({"y": (0, 1)}, "'y', which is no input"),
        ({"t": (0, 1)}, "only numbers"),
        ({"u": (0, 256)}, "whole numbers of UINT8"),
        ({"u": (0, 1.5)}, "whole numbers of UINT8"),
        ({"h": (0, 1e6)}, "outside FP16"),
    ],
)
def test_ranges_that_do_not_fit(ranges, words):
    kinds = described(("u", "UINT8", [2]), ("t", "BYTES", [1]), ("h", "FP16", [8]))
    with pytest.raises(DataError, match=words):
        random_pool(kinds, values=Values(ranges))


def test_a_range_asks_for_an_optional_input():
    both = described(("x", "FP32", [2]), ("k", "INT32", [1]), optional=("k",))
    assert list(random_pool(both).requests[0].inputs) == ["x"]
    assert list(random_pool(both, values=Values({"k": (3, 3)})).requests[0].inputs) == ["x", "k"]


def test_texts_have_their_length_or_are_the_given_one():
    texts = described(("t", "BYTES", [2]))
    assert {
        len(text) for text in random_pool(texts, values=Values(string_length=128)).requests[0].inputs["t"].flat
    } == {128}
    assert set(random_pool(texts, values=Values(string_length=0)).requests[0].inputs["t"].flat) == {b""}
    assert set(random_pool(texts, values=Values(string=b"hello")).requests[3].inputs["t"].flat) == {b"hello"}


def test_zeros_of_every_type():
    every = described(*[(kind.lower(), kind, [2]) for kind in ("BOOL", "UINT64", "FP16", "BF16", "FP64", "BYTES")])
    (request,) = zero_pool(every, batch_size=3).requests
    for name, array in request.inputs.items():
        assert array.shape == (3, 2)
        assert not any(array.ravel().tolist()), name
    shapes = {
        request.inputs["ids"].shape
        for request in zero_pool(IDS, shapes=Shapes.parse(["ids,mask:1..9", "image:2"])).requests
    }
    assert len(shapes) > 1


def test_a_pool_is_aimed_at_a_version_and_keeps_each_requests_own_parameters():
    request = Request("m", "", {"x": np.zeros((1, 2))}, parameters={"k": 1})
    aimed = one_stream([request], "here").aimed(version="3", outputs=["y"], parameters={"k": 5, "j": "a"})
    assert (aimed.requests[0].version, aimed.requests[0].outputs) == ("3", ("y",))
    assert aimed.requests[0].parameters == {"k": 1, "j": "a"}
    assert aimed.byte_size == 16


def test_pools_follow_each_other():
    row = [Request("m", "", {"x": np.full((1, 1), n)}) for n in range(5)]
    flat = joined([one_stream(row[:2], "a"), one_stream(row[2:], "b")])
    assert (flat.streams, flat.origin) == (((0, 1, 2, 3, 4),), "a, b")
    streams = joined([Pool(tuple(row[:3]), ((0,), (1, 2)), "a"), one_stream(row[3:], "b")])
    assert streams.streams == ((0,), (1, 2), (3, 4))
    again = in_order(flat, [4, 4, 0])
    assert [request.inputs["x"].item() for request in again.requests] == [4, 4, 0]
    assert distinct(uniquely(again, 3, {"x": "FP64"})) == 3
    with pytest.raises(DataError, match="at least one"):
        one_stream([], "nothing")


KINDS = {"x": "FP32", "h": "FP16", "b": "BF16", "d": "FP64", "t": "BYTES", "i": "INT64", "u": "UINT8", "l": "BOOL"}
kinds = st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=3, unique=True)


@given(kinds, st.booleans(), st.integers(1, 300), st.integers(1, 3), st.integers(0, 50))
def test_unique_requests_differ_whatever_they_are_made_of(names, zeros, count, base, offset):
    shapes = {"x": [2, 3], "h": [7], "b": [9], "d": [1], "t": [2], "i": [3], "u": [2], "l": [12]}
    which = described(*[(name, KINDS[name], shapes[name]) for name in names])
    ranges = {name: bounds for name, bounds in {"i": (5, 500), "u": (0, 255)}.items() if name in names}
    pool = zero_pool(which) if zeros else random_pool(which, count=base, values=Values(ranges))
    try:
        made = uniquely(pool, count, KINDS, offset=offset)
    except DataError:  # no floats and no texts, and too few different numbers
        assert not set(names) & set("xhbdt")
        return
    assert len(made) >= count
    assert distinct(made) == len(made)
    for number, request in enumerate(made.requests):
        for name, array in request.inputs.items():
            before = pool.requests[number % len(pool)].inputs[name]
            assert (array.dtype, array.shape) == (before.dtype, before.shape)
            if name in "xhd":
                assert np.isfinite(array).all()
                assert (np.abs(array.astype("f8") - before) <= np.abs(before.astype("f8")) * 2**-4 + 2**-13).all()
            if name == "t":
                assert all(after.startswith(text) for after, text in zip(array.flat, before.flat, strict=True))
                assert [text.rstrip() for text in array.flat] == list(before.flat)
            if name in "iul":
                values = np.concatenate([r.inputs[name].ravel() for r in pool.requests])
                assert values.min() <= array.min() <= array.max() <= values.max()


def test_two_processes_make_other_requests():
    pool = zero_pool(described(("x", "FP32", [4])))
    parts = [uniquely(pool, 100, KINDS, offset=100 * share).requests for share in range(3)]
    assert distinct(one_stream([request for part in parts for request in part], "all")) == 300


def test_a_pool_that_is_unique_already_is_taken_as_it_is():
    pool = random_pool(described(("x", "FP32", [4])), count=20)
    assert uniquely(pool, 20, KINDS) is pool
    made = uniquely(pool, 21, KINDS)
    assert len(made) == 21
    assert "made different" in made.origin


def test_infinite_values_stay_numbers():
    request = Request(
        "m", "", {"x": np.array([[-np.inf, np.inf, 0, 1]], np.float32), "b": np.full((1, 3), 0xFF80, np.uint16)}
    )
    for name in ("x", "b"):
        pool = one_stream([Request("m", "", {name: request.inputs[name]})], "x")
        for made in uniquely(pool, 20, KINDS).requests:
            array = made.inputs[name]
            assert np.isfinite(array if name == "x" else (array.astype(np.uint32) << 16).view(np.float32)).all()


def test_too_many_requests_for_memory_or_for_the_inputs():
    pool = zero_pool(described(("x", "FP32", [2**18])))
    assert fitting(pool, 2**25) == 32
    with pytest.raises(DataError, match="32 fit in 0.0312"):
        uniquely(pool, 33, KINDS, limit_bytes=2**25)
    with pytest.raises(DataError, match="model 'm'.*room for 1;"):
        uniquely(zero_pool(described(("i", "INT64", [9]))), 2, KINDS)


def test_sequences_stay_together_when_they_are_made_unique():
    row = tuple(Request("m", "", {"x": np.full((1, 4), n, np.float32)}) for n in range(3))
    made = uniquely(Pool(row, ((0, 1), (2,)), "s"), 7, KINDS)
    assert made.streams == ((0, 1), (2,), (3, 4), (5,), (6,))
    assert [math.floor(r.inputs["x"].max()) for r in made.requests] == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize(
    ("config", "cached"),
    [({}, False), ({"response_cache": {}}, False), ({"response_cache": {"enable": True}}, True)],
)
def test_whether_the_server_may_answer_from_its_cache(config, cached):
    assert is_cached(config) is cached
