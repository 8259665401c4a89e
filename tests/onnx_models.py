# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Tiny ONNX models, each named by what it does; opset 17, IR version 10, no weights to speak of.

``batch`` and other words in a shape are dynamic dimensions.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 10

# Triton's data type -> the graph's and numpy's, for every type that both sides have
TYPES = {
    "BOOL": (TensorProto.BOOL, np.bool_),
    "UINT8": (TensorProto.UINT8, np.uint8),
    "UINT16": (TensorProto.UINT16, np.uint16),
    "UINT32": (TensorProto.UINT32, np.uint32),
    "UINT64": (TensorProto.UINT64, np.uint64),
    "INT8": (TensorProto.INT8, np.int8),
    "INT16": (TensorProto.INT16, np.int16),
    "INT32": (TensorProto.INT32, np.int32),
    "INT64": (TensorProto.INT64, np.int64),
    "FP16": (TensorProto.FLOAT16, np.float16),
    "FP32": (TensorProto.FLOAT, np.float32),
    "FP64": (TensorProto.DOUBLE, np.float64),
    "BYTES": (TensorProto.STRING, np.object_),
}

_INFO = helper.make_tensor_value_info
_NODE = helper.make_node


def _model(
    nodes: list[NodeProto],
    inputs: list[ValueInfoProto],
    outputs: list[ValueInfoProto],
    initializers: dict[str, np.ndarray] | None = None,
) -> ModelProto:
    weights = [numpy_helper.from_array(value, name) for name, value in (initializers or {}).items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def identity(onnx_type: int, shape: list[int | str] | None) -> ModelProto:
    """x -> y, unchanged."""
    return _model([_NODE("Identity", ["x"], ["y"])], [_INFO("x", onnx_type, shape)], [_INFO("y", onnx_type, shape)])


def matmul_dynamic_batch() -> ModelProto:
    """x [batch, 64] -> y [batch, 10]."""
    weight = np.random.default_rng(7).standard_normal((64, 10), dtype=np.float32)
    return _model(
        [_NODE("MatMul", ["x", "weight"], ["y"])],
        [_INFO("x", TensorProto.FLOAT, ["batch", 64])],
        [_INFO("y", TensorProto.FLOAT, ["batch", 10])],
        {"weight": weight},
    )


def two_outputs() -> ModelProto:
    """x [batch, 2] -> negative and absolute, of that shape."""
    return _model(
        [_NODE("Neg", ["x"], ["negative"]), _NODE("Abs", ["x"], ["absolute"])],
        [_INFO("x", TensorProto.FLOAT, ["batch", 2])],
        [_INFO(name, TensorProto.FLOAT, ["batch", 2]) for name in ("negative", "absolute")],
    )


def two_inputs_of_different_types() -> ModelProto:
    """Scale [batch, 1] times integers [batch, n] -> y [batch, n]."""
    return _model(
        [
            _NODE("Cast", ["integers"], ["floats"], to=TensorProto.FLOAT),
            _NODE("Mul", ["scale", "floats"], ["y"]),
        ],
        [
            _INFO("scale", TensorProto.FLOAT, ["batch", 1]),
            _INFO("integers", TensorProto.INT32, ["batch", "n"]),
        ],
        [_INFO("y", TensorProto.FLOAT, ["batch", "n"])],
    )


def sum_of_dynamic_second_axis() -> ModelProto:
    """x [batch, n] -> y [batch, 1], the sum of each row."""
    return _model(
        [_NODE("ReduceSum", ["x", "axes"], ["y"])],
        [_INFO("x", TensorProto.FLOAT, ["batch", "n"])],
        [_INFO("y", TensorProto.FLOAT, ["batch", 1])],
        {"axes": np.array([1], np.int64)},
    )


def rows_in_run() -> ModelProto:
    """x [batch, 1] -> y [batch, 1], the number of rows that ran together."""
    nodes = [
        _NODE("Shape", ["x"], ["shape"], end=1),
        _NODE("Cast", ["shape"], ["rows"], to=TensorProto.FLOAT),
        _NODE("Mul", ["x", "zero"], ["zeros"]),
        _NODE("Add", ["zeros", "rows"], ["y"]),
    ]
    tensors = [[_INFO(name, TensorProto.FLOAT, ["batch", 1])] for name in ("x", "y")]
    return _model(nodes, *tensors, {"zero": np.zeros(1, np.float32)})


def fails_on_index_above_three() -> ModelProto:
    """Index [batch, 1] -> y [batch, 1], 10 times the index; ONNX Runtime refuses an index above 3."""
    return _model(
        [_NODE("Gather", ["table", "index"], ["y"])],
        [_INFO("index", TensorProto.INT64, ["batch", 1])],
        [_INFO("y", TensorProto.FLOAT, ["batch", 1])],
        {"table": np.array([0, 10, 20, 30], np.float32)},
    )


def label_of_bytes() -> ModelProto:
    """Word [batch, 1] -> label [batch, 1]: cat 1, né 2, the single byte 0xff 3, anything else -1."""
    encode = _NODE(
        "LabelEncoder", ["word"], ["label"], domain="ai.onnx.ml",
        keys_strings=[b"cat", "né".encode(), b"\xff"], values_int64s=[1, 2, 3], default_int64=-1,
    )  # fmt: skip
    return _model(
        [encode],
        [_INFO("word", TensorProto.STRING, ["batch", 1])],
        [_INFO("label", TensorProto.INT64, ["batch", 1])],
    )


def scalar_per_row() -> ModelProto:
    """x [batch] -> y [batch], doubled."""
    return _model(
        [_NODE("Add", ["x", "x"], ["y"])],
        [_INFO("x", TensorProto.FLOAT, ["batch"])],
        [_INFO("y", TensorProto.FLOAT, ["batch"])],
    )


def scalar() -> ModelProto:
    """x [] -> y [], doubled: no batch, no dimensions at all."""
    return _model(
        [_NODE("Add", ["x", "x"], ["y"])],
        [_INFO("x", TensorProto.FLOAT, [])],
        [_INFO("y", TensorProto.FLOAT, [])],
    )


def row_at_scalar_index() -> ModelProto:
    """Index [] -> y [2], that row of [[0, 1], [2, 3], [4, 5]]; an index of [1] would give y [1, 2]."""
    return _model(
        [_NODE("Gather", ["table", "index"], ["y"])],
        [_INFO("index", TensorProto.INT64, [])],
        [_INFO("y", TensorProto.FLOAT, [2])],
        {"table": np.arange(6, dtype=np.float32).reshape(3, 2)},
    )


def fixed_batch_of_three() -> ModelProto:
    """x [3, 2] -> y [3, 2], negated."""
    return _model(
        [_NODE("Neg", ["x"], ["y"])],
        [_INFO("x", TensorProto.FLOAT, [3, 2])],
        [_INFO("y", TensorProto.FLOAT, [3, 2])],
    )


def initializer_as_input() -> ModelProto:
    """x [2] plus offset [2] -> y [2]; offset is an initializer, [10, 20], that a request may replace."""
    return _model(
        [_NODE("Add", ["x", "offset"], ["y"])],
        [_INFO("x", TensorProto.FLOAT, [2]), _INFO("offset", TensorProto.FLOAT, [2])],
        [_INFO("y", TensorProto.FLOAT, [2])],
        {"offset": np.array([10, 20], np.float32)},
    )


def positive_rows_only() -> ModelProto:
    """x [batch, 1] -> y [found, 1], the rows above zero: the first dimension is no batch."""
    nodes = [
        _NODE("Greater", ["x", "zero"], ["positive"]),
        _NODE("Reshape", ["positive", "flat"], ["condition"]),
        _NODE("Compress", ["x", "condition"], ["y"], axis=0),
    ]
    constants = {"zero": np.zeros(1, np.float32), "flat": np.array([-1], np.int64)}
    return _model(
        nodes,
        [_INFO("x", TensorProto.FLOAT, ["batch", 1])],
        [_INFO("y", TensorProto.FLOAT, ["found", 1])],
        constants,
    )


def sequence_controls() -> ModelProto:
    """x, START and CORRID [batch, 1] -> y [batch, 1], x + 100 START + 1000 CORRID."""
    nodes = [
        _NODE("Cast", ["CORRID"], ["id"], to=TensorProto.FLOAT),
        _NODE("Mul", ["id", "thousand"], ["thousands"]),
        _NODE("Mul", ["START", "hundred"], ["hundreds"]),
        _NODE("Sum", ["x", "hundreds", "thousands"], ["y"]),
    ]
    types = {"x": TensorProto.FLOAT, "START": TensorProto.FLOAT, "CORRID": TensorProto.UINT64}
    constants = {"thousand": np.array([1000], np.float32), "hundred": np.array([100], np.float32)}
    return _model(
        nodes,
        [_INFO(name, kind, ["batch", 1]) for name, kind in types.items()],
        [_INFO("y", TensorProto.FLOAT, ["batch", 1])],
        constants,
    )


def counts_to() -> ModelProto:
    """Times [1] -> y [1], counted one by one: takes as long as the request says."""
    body = helper.make_graph(
        [_NODE("Identity", ["go"], ["still"]), _NODE("Add", ["before", "one"], ["after"])],
        "body",
        [
            _INFO("turn", TensorProto.INT64, []),
            _INFO("go", TensorProto.BOOL, []),
            _INFO("before", TensorProto.INT64, [1]),
        ],
        [_INFO("still", TensorProto.BOOL, []), _INFO("after", TensorProto.INT64, [1])],
    )
    return _model(
        [_NODE("Loop", ["times", "", "zero"], ["y"], body=body)],
        [_INFO("times", TensorProto.INT64, [1])],
        [_INFO("y", TensorProto.INT64, [1])],
        {"zero": np.zeros(1, np.int64), "one": np.ones(1, np.int64)},
    )


def sequence_of_tensors() -> ModelProto:
    """x [2] -> y, a sequence that holds it: a type Triton has no name for."""
    return _model(
        [_NODE("SequenceConstruct", ["x"], ["y"])],
        [_INFO("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, [2])],
    )
