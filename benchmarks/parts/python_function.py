# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A small function of numpy, called for each request and for all of a batch, and one on strings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from harness import Case, part_module, write_part

from trtkit.config import ModelConfig

MODULE = b"""
import numpy as np

WEIGHTS = np.random.default_rng(0).random((64, 10), np.float32)


def scores(x):
    return np.tanh(x @ WEIGHTS)


def upper(x):
    return [[text.upper() for text in row] for row in x]
"""


def benchmark(repository: Path) -> list[Case]:
    """One row a request."""
    for name, parameters, edit in (
        ("by_request", {"function": "functions:scores"}, None),
        ("whole", {"function": "functions:scores", "batch": "whole"}, None),
        ("text", {"function": "functions:upper", "strings": "str"}, of_text),
    ):
        version = write_part(repository, name, "python_function", parameters, files={"functions.py": MODULE}, edit=edit)
    load = part_module("python_function", "trtkit_callable").load
    scores, upper = (load(f"functions:{name}", str(version), {}) for name in ("scores", "upper"))
    x = np.random.default_rng(1).random((1, 64), np.float32)
    text = np.array([[b"a text of some words" * 5]], np.object_)
    return [
        Case("by_request", "64 → 10, a call a request", {"x": x}, lambda: scores(x)),
        Case("whole", "64 → 10, a call a batch", {"x": x}, lambda: scores(x)),
        Case("text", "100 characters to upper case", {"x": text}, lambda: upper([[text[0, 0].decode()]])),
    ]


def of_text(config: ModelConfig) -> None:
    """Strings in and out."""
    config.input[0].data_type = config.output[0].data_type = "TYPE_STRING"
