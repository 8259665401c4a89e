# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The sample's model: handwritten digits, 8 by 8 pixels of 0 to 16, from scikit-learn's own data set."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def split() -> tuple[Any, Any, Any, Any]:
    """Training and held-out pixels [N, 64] and labels [N], always the same."""
    pixels, labels = load_digits(return_X_y=True)
    return tuple(train_test_split(pixels.astype(np.float32), labels, test_size=0.25, random_state=0, stratify=labels))


def train(hidden: tuple[int, ...] = (128, 64)) -> Any:
    """A fitted pipeline: standardise, then a perceptron with hidden layers of these sizes; about two seconds."""
    pixels, _, labels, _ = split()
    network = MLPClassifier(hidden_layer_sizes=hidden, max_iter=60, early_stopping=True, random_state=0)
    return make_pipeline(StandardScaler(), network).fit(pixels, labels)


def train_candidate() -> Any:
    """The same with wider layers."""
    return train((256, 128))


def holdout() -> tuple[dict[str, Any], Any]:
    """What `trtkit validate` proves the served model on."""
    _, pixels, _, labels = split()
    return {"x": pixels}, labels


def calibration() -> dict[str, Any]:
    """Rows for quantizers: part of the training data."""
    pixels, _, _, _ = split()
    return {"x": pixels[:256]}


def png(row: Any) -> bytes:
    """One row of 64 pixels as an 8 by 8 grey PNG; a pixel of 0 to 16 times 15 is a grey value."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray((row.reshape(8, 8) * 15).astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def holdout_images() -> tuple[dict[str, Any], Any]:
    """The held-out digits as PNG bytes [N, 1], and their labels as the pipeline says them."""
    _, pixels, _, labels = split()
    images = np.array([png(row) for row in pixels], dtype=object).reshape(-1, 1)
    return {"IMAGE": images}, np.array([f"digit {label}" for label in labels])


def write_images(folder: Path, count: int = 100) -> list[Path]:
    """Write held-out digits as PNG files; the label ends the name."""
    _, pixels, _, labels = split()
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{index:03d}_is_{label}.png" for index, label in enumerate(labels[:count])]
    for file, row in zip(files, pixels, strict=False):
        file.write_bytes(png(row))
    return files
