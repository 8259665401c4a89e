# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Data from files and folders: perf_analyzer's formats, arrays, images, texts, the project's samples."""

from __future__ import annotations

import base64
import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from trtkit.dtypes import by_name
from trtkit.errors import DataError, ProjectError
from trtkit.perf.data import folders
from trtkit.perf.data.datasets import DataOptions, array_pool, make_pool, project_pool, trace_pool
from trtkit.perf.data.folders import image_pool, raw_pool, text_pool
from trtkit.perf.data.input_data import input_data_pool
from trtkit.perf.data.pool import one_stream
from trtkit.perf.data.shapes import Shapes
from trtkit.perf.data.tensor_values import from_raw, tensor
from trtkit.perf.data.trace import read_trace
from trtkit.perf.server.control import ModelDescription
from trtkit.project import load_project
from trtkit.signature import TensorSpec


def described(*inputs, outputs=(), max_batch_size=8, optional=(), sequence=False):
    """What a server says; tensors are (name, datatype, dims without the batch)."""
    batch = [-1] if max_batch_size else []

    def rows(tensors):
        return [{"name": name, "datatype": kind, "shape": [*batch, *dims]} for name, kind, dims in tensors]

    config = {
        "max_batch_size": max_batch_size,
        "input": [{"name": name, "optional": name in optional} for name, _, _ in inputs],
    }
    return ModelDescription(
        {"name": "m", "inputs": rows(inputs), "outputs": rows(outputs)},
        {**config, "sequence_batching": {}} if sequence else config,
    )


def write(folder, value, name="data.json"):
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


SQUARE = described(("INPUT0", "INT32", [2, 2]), ("INPUT1", "INT32", [2, 2]), outputs=[("OUTPUT0", "INT32", [2, 2])])


def steps(count):
    return [{"INPUT0": [n, 1, 2, 3], "INPUT1": [[n, n], [n, n]]} for n in range(count)]


def first_values(pool):
    return [request.inputs["INPUT0"][:, 0, 0].tolist() for request in pool.requests]


def test_steps_are_samples_in_row_major_order(tmp_path):
    pool = input_data_pool([write(tmp_path, {"data": steps(3)})], SQUARE)
    assert [request.inputs["INPUT0"].tolist() for request in pool.requests] == [[[[n, 1], [2, 3]]] for n in range(3)]
    assert pool.requests[2].inputs["INPUT1"].dtype == np.int32
    assert pool.streams == ((0, 1, 2),)
    assert pool.requests[0].expected is None


@pytest.mark.parametrize(
    ("batch", "rows"),
    [
        (2, [[0, 1], [2, 3], [4, 0], [1, 2], [3, 4]]),
        (5, [[0, 1, 2, 3, 4]]),
        (8, [[0, 1, 2, 3, 4, 0, 1, 2], [3, 4, 0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 1, 2, 3],
             [4, 0, 1, 2, 3, 4, 0, 1], [2, 3, 4, 0, 1, 2, 3, 4]]),
    ],
)  # fmt: skip
def test_a_batch_takes_the_next_steps_round_and_round(tmp_path, batch, rows):
    path = write(tmp_path, {"data": steps(5)})
    assert first_values(input_data_pool([path], SQUARE, batch_size=batch)) == rows


def test_several_files_follow_each_other(tmp_path):
    files = [write(tmp_path, {"data": steps(2)}, "a.json"), write(tmp_path, {"data": steps(3)}, "b.json")]
    pool = input_data_pool(files, SQUARE)
    assert first_values(pool) == [[0], [1], [0], [1], [2]]
    assert pool.streams == ((0, 1, 2, 3, 4),)


def test_a_batch_goes_from_one_file_to_the_next(tmp_path):
    files = [write(tmp_path, {"data": steps(2)}, "a.json"), write(tmp_path, {"data": steps(1)}, "b.json")]
    assert first_values(input_data_pool(files, SQUARE, batch_size=2)) == [[0, 1], [0, 0], [1, 0]]
    both = make_pool(list(map(str, files)), SQUARE, DataOptions(batch_size=2))
    assert first_values(both) == [[0, 1], [0, 0], [1, 0]]
    assert len(make_pool([*map(str, files), "zero", str(files[0])], SQUARE)) == 6


def test_streams_of_several_files_stay_streams(tmp_path):
    files = [write(tmp_path, {"data": [steps(2)]}, "a.json"), write(tmp_path, {"data": [steps(1)]}, "b.json")]
    sequence = SQUARE._replace(config={**SQUARE.config, "sequence_batching": {}})
    assert input_data_pool(files, sequence).streams == ((0, 1), (2,))
    files.append(write(tmp_path, {"data": steps(1)}, "c.json"))
    with pytest.raises(DataError, match="cannot be joined: one has steps, the other streams"):
        input_data_pool(files, sequence)


def test_streams_are_the_sequences_of_a_model_that_has_them(tmp_path):
    value = {"data": [[{"INPUT": ["1"]}, {"INPUT": ["2"]}], [{"INPUT": ["3"]}], [{"INPUT": ["é"]}]]}
    path = write(tmp_path, value)
    sequences = input_data_pool([path], described(("INPUT", "BYTES", [1]), sequence=True))
    assert sequences.streams == ((0, 1), (2,), (3,))
    assert [r.inputs["INPUT"].tolist() for r in sequences.requests] == [[[b"1"]], [[b"2"]], [[b"3"]], [["é".encode()]]]
    assert input_data_pool([path], described(("INPUT", "BYTES", [1]))).streams == ((0, 1, 2, 3),)


def test_every_step_of_a_sequence_begins_a_batch(tmp_path):
    sequence = SQUARE._replace(config={**SQUARE.config, "sequence_batching": {}})
    pool = input_data_pool([write(tmp_path, {"data": [steps(3)]})], sequence, batch_size=2)
    assert first_values(pool) == [[0, 1], [1, 2], [2, 0]]


DYNAMIC = described(("INPUT", "INT32", [-1, -1]))


def test_shapes_come_from_the_step_or_the_command_line(tmp_path):
    sixteen = list(range(16))
    raw = {"b64": base64.b64encode(np.arange(16, dtype="<i4").tobytes()).decode()}
    value = {"data": [
        {"INPUT": {"content": sixteen, "shape": [2, 8]}},
        {"INPUT": {"content": raw, "shape": [8, 2]}},
        {"INPUT": {"content": sixteen}},
        {"INPUT": raw},
        {"INPUT": [[1, 2, 3]]},
    ]}  # fmt: skip
    path = write(tmp_path, value)
    with pytest.raises(DataError, match=r"data\[2\]\.INPUT: INPUT INT32 .*dynamic dimensions"):
        input_data_pool([path], DYNAMIC)
    value["data"].pop()
    pool = input_data_pool([write(tmp_path, value)], DYNAMIC, shapes=Shapes.parse(["INPUT:4,4"]))
    assert [request.inputs["INPUT"].shape[1:] for request in pool.requests] == [(2, 8), (8, 2), (4, 4), (4, 4)]
    assert all(request.inputs["INPUT"].ravel().tolist() == sixteen for request in pool.requests)


def test_nested_lists_have_their_own_shape(tmp_path):
    path = write(tmp_path, {"data": [{"INPUT": [[1, 2, 3, 4], [5, 6, 7, 8]]}]})
    (request,) = input_data_pool([path], DYNAMIC, shapes=Shapes.parse(["INPUT:4,2"])).requests
    assert request.inputs["INPUT"].tolist() == [[[1, 2, 3, 4], [5, 6, 7, 8]]]


def test_one_dynamic_axis_follows_from_the_number_of_values(tmp_path):
    pool = input_data_pool([write(tmp_path, {"data": [{"x": [1, 2, 3, 4, 5, 6]}, {"x": [1, 2, 3]}]})],
                           described(("x", "FP32", [3, -1])))  # fmt: skip
    assert [request.inputs["x"].shape for request in pool.requests] == [(1, 3, 2), (1, 3, 1)]


def test_a_model_without_a_batch_axis_gets_the_tensors_as_they_are(tmp_path):
    plain = described(("x", "FP16", [2]), max_batch_size=0)
    (request,) = input_data_pool([write(tmp_path, {"data": [{"x": [1, 2.5]}]})], plain).requests
    assert request.inputs["x"].tolist() == [1.0, 2.5]
    with pytest.raises(ProjectError, match="batch size 2"):
        input_data_pool([tmp_path / "data.json"], plain, batch_size=2)


def test_validation_data_are_the_expected_answers(tmp_path):
    value = {"data": steps(2), "validation_data": [{"OUTPUT0": [n, n, n, n]} for n in range(2)]}
    (pool,) = [input_data_pool([write(tmp_path, value)], SQUARE, batch_size=2)]
    assert pool.requests[0].expected["OUTPUT0"][:, 0, 0].tolist() == [0, 1]
    assert pool.requests[0].expected["OUTPUT0"].dtype == np.int32


def test_optional_inputs_parameters_and_the_models_name(tmp_path):
    both = described(("x", "FP32", [1]), ("k", "INT32", [1]), optional=("k",))
    value = {"data": [{"x": [1], "parameters": {"max_tokens": 5, "on": True}, "model": "m"}, {"x": [1], "k": [3]}]}
    first, second = input_data_pool([write(tmp_path, value)], both).requests
    assert (first.parameters, list(first.inputs)) == ({"max_tokens": 5, "on": True}, ["x"])
    assert list(second.inputs) == ["x", "k"]
    with pytest.raises(DataError, match=r"data\[0\] and .*data\[1\] cannot be in one batch: they have other tensors"):
        input_data_pool([tmp_path / "data.json"], both, batch_size=2)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ([], 'expected {"data"'),
        ({"data": []}, "at least one step"),
        ({"data": [[]]}, "at least one step"),
        ({"data": [1]}, "at least one step"),
        ({"data": [{}, []]}, "mixes steps and streams"),
        ({"data": [{"INPUT0": [1, 2, 3, 4]}]}, r"data\[0\]: no data for input INPUT1"),
        ({"data": [{**steps(1)[0], "INPUT2": [1]}]}, "no tensor 'INPUT2'; did you mean"),
        ({"data": [{**steps(1)[0], "INPUT0": [1, 2, 3]}]}, r"INPUT0: 3 values for the shape \[2, 2\], which has 4"),
        ({"data": [{**steps(1)[0], "INPUT0": [1, 2, 3, 4.5]}]}, "INT32 is needed"),
        ({"data": [{**steps(1)[0], "INPUT0": [1, 2, 3, 2**40]}]}, "outside INT32"),
        ({"data": [{**steps(1)[0], "INPUT0": ["1", "2", "3", "4"]}]}, "have '1'; INT32 is needed"),
        ({"data": [{**steps(1)[0], "INPUT0": [None, 2, 3, 4]}]}, "INT32 is needed"),
        ({"data": [{**steps(1)[0], "INPUT0": [[1, 2], [3]]}]}, "ragged"),
        ({"data": [{**steps(1)[0], "INPUT0": 5}]}, "expected a list of values"),
        ({"data": [{**steps(1)[0], "INPUT0": {"shape": [2, 2]}}]}, "expected a list of values"),
        ({"data": [{**steps(1)[0], "INPUT0": {"b64": 5}}]}, "expected a list of values"),
        ({"data": [{**steps(1)[0], "INPUT0": {"b64": "#"}}]}, "no base64"),
        ({"data": [{**steps(1)[0], "INPUT0": {"b64": "AAAAAA=="}}]}, "1 values for the shape"),
        ({"data": [{**steps(1)[0], "INPUT0": {"b64": "AAAA"}}]}, "3 bytes are no whole number of INT32"),
        ({"data": [{**steps(1)[0], "INPUT0": {"content": [1, 2, 3, 4], "shape": [4]}}]}, "does not fit input INPUT0"),
        ({"data": [{**steps(1)[0], "INPUT0": {"content": [1], "shape": [1, True]}}]}, "whole numbers of 1 or more"),
        ({"data": [{**steps(1)[0], "INPUT0": {"content": [1], "shape": 1}}]}, "whole numbers of 1 or more"),
        ({"data": [{**steps(1)[0], "parameters": [1]}]}, "parameters need an object"),
        ({"data": [{**steps(1)[0], "parameters": {"a": None}}]}, "parameters need an object"),
        ({"data": [{**steps(1)[0], "model": "other"}]}, "is for the model 'other'; the model is 'm'"),
        ({"data": steps(2), "validation_data": steps(1)}, "one for one"),
        ({"data": steps(1), "validation_data": {}}, "one for one"),
        ({"data": steps(1), "validation_data": [{"OUTPUT1": [1]}]}, "did you mean 'OUTPUT0'"),
        ({"data": steps(1), "validation_data": [{"OUTPUT0": [1]}]}, "in validation_data, OUTPUT0: 1 values"),
    ],
)
def test_files_that_do_not_fit_say_where(tmp_path, value, words):
    with pytest.raises(DataError, match=words) as caught:
        input_data_pool([write(tmp_path, value)], SQUARE)
    assert "\n" not in str(caught.value)


def test_other_shapes_cannot_be_in_one_batch(tmp_path):
    path = write(tmp_path, {"data": [{"x": [1, 2]}, {"x": [1, 2, 3]}]})
    assert len(input_data_pool([path], described(("x", "FP32", [-1])))) == 2
    with pytest.raises(DataError, match=r"'x' has the shapes \[2\] and \[3\]; use batch size 1"):
        input_data_pool([path], described(("x", "FP32", [-1])), batch_size=2)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="cannot be read as JSON: .*No such file"):
        input_data_pool([tmp_path / "none.json"], SQUARE)


NUMBERS = {"BOOL", "UINT8", "INT16", "UINT32", "INT64", "UINT64", "FP16", "FP32", "FP64"}
shapes = arrays.array_shapes(min_dims=1, max_dims=3, max_side=4)


@given(st.data(), st.sampled_from(sorted(NUMBERS)), shapes)
def test_numbers_survive_every_way_of_writing_them(data, kind, shape):
    dtype = by_name(kind)
    array = data.draw(arrays.arrays(dtype.numpy, shape))
    spec = TensorSpec("x", dtype, ("", *[""] * len(shape)))
    raw = base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()
    sizes = list(shape)
    for given_ in (
        {"content": array.ravel().tolist(), "shape": sizes},
        {"content": array.tolist(), "shape": sizes},
        {"content": {"b64": raw}, "shape": sizes},
        {"b64": raw, "shape": sizes},
        array.tolist(),
    ):
        read = tensor("here", json.loads(json.dumps(given_)), spec, 1)
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)


@given(st.lists(st.binary(max_size=9), max_size=9))
def test_texts_survive_base64(texts):
    raw = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    assert from_raw("here", raw, TensorSpec("t", by_name("BYTES"), ("",))).tolist() == texts


@given(st.binary(min_size=1, max_size=20), st.integers(1, 2**32 - 1))
def test_texts_without_their_lengths_are_refused(text, more):
    with pytest.raises(DataError, match="four bytes of length"):
        from_raw(
            "here", struct.pack("<I", min(len(text) + more, 2**32 - 1)) + text, TensorSpec("t", by_name("BYTES"), ("",))
        )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["x", "content", "shape", "b64", "parameters", "data"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_json_is_a_tensor_or_a_sentence(value):
    for kind in ("FP32", "INT8", "BYTES", "BOOL", "BF16"):
        try:
            read = tensor("here", value, TensorSpec("x", by_name(kind), ("", 2, "")), 1)
        except DataError:
            continue
        assert read.ndim == 2


# arrays


def test_rows_of_an_npz_file_with_their_expected_answers(tmp_path):
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.savez(tmp_path / "d.npz", x=rows, y=rows * 2, labels=[1, 2, 3])
    pool = array_pool(tmp_path / "d.npz", described(("x", "FP32", [2]), outputs=[("y", "FP32", [2])]), batch_size=2)
    assert [request.inputs["x"][:, 0].tolist() for request in pool.requests] == [[0, 2], [4, 0]]
    assert [request.expected["y"][:, 0].tolist() for request in pool.requests] == [[0, 4], [8, 0]]


def test_rows_of_an_npy_file(tmp_path):
    np.save(tmp_path / "d.npy", np.arange(3, dtype=np.int64))
    pool = make_pool([str(tmp_path / "d.npy")], described(("x", "INT64", [1])))
    assert [request.inputs["x"].tolist() for request in pool.requests] == [[[0]], [[1]], [[2]]]
    with pytest.raises(DataError, match="is one array; the model has x .*, y"):
        array_pool(tmp_path / "d.npy", described(("x", "INT64", [1]), ("y", "INT64", [1])))
    (tmp_path / "bad.npy").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"cannot be read as \.npy"):
        array_pool(tmp_path / "bad.npy", described(("x", "INT64", [1])))


def test_an_input_called_labels_and_wrong_answers(tmp_path):
    np.savez(tmp_path / "d.npz", labels=np.zeros((2, 1), np.float32), y=np.zeros((3, 1), np.float32))
    both = described(("labels", "FP32", [1]), outputs=[("y", "FP32", [1])])
    with pytest.raises(DataError, match=r"expected output 'y' has the shape \[3, 1\]; there are 2 samples"):
        array_pool(tmp_path / "d.npz", both)


# folders


def picture(path, size=(6, 4), color=(255, 0, 10)):
    Image.new("RGB", size, color).save(path)


def test_images_are_decoded_to_the_inputs_layout_and_type(tmp_path):
    picture(tmp_path / "b.png")
    picture(tmp_path / "a.png", (3, 2))
    pool = make_pool([str(tmp_path)], described(("image", "FP32", [3, 8, 8])))
    assert [request.inputs["image"].shape for request in pool.requests] == [(1, 3, 8, 8)] * 2
    assert pool.requests[0].inputs["image"][0, :, 0, 0].tolist() == [255, 0, 10]
    last = image_pool(tmp_path, described(("image", "UINT8", [8, 8, 3])), batch_size=2)
    assert last.requests[0].inputs["image"].shape == (2, 8, 8, 3)
    assert last.requests[0].inputs["image"].dtype == np.uint8


def test_images_keep_their_size_or_get_the_one_asked_for(tmp_path):
    picture(tmp_path / "b.png")
    picture(tmp_path / "a.png", (3, 2))
    any_size = described(("image", "FP16", [3, -1, -1]))
    assert [r.inputs["image"].shape for r in image_pool(tmp_path, any_size).requests] == [(1, 3, 2, 3), (1, 3, 4, 6)]
    with pytest.raises(DataError, match=r"cannot be in one batch; give --shape image:"):
        image_pool(tmp_path, any_size, batch_size=2)
    (request,) = image_pool(tmp_path, any_size, batch_size=2, shapes=Shapes.parse(["image:3,5,7"])).requests
    assert request.inputs["image"].shape == (2, 3, 5, 7)


def test_images_as_bytes_are_the_files(tmp_path):
    picture(tmp_path / "a.jpg")
    (request,) = make_pool([str(tmp_path / "a.jpg")], described(("raw", "BYTES", [1]))).requests
    assert request.inputs["raw"].tolist() == [[(tmp_path / "a.jpg").read_bytes()]]


def test_a_large_folder_is_cut_and_says_so(tmp_path, monkeypatch):
    for number in range(4):
        picture(tmp_path / f"{number}.png")
    monkeypatch.setattr(folders, "MOST_BYTES", 2 * 3 * 4 * 4 * 4)
    pool = image_pool(tmp_path, described(("image", "FP32", [3, 4, 4])))
    assert len(pool) == 2
    assert pool.origin.endswith("(the first 2 of 4 images)")
    with pytest.raises(DataError, match="larger than 0 MiB"):
        image_pool(tmp_path, described(("image", "FP32", [3, 8, 8])))


def test_texts_from_lines_and_from_files(tmp_path):
    lines = write(tmp_path, "one\n\ntwo\r\nthrée\n", "lines.txt")
    words = described(("text", "BYTES", [1]))
    assert [r.inputs["text"].tolist() for r in make_pool([str(lines)], words).requests] == [
        [[b"one"]], [[b"two"]], [["thrée".encode()]]
    ]  # fmt: skip
    folder = tmp_path / "texts"
    folder.mkdir()
    write(folder, "a\nb", "1.txt")
    write(folder, "c", "2.txt")
    assert [r.inputs["text"].tolist() for r in make_pool([str(folder)], words).requests] == [[[b"a\nb"]], [[b"c"]]]
    pairs = text_pool(lines, described(("pair", "BYTES", [2]), max_batch_size=0))
    assert [r.inputs["pair"].tolist() for r in pairs.requests] == [[b"one", b"two"], ["thrée".encode(), b"one"]]
    many = text_pool(lines, described(("text", "BYTES", [-1])), shapes=Shapes.parse(["text:3"]), batch_size=2)
    assert many.requests[0].inputs["text"].shape == (2, 3)


def test_folders_that_do_not_fit(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    words = described(("text", "BYTES", [1]))
    with pytest.raises(DataError, match="holds no text"):
        make_pool([str(empty)], words)
    with pytest.raises(DataError, match="holds no images"):
        image_pool(empty, words)
    write(empty, "hello", "a.txt")
    with pytest.raises(DataError, match="is text; input x .* takes numbers"):
        text_pool(empty, described(("x", "FP32", [1])))
    with pytest.raises(DataError, match="data for one input; the model has a BYTES .*, b BYTES"):
        text_pool(empty, described(("a", "BYTES", [1]), ("b", "BYTES", [1])))
    write(empty, "no image", "a.png")
    with pytest.raises(DataError, match="cannot be read as an image"):
        image_pool(empty, described(("image", "FP32", [3, 8, 8])))
    picture(empty / "whole.png", (64, 64))
    (empty / "a.png").write_bytes((empty / "whole.png").read_bytes()[:-40])
    with pytest.raises(DataError, match=r"a\.png cannot be read"):
        image_pool(empty, described(("image", "FP32", [3, 8, 8])))
    for name in ("nowhere", "n" * 5000, "a\0b"):
        with pytest.raises(DataError, match=r"no file or folder '.*'; give random, zero, or a path"):
            make_pool([name], words)


def test_a_folder_with_one_raw_file_for_each_input(tmp_path):
    described_ = described(("x", "FP32", [2, 2]), ("t", "BYTES", [2]), ("o", "INT8", [1]),
                           outputs=[("y", "FP32", [2]), ("z", "BYTES", [1])], optional=("o",))  # fmt: skip
    (tmp_path / "x").write_bytes(np.arange(4, dtype="<f4").tobytes())
    (tmp_path / "t").write_bytes(b"a b\nc\n")
    (tmp_path / "y").write_bytes(np.ones(2, "<f4").tobytes())
    pool = make_pool([str(tmp_path)], described_, DataOptions(batch_size=3))
    (request,) = pool.requests
    assert request.inputs["x"].tolist() == [[[0, 1], [2, 3]]] * 3
    assert request.inputs["t"].tolist() == [[b"a b", b"c"]] * 3
    assert set(request.inputs) == {"x", "t"}
    assert request.expected["y"].tolist() == [[1, 1]] * 3


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"x": bytes(12)}, "x has 12 bytes for x FP32 .*, which needs"),
        ({"x": bytes(3)}, "no whole number"),
        ({"x": b""}, "is empty"),
        ({"x": bytes(16), "w": b"1"}, "'w' is named as no input or output"),
        ({"y": bytes(16)}, "has no file 'x'"),
    ],
)
def test_raw_files_that_do_not_fit(tmp_path, files, words):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        raw_pool(tmp_path, described(("x", "FP32", [2, 2]), outputs=[("y", "FP32", [2, 2])]))


def test_a_raw_file_for_a_dynamic_axis_needs_a_shape(tmp_path):
    (tmp_path / "x").write_bytes(bytes(16))
    dynamic = described(("x", "FP32", [-1, 2]), max_batch_size=0)
    with pytest.raises(DataError, match="--shape x:"):
        raw_pool(tmp_path, dynamic)
    assert raw_pool(tmp_path, dynamic, shapes=Shapes.parse(["x:2,2"])).requests[0].inputs["x"].shape == (2, 2)


def test_zero_and_random_by_name():
    both = described(("x", "FP32", [2]))
    assert make_pool([], both).origin == "random values"
    assert make_pool(["zero"], both).requests[0].inputs["x"].tolist() == [[0, 0]]
    assert len(make_pool(["random"], both, DataOptions(count=3, batch_size=2)).requests) == 3


def test_the_projects_samples(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.arange(4, dtype=np.float32).reshape(4, 1))
    (tmp_path / "trtkit.yaml").write_text(
        "models:\n  m:\n    source: {onnx: m.onnx}\n    calibration: {data: d.npz, samples: 2}\n"
    )
    (tmp_path / "m.onnx").write_bytes(b"")
    project = load_project(tmp_path / "trtkit.yaml")
    one = described(("x", "FP32", [1]))
    assert project_pool(project, "m", one) is None
    pool = project_pool(project, "m", one, calibration=True)
    assert [request.inputs["x"].tolist() for request in pool.requests] == [[[0]], [[1]]]
    assert pool.origin == "d.npz"


# what a trace sends


def test_the_rows_of_a_trace_become_a_pool(tmp_path):
    np.savez(tmp_path / "one.npz", x=np.array([7.0, 8.0], np.float32))
    np.savez(tmp_path / "two.npz", x=np.zeros((2, 2), np.float32))
    path = write(tmp_path, "\n".join([
        '{"timestamp": 0, "payload": "one.npz"}', '{"timestamp": 1, "payload": 1}', '{"timestamp": 2, "model": "ids"}',
        '{"timestamp": 3, "model": "ids", "shape": {"i": [5]}}', '{"timestamp": 4}', '{"timestamp": 5}',
        '{"timestamp": 6, "payload": "two.npz"}',
    ]), "t.jsonl")  # fmt: skip
    models = {"m": described(("x", "FP32", [2])), "ids": described(("i", "INT64", [-1]))}
    models["ids"].metadata["name"] = "ids"
    own = make_pool([], models["m"], DataOptions(count=2))
    with pytest.raises(DataError, match="--shape i:8"):
        trace_pool(read_trace(path), own, models.__getitem__)
    write(tmp_path, path.read_text().replace('"ids"}', '"ids", "shape": "i:4"}'), "t.jsonl")
    pool, order = trace_pool(read_trace(path), own, models.__getitem__)
    sent = [pool.requests[number] for number in order]
    assert [request.model for request in sent] == ["m", "m", "ids", "ids", "m", "m", "m"]
    assert sent[0].inputs["x"].tolist() == [[7, 8]]
    assert sent[1] is own.requests[1]
    assert [request.inputs["i"].shape for request in sent[2:4]] == [(1, 4), (1, 5)]
    assert sent[4] is not sent[5]
    assert sent[6].inputs["x"].shape == (2, 2)


def test_a_trace_of_numbers_goes_round_the_pool(tmp_path):
    path = write(tmp_path, "timestamp_ms,payload\n0,3\n5,0\n2,\n", "t.csv")
    own = one_stream(make_pool([], described(("x", "FP32", [2]))).requests[:3], "own")
    pool, order = trace_pool(read_trace(path), own, {}.__getitem__)
    assert pool is own
    assert order == [0, 1, 0]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('"payload": "none.npz"', "cannot be read as .npz"),
        ('"payload": "bad.npz"', r"bad\.npz: .*'y', which is no input"),
        ('"shape": "z:5"', "'z', which is no input"),
        ('"model": "other", "payload": 3', "request 3 for 'other'; the pool is for 'm'"),
    ],
)
def test_rows_that_do_not_fit_their_model(tmp_path, row, words):
    np.savez(tmp_path / "bad.npz", y=np.zeros((1, 2), np.float32))
    path = write(tmp_path, f'{{"timestamp": 0, {row}}}', "t.jsonl")
    one = described(("x", "FP32", [2]))
    with pytest.raises(DataError, match=words):
        trace_pool(read_trace(path), make_pool([], one), lambda _: one)
