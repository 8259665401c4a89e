# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""FP32 graphs become FP16 and BF16 ones: checked by onnx, run by ONNX Runtime, built by TensorRT-RTX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, TensorProto, helper, parser

from precision_models import Graph, conv_net, encoder, overflows_in_fp16
from trtkit.engine import ShapeRange, build_engine
from trtkit.errors import BuildError, ConfigError
from trtkit.export.runtime import Session
from trtkit.precision import half as half_module
from trtkit.precision.emulate import cpu_runnable
from trtkit.precision.graph_edit import all_nodes, element_types, graphs_of
from trtkit.precision.half import HalfResult, to_half
from trtkit.precision.half_constants import rounded

FLOAT, FP16, BF16 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16
CODES = {"FP16": FP16, "BF16": BF16}
LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"


def normal(*shape: int) -> Any:
    """The same normally distributed FP32 numbers in every test."""
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def text_model(text: str, opset: int = 17, more: str = "") -> ModelProto:
    return parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}{more}]>\n{text}')


def converted(model: ModelProto, dtype: str = "FP16", **options: Any) -> HalfResult:
    """The conversion, after what holds for every one: it is valid, and has no Cast too many."""
    before = model.SerializeToString(deterministic=True)
    result = to_half(model, dtype, **options)
    assert model.SerializeToString(deterministic=True) == before, "the given model was changed"
    onnx.checker.check_model(result.model, full_check=True)
    no_cast_too_many(result.model)
    return result


def no_cast_too_many(model: ModelProto) -> None:
    casts = [node for node in all_nodes(model) if node.op_type == "Cast"]
    pairs = [(node.input[0], node.attribute[0].i) for node in casts]
    assert len(pairs) == len(set(pairs)), f"a value is cast twice: {sorted(pairs)}"
    types, made = element_types(model), {node.output[0]: node for node in casts}
    for node in casts:
        assert types[node.input[0]] != node.attribute[0].i, f"{node.name} changes nothing"
        before = made.get(node.input[0])
        if before is not None and {types[node.input[0]], node.attribute[0].i} <= {FLOAT, FP16, BF16}:
            assert types[before.input[0]] != node.attribute[0].i, f"{before.name} and {node.name} cancel"


def node_of(model: ModelProto, name: str) -> NodeProto:
    return next(node for node in all_nodes(model) if node.name == name)


def types_of(model: ModelProto, name: str) -> tuple[list[int], list[int]]:
    """The element types a node reads and gives."""
    types, node = element_types(model), node_of(model, name)
    return [types[i] for i in node.input if i], [types[i] for i in node.output if i]


def run(model: ModelProto, rows: Mapping[str, Any]) -> dict[str, Any]:
    return Session(cpu_runnable(model).SerializeToString()).run(rows)


def near(model: ModelProto, result: HalfResult, rows: Mapping[str, Any], share: float) -> None:
    """The outputs differ from FP32's, by at most a share of the largest value."""
    expected, actual = Session(model.SerializeToString()).run(rows), run(result.model, rows)
    for name, array in expected.items():
        error = np.abs(array - actual[name].astype(np.float32)).max()
        assert 0 < error <= share * np.abs(array).max(), name


def images() -> dict[str, Any]:
    return {"image": normal(3, 1, 32, 32)}


def tokens() -> dict[str, Any]:
    mask = np.array([[1] * 9, [1] * 5 + [0] * 4])
    return {"input_ids": np.random.default_rng(0).integers(0, 50, (2, 9)), "attention_mask": mask}


def small_encoder() -> ModelProto:
    return encoder(2, 32, 2, 50)


IMAGE_SHAPES = {"image": ShapeRange((1, 1, 32, 32), (8, 1, 32, 32), (32, 1, 32, 32))}
TOKEN_SHAPES = {name: ShapeRange((1, 4), (4, 16), (8, 64)) for name in ("input_ids", "attention_mask")}
NETS = {"conv_net": (conv_net, images, IMAGE_SHAPES), "encoder": (small_encoder, tokens, TOKEN_SHAPES)}


def builds(model: ModelProto, folder: Path, profile: Mapping[str, ShapeRange] | None = None) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="the extra rtx is not installed")
    file = folder / "half.onnx"
    onnx.save(model, file)
    plan: Any = build_engine(trt, file, [profile] if profile else [])
    assert bytes(getattr(plan, "plan", plan)).startswith(b"vtrt")


@pytest.mark.parametrize("dtype", ["FP16", "BF16"])
@pytest.mark.parametrize("net", NETS)
def test_a_net_in_half(net: str, dtype: str, tmp_path: Path) -> None:
    model, rows, shapes = NETS[net][0](), NETS[net][1](), NETS[net][2]
    result = converted(model, dtype)
    assert not result.kept
    assert set(result.halves) == {node.name for node in model.graph.node}
    assert result.converted == len(model.graph.node)
    assert {t.data_type for t in result.model.graph.initializer} <= {CODES[dtype], TensorProto.INT64}
    assert [i.type for i in result.model.graph.input] == [i.type for i in model.graph.input]
    assert result.model.graph.output[0].type.tensor_type.elem_type == FLOAT
    near(model, result, rows, {"FP16": 5e-3, "BF16": 4e-2}[dtype])
    builds(result.model, tmp_path, shapes)


@pytest.mark.parametrize("dtype", ["FP16", "BF16"])
@pytest.mark.parametrize("net", NETS)
def test_a_net_with_half_inputs_and_outputs(net: str, dtype: str, tmp_path: Path) -> None:
    model, rows, shapes = NETS[net][0](), NETS[net][1](), NETS[net][2]
    result = converted(model, dtype, keep_io_types=False)
    types = element_types(result.model)
    for value in (*model.graph.input, *model.graph.output):
        was = value.type.tensor_type.elem_type
        assert types[value.name] == (CODES[dtype] if was == FLOAT else was)
    if net == "conv_net":
        assert not any(node.op_type == "Cast" for node in result.model.graph.node)
        rows = {"image": rows["image"].astype(np.float16 if dtype == "FP16" else np.float32)}
    name, kept = model.graph.output[0].name, converted(model, dtype)
    inner = {key: array.astype(np.float32) if array.dtype.kind == "f" else array for key, array in rows.items()}
    assert np.array_equal(run(result.model, rows)[name].astype(np.float32), run(kept.model, inner)[name])
    builds(result.model, tmp_path, shapes)


def test_bf16_raises_the_opset_only_where_a_schema_needs_it() -> None:
    net, enc = converted(conv_net(), "BF16"), converted(small_encoder(), "BF16")
    assert net.model.opset_import[0].version == 22
    assert net.notes == ["opset 17 raised to 22, the first in which all its operators have the type"]
    assert (enc.model.opset_import[0].version, enc.notes) == (17, [])
    kept = converted(conv_net(), "BF16", keep_operators=["Conv", "MaxPool", "GlobalAveragePool", "Flatten"])
    assert kept.model.opset_import[0].version == 17


@pytest.mark.parametrize("net", [*NETS, "bf16 in an older opset"])
def test_equal_graphs_give_equal_bytes(net: str) -> None:
    dtype = "FP16" if net in NETS else "BF16"
    build = NETS.get(net, NETS["conv_net"])[0]
    results = [to_half(build(), dtype).model.SerializeToString(deterministic=True) for _ in range(2)]
    assert results[0] == results[1]


RUN = ("light_densenet121", "light_shufflenet", "light_squeezenet")
BUILT = ("light_resnet50", "light_squeezenet")


@pytest.mark.parametrize("file", sorted(LIGHT.glob("light_*.onnx")), ids=lambda file: file.stem)
def test_onnx_s_own_nets(file: Path, tmp_path: Path) -> None:
    model = onnx.load(file)
    rows = normal(1, 3, 224, 224)
    weights = {tensor.name for tensor in model.graph.initializer}
    name = next(value.name for value in model.graph.input if value.name not in weights)
    for dtype in ("FP16", "BF16"):
        result = converted(model, dtype)
        assert [value.name for value in result.model.graph.input] == [name]
        assert result.converted > 0.9 * len(model.graph.node)
        if dtype == "FP16":
            Session(result.model.SerializeToString())
        elif file.stem in RUN:  # in BF16, because their weights are constants, with which some leave FP16's range
            expected = Session(model.SerializeToString()).run({name: rows})
            for output, array in run(result.model, {name: rows}).items():
                np.testing.assert_allclose(array, expected[output], rtol=2e-2)
        if file.stem in BUILT:
            builds(result.model, tmp_path)


# what stays FP32


def test_nodes_are_kept_by_name_and_operator() -> None:
    result = converted(conv_net(), keep_nodes=["node_conv1", "node_p*2"], keep_operators=["Gemm"])
    by_name = dict.fromkeys(["node_conv1", "node_pool2"], "is kept by name")
    assert result.kept == {**by_name, "node_logits": "Gemm is kept"}
    assert types_of(result.model, "node_conv1") == ([FLOAT] * 3, [FLOAT])
    assert types_of(result.model, "node_conv0") == ([FP16] * 3, [FP16])
    assert result.model.graph.output[0].name == "logits"
    near(conv_net(), result, images(), 5e-3)


def test_a_name_with_brackets_is_no_pattern() -> None:
    model = conv_net()
    model.graph.node[0].name, model.graph.node[3].name = "/layer[0]/Conv", "/layer0/Conv"
    assert list(converted(model, keep_nodes=["/layer[0]/Conv"]).kept) == ["/layer[0]/Conv"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"keep_nodes": ["node_conv9"]}, "keep: the graph has no node 'node_conv9'; did you mean 'node_conv"),
        ({"keep_operators": ["Convv"]}, "keep: the graph has no operator 'Convv'; did you mean 'Conv'"),
    ],
)
def test_a_name_to_keep_that_matches_nothing(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        to_half(conv_net(), "FP16", **options)


def test_a_type_that_is_none() -> None:
    with pytest.raises(ConfigError, match="'FP15' is no half-precision type; did you mean 'FP16'"):
        to_half(conv_net(), "FP15")


def test_nothing_to_convert() -> None:
    model = text_model("g (int64[N] x) => (int64[N] y) { y = Add(x, x) }")
    with pytest.raises(BuildError, match="the graph has no FP32 tensor that could become FP16"):
        to_half(model, "FP16")


def test_types_that_cannot_be_inferred() -> None:
    model = text_model("g (float[N] x) => (float[N] y) { y = Cast<to=1>(x) }")
    del model.opset_import[:]
    with pytest.raises(BuildError, match="the types of the graph's values cannot be inferred: "):
        to_half(model, "FP16")


def test_weights_shared_by_kept_and_half_nodes_are_there_in_both_types() -> None:
    model = text_model(
        "g (float[N,2] x) => (float[N,2] y, float[N,2] z) <float[2,2] w = {1.1, 2.2, 3.3, 4.4}>"
        "{ [h] a = MatMul(x, w) [k] b = MatMul(x, w) y = Relu(a) z = Relu(b) }"
    )
    result = converted(model, keep_nodes=["k"])
    assert {t.name: t.data_type for t in result.model.graph.initializer} == {"w": FLOAT, "w_fp16": FP16}
    assert types_of(result.model, "k") == ([FLOAT, FLOAT], [FLOAT])
    assert types_of(result.model, "h") == ([FP16, FP16], [FP16])


def test_a_constant_node_read_in_both_types() -> None:
    model = text_model(
        "g (float[N,2] x) => (float[N,2] y) { c = Constant<value_floats=[0.1, 0.2]>() "
        "[h] a = Mul(x, c) [k] y = Add(a, c) }"
    )
    result = converted(model, keep_nodes=["k"])
    assert types_of(result.model, "k")[0] == [FLOAT, FLOAT]
    assert types_of(result.model, "h")[0] == [FP16, FP16]
    near(model, result, {"x": normal(5, 2)}, 2e-3)


def test_an_output_that_is_also_an_inner_value() -> None:
    model = text_model(
        "g (float[N,2] x) => (float[N,2] a, float[N,2] y) { [p] a = Mul(x, x) [q] b = Exp(a) [r] y = Mul(a, b) }"
    )
    result = converted(model, keep_nodes=["r"])
    assert [value.name for value in result.model.graph.output] == ["a", "y"]
    assert types_of(result.model, "q") == ([FP16], [FP16])
    assert node_of(result.model, "r").input[0] == "a"  # the FP32 output itself, not a second Cast
    near(model, result, {"x": normal(5, 2)}, 5e-3)


def test_an_input_that_is_an_output() -> None:
    model = text_model("g (float[N,2] x) => (float[N,2] x, float[N,2] y) { y = Exp(x) }")
    result = to_half(model, "FP16")
    assert [value.type.tensor_type.elem_type for value in result.model.graph.output] == [FLOAT, FLOAT]


def test_what_only_moves_values_between_fp32_nodes_stays_fp32() -> None:
    model = text_model(
        "g (float[N,4] x) => (float[N,4] y) <int64[2] s = {-1, 4}>"
        "{ [h] a = Exp(x) [k1] b = Sin(a) [m1] c = Reshape(b, s) [m2] d = Identity(c) [k2] y = Cos(d) }"
    )
    result = converted(model, keep_nodes=["k?"])
    assert set(result.kept) == {"k1", "m1", "m2", "k2"}
    assert result.halves == ("h",)


def test_an_input_that_is_compared_is_not_rounded_before() -> None:
    model = text_model(
        "g (float[N,4] x) => (float[N,4] y) <float t = {0.3}> "
        "{ [c] m = Greater(x, t) z = Sub(x, x) y = Where(m, x, z) }"
    )
    result = converted(model)
    assert types_of(result.model, "c")[0] == [FLOAT, FLOAT]
    assert result.kept == {"c": "reads FP32 values and gives none"}


def test_what_is_compared_in_half_already_is_not_cast_back() -> None:
    model = text_model(
        "g (float[N,4] x) => (float[N,4] y) <float t = {0.3}> { e = Exp(x) [c] m = Greater(e, t) y = Where(m, e, t) }"
    )
    assert types_of(converted(model).model, "c")[0] == [FP16, FP16]


def test_half_and_fp32_are_compared_in_fp32() -> None:
    model = text_model("g (float[N,4] x) => (float[N,4] y) { e = Sin(x) [c] m = Greater(e, x) y = Where(m, e, x) }")
    assert types_of(converted(model).model, "c")[0] == [FLOAT, FLOAT]


def test_positions_computed_from_shapes_stay_fp32() -> None:
    model = text_model(
        "g (float[N,S] x) => (float[N,S] y) <int64 one = {1}, int64 zero = {0}, float f = {0.37}>"
        "{ s = Shape(x) n = Gather(s, one) r = Range(zero, n, one) [c] p = Cast<to=1>(r) [m] a = Mul(p, f) "
        "[w] w = Sin(a) [h] y = Mul(x, w) }"
    )
    result = converted(model)
    assert set(result.kept) == {"c", "m", "w"}
    assert result.kept["m"] == "computes sizes or positions from shapes"
    near(model, result, {"x": normal(1, 5000)}, 2e-3)


def test_coordinates_and_running_sums_stay_fp32() -> None:
    model = text_model(
        "g (float[N,1,4,4] x, float[N,2,2,2] grid) => (float[N,1,2,2] y) <int64 axis = {1}>"
        "{ [a] e = Exp(x) [g] s = GridSample(e, grid) [c] t = CumSum(s, axis) [h] y = Exp(t) }"
    )
    result = converted(model)
    assert set(result.kept) == {"g", "c"}
    assert types_of(result.model, "g") == ([FLOAT, FLOAT], [FLOAT])


def test_resize_keeps_its_region_and_scales(tmp_path: Path) -> None:
    model = text_model(
        "g (float[N,1,4,4] x) => (float[N,1,8,8] y) "
        "<float[8] region = {0, 0, 0, 0, 1, 1, 1, 1}, float[4] scales = {1, 1, 2, 2}>"
        '{ [e] e = Exp(x) [r] s = Resize<mode="linear">(e, region, scales) y = Resize<mode="linear">(s, , one) }'
    )
    model.graph.initializer.append(helper.make_tensor("one", FLOAT, [4], [1, 1, 1, 1]))
    for dtype in CODES:
        result = converted(model, dtype)
        assert types_of(result.model, "r") == ([CODES[dtype], FLOAT, FLOAT], [CODES[dtype]])
        builds(result.model, tmp_path, {"x": ShapeRange((1, 1, 4, 4), (2, 1, 4, 4), (4, 1, 4, 4))})


def test_what_tensorrt_refuses_in_bf16_stays_fp32(tmp_path: Path) -> None:
    model = text_model(
        "g (float[N,2,4] x) => (float[N,3,5] y) <float[2,3,2] w = {1,2,3,4,5,6,7,8,9,1,2,3}> "
        "{ [r] r = Relu(x) [t] t = ConvTranspose(r, w) [e] y = Relu(t) }"
    )
    result = converted(model, "BF16")
    assert result.kept == {"t": "TensorRT has no ConvTranspose in this type"}
    builds(result.model, tmp_path, {"x": ShapeRange((1, 2, 4), (2, 2, 4), (4, 2, 4))})
    assert converted(model).kept == {}


@pytest.mark.parametrize("dtype", CODES)
def test_a_border_in_half_of_an_old_graph_and_of_one_without_onnx_s_own_operators(dtype: str) -> None:
    old = text_model("g (float[N,4] x) => (float[N,4] y) { y = Shrink(x) }", 9)
    result = converted(old, dtype, keep_operators=["Shrink"], keep_io_types=False)
    assert element_types(result.model)["x"] == element_types(result.model)["y"] == CODES[dtype]
    node = helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[0.0] * 4, scale=[2.0] * 4)
    values = [helper.make_tensor_value_info(name, FLOAT, ["N", 4]) for name in "xy"]
    foreign = helper.make_model(helper.make_graph([node], "g", values[:1], values[1:]), ir_version=10)
    del foreign.opset_import[:]
    foreign.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    result = to_half(foreign, dtype, keep_io_types=False)
    onnx.checker.check_model(result.model, full_check=True)
    assert {entry.domain for entry in result.model.opset_import} == {"", "ai.onnx.ml"}


def test_operators_of_other_domains_stay_fp32() -> None:
    model = text_model(
        "g (float[N,4] x) => (float[N,4] y) { [a] e = Sin(x) [o] f = com.microsoft.Gelu(e) "
        "[b] g = Sin(f) [c] y = Mul(g, e) }",
        more=', "com.microsoft": 1',
    )
    model.graph.value_info.append(helper.make_tensor_value_info("f", FLOAT, ["N", 4]))
    result = converted(model)
    assert result.kept == {"o": "is an operator of the domain com.microsoft, whose half types are not known"}
    assert types_of(result.model, "o") == ([FLOAT], [FLOAT])
    near(model, result, {"x": normal(5, 4)}, 1e-2)


def test_values_of_unknown_type_are_left_alone() -> None:
    model = text_model(
        "g (float[N,4] x) => (float[N,4] y) <int64 zero = {0}, float c = {2.0}> "
        "{ e = com.microsoft.Gelu(x) [a] f = Mul(e, c) [s] q = SequenceConstruct(x, x) [t] z = SequenceAt(q, zero) "
        "[b] y = Mul(z, z) }",
        more=', "com.microsoft": 1',
    )
    result = converted(model)
    assert result.kept["a"] == result.kept["s"] == "works on values whose types are not known"
    assert {t.name: t.data_type for t in result.model.graph.initializer}["c"] == FLOAT


def test_attributes_that_hold_a_type() -> None:
    model = text_model(
        "g (float[N,4] x, int64[N,4] i) => (float[N,4] y) { [c] f = Cast<to=1>(i) s = Shape(x)"
        " [z] o = ConstantOfShape<value = float[1] {0.1}>(s) [r] n = RandomNormalLike(x) "
        "[e] k = RandomNormal<shape=[1,4]>()"
        " a = Add(f, o) b = Add(a, n) d = Add(b, k) y = Mul(d, x) }"
    )
    result = converted(model)
    assert [types_of(result.model, name)[1] for name in "czre"] == [[FP16]] * 4
    assert not result.kept


def test_casts_that_are_there_already_are_merged() -> None:
    model = text_model(
        "g (float[N,4] x) => (float[N,4] y) { h = Cast<to=10>(x) [a] e = Exp(h) f = Cast<to=1>(e) [s] q = Softmax(f) "
        "p = Cast<to=10>(q) [b] r = Exp(p) y = Cast<to=1>(r) }"
    )
    result = converted(model)
    assert [node.op_type for node in result.model.graph.node].count("Cast") == 2
    assert types_of(result.model, "s") == ([FP16], [FP16])


def test_optional_inputs_that_are_left_out() -> None:
    model = text_model("g (float[N,4] x) => (float[N,4] y) <float high = {6.0}> { [c] y = Clip(x, , high) }")
    result = converted(model)
    assert list(node_of(result.model, "c").input)[1:] == ["", "high"]


# inner graphs

BRANCHES = (
    "g (float[N,4] x, bool c) => (float[N,4] y) <float[4] w = {0.1, 0.2, 0.3, 0.4}> { [z] z = Mul(x, w) "
    "[if] o = If(c) <then_branch = t () => (float[N,4] a) { [t1] q = Mul(z, w) [t2] a = Exp(q) },"
    " else_branch = e () => (float[N,4] b) { [e1] q = Sub(z, w) [e2] b = Sin(q) }> [h] y = Exp(o) }"
)


@pytest.mark.parametrize("dtype", ["FP16", "BF16"])
def test_the_branches_of_an_if(dtype: str, tmp_path: Path) -> None:
    model = text_model(BRANCHES)
    result = converted(model, dtype)
    assert not result.kept
    assert set(result.halves) == {"z", "t1", "t2", "e1", "e2", "h"}
    for choice in (True, False):
        rows = {"x": normal(5, 4), "c": np.array(choice)}
        near(model, result, rows, {"FP16": 5e-3, "BF16": 5e-2}[dtype])
    builds(result.model, tmp_path, {"x": ShapeRange((1, 4), (2, 4), (8, 4))})


def test_nodes_inside_an_if_are_kept_by_name_or_with_it() -> None:
    result = converted(text_model(BRANCHES), keep_nodes=["t2"])
    assert types_of(result.model, "t2") == ([FLOAT], [FLOAT])
    assert types_of(result.model, "e2")[0] == [FP16]
    result = converted(text_model(BRANCHES), keep_operators=["If"])
    assert set(result.halves) == {"z", "h"}
    assert result.kept["t1"] == "'if' around it If is kept"


LOOP = (
    "g (float[N,4] x, int64 n) => (float[N,4] y, float[M,N,4] all) <bool go = {1}, float c = {0.3}>"
    "{ [s] s = Sin(x) l, all = Loop(n, go, s) <body = b (int64 i, bool cond, float[N,4] v) => "
    "(bool more, float[N,4] w, float[N,4] each) { more = Identity(cond) [m] p = Mul(v, s) [a] w = Add(p, c) "
    "[k] each = Cos(w) }> [h] y = Cos(l) }"
)


def test_the_body_of_a_loop() -> None:
    model = text_model(LOOP)
    result = converted(model, keep_nodes=["k"])
    assert types_of(result.model, "m") == ([FP16, FP16], [FP16])
    assert types_of(result.model, "k") == ([FLOAT], [FLOAT])
    assert set(result.kept) == {"k"}
    near(model, result, {"x": normal(5, 4), "n": np.array(4)}, 5e-3)


# constants


def test_a_constant_that_overflows_keeps_its_node_in_fp32() -> None:
    model = text_model("g (float[N,4] x) => (float[N,4] y) <float big = {1e6}> { [m] a = Mul(x, big) [h] y = Tanh(a) }")
    result = converted(model)
    assert result.kept == {"m": "its constant 'big' holds 1e+06, FP16 holds up to 65504"}
    assert converted(model, "BF16").kept == {}


@pytest.mark.parametrize(
    ("value", "dtype"), [(-1e9, "FP16"), (-3.4028234663852886e38, "FP16"), (-3.4028234663852886e38, "BF16")]
)
@pytest.mark.parametrize("through", ["Where", "Add"])
def test_the_constant_of_a_mask_is_clamped(value: float, dtype: str, through: str) -> None:
    body = {
        "Where": "[m] s = Where(c, x, low) ",
        "Add": "k = Cast<to=1>(c) i = Sub(one, k) [f] j = Mul(i, low) [m] s = Add(x, j) ",
    }[through]
    model = text_model(
        f"g (float[N,4] x, bool[N,4] c) => (float[N,4] y) <float low = {{{value!r}}}, float one = {{1.0}}>"
        f"{{ {body} y = Softmax(s) }}"
    )
    result = converted(model, dtype)
    assert not result.kept
    limit = {"FP16": "65504", "BF16": "3.38953e+38"}[dtype]
    end = f"are clamped to the largest finite value, {limit} in {dtype}"
    assert result.notes == [f"constant 'low': 1 of 1 values, up to {-value:.3g}, {end}"]
    mask = np.array([[True, False, True, True]] * 3)
    rows = {"x": normal(3, 4), "c": mask}
    assert (run(result.model, rows)["y"][:, 1] == 0).all()
    near(model, result, rows, {"FP16": 2e-3, "BF16": 1e-2}[dtype])


def test_a_bound_that_nothing_in_half_reaches_is_clamped() -> None:
    model = text_model(
        "g (float[N,4] x) => (float[N,4] y) <float low = {0.1}, float high = {3.4e38}> { [c] y = Clip(x, low, high) }"
    )
    result = converted(model)
    assert not result.kept
    assert result.notes[0].startswith("constant 'high': 1 of 1 values, up to 3.4e+38, are clamped")


def test_infinity_is_no_overflow() -> None:
    model = text_model("g (float[N,4] x, bool[N,4] c) => (float[N,4] y) { y = Where(c, x, low) }")
    model.graph.initializer.append(helper.make_tensor("low", FLOAT, [], [-np.inf]))
    result = converted(model)
    assert (result.kept, result.notes) == ({}, [])


def test_constants_that_vanish_are_noted() -> None:
    model = text_model("g (float[N,3] x) => (float[N,3] y) <float[3] tiny = {1e-12, 0, 1}> { y = Add(x, tiny) }")
    assert converted(model).notes == ["constant 'tiny': 1 of 3 nonzero values are 0 in FP16"]
    assert converted(model, "BF16").notes == []


def test_the_fill_of_a_shape_overflows() -> None:
    model = text_model(
        "g (float[N,4] x) => (float[N,4] y) { s = Shape(x) "
        "[f] f = ConstantOfShape<value = float[1] {1e6}>(s) y = Mul(x, f) }"
    )
    assert converted(model).kept == {"f": "its constant 'f' holds 1e+06, FP16 holds up to 65504"}


# Q/DQ


def quantized(dtype: int = TensorProto.INT8, scale: float = 0.05, opset: int = 13) -> ModelProto:
    """x [batch, 8] -> Gemm and MatMul of quantized x and quantized weights, in FP32."""
    graph = Graph(seed=4)
    for name, value in (("zero", [0]),):
        graph.weights.append(helper.make_tensor(name, dtype, [], value))
    graph.weights.append(helper.make_tensor("w", dtype, [8, 8], np.random.default_rng(0).integers(-9, 9, 64).tolist()))
    graph.constant("s", scale)
    graph.constant("ws", 0.01)
    graph.op("Relu", ["x"], "r")
    graph.op("QuantizeLinear", ["r", "s", "zero"], "q")
    graph.op("DequantizeLinear", ["q", "s", "zero"], "d")
    graph.op("DequantizeLinear", ["w", "ws", "zero"], "wd")
    graph.op("MatMul", ["d", "wd"], "m1")
    graph.op("MatMul", ["d", "wd"], "m2")
    graph.op("Tanh", ["m1"], "t")
    graph.op("Mul", ["t", "m2"], "y")
    model = graph.model({"x": (FLOAT, ["batch", 8])}, {"y": ["batch", 8]})
    model.opset_import[0].version = opset
    return model


def no_cast_behind_dequantizers(model: ModelProto) -> None:
    made = {name: node for node in all_nodes(model) for name in node.output}
    for node in all_nodes(model):
        if node.op_type == "MatMul":
            assert {made[name].op_type for name in node.input} == {"DequantizeLinear"}


@pytest.mark.parametrize("half", ["FP16", "BF16"])
@pytest.mark.parametrize(
    ("kind", "opset"), [(TensorProto.INT8, 13), (TensorProto.INT8, 19), (TensorProto.FLOAT8E4M3FN, 19)]
)
def test_quantized_graphs_get_half_scales(kind: int, opset: int, half: str, tmp_path: Path) -> None:
    model = quantized(kind, opset=opset)
    result = converted(model, half)
    assert not result.kept
    assert result.model.opset_import[0].version == 19
    assert types_of(result.model, "node_d") == ([kind, CODES[half], kind], [CODES[half]])
    assert types_of(result.model, "node_q")[0] == [CODES[half], CODES[half], kind]
    no_cast_behind_dequantizers(result.model)
    rows = {"x": normal(4, 8)}
    near(cpu_runnable(model), result, rows, {"FP16": 3e-2, "BF16": 6e-2}[half])
    builds(result.model, tmp_path, {"x": ShapeRange((1, 8), (2, 8), (8, 8))})


def test_a_dequantizer_read_in_both_types_is_there_twice() -> None:
    result = converted(quantized(), keep_nodes=["node_m2"])
    no_cast_behind_dequantizers(result.model)
    assert types_of(result.model, "node_m2") == ([FLOAT, FLOAT], [FLOAT])
    assert types_of(result.model, "node_m1") == ([FP16, FP16], [FP16])
    assert set(result.kept) == {"node_m2"}


def test_a_scale_that_half_precision_loses_keeps_what_it_feeds_in_fp32(tmp_path: Path) -> None:
    result = converted(quantized(scale=1e-7))
    assert set(result.kept) == {"node_q", "node_d", "node_wd", "node_m1", "node_m2"}
    assert result.kept["node_wd"] == "is read in FP32 only"
    assert result.kept["node_d"] == "its scale 's' (up to 1e-07) does not survive FP16"
    assert result.kept["node_m1"] == "takes what 'node_d' dequantizes to FP32"
    no_cast_behind_dequantizers(result.model)
    builds(result.model, tmp_path, {"x": ShapeRange((1, 8), (2, 8), (8, 8))})


def test_a_graph_input_is_quantized_without_rounding_it_before() -> None:
    model = text_model(
        "g (float[N,4] x) => (float[N,4] y) <float s = {0.1}, int8 z = {0}> "
        "{ [q] q = QuantizeLinear(x, s, z) [d] d = DequantizeLinear(q, s, z) [h] y = Exp(d) }",
        opset=19,
    )
    result = converted(model)
    assert types_of(result.model, "q")[0][:2] == [FLOAT, FLOAT]
    assert types_of(result.model, "d")[1] == [FP16]


def test_an_opset_that_cannot_be_raised_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise RuntimeError("no adapter")

    monkeypatch.setattr(half_module.version_converter, "convert_version", refuses)
    result = converted(quantized())
    assert result.notes == ["the opset stays 13, where some operators are FP32 only: no adapter"]
    assert set(result.kept) == {"node_q", "node_d", "node_wd", "node_m1", "node_m2"}
    no_cast_behind_dequantizers(result.model)
    old = text_model("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }", 12)
    with pytest.raises(BuildError, match="^BF16 needs opset 13; this graph has 12 and onnx cannot convert it: no ad"):
        to_half(old, "BF16")


# any graph

UNARY = ("Relu", "Tanh", "Neg", "Softmax", "Identity", "Abs", "Sin")
BINARY = ("Add", "Mul", "Sub", "MatMul", "Max", "Concat")


@st.composite
def graphs(draw: st.DrawFn) -> ModelProto:
    """Values [batch, 4, 4] and one constant through a few operators, with one or two outputs anywhere."""
    graph, values = Graph(seed=9), ["x", "z"]
    constant = graph.constant("c", graph.random.normal(0, 0.5, (4, 4)))
    cut = [graph.constant(name, [value], np.int64) for name, value in (("start", 0), ("end", 4), ("axis", 1))]
    for index in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(UNARY + BINARY))
        read = [draw(st.sampled_from(values[-5:]))]
        if kind == "Concat":
            both = graph.op("Concat", [*read, draw(st.sampled_from(values))], f"both{index}", axis=1)
            kind, read = "Slice", [both, *cut]
        elif kind in BINARY:
            read.append(draw(st.sampled_from([*values[-5:], constant])))
        values.append(graph.op(kind, read, f"v{index}"))
    outputs = sorted({values[-1], draw(st.sampled_from(values[2:]))})
    shape = ["batch", 4, 4]
    return graph.model({"x": (FLOAT, shape), "z": (FLOAT, shape)}, dict.fromkeys(outputs, shape))


@given(st.data())
@settings(max_examples=40)
def test_any_graph_and_any_keep_list(data: st.DataObject) -> None:
    model = data.draw(graphs())
    names = [node.name for node in model.graph.node]
    keep = data.draw(st.lists(st.sampled_from(names), unique=True))
    dtype, io = data.draw(st.sampled_from(["FP16", "BF16"])), data.draw(st.booleans())
    result = converted(model, dtype, keep_nodes=keep, keep_io_types=io)
    types = element_types(result.model)
    for value in (*result.model.graph.input, *result.model.graph.output):
        assert types[value.name] == (FLOAT if io else CODES[dtype])
    for name in keep:
        node = node_of(result.model, name)
        read = [types[value] for value in (*node.input, *node.output)]
        assert CODES[dtype] not in read
    rows = {"x": normal(2, 4, 4), "z": normal(2, 4, 4)[::-1]}
    expected = Session(model.SerializeToString()).run(rows)
    given_rows = rows if io or dtype == "BF16" else {name: array.astype(np.float16) for name, array in rows.items()}
    for name, array in run(result.model, given_rows).items():
        most = np.abs(expected[name]).max()
        if most < 1e3:
            error = np.abs(array.astype(np.float32) - expected[name]).max()
            assert error <= {"FP16": 0.03, "BF16": 0.3}[dtype] * max(1.0, most)


# the emulation

ROUNDINGS = {"FP16": lambda x: x.astype(np.float16).astype(np.float32), "BF16": lambda x: by_bits(x)}


def by_bits(values: Any) -> Any:
    """BF16 by its definition: the upper 16 bits, rounded to the nearest, ties to even."""
    bits = np.asarray(values, np.float32).view(np.uint32).astype(np.uint64)
    kept = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return (kept << 16).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("dtype", CODES)
@example(values=[1.00390625, 1.01171875, -1.00390625, 2049.0, 2051.0, 1.0039061307907104])  # ties, and beside one
@given(values=st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=20))
def test_rounding_is_numpy_s(dtype: str, values: list[float]) -> None:
    array = np.array(values, np.float32)
    with np.errstate(over="ignore"):
        assert np.array_equal(rounded(array, CODES[dtype]), ROUNDINGS[dtype](array))


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize("dtype", CODES)
def test_every_node_rounds_as_numpy_does(dtype: str, optimize: bool) -> None:
    model = text_model(
        "g (float[N] x) => (float[N] a, float[N] b, float[N] c, float[N] d) "
        "<float big = {1000.1}, float small = {0.001}>"
        "{ a = Add(x, big) m = Sub(a, big) b = Mul(m, big) s = Div(b, small) c = Abs(s) d = Sqrt(c) }"
    )
    emulated = cpu_runnable(to_half(model, dtype).model)
    onnx.checker.check_model(emulated, full_check=True)
    x = np.concatenate([normal(200), [1e-8, 70000, -70000, 65519.9, 65520]]).astype(np.float32)
    actual = Session(emulated.SerializeToString(), optimize=optimize).run({"x": x})
    r = ROUNDINGS[dtype]
    with np.errstate(over="ignore", invalid="ignore"):
        big, small = r(np.float32([1000.1])), r(np.float32([0.001]))
        expected = {"a": r(r(x) + big)}
        expected["b"] = r(r(expected["a"] - big) * big)
        expected["c"] = np.abs(r(expected["b"] / small))
        expected["d"] = r(np.sqrt(expected["c"]))
    for name, array in expected.items():
        assert np.array_equal(actual[name], array, equal_nan=True), name
    if dtype == "FP16":
        assert np.isinf(actual["c"]).any()  # what ONNX Runtime's own FP16 does not show


def test_onnx_runtime_s_own_fp16_hides_an_overflow() -> None:
    """The reason why there is an emulation; when this fails, ONNX Runtime can be asked directly."""
    result = to_half(overflows_in_fp16(), "FP16")
    rows = {"x": np.full((2, 16), 1000, np.float32)}
    expected = Session(overflows_in_fp16().SerializeToString()).run(rows)["y"]
    np.testing.assert_allclose(Session(result.model.SerializeToString()).run(rows)["y"], expected, atol=1e-2)
    assert np.abs(run(result.model, rows)["y"] - expected).max() > 0.1


def test_fp8_runs_and_rounds() -> None:
    model = quantized(TensorProto.FLOAT8E4M3FN, opset=19)
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, FLOAT, ["batch", 8]) for name in ("d", "y"))
    actual = run(model, {"x": np.float32([[-1, 0.0636, 1e9, 0.05, 0, 0.0656, -9, 0.1]])})["d"][0]
    # E4M3 has 1.25 and 1.375 and nothing in between, and ends at 448; the Relu before it has to stay
    np.testing.assert_allclose(actual / 0.05, [0, 1.25, 448, 1, 0, 1.25, 0, 2], rtol=1e-6)


def test_an_emulated_branch_rounds() -> None:
    emulated = cpu_runnable(to_half(text_model(BRANCHES), "BF16").model)
    assert not {BF16} & {
        value.type.tensor_type.elem_type for graph in graphs_of(emulated.graph) for value in graph.output
    }
    onnx.checker.check_model(emulated, full_check=True)
