# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The five best of an ImageNet classifier's and of a vocabulary's scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from harness import Case, part_module, write_part

LABELS = "\n".join(f"class {index}" for index in range(1000)).encode()


def benchmark(repository: Path) -> list[Case]:
    """With and without labels, one row and 32 rows a request."""
    write_part(repository, "labelled", "top_k", {"k": "5", "labels": "labels.txt"}, files={"labels.txt": LABELS})
    write_part(repository, "softmax", "top_k", {"k": "5", "activation": "softmax"})
    return [
        case("labelled", "1,000 classes, labels", 1, 1000),
        case("labelled", "32 × 1,000 classes, labels", 32, 1000),
        case("softmax", "1,000 classes, softmax", 1, 1000),
        case("softmax", "50,000 classes, softmax", 1, 50_000),
    ]


def case(model: str, request: str, rows: int, classes: int) -> Case:
    """A request of random scores."""
    top_k = part_module("top_k", "trtkit_top_k")
    scores = np.random.default_rng(0).random((rows, classes), np.float32)
    activation = "softmax" if model == "softmax" else "none"
    return Case(
        model, request, {"scores": scores}, lambda: top_k.activate(scores, top_k.best(scores, 5), activation), rows
    )
