# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Proof on the CPU: graphs are really parsed and built by TensorRT-RTX, and what it says is told in full."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from onnx_models import identity, label_of_bytes, matmul_dynamic_batch
from precision_models import conv_net, encoder
from test_engine import images, quantized_matmul, tokens
from trtkit.engine import EngineCheck, EngineOptions, ShapeRange, check_engine, plan_header, read_manifest
from trtkit.engine.examine import nearest_target
from trtkit.errors import BuildError

pytest.importorskip("tensorrt_rtx", reason="the extra rtx is not installed")

X = [{"x": ShapeRange((1, 64), (8, 64), (32, 64))}]
RTX_TARGETS = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")


@pytest.fixture
def check(tmp_path: Path) -> Any:
    def run(
        model: ModelProto | bytes, profiles: Any, target: str | None = "8.9", options: EngineOptions | None = None
    ) -> EngineCheck:
        content = model if isinstance(model, bytes) else model.SerializeToString()
        (tmp_path / "model.onnx").write_bytes(content)
        return check_engine(tmp_path / "model.onnx", profiles, target, folder=tmp_path / "out", options=options)

    return run


def cast_matmul(kind: int) -> ModelProto:
    """x FP32 [batch, 64] -> y FP32 [batch, 64]; the product is computed in another type."""
    nodes = [
        helper.make_node("Cast", ["x"], ["low"], to=kind),
        helper.make_node("MatMul", ["low", "weight"], ["product"], name="product"),
        helper.make_node("Cast", ["product"], ["y"], to=TensorProto.FLOAT),
    ]
    weight = helper.make_tensor("weight", kind, [64, 64], [0.5] * 4096)
    io = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 64]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", io[:1], io[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


@pytest.mark.parametrize("profiles", [images((1, 8, 32)), images((1, 1, 1), (2, 8, 8), (9, 32, 32))])
def test_a_graph_that_builds(check: Any, tmp_path: Path, profiles: Any) -> None:
    found = check(conv_net((8, 16), 16), profiles)
    assert (found.built, found.built_for, found.problem, found.notes) == (True, "8.9", "", [])
    assert found.plan_bytes == plan_header(tmp_path / "out" / "model.plan").byte_size
    assert found.seconds > 0
    assert found.layers["FP32"] == 9
    assert found.precision_source == "network"
    manifest = read_manifest(tmp_path / "out" / "engine.json")
    assert (len(manifest["profiles"]), manifest["options"]["compute_capabilities"]) == (len(profiles), ["8.9"])
    assert found.summary.startswith(
        f"TensorRT-RTX {found.library_version} built a plan of {found.plan_bytes / 1e6:.1f} MB for"
    )


def test_the_form_of_json(check: Any) -> None:
    found = json.loads(json.dumps(check(matmul_dynamic_batch(), X).to_json()))
    assert (found["built"], found["problem"], found["file"]) == (True, "", "model.onnx")
    assert found["summary"]


def test_int64_inputs_stay(check: Any) -> None:
    found = check(encoder(1, 32, 2, 50), tokens((1, 16)))
    assert found.built
    assert found.io_changes == []
    assert found.io_kept == [
        f"input '{name}' stays INT64; TensorRT before 10 makes it INT32" for name in ("input_ids", "attention_mask")
    ]


def test_double_is_narrowed_and_said_so(check: Any) -> None:
    found = check(identity(TensorProto.DOUBLE, ["batch", 4]), [{"x": ShapeRange((1, 4), (1, 4), (2, 4))}])
    assert found.built
    assert found.io_changes == [
        "input 'x' is FP64 in the graph and FP32 in the engine, with no warning",
        "output 'y' is FP64 in the graph and FP32 in the engine, with no warning",
    ]
    assert found.io_changes[0] in found.summary


def test_every_unsupported_node_is_named(check: Any) -> None:
    nodes = [
        helper.make_node("Foo", ["x"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="fine"),
        helper.make_node("Bar", ["b"], ["c"]),
        helper.make_node("DynamicQuantizeLinear", ["c"], ["q", "s", "z"], name="last"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], name="after"),
    ]
    io = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", io[:1], io[1:])
    found = check(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), [])
    assert not found.built
    assert found.unsupported == [
        {"node": "first", "operator": "Foo", "why": "TensorRT has no operator Foo"},
        {"node": "2", "operator": "Bar", "why": "TensorRT has no operator Bar"},
        {"node": "last", "operator": "DynamicQuantizeLinear", "why": "TensorRT has no operator DynamicQuantizeLinear"},
    ]
    assert "node 'first' (Foo): TensorRT has no operator Foo; node '2' (Bar): " in found.problem


def test_a_node_whose_operator_exists_says_why_it_is_refused(check: Any) -> None:
    model = matmul_dynamic_batch()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    found = check(model, X)
    assert [(node["node"], node["operator"]) for node in found.unsupported] == [("0", "MatMul")]
    assert "must have same input types" in found.unsupported[0]["why"]


def test_text_inputs(check: Any) -> None:
    found = check(label_of_bytes(), [])
    assert "LabelEncoder" in found.problem
    assert not found.built


@pytest.mark.parametrize("content", [b"", b"junk" * 99, conv_net((8,), 16).SerializeToString()[:-300]])
def test_a_file_that_is_no_graph(check: Any, content: bytes) -> None:
    found = check(content, images((1, 8, 32)))
    assert not found.built
    assert "cannot parse" in found.problem
    assert found.unsupported == []


def test_all_problems_of_the_profiles(check: Any, tmp_path: Path) -> None:
    found = check(matmul_dynamic_batch(), [{"y": X[0]["x"]}, {"x": ShapeRange((9, 64), (8, 64), (32, 64))}])
    assert not found.built
    assert found.problems == found.profile_problems
    text = found.problem
    for expected in ("profile 0 has no shapes for input 'x'", "profile 0: 'y' is no input", "profile 1: 'x' needs min"):
        assert expected in text
    assert found.io[0]["name"] == "x"
    assert not (tmp_path / "out" / "model.plan").exists()


def test_a_workspace_that_is_too_small(check: Any) -> None:
    found = check(conv_net((8,), 16), images((1, 8, 8)), options=EngineOptions(workspace_bytes=1024))
    assert not found.built
    assert "within workspace limit" in found.problem


def test_options_that_rtx_has_not_are_left_out_and_noted(check: Any, tmp_path: Path) -> None:
    options = EngineOptions(
        version_compatible=True, strip_plan=True, plugins=("none.so",), timing_cache=tmp_path / "times"
    )
    found = check(matmul_dynamic_batch(), X, options=options)
    assert found.built
    assert found.notes == [
        "not checked, TensorRT-RTX has it in another way or not at all: version_compatible, strip_plan, plugins"
    ]


def test_options_that_cannot_be(check: Any) -> None:
    with pytest.raises(BuildError, match="optimization_level is 9"):
        check(matmul_dynamic_batch(), X, options=EngineOptions(optimization_level=9))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="there is no ONNX file"):
        check_engine(tmp_path / "none.onnx", [], "8.9", folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


# compute capabilities


@pytest.mark.parametrize(
    ("wanted", "built_for", "sentence"),
    [
        ("8.9", "8.9", ""),
        ("12.1", "12.1", ""),
        ("7.5", "7.5", ""),
        (None, "8.9", "no compute capability was given: built for 8.9"),
        ("8.7", "8.6", "does not build for 8.7: built for 8.6, the nearest below it, with the same types"),
        ("9.0", "8.9", "does not build for 9.0: built for 8.9, the nearest below it, with the same types"),
        ("10.0", "8.9", "the nearest below it, with the same types except FP4"),
        ("10.3", "8.9", "the nearest below it, with the same types except FP4"),
        ("11.0", "8.9", "the nearest below it, with the same types except FP4"),
        ("13.0", "12.1", "the nearest below it, with the same types"),
        ("7.0", "7.5", "which is newer: the oldest there is"),
    ],
)
def test_the_nearest_target(wanted: str | None, built_for: str, sentence: str) -> None:
    nearest, why = nearest_target(wanted, RTX_TARGETS)
    assert nearest == built_for
    assert why.endswith(sentence)
    assert bool(why) == bool(sentence)


def test_hopper_is_built_for_ada(check: Any) -> None:
    found = check(matmul_dynamic_batch(), X, "9.0")
    assert (found.built, found.built_for, found.compute_capability) == (True, "8.9", "9.0")
    assert found.notes == [
        "TensorRT-RTX does not build for 9.0: built for 8.9, the nearest below it, with the same types"
    ]


@pytest.mark.parametrize("model", [matmul_dynamic_batch(), quantized_matmul(TensorProto.INT8)], ids=["FP32", "INT8"])
def test_float_products_on_turing_are_rtx_s_limit(check: Any, model: ModelProto) -> None:
    found = check(model, X, "7.5")
    assert (found.built, found.built_for) == (True, "8.0")
    assert found.notes == [
        "TensorRT-RTX has no FP32 matrix products for 7.5; that is its own limit and not TensorRT's on such a GPU: "
        "built for 8.0 instead"
    ]


def test_half_products_on_turing(check: Any) -> None:
    found = check(cast_matmul(TensorProto.FLOAT16), X, "7.5")
    assert (found.built, found.built_for, found.layers) == (True, "7.5", {"FP16": 1})


@pytest.mark.parametrize(
    ("model", "target", "sentence"),
    [
        (cast_matmul(TensorProto.BFLOAT16), "7.5", "BF16 needs compute capability 8.0 or newer, and this is for 7.5"),
        (quantized_matmul(TensorProto.FLOAT8E4M3FN), "7.5", "FP8 needs compute capability 8.9 or newer"),
        (quantized_matmul(TensorProto.FLOAT8E4M3FN), "8.6", "FP8 needs compute capability 8.9 or newer"),
    ],
)
def test_types_that_a_gpu_has_not(check: Any, model: ModelProto, target: str, sentence: str) -> None:
    found = check(model, X, target)
    assert (found.built, found.built_for) == (False, target)
    assert found.problems[0].startswith(sentence)
    assert "HW-specific datatypes" in found.problems[1]


def test_fp8_and_bf16_where_they_are(check: Any) -> None:
    assert check(quantized_matmul(TensorProto.FLOAT8E4M3FN), X, "9.0").layers == {"FP8": 1}
    assert check(cast_matmul(TensorProto.BFLOAT16), X, "8.0").layers == {"BF16": 1}


def test_a_graph_with_external_data(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    onnx.save(matmul_dynamic_batch(), file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert check_engine(file, X, "8.9", folder=tmp_path / "out").built
    (tmp_path / "weights.bin").unlink()
    found = check_engine(file, X, "8.9", folder=tmp_path / "out")
    assert not found.built
    assert "weights.bin" in found.problem
