# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A convolutional model large enough to gain from INT8: the same digits, scaled to [N, 1, 32, 32] images.

Three convolutions of 32, 64 and 128 channels, each with Relu and a maximum over 2 by 2, the mean of each
channel, and one dense layer; 94 thousand weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from train_digits import split

CHANNELS = (32, 64, 128)
_EPOCHS = 8


def train() -> onnx.ModelProto:
    """The trained graph: image FP32 [batch, 1, 32, 32] -> logits FP32 [batch, 10]; 15 seconds on one core."""
    return to_onnx(train_network())


def train_network() -> nn.Sequential:
    """The trained torch module; on one thread, because two would wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _trained()
    finally:
        torch.set_num_threads(threads)


def _trained() -> nn.Sequential:
    torch.manual_seed(0)
    pixels, _, labels, _ = split()
    images, targets = torch.from_numpy(_images(pixels)), torch.from_numpy(labels)
    layers: list[nn.Module] = []
    for before, count in zip((1, *CHANNELS), CHANNELS, strict=False):
        layers += [nn.Conv2d(before, count, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS[-1], 10))
    optimizer = torch.optim.Adam(network.parameters())
    steps = _EPOCHS * -(-len(images) // 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    for _ in range(_EPOCHS):
        for rows in torch.randperm(len(images)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[rows]), targets[rows]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def to_onnx(network: nn.Sequential) -> onnx.ModelProto:
    """The module as a graph of opset 17, node by node, which takes no time."""
    nodes, weights, x = [], [], "image"
    for index, layer in enumerate(network):
        names = [f"{kind}{index}" for kind, _ in layer.named_parameters()]
        values = [value.detach().numpy() for _, value in layer.named_parameters()]
        weights += [numpy_helper.from_array(value, name) for name, value in zip(names, values, strict=True)]
        kind, attributes = _operator(layer)
        output = "logits" if index == len(network) - 1 else f"{kind.lower()}{index}_output"
        nodes.append(helper.make_node(kind, [x, *names], [output], name=f"{kind.lower()}{index}", **attributes))
        x = output
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 32, 32])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])
    graph = helper.make_graph(nodes, "digits_conv32", [image], [logits], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def _operator(layer: nn.Module) -> tuple[str, dict[str, Any]]:
    """The ONNX operator of a layer and its attributes."""
    operators: dict[type[nn.Module], tuple[str, dict[str, Any]]] = {
        nn.Conv2d: ("Conv", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
        nn.ReLU: ("Relu", {}),
        nn.MaxPool2d: ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        nn.AdaptiveAvgPool2d: ("GlobalAveragePool", {}),
        nn.Flatten: ("Flatten", {"axis": 1}),
        nn.Linear: ("Gemm", {"transB": 1}),
    }
    return operators[type(layer)]


def _images(pixels: Any) -> Any:
    """Pixels [N, 64] of 0 to 16 as images [N, 1, 32, 32] of 0 to 1: each pixel is a square of 4 by 4."""
    return np.kron(pixels.reshape(-1, 1, 8, 8) / np.float32(16), np.ones((1, 1, 4, 4), np.float32))


def holdout() -> tuple[dict[str, Any], Any]:
    """What accuracy is measured on: 450 images the training has not seen, and their labels."""
    _, pixels, _, labels = split()
    return {"image": _images(pixels)}, labels


def calibration() -> dict[str, Any]:
    """Images for quantizers: part of the training data."""
    pixels, _, _, _ = split()
    return {"image": _images(pixels[:256])}
