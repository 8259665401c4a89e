# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Cases for text_tokenize: texts of two lengths, a batch, offsets; and what its padding does to the model behind it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from harness import Case, part_module, write_part
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

from text_models import descriptions, tokenizer_json

MAX_LENGTH = 128
HIDDEN, LAYERS = 128, 4
WORDS = " ".join(descriptions()).split()
# how the texts of the pipelines are padded
PADDINGS = {
    "longest_in_request": {"buckets": ""},
    "buckets": {},
    "longest": {"padding": "longest", "buckets": ""},
    "max_length": {"padding": "max_length"},
}
ENCODER = """
backend: "onnxruntime"
max_batch_size: 32
dynamic_batching { }
instance_group { count: 1 kind: KIND_CPU }
parameters { key: "intra_op_thread_count" value { string_value: "1" } }
"""
PIPELINE = """
platform: "ensemble"
max_batch_size: 32
input { name: "text" data_type: TYPE_STRING dims: 1 }
output { name: "hidden" data_type: TYPE_FP32 dims: [-1, %d] }
ensemble_scheduling {
  step {
    model_name: "%s" model_version: -1
    input_map { key: "text" value: "text" } output_map { key: "input_ids" value: "ids" }
  }
  step {
    model_name: "encoder" model_version: -1
    input_map { key: "ids" value: "ids" } output_map { key: "hidden" value: "hidden" }
  }
}
"""


def benchmark(repository: Path) -> list[Case]:
    """See the module's words."""
    files = {"tokenizer.json": tokenizer_json("word_piece")}
    write_part(repository, "tokens", "text_tokenize", {"max_length": str(MAX_LENGTH)}, files=files)
    write_part(repository, "offsets", "text_tokenize", {"max_length": str(MAX_LENGTH)}, files=files, edit=_with_offsets)
    cases = [
        Case("tokens", "8 words", _feed([8]), _compute([8])),
        Case("tokens", "400 words, cut at 128 tokens", _feed([400]), _compute([400])),
        Case("tokens", "a batch of 32 times 8 words", _feed([8] * 32), _compute([8] * 32), 32),
        Case("offsets", "8 words, with offsets", _feed([8]), _compute([8], offsets=True)),
    ]
    _write_encoder(repository / "encoder")
    lengths = np.random.default_rng(0).lognormal(np.log(12), 0.8, 64).astype(int).clip(1, MAX_LENGTH)
    for name, parameters in PADDINGS.items():
        write_part(
            repository, f"pad_{name}", "text_tokenize", {"max_length": str(MAX_LENGTH)} | parameters, files=files
        )
        _write_pipeline(repository, name)
        cases.append(Case(f"pipeline_{name}", f"pipeline, padding {name}", [_feed([n]) for n in lengths]))
    return cases


def _with_offsets(config: Any) -> None:
    config.output.add(name="offsets", data_type="TYPE_INT64", dims=[-1, 2])


def _texts(lengths: list[int]) -> list[str]:
    return [" ".join(WORDS[row : row + words]) for row, words in enumerate(lengths)]


def _feed(lengths: list[int]) -> dict[str, np.ndarray]:
    return {"text": np.array([[text.encode()] for text in _texts(lengths)], np.object_)}


def _compute(lengths: list[int], *, offsets: bool = False) -> Callable[[], object]:
    """Encoding and the arrays, without a server."""
    module = part_module("text_tokenize", "trtkit_text_tokenize")
    tokenizer = Tokenizer.from_buffer(tokenizer_json("word_piece"))
    tokenizer.enable_truncation(MAX_LENGTH)
    padding = module.Padding("longest", [], 1, MAX_LENGTH, "right", 0, 0)
    wanted = ["input_ids", "attention_mask", "token_type_ids", *(["offsets"] if offsets else [])]
    encode = tokenizer.encode_batch if offsets else tokenizer.encode_batch_fast

    def compute(texts: list[str]) -> object:
        encodings = encode(texts)
        return module.arrays(encodings, max(map(len, encodings)), padding, dict.fromkeys(wanted, np.int64), wanted)

    return functools.partial(compute, _texts(lengths))


def _write_pipeline(repository: Path, name: str) -> None:
    folder = repository / f"pipeline_{name}"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(PIPELINE % (HIDDEN, f"pad_{name}"))


def _write_encoder(folder: Path) -> None:
    """Self-attention and a feed-forward net, four times over, with random weights."""
    random = np.random.default_rng(0)
    weights = {"table": random.standard_normal((1000, HIDDEN))}
    nodes = [helper.make_node("Gather", ["table", "ids"], ["x0"])]
    for layer in range(LAYERS):
        weights |= {f"up{layer}": random.standard_normal((HIDDEN, 4 * HIDDEN)) / HIDDEN}
        weights |= {f"down{layer}": random.standard_normal((4 * HIDDEN, HIDDEN)) / HIDDEN}
        nodes += [
            helper.make_node("Transpose", [f"x{layer}"], [f"t{layer}"], perm=[0, 2, 1]),
            helper.make_node("MatMul", [f"x{layer}", f"t{layer}"], [f"s{layer}"]),
            helper.make_node("Softmax", [f"s{layer}"], [f"p{layer}"], axis=-1),
            helper.make_node("MatMul", [f"p{layer}", f"x{layer}"], [f"a{layer}"]),
            helper.make_node("MatMul", [f"a{layer}", f"up{layer}"], [f"u{layer}"]),
            helper.make_node("Relu", [f"u{layer}"], [f"r{layer}"]),
            helper.make_node("MatMul", [f"r{layer}", f"down{layer}"], [f"x{layer + 1}"]),
        ]
    nodes.append(helper.make_node("Identity", [f"x{LAYERS}"], ["hidden"]))
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "sequence"])
    hidden = helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["batch", "sequence", HIDDEN])
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "encoder", [ids], [hidden], tensors)
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(ENCODER)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "1" / "model.onnx"
    )
