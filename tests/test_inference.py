# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""People's files become the rows a model takes, or one sentence says why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trtkit.dtypes import by_name
from trtkit.errors import DataError
from trtkit.inference import read_inputs
from trtkit.signature import Signature, TensorSpec


def signature(*inputs: tuple[str, str, tuple[int | str, ...]]) -> Signature:
    return Signature(tuple(TensorSpec(name, by_name(kind), shape) for name, kind, shape in inputs), ())


VECTOR = signature(("x", "FP32", ("batch", 3)))
TEXT = signature(("text", "BYTES", ("batch", 1)))
IMAGE = signature(("image", "FP32", ("batch", 1, 4, 4)))
TWO = signature(("ids", "INT64", ("batch", "")), ("mask", "BOOL", ("batch", "")))


def read(
    model: Signature, *given_: str, data: Path | None = None, files: tuple[Path, ...] = (), batching: bool = True
) -> Any:
    return read_inputs(model, batching, data, given_, files)


def test_json_rows_and_one_row() -> None:
    assert read(VECTOR, "x=[[1,2,3],[4,5,6]]")["x"].shape == (2, 3)
    one = read(VECTOR, "x=[1,2,3]")["x"]
    assert (one.shape, one.dtype) == ((1, 3), np.float32)
    assert read(VECTOR, "x=[[1,2,3]]", batching=False)["x"].shape == (1, 3)


def test_npy_npz_and_json_files(tmp_path: Path) -> None:
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "x.npy", rows)
    np.savez(tmp_path / "x.npz", x=rows)
    (tmp_path / "x.json").write_text(json.dumps(rows.tolist()))
    (tmp_path / "all.json").write_text(json.dumps({"x": rows.tolist()}))
    v2 = {"inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32", "data": rows.ravel().tolist()}]}
    (tmp_path / "v2.json").write_text(json.dumps(v2))
    for value in (read(VECTOR, f"x={tmp_path}/x.npy"), read(VECTOR, f"x={tmp_path}/x.json")):
        assert np.array_equal(value["x"], rows)
    for name in ("x.npz", "all.json", "v2.json"):
        assert np.array_equal(read(VECTOR, data=tmp_path / name)["x"], rows)


def test_text_a_line_a_row_and_literal_text(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes("one\nzwölf\n".encode())
    assert read(TEXT, f"text={tmp_path}/t.txt")["text"].tolist() == [[b"one"], ["zwölf".encode()]]
    assert read(TEXT, "text=hello there")["text"].tolist() == [[b"hello there"]]
    assert read(TEXT, 'text=[["a"],["b"]]')["text"].tolist() == [[b"a"], [b"b"]]


def test_images_are_bytes_for_a_bytes_input_and_pixels_for_a_numeric_one(tmp_path: Path) -> None:
    file = tmp_path / "i.png"
    Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)).save(file)
    assert read(TEXT, files=(file,))["text"].tolist() == [[file.read_bytes()]]
    assert np.array_equal(read(IMAGE, files=(file, file))["image"][1, 0], np.arange(16).reshape(4, 4))
    last = signature(("image", "FP32", ("batch", 2, 2, 3)))
    assert read(last, files=(file,))["image"].shape == (1, 2, 2, 3)
    assert read(IMAGE, f"image={tmp_path}")["image"].shape == (1, 1, 4, 4)


@pytest.mark.parametrize(
    ("model", "given_", "sentence"),
    [
        (VECTOR, ("x=[1,2]",), "data for input x FP32 [batch, 3] have the shape [1, 2]"),
        (VECTOR, ("y=[1,2,3]",), "'y' is no input of the model; available: x"),
        (VECTOR, ("x",), "--input 'x' is no NAME=VALUE; the inputs are x FP32 [batch, 3]"),
        (VECTOR, ("x=[[1,2,3],[4]]",), "ragged"),
        (VECTOR, ("x=nofile.npy",), "'nofile.npy' for input x FP32 [batch, 3] is neither a file nor JSON"),
        (VECTOR, ('x=["a","b","c"]',), "FP32 is needed"),
        (TWO, ("ids=[[1,2]]",), "no data for input mask BOOL [batch, ?]; pass --input mask=…"),
        (TWO, ("ids=[[1],[2]]", "mask=[[true]]"), "different numbers of rows: {'ids': 2, 'mask': 1}"),
        (TWO, ("ids=[[1.5]]", "mask=[[true]]"), "INT64 is needed"),
    ],
)
def test_what_does_not_fit(model: Signature, given_: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(DataError) as error:
        read(model, *given_)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "junk.npy").write_bytes(b"junk")
    (tmp_path / "junk.npz").write_bytes(b"junk")
    (tmp_path / "junk.png").write_bytes(b"junk")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="junk.npy cannot be read"):
        read(VECTOR, f"x={tmp_path}/junk.npy")
    with pytest.raises(DataError, match=r"junk.npz cannot be read as .npz"):
        read(VECTOR, data=tmp_path / "junk.npz")
    with pytest.raises(DataError, match="junk.png cannot be read as an image"):
        read(IMAGE, files=(tmp_path / "junk.png",))
    with pytest.raises(DataError, match="holds no images"):
        read(IMAGE, f"image={tmp_path}/empty")
    with pytest.raises(DataError, match="there is no file"):
        read(IMAGE, files=(tmp_path / "none.png",))
    with pytest.raises(DataError, match="cannot be read as JSON or .npz"):
        read(VECTOR, data=tmp_path / "none.json")


@given(st.text(max_size=60))
def test_any_text_is_rows_or_one_sentence(text: str) -> None:
    for model in (VECTOR, TWO, IMAGE):
        name = model.inputs[0].name
        try:
            rank = read(model, f"{name}={text}")[name].ndim
        except DataError:
            continue
        assert rank == len(model.inputs[0].shape)
