# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Small tokenizers, trained on the descriptions of data sets that scikit-learn ships, and texts to try them on."""

from __future__ import annotations

import functools
from collections.abc import Callable

from hypothesis import strategies as st
from sklearn import datasets
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ODD_TEXTS = [
    "",
    " ",
    "\n\t \r\n",
    "\0",
    "a\0b",
    "The sepal length of the Iris flower.",
    "naïve café, Ünïcödé; ﬁne print",
    "漢字とかな",
    "한국어 텍스트",
    "👩‍👩‍👧‍👦 and 🏳️‍🌈, 🇨🇭",
    "e\u0301 \u202eright to left\u202c \ufeff",
    "[CLS] [SEP] <s> </s> [PAD]",
    "x" * 300,
    "word " * 300,
]

# texts as people and machines send them: any characters but surrogates, which UTF-8 has not
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    st.text("abc ß漢👩\u200d\0\n.,-", max_size=80),
    st.sampled_from(ODD_TEXTS),
)


@functools.cache
def descriptions() -> list[str]:
    """The paragraphs of the descriptions of six data sets."""
    loads = (
        datasets.load_iris,
        datasets.load_wine,
        datasets.load_digits,
        datasets.load_diabetes,
        datasets.load_linnerud,
        datasets.load_breast_cancer,
    )
    return [" ".join(each.split()) for load in loads for each in load().DESCR.split("\n\n") if each.strip()]


def word_piece() -> Tokenizer:
    """As BERT has it."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    _train(tokenizer, trainers.WordPieceTrainer(vocab_size=800, special_tokens=special, show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def byte_level_bpe() -> Tokenizer:
    """As GPT-2 has it: every byte has a token, nothing is unknown, nothing pads."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    _train(tokenizer, trainer)
    return tokenizer


def unigram() -> Tokenizer:
    """As T5 and XLM-RoBERTa have it."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    _train(
        tokenizer,
        trainers.UnigramTrainer(vocab_size=500, special_tokens=special, unk_token="<unk>", show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")],
    )
    return tokenizer


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "word_piece": word_piece,
    "byte_level_bpe": byte_level_bpe,
    "unigram": unigram,
}


@functools.cache
def tokenizer_json(name: str) -> bytes:
    """The file of one of TOKENIZERS; the same for the whole run, although training breaks ties at random."""
    return TOKENIZERS[name]().to_str().encode()


def _train(tokenizer: Tokenizer, trainer: object) -> None:
    tokenizer.train_from_iterator(descriptions(), trainer)
