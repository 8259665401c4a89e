# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""python_backends/text_detokenize on a real tritonserver, against transformers' own fast tokenizers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
from tritonclient.utils import InferenceServerException

from onnx_clients import Connection, Executions, at_once
from part_models import write_part
from text_models import TEXTS, TOKENIZERS, tokenizer_json
from trtkit.config import ModelConfig
from trtkit.errors import ModelUnavailableError
from trtkit.server import RunningServer, serve


def four_together(config: ModelConfig) -> None:
    config.dynamic_batching.preferred_batch_size.append(4)
    config.dynamic_batching.max_queue_delay_microseconds = 60_000_000


def unbatched(config: ModelConfig) -> None:
    config.max_batch_size = 0
    config.ClearField("dynamic_batching")
    for tensor in config.input:
        tensor.data_type, tensor.dims[:] = "TYPE_INT32", [-1, -1, -1]
    config.output[0].dims[:] = [-1, -1, 1]


MODELS: dict[str, tuple[str, dict[str, str], Any]] = {
    **{name: (name, {}, None) for name in TOKENIZERS},
    "keeps_special": ("word_piece", {"skip_special_tokens": "false", "max_tokens": "1000"}, four_together),
    "skips_unknown": ("word_piece", {"unknown_ids": "skip"}, unbatched),
}


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("text_detokenize")
    for name, (tokenizer, parameters, edit) in MODELS.items():
        files = {"tokenizer.json": tokenizer_json(tokenizer)}
        write_part(repository, name, "text_detokenize", parameters, files=files, edit=edit)
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


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """From a tokenizer's name to transformers' own class of it."""

    def make(name: str) -> PreTrainedTokenizerFast:
        file = tmp_path_factory.mktemp("reference") / "tokenizer.json"
        file.write_bytes(tokenizer_json(name))
        return PreTrainedTokenizerFast(tokenizer_file=str(file), clean_up_tokenization_spaces=False)

    return make


def texts_of(result: Any) -> list[str]:
    return [value.decode() for value in result.as_numpy("text").ravel()]


def ids(*rows: list[int], kind: Any = np.int64) -> dict[str, np.ndarray]:
    return {"ids": np.array(rows, kind)}


# ------------------------------------------------------------------------------- as transformers has it


@pytest.mark.triton
@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=40)
@given(st.data())
def test_any_ids(grpc: Connection, transformer: Any, name: str, data: st.DataObject) -> None:
    size = Tokenizer.from_buffer(tokenizer_json(name)).get_vocab_size()
    length = data.draw(st.integers(0, 20))
    row = st.lists(st.integers(0, size - 1), min_size=length, max_size=length)
    rows = np.array(data.draw(st.lists(row, min_size=1, max_size=4)), np.int64)
    result = grpc.infer(name, {"ids": rows})
    assert result.as_numpy("text").shape == (len(rows), 1)
    assert texts_of(result) == transformer(name).batch_decode(rows.tolist(), skip_special_tokens=True)


@pytest.mark.triton
@settings(max_examples=40)
@given(TEXTS)
def test_a_byte_level_text_comes_back_character_for_character(grpc: Connection, text: str) -> None:
    tokenizer = Tokenizer.from_buffer(tokenizer_json("byte_level_bpe"))
    encoded = tokenizer.encode(text.replace("<|endoftext|>", "")).ids
    assert texts_of(grpc.infer("byte_level_bpe", ids(encoded))) == [text]


@pytest.mark.triton
def test_special_tokens_are_left_out(connection: Connection, transformer: Any) -> None:
    encoded = transformer("word_piece")("the iris [SEP] wine")["input_ids"]
    answers = texts_of(connection.infer("word_piece", ids(encoded)))
    assert answers == ["the iris wine"]


# ------------------------------------------------------------------------------------- what is left out


@pytest.mark.triton
def test_negative_ids_and_masked_ids_are_padding(connection: Connection, transformer: Any) -> None:
    encoded = transformer("word_piece")("the iris wine", add_special_tokens=False)["input_ids"]
    padded = [*encoded, -1, -100, np.iinfo(np.int64).min]
    assert texts_of(connection.infer("word_piece", ids(padded))) == ["the iris wine"]
    unknown = [999_999, *encoded]
    mask = {"attention_mask": np.array([[0, *[1] * len(encoded)]])}
    assert texts_of(connection.infer("word_piece", ids(unknown) | mask)) == ["the iris wine"]


@pytest.mark.triton
def test_unknown_ids_are_skipped_where_asked_for_in_any_shape(connection: Connection, transformer: Any) -> None:
    encoded = transformer("word_piece")("the iris", add_special_tokens=False)["input_ids"]
    beams = np.array([[[*encoded, 999_999], [2_147_483_647, -5, encoded[0]]]], np.int32)
    result = connection.infer("skips_unknown", {"ids": beams})
    assert result.as_numpy("text").shape == (1, 2, 1)
    assert texts_of(result) == ["the iris", transformer("word_piece").decode(encoded[:1])]


@pytest.mark.triton
def test_no_ids_are_an_empty_text_and_no_rows_are_no_texts(connection: Connection) -> None:
    assert texts_of(connection.infer("word_piece", {"ids": np.zeros((2, 0), np.int64)})) == ["", ""]
    empty = connection.infer("skips_unknown", {"ids": np.zeros((0, 2, 3), np.int32)}).as_numpy("text")
    assert empty.shape == (0, 2, 1)


# ------------------------------------------------------------------------------- batches, and bad input


@pytest.mark.triton
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ([5, 100_000, 5], "input 'ids' has 100000, and the tokenizer's ids end at 799; .* 'unknown_ids' to skip"),
        ([5] * 1001, "input 'ids' has 1001 tokens in a row, at most 1000 are taken; .* 'max_tokens'"),
    ],
)
def test_bad_ids_fail_alone(grpc: Connection, transformer: Any, bad: list[int], words: str) -> None:
    good = [transformer("word_piece")(text)["input_ids"] for text in ("the iris", "wine and digits", "a")]
    executions = Executions(grpc, "keeps_special")
    answers = at_once(grpc, "keeps_special", [ids(row) for row in [bad, *good]])
    assert isinstance(answers[0], InferenceServerException)
    assert re.search(f"model 'keeps_special': {words}", answers[0].message())
    assert [texts_of(answer) for answer in answers[1:]] == [[transformer("word_piece").decode(row)] for row in good]
    assert executions.for_rows(3) == 1


@pytest.mark.triton
def test_a_mask_of_another_shape(grpc: Connection) -> None:
    with pytest.raises(InferenceServerException, match=r"'attention_mask' has the shape \[1, 2\], and 'ids' \[1, 3\]"):
        grpc.infer("word_piece", ids([5, 6, 7]) | {"attention_mask": np.ones((1, 2), np.int64)})


@pytest.mark.triton
def test_ids_that_are_no_integers_are_refused_at_load(tmp_path: Path) -> None:
    def floats(config: ModelConfig) -> None:
        config.input[0].data_type = "TYPE_FP32"

    files = {"tokenizer.json": tokenizer_json("word_piece")}
    write_part(tmp_path, "floats", "text_detokenize", files=files, edit=floats)
    words = "input 'ids' is TYPE_FP32, expected TYPE_INT64, TYPE_INT32 or TYPE_UINT32"
    with pytest.raises(ModelUnavailableError, match=words), serve(tmp_path):
        pass
