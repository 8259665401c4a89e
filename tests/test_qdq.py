# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Explicit Q/DQ for TensorRT: what is quantized, how exactly, and that TensorRT-RTX agrees with our rules."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper

from precision_models import Graph, conv_net, encoder
from trtkit.errors import BuildError, MissingDependencyError
from trtkit.export.runtime import Session
from trtkit.numerics import Array
from trtkit.precision.calibration import Ranges, TensorRange, calibrate, tensors_to_calibrate
from trtkit.precision.graph_edit import attribute_of, constant_tensors, producers
from trtkit.precision.modelopt_int8 import quantize_modelopt
from trtkit.precision.qdq import QuantizeResult, quantize_tensorrt
from trtkit.precision.qdq_rules import count_qdq, qdq_problems
from trtkit.precision.qdq_weights import FORMATS, quantize, scale_of

WHERE = "trtkit.yaml:9:5"


def normal(*shape: int) -> Array:
    """Always the same values for a shape."""
    return np.random.default_rng(11).standard_normal(shape).astype(np.float32)


def model_of(
    nodes: Sequence[onnx.NodeProto], x: list[Any], weights: dict[str, Array], *, y: int = 2, opset: int = 17
) -> onnx.ModelProto:
    """x FP32 of a shape -> y FP32 of a rank."""
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"y{axis}" for axis in range(y)])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def node(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, list(inputs), [output], name=f"n_{output}", **attributes)


def rows_for(model: onnx.ModelProto, count: int = 16) -> dict[str, Array]:
    rows = {}
    for value in model.graph.input:
        shape = [count, *(dim.dim_value or 12 for dim in value.type.tensor_type.shape.dim[1:])]
        integer = value.type.tensor_type.elem_type == TensorProto.INT64
        rows[value.name] = np.random.default_rng(12).integers(0, 2, shape) if integer else normal(*shape)
    return rows


def quantized(model: onnx.ModelProto, folder: Path, dtype: str = "INT8", **options: Any) -> QuantizeResult:
    onnx.save(model, folder / "float.onnx")
    ranges = calibrate(
        folder / "float.onnx", rows_for(model), tensors_to_calibrate(model), method="minmax", percentile=99.99,
        batch_rows=8, where=WHERE,
    )  # fmt: skip
    return quantize_tensorrt(model, ranges, dtype, where=WHERE, **options)


def error_of(model: onnx.ModelProto, result: onnx.ModelProto, *, optimize: bool = True) -> float:
    """The largest difference of any output, as a share of the largest value of the reference."""
    rows = rows_for(model)
    before = Session(model.SerializeToString()).run(rows)
    after = Session(result.SerializeToString(), optimize=optimize).run(rows)
    assert {n: a.dtype for n, a in before.items()} == {n: a.dtype for n, a in after.items()}
    return max(float(np.abs(after[n] - before[n]).max() / np.abs(before[n]).max()) for n in before)


# --- TensorRT-RTX -------------------------------------------------------------------------------------------------

HAS_RTX = find_spec("tensorrt_rtx") is not None


def rtx_refusal(model: onnx.ModelProto) -> str:
    """Build a plan for SM89; "" when it was built, else TensorRT-RTX's words."""
    trt: Any = import_module("tensorrt_rtx")
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model.SerializeToString()):
        return "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors))
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    for value in model.graph.input:
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        profile.set_shape(value.name, *(tuple(dim or size for dim in dims) for size in (1, 8, 16)))
    config.add_optimization_profile(profile)
    return "" if builder.build_serialized_network(network, config) else "the builder gives no plan"


# --- weights ------------------------------------------------------------------------------------------------------


@given(
    values=hnp.arrays(
        np.float32, st.tuples(st.integers(1, 4), st.integers(1, 5)), elements=st.floats(-1e3, 1e3, width=32)
    ),
    axis=st.sampled_from([None, 0, 1]),
)  # fmt: skip
def test_weights_are_within_half_a_step(values: Array, axis: int | None) -> None:
    stored, scale = quantize(values, axis, FORMATS["INT8"])
    assert stored.dtype == np.int8
    assert scale.shape == (() if axis is None else (values.shape[axis],))
    assert (scale > 0).all()
    assert stored.min() >= -127
    steps = np.expand_dims(scale, 1 - axis) if axis is not None else scale
    assert (np.abs(stored * steps.astype(np.float64) - values) <= steps * 0.5001).all()


@given(values=hnp.arrays(np.float32, (3, 4), elements=st.floats(-1e3, 1e3, width=32)))
def test_fp8_weights_keep_three_bits_of_mantissa(values: Array) -> None:
    stored, scale = quantize(values, None, FORMATS["FP8"])
    back = stored.astype(np.float64) * scale
    assert np.isfinite(back).all()
    # relative 2^-4, and half of the smallest subnormal, 2^-10, absolutely
    assert (np.abs(back - values) <= np.maximum(np.abs(values) * 2**-4, 2**-10 * float(scale)) * 1.001).all()


def test_a_scale_is_positive_whatever_the_tensor_held() -> None:
    scales = scale_of(np.array([0.0, 1e-45, 1e-30, 127.0, 3e38]), FORMATS["INT8"])
    assert (scales >= np.finfo(np.float32).tiny).all()
    assert np.isfinite(scales).all()
    assert scales[0] == scales[3] == 1


# --- which nodes, and how -----------------------------------------------------------------------------------------

_CONV = {"kernel_shape": [3, 3]}
CASES: dict[str, Callable[[], onnx.ModelProto]] = {
    "conv": lambda: model_of([node("Conv", "xw", "y", **_CONV)], ["b", 8, 6, 6], {"w": normal(16, 8, 3, 3)}, y=4),
    "conv_grouped": lambda: model_of(
        [node("Conv", "xw", "y", group=2, **_CONV)], ["b", 8, 6, 6], {"w": normal(16, 4, 3, 3)}, y=4
    ),
    "conv_depthwise": lambda: model_of(
        [node("Conv", "xw", "y", group=8, **_CONV)], ["b", 8, 6, 6], {"w": normal(8, 1, 3, 3)}, y=4
    ),
    "conv_1d": lambda: model_of([node("Conv", "xw", "y", kernel_shape=[3])], ["b", 8, 6], {"w": normal(16, 8, 3)}, y=3),
    "deconv": lambda: model_of(
        [node("ConvTranspose", "xw", "y", **_CONV)], ["b", 8, 6, 6], {"w": normal(8, 16, 3, 3)}, y=4
    ),
    "deconv_grouped": lambda: model_of(
        [node("ConvTranspose", "xw", "y", group=2, **_CONV)], ["b", 8, 6, 6], {"w": normal(8, 8, 3, 3)}, y=4
    ),
    "gemm": lambda: model_of([node("Gemm", "xwc", "y")], ["b", 8], {"w": normal(8, 16), "c": normal(16)}),
    "gemm_transposed": lambda: model_of([node("Gemm", "xw", "y", transB=1)], ["b", 8], {"w": normal(16, 8)}),
    "gemm_left": lambda: model_of([node("Gemm", "wx", "y", transB=1)], ["b", 8], {"w": normal(16, 8)}),
    "matmul": lambda: model_of([node("MatMul", "xw", "y")], ["b", 5, 8], {"w": normal(8, 16)}, y=3),
    "matmul_left": lambda: model_of([node("MatMul", "wx", "y")], ["b", 8, 4], {"w": normal(16, 8)}, y=3),
    "matmul_batched": lambda: model_of([node("MatMul", "xw", "y")], ["b", 3, 5, 8], {"w": normal(3, 8, 16)}, y=4),
    "matmul_vector": lambda: model_of([node("MatMul", "xw", "y")], ["b", 8], {"w": normal(8)}, y=1),
    "matmul_tiny": lambda: model_of([node("MatMul", "xw", "y")], ["b", 1], {"w": normal(1, 1)}),
    "transposed_weight": lambda: model_of(
        [node("Transpose", "w", "t", perm=[1, 0]), node("MatMul", "xt", "y")], ["b", 8], {"w": normal(16, 8)}
    ),
    "constant_node": lambda: model_of(
        [node("Constant", "", "w", value=numpy_helper.from_array(normal(8, 16))), node("MatMul", "xw", "y")],
        ["b", 8], {},
    ),
}  # fmt: skip
AXES = {
    "conv": 0, "conv_grouped": 0, "conv_depthwise": 0, "conv_1d": 0, "deconv": 1, "deconv_grouped": 1, "gemm": 1,
    "gemm_transposed": 0, "gemm_left": 0, "matmul": 1, "matmul_left": 0, "matmul_batched": None,
    "matmul_vector": None, "matmul_tiny": 1, "transposed_weight": 1, "constant_node": 1,
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["INT8", "FP8"])
def test_every_form_of_a_weight(case: str, dtype: str, tmp_path: Path) -> None:
    model = CASES[case]()
    result = quantized(model, tmp_path, dtype)
    assert result.quantized == {"nodes": 1, "activations": 1, "weights": 1}
    assert result.skipped == {}
    onnx.checker.check_model(result.model)
    assert qdq_problems(result.model, "tensorrt") == []
    assert count_qdq(result.model) == {"activations": 1, "weights": 1, "integer_operators": 0}
    constants = constant_tensors(result.model)
    weights = [n for n in result.model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in constants]
    axis = attribute_of(weights[0], "axis")
    assert (axis.i if axis else None) == (AXES[case] if dtype == "INT8" else None)
    code = TensorProto.INT8 if dtype == "INT8" else TensorProto.FLOAT8E4M3FN
    assert constants[weights[0].input[0]].data_type == code
    assert not any(t.data_type == TensorProto.FLOAT and np.prod(t.dims) > 16 for t in constants.values())
    assert error_of(model, result.model, optimize=dtype == "INT8") < (0.03 if dtype == "INT8" else 0.12)
    if HAS_RTX:
        assert rtx_refusal(result.model) == ""


@pytest.mark.parametrize(("build", "pairs"), [(conv_net, (4, 4)), (lambda: encoder(2, 32, 2, 50), (16, 12))])
@pytest.mark.parametrize("dtype", ["INT8", "FP8"])
def test_whole_models(build: Callable[[], onnx.ModelProto], pairs: tuple[int, int], dtype: str, tmp_path: Path) -> None:
    model = build()
    before = model.SerializeToString(deterministic=True)
    result = quantized(model, tmp_path, dtype)
    assert model.SerializeToString(deterministic=True) == before, "the argument is not changed"
    assert (result.quantized["activations"], result.quantized["weights"]) == pairs
    assert result.skipped == {}
    onnx.checker.check_model(result.model)
    assert qdq_problems(result.model, "tensorrt") == []
    assert result.model.opset_import[0].version == (17 if dtype == "INT8" else 19)
    assert len(result.model.SerializeToString()) < 0.6 * len(before)
    assert error_of(model, result.model, optimize=dtype == "INT8") < (0.05 if dtype == "INT8" else 0.15)
    again = quantized(model, tmp_path, dtype)
    assert again.model.SerializeToString(deterministic=True) == result.model.SerializeToString(deterministic=True)
    if HAS_RTX:
        assert rtx_refusal(result.model) == ""


def test_what_stands_between_convolutions_stays_fusible(tmp_path: Path) -> None:
    """Conv, Relu, MaxPool, then Q: nothing between a Conv and its Relu, and no Q/DQ on a bias."""
    graph = quantized(conv_net((4, 6), 8), tmp_path).model.graph
    makers = producers(graph)
    assert makers["relu0"].input[0] == "conv0"
    quantizers = [n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] in makers]
    assert [makers[n.input[0]].op_type for n in quantizers] == ["MaxPool", "Flatten"]
    assert {n.input[2] for n in graph.node if n.op_type == "Conv"} == {"conv0.bias", "conv1.bias"}


def residual_net() -> onnx.ModelProto:
    pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        node("Conv", ["x", "w1"], "a", **pads), node("Relu", ["a"], "r"), node("Conv", ["r", "w2"], "b", **pads),
        node("Add", ["b", "x"], "s"), node("Relu", ["s"], "t"), node("Conv", ["t", "w1"], "c", **pads),
        node("Add", ["t", "c"], "y"),
    ]  # fmt: skip
    return model_of(nodes, ["n", 8, 6, 6], {"w1": normal(8, 8, 3, 3), "w2": normal(8, 8, 3, 3)}, y=4)


def test_one_pair_serves_all_readers_and_residual_additions_read_it(tmp_path: Path) -> None:
    result = quantized(residual_net(), tmp_path)
    assert result.quantized == {"nodes": 3, "activations": 3, "weights": 2}
    by_name = {n.name: n for n in result.model.graph.node}
    assert by_name["n_s"].input[1] == by_name["n_a"].input[0] == "x_dequantized"
    assert by_name["n_y"].input[0] == by_name["n_c"].input[0] == "t_dequantized"
    assert by_name["n_c"].input[1] == by_name["n_a"].input[1]
    onnx.checker.check_model(result.model)
    assert error_of(residual_net(), result.model) < 0.1
    if HAS_RTX:
        assert rtx_refusal(result.model) == ""


def test_a_residual_pair_may_be_read_before_the_node_it_was_made_for(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w"], "a", kernel_shape=[1, 1]), node("Abs", ["x"], "z"), node("Add", ["a", "z"], "s"),
        node("Conv", ["z", "w"], "c", kernel_shape=[1, 1]), node("Sub", ["s", "c"], "y"),
    ]  # fmt: skip
    result = quantized(model_of(nodes, ["n", 8, 6, 6], {"w": normal(8, 8, 1, 1)}, y=4), tmp_path)
    onnx.checker.check_model(result.model)
    assert next(n for n in result.model.graph.node if n.name == "n_s").input[1] == "z_dequantized"


def test_an_addition_that_no_convolution_can_take_in_reads_fp32(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w"], "a", kernel_shape=[1, 1]), node("Abs", ["x"], "z"), node("Add", ["a", "z"], "s"),
        node("Sub", ["s", "a"], "y"),
    ]  # fmt: skip
    result = quantized(model_of(nodes, ["n", 8, 6, 6], {"w": normal(8, 8, 1, 1)}, y=4), tmp_path)
    assert result.quantized == {"nodes": 1, "activations": 1, "weights": 1}


def test_a_weight_with_a_dead_channel(tmp_path: Path) -> None:
    weight = normal(8, 16)
    weight[:, 3] = 0
    result = quantized(model_of([node("MatMul", "xw", "y")], ["b", 8], {"w": weight}), tmp_path)
    assert qdq_problems(result.model, "tensorrt") == []
    rows = rows_for(result.model)
    assert not Session(result.model.SerializeToString()).run(rows)["y"][:, 3].any()


def test_a_weight_that_something_else_reads_stays(tmp_path: Path) -> None:
    nodes = [node("MatMul", "xw", "m"), node("Add", "mw", "y")]
    result = quantized(model_of(nodes, [8, 8], {"w": normal(8, 8)}), tmp_path)
    assert {"w", "w_int8"} <= {tensor.name for tensor in result.model.graph.initializer}


def test_an_old_opset_is_raised(tmp_path: Path) -> None:
    model = model_of([node("MatMul", "xw", "y")], ["b", 8], {"w": normal(8, 16)}, opset=11)
    result = quantized(model, tmp_path)
    assert result.model.opset_import[0].version == 17
    onnx.checker.check_model(result.model)


# --- what is skipped ----------------------------------------------------------------------------------------------


def test_every_skipped_node_has_its_reason(tmp_path: Path) -> None:
    model = encoder(2, 16, 2, 20)
    result = quantized(model, tmp_path, keep_nodes=["node_layer0_*"], keep_operators=["Gemm"])
    assert result.quantized["nodes"] == 8
    assert result.skipped == {
        n.name: "kept by keep.nodes ('node_layer0_*')"
        for n in model.graph.node
        if n.op_type == "MatMul" and n.name.startswith("node_layer0")
    }


def only(**ranges: tuple[float, float]) -> Ranges:
    return Ranges({name: TensorRange(*pair) for name, pair in ranges.items()}, "minmax", 100.0, 2)


def test_no_range_a_dead_tensor_and_a_weight_that_is_computed() -> None:
    nodes = [
        node("MatMul", ["x", "w"], "a"), node("MatMul", ["a", "w"], "b"), node("MatMul", ["b", "w"], "c"),
        node("Unsqueeze", ["c", "axes"], "d"), node("Conv", ["d", "d"], "e"), node("Reshape", ["e", "one"], "y"),
    ]  # fmt: skip
    weights = {"w": normal(8, 8), "axes": np.array([0, 3]), "one": np.array([-1, 1])}
    model = model_of(nodes, [8, 8], weights)
    result = quantize_tensorrt(model, only(x=(-1, 1), b=(0, 0), d=(-1, 1)), "INT8", where=WHERE)
    assert result.quantized == {"nodes": 1, "activations": 1, "weights": 1}
    assert result.skipped == {
        "n_b": "the calibration has no range for 'a'",
        "n_c": "'b' was 0 throughout the calibration",
        "n_e": "its weight is not constant",
    }


def test_inner_graphs_are_left_alone() -> None:
    branch = helper.make_graph(
        [node("MatMul", ["x", "w"], "inner")], "branch", [], [helper.make_tensor_value_info("inner", 1, None)]
    )
    other = helper.make_graph(
        [node("Identity", ["x"], "same")], "other", [], [helper.make_tensor_value_info("same", 1, None)]
    )
    nodes = [
        node("MatMul", ["x", "w"], "a"),
        helper.make_node("If", ["yes"], ["z"], name="n_if", then_branch=branch, else_branch=other),
        node("Add", ["a", "z"], "y"),
    ]
    model = model_of(nodes, ["b", 8], {"w": normal(8, 8), "yes": np.array(True)})
    result = quantize_tensorrt(model, only(x=(-1, 1)), "INT8", where=WHERE)
    assert result.skipped == {"n_inner": "it is inside an If, Loop or Scan, which is left alone"}
    assert "w" in {tensor.name for tensor in result.model.graph.initializer}, "the branch reads it"
    assert Session(result.model.SerializeToString()).run({"x": normal(2, 8)})["y"].shape == (2, 8)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"keep_operators": ["Conv", "Gemm"]}, "skipped: 2 Conv: Conv is kept by keep.operators; 1 Gemm: Gemm is kept"),
        ({"keep_nodes": ["*"]}, r"skipped: 2 Conv: kept by keep.nodes \('\*'\); 1 Gemm"),
    ],
)
def test_nothing_quantized_says_why(options: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=f"^{WHERE}: INT8 was asked for and nothing could be quantized; {sentence}"):
        quantized(conv_net((4, 6), 8), tmp_path, **options)


def test_a_graph_with_nothing_to_quantize() -> None:
    model = model_of([node("Relu", "x", "y")], ["b", 8], {})
    with pytest.raises(BuildError, match="FP8 was asked for .*; the graph has no Conv, no ConvTranspose, no Gemm, no"):
        quantize_tensorrt(model, only(), "FP8", where=WHERE)


def test_weights_that_are_not_finite() -> None:
    weight = normal(8, 8)
    weight[0, 0] = np.nan
    with pytest.raises(BuildError, match=f"^{WHERE}: weight 'w' of MatMul 'n_y' holds NaN or infinite values"):
        quantize_tensorrt(
            model_of([node("MatMul", "xw", "y")], ["b", 8], {"w": weight}), only(x=(-1, 1)), "INT8", where=WHERE
        )


def test_a_quantized_graph_is_refused(tmp_path: Path) -> None:
    once = quantized(conv_net((4, 6), 8), tmp_path).model
    with pytest.raises(BuildError, match=r"quantized already \(6 DequantizeLinear, 3 QuantizeLinear\); give the FP32"):
        quantize_tensorrt(once, only(), "INT8", where=WHERE)


@settings(max_examples=15)
@given(low=st.floats(-100, 0, width=32), high=st.floats(0, 100, width=32))
def test_activations_are_symmetric_per_tensor(low: float, high: float) -> None:
    model = model_of([node("MatMul", "xw", "y")], ["b", 8], {"w": np.eye(8, dtype=np.float32)})
    if not max(-low, high) > 1e-30:
        return
    result = quantize_tensorrt(model, only(x=(low, high)), "INT8", where=WHERE).model
    constants = constant_tensors(result)
    scale = numpy_helper.to_array(constants["x_scale"])
    assert float(scale) == pytest.approx(max(-low, high) / 127, rel=1e-6)
    zero = numpy_helper.to_array(constants["x_zero"])
    assert (zero.dtype, zero.shape, int(zero)) == (np.int8, (), 0)


# --- the rules ----------------------------------------------------------------------------------------------------


def product() -> onnx.ModelProto:
    model = model_of([node("MatMul", "xw", "y")], ["b", 8], {"w": normal(8, 16)})
    return quantize_tensorrt(model, only(x=(-1, 1)), "INT8", where=WHERE).model


def put(model: onnx.ModelProto, name: str, value: Any) -> None:
    rest = [tensor for tensor in model.graph.initializer if tensor.name != name]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*rest, numpy_helper.from_array(np.asarray(value), name)])


def setter(name: str, value: Any) -> Callable[[onnx.ModelProto], None]:
    return lambda model: put(model, name, value)


def named(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.name == name)


def without_zero_point(model: onnx.ModelProto) -> None:
    for name in ("QuantizeLinear_x_quantized", "DequantizeLinear_x_dequantized"):
        del named(model, name).input[2:]


def computed_scale(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, node("ReduceMax", ["x"], "x_max", keepdims=0))
    for name in ("QuantizeLinear_x_quantized", "DequantizeLinear_x_dequantized"):
        named(model, name).input[1] = "x_max"


def axis(value: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        named(model, "DequantizeLinear_w_dequantized").attribute[0].i = value

    return change


def short_scales(model: onnx.ModelProto) -> None:
    put(model, "w_scale", np.ones(4, np.float32))
    put(model, "w_zero", np.zeros(4, np.int8))


def bias_in_int32(model: onnx.ModelProto) -> None:
    put(model, "c", np.arange(16, dtype=np.int32))
    put(model, "c_scale", np.float32(0.1))
    put(model, "c_zero", np.int32(0))
    named(model, "n_y").output[0] = "m"
    dequantize = helper.make_node("DequantizeLinear", ["c", "c_scale", "c_zero"], ["c_float"], name="bias")
    model.graph.node.extend([dequantize, node("Add", ["m", "c_float"], "y")])


def between(kind: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node.insert(1, node(kind, ["x_quantized"], "middle"))
        named(model, "DequantizeLinear_x_dequantized").input[0] = "middle"

    return change


def without_dequantize(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("QuantizeLinear", ["y", "x_scale", "x_zero"], ["q"], name="alone"))
    model.graph.output.append(helper.make_tensor_value_info("q", TensorProto.INT8, ["b", 16]))


def unread_quantize(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("QuantizeLinear", ["y", "x_scale", "x_zero"], ["q"], name="alone"))


def reshaped_constant(model: onnx.ModelProto) -> None:
    put(model, "shape", np.array([8, 16]))
    model.graph.node.insert(0, node("Reshape", ["w_int8", "shape"], "again"))
    named(model, "DequantizeLinear_w_dequantized").input[0] = "again"


def integer_matmul(model: onnx.ModelProto) -> None:
    put(model, "w8", np.ones((8, 8), np.int8))
    model.graph.node.insert(0, helper.make_node("DynamicQuantizeLinear", ["x"], ["dq", "ds", "dz"], name="dynamic"))
    model.graph.node.insert(1, node("MatMulInteger", ["dq", "w8"], "mi"))
    model.graph.node.insert(2, node("Cast", ["mi"], "mf", to=1))
    named(model, "QuantizeLinear_x_quantized").input[0] = "mf"


def gathered_constant(model: onnx.ModelProto) -> None:
    put(model, "which", np.array([1, 0, 2, 3, 4, 5, 6, 7]))
    model.graph.node.insert(0, node("Gather", ["w_int8", "which"], "again"))
    named(model, "DequantizeLinear_w_dequantized").input[0] = "again"


def without_pairs(model: onnx.ModelProto) -> None:
    del model.graph.node[:]
    model.graph.node.append(node("MatMul", ["x", "x"], "y"))


_Q, _DQ, _W = "QuantizeLinear_x_quantized", "DequantizeLinear_x_dequantized", "DequantizeLinear_w_dequantized"
# how a graph is broken, what is said of it, and whether TensorRT-RTX 1.7 refuses it too (it takes the rest in
# silence, and computes something else than the graph says or relies on what NVIDIA documents otherwise)
BROKEN: dict[str, tuple[Callable[[onnx.ModelProto], None], str, bool]] = {
    "zero point": (setter("x_zero", np.int8(3)), f"'{_Q}' of 'x': its zero point is not 0", True),
    "zero point of weights": (setter("w_zero", np.full(16, 2, np.int8)), f"'{_W}' of 'w_int8': its zero point", True),
    "uint8": (setter("x_zero", np.uint8(0)), f"'{_Q}' of 'x': its type is UINT8; TensorRT takes INT8", False),
    "uint8 with zero point": (setter("x_zero", np.uint8(128)), "its type is UINT8", True),
    "int16": (setter("x_zero", np.int16(0)), "its type is INT16", True),
    "no zero point is uint8": (without_zero_point, f"'{_Q}' of 'x': its type is UINT8", False),
    "scale 0": (setter("x_scale", np.float32(0)), f"'{_Q}' of 'x': 1 of its 1 scales are not", True),
    "scale below 0": (setter("x_scale", np.float32(-1)), "not positive and finite, e.g. -1", True),
    "scale NaN": (setter("x_scale", np.float32(np.nan)), "not positive and finite, e.g. nan", True),
    "scale infinite": (setter("x_scale", np.float32(np.inf)), "not positive and finite, e.g. inf", False),
    "scales of weights": (setter("w_scale", np.zeros(16, np.float32)), "16 of its 16 scales", True),
    "scale computed": (computed_scale, f"'{_Q}' of 'x': its scale 'x_max' is not constant", False),
    "axis": (axis(5), f"'{_W}' of 'w_int8': axis 5 is out of range for 2 axes", True),
    "another axis": (axis(0), "16 scales for 8 channels along axis 0", True),
    "too few scales": (short_scales, "4 scales for 16 channels along axis 1", True),
    "too few zero points": (setter("w_zero", np.zeros(4, np.int8)), "4 zero points for 16 scales", True),
    "activation per channel": (
        lambda m: (put(m, "x_scale", np.ones(8, np.float32)), put(m, "x_zero", np.zeros(8, np.int8)))[0],
        f"'{_Q}' of 'x': an activation with 8 scales", False,
    ),
    "bias": (bias_in_int32, "DequantizeLinear 'bias' of 'c': INT32 biases stay FP32", True),
    "something between": (between("Relu"), f"'{_Q}' of 'x': Relu 'n_middle' reads its result", False),
    "no DequantizeLinear": (without_dequantize, "QuantizeLinear 'alone' of 'y': no DequantizeLinear follows", False),
    "unread": (unread_quantize, "QuantizeLinear 'alone' of 'y': no DequantizeLinear follows", False),
    "reshaped weight": (reshaped_constant, "Reshape 'n_again' reads the quantized constant 'w_int8'", True),
    "gathered weight": (gathered_constant, "Gather 'n_again' reads the quantized constant 'w_int8'", True),
    "QOperator": (integer_matmul, "MatMulInteger 'n_mi' is a quantized operator of ONNX Runtime", True),
    "nothing": (without_pairs, "nothing is quantized: the graph has neither", False),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_the_rules_and_that_tensorrt_agrees(case: str) -> None:
    change, sentence, refused = BROKEN[case]
    good = product()
    assert qdq_problems(good, "tensorrt") == []
    broken = copy.deepcopy(good)
    if case == "int16":
        broken.opset_import[0].version = 21
    change(broken)
    problems = qdq_problems(broken, "tensorrt")
    assert any(sentence in problem for problem in problems), problems
    if HAS_RTX and case != "nothing":
        assert bool(rtx_refusal(broken)) is refused


def test_negative_axes_and_fake_quantized_weights_are_right() -> None:
    model = product()
    axis(-1)(model)
    assert qdq_problems(model, "tensorrt") == []
    put(model, "w", normal(8, 16))
    weight = named(model, _W)
    fake = helper.make_node("QuantizeLinear", ["w", "w_scale", "w_zero"], ["w_q"], name="fake", axis=1)
    weight.input[0] = "w_q"
    model.graph.node.insert(0, fake)
    assert qdq_problems(model, "tensorrt") == []
    assert count_qdq(model) == {"activations": 1, "weights": 1, "integer_operators": 0}


def test_the_rules_for_a_cpu_are_wider() -> None:
    model = product()
    setter("x_zero", np.uint8(128))(model)
    assert qdq_problems(model, "cpu") == []
    eight = model_of([node("MatMul", "xw", "y")], ["b", 8], {"w": normal(8, 16)})
    fp8 = quantize_tensorrt(eight, only(x=(-1, 1)), "FP8", where=WHERE).model
    assert any("FP8 has no kernels on a CPU" in problem for problem in qdq_problems(fp8, "cpu"))
    setter("x_scale", np.float32(0))(model)
    assert any("not positive and finite" in problem for problem in qdq_problems(model, "cpu"))


def test_fp8_runs_on_a_cpu_only_without_optimizations() -> None:
    """ONNX Runtime fuses FP8 pairs into operators that have no FP8 kernels; whoever runs one has to know."""
    eight = model_of([node("MatMul", "xw", "y")], ["b", 8], {"w": normal(8, 16)})
    model = quantize_tensorrt(eight, only(x=(-1, 1)), "FP8", where=WHERE).model
    assert Session(model.SerializeToString(), optimize=False).run({"x": normal(2, 8)})["y"].shape == (2, 16)


# --- modelopt -----------------------------------------------------------------------------------------------------


def test_without_modelopt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trtkit.compat.installed", lambda name: None)
    onnx.save(product(), tmp_path / "m.onnx")
    with pytest.raises(MissingDependencyError, match=rf"^{WHERE}: modelopt is not installed; .*'trtkit\[modelopt\]'"):
        quantize_modelopt(tmp_path / "m.onnx", {"x": normal(8, 8)}, tmp_path, "INT8", "minmax", WHERE)
    with pytest.raises(BuildError, match="modelopt has no method 'percentile'; available: minmax, entropy"):
        quantize_modelopt(tmp_path / "m.onnx", {"x": normal(8, 8)}, tmp_path, "INT8", "percentile", WHERE)


def other_python(folder: Path, text: str) -> str:
    """An interpreter that only runs a line of shell, to see what becomes of a failed run."""
    file = folder / "python"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("echo too much >&2; echo a reason >&2; exit 3", "modelopt failed with exit code 3: …too much a reason$"),
        ("exit 0", "modelopt ended without an error and without a result"),
        ("cp float.onnx modelopt.onnx", "INT8 was asked for and modelopt quantized nothing"),
        ("cp broken.onnx modelopt.onnx", "modelopt's graph breaks TensorRT's rules: .*zero point is not 0"),
    ],
)
def test_a_run_of_modelopt_that_goes_wrong(text: str, sentence: str, tmp_path: Path) -> None:
    onnx.save(CASES["matmul"](), tmp_path / "float.onnx")
    broken = product()
    setter("x_zero", np.int8(3))(broken)
    onnx.save(broken, tmp_path / "broken.onnx")
    python, rows = other_python(tmp_path, text), {"x": normal(8, 5, 8)}
    with pytest.raises(BuildError, match=f"^{WHERE}: {sentence}"):
        quantize_modelopt(tmp_path / "float.onnx", rows, tmp_path, "INT8", "minmax", WHERE, python=python)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("modelopt") is None, reason="the extra modelopt is not installed")
def test_modelopt_itself(tmp_path: Path) -> None:
    """A perceptron with a dynamic batch, of which modelopt quantizes nothing unless it is told the shapes."""
    graph = Graph(seed=9)
    graph.op("MatMul", [graph.op("Relu", [graph.dense("x", "first", 64, 64)], "r"), graph.weight("last", 64, 32)], "y")
    model = graph.model({"x": (TensorProto.FLOAT, ["batch", 64])}, {"y": ["batch", 32]})
    onnx.save(model, tmp_path / "m.onnx")
    file = quantize_modelopt(tmp_path / "m.onnx", {"x": normal(32, 64)}, tmp_path, "INT8", "minmax", WHERE)
    result = onnx.load(file)
    assert count_qdq(result) == {"activations": 2, "weights": 2, "integer_operators": 0}
    assert result.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    if HAS_RTX:
        assert rtx_refusal(result) == ""
