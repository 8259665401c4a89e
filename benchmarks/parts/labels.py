# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Labels of 1,000 classes: of five indices, and of the scores of a multi-label model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from harness import Case, part_module, write_part

from trtkit.config import ModelConfig

LABELS = "\n".join(f"class {index}" for index in range(1000)).encode()


def benchmark(repository: Path) -> list[Case]:
    """One row a request."""
    version = write_part(repository, "of_index", "labels", files={"labels.txt": LABELS})
    write_part(repository, "of_scores", "labels", {"threshold": "0.99"}, files={"labels.txt": LABELS}, edit=scores)
    chosen = part_module("labels", "trtkit_multi_label").chosen
    index = np.array([[5, 0, 999, 7, 7]], np.int32)
    values = np.random.default_rng(0).random((1, 1000), np.float32)
    labels = part_module(".", "trtkit_labels").Labels(str(version / "labels.txt"))
    return [
        Case("of_index", "5 indices", {"index": index}, lambda: labels.find(index)),
        Case("of_scores", "1,000 scores, 12 above", {"scores": values}, lambda: labels.find(chosen(values, 0.99)[0])),
    ]


def scores(config: ModelConfig) -> None:
    """Scores in the place of indices."""
    config.input[0].name, config.input[0].data_type = "scores", "TYPE_FP32"
    config.output.add(name="count", data_type="TYPE_INT32", dims=[1])
