# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""python_backends/top_k: its ranking against a plain sort, its label files, and the model on a real tritonserver."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from onnx_clients import Executions, at_once
from part_models import write_part
from part_server import Triton, four_together, part_module, triton_with, unbatched
from trtkit.config import ModelConfig

top_k = part_module("top_k", "trtkit_top_k")
labels_module = part_module("top_k", "trtkit_labels")

# -- the ranking

FLOATS = ["float16", "float32", "float64"]
INTEGERS = ["bool", "int8", "uint8", "int64", "uint64"]


def plain_best(row: np.ndarray, k: int, largest: bool) -> list[int]:
    """One by one in Python, whose integers have no limits and whose sort is stable."""

    def key(index: int) -> tuple[bool, Any]:
        value = row[index].item()
        if value != value:
            return True, 0
        return False, -value if largest else value

    return sorted(range(len(row)), key=key)[:k]


@st.composite
def rankings(draw: Any) -> tuple[np.ndarray, int, bool]:
    kind = np.dtype(draw(st.sampled_from(FLOATS + INTEGERS)))
    shape = draw(st.tuples(st.integers(0, 4), st.integers(1, 12)))
    few = draw(st.lists(npst.from_dtype(kind), min_size=1, max_size=4))  # so that there are many equal ones
    rows = draw(npst.arrays(kind, shape, elements=st.sampled_from(few)))
    return rows, draw(st.integers(1, shape[1])), draw(st.booleans())


@given(rankings())
def test_any_scores_are_ranked_as_one_by_one(ranking: tuple[np.ndarray, int, bool]) -> None:
    rows, k, largest = ranking
    expected = [plain_best(row, k, largest) for row in rows]
    assert top_k.best(rows, k, largest=largest).tolist() == expected


@pytest.mark.parametrize("kind", FLOATS + INTEGERS)
@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("k", [1, 2, 50, 299, 300])
def test_wide_rows_are_ranked_as_one_by_one(kind: str, largest: bool, k: int) -> None:
    generator = np.random.default_rng(k)
    rows = generator.integers(0, 2 if kind == "bool" else 120, (16, 300)).astype(kind)  # nearly all are tied
    rows[0] = np.arange(300) % 251
    if kind in FLOATS:
        rows[1, ::2], rows[2], rows[3, :-1], rows[4, ::3] = np.nan, np.nan, np.nan, -np.inf
        rows[5:] = generator.permuted(np.arange(300.0)[None].repeat(11, 0), axis=1)  # none is
    assert top_k.best(rows, k, largest=largest).tolist() == [plain_best(row, k, largest) for row in rows]


def test_lowest_integers_do_not_overflow() -> None:
    rows = np.array([[-128, 127, 0]], np.int8)
    assert top_k.best(rows, 3).tolist() == [[1, 2, 0]]
    assert top_k.best(rows, 3, largest=False).tolist() == [[0, 2, 1]]


def test_softmax_is_over_all_classes_and_sigmoid_over_each() -> None:
    rows = np.array([[1.0, 3.0, 2.0], [1000.0, -1000.0, -np.inf]], np.float32)
    chosen = np.array([[1, 2], [0, 1]])
    expected = [
        math.exp(3) / (math.exp(1) + math.exp(2) + math.exp(3)),
        math.exp(2) / (math.exp(1) + math.exp(2) + math.exp(3)),
    ]
    softmax = top_k.activate(rows, chosen, "softmax")
    np.testing.assert_allclose(softmax, [expected, [1, 0]], rtol=1e-6)
    assert softmax.dtype == np.float32
    sigmoid = top_k.activate(rows, chosen, "sigmoid")
    np.testing.assert_allclose(sigmoid, [[1 / (1 + math.exp(-3)), 1 / (1 + math.exp(-2))], [1, 0]], rtol=1e-6)
    assert top_k.activate(rows.astype(np.float64), chosen, "softmax").dtype == np.float64
    assert np.isnan(top_k.activate(np.array([[np.nan, 1]], np.float32), np.array([[1]]), "softmax")).all()


# -- label files


def labels_of(path: Path, content: str | bytes) -> Any:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return labels_module.Labels(str(path))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("labels.txt", "cat\ndog\n", [b"cat", b"dog"]),
        ("labels.txt", "cat\r\n\r\nhund\u2028e\fx", [b"cat", b"", "hund\u2028e\fx".encode()]),
        ("labels.txt", b"\xef\xbb\xbfcat\n", [b"cat"]),
        ("labels.json", '["cat", "dog"]', [b"cat", b"dog"]),
        ("labels.json", '{"1": "dog", "0": "cat"}', [b"cat", b"dog"]),
        ("config.json", '{"model_type": "bert", "id2label": {"0": "NEG", "1": "PÖS"}}', [b"NEG", "PÖS".encode()]),
    ],
)
def test_label_files(tmp_path: Path, name: str, content: str | bytes, expected: list[bytes]) -> None:
    labels = labels_of(tmp_path / name, content)
    assert labels.find(np.arange(len(expected))).tolist() == expected
    assert len(labels) == len(expected)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("labels.txt", b"", "has no labels"),
        ("labels.txt", b"\xff", "invalid start byte"),
        ("labels.json", b"{", "Expecting property name"),
        ("labels.json", b"3", "expected a list of labels"),
        ("labels.json", b"[]", "has no labels"),
        ("labels.json", b'{"model_type": "bert"}', "'model_type' is not a class index"),
        ("labels.json", b'{"-1": "cat"}', "'-1' is not a class index"),
        ("labels.json", b'{"99999999": "cat"}', "'99999999' is not a class index"),
        ("labels.json", b'{"0": 5}', "the label of 0 is 5, expected text"),
        ("labels.json", b'["\\ud800"]', "surrogates not allowed"),
        ("labels.json", b"[" * 100_000, "recursion"),
    ],
)
def test_label_files_that_are_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    with pytest.raises(labels_module.BadLabels, match=words) as error:
        labels_of(tmp_path / name, content)
    assert name in str(error.value)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "uint64"])
def test_an_index_without_a_label(tmp_path: Path, kind: str) -> None:
    labels = labels_of(tmp_path / "labels.json", '{"0": "cat", "2": "dog"}')
    indices = np.array([[0, 2], [1, 100]], kind)
    with pytest.raises(labels_module.BadLabels, match=r"no label for index 1 at \[1, 0\]; there are 2 labels"):
        labels.find(indices)
    assert labels.find(indices, b"?").tolist() == [[b"cat", b"dog"], [b"?", b"?"]]
    assert labels.find(indices[:0]).shape == (0, 2)
    assert labels.find(indices[0, 1].reshape(())).tolist() == b"dog"


# -- on a server


def wide(config: ModelConfig) -> None:
    config.input[0].data_type = "TYPE_INT64"
    config.output[0].data_type = "TYPE_INT64"
    config.output[1].data_type = "TYPE_INT64"
    unbatched(config)


def half(config: ModelConfig) -> None:
    config.input[0].data_type = config.output[1].data_type = "TYPE_FP16"
    config.input[0].dims[:] = [4]


def bf16(config: ModelConfig) -> None:
    config.input[0].data_type = "TYPE_BF16"


def narrow_score(config: ModelConfig) -> None:
    config.output[1].data_type = "TYPE_INT32"


def byte_index(config: ModelConfig) -> None:
    config.output[0].data_type = "TYPE_UINT8"


def many_classes(config: ModelConfig) -> None:
    byte_index(config)
    config.input[0].dims[:] = [257]


def three_classes(config: ModelConfig) -> None:
    config.input[0].dims[:] = [3]


def five_best(config: ModelConfig) -> None:
    config.output[0].dims[:] = [5]


def other_output(config: ModelConfig) -> None:
    config.output[0].name = "indices"


GOOD = {
    "digits": (
        {"k": "3", "labels": "names.txt", "activation": "softmax"},
        {"names.txt": b"zero\none\ntwo\nthr\xc3\xa9e\n"}, None,
    ),
    "together": ({"k": "2"}, {}, four_together),
    "lowest": ({"k": "2", "largest": "false"}, {}, wide),
    "above_half": ({"k": "3", "activation": "sigmoid", "threshold": "0.5"}, {}, half),
    "byte_index": ({}, {}, byte_index),
    "below": ({"k": "2", "largest": "false", "threshold": "0.5"}, {}, None),
}  # fmt: skip
BAD = {
    "k_zero": ({"k": "0"}, None, "parameter 'k' is '0', expected a whole number, at least 1"),
    "misspelt": ({"activatoin": "softmax"}, None, "did you mean 'activation'?"),
    "no_file": ({"labels": "labels.txt"}, None, "there is no file 'labels.txt'"),
    "bf16": ({}, bf16, "'scores' is TYPE_BF16, which numpy lacks"),
    "narrow_score": ({}, narrow_score, "output 'score' cannot be TYPE_INT32"),
    "three_classes": ({"k": "4"}, three_classes, "input 'scores' has 3 classes, but the parameter k is 4"),
    "five_best": ({"k": "4"}, five_best, "output 'index' has dims [5], but the parameter k is 4"),
    "no_minus": ({"threshold": "0.5"}, byte_index, "'index' cannot be UINT8: with the parameter threshold, it is -1"),
    "many_classes": ({}, many_classes, "output 'index' cannot be UINT8: there are 257 classes"),
    "other_output": ({}, other_output, "there is no output 'indices'; it has index, score, label"),
}


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    repository = tmp_path_factory.mktemp("top_k")
    for name, (parameters, files, edit) in GOOD.items():
        write_part(repository, name, "top_k", parameters, files=files, edit=edit)
    for name, (bad_parameters, edit, _) in BAD.items():
        write_part(repository, name, "top_k", bad_parameters, edit=edit)
    with triton_with(repository, list(GOOD)) as running:
        yield running


@pytest.mark.triton
def test_labels_and_probabilities_of_the_best(triton: Triton) -> None:
    scores = np.array([[0, 2, 1, 2], [5, np.nan, 4, 3]], np.float32)
    for connection in triton.connections:
        result = connection.infer("digits", {"scores": scores})
        assert result.as_numpy("index").tolist() == [[1, 3, 2], [0, 2, 3]]
        assert result.as_numpy("index").dtype == np.int32
        assert result.as_numpy("label").tolist() == [
            [b"one", "thrée".encode(), b"two"],
            [b"zero", b"two", "thrée".encode()],
        ]
        total = np.exp([0, 2, 1, 2]).sum()
        np.testing.assert_allclose(result.as_numpy("score")[0], np.exp([2, 2, 1]) / total, rtol=1e-6)
        assert np.isnan(result.as_numpy("score")[1]).all()


@pytest.mark.triton
def test_only_what_is_asked_for(triton: Triton) -> None:
    for connection in triton.connections:
        result = connection.infer("digits", {"scores": np.zeros((1, 4), np.float32)}, outputs=["label"])
        assert result.as_numpy("label").tolist() == [[b"zero", b"one", b"two"]]
        assert result.as_numpy("score") is None


@pytest.mark.triton
def test_requests_of_one_width_are_ranked_together(triton: Triton) -> None:
    feeds = [
        {"scores": np.array([row], np.float32)} for row in ([1, 2, 3], [3, 2, 1], [2, np.inf, 2], [-1, -np.inf, np.nan])
    ]
    executions = Executions(triton.grpc, "together")
    results = at_once(triton.grpc, "together", feeds)
    assert [result.as_numpy("index").tolist() for result in results] == [[[2, 1]], [[0, 1]], [[1, 0]], [[0, 1]]]
    assert results[0].as_numpy("label").tolist() == [[b"2", b"1"]]
    assert executions.for_rows(4) == 1


@pytest.mark.triton
def test_without_batching_and_the_smallest_of_integers(triton: Triton) -> None:
    scores = np.array([[[5, -(2**63), 5, 2**63 - 1]]], np.int64)[0]
    for connection in triton.connections:
        result = connection.infer("lowest", {"scores": scores})
        assert result.as_numpy("index").tolist() == [[1, 0]]
        assert result.as_numpy("score").tolist() == [[-(2**63), 5]]
        empty = connection.infer("lowest", {"scores": np.zeros((0, 3), np.int64)})
        assert empty.as_numpy("index").shape == (0, 2)
        assert empty.as_numpy("label").shape == (0, 2)


@pytest.mark.triton
def test_below_the_threshold_there_is_no_label(triton: Triton) -> None:
    for connection in triton.connections:
        result = connection.infer("above_half", {"scores": np.array([[-1, 0, 3, np.nan]], np.float16)})
        assert result.as_numpy("index").tolist() == [[2, 1, -1]]
        assert result.as_numpy("label").tolist() == [[b"2", b"1", b""]]
        assert result.as_numpy("score").dtype == np.float16
        np.testing.assert_allclose(result.as_numpy("score"), [[0.9526, 0.5, 0.2689]], atol=1e-3)
        below = connection.infer("below", {"scores": np.array([[1, 0.5, np.nan]], np.float32)})
        assert below.as_numpy("index").tolist() == [[1, -1]]
        assert below.as_numpy("score").tolist() == [[0.5, 1]]


@pytest.mark.triton
@pytest.mark.parametrize(
    ("model", "scores", "words"),
    [
        (
            "digits",
            np.zeros((1, 2), np.float32),
            "model 'digits': input 'scores' has 2 classes, but the parameter k is 3",
        ),
        ("digits", np.zeros((1, 5), np.float32), "input 'scores' has 5 classes, but the labels file has 4"),
        ("digits", np.zeros((1, 0), np.float32), "input 'scores' has 0 classes, but the parameter k is 3"),
        ("lowest", np.zeros((2, 1), np.int64), "input 'scores' has 1 classes, but the parameter k is 2"),
        ("byte_index", np.zeros((1, 257), np.float32), "has 257 classes, but the type of output 'index'"),
    ],
)
def test_wrong_requests(triton: Triton, model: str, scores: np.ndarray, words: str) -> None:
    assert words in triton.error(model, {"scores": scores})


@pytest.mark.triton
@pytest.mark.parametrize("model", BAD)
def test_wrong_configs(triton: Triton, model: str) -> None:
    assert BAD[model][2] in triton.refusal(model)
