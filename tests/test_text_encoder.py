# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The sample's text model, scripts/text_encoder.py: the same every time, and it means something."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
PRINT_HASHES = """
import hashlib, text_encoder
for content in (text_encoder.tokenizer(), text_encoder.encoder().SerializeToString()):
    print(hashlib.sha256(content).hexdigest())
"""


@pytest.fixture(scope="module")
def text_encoder() -> Iterator[Any]:
    sys.path.insert(0, str(SCRIPTS))
    import text_encoder

    yield text_encoder
    sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def session(text_encoder: Any) -> ort.InferenceSession:
    model = text_encoder.encoder()
    onnx.checker.check_model(model, full_check=True)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_another_process_makes_the_same_tokenizer_and_encoder(text_encoder: Any) -> None:
    made = (text_encoder.tokenizer(), text_encoder.encoder().SerializeToString())
    again = subprocess.run(
        [sys.executable, "-c", PRINT_HASHES], cwd=SCRIPTS, capture_output=True, text=True, check=True
    )
    assert again.stdout.split() == [hashlib.sha256(content).hexdigest() for content in made]


def test_held_out_sentences_about_the_same_data_set_are_closer(text_encoder: Any, session: Any) -> None:
    inputs, topics = text_encoder.encoded_holdout()
    tokens, mask = session.run(None, inputs)[0], inputs["attention_mask"][..., np.newaxis]
    embedded = (tokens * mask).sum(axis=1) / mask.sum(axis=1)
    embedded /= np.linalg.norm(embedded, axis=1, keepdims=True)
    assert text_encoder.closeness({"EMBEDDING": embedded}, topics) > 0.75
    shuffled = np.random.default_rng(0).permutation(embedded)
    assert abs(text_encoder.closeness({"EMBEDDING": shuffled}, topics) - 0.5) < 0.05


def test_padding_changes_nothing(text_encoder: Any, session: Any) -> None:
    inputs, _ = text_encoder.encoded_holdout()
    length = inputs["attention_mask"][0].sum()
    assert length < inputs["attention_mask"].shape[1]
    padded = session.run(None, {name: value[:1] for name, value in inputs.items()})[0]
    alone = session.run(None, {name: value[:1, :length] for name, value in inputs.items()})[0]
    np.testing.assert_allclose(padded[:, :length], alone, rtol=1e-5, atol=1e-6)
