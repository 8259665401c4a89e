# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""python_backends/labels: its choice of classes, and the model on a real tritonserver."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from onnx_clients import at_once
from part_models import write_part
from part_server import Triton, four_together, part_module, strings, triton_with, unbatched
from trtkit.config import ModelConfig

multi_label = part_module("labels", "trtkit_multi_label")

NAMES = "cat\ndog\n\nkätzchen\n".encode()
CAT, DOG, EMPTY, KITTEN = b"cat", b"dog", b"", "kätzchen".encode()


@given(
    npst.arrays(np.float32, st.tuples(st.integers(0, 5), st.integers(1, 6)), elements=st.sampled_from([-1, 0, 0.5, 1]))
)
def test_any_classes_are_those_that_reach_the_threshold(scores: np.ndarray) -> None:
    table, counts = multi_label.chosen(scores, 0.5)
    expected = [[index for index, score in enumerate(row) if score >= 0.5] for row in scores.tolist()]
    assert counts.tolist() == [len(row) for row in expected]
    assert table.shape == (len(scores), max(map(len, expected), default=0))
    assert [row[row >= 0].tolist() for row in table] == expected
    assert [row[: len(chosen)].tolist() for row, chosen in zip(table, expected, strict=True)] == expected  # first


def scores(config: ModelConfig) -> None:
    config.input[0].name = "scores"
    config.input[0].data_type = "TYPE_FP32"
    config.output.add(name="count", data_type="TYPE_INT32", dims=[1])


def narrow_count(config: ModelConfig) -> None:
    scores(config)
    config.output[1].data_type = "TYPE_INT8"


def one_hot(config: ModelConfig) -> None:
    scores(config)
    config.input[0].data_type = "TYPE_BOOL"
    del config.output[1]
    unbatched(config)


def bytes_index(config: ModelConfig) -> None:
    config.input[0].data_type = "TYPE_FP32"


def other_input(config: ModelConfig) -> None:
    config.input[0].name = "indices"


def count_of_index(config: ModelConfig) -> None:
    config.output.add(name="count", data_type="TYPE_INT32", dims=[1])


def int64(config: ModelConfig) -> None:
    config.input[0].data_type = "TYPE_INT64"
    four_together(config)


# parameters, what changes the config, and the words of the refusal
GOOD: dict[str, tuple[dict[str, str], Any]] = {
    "strict": ({}, int64),
    "lenient": ({"unknown": ""}, unbatched),
    "multi": ({"threshold": "0.25"}, scores),
    "one_hot": ({}, one_hot),
}
BAD: dict[str, tuple[dict[str, str], Any, str]] = {
    "no_file": ({"labels": "gone.txt"}, None, "there is no file 'gone.txt' in "),
    "outside": ({"labels": "../1/labels.txt"}, None, "'../1/labels.txt': expected a path inside the model's folder"),
    "narrow_count": ({"labels": "many.txt"}, narrow_count, "output 'count' is int8, but there are 128 labels"),
    "empty_file": ({"labels": "empty.txt"}, None, "empty.txt' has no labels"),
    "misspelt": ({"unknwon": "?"}, None, "unknown parameter 'unknwon'; did you mean 'unknown'?"),
    "float_index": ({}, bytes_index, "input 'index' is TYPE_FP32, expected a whole number"),
    "other_input": ({}, other_input, "the inputs are ['indices'], expected one: 'index' or 'scores'"),
    "count_of_index": ({}, count_of_index, "with input 'index' there is no output 'count'; it has label"),
}


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    repository = tmp_path_factory.mktemp("labels")
    configs = GOOD | {name: (parameters, edit) for name, (parameters, edit, _) in BAD.items()}
    for name, (parameters, edit) in configs.items():
        files = {"labels.txt": NAMES, "empty.txt": b"", "many.txt": b"x\n" * 128}
        write_part(repository, name, "labels", parameters, files=files, edit=edit)
    with triton_with(repository, list(GOOD)) as running:
        yield running


@pytest.mark.triton
def test_labels_of_indices_and_a_wrong_one_alone(triton: Triton) -> None:
    feeds = [{"index": np.array([row], np.int64)} for row in ([0, 3], [2, 1], [1, 4], [3, 3])]
    results = at_once(triton.grpc, "strict", feeds)
    answers = [result.as_numpy("label").tolist() for result in (results[0], results[1], results[3])]
    assert answers == [[[CAT, KITTEN]], [[EMPTY, DOG]], [[KITTEN, KITTEN]]]
    assert "model 'strict': no label for index 4 at [0, 1]; there are 4 labels" in str(results[2])


@pytest.mark.triton
def test_unknown_indices_have_the_label_of_the_unknown(triton: Triton) -> None:
    for connection in triton.connections:
        result = connection.infer("lenient", {"index": np.array([[1, -1], [4, -(2**31)]], np.int32)})
        assert result.as_numpy("label").tolist() == [[DOG, b""], [b"", b""]]
        assert connection.infer("lenient", {"index": np.zeros((0, 3), np.int32)}).as_numpy("label").shape == (0, 3)


@pytest.mark.triton
def test_all_labels_that_reach_the_threshold(triton: Triton) -> None:
    given = np.array([[0.25, 0.2, 0, 1], [0, 0, 0, 0], [np.inf, -np.inf, 0, 0]], np.float32)
    for connection in triton.connections:
        result = connection.infer("multi", {"scores": given})
        assert result.as_numpy("label").tolist() == [[CAT, KITTEN], [b"", b""], [CAT, b""]]
        assert result.as_numpy("count").tolist() == [[2], [0], [1]]
        none = connection.infer("multi", {"scores": np.zeros((2, 4), np.float32)})
        assert none.as_numpy("label").shape == (2, 0)
        assert none.as_numpy("count").tolist() == [[0], [0]]
        only = connection.infer("multi", {"scores": given}, outputs=["count"])
        assert only.as_numpy("label") is None


@pytest.mark.triton
def test_one_hot(triton: Triton) -> None:
    for connection in triton.connections:
        result = connection.infer("one_hot", {"scores": np.eye(4, dtype=np.bool_)})
        assert result.as_numpy("label").tolist() == [[CAT], [DOG], [EMPTY], [KITTEN]]


@pytest.mark.triton
@pytest.mark.parametrize(
    ("model", "feed", "words"),
    [
        ("multi", {"scores": np.zeros((1, 3), np.float32)}, "input 'scores' has 3 classes, but the labels file has 4"),
        ("multi", {"scores": np.zeros((1, 0), np.float32)}, "input 'scores' has 0 classes, but the labels file has 4"),
        ("multi", {"scores": np.array([[0, 1, np.nan, 0]], np.float32)}, "input 'scores' is NaN at [0, 2]"),
        ("multi", {"scores": np.zeros((1, 4), np.int32)}, "data-type"),
        ("multi", {"index": np.zeros((1, 4), np.float32)}, "unexpected inference input 'index'"),
        ("lenient", {"index": strings(["a"])}, "data-type"),
    ],
)
def test_wrong_requests(triton: Triton, model: str, feed: dict[str, np.ndarray], words: str) -> None:
    assert words in triton.error(model, feed)


@pytest.mark.triton
@pytest.mark.parametrize("model", BAD)
def test_wrong_configs(triton: Triton, model: str) -> None:
    assert BAD[model][2] in triton.refusal(model)
