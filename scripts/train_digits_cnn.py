# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The sample's torch model: a small convolutional network on the same digits, as [N, 1, 8, 8] images."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from train_digits import split


def train() -> nn.Module:
    """A trained network; a few seconds on one core."""
    torch.manual_seed(0)
    pixels, _, labels, _ = split()
    images, targets = _images(pixels), torch.from_numpy(labels)
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 16, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(12):
        for rows in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[rows]), targets[rows]).backward()
            optimizer.step()
    return network.eval()


def _images(pixels: Any) -> torch.Tensor:
    return torch.from_numpy(pixels.reshape(-1, 1, 8, 8) / 16.0)


def holdout() -> tuple[dict[str, Any], Any]:
    """What `trtkit validate` proves the served model on."""
    _, pixels, _, labels = split()
    return {"image": _images(pixels).numpy()}, labels


def calibration() -> dict[str, Any]:
    """Rows that show the quantizer which values the tensors take: part of the training data."""
    pixels, _, _, _ = split()
    return {"image": _images(pixels[:256]).numpy()}
