# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Larger ONNX models with random weights for precision and engines; opset 17, IR version 10, always the same bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 10


class Graph:
    """A graph while it is written: nodes in order, weights by name."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def weight(self, name: str, *shape: int, scale: float | None = None) -> str:
        """Normally distributed with the deviation that keeps a layer's output at its input's size."""
        deviation = scale if scale is not None else float(np.prod(shape[1:] if len(shape) == 4 else shape[:1])) ** -0.5
        return self.constant(name, self.random.normal(0, deviation, shape))

    def op(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=f"node_{name}", **attributes))
        return name

    def dense(self, x: str, name: str, inputs: int, outputs: int) -> str:
        product = self.op("MatMul", [x, self.weight(f"{name}.weight", inputs, outputs)], f"{name}_product")
        return self.op("Add", [product, self.weight(f"{name}.bias", outputs, scale=0.02)], name)

    def norm(self, x: str, name: str, size: int) -> str:
        scale = self.constant(f"{name}.scale", np.ones(size))
        bias = self.constant(f"{name}.bias", np.zeros(size))
        return self.op("LayerNormalization", [x, scale, bias], name, axis=-1, epsilon=1e-5)

    def model(self, inputs: dict[str, tuple[int, list[Any]]], outputs: dict[str, list[Any]]) -> ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "main",
            [helper.make_tensor_value_info(n, kind, shape) for n, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in outputs.items()],
            self.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def conv_net(channels: tuple[int, ...] = (32, 64, 128), size: int = 32) -> ModelProto:
    """image FP32 [batch, 1, size, size] -> logits FP32 [batch, 10]: convolutions with Relu, pooled, one Gemm."""
    graph, x, before = Graph(seed=1), "image", 1
    for index, count in enumerate(channels):
        weights = [graph.weight(f"conv{index}.weight", count, before, 3, 3, scale=(2 / (before * 9)) ** 0.5)]
        weights.append(graph.weight(f"conv{index}.bias", count, scale=0.02))
        x = graph.op("Conv", [x, *weights], f"conv{index}", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        x = graph.op("Relu", [x], f"relu{index}")
        x, before = graph.op("MaxPool", [x], f"pool{index}", kernel_shape=[2, 2], strides=[2, 2]), count
    x = graph.op("GlobalAveragePool", [x], "pooled")
    x = graph.op("Flatten", [x], "features", axis=1)
    head = [graph.weight("head.weight", channels[-1], 10), graph.weight("head.bias", 10, scale=0.02)]
    graph.op("Gemm", [x, *head], "logits")
    return graph.model({"image": (TensorProto.FLOAT, ["batch", 1, size, size])}, {"logits": ["batch", 10]})


def encoder(layers: int = 6, hidden: int = 384, heads: int = 6, vocabulary: int = 1000) -> ModelProto:
    """A transformer encoder; batch and sequence are dynamic.

    input_ids, attention_mask INT64 [batch, sequence] -> embedding FP32 [batch, hidden], the mean over the sequence.
    """
    graph = Graph(seed=2)
    ids = graph.op("Gather", [graph.weight("tokens", vocabulary, hidden, scale=0.5), "input_ids"], "embedded")
    mask = graph.op("Cast", ["attention_mask"], "mask_float", to=TensorProto.FLOAT)
    mask = graph.op("Sub", [graph.constant("one", 1.0), mask], "mask_inverse")
    mask = graph.op("Mul", [mask, graph.constant("very_negative", -10000.0)], "mask_scaled")
    mask = graph.op("Unsqueeze", [mask, graph.constant("axes_1_2", [1, 2], np.int64)], "mask_added")
    graph.constant("to_heads", [0, 0, heads, hidden // heads], np.int64)
    graph.constant("from_heads", [0, 0, hidden], np.int64)
    for constant, value in (("scale", (hidden // heads) ** -0.5), ("root_two", 2**0.5), ("half", 0.5), ("unit", 1.0)):
        graph.constant(constant, value)
    x = graph.norm(ids, "norm", hidden)
    for index in range(layers):
        x = _layer(graph, x, mask, f"layer{index}", hidden)
    graph.op("ReduceMean", [x], "embedding", axes=[1], keepdims=0)
    shape = (TensorProto.INT64, ["batch", "sequence"])
    return graph.model({"input_ids": shape, "attention_mask": shape}, {"embedding": ["batch", hidden]})


def _layer(graph: Graph, x: str, mask: str, name: str, hidden: int) -> str:
    parts = {}
    for part, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
        dense = graph.dense(x, f"{name}_{part}", hidden, hidden)
        split = graph.op("Reshape", [dense, "to_heads"], f"{name}_{part}_split")
        parts[part] = graph.op("Transpose", [split], f"{name}_{part}_heads", perm=order)
    scores = graph.op("MatMul", [parts["query"], parts["key"]], f"{name}_scores")
    scores = graph.op("Mul", [scores, "scale"], f"{name}_scaled")
    scores = graph.op("Add", [scores, mask], f"{name}_masked")
    shares = graph.op("Softmax", [scores], f"{name}_shares", axis=-1)
    mixed = graph.op("MatMul", [shares, parts["value"]], f"{name}_mixed")
    mixed = graph.op("Transpose", [mixed], f"{name}_mixed_rows", perm=[0, 2, 1, 3])
    mixed = graph.op("Reshape", [mixed, "from_heads"], f"{name}_joined")
    x = graph.norm(
        graph.op("Add", [x, graph.dense(mixed, f"{name}_out", hidden, hidden)], f"{name}_sum"), f"{name}_norm", hidden
    )
    wide = graph.dense(x, f"{name}_up", hidden, 4 * hidden)
    erf = graph.op("Erf", [graph.op("Div", [wide, "root_two"], f"{name}_div")], f"{name}_erf")
    gelu = graph.op("Mul", [wide, graph.op("Add", [erf, "unit"], f"{name}_erf1")], f"{name}_gelu2")
    gelu = graph.op("Mul", [gelu, "half"], f"{name}_gelu")
    down = graph.dense(gelu, f"{name}_down", 4 * hidden, hidden)
    return graph.norm(graph.op("Add", [x, down], f"{name}_sum2"), f"{name}_norm2", hidden)


def overflows_in_fp16() -> ModelProto:
    """x FP32 [batch, 16] -> y FP32 [batch, 16]; node_squares gives about 1e6 for x near 1000, more than FP16 holds.

    What follows brings it back to the size of x, so that only node_squares and the ones beside it are guilty.
    """
    graph = Graph(seed=3)
    graph.op("MatMul", ["x", graph.weight("first", 16, 16)], "before")
    graph.op("Mul", ["x", "x"], "squares")
    graph.op("ReduceMean", ["squares"], "mean_square", axes=[-1], keepdims=1)
    graph.op("Sqrt", ["mean_square"], "root")
    graph.op("Div", ["before", "root"], "normalized")
    graph.op("MatMul", ["normalized", graph.weight("last", 16, 16)], "y")
    return graph.model({"x": (TensorProto.FLOAT, ["batch", 16])}, {"y": ["batch", 16]})
