# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""python_backends/sentence_pool on a real tritonserver, against torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.utils import InferenceServerException

from onnx_clients import Connection, Executions, at_once
from part_models import write_part
from trtkit.config import ModelConfig
from trtkit.errors import ModelUnavailableError
from trtkit.server import RunningServer, serve

HALF = 65504.0  # the largest FP16 value


def four_together(config: ModelConfig) -> None:
    config.dynamic_batching.preferred_batch_size.append(4)
    config.dynamic_batching.max_queue_delay_microseconds = 60_000_000


def half_to_full(config: ModelConfig) -> None:
    config.input[0].data_type = "TYPE_FP16"
    config.input[1].data_type = "TYPE_BOOL"


def full_to_half(config: ModelConfig) -> None:
    config.output[0].data_type = "TYPE_FP16"


def one_text(config: ModelConfig) -> None:
    config.max_batch_size = 0
    config.ClearField("dynamic_batching")
    config.input[1].data_type = "TYPE_INT32"


POOLINGS = ("mean", "cls", "max", "last", "weighted_mean")
MODELS: dict[str, tuple[dict[str, str], Any]] = {
    **{pooling: ({"pooling": pooling, "normalize": "false"}, None) for pooling in POOLINGS},
    "defaults": ({}, four_together),
    "half_to_full": ({}, half_to_full),
    "full_to_half": ({"normalize": "false"}, full_to_half),
    "one_text": ({"pooling": "weighted_mean"}, one_text),
}


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("sentence_pool")
    for name, (parameters, edit) in MODELS.items():
        write_part(repository, name, "sentence_pool", parameters, edit=edit)
    with serve(repository) as running:
        yield running


@pytest.fixture(scope="module")
def grpc(triton: RunningServer) -> Iterator[Connection]:
    made = Connection("grpc", triton.grpc_url)
    yield made
    made.close()


@pytest.fixture(scope="module", params=["http", "grpc"])
def connection(triton: RunningServer, request: pytest.FixtureRequest) -> Iterator[Connection]:
    made = Connection(request.param, triton.http_url if request.param == "http" else triton.grpc_url)
    yield made
    made.close()


def feed(tokens: np.ndarray, mask: Any = None) -> dict[str, np.ndarray]:
    made = {"token_embeddings": tokens}
    return made if mask is None else made | {"attention_mask": np.asarray(mask, dtype=np.int64)}


def embedding(result: Any) -> np.ndarray:
    return result.as_numpy("sentence_embedding")


def pooled(pooling: str, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Row by row, the tokens that count and nothing else; zeros where there are none."""
    rows = []
    for row, kept in zip(torch.from_numpy(tokens).double(), torch.from_numpy(mask != 0), strict=True):
        taken = row[kept]
        weights = torch.arange(1, len(taken) + 1, dtype=torch.float64)
        made = {
            "mean": lambda taken=taken: taken.mean(0),
            "cls": lambda taken=taken: taken[0],
            "max": lambda taken=taken: taken.amax(0),
            "last": lambda taken=taken: taken[-1],
            "weighted_mean": lambda taken=taken, weights=weights: (weights[:, None] * taken).sum(0) / weights.sum(),
        }[pooling]
        rows.append(made() if len(taken) else torch.zeros(tokens.shape[2]).double())
    return torch.stack(rows).numpy()


def tokens_of(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


# ------------------------------------------------------------------------------------------- right answers


@pytest.mark.triton
@pytest.mark.parametrize("pooling", POOLINGS)
@settings(max_examples=30)
@given(data=st.data())
def test_any_tokens_and_any_mask(grpc: Connection, pooling: str, data: st.DataObject) -> None:
    rows, sequence, hidden = (data.draw(st.integers(1, most)) for most in (4, 9, 5))
    bits = data.draw(st.lists(st.integers(0, 1), min_size=rows * sequence, max_size=rows * sequence))
    mask = np.reshape(bits, (rows, sequence))
    tokens = tokens_of(rows, sequence, hidden, seed=data.draw(st.integers(0, 99)))
    # whatever stands in padding must not show
    tokens[mask == 0] = data.draw(st.sampled_from([0.0, np.nan, np.inf, -np.inf, 3e38]))
    result = embedding(grpc.infer(pooling, feed(tokens, mask)))
    np.testing.assert_allclose(result, pooled(pooling, tokens, mask), rtol=1e-5, atol=1e-6)


@pytest.mark.triton
def test_every_token_counts_without_a_mask(connection: Connection) -> None:
    tokens = tokens_of(2, 5, 8)
    result = embedding(connection.infer("mean", feed(tokens)))
    np.testing.assert_allclose(result, tokens.mean(axis=1), rtol=1e-5, atol=1e-6)


@pytest.mark.triton
def test_requests_of_a_batch_may_have_any_length_and_get_embeddings_of_length_one(grpc: Connection) -> None:
    tokens, mask = tokens_of(4, 5, 8), np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]])
    executions = Executions(grpc, "defaults")
    feeds = [feed(tokens[[row], : 5 - row], mask[[row], : 5 - row]) for row in range(3)]
    answers = at_once(grpc, "defaults", [*feeds, feed(tokens[[3]], mask[[3]])])
    assert executions.for_rows(4) == 1
    expected = torch.nn.functional.normalize(torch.from_numpy(pooled("mean", tokens, mask)))
    np.testing.assert_allclose(np.concatenate(list(map(embedding, answers))), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.triton
def test_half_precision_in_is_summed_in_full_precision(connection: Connection) -> None:
    tokens = np.full((1, 8, 3), HALF, np.float16)  # their sum is beyond FP16
    tokens[0, :, 1] *= -1
    tokens[0, 7] = np.nan
    mask = np.array([[True] * 7 + [False]])
    result = embedding(connection.infer("half_to_full", {"token_embeddings": tokens, "attention_mask": mask}))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, np.array([[1, -1, 1]]) / np.sqrt(3), rtol=1e-6)


@pytest.mark.triton
def test_half_precision_out(connection: Connection) -> None:
    tokens = tokens_of(2, 5, 8)
    result = embedding(connection.infer("full_to_half", feed(tokens)))
    assert result.dtype == np.float16
    np.testing.assert_array_equal(result, tokens.mean(axis=1).astype(np.float16))


@pytest.mark.triton
@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_values_whose_squares_are_beyond_fp32_are_normalized(grpc: Connection, size: float) -> None:
    tokens = np.array([[[3, 4]]], np.float32) * np.float32(size)
    answers = at_once(grpc, "defaults", [feed(tokens)] * 4)
    expected = np.array([[0.6, 0.8]]) if size > 1 else np.array([[3, 4]]) * size / 1e-12  # torch's least length
    np.testing.assert_allclose(embedding(answers[0]), expected, rtol=1e-6)


@pytest.mark.triton
def test_a_model_without_a_batch_takes_one_text(connection: Connection) -> None:
    tokens, mask = tokens_of(6, 4), np.array([1, 1, 1, 0, 1, 0], np.int32)
    result = embedding(connection.infer("one_text", {"token_embeddings": tokens, "attention_mask": mask}))
    expected = pooled("weighted_mean", tokens[np.newaxis], mask[np.newaxis])[0]
    np.testing.assert_allclose(result, expected / np.linalg.norm(expected), rtol=1e-5)


@pytest.mark.triton
@pytest.mark.parametrize("pooling", POOLINGS)
def test_no_tokens_give_zeros(grpc: Connection, pooling: str) -> None:
    empty = feed(np.zeros((2, 0, 3), np.float32), np.zeros((2, 0)))
    np.testing.assert_array_equal(embedding(grpc.infer(pooling, empty)), np.zeros((2, 3)))
    assert embedding(grpc.infer(pooling, feed(np.zeros((2, 3, 0), np.float32)))).shape == (2, 0)


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.triton
def test_nan_in_a_token_that_counts_stays_in_its_row(grpc: Connection) -> None:
    tokens = tokens_of(2, 3, 4)
    tokens[0, 1, 2] = np.nan
    result = embedding(grpc.infer("mean", feed(tokens)))
    np.testing.assert_array_equal(np.isnan(result), [[False, False, True, False], [False] * 4])


@pytest.mark.triton
def test_a_mask_of_another_shape_fails_alone(connection: Connection) -> None:
    with pytest.raises(InferenceServerException, match=r"'mean': input 'attention_mask' has the shape \[2, 4\], and"):
        connection.infer("mean", feed(tokens_of(2, 5, 8), np.ones((2, 4))))
    assert embedding(connection.infer("mean", feed(tokens_of(2, 5, 8), np.ones((2, 5))))).shape == (2, 8)


BAD_CONFIGS: dict[str, tuple[dict[str, str], Any, str]] = {
    "median": (
        {"pooling": "median"},
        None,
        "'pooling' is 'median', expected one of mean, cls, max, last, weighted_mean",
    ),
    "misspelt": ({"normalise": "true"}, None, "unknown parameter 'normalise'; did you mean 'normalize'?"),
    "bf16": (
        {},
        lambda config: setattr(config.input[0], "data_type", "TYPE_BF16"),
        "input 'token_embeddings' is TYPE_BF16, expected TYPE_FP32 or TYPE_FP16",
    ),
}


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The server's reason by model, from one server that is given all of them."""
    repository = tmp_path_factory.mktemp("refused")
    for name, (parameters, edit, _) in BAD_CONFIGS.items():
        write_part(repository, name, "sentence_pool", parameters, edit=edit)
    with pytest.raises(ModelUnavailableError) as error, serve(repository):
        pass
    parts = re.split(r"model '(\w+)' failed to load: ", str(error.value))[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.triton
@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_a_config_that_cannot_work_is_refused_with_the_reason(refusals: dict[str, str], name: str) -> None:
    assert BAD_CONFIGS[name][-1] in " ".join(refusals[name].split())
