# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Cases for sentence_pool: the mean of few and of many tokens, in both precisions, and a maximum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from harness import Case, part_module, write_part


def benchmark(repository: Path) -> list[Case]:
    """See the module's words."""
    write_part(repository, "mean", "sentence_pool")
    write_part(repository, "maximum", "sentence_pool", {"pooling": "max"})
    write_part(repository, "half", "sentence_pool", edit=_half)
    return [
        _case("mean", "mean", (1, 32, 384)),
        _case("mean", "mean", (8, 128, 768)),
        _case("maximum", "max", (1, 32, 384)),
        _case("half", "mean", (1, 32, 384), np.float16),
    ]


def _half(config: Any) -> None:
    config.input[0].data_type = config.output[0].data_type = "TYPE_FP16"


def _case(model: str, pooling: str, shape: tuple[int, int, int], kind: Any = np.float32) -> Case:
    random = np.random.default_rng(0)
    tokens, mask = random.standard_normal(shape).astype(kind), (random.random(shape[:2]) < 0.8).astype(np.int64)
    module = part_module("sentence_pool", "trtkit_sentence_pool")

    def compute() -> object:
        pooled = module.POOLINGS[pooling](tokens.astype(np.float32, copy=False), mask != 0)
        return module.normalized(pooled).astype(kind)

    words = f"{pooling}, {np.dtype(kind).name} {list(shape)}"
    return Case(model, words, {"token_embeddings": tokens, "attention_mask": mask}, compute, shape[0])
