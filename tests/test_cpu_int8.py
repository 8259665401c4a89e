# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""INT8 for ONNX Runtime's CPU provider: the scheme, the accuracy, the speed, and that nothing leaks out of it."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from precision_models import Graph, conv_net, encoder
from trtkit.errors import BuildError
from trtkit.export.runtime import Session
from trtkit.numerics import Array
from trtkit.precision.calibration import Ranges, TensorRange, calibrate, tensors_to_calibrate
from trtkit.precision.cpu_int8 import cpu_scheme, quantize_cpu
from trtkit.precision.graph_edit import constant_tensors, producers
from trtkit.precision.qdq import QuantizeResult
from trtkit.precision.qdq_rules import qdq_problems

WHERE = "trtkit.yaml:9:5"


def images(size: int, count: int = 32, channels: int = 1) -> dict[str, Array]:
    return {"image": np.random.default_rng(3).normal(0, 1, (count, channels, size, size)).astype(np.float32)}


def tokens(count: int, length: int, vocabulary: int) -> dict[str, Array]:
    ids = np.random.default_rng(4).integers(0, vocabulary, (count, length))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def perceptron() -> onnx.ModelProto:
    """x FP32 [batch, 32] -> y FP32 [batch, 10]: two Gemm with a Relu between them, and a MatMul."""
    graph = Graph(seed=5)
    graph.op("Gemm", ["x", graph.weight("w1", 32, 64), graph.weight("b1", 64, scale=0.1)], "a")
    graph.op("Gemm", [graph.op("Relu", ["a"], "r"), graph.weight("w2", 64, 64)], "b")
    graph.op("MatMul", [graph.op("Relu", ["b"], "s"), graph.weight("w3", 64, 10)], "y")
    return graph.model({"x": (TensorProto.FLOAT, ["batch", 32])}, {"y": ["batch", 10]})


def normalized_net() -> onnx.ModelProto:
    """image FP32 [batch, 3, 12, 12] -> y: Conv, BatchNormalization, Relu, twice, with a residual connection."""
    graph, x = Graph(seed=6), "image"
    for index, (before, count) in enumerate(((3, 16), (16, 16))):
        weight = graph.weight(f"w{index}", count, before, 3, 3, scale=(2 / (9 * before)) ** 0.5)
        y = graph.op("Conv", [x, weight], f"conv{index}", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        scale, shift = graph.random.uniform(0.5, 1.5, count), graph.random.normal(0, 0.1, count)
        mean, variance = graph.random.normal(0, 0.1, count), graph.random.uniform(0.5, 1.5, count)
        values = {"scale": scale, "shift": shift, "mean": mean, "variance": variance}
        y = graph.op(
            "BatchNormalization", [y, *(graph.constant(f"{n}{index}", v) for n, v in values.items())], f"n{index}"
        )
        x = graph.op("Relu", [graph.op("Add", [y, x], "sum") if index else y], f"relu{index}")
    graph.op("Flatten", [graph.op("GlobalAveragePool", [x], "pooled")], "y")
    return graph.model({"image": (TensorProto.FLOAT, ["batch", 3, 12, 12])}, {"y": ["batch", 16]})


def ranges_for(model: onnx.ModelProto, folder: Path, rows: dict[str, Array], **options: Any) -> Ranges:
    onnx.save(model, folder / "model.onnx")
    given = {"method": "minmax", "percentile": 99.9, "batch_rows": 16, "where": WHERE, **options}
    return calibrate(folder / "model.onnx", rows, tensors_to_calibrate(model), **given)


def quantized(model: onnx.ModelProto, folder: Path, rows: dict[str, Array], **options: Any) -> QuantizeResult:
    ranges = ranges_for(model, folder, rows)
    return quantize_cpu(folder / "model.onnx", ranges, folder, where=WHERE, **options)


def error_of(model: onnx.ModelProto, result: onnx.ModelProto, rows: dict[str, Array]) -> float:
    before, after = (Session(one.SerializeToString()).run(rows) for one in (model, result))
    assert {n: (a.dtype, a.shape) for n, a in before.items()} == {n: (a.dtype, a.shape) for n, a in after.items()}
    return max(float(np.abs(after[n] - before[n]).max() / np.abs(before[n]).max()) for n in before)


# --- the scheme ---------------------------------------------------------------------------------------------------


def with_attention(channels: int) -> onnx.ModelProto:
    """A convolution of so many channels, and one attention of 16 over its pixels."""
    graph = Graph(seed=7)
    x = graph.op(
        "Conv", ["image", graph.weight("w", channels, 3, 4, 4)], "patches", kernel_shape=[4, 4], strides=[4, 4]
    )
    x = graph.op("Reshape", [x, graph.constant("shape", [0, channels, 9], np.int64)], "flat")
    x = graph.op("MatMul", [graph.op("Transpose", [x], "rows", perm=[0, 2, 1]), graph.weight("p", channels, 16)], "q")
    keys = graph.op("Transpose", [graph.op("MatMul", [x, graph.weight("k", 16, 16)], "keys")], "kt", perm=[0, 2, 1])
    shares = graph.op("Softmax", [graph.op("MatMul", [x, keys], "scores")], "shares", axis=-1)
    graph.op("MatMul", [graph.op("Dropout", [shares], "dropped"), x], "y")
    return graph.model({"image": (TensorProto.FLOAT, ["batch", 3, 12, 12])}, {"y": ["batch", 9, 16]})


@pytest.mark.parametrize(
    ("build", "scheme"),
    [
        (lambda: conv_net((4,), 8), "static"),
        (perceptron, "static"),
        (normalized_net, "static"),
        (lambda: encoder(1, 16, 2, 20), "dynamic"),
        (lambda: with_attention(4), "dynamic"),  # 192 weights in the convolution, 320 in products
        (lambda: with_attention(64), "static"),  # 3072 against 1280
    ],
)
def test_the_scheme_follows_from_the_graph(build: Callable[[], onnx.ModelProto], scheme: str) -> None:
    assert cpu_scheme(build()) == scheme


# --- static -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "rows", "nodes"),
    [
        (lambda: conv_net((8, 16), 16), images(16), 3),
        (perceptron, {"x": images(8)["image"][:, 0, :4].reshape(32, 32)}, 3),
        (normalized_net, images(12, channels=3), 2),
    ],
)
def test_static_graphs_are_close_and_small(
    build: Callable[[], onnx.ModelProto], rows: dict[str, Array], nodes: int, tmp_path: Path
) -> None:
    model = build()
    result = quantized(model, tmp_path, rows)
    onnx.checker.check_model(result.model)
    assert qdq_problems(result.model, "cpu") == []
    assert (result.quantized["nodes"], result.quantized["weights"], result.skipped) == (nodes, nodes, {})
    assert error_of(model, result.model, rows) < 0.05
    assert "BatchNormalization" not in {node.op_type for node in result.model.graph.node}
    assert {entry.domain for entry in result.model.opset_import} <= {"", "ai.onnx"}
    assert result.model.ir_version <= 10
    types = {t.data_type for t in constant_tensors(result.model).values() if np.prod(t.dims) > 64}
    assert types <= {TensorProto.INT8, TensorProto.INT32}


def test_our_ranges_are_the_ones_that_are_used(tmp_path: Path) -> None:
    model = conv_net((4, 6), 8)
    ranges = ranges_for(model, tmp_path, images(8), method="percentile", percentile=99.0)
    result = quantize_cpu(tmp_path / "model.onnx", ranges, tmp_path, where=WHERE)
    scale = numpy_helper.to_array(constant_tensors(result.model)["image_scale"])
    found = ranges.ranges["image"]
    assert float(scale) == pytest.approx((found.high - found.low) / 255, rel=1e-3)


def test_a_last_gemm_gives_fp32_and_a_last_relu_is_still_one(tmp_path: Path) -> None:
    model = conv_net((4, 6), 8)
    result = quantized(model, tmp_path, images(8)).model
    assert producers(result.graph)["logits"].op_type == "Gemm"
    values = Session(result.SerializeToString()).run(images(8))["logits"]
    assert len(np.unique(values)) > 256

    graph = Graph(seed=8)
    graph.op("Relu", [graph.op("MatMul", ["x", graph.weight("w", 16, 16)], "m")], "y")
    relu = graph.model({"x": (TensorProto.FLOAT, ["batch", 16])}, {"y": ["batch", 16]})
    rows = {"x": np.random.default_rng(1).normal(0, 1, (64, 16)).astype(np.float32)}
    result = quantized(relu, tmp_path, rows).model
    assert error_of(relu, result, rows) < 0.05
    assert (Session(result.SerializeToString()).run(rows)["y"] >= 0).all()


def test_what_is_kept_stays_and_says_so(tmp_path: Path) -> None:
    model = conv_net((8, 16), 16)
    result = quantized(model, tmp_path, images(16), keep_nodes=["node_conv0"], keep_operators=["Gemm"])
    assert result.skipped == {
        "node_conv0": "kept by keep.nodes ('node_conv0')",
        "node_logits": "Gemm is kept by keep.operators",
    }
    assert result.quantized["nodes"] == 1
    weights = {"conv0.weight", "head.weight"}
    assert weights <= {tensor.name for tensor in result.model.graph.initializer}


def test_a_node_without_a_range_is_left_out(tmp_path: Path) -> None:
    model = conv_net((8, 16), 16)
    ranges = ranges_for(model, tmp_path, images(16))
    del ranges.ranges["conv1"]
    result = quantize_cpu(tmp_path / "model.onnx", ranges, tmp_path, where=WHERE)
    assert result.skipped == {"node_conv1": "the calibration has no range for 'conv1'"}
    assert error_of(model, result.model, images(16)) < 0.05


def test_nothing_quantized_says_why(tmp_path: Path) -> None:
    with pytest.raises(
        BuildError, match=f"^{WHERE}: INT8 was asked for and nothing could be quantized; skipped: 2 Conv"
    ):
        quantized(conv_net((4, 6), 8), tmp_path, images(8), keep_operators=["Conv", "Gemm"])
    with pytest.raises(BuildError, match="nothing could be quantized; skipped: 8 MatMul: MatMul is kept"):
        quantized(encoder(1, 16, 2, 20), tmp_path, tokens(8, 4, 20), keep_operators=["MatMul"])
    graph = Graph(seed=8)
    graph.op("MatMul", ["x", graph.constant("w", np.ones((16, 4)), np.float64)], "y")
    double = graph.model({"x": (TensorProto.DOUBLE, ["batch", 16])}, {"y": ["batch", 4]})
    double.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    with pytest.raises(BuildError, match="nothing could be quantized; skipped: 1 MatMul: 'x' is not FP32"):
        quantized(double, tmp_path, {"x": np.random.default_rng(1).normal(0, 1, (8, 16))})
    relu = helper.make_node("Relu", ["x"], ["y"])
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 4]) for name in "xy"]
    graph = helper.make_graph([relu], "g", value[:1], value[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "relu.onnx")
    nothing = Ranges({"x": TensorRange(0, 1)}, "minmax", 100.0, 2)
    with pytest.raises(BuildError, match="nothing could be quantized; the graph has no Conv"):
        quantize_cpu(tmp_path / "relu.onnx", nothing, tmp_path, where=WHERE)


def test_static_needs_ranges_and_a_quantized_graph_is_refused(tmp_path: Path) -> None:
    model = conv_net((4, 6), 8)
    result = quantized(model, tmp_path, images(8)).model
    with pytest.raises(BuildError, match=f"^{WHERE}: static INT8 needs the ranges of a calibration"):
        quantize_cpu(tmp_path / "model.onnx", None, tmp_path, where=WHERE)
    onnx.save(result, tmp_path / "again.onnx")
    with pytest.raises(BuildError, match="the graph is quantized already"):
        quantize_cpu(tmp_path / "again.onnx", None, tmp_path, where=WHERE)


def test_the_quantizers_own_errors_become_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from onnxruntime.quantization import qdq_quantizer

    def fails(*_: object) -> None:
        raise KeyError("its own insides")

    monkeypatch.setattr(qdq_quantizer.QDQQuantizer, "quantize_model", fails)
    with pytest.raises(BuildError, match=f"^{WHERE}: ONNX Runtime's quantizer failed: KeyError: 'its own insides'"):
        quantized(conv_net((4, 6), 8), tmp_path, images(8))


# --- constants and biases as other exporters write them ----------------------------------------------------------


def constant_in_a_node(graph: Graph, x: str) -> None:
    graph.op("Constant", [], "w", value=numpy_helper.from_array(normal(16, 8)))
    graph.op("MatMul", [x, "w"], "y")


def transposed_constant(graph: Graph, x: str) -> None:
    graph.op("MatMul", [x, graph.op("Transpose", [graph.constant("w", normal(8, 16))], "wt", perm=[1, 0])], "y")


def constants_of_a_convolution(graph: Graph, x: str) -> None:
    x = graph.op("Reshape", [x, graph.constant("shape", [0, 4, 4], np.int64)], "image")
    graph.op("Constant", [], "w", value=numpy_helper.from_array(normal(6, 4, 2)))
    graph.op("Constant", [], "b", value=numpy_helper.from_array(normal(6)))
    graph.op("Conv", [x, "w", "b"], "y")


def bias_in_one_row(graph: Graph, x: str) -> None:
    graph.op("Gemm", [x, graph.constant("w", normal(16, 8)), graph.constant("b", normal(1, 8))], "y")


def bias_of_one_value(graph: Graph, x: str) -> None:
    graph.op("Gemm", [x, graph.constant("w", normal(8, 16)), graph.constant("b", 2.0)], "y", transB=1)


def bias_with_a_factor(graph: Graph, x: str) -> None:
    weights = [graph.constant("w", normal(16, 8)), graph.constant("b", normal(8) * 9)]
    graph.op("Gemm", [x, *weights], "y", alpha=0.5, beta=0.25)


def normal(*shape: int) -> Array:
    return np.random.default_rng(8).normal(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("write", "rank"),
    [
        (constant_in_a_node, 1), (transposed_constant, 1), (constants_of_a_convolution, 2), (bias_in_one_row, 1),
        (bias_of_one_value, 1), (bias_with_a_factor, 1),
    ],
)  # fmt: skip
def test_constants_and_biases_of_other_exporters(
    write: Callable[[Graph, str], None], rank: int, tmp_path: Path
) -> None:
    graph, rows = Graph(seed=8), {"x": normal(32, 16)}
    write(graph, "x")
    model = graph.model({"x": (TensorProto.FLOAT, ["batch", 16])}, {"y": ["batch", *[None] * rank]})
    result = quantized(model, tmp_path, rows)
    onnx.checker.check_model(result.model, full_check=True)
    assert (result.quantized["nodes"], result.quantized["weights"], result.skipped) == (1, 1, {})
    assert error_of(model, result.model, rows) < 0.03


def test_a_transposed_constant_is_dynamic_too(tmp_path: Path) -> None:
    graph = Graph(seed=8)
    transposed_constant(graph, "x")
    shares = graph.op("Softmax", ["y"], "shares")
    graph.op("MatMul", [shares, graph.weight("v", 8, 4)], "z")
    model = graph.model({"x": (TensorProto.FLOAT, ["batch", 16])}, {"z": ["batch", 4]})
    onnx.save(model, tmp_path / "model.onnx")
    result = quantize_cpu(tmp_path / "model.onnx", None, tmp_path, where=WHERE)
    assert (result.quantized["nodes"], result.skipped) == (2, {})
    assert error_of(model, result.model, {"x": normal(32, 16)}) < 0.05


def test_a_bias_that_has_no_quantized_form_leaves_its_node_out(tmp_path: Path) -> None:
    graph = Graph(seed=8)
    first = graph.op("Gemm", ["x", graph.constant("w", normal(16, 8)), graph.constant("b", normal(8))], "first")
    graph.op("Gemm", [first, graph.constant("v", normal(8, 8)), first], "second")
    x = graph.op("Reshape", ["second", graph.constant("shape", [0, 4, 2], np.int64)], "image")
    grouped = [graph.constant("g", normal(4, 3, 2)), graph.constant("c", normal(6))]
    graph.op("ConvTranspose", [x, *grouped], "y", group=2)
    model = graph.model({"x": (TensorProto.FLOAT, ["batch", 16])}, {"y": ["batch", 6, 3]})
    result = quantized(model, tmp_path, {"x": normal(32, 16)})
    assert result.skipped == {
        "node_second": "its bias is not constant",
        "node_y": "ONNX Runtime's quantizer has no form for the bias of a grouped ConvTranspose",
    }
    assert error_of(model, result.model, {"x": normal(32, 16)}) < 0.03


def test_the_factor_of_a_bias_counts_once_where_its_node_is_kept(tmp_path: Path) -> None:
    graph = Graph(seed=8)
    bias_with_a_factor(graph, "x")
    graph.op("MatMul", ["y", graph.weight("v", 8, 4)], "z")
    model = graph.model({"x": (TensorProto.FLOAT, ["batch", 16])}, {"z": ["batch", 4]})
    result = quantized(model, tmp_path, {"x": normal(32, 16)}, keep_nodes=["node_y"])
    assert list(result.skipped) == ["node_y"]
    assert error_of(model, result.model, {"x": normal(32, 16)}) < 0.03


def test_what_a_loop_reads_stands_before_it(tmp_path: Path) -> None:
    graph, rows = Graph(seed=8), {"x": normal(32, 16)}
    made = graph.op("Concat", [graph.op("MatMul", ["x", graph.constant("w", normal(16, 8))], "m"), "m"], "made", axis=1)
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["still"]),
            helper.make_node("Add", ["carried", made], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.FLOAT, ["batch", 16]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, ["batch", 16]),
        ],
    )
    rounds = [graph.constant("rounds", 2, np.int64), graph.constant("always", True, np.bool_)]
    graph.op("Loop", [*rounds, "x"], "y", body=body)
    model = graph.model({"x": (TensorProto.FLOAT, ["batch", 16])}, {"y": ["batch", 16]})
    result = quantized(model, tmp_path, rows)
    onnx.checker.check_model(result.model, full_check=True)
    assert error_of(model, result.model, rows) < 0.05


# --- dynamic ------------------------------------------------------------------------------------------------------


def test_dynamic_graphs_are_close_and_small(tmp_path: Path) -> None:
    model = encoder(2, 32, 2, 50)
    onnx.save(model, tmp_path / "model.onnx")
    result = quantize_cpu(tmp_path / "model.onnx", None, tmp_path, where=WHERE)
    onnx.checker.check_model(result.model)
    assert qdq_problems(result.model, "cpu") == []
    operators = [node.op_type for node in result.model.graph.node]
    assert operators.count("MatMulInteger") == result.quantized["nodes"] == 12
    assert result.skipped == {
        f"node_layer{index}_{name}": "its right factor is not constant"
        for index in (0, 1)
        for name in ("scores", "mixed")
    }
    assert error_of(model, result.model, tokens(4, 9, 50)) < 0.06
    scales = [t for t in result.model.graph.initializer if t.name.endswith("weight_scale")]
    assert {int(np.prod(tensor.dims)) for tensor in scales} == {32, 128}, "one per output channel"
    assert len(result.model.SerializeToString()) < 0.5 * len(model.SerializeToString())


def test_convolutions_and_kept_products_are_never_dynamic(tmp_path: Path) -> None:
    model = with_attention(4)
    onnx.save(model, tmp_path / "model.onnx")
    result = quantize_cpu(tmp_path / "model.onnx", None, tmp_path, keep_nodes=["node_keys"], where=WHERE)
    assert result.quantized["nodes"] == 1
    assert result.skipped["node_patches"] == "a convolution quantized dynamically is slower than in FP32"
    assert result.skipped["node_keys"] == "kept by keep.nodes ('node_keys')"
    assert "ConvInteger" not in {node.op_type for node in result.model.graph.node}
    assert error_of(model, result.model, images(12, 4, 3)) < 0.06


def test_a_gemm_is_kept_or_quantized_by_its_own_name(tmp_path: Path) -> None:
    model = encoder(1, 16, 2, 20)
    weight = numpy_helper.from_array(np.random.default_rng(2).normal(0, 1, (16, 8)).astype(np.float32), "head")
    model.graph.initializer.append(weight)
    model.graph.node.append(helper.make_node("Gemm", ["embedding", "head"], ["first"], name="head_one"))
    model.graph.node.append(helper.make_node("Gemm", ["embedding", "head"], ["second"], name="head_two"))
    model.graph.output.extend(
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", 8]) for n in ("first", "second")]
    )
    onnx.save(model, tmp_path / "model.onnx")
    result = quantize_cpu(tmp_path / "model.onnx", None, tmp_path, keep_nodes=["head_two"], where=WHERE)
    assert "head_one" not in result.skipped
    assert result.skipped["head_two"] == "kept by keep.nodes ('head_two')"
    makers = producers(result.model.graph)
    assert makers["second"].op_type == "MatMul"
    assert makers["first"].op_type != "MatMul"


# --- quiet and repeatable -----------------------------------------------------------------------------------------

_DIGEST = """
import sys, hashlib
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from trtkit.precision.calibration import Ranges
from trtkit.precision.cpu_int8 import quantize_cpu
import json
folder = Path(sys.argv[2])
ranges = Ranges.from_json(json.loads((folder / "calibration.json").read_text()))
result = quantize_cpu(folder / "model.onnx", ranges, folder, where="here")
print(hashlib.sha256(result.model.SerializeToString(deterministic=True)).hexdigest())
"""


@pytest.mark.parametrize(
    ("build", "rows"), [(normalized_net, images(12, channels=3)), (lambda: encoder(1, 16, 2, 20), tokens(4, 5, 20))]
)
def test_the_bytes_are_the_same_in_every_process(
    build: Callable[[], onnx.ModelProto], rows: dict[str, Array], tmp_path: Path
) -> None:
    import json

    ranges = ranges_for(build(), tmp_path, rows)
    (tmp_path / "calibration.json").write_text(json.dumps(ranges.to_json()))
    digests = {
        subprocess.run(
            [sys.executable, "-c", _DIGEST, str(Path(__file__).parent), str(tmp_path)],
            env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }  # fmt: skip
    here = quantize_cpu(tmp_path / "model.onnx", ranges, tmp_path, where=WHERE).model
    assert digests == {hashlib.sha256(here.SerializeToString(deterministic=True)).hexdigest()}


def test_nothing_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    quantized(normalized_net(), tmp_path, images(12, channels=3))
    onnx.save(encoder(1, 16, 2, 20), tmp_path / "model.onnx")
    quantize_cpu(tmp_path / "model.onnx", None, tmp_path, where=WHERE)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
