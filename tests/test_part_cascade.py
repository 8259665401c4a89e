# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The part `cascade` through the real server: which rows go on, and how the answers come together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

from part_models import write_part
from routing_models import infer_array, metric, variants, write_variant
from trtkit.config import ModelConfig
from trtkit.errors import ModelUnavailableError
from trtkit.server import RunningServer, serve

# the scores are x times the factor, so that a row says itself how sure the small model is
SURE, UNSURE = [0.9, 0.1, 0.0], [0.5, 0.4, 0.1]
NARROW = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        rows = [len(request.inputs()[0].as_numpy()) for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", np.zeros((n, 1), np.float32))]) for n in rows]
"""

# the answer has one row, whatever the request has
FEWER = NARROW.replace("np.zeros((n, 1)", "np.zeros((1, 3)")


def y_only(config: ModelConfig) -> None:
    del config.output[1]


def with_got(config: ModelConfig) -> None:
    output = config.output.add()
    output.name, output.data_type = "got", 13
    output.dims.append(1)


def no_batches(config: ModelConfig) -> None:
    config.max_batch_size = 0
    config.ClearField("dynamic_batching")
    config.input[0].dims[:] = [-1, -1]
    config.output[0].dims[:] = [-1, -1]


def only_got(config: ModelConfig) -> None:
    """The output that the decision is made of is not among those of the cascade."""
    config.output[0].name, config.output[0].data_type = "got", 13
    config.output[0].dims[:] = [1]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cascade")
    write_variant(folder, "small", 1)
    write_variant(folder, "large", 2)
    write_variant(folder, "narrow", 3, model=NARROW, edit=y_only)
    write_variant(folder, "fewer", 4, model=FEWER, edit=y_only)
    write_part(folder, "by_max", "cascade", {"threshold": "0.8"}, edit=with_got)
    write_part(folder, "by_margin", "cascade", {"measure": "margin", "threshold": "0.2"})
    write_part(folder, "by_entropy", "cascade", {"measure": "entropy", "threshold": "0.5"})
    write_part(folder, "by_logits", "cascade", {"activation": "softmax"}, edit=no_batches)
    write_part(folder, "hidden", "cascade", {}, edit=only_got)
    write_part(folder, "mixed", "cascade", {"models": "small, narrow"})
    write_part(folder, "torn", "cascade", {"models": "small, fewer"})
    write_part(folder, "three", "cascade", {"models": "small, large, narrow", "threshold": "1.5"})
    write_part(folder, "absent", "cascade", {"models": "small, nowhere"})
    write_part(folder, "misnamed", "cascade", {"output": "z"})
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    with serve(repository) as running:
        yield running


def ask(server: RunningServer, model: str, *rows: list[float]) -> tuple[list[list[float]], list[str]]:
    """The output ``y`` and the variant of each row."""
    result = infer_array(server, model, np.array(rows, dtype=np.float32))
    return result.as_numpy("y").astype(float).round(5).tolist(), variants(result)


def test_only_unsure_rows_go_on_and_come_back_in_order(server: RunningServer) -> None:
    y, names = ask(server, "by_max", SURE, UNSURE, SURE, UNSURE, [0.0, 0.8, 0.2])
    assert names == ["small", "large", "small", "large", "small"]
    assert y == [SURE, [1.0, 0.8, 0.2], SURE, [1.0, 0.8, 0.2], [0.0, 0.8, 0.2]]


@pytest.mark.parametrize(
    ("model", "row", "name"),
    [
        ("by_max", SURE, "small"),
        ("by_max", UNSURE, "large"),
        ("by_max", [float("nan"), 0.9, 0.1], "large"),
        ("by_margin", [0.6, 0.35, 0.05], "small"),
        ("by_margin", [0.1, 0.45, 0.45], "large"),
        ("by_margin", [0.9], "small"),
        ("by_entropy", [1.0, 0.0, 0.0], "small"),
        ("by_entropy", [0.34, 0.33, 0.33], "large"),
        ("by_logits", [4.0, 1.0, 1.0], "small"),
        ("by_logits", [1.0, 1.0, 1.0], "large"),
        ("by_logits", [1000.0, -1000.0], "small"),
    ],
)
def test_what_is_sure(server: RunningServer, model: str, row: list[float], name: str) -> None:
    assert ask(server, model, row)[1] == [name]


def test_rows_are_counted(server: RunningServer) -> None:
    def counted(name: str, variant: str) -> float:
        return metric(server, name, model="by_max", variant=variant)

    ask(server, "by_max", SURE)
    before = counted("trtkit_cascade_rows_total", "small"), counted("trtkit_cascade_escalated_rows_total", "small")
    ask(server, "by_max", SURE, UNSURE, SURE)
    assert counted("trtkit_cascade_rows_total", "small") == before[0] + 3
    assert counted("trtkit_cascade_escalated_rows_total", "small") == before[1] + 1


def test_strings_are_merged_too(server: RunningServer) -> None:
    result = infer_array(server, "by_max", np.array([SURE, UNSURE], np.float32), request_id="abc")
    assert all(b"abc" in value for value in result.as_numpy("got").ravel())


def test_the_scores_need_not_be_an_output_of_the_cascade(server: RunningServer) -> None:
    result = infer_array(server, "hidden", np.array([SURE, UNSURE], np.float32))
    assert variants(result) == ["small", "large"]
    assert result.as_numpy("y") is None


def test_a_chain_of_three(server: RunningServer) -> None:
    y, names = ask(server, "three", [0.9], [2.0], [0.1])
    assert names == ["large", "small", "narrow"]
    assert y == [[1.8], [2.0], [0.0]]


def test_rows_that_cannot_be_in_one_response(server: RunningServer) -> None:
    with pytest.raises(InferenceServerException, match=r"output 'y' of 'narrow' is float32 \[1\] a row, but .*\[3\]"):
        ask(server, "mixed", SURE, UNSURE)
    assert ask(server, "mixed", UNSURE) == ([[0.0]], ["narrow"])


def test_an_answer_with_fewer_rows_than_asked_for(server: RunningServer) -> None:
    with pytest.raises(InferenceServerException, match=r"'fewer' answered 2 rows with shape \[1, 3\] of 'y'"):
        ask(server, "torn", SURE, UNSURE, UNSURE)


def test_only_the_variants_are_asked_for(server: RunningServer) -> None:
    outputs = [httpclient.InferRequestedOutput("variant")]
    result = infer_array(server, "by_max", np.array([SURE, UNSURE], np.float32), outputs=outputs)
    assert variants(result) == ["small", "large"]


def test_an_error_of_the_large_one_is_the_answer(server: RunningServer) -> None:
    assert ask(server, "absent", SURE)[1] == ["small"]
    with pytest.raises(InferenceServerException, match="nowhere"):
        ask(server, "absent", UNSURE)


def test_an_output_that_the_model_does_not_have(server: RunningServer) -> None:
    with pytest.raises(InferenceServerException, match="'z'"):
        ask(server, "misnamed", SURE)


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    write_part(tmp_path, "measure", "cascade", {"measure": "sure"})
    write_part(tmp_path, "threshold", "cascade", {"threshold": "nan"})
    with pytest.raises(ModelUnavailableError) as caught, serve(tmp_path):
        pass
    assert "expected one of max, margin, entropy" in str(caught.value)
    assert "'threshold' is 'nan', expected a number" in str(caught.value)
