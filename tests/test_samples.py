# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Data for models: random ones that fit, and the user's own, which fit or are refused in one sentence."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trtkit.dtypes import DTYPES, by_name
from trtkit.errors import DataError, ExportError
from trtkit.numerics import Array
from trtkit.project import load_project
from trtkit.samples import Samples, as_tensor, convert, evaluation_samples, random_inputs, read_npz
from trtkit.signature import TensorSpec


def spec(name: str, dtype: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name, by_name(dtype), shape)


X = spec("x", "FP32", "batch", 4)
IDS = spec("ids", "INT64", "batch", "length")


# -- random data


@pytest.mark.parametrize("dtype", [dtype.name for dtype in DTYPES])
def test_random_values_have_the_type_and_shape(dtype: str) -> None:
    made = random_inputs([spec("x", dtype, "batch", 3, 5)], 7, seed=0)["x"]
    assert made.shape == (7, 3, 5)
    assert made.dtype == by_name(dtype).numpy
    assert len({row.tobytes() if dtype != "BYTES" else tuple(row.ravel()) for row in made}) > 1


def test_fixed_axes_keep_their_size_and_dynamic_ones_take_the_given() -> None:
    inputs = [
        spec("a", "FP32", "batch", 2, "n", ""),
        spec("b", "FP32", 3, "n"),
        spec("c", "FP32"),
        spec("d", "FP32", "batch"),
    ]
    shapes = {
        name: array.shape for name, array in random_inputs(inputs, 5, seed=0, sizes={"n": 9}, default_size=4).items()
    }
    assert shapes == {"a": (5, 2, 9, 4), "b": (3, 9), "c": (), "d": (5,)}


def test_axes_of_one_name_have_one_size_even_where_one_of_them_is_the_first() -> None:
    inputs = [spec("square", "FP32", "n", "n"), spec("mask", "BOOL", "batch", "n"), spec("free", "FP32", "", "")]
    shapes = {name: array.shape for name, array in random_inputs(inputs, 3, seed=0, sizes={"n": 50}).items()}
    assert shapes == {"square": (3, 3), "mask": (3, 3), "free": (3, 8)}


def test_equal_seeds_give_equal_values_and_others_do_not() -> None:
    inputs = [X, IDS, spec("words", "BYTES", "batch", 1)]
    one, same, other = (random_inputs(inputs, 4, seed=seed, ranges={"ids": (0, 1000)}) for seed in (1, 1, 2))
    for name in one:
        assert np.array_equal(one[name], same[name])
        assert not np.array_equal(one[name], other[name])


def test_integers_stay_in_their_range() -> None:
    made = random_inputs(
        [spec("ids", "INT64", "batch", 500), spec("other", "INT32", "batch", 500)], 2, seed=0, ranges={"ids": [5, 9]}
    )
    assert set(made["ids"].ravel()) == {5, 6, 7, 8}
    assert set(made["other"].ravel()) == {0, 1}


@pytest.mark.parametrize(
    ("dtype", "given", "values"),
    [
        ("UINT8", (254, 1000), {254, 255}),
        ("INT8", (-1000, -126), {-128, -127}),
        ("UINT64", (2**64 - 2, 2**64), {2**64 - 2, 2**64 - 1}),
        ("INT64", (3, 3), {3}),
    ],
)
def test_a_range_is_cut_to_what_the_type_holds(dtype: str, given: tuple[int, int], values: set[int]) -> None:
    made = random_inputs([spec("x", dtype, 100)], 1, seed=0, ranges={"x": given})["x"]
    assert set(made.tolist()) == values


def test_random_text_is_short_and_plain() -> None:
    words = random_inputs([spec("x", "BYTES", "batch")], 200, seed=0)["x"]
    assert all(isinstance(word, bytes) and word.isalpha() and 1 <= len(word) <= 8 for word in words)


# -- conversions


@pytest.mark.parametrize(
    ("given", "dtype", "expected"),
    [
        (np.array([1, 2]), "FP32", np.array([1, 2], np.float32)),
        (np.array([0.1]), "FP32", np.array([0.1], np.float32)),
        (np.array([70000, -1]), "INT32", np.array([70000, -1], np.int32)),
        (np.array([255]), "UINT8", np.array([255], np.uint8)),
        (np.array([True, False]), "INT64", np.array([1, 0])),
        (np.array([1, 0]), "BOOL", np.array([True, False])),
        (np.array([np.inf, -np.inf]), "FP16", np.array([np.inf, -np.inf], np.float16)),
        (np.array([1.0, -2.5, np.inf]), "BF16", np.array([0x3F80, 0xC020, 0x7F80], np.uint16)),
        (np.array([], np.float32), "BF16", np.array([], np.uint16)),
        (np.array([0x3F80], np.uint16), "BF16", np.array([0x3F80], np.uint16)),
        (np.array(["né", "b"]), "BYTES", np.array(["né".encode(), b"b"], dtype=object)),
        (np.array([b"\xff"]), "BYTES", np.array([b"\xff"], dtype=object)),
        (np.array("a", dtype=object), "BYTES", np.array(b"a", dtype=object)),
        (np.array(["a", b"b"], dtype=object), "BYTES", np.array([b"a", b"b"], dtype=object)),
    ],
)
def test_values_are_converted_where_that_keeps_their_meaning(given: Array, dtype: str, expected: Array) -> None:
    converted = convert(given, by_name(dtype), "data")
    assert converted.dtype == expected.dtype
    assert converted.shape == expected.shape
    assert converted.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("given", "dtype", "message"),
    [
        (np.array([1.5]), "INT32", "data are float64; INT32 is needed"),
        (np.array([1.0]), "UINT8", "data are float64; UINT8 is needed"),
        (np.array([1.0]), "BOOL", "data are float64; BOOL is needed"),
        (np.array(["1"]), "FP32", "data are text; FP32 is needed"),
        (np.array([b"1"]), "INT64", "data are text; INT64 is needed"),
        (np.array([1], dtype=object), "INT64", "data are object; INT64 is needed"),
        (np.array([1j]), "FP32", "data are complex128; FP32 is needed"),
        (np.array(["2024-01-01"], dtype="datetime64[D]"), "INT64", "data are datetime64[D]; INT64 is needed"),
        (np.array(["a"]), "BF16", "data are text; BF16 is needed"),
        (np.array([1]), "BYTES", "data are int64; text is needed"),
        (np.array([1.0]), "BYTES", "data are float64; text is needed"),
        (np.array(["a", 5], dtype=object), "BYTES", "data hold '5', a int; text is needed"),
        (np.array([None]), "BYTES", "data hold 'None', a NoneType; text is needed"),
        (np.array(["\ud800"], dtype=object), "BYTES", "data hold '\\ud800', which is no text"),
        (np.array([256]), "UINT8", "data have values outside UINT8"),
        (np.array([-1]), "UINT64", "data have values outside UINT64"),
        (np.array([2**63], np.uint64), "INT64", "data have values outside INT64"),
        (np.array([0, 2]), "BOOL", "data have values outside BOOL"),
        (np.array([1e6]), "FP16", "data have values outside FP16"),
        (np.array([70000]), "FP16", "data have values outside FP16"),
        (np.array([1e300]), "FP32", "data have values outside FP32"),
    ],
)
def test_conversions_that_lose_the_meaning_are_refused(given: Array, dtype: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        convert(given, by_name(dtype), "data")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("value", "bits"),
    [
        (1.0 + 2**-8, 0x3F80),  # half way between two: the even one
        (1.0 + 3 * 2**-8, 0x3F82),
        (1.0 + 2**-8 + 2**-20, 0x3F81),
        (1.0 + 2**-9, 0x3F80),
        (3.4e38, 0x7F80),
        (float("nan"), 0x7FC0),
    ],
)
def test_bfloat16_is_rounded_to_nearest(value: float, bits: int) -> None:
    assert convert(np.array([value, value]), by_name("BF16"), "data").tolist() == [bits, bits]
    assert convert(np.array(value), by_name("BF16"), "data") == bits


def test_no_bits_of_a_nan_become_another_value() -> None:
    nans = np.array([0x7F800001, 0xFF800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    assert convert(nans, by_name("BF16"), "data").tolist() == [0x7FC0] * 3


@settings(deadline=None)
@given(hnp.arrays(np.float32, st.integers(0, 5), elements=st.floats(width=32)))
def test_bfloat16_is_within_half_a_step(array: Array) -> None:
    bits = convert(array, by_name("BF16"), "data")
    back = (bits.astype(np.uint32) << 16).view(np.float32)
    assert np.array_equal(np.isnan(back), np.isnan(array))
    ordinary = np.isfinite(back) & (np.abs(array) > 1e-30)
    assert np.all(np.abs(back[ordinary] - array[ordinary]) <= np.abs(array[ordinary]) * 2**-8)
    assert np.array_equal(np.signbit(back[ordinary]), np.signbit(array[ordinary]))


@settings(deadline=None)
@given(
    array=hnp.arrays(st.sampled_from(["int8", "uint16", "int64", "uint64", "bool"]), st.integers(0, 4)),
    dtype=st.sampled_from(["INT8", "UINT8", "INT16", "UINT32", "INT64", "UINT64", "BOOL"]),
)
def test_integers_keep_their_values_or_are_refused(array: Array, dtype: str) -> None:
    limits = np.iinfo(by_name(dtype).numpy) if dtype != "BOOL" else None
    low, high = (int(limits.min), int(limits.max)) if limits else (0, 1)
    fits = all(low <= int(value) <= high for value in array.tolist())
    try:
        converted = convert(array, by_name(dtype), "data")
    except DataError:
        assert not fits
    else:
        assert fits
        assert [int(value) for value in converted.tolist()] == [int(value) for value in array.tolist()]


# -- one input


def test_a_tensor_may_have_any_first_axis_and_any_dynamic_one() -> None:
    assert as_tensor([[1, 2], [3, 4], [5, 6]], IDS, "w").shape == (3, 2)
    assert as_tensor(np.zeros((2, 4)), spec("x", "FP32", 3, 4), "w").dtype == np.float32
    assert as_tensor(5, spec("x", "INT32"), "w").shape == ()


class NoArray:
    """As a torch tensor that requires a gradient."""

    def __array__(self, *_: Any) -> Array:
        raise RuntimeError("Can't call numpy()\non Tensor that requires grad")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((2, 5)), "w: data for input x FP32 [batch, 4] have the shape [2, 5]"),
        (np.zeros(4), "w: data for input x FP32 [batch, 4] have the shape [4]"),
        (np.zeros((1, 2, 4)), "w: data for input x FP32 [batch, 4] have the shape [1, 2, 4]"),
        (None, "w: data for input x FP32 [batch, 4] have the shape []"),
        ([["a", "b", "c", "d"]], "w: data for input x FP32 [batch, 4] are text; FP32 is needed"),
        (
            NoArray(),
            "w: data for input x FP32 [batch, 4] are no array: Can't call numpy() on Tensor that requires grad",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_one_sentence(value: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        as_tensor(value, X, "w")
    assert str(caught.value) == message


def test_ragged_rows_are_one_sentence() -> None:
    with pytest.raises(DataError, match=r"^w: data for input ids INT64 \[batch, length\] are ragged: [^\n]+$"):
        as_tensor([[1, 2], [3]], IDS, "w")


# -- evaluation data


def evaluated(folder: Path, code: str, *inputs: TensorSpec, options: str = "") -> Samples | None:
    """The samples of a model whose ``evaluate.data`` is `f` of a Python file with this code."""
    (folder / "m.onnx").write_bytes(b"")
    (folder / f"data_{folder.name}.py").write_text(f"import numpy as np\n{code}\n")
    evaluate = f"evaluate: {{data: 'data_{folder.name}.py:f'{options}}}"
    (folder / "trtkit.yaml").write_text(f"models:\n  m:\n    source: {{onnx: m.onnx}}\n    {evaluate}\n")
    return evaluation_samples(load_project(folder / "trtkit.yaml"), "m", inputs or (X,))


def test_a_model_without_evaluate_has_no_samples(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"")
    (tmp_path / "trtkit.yaml").write_text("models: {m: {source: {onnx: m.onnx}}}")
    assert evaluation_samples(load_project(tmp_path / "trtkit.yaml"), "m", [X]) is None


def test_samples_of_a_callable(tmp_path: Path) -> None:
    samples = evaluated(tmp_path, "def f(): return {'x': np.eye(4)}, [3, 2, 1, 0]", options=", samples: 3")
    assert samples is not None
    assert (len(samples), samples.origin) == (3, f"data_{tmp_path.name}.py:f")
    assert samples.inputs["x"].dtype == np.float32
    assert samples.labels is not None
    assert samples.labels.tolist() == [3, 2, 1]
    assert samples.rows(1, 9)["x"].tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]]


def test_samples_may_be_one_array_or_a_value_that_is_no_function(tmp_path: Path) -> None:
    samples = evaluated(tmp_path, "f = np.ones((5, 4))")
    assert samples is not None
    assert len(samples) == 5
    assert samples.labels is None


BAD_DATA = {
    "nothing": ("def f(): pass", "data for input x FP32 [batch, 4] have the shape []"),
    "another shape": ("def f(): return np.zeros((2, 3))", "data for input x FP32 [batch, 4] have the shape [2, 3]"),
    "text": ("def f(): return {'x': [['a'] * 4]}", "data for input x FP32 [batch, 4] are text; FP32 is needed"),
    "no samples": ("def f(): return np.zeros((0, 4))", "non-zero number of samples each; got {'x': 0}"),
    "an unknown input": ("def f(): return {'X': 1}", "data for 'X', which is no input of the model; available: x"),
    "a number for a name": ("def f(): return {1: 1}", "data for '1', which is no input of the model; available: x"),
    "no input": ("def f(): return {}", "no data for input x FP32 [batch, 4]; data were given for: none"),
    "too few labels": ("def f(): return np.zeros((3, 4)), [1, 2]", "2 labels for 3 samples; give one label per sample"),
    "one label": ("def f(): return np.zeros((3, 4)), 7", "one label (7) for 3 samples; give one label per sample"),
    "a dict of labels": ("def f(): return np.zeros((1, 4)), {'a': 1}", "one label ({'a': 1}) for 1 samples"),
    "ragged labels": ("def f(): return np.zeros((2, 4)), [[1, 2], [3]]", "the labels are ragged: "),
    "ragged data": ("def f(): return {'x': [[1, 2, 3, 4], [5]]}", "data for input x FP32 [batch, 4] are ragged: "),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_is_one_sentence_with_its_place(tmp_path: Path, case: str) -> None:
    code, words = BAD_DATA[case]
    with pytest.raises(DataError) as caught:
        evaluated(tmp_path, code)
    message = str(caught.value)
    assert message.startswith("trtkit.yaml:4:16: ")
    assert words in message
    assert message.isprintable()


def test_samples_of_several_inputs_have_to_be_as_many_each(tmp_path: Path) -> None:
    code = "def f(): return {'x': np.zeros((2, 4)), 'ids': np.zeros((3, 1), int)}"
    with pytest.raises(DataError, match=r"need one equal, non-zero number of samples each; got \{'x': 2, 'ids': 3\}"):
        evaluated(tmp_path, code, X, IDS)


def test_one_array_for_several_inputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gave one array; the model has the inputs x, ids: return a dict"):
        evaluated(tmp_path, "def f(): return np.zeros((2, 4))", X, IDS)


def test_an_input_without_axes_cannot_have_samples(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="non-zero number of samples"):
        evaluated(tmp_path, "def f(): return {'x': 1.0}", spec("x", "FP32"))


def test_data_that_raise_name_the_users_line(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"^trtkit\.yaml:4:16: 'data_.*:f' raised KeyError: 'nope' \(data_.*\.py:4\)$"
    ):
        evaluated(tmp_path, "def f():\n\n    return {}['nope']")


# -- .npz


def test_an_npz_holds_inputs_and_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.ones((2, 4)), labels=np.array([1, 0]))
    arrays, labels = read_npz(tmp_path / "d.npz", "w")
    assert list(arrays) == ["x"]
    assert labels is not None
    assert labels.tolist() == [1, 0]


def test_an_npz_of_the_project_is_read(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"")
    np.savez(tmp_path / "d.npz", x=np.ones((2, 4)), y=np.ones(2))
    (tmp_path / "trtkit.yaml").write_text("models: {m: {source: {onnx: m.onnx}, evaluate: {data: d.npz}}}")
    with pytest.raises(DataError, match=r"^trtkit\.yaml:1:49: data for 'y', which is no input of the model"):
        evaluation_samples(load_project(tmp_path / "trtkit.yaml"), "m", [X])


class RunsCode:
    """What a pickle may do."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def npz_with_a_pickle(file: Path) -> bytes:
    np.savez(file, x=np.array([RunsCode(file.parent / "ran")], dtype=object))
    return file.read_bytes()


def npz_of(file: Path, **arrays: Array) -> bytes:
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.read_bytes()


def with_member(file: Path, name: str, content: bytes) -> bytes:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.read_bytes()


BAD_FILES: Mapping[str, Any] = {
    "a pickle inside": npz_with_a_pickle,
    "a pickle": lambda file: pickle.dumps(RunsCode(file.parent / "ran")),
    "nothing": lambda file: b"",
    "text": lambda file: b"hello",
    "the head of a zip": lambda file: b"PK\x03\x04",
    "a zip that was cut off": lambda file: npz_of(file, x=np.arange(100))[:-30],
    "a member that is no array": lambda file: with_member(file, "x.npy", b"not an array"),
    "an array of no size": lambda file: with_member(
        file,
        "x.npy",
        b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999,)} \n",
    ),
    "a header that is no header": lambda file: with_member(file, "x.npy", b"\x93NUMPY\x01\x00\x05\x00{1:2\n"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_is_no_npz_is_one_sentence_and_runs_nothing(tmp_path: Path, case: str) -> None:
    content = BAD_FILES[case](tmp_path / "d.npz")
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"^w: d\.npz cannot be read as \.npz: ") as caught:
        read_npz(tmp_path / "d.npz", "w")
    assert str(caught.value).isprintable()
    assert not (tmp_path / "ran").exists()


def test_a_missing_npz_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^w: d\.npz cannot be read as \.npz: .*No such file"):
        read_npz(tmp_path / "d.npz", "w")


def test_an_npy_has_no_names(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.ones(3))
    with pytest.raises(DataError, match=r"^w: d\.npy holds one array without a name; save it with numpy\.savez"):
        read_npz(tmp_path / "d.npy", "w")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("npz") / "d.npz"


@settings(deadline=None, max_examples=200)
@given(position=st.integers(0, 1000), byte=st.integers(0, 255), compressed=st.booleans())
@example(position=6, byte=1, compressed=False)  # an encrypted member
@example(position=8, byte=99, compressed=False)  # an unknown compression
def test_a_damaged_npz_gives_arrays_or_one_sentence(scratch: Path, position: int, byte: int, compressed: bool) -> None:
    (np.savez_compressed if compressed else np.savez)(scratch, x=np.arange(8.0), labels=np.array(["a", "b"]))
    content = bytearray(scratch.read_bytes())
    content[position % len(content)] = byte
    scratch.write_bytes(content)
    try:
        message = "ok"
        read_npz(scratch, "w")
    except DataError as exc:
        message = str(exc)
    assert message.isprintable()


@pytest.mark.parametrize(("shape", "given_shape"), [((("batch",)), (3, 1)), (("batch", 1), (3,))])
def test_one_value_per_row_fits_the_graph_s_shape_and_triton_s(
    shape: tuple[Any, ...], given_shape: tuple[int, ...]
) -> None:
    spec = TensorSpec("x", by_name("FP32"), shape)
    made = as_tensor(np.arange(3, dtype=np.float32).reshape(given_shape), spec, "here")
    assert made.shape == (3, 1)[: len(shape)]
    assert made.ravel().tolist() == [0.0, 1.0, 2.0]
