# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The sample's text model: sentences to embeddings, so that sentences about the same data set are close together.

It learns from the descriptions of data sets that scikit-learn ships. A token's embedding says how much the token tells
about each description (counts times inverse frequency), and one layer of self-attention adds what stands around it.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
MAX_LENGTH = 64
SHARPNESS = 4.0  # of the attention: the larger, the more a token listens to those of its own topic only


class Sentences(NamedTuple):
    """Sentences, and for each the number of the description that it is from."""

    texts: list[str]
    topics: np.ndarray


def sentences() -> Sentences:
    """The sentences of at least six words in scikit-learn's descriptions of its data sets; always the same."""
    texts, topics = [], []
    folder = importlib.resources.files("sklearn.datasets.descr")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".rst")), key=lambda file: file.name)
    for topic, file in enumerate(files):
        for paragraph in re.split(r"\n\s*\n", file.read_text(encoding="utf-8")):
            for sentence in re.split(r"(?<=[.?!])\s+", " ".join(paragraph.split())):
                if len(re.findall(r"[A-Za-z]{2,}", sentence)) >= 6:
                    texts.append(sentence)
                    topics.append(topic)
    return Sentences(texts, np.array(topics))


@functools.cache
def split() -> tuple[Sentences, Sentences]:
    """Training and held-out sentences: every fourth is held out."""
    texts, topics = sentences()
    held = np.arange(len(texts)) % 4 == 3
    return tuple(
        Sentences([text for text, taken in zip(texts, rows, strict=True) if taken], topics[rows])
        for rows in (~held, held)
    )


@functools.cache
def _tokenizer() -> Tokenizer:
    """WordPiece over the words of the training sentences; others fall apart into letters.

    The library's trainers break ties at random; this vocabulary is the same every time.
    """
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words = Counter(
        word for text in split()[0].texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    )
    letters = sorted({letter for word in words for letter in word})
    tokens = [*SPECIAL_TOKENS, *letters, *(f"##{letter}" for letter in letters), *sorted(words)]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    start, end = (vocabulary[token] for token in ("[CLS]", "[SEP]"))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", end), ("[CLS]", start))
    tokenizer.enable_truncation(MAX_LENGTH)
    return tokenizer


def tokenizer() -> bytes:
    """The content of tokenizer.json."""
    return _tokenizer().to_str(pretty=True).encode()


def embeddings() -> np.ndarray:
    """FP32 [vocabulary, topics]: how much a token tells about each description; zeros for what was never seen."""
    training = split()[0]
    counts = np.zeros((_tokenizer().get_vocab_size(), training.topics.max() + 1), np.float32)
    for encoding, topic in zip(_tokenizer().encode_batch(training.texts), training.topics, strict=True):
        np.add.at(counts[:, topic], encoding.ids, 1)
    topics_of_token = np.maximum((counts > 0).sum(axis=1, keepdims=True), 1)
    return (np.log1p(counts) * np.log(counts.shape[1] / topics_of_token)).astype(np.float32)


def encoder() -> Any:
    """INT64 input_ids and attention_mask [batch, sequence] to FP32 token_embeddings [batch, sequence, topics]."""
    table = embeddings()
    constants = {
        "table": table,
        "scale": np.float32(SHARPNESS / np.sqrt(table.shape[1])),
        "one": np.float32(1),
        "far": np.float32(1e9),
        "middle": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["tokens"]),
        helper.make_node("Transpose", ["tokens"], ["transposed"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["tokens", "transposed"], ["products"]),
        helper.make_node("Mul", ["products", "scale"], ["scores"]),
        # padding gets a score so low that nothing listens to it
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["mask", "one"], ["padding"]),
        helper.make_node("Mul", ["padding", "far"], ["penalties"]),
        helper.make_node("Unsqueeze", ["penalties", "middle"], ["penalty"]),
        helper.make_node("Add", ["scores", "penalty"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["attention"], axis=-1),
        helper.make_node("MatMul", ["attention", "tokens"], ["context"]),
        helper.make_node("Add", ["tokens", "context"], ["token_embeddings"]),
    ]
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask")
    ]
    out = helper.make_tensor_value_info("token_embeddings", TensorProto.FLOAT, ["batch", "sequence", table.shape[1]])
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "text_encoder", ids, [out], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def holdout() -> tuple[dict[str, Any], Any]:
    """The held-out sentences as UTF-8 [N, 1], and the topic of each."""
    held = split()[1]
    return {"TEXT": np.array([text.encode() for text in held.texts], dtype=object).reshape(-1, 1)}, held.topics


def encoded_holdout() -> tuple[dict[str, Any], Any]:
    """The held-out sentences as token ids, padded to the longest, and the topic of each."""
    held = split()[1]
    encodings = _tokenizer().encode_batch(held.texts)
    ids = np.zeros((len(encodings), max(map(len, encodings))), np.int64)  # [PAD] is 0
    for row, encoding in zip(ids, encodings, strict=True):
        row[: len(encoding)] = encoding.ids
    return {"input_ids": ids, "attention_mask": (ids != 0).astype(np.int64)}, held.topics


def closeness(outputs: dict[str, Any], topics: Any) -> float:
    """How often two sentences about the same data set are closer than two about different ones; 0.5 is chance.

    Args:
        outputs: ``EMBEDDING`` [N, topics], rows of length 1.
        topics: of each sentence [N].
    """
    embedded = outputs["EMBEDDING"]
    first, second = np.triu_indices(len(topics), 1)
    similarities = (embedded @ embedded.T)[first, second]
    same = topics[first] == topics[second]
    ranks = np.empty(len(similarities))
    ranks[np.argsort(similarities)] = np.arange(len(similarities))
    pairs = same.sum()
    return float((ranks[same].sum() - pairs * (pairs - 1) / 2) / (pairs * (len(same) - pairs)))
