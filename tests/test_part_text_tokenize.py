# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""python_backends/text_tokenize on a real tritonserver, against transformers' own fast tokenizers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
from tritonclient.utils import InferenceServerException

from conftest import processes, write_model
from onnx_clients import Connection, Executions, at_once
from part_models import write_part
from text_models import ODD_TEXTS, TEXTS, tokenizer_json
from trtkit.config import ModelConfig
from trtkit.errors import ModelUnavailableError
from trtkit.server import RunningServer, serve

TENSORS = {"input_ids": "input_ids", "attention_mask": "attention_mask", "token_type_ids": "token_type_ids"}
GOOD = ["wine", "iris", "a"]
LONG = 60_000_000  # microseconds: never ends by itself in a test


def four_together(config: ModelConfig) -> None:
    config.dynamic_batching.preferred_batch_size.append(4)
    config.dynamic_batching.max_queue_delay_microseconds = LONG


def with_offsets(config: ModelConfig) -> None:
    config.output.add(name="offsets", data_type="TYPE_INT64", dims=[-1, 2])


def int32(config: ModelConfig) -> None:
    for output in config.output:
        output.data_type = "TYPE_INT32"


def unbatched(config: ModelConfig) -> None:
    config.max_batch_size = 0
    config.ClearField("dynamic_batching")
    for tensor in config.input:
        tensor.dims[:] = [-1]
    for output in config.output:
        output.dims[:] = [-1, -1]


# model: its tokenizer, its parameters, what changes its config
MODELS: dict[str, tuple[str, dict[str, str], Any]] = {
    "word_piece": ("word_piece", {"max_length": "32", "buckets": ""}, with_offsets),
    "byte_level_bpe": (
        "byte_level_bpe",
        {
            "max_length": "16", "padding": "max_length", "pad_token": "<|endoftext|>", "padding_side": "left",
            "truncation_side": "left",
        },
        int32,
    ),
    "unigram": (
        "unigram",
        {"max_length": "48", "buckets": "64,16,8", "padding_side": "left"},
        four_together,
    ),
    "together": ("word_piece", {"max_length": "32", "padding": "longest", "buckets": ""}, four_together),
    "strict": (
        "word_piece",
        {"max_length": "12", "truncation": "none", "max_bytes": "200", "threads": "3"},
        four_together,
    ),
    "own_settings": ("own_settings", {}, None),
    "only_first": ("word_piece", {"max_length": "12", "buckets": "", "truncation": "only_first"}, None),
    "unbatched": ("word_piece", {"buckets": "", "pad_to_multiple_of": "8", "add_special_tokens": "false"}, unbatched),
}  # fmt: skip

COUNTS_REQUESTS = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        count = np.array([[len(requests)]], np.int32)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("count", count)]) for _ in requests]
"""
COUNTS_REQUESTS_CONFIG = """
backend: "python"
max_batch_size: 4
input { name: "input_ids" data_type: TYPE_INT64 dims: -1 }
output { name: "count" data_type: TYPE_INT32 dims: 1 }
dynamic_batching { preferred_batch_size: 4 max_queue_delay_microseconds: 60000000 }
instance_group { count: 1 kind: KIND_CPU }
"""
PIPELINE = """
platform: "ensemble"
max_batch_size: 4
input { name: "TEXT" data_type: TYPE_STRING dims: 1 }
output { name: "COUNT" data_type: TYPE_INT32 dims: 1 }
ensemble_scheduling {
  step {
    model_name: "together" model_version: -1
    input_map { key: "text" value: "TEXT" } output_map { key: "input_ids" value: "ids" }
  }
  step {
    model_name: "counts_requests" model_version: -1
    input_map { key: "input_ids" value: "ids" } output_map { key: "count" value: "COUNT" }
  }
}
"""


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("text_tokenize")
    for name, (tokenizer, parameters, edit) in MODELS.items():
        write_part(repository, name, "text_tokenize", parameters, files=file_of(tokenizer), edit=edit)
    write_model(repository, "counts_requests", COUNTS_REQUESTS_CONFIG, COUNTS_REQUESTS)
    write_model(repository, "pipeline", PIPELINE, "")
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
    """From a tokenizer's name and options to transformers' own class of it."""

    def make(name: str, **options: str) -> PreTrainedTokenizerFast:
        file = tmp_path_factory.mktemp("reference") / "tokenizer.json"
        file.write_bytes(file_of(name)["tokenizer.json"])
        return PreTrainedTokenizerFast(tokenizer_file=str(file), **options)

    return make


def file_of(tokenizer: str) -> dict[str, bytes]:
    return {"tokenizer.json": own_settings() if tokenizer == "own_settings" else tokenizer_json(tokenizer)}


def own_settings() -> bytes:
    """A file that says itself how to cut and to pad."""
    tokenizer = Tokenizer.from_buffer(tokenizer_json("word_piece"))
    tokenizer.enable_truncation(10, strategy="only_first", direction="left")
    tokenizer.enable_padding(direction="left", pad_id=1, pad_type_id=1, pad_token="[UNK]")
    return tokenizer.to_str().encode()


def feed(*texts: str | bytes, pairs: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    made = {"text": column(texts)}
    return made | {"text_pair": column(pairs)} if pairs else made


def column(texts: Any) -> np.ndarray:
    array = np.empty((len(texts), 1), dtype=np.object_)
    array[:, 0] = [text.encode() if isinstance(text, str) else text for text in texts]
    return array


def check(result: Any, expected: Mapping[str, Any], names: Mapping[str, str] = TENSORS) -> None:
    for ours, theirs in names.items():
        np.testing.assert_array_equal(result.as_numpy(ours), np.array(expected[theirs]), err_msg=ours)


# ------------------------------------------------------------------------------- as transformers has it


@pytest.mark.triton
@pytest.mark.parametrize("text", ODD_TEXTS)
def test_a_text_alone(connection: Connection, transformer: Any, text: str) -> None:
    expected = transformer("word_piece")(
        [text], truncation=True, max_length=32, return_token_type_ids=True, return_offsets_mapping=True
    )
    result = connection.infer("word_piece", feed(text))
    check(result, expected, TENSORS | {"offsets": "offset_mapping"})
    assert result.as_numpy("input_ids").dtype == np.int64


@pytest.mark.triton
@settings(max_examples=60)
@given(st.lists(TEXTS, min_size=1, max_size=6))
def test_any_texts_of_a_word_piece_tokenizer(grpc: Connection, transformer: Any, texts: list[str]) -> None:
    expected = transformer("word_piece", pad_token="[PAD]")(
        texts, padding=True, truncation=True, max_length=32, return_token_type_ids=True, return_offsets_mapping=True
    )
    check(grpc.infer("word_piece", feed(*texts)), expected, TENSORS | {"offsets": "offset_mapping"})


@pytest.mark.triton
@settings(max_examples=60)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_any_pairs(grpc: Connection, transformer: Any, pairs: list[tuple[str, str]]) -> None:
    first, second = zip(*pairs, strict=True)
    expected = transformer("word_piece", pad_token="[PAD]")(
        list(first), list(second), padding=True, truncation=True, max_length=32, return_token_type_ids=True,
        return_offsets_mapping=True,
    )  # fmt: skip
    result = grpc.infer("word_piece", feed(*first, pairs=second))
    check(result, expected, TENSORS | {"offsets": "offset_mapping"})


@pytest.mark.triton
@settings(max_examples=60)
@given(st.lists(TEXTS, min_size=1, max_size=6))
def test_any_texts_of_a_byte_level_tokenizer_padded_and_cut_on_the_left(
    grpc: Connection, transformer: Any, texts: list[str]
) -> None:
    reference = transformer("byte_level_bpe", pad_token="<|endoftext|>", padding_side="left", truncation_side="left")
    expected = reference(texts, padding="max_length", truncation=True, max_length=16, return_token_type_ids=True)
    result = grpc.infer("byte_level_bpe", feed(*texts))
    check(result, expected)
    assert result.as_numpy("input_ids").dtype == np.int32


@pytest.mark.triton
def test_only_the_first_of_a_pair_is_cut(grpc: Connection, transformer: Any) -> None:
    reference, pair = transformer("word_piece"), ("the sepal length of a flower", "the wine")
    expected = reference([pair[0]], [pair[1]], truncation="only_first", max_length=12, return_token_type_ids=True)
    check(grpc.infer("only_first", feed(pair[0], pairs=(pair[1],))), expected)


@pytest.mark.triton
def test_a_file_that_says_how_to_cut_and_to_pad(grpc: Connection) -> None:
    texts = ["wine", "the sepal length of a flower and its width"]
    result = grpc.infer("own_settings", feed(*texts))
    for row, expected in enumerate(Tokenizer.from_buffer(own_settings()).encode_batch(texts)):
        assert result.as_numpy("input_ids")[row].tolist() == expected.ids
        assert result.as_numpy("attention_mask")[row].tolist() == expected.attention_mask
        assert result.as_numpy("token_type_ids")[row].tolist() == expected.type_ids


@pytest.mark.triton
def test_no_batch_and_no_special_tokens(connection: Connection, transformer: Any) -> None:
    texts = ["the iris", "", "a wine of Italy, by three cultivators"]
    expected = transformer("word_piece", pad_token="[PAD]")(
        texts, padding=True, pad_to_multiple_of=8, add_special_tokens=False, return_token_type_ids=True
    )
    result = connection.infer("unbatched", {"text": column(texts)[:, 0]})
    check(result, expected)
    assert result.as_numpy("input_ids").shape[1] % 8 == 0


@pytest.mark.triton
def test_no_tokens_and_no_texts_are_tensors_of_length_zero(connection: Connection) -> None:
    assert connection.infer("unbatched", {"text": np.array([b""], np.object_)}).as_numpy("input_ids").shape == (1, 0)
    assert connection.infer("unbatched", {"text": np.array([], np.object_)}).as_numpy("input_ids").shape == (0, 0)


# ---------------------------------------------------------------------------------------------- batches


@pytest.mark.triton
def test_requests_of_a_batch_get_one_length(grpc: Connection, transformer: Any) -> None:
    texts = ["wine", "the sepal length of the Iris flower", "", "a digit"]
    executions = Executions(grpc, "together")
    answers = at_once(grpc, "together", [feed(text) for text in texts])
    assert executions.for_rows(4) == 1
    expected = transformer("word_piece", pad_token="[PAD]")(texts, padding=True, return_token_type_ids=True)
    for row, answer in enumerate(answers):
        check(answer, {name: [values[row]] for name, values in expected.items()})


@pytest.mark.triton
def test_the_next_model_gets_them_as_one_batch(grpc: Connection) -> None:
    answers = at_once(grpc, "pipeline", [{"TEXT": column([text])} for text in ("a", "the wine", "", "x" * 40)])
    assert [answer.as_numpy("COUNT").item() for answer in answers] == [4, 4, 4, 4]


@pytest.mark.triton
def test_each_request_gets_the_bucket_of_its_longest_text(grpc: Connection, transformer: Any) -> None:
    texts = ["", "the wine", "the classes", "wine " * 20]
    reference = transformer("unigram", pad_token="<pad>", padding_side="left")
    buckets = set()
    for text, answer in zip(texts, at_once(grpc, "unigram", [feed(text) for text in texts]), strict=True):
        tokens = len(reference(text, truncation=True, max_length=48)["input_ids"])
        buckets.add(bucket := next(each for each in (8, 16, 48) if tokens <= each))
        expected = reference(
            [text], padding="max_length", max_length=bucket, truncation=True, return_token_type_ids=True
        )
        check(answer, expected)
    assert len(buckets) > 1


@pytest.mark.triton
def test_only_the_outputs_asked_for(connection: Connection) -> None:
    result = connection.infer("word_piece", feed("wine"), ["attention_mask"])
    assert result.as_numpy("attention_mask").all()
    assert result.as_numpy("input_ids") is None


# --------------------------------------------------------------------------------------------- bad input


@pytest.mark.triton
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (b"caf\xe9 au lait", "element 0 of input 'text' is not UTF-8: .* byte 0xe9 in position 3"),
        (b"\xed\xa0\x80", "element 0 of input 'text' is not UTF-8"),
        ("x" * 201, "element 0 of input 'text' has 201 bytes, at most 200 are taken; send less, or raise .*max_bytes"),
        ("a b c d e f g h i j k", "a text has 13 tokens, at most 12 are taken; send less, or set .*'truncation'"),
    ],
)
def test_a_bad_text_fails_alone(grpc: Connection, transformer: Any, bad: str | bytes, words: str) -> None:
    answers = at_once(grpc, "strict", [feed(bad), *(feed(text) for text in GOOD)])
    assert isinstance(answers[0], InferenceServerException)
    assert re.search(f"model 'strict': {words}", answers[0].message())
    expected = transformer("word_piece", pad_token="[PAD]")(GOOD, padding=True, return_token_type_ids=True)
    for row, answer in enumerate(answers[1:]):
        ids = answer.as_numpy("input_ids")[0]
        assert [each for each in ids if each] == [each for each in expected["input_ids"][row] if each]  # [PAD] is 0


@pytest.mark.triton
def test_a_string_of_100_megabytes_fails_alone(grpc: Connection, transformer: Any) -> None:
    answers = at_once(grpc, "together", [feed(b"x" * 100_000_000), *(feed(text) for text in GOOD)])
    assert "has 100000000 bytes, at most 131072 are taken" in answers[0].message()
    expected = transformer("word_piece", pad_token="[PAD]")(GOOD, padding=True, return_token_type_ids=True)
    for row, answer in enumerate(answers[1:]):
        check(answer, {name: [values[row]] for name, values in expected.items()})


@pytest.mark.triton
def test_a_pair_of_which_one_is_missing(grpc: Connection) -> None:
    wrong = {"text": column(["a", "b"]), "text_pair": column(["a"])}
    with pytest.raises(InferenceServerException):
        grpc.infer("word_piece", wrong)
    with pytest.raises(InferenceServerException, match="there are 2 rows of input 'text' and 1 of 'text_pair'"):
        grpc.infer("unbatched", {name: value[:, 0] for name, value in wrong.items()})


@pytest.mark.triton
def test_a_second_text_that_leaves_no_room_for_the_first(grpc: Connection) -> None:
    with pytest.raises(InferenceServerException, match="model 'only_first': the text cannot be encoded: "):
        grpc.infer("only_first", feed("a", pairs=("the sepal length of a flower " * 3,)))
    assert grpc.infer("only_first", feed("a")).as_numpy("input_ids").shape == (1, 3)


# ---------------------------------------------------------------------------------------------- loading


BAD_CONFIGS: dict[str, tuple[dict[str, str], str, Any, str]] = {
    "no_file": ({"tokenizer": "other.json"}, "word_piece", None, "there is no file 'other.json' in "),
    "not_a_tokenizer": ({}, "", None, "tokenizer.json is not a tokenizer file: "),
    "no_padding": ({}, "byte_level_bpe", None, r"no token \[PAD\] or <pad> to pad with; set parameter 'pad_token'"),
    "unknown_padding": ({"pad_token": "<none>"}, "word_piece", None, "the tokenizer has no token <none> to pad with"),
    "too_short": ({"max_length": "2"}, "word_piece", None, "'max_length' is '2', expected more than the 2 special"),
    "half_a_bucket": ({"buckets": "8,1.5"}, "word_piece", None, "'buckets' is '8,1.5', expected whole numbers from 1"),
    "both": (
        {"pad_to_multiple_of": "8"},
        "word_piece",
        None,
        "expected 1 where there are buckets; leave one of the two",
    ),
    "misspelt": ({"max_lenght": "16"}, "word_piece", None, "'max_lenght'; did you mean 'max_length'?"),
    "other_padding": ({"padding": "true"}, "word_piece", None, "expected one of longest_in_request, longest, max_"),
    "floats": (
        {},
        "word_piece",
        lambda config: config.output[0].MergeFrom(type(config.output[0])(data_type="TYPE_FP32")),
        "output 'input_ids' is TYPE_FP32, expected TYPE_INT64 or TYPE_INT32",
    ),
    "other_output": (
        {},
        "word_piece",
        lambda config: config.output.add(name="length", data_type="TYPE_INT32", dims=[1]),
        "there is no output 'length'; it has input_ids, attention_mask, token_type_ids, offsets",
    ),
}


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The server's reason by model, from one server that is given all of them."""
    repository = tmp_path_factory.mktemp("refused")
    for name, (parameters, tokenizer, edit, _) in BAD_CONFIGS.items():
        files = file_of(tokenizer) if tokenizer else {"tokenizer.json": b"{}"}
        write_part(repository, name, "text_tokenize", parameters, files=files, edit=edit)
    with pytest.raises(ModelUnavailableError) as error, serve(repository):
        pass
    parts = re.split(r"model '(\w+)' failed to load: ", str(error.value))[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.triton
@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_a_config_that_cannot_work_is_refused_with_the_reason(refusals: dict[str, str], name: str) -> None:
    assert re.search(f"model '{name}': .*{BAD_CONFIGS[name][-1]}", " ".join(refusals[name].split()))


@pytest.mark.triton
def test_a_stub_has_the_threads_it_was_given(grpc: Connection) -> None:
    for _ in range(2):
        grpc.infer("word_piece", feed(*["wine"] * 64))
        grpc.infer("strict", feed(*["wine"] * 4))
    assert threads_of("strict") == threads_of("word_piece") + 3


def threads_of(model: str) -> int:
    """The threads of a model's only stub."""
    stubs = [each.pid for each in processes() if each.name.startswith("triton_python_b")]
    folder = next(
        Path(f"/proc/{pid}/task") for pid in stubs if f"/{model}/" in Path(f"/proc/{pid}/cmdline").read_text()
    )
    return len(list(folder.iterdir()))
