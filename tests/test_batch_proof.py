# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A graph that says its batch is dynamic is believed when it is, and the node is named when it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from exporting import export, export_onnx, graph, project
from trtkit.errors import ExportError
from trtkit.export import batch_proof, batching, culprit
from trtkit.export.runtime import Session

X = "float[batch, 8] x"


def weights(model: ModelProto, **arrays: np.ndarray) -> ModelProto:
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal(shape).astype(np.float32)


# what it says -> the graph, and the node that has to be named
BAKED = {
    "reshape to a constant": (
        graph(X, "float[batch, 4] y", "z = Relu(x)\n y = Reshape(z, s)\n", "int64[2] s = {4, -1}"),
        "Reshape 'y'",
    ),
    "reshape to the batch of the export": (
        graph(X, "float[batch, 8] y", "z = Relu(x)\n y = Reshape(z, s)", "int64[2] s = {3, -1}"),
        "Reshape 'y'",
    ),
    "reshape whose result a later node cannot take": (
        weights(
            graph(X, "float[batch, 3] y", "z = Reshape(x, s)\n a = Neg(z)\n y = MatMul(a, w)", "int64[2] s = {4, -1}"),
            w=normal(8, 3),
        ),
        "Reshape 'z'",
    ),
    "tile of the export's batch": (
        graph(X, "float[batch, 8] y", "z = Tile(x, r)\n y = Neg(z)", "int64[2] r = {4, 1}"),
        "Tile 'z'",
    ),
    "a mean over the batch": (
        graph(X, "float[batch, 8] y", "m = ReduceMean<axes=[0], keepdims=1>(x)\n y = Sub(x, m)"),
        "ReduceMean 'm'",
    ),
    "a softmax over the batch": (graph(X, "float[batch, 8] y", "z = Neg(x)\n y = Softmax<axis=0>(z)"), "Softmax 'y'"),
    "batch statistics": (
        graph(
            X,
            "float[batch, 8] y",
            "m = ReduceMean<axes=[0], keepdims=1>(x)\n d = Sub(x, m)\n v = ReduceMax<axes=[0], keepdims=1>(d)\n"
            " y = Div(d, v)",
        ),
        "ReduceMean 'm'",
    ),
    "the batch on another axis": (
        graph(X, "float[b, c] y", "z = Neg(x)\n y = Transpose<perm=[1, 0]>(z)"),
        "Transpose 'y'",
    ),
    "the batch moved away and left there": (
        graph(X, "float[b, c] y", "z = Transpose<perm=[1, 0]>(x)\n a = Relu(z)\n y = Abs(a)"),
        "Transpose 'z'",
    ),
    "the batch moved to and fro, and away again": (
        graph(X, "float[b, c] y", "a = Transpose(x)\n b = Transpose(a)\n c = Abs(b)\n d = Transpose(c)\n y = Neg(d)"),
        "Transpose 'd'",
    ),
    "an output without a batch": (graph(X, "float[8] y", "y = ReduceMax<axes=[0], keepdims=0>(x)"), "ReduceMax 'y'"),
    "a scalar output": (graph(X, "float y", "z = Neg(x)\n y = ReduceSum<keepdims=0>(z)"), "ReduceSum 'y'"),
    "the second of two outputs": (
        graph(X, "float[batch, 8] a, float[batch, 8] b", "a = Neg(x)\n m = ReduceMin<axes=[0]>(a)\n b = Sub(a, m)"),
        "ReduceMin 'm'",
    ),
    "a reshape that takes one row": (
        graph(X, "float[batch, 8] y", "t = Reshape(x, s)\n y = Add(x, t)", "int64[2] s = {1, 8}"),
        "Reshape 't'",
    ),
    "rows twice over": (graph(X, "float[batch, 8] y", "z = Neg(x)\n y = Concat<axis=0>(z, z)"), "Concat 'y'"),
    "a batch that becomes channels": (
        weights(
            graph(
                "float[batch, 128] x",
                "float[a, 8, 4, 4] y",
                "r = Reshape(x, s)\n k = Conv<kernel_shape=[1, 1]>(r, w)\n y = Relu(k)",
                "int64[4] s = {1, -1, 4, 4}",
            ),
            w=normal(8, 8, 1, 1),
        ),
        "Reshape 'r' or Conv 'k'",
    ),
    "a constant added behind a transposition that is taken back": (
        graph(
            "float[batch, 2, 4] x",
            "float[batch, 2, 4] y",
            "a = Transpose<perm=[1, 0, 2]>(x)\n b = Transpose<perm=[1, 0, 2]>(a)\n y = Add(b, c)",
            "float[3, 1, 1] c = {1, 2, 3}",
        ),
        "Add 'y'",
    ),
    "rows in another order": (
        graph(
            X,
            "float[batch, 8] y",
            "n = Neg(x)\n s = Shape<start=0, end=1>(n)\n y = ReverseSequence<batch_axis=1, time_axis=0>(n, l)",
            "int64[8] l = {2, 2, 2, 2, 2, 2, 2, 2}",
        ),
        "ReverseSequence 'y'",
    ),
    "a cumulative sum over the batch": (
        graph(X, "float[batch, 8] y", "y = CumSum(x, a)", "int64 a = {0}"),
        "CumSum 'y'",
    ),
    "inside of an If": (
        graph(
            X,
            "float[batch, 8] y",
            "y = If (c) <then_branch = t () => (float[batch, 8] p) "
            "{ m = ReduceMean<axes=[0], keepdims=1>(x)\n p = Sub(x, m) }, "
            "else_branch = e () => (float[batch, 8] q) { q = Abs(x) }>",
            "bool c = {1}",
        ),
        "If 'y'",
    ),
    "integers": (
        graph("int64[batch, 8] x", "int64[batch, 8] y", "m = ReduceMax<axes=[0], keepdims=1>(x)\n y = Sub(x, m)"),
        "ReduceMax 'm'",
    ),
    "an added constant of the export's batch": (
        graph(X, "float[batch, 8] y", "z = Neg(x)\n y = Add(z, c)", "float[3, 1] c = {1, 2, 3}"),
        "Add 'y'",
    ),
}


@pytest.mark.parametrize("name", BAKED)
def test_the_node_that_baked_the_batch_in_is_named(name: str, tmp_path: Path) -> None:
    model, node = BAKED[name]
    with pytest.raises(ExportError) as caught:
        export_onnx(tmp_path, model)
    message = str(caught.value)
    assert message.startswith("trtkit.yaml:3:14: the batch dimension is not dynamic: with a batch of ")
    assert f"; the node that baked it in is {node}; export it with a dynamic batch, or set" in message
    assert "\n" not in message


@pytest.mark.parametrize("name", BAKED)
def test_without_batching_each_of_them_is_taken_as_it_is(name: str, tmp_path: Path) -> None:
    model, _ = BAKED[name]
    result = export_onnx(tmp_path, model, "config: {max_batch_size: 0}")
    assert result.size == 0
    assert result.facts["batch"]["why"] == "config: max_batch_size: 0"


def named(model: ModelProto, *names: str) -> ModelProto:
    for node, name in zip(model.graph.node, names, strict=True):
        node.name = name
    return model


def test_a_node_keeps_the_name_that_its_exporter_gave_it(tmp_path: Path) -> None:
    model = named(graph(X, "float[batch, 4] y", "y = Reshape(x, s)", "int64[2] s = {4, -1}"), "/head/view")
    with pytest.raises(ExportError, match="is Reshape '/head/view';"):
        export_onnx(tmp_path, model)


def test_a_node_without_a_name_goes_by_its_output_even_if_another_is_called_so(tmp_path: Path) -> None:
    model = graph(X, "float[batch, 3] y", "z = Neg(x)\n a = Reshape(z, s)\n y = MatMul(a, w)", "int64[2] s = {4, -1}")
    model = weights(named(model, "a", "", "y"), w=normal(8, 3))
    with pytest.raises(ExportError, match="is Reshape 'a"):
        export_onnx(tmp_path, model)


ATTENTION = """
    q = MatMul(x, wq)
    k = MatMul(x, wk)
    sh = Shape(x)
    b = Gather(sh, i0)
    n = Gather(sh, i1)
    b1 = Unsqueeze(b, a0)
    n1 = Unsqueeze(n, a0)
    heads = Concat<axis=0>(b1, n1, h, d)
    q4 = Reshape(q, heads)
    k4 = Reshape(k, heads)
    qt = Transpose<perm=[0, 2, 1, 3]>(q4)
    kt = Transpose<perm=[0, 2, 3, 1]>(k4)
    scores = MatMul(qt, kt)
    probs = Softmax<axis=-1>(scores)
    ct = MatMul(probs, qt)
    cn = Transpose<perm=[0, 2, 1, 3]>(ct)
    flat = Concat<axis=0>(b1, n1, hd)
    c = Reshape(cn, flat)
    y = LayerNormalization<axis=-1>(c, g)
"""
ATTENTION_WEIGHTS = (
    "int64 i0 = {0}, int64 i1 = {1}, int64[1] a0 = {0}, int64[1] h = {2}, int64[1] d = {4}, int64[1] hd = {8}, "
    "float[8] g = {1,1,1,1,1,1,1,1}"
)
# the batch is merged with the heads: [batch * 2, n, 4]
MERGED_HEADS = """
    s = Reshape(x, split)
    t = Transpose<perm=[0, 2, 1, 3]>(s)
    m = Reshape(t, merged)
    k = Transpose<perm=[0, 2, 1]>(m)
    a = MatMul(m, k)
    p = Softmax<axis=-1>(a)
    c = MatMul(p, m)
    u = Reshape(c, apart)
    v = Transpose<perm=[0, 2, 1, 3]>(u)
    y = Reshape(v, flat)
"""
RECURRENT = """
    t = Transpose<perm=[1, 0, 2]>(x)
    h, last = {cell}<hidden_size=3>(t, w, r)
    q = Squeeze(h, one)
    y = Transpose<perm=[1, 0, 2]>(q)
"""
LOOP = """
    y = Loop (n, c, x) <body = b (int64 i, bool k, float[batch, 8] v) => (bool k2, float[batch, 8] v2)
        { k2 = Identity(k)
          v2 = Add(v, v) }>
"""
BRANCHES = """
    y = If (c) <then_branch = t () => (float[batch, 8] p) { p = Neg(x) },
                else_branch = e () => (float[batch, 8] q) { q = Abs(x) }>
"""
DYNAMIC = {
    "element by element": graph(X, "float[batch, 8] y", "y = Neg(x)"),
    "layer normalization": graph(
        X, "float[batch, 8] y", "y = LayerNormalization<axis=-1>(x, g)", "float[8] g = {1,2,3,4,5,6,7,8}"
    ),
    "attention with shapes": weights(
        graph("float[batch, n, 8] x", "float[batch, n, 8] y", ATTENTION, ATTENTION_WEIGHTS),
        wq=normal(8, 8),
        wk=normal(8, 8),
    ),
    "heads merged into the batch": graph(
        "float[batch, 5, 8] x",
        "float[batch, 5, 8] y",
        MERGED_HEADS,
        "int64[4] split = {0, 5, 2, 4}, int64[3] merged = {-1, 5, 4}, int64[4] apart = {-1, 2, 5, 4}, "
        "int64[3] flat = {-1, 5, 8}",
    ),
    "LSTM": weights(
        graph("float[batch, n, 2] x", "float[batch, n, 3] y", RECURRENT.format(cell="LSTM"), "int64[1] one = {1}"),
        w=normal(1, 12, 2),
        r=normal(1, 12, 3),
    ),
    "GRU": weights(
        graph("float[batch, n, 2] x", "float[batch, n, 3] y", RECURRENT.format(cell="GRU"), "int64[1] one = {1}"),
        w=normal(1, 9, 2),
        r=normal(1, 9, 3),
    ),
    "time and batch flattened together": weights(
        graph(
            "float[batch, 5, 8] x",
            "float[batch, 5, 3] y",
            "t = Transpose<perm=[1, 0, 2]>(x)\n f = Reshape(t, flat)\n m = MatMul(f, w)\n u = Reshape(m, apart)\n"
            " y = Transpose<perm=[1, 0, 2]>(u)",
            "int64[2] flat = {-1, 8}, int64[3] apart = {5, -1, 3}",
        ),
        w=normal(8, 3),
    ),
    "constants beside": graph(
        X, "float[batch, 8] y", "a = Neg(c)\n b = Mul(a, a)\n y = Add(x, b)", "float[1, 8] c = {1,2,3,4,5,6,7,8}"
    ),
    "constants of the batch's size": graph(
        X,
        "float[batch, 8] y",
        "s = Shape(x)\n z = ConstantOfShape<value = float[1] {2}>(s)\n y = Add(x, z)",
    ),
    "row numbers that are not used": graph(
        X,
        "float[batch, 8] y",
        "s = Shape<end=1>(x)\n n = Squeeze(s)\n r = Range(zero, n, one)\n f = Cast<to=1>(r)\n g = Unsqueeze(f, last)\n"
        " z = Mul(g, none)\n y = Add(x, z)",
        "int64 zero = {0}, int64 one = {1}, int64[1] last = {1}, float none = {0}",
    ),
    "convolution and batch normalization": weights(
        graph(
            "float[batch, 1, 8, 8] x",
            "float[batch, 2, 3] y",
            "c = Conv<kernel_shape=[3, 3]>(x, w)\n b = BatchNormalization(c, one, zero, zero, one)\n r = Relu(b)\n"
            " p = MaxPool<kernel_shape=[2, 2], strides=[2, 2]>(r)\n y = ReduceMean<axes=[3], keepdims=0>(p)",
            "float[2] one = {1, 2}, float[2] zero = {0, 1}",
        ),
        w=normal(2, 1, 3, 3),
    ),
    "a loop": graph(X, "float[batch, 8] y", LOOP, "int64 n = {3}, bool c = {1}"),
    "a branch": graph(X, "float[batch, 8] y", BRANCHES, "bool c = {0}"),
    "one value per row": graph(X, "float[batch] y", "y = ReduceSum<keepdims=0>(x, a)", "int64[1] a = {1}"),
    "half precision": weights(
        graph("float16[batch, 64] x", "float16[batch, 64] y", "a = MatMul(x, w)\n b = Relu(a)\n y = MatMul(b, w)"),
        w=normal(64, 64).astype(np.float16),
    ),
    "half precision inside": weights(
        graph(
            "float[batch, 64] x",
            "float[batch, 64] y",
            "h = Cast<to=10>(x)\n a = MatMul(h, w)\n b = Relu(a)\n c = MatMul(b, w)\n y = Cast<to=1>(c)",
        ),
        w=normal(64, 64).astype(np.float16),
    ),
    "quantized": weights(
        graph(
            "float[batch, 64] x",
            "float[batch, 64] y",
            "q = QuantizeLinear(x, s, z)\n d = DequantizeLinear(q, s, z)\n a = MatMul(d, w)\n"
            " p = QuantizeLinear(a, t, z)\n y = DequantizeLinear(p, t, z)",
            "float s = {0.03}, float t = {0.2}, int8 z = {0}",
        ),
        w=normal(64, 64),
    ),
    "a size said by nobody": graph("float[?, 8] x", "float[?, 8] y", "y = Neg(x)"),
    "an output that says the export's batch": graph(X, "float[1, 8] y", "y = Neg(x)"),
    "NaN where there is no root": graph(X, "float[batch, 8] y", "y = Sqrt(x)"),
    "infinities": graph(X, "float[batch, 8] y", "z = Relu(x)\n y = Log(z)"),
    "text": graph("string[batch, 2] x", "string[batch, 2] y", "y = Identity(x)"),
    "truth": graph("bool[batch, 2] x", "bool[batch, 2] y", "y = Not(x)"),
}


@pytest.mark.parametrize("name", DYNAMIC)
def test_a_graph_whose_batch_is_dynamic_is_believed(name: str, tmp_path: Path) -> None:
    result = export_onnx(tmp_path, DYNAMIC[name], "config: {max_batch_size: 6}")
    assert result.size == 6
    assert result.facts["batch"] == {"batching": True, "proven": [1, 2, 6], "data": "random data"}
    shapes = [
        spec.shape for side in (result.exported.signature.inputs, result.exported.signature.outputs) for spec in side
    ]
    assert {shape[0] for shape in shapes} == {"batch"}


def test_sequences_inside_of_a_graph_do_not_hinder_the_search(tmp_path: Path) -> None:
    nodes = "s = SplitToSequence<axis=1>(x)\n z = ConcatFromSequence<axis=1>(s)\n m = ReduceMax<axes=[0]>(z)\n"
    nodes += " y = Sub(z, m)"
    with pytest.raises(ExportError, match="the node that baked it in is ReduceMax 'm'"):
        export_onnx(tmp_path, graph(X, "float[batch, 8] y", nodes))


@pytest.mark.parametrize("name", ["time and batch flattened together", "heads merged into the batch", "LSTM", "a loop"])
def test_no_innocent_node_is_named_before_the_guilty_one(name: str, tmp_path: Path) -> None:
    """What is behind a batch that was moved, merged or looped over is still looked at."""
    model = onnx.ModelProto()
    model.CopyFrom(DYNAMIC[name])
    output = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["inner" if value == output else value for value in node.output]
    ending = graph(
        "float[batch, 8] inner",
        "float[batch, 8] y",
        "most = ReduceMax<axes=[0], keepdims=1>(inner)\n y = Sub(inner, most)",
    )
    model.graph.node.extend(ending.graph.node)
    with pytest.raises(ExportError, match="the node that baked it in is ReduceMax 'most'"):
        export_onnx(tmp_path, model)


@pytest.mark.parametrize(
    ("wanted", "proven"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (200, [1, 2, 200])], ids=["1", "2", "3", "200"]
)
def test_batches_of_1_2_and_the_largest_are_proven(wanted: int, proven: list[int], tmp_path: Path) -> None:
    result = export_onnx(tmp_path, DYNAMIC["element by element"], f"config: {{max_batch_size: {wanted}}}")
    assert (result.size, result.facts["batch"]["proven"]) == (wanted, proven)


def test_a_batch_of_eight_is_the_default(tmp_path: Path) -> None:
    assert export_onnx(tmp_path, DYNAMIC["element by element"]).size == batching.DEFAULT_MAX_BATCH_SIZE == 8


def test_rows_too_many_are_said_with_the_shape(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"with a batch of 1 output 'y' has the shape \[2, 8\]; the node"):
        export_onnx(tmp_path, BAKED["rows twice over"][0])


def test_a_batch_of_one_is_looked_at_with_two_rows(tmp_path: Path) -> None:
    model, node = BAKED["rows twice over"]
    with pytest.raises(ExportError, match=f"with a batch of 1 .*; the node that baked it in is {node}"):
        export_onnx(tmp_path, model, "config: {max_batch_size: 1}")


def test_a_graph_that_breaks_only_at_the_largest_batch_is_refused(tmp_path: Path) -> None:
    """Up to four rows are copied, the fifth is the first again: batches of 1 and 2 are fine."""
    nodes = "s = Shape<end=1>(x)\n n = Squeeze(s)\n r = Range(zero, n, one)\n i = Mod(r, four)\n y = Gather(x, i)"
    model = graph(X, "float[batch, 8] y", nodes, "int64 zero = {0}, int64 one = {1}, int64 four = {4}")
    with pytest.raises(ExportError, match="with a batch of 6 row 5 of output 'y' is not what it is alone"):
        export_onnx(tmp_path, model, "config: {max_batch_size: 6}")
    assert export_onnx(tmp_path / "fine", model, "config: {max_batch_size: 4}").size == 4


def test_a_batch_too_large_for_memory_is_proven_as_far_as_comfortable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_proof, "_PROOF_BYTES", 10 * 8 * 4)
    result = export_onnx(tmp_path, DYNAMIC["element by element"], "config: {max_batch_size: 1000000000}")
    assert (result.size, result.facts["batch"]["proven"]) == (1_000_000_000, [1, 2, 10])


def test_rows_that_all_come_out_alike_prove_little_and_the_record_says_so(tmp_path: Path) -> None:
    model = graph(
        X,
        "float[batch, 8] y",
        "m = ReduceMean<axes=[0], keepdims=1>(x)\n z = Sub(x, m)\n y = Mul(z, none)",
        "float none = {0}",
    )
    facts = export_onnx(tmp_path, model).facts["batch"]
    assert facts["weak"] == "all rows gave the same outputs, so that only their shapes could be proven"


FIXED = graph("float[3, 4] x", "float[3, 4] y", "y = Neg(x)")


def test_a_fixed_first_axis_means_no_batching(tmp_path: Path) -> None:
    result = export_onnx(tmp_path, FIXED)
    assert result.size == 0
    assert result.facts["batch"] == {
        "batching": False,
        "why": "the first axis is fixed: x FP32 [3, 4]; y FP32 [3, 4]",
    }


@pytest.mark.parametrize("wanted", [1, 8])
def test_a_batch_wanted_of_a_fixed_first_axis_is_refused(wanted: int, tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        export_onnx(tmp_path, FIXED, f"config: {{max_batch_size: {wanted}}}")
    assert str(caught.value) == (
        f"trtkit.yaml:3:14: max_batch_size is {wanted}, but the first axis is fixed: x FP32 [3, 4]; y FP32 [3, 4]; "
        "export it with a dynamic batch, or set config: {max_batch_size: 0}"
    )


def test_a_negative_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"^trtkit.yaml:3:14: max_batch_size is -1; 0 is no batching"):
        export_onnx(tmp_path, FIXED, "config: {max_batch_size: -1}")


CONSTANT = graph(X, "float[batch, 8] y, float[2] limits", "y = Neg(x)\n limits = Identity(c)", "float[2] c = {0, 1}")


def test_an_output_that_is_a_constant_means_no_batching(tmp_path: Path) -> None:
    result = export_onnx(tmp_path, CONSTANT)
    assert (result.size, result.facts["batch"]["why"]) == (0, "the first axis is fixed: limits FP32 [2]")
    with pytest.raises(ExportError, match="max_batch_size is 4, but the first axis is fixed: limits FP32 "):
        export_onnx(tmp_path / "wanted", CONSTANT, "config: {max_batch_size: 4}")


def with_data(folder: Path, model: ModelProto, rows: np.ndarray, **more: np.ndarray) -> object:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "data.npz", x=rows, **more)
    block = "source: {onnx: model.onnx}\nevaluate: {data: data.npz}"
    return export(project(folder, block, model_onnx=model.SerializeToString()))


def test_the_proof_stands_on_real_data_where_there_are_some(tmp_path: Path) -> None:
    result = with_data(tmp_path, DYNAMIC["element by element"], normal(5, 8))
    assert result.facts["batch"] == {"batching": True, "proven": [1, 2, 8], "data": "data.npz"}
    mean, node = BAKED["a mean over the batch"]
    with pytest.raises(ExportError, match=f"row 0 of output 'y' is not what it is alone; .* is {node}"):
        with_data(tmp_path / "mean", mean, normal(5, 8))


def test_one_sample_proves_nothing_so_random_rows_are_taken(tmp_path: Path) -> None:
    """Eight times the same row: each is the largest, alone and together."""
    largest = graph(X, "float[batch, 8] y", "m = ReduceMax<axes=[0], keepdims=1>(x)\n y = Sub(x, m)")
    with pytest.raises(ExportError, match="is ReduceMax 'm'"):
        with_data(tmp_path, largest, normal(1, 8))


def test_real_data_that_the_model_cannot_take_are_not_blamed_on_the_batch(tmp_path: Path) -> None:
    model = graph("int64[batch, 2] x", "float[batch, 2] y", "y = Gather(t, x)", "float[3] t = {1, 2, 3}")
    with pytest.raises(ExportError, match=r"^trtkit.yaml:3:14: the model cannot take data.npz: .*running Gather node"):
        with_data(tmp_path, model, np.full((4, 2), 7))


@pytest.mark.parametrize("coarse", [False, True])
def test_rounding_is_told_from_another_row(coarse: bool) -> None:
    one = np.array([100.0, 1e-9, np.nan, np.inf], np.float32)
    allowed = np.array([0.99, 0.0, 0, 0] if coarse else [0.0009, 0.0, 0, 0], np.float32)
    refused = np.array([3.1, 0.0, 0, 0] if coarse else [0.2, 0.0, 0, 0], np.float32)
    assert batch_proof.same_values(one, one + allowed, coarse)
    assert not batch_proof.same_values(one, one + refused, coarse)
    assert not batch_proof.same_values(one, np.where(np.isnan(one), 0, one), coarse)


def test_values_that_were_rounded_to_half_may_differ_more(tmp_path: Path) -> None:
    assert (
        batch_proof.rounds_values(DYNAMIC["half precision inside"].graph) is False
    )  # its inner types are not inferred
    inferred = onnx.shape_inference.infer_shapes(DYNAMIC["half precision inside"])
    assert batch_proof.rounds_values(inferred.graph)
    assert batch_proof.rounds_values(DYNAMIC["quantized"].graph)
    assert not batch_proof.rounds_values(DYNAMIC["layer normalization"].graph)


def test_the_search_leaves_the_graph_and_the_folder_alone(tmp_path: Path) -> None:
    model, node = BAKED["reshape whose result a later node cannot take"]
    before = model.SerializeToString()
    text = culprit.culprit(model, {"x": normal(2, 8)}, tmp_path, "y")
    assert text == f"the node that baked it in is {node}"
    assert model.SerializeToString() == before
    assert list(tmp_path.iterdir()) == []


def test_an_innocent_graph_has_no_culprit(tmp_path: Path) -> None:
    model = DYNAMIC["attention with shapes"]
    assert culprit.culprit(model, {"x": normal(2, 5, 8)}, tmp_path, "y") == "no single node is to blame"


def test_the_same_rows_come_out_alone_and_together() -> None:
    """What the proof promises, for the graph most likely to break it."""
    session = Session(DYNAMIC["LSTM"].SerializeToString())
    rows = {"x": normal(7, 4, 2)}
    together = session.run(rows)["y"]
    alone = [session.run(batch_proof.rows_of(rows, row, row + 1))["y"] for row in range(7)]
    np.testing.assert_allclose(np.concatenate(alone), together, rtol=1e-5, atol=1e-6)
