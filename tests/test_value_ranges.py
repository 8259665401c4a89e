# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Random inputs for models nobody described: ids inside their tables, axes that fit, and models never seen before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from exporting import Result, export, export_onnx, graph, project
from trtkit.dtypes import by_name
from trtkit.errors import ExportError
from trtkit.export.runtime import Session
from trtkit.export.trial import find_trial
from trtkit.export.value_ranges import index_ranges
from trtkit.samples import random_inputs
from trtkit.signature import TensorSpec

IDS = "int64[batch, n] ids"
TABLE = "float[5, 2] table = {1,2,3,4,5,6,7,8,9,10}"


def ranges(model: ModelProto) -> dict[str, list[int]]:
    return index_ranges(onnx.shape_inference.infer_shapes(model, data_prop=True))


LIMITS = {
    "an embedding": graph(IDS, "float[batch, n, 2] y", "y = Gather(table, ids)", TABLE),
    "another axis": graph(
        IDS, "float[2, batch, n] y", "y = Gather<axis=1>(table, ids)", "float[2, 5] table = {1,2,3,4,5,6,7,8,9,10}"
    ),
    "an axis counted from the end": graph(
        IDS, "float[2, batch, n] y", "y = Gather<axis=-1>(table, ids)", "float[2, 5] table = {1,2,3,4,5,6,7,8,9,10}"
    ),
    "ids cast": graph(
        "int32[batch, n] ids", "float[batch, n, 2] y", "i = Cast<to=7>(ids)\n y = Gather(table, i)", TABLE
    ),
    "ids reshaped": graph(
        IDS,
        "float[batch, n, 2] y",
        "f = Reshape(ids, all)\n e = Gather(table, f)\n s = Shape(ids)\n t = Concat<axis=0>(s, two)\n"
        " y = Reshape(e, t)",
        TABLE + ", int64[1] all = {-1}, int64[1] two = {2}",
    ),
    "ids unsqueezed, squeezed, turned and copied": graph(
        IDS,
        "float[n, batch, 2] y",
        "a = Unsqueeze(ids, one)\n b = Squeeze(a, one)\n c = Transpose<perm=[1, 0]>(b)\n d = Identity(c)\n"
        " y = Gather(table, d)",
        TABLE + ", int64[1] one = {1}",
    ),
    "ids cut and joined": graph(
        IDS,
        "float[batch, m, 2] y",
        "a = Slice(ids, zero, three, one)\n b = Concat<axis=1>(a, a)\n y = Gather(table, b)",
        TABLE + ", int64[1] zero = {0}, int64[1] three = {3}, int64[1] one = {1}",
    ),
    "ids where there are some": graph(
        IDS,
        "float[batch, n, 2] y",
        "g = Greater(ids, zero)\n a = Where(g, ids, zero)\n y = Gather(table, a)",
        TABLE + ", int64 zero = {0}",
    ),
    "the smaller of two tables": graph(
        IDS,
        "float[batch, n, 2] y",
        "a = Gather(table, ids)\n b = Gather(large, ids)\n y = Add(a, b)",
        TABLE + ", float[7, 2] large = {1,2,3,4,5,6,7,8,9,10,11,12,13,14}",
    ),
    "a table behind a cast": graph(
        IDS,
        "float[batch, n, 2] y",
        "t = Cast<to=1>(table)\n y = Gather(t, ids)",
        "int32[5, 2] table = {1,2,3,4,5,6,7,8,9,10}",
    ),
    "a quantized table": graph(
        IDS,
        "float[batch, n, 2] y",
        "t = DequantizeLinear(table, s, z)\n y = Gather(t, ids)",
        "int8[5, 2] table = {1,2,3,4,5,6,7,8,9,10}, float s = {0.5}, int8 z = {0}",
    ),
    "a constant node": graph(
        IDS, "float[batch, n] y", "table = Constant<value = float[5] {1,2,3,4,5}>()\n y = Gather(table, ids)"
    ),
    "pairs of indices": graph(
        "int64[batch, 2] ids",
        "float[batch] y",
        "y = GatherND(table, ids)",
        "float[6, 5] table = {" + ",".join(["1"] * 30) + "}",
    ),
    "elements of a row": graph(
        "int64[batch, n] ids, float[batch, 5] x", "float[batch, n] y", "y = GatherElements<axis=1>(x, ids)"
    ),
    "one hot": graph(
        IDS, "float[batch, n, 5] y", "y = OneHot(ids, depth, values)", "int64 depth = {5}, float[2] values = {0, 1}"
    ),
    "inside of an If": graph(
        IDS,
        "float[batch, n, 2] y",
        "y = If (c) <then_branch = t () => (float[batch, n, 2] p) { p = Gather(table, ids) }, "
        "else_branch = e () => (float[batch, n, 2] q) { r = Gather(table, ids)\n q = Neg(r) }>",
        TABLE + ", bool c = {1}",
    ),
    "inside of a Loop": graph(
        "int64[n] ids",
        "int64[n] y",
        "y = Loop (n, c, ids) <body = b (int64 i, bool k, int64[n] v) => (bool k2, int64[n] v2) "
        "{ k2 = Identity(k)\n v2 = Gather(next, v) }>",
        "int64[5] next = {1,2,3,4,0}, int64 n = {3}, bool c = {1}",
    ),
    "an optimized encoder's embedding": graph(
        "int32[batch, n] ids",
        "float[batch, n, 2] y",
        "y, m = com.microsoft.EmbedLayerNormalization(ids, , words, places, , gamma, beta)",
        "float[5, 2] words = {1,2,3,4,5,6,7,8,9,10}, float[9, 2] places = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,"
        "18}, float[2] gamma = {1,1}, float[2] beta = {0,0}",
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_an_input_that_indexes_a_table_gets_its_range(name: str) -> None:
    assert ranges(LIMITS[name]) == {"ids": [0, 5]}


@pytest.mark.parametrize("name", LIMITS)
def test_ids_at_both_ends_of_the_range_run_and_one_more_does_not(name: str) -> None:
    """The limit is the real one: what ONNX Runtime itself takes."""
    model = LIMITS[name]
    session = Session(model.SerializeToString())
    spec = model.graph.input[0].type.tensor_type
    shape = [dim.dim_value or 2 for dim in spec.shape.dim]
    dtype = np.int32 if spec.elem_type == TensorProto.INT32 else np.int64
    others = {"x": np.zeros((2, 5), np.float32)} if name == "elements of a row" else {}
    for value in (0, 4):
        session.run({"ids": np.full(shape, value, dtype), **others})
    if name not in ("one hot", "an optimized encoder's embedding"):  # the one gives zeros, the other reads on
        with pytest.raises(ExportError):
            session.run({"ids": np.full(shape, 6, dtype), **others})


def test_two_tables_of_two_inputs_are_kept_apart() -> None:
    model = graph(
        "int64[batch, n] ids, int64[batch, n] kinds, int64[batch, n] mask",
        "float[batch, n, 1] y",
        "a = Gather(words, ids)\n b = Gather(types, kinds)\n c = Add(a, b)\n m = Cast<to=1>(mask)\n"
        " u = Unsqueeze(m, last)\n y = Mul(c, u)",
        "float[30, 1] words = {" + ",".join(["1"] * 30) + "}, float[2, 1] types = {1, 2}, int64[1] last = {-1}",
    )
    assert ranges(model) == {"ids": [0, 30], "kinds": [0, 2]}


def test_what_was_looked_up_is_no_id_any_more() -> None:
    """The numbers out of the first table index the second; the ids need to fit into the first only."""
    model = graph(
        IDS,
        "float[batch, n] y",
        "a = Gather(first, ids)\n y = Gather(second, a)",
        "int64[9] first = {0,1,0,1,0,1,0,1,0}, float[2] second = {1, 2}",
    )
    assert ranges(model) == {"ids": [0, 9]}


def test_an_input_that_only_picks_the_shape_has_no_range() -> None:
    model = graph(
        "float[batch, 4] x", "float[n] y", "s = Shape(x)\n y = Gather(t, s)", "float[9] t = {1,2,3,4,5,6,7,8,9}"
    )
    assert ranges(model) == {}


def test_a_table_of_unknown_size_gives_no_range() -> None:
    assert ranges(graph("float[rows, 2] t, int64[n] ids", "float[n, 2] y", "y = Gather(t, ids)")) == {}


# --- random inputs, found by trying


def trial(model: ModelProto, batch: int = 1):
    """The trial for a graph, with its inputs."""
    from trtkit.export.graph_signature import signature_of

    specs = signature_of(model, "here").inputs
    return find_trial(Session(model.SerializeToString()), specs, index_ranges(model), batch), specs


def test_integers_that_index_nothing_are_wide() -> None:
    found, _ = trial(graph("int64[batch, 2] x", "int64[batch, 2] y", "y = Neg(x)"))
    assert (found.ranges, found.axis_size, found.positive) == ({"x": [0, 100]}, 8, False)


def test_a_mask_is_zero_or_one() -> None:
    found, _ = trial(
        graph("int64[batch, 2] attention_mask, int64[batch, 2] x", "int64[batch, 2] y", "y = Add(x, attention_mask)")
    )
    assert found.ranges == {"attention_mask": [0, 2], "x": [0, 100]}


def test_integers_that_the_model_refuses_are_narrowed() -> None:
    """The table is computed, so that its size stands nowhere."""
    model = graph(
        "int64[batch, 2] x",
        "float[batch, 2] y",
        "n = NonZero(c)\n f = Cast<to=1>(n)\n t = Reshape(f, all)\n y = Gather(t, x)",
        "float[5] c = {1, 0, 1, 1, 0}, int64[1] all = {-1}",
    )
    found, _ = trial(model)
    assert found.ranges == {"x": [0, 2]}


@pytest.mark.parametrize(("wanted", "index"), [([1, 2], "i = Sub(one, k)"), ([0, 1], "j = Abs(k)\n i = Add(j, k)")])
def test_integers_of_which_only_one_works_are_found(wanted: list[int], index: str) -> None:
    """A table with one row has row 0, and -1 for it; `index` makes that of one value only."""
    nodes = f"{index}\n g = Gather(table, i)\n h = ReduceMax<keepdims=0>(g)\n y = Add(x, h)"
    weights = "float[1] table = {1}, int64 one = {1}"
    found, _ = trial(graph("int64[8] k, float[batch, 4] x", "float[batch, 4] y", nodes, weights))
    assert found.ranges == {"k": wanted}


@pytest.mark.parametrize(("multiple", "size"), [(1, 8), (16, 32), (64, 64), (56, 224)])
def test_dynamic_axes_get_a_size_that_the_model_takes(multiple: int, size: int) -> None:
    """A fully convolutional network wants multiples of its strides: here a Reshape to blocks."""
    model = graph(
        "float[batch, 1, height, width] x",
        "float[a, b] y",
        "y = Reshape(x, s)",
        f"int64[2] s = {{-1, {multiple * multiple}}}",
    )
    found, specs = trial(model)
    made = found.inputs(specs, 2, seed=0)["x"]
    assert made.shape == (2, 1, size, size)


def test_a_model_of_roots_gets_positive_numbers() -> None:
    found, specs = trial(graph("float[batch, 4] x", "float[batch, 4] y", "y = Sqrt(x)"))
    assert found.positive
    assert (found.inputs(specs, 9, seed=0)["x"] >= 0).all()


def test_a_model_that_always_gives_nan_is_not_tried_at_every_size() -> None:
    sizes = set()

    class Nothing:
        def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            sizes.update(inputs["x"].shape)
            return {"y": np.array([np.nan])}

    found = find_trial(Nothing(), [TensorSpec("x", by_name("FP32"), ("batch", ""))], {}, 1)
    assert (found.axis_size, sizes) == (8, {1, 8})


def test_a_model_that_always_gives_nan_is_run_all_the_same() -> None:
    found, _ = trial(graph("float[batch, 4] x", "float[batch, 4] y", "z = Sub(x, x)\n y = Div(z, z)"))
    assert (found.axis_size, found.positive) == (8, False)


def test_equal_seeds_give_equal_inputs_and_rows_differ() -> None:
    found, specs = trial(LIMITS["an embedding"])
    one, same = (found.inputs(specs, 4, seed=5)["ids"] for _ in range(2))
    np.testing.assert_array_equal(one, same)
    assert len({row.tobytes() for row in one}) == 4


AXES = {
    "one name": ("float[batch, n] a, float[batch, n] b", "y = Add(a, b)"),
    "no name": ("float[batch, ?] a, float[batch, ?] b", "y = Add(a, b)"),
    "two names": ("float[batch, n] a, float[batch, m] b", "y = Add(a, b)"),
    "two names of the batch": ("float[rows, n] a, float[batch, n] b", "y = Add(a, b)"),
    "equal axes at other places": (
        "float[batch, n, 2] a, float[batch, 2, m] b",
        "t = Transpose<perm=[0, 2, 1]>(b)\n y = Add(a, t)",
    ),
}


@pytest.mark.parametrize("name", AXES)
def test_inputs_whose_axes_have_to_agree_fit_together(name: str, tmp_path: Path) -> None:
    inputs, nodes = AXES[name]
    output = "float[batch, n, 2] y" if "places" in name else "float[batch, n] y"
    result = export_onnx(tmp_path, graph(inputs, output, nodes))
    assert result.size == 8
    first = {spec.shape[0] for spec in result.exported.signature.inputs}
    assert len(first) == 1, "one batch has one name"


def test_without_batching_a_first_axis_that_is_another_ones_too_fits(tmp_path: Path) -> None:
    model = graph("int64[n] places, float[1, n] x", "float[1, n] y", "f = Cast<to=1>(places)\n y = Add(x, f)")
    result = export_onnx(tmp_path, model)
    assert result.size == 0
    assert set(result.facts["warmup"]) == {"places", "x"}


def test_without_batching_a_first_axis_may_have_to_be_as_long_as_the_others(tmp_path: Path) -> None:
    model = graph("float[1, 8] x, float[?, 2] weights", "float[1, 2] y", "y = MatMul(x, weights)")
    result = export_onnx(tmp_path, model)
    assert "not_run" not in result.facts["batch"]
    assert result.facts["warmup"]["weights"]["dims"] == [8, 2]


# only words that are numbers can be cast; no random word is one
NEVER = graph("string[batch, 1] x", "float[batch, 1] y", "y = Cast<to=1>(x)")


def test_a_model_that_no_random_value_fits_is_refused_with_the_reason_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        export_onnx(tmp_path, NEVER)
    message = str(caught.value)
    assert message.startswith("trtkit.yaml:3:14: no random data were found that the model takes, so that its batching ")
    assert "running Cast node" in message
    assert message.endswith("; give it real data with `evaluate:`, or set config: {max_batch_size: 0}")


def test_without_batching_such_a_model_is_taken_and_the_record_says_it_never_ran(tmp_path: Path) -> None:
    result = export_onnx(tmp_path, NEVER, "config: {max_batch_size: 0}")
    assert result.facts["warmup"] == {}
    assert not (result.folder / "warmup").exists()
    assert "running Cast node" in result.facts["batch"]["not_run"]


def test_real_data_prove_such_a_model(tmp_path: Path) -> None:
    code = "import numpy as np\ndef data():\n    return {'x': np.array([['1.5'], ['2'], ['-3']], dtype=object)}\n"
    block = "source: {onnx: model.onnx}\nevaluate: {data: data.py:data}"
    result = export(project(tmp_path, block, model_onnx=NEVER.SerializeToString(), data_py=code))
    assert result.facts["batch"] == {"batching": True, "proven": [1, 2, 8], "data": "data.py:data"}
    assert (result.folder / "warmup" / "input_0.bin").read_bytes() == b"\x03\x00\x00\x001.5"


# --- issue 2, shown by 6: models this repository has never seen


def vocabulary(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def with_weights(model: ModelProto, **arrays: np.ndarray) -> ModelProto:
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model


LABEL = """
    best = ArgMax<axis=1, keepdims={keep}>(scores)
    label = ai.onnx.ml.LabelEncoder<
        keys_int64s=[0, 1, 2], values_strings=["bad", "fair", "good"], default_string="?">(best)
"""


def embedding_and_features() -> ModelProto:
    """Ids [batch, n] and features [batch, 4] to scores and labels."""
    nodes = """
        words = Gather(table, ids)
        text = ReduceMean<axes=[1], keepdims=0>(words)
        both = Concat<axis=1>(text, features)
        scores = MatMul(both, w)
    """
    model = graph(
        "int64[batch, n] ids, float[batch, 4] features",
        "float[batch, 3] scores, string[batch, 1] label",
        nodes + LABEL.format(keep=1),
    )
    return with_weights(model, table=vocabulary(50, 6), w=vocabulary(10, 3))


def masked_mean_one_label_per_row() -> ModelProto:
    """Ids and a mask, both INT64 [batch, sequence]; the label is [batch]."""
    nodes = """
        words = Gather(table, ids)
        weight = Cast<to=1>(attention_mask)
        column = Unsqueeze(weight, last)
        kept = Mul(words, column)
        sum = ReduceSum<keepdims=0>(kept, one)
        count = ReduceSum<keepdims=1>(weight, one)
        some = Max(count, least)
        mean = Div(sum, some)
        scores = MatMul(mean, w)
    """
    model = graph(
        "int64[batch, sequence] ids, int64[batch, sequence] attention_mask",
        "float[batch, 3] scores, string[batch] label",
        nodes + LABEL.format(keep=0),
        "int64[1] last = {-1}, int64[1] one = {1}, float least = {1}",
    )
    return with_weights(model, table=vocabulary(30, 5), w=vocabulary(5, 3))


def unnamed_axes_and_a_default_opset() -> ModelProto:
    """As onnx.helper writes a model if one does not think about it: newest opset and IR, axes without names."""
    nodes = [
        helper.make_node("Cast", ["ids"], ["wide"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "wide"], ["words"]),
        helper.make_node("Unsqueeze", ["weights", "last"], ["column"]),
        helper.make_node("Mul", ["words", "column"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "one"], ["scores"], keepdims=0),
        helper.make_node("ArgMax", ["scores"], ["best"], axis=1),
        helper.make_node(
            "LabelEncoder",
            ["best"],
            ["label"],
            domain="ai.onnx.ml",
            keys_int64s=[0, 1, 2],
            values_strings=["a", "b", "c"],
            default_string="?",
        ),
    ]
    made = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT32, [None, None]),
            helper.make_tensor_value_info("weights", TensorProto.FLOAT, [None, None]),
        ],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 3]),
            helper.make_tensor_value_info("label", TensorProto.STRING, [None, 1]),
        ],
        [
            numpy_helper.from_array(vocabulary(20, 3), "table"),
            numpy_helper.from_array(np.array([-1]), "last"),
            numpy_helper.from_array(np.array([1]), "one"),
        ],
    )
    domains = [helper.make_opsetid("", onnx.defs.onnx_opset_version()), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(made, opset_imports=domains)


def outputs_without_a_rank() -> ModelProto:
    """The shape of a Reshape's target is computed, so that nobody knows the outputs' ranks."""
    nodes = """
        words = Gather(table, ids)
        text = ReduceMax<axes=[1], keepdims=0>(words)
        flat = Mul(text, gate)
        target = Compress(sizes, keep)
        scores = Reshape(flat, target)
        best = ArgMax<axis=1, keepdims=1>(scores)
        label = ai.onnx.ml.LabelEncoder<keys_int64s=[0, 1, 2], values_strings=["x", "y", "z"], default_string="?">(best)
    """
    model = graph(
        "int64[batch, n] ids, float[batch, 1] gate",
        "float[batch, 3] scores, string[batch, 1] label",
        nodes,
        "int64[3] sizes = {-1, 3, 1}, bool[3] keep = {1, 1, 0}",
    )
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    return with_weights(model, table=vocabulary(11, 3))


UNSEEN = {
    maker.__name__: maker
    for maker in (
        embedding_and_features,
        masked_mean_one_label_per_row,
        unnamed_axes_and_a_default_opset,
        outputs_without_a_rank,
    )
}


@pytest.fixture(params=list(UNSEEN))
def unseen(request: pytest.FixtureRequest, tmp_path: Path) -> Result:
    return export_onnx(tmp_path, UNSEEN[request.param]())


def test_a_model_never_seen_is_exported_and_proven(unseen: Result) -> None:
    assert unseen.size == 8
    assert unseen.facts["batch"]["proven"] == [1, 2, 8]
    types = [
        [spec.dtype.name for spec in side]
        for side in (unseen.exported.signature.inputs, unseen.exported.signature.outputs)
    ]
    assert types[1] == ["FP32", "BYTES"]
    assert types[0][0] in ("INT64", "INT32")


def test_a_model_never_seen_keeps_its_ids_inside_its_vocabulary(unseen: Result) -> None:
    size = {"embedding": 50, "masked": 30, "unnamed": 20, "outputs": 11}
    table = next(tensor for tensor in unseen.model.graph.initializer if tensor.name == "table")
    assert unseen.facts["ranges"]["ids"] == [0, table.dims[0]]
    assert table.dims[0] in size.values()


def test_a_model_never_seen_answers_random_rows_as_validation_makes_them(unseen: Result) -> None:
    """`trtkit validate` and `trtkit infer --random` make 32 rows of the record's ranges."""
    specs = unseen.exported.signature.inputs
    made = random_inputs(specs, 32, seed=11, ranges=unseen.facts["ranges"], default_size=unseen.facts["axis_size"])
    outputs = unseen.run(**made)
    assert [len(array) for array in outputs.values()] == [32, 32]
    assert len(np.unique(outputs["label"].astype(bytes))) > 1, "all rows alike prove little"


def test_a_model_never_seen_has_warm_up_data_of_exact_size(unseen: Result) -> None:
    for index, spec in enumerate(unseen.exported.signature.inputs):
        warmup = unseen.facts["warmup"][spec.name]
        assert warmup["file"] == f"input_{index}.bin"
        size = (unseen.folder / "warmup" / warmup["file"]).stat().st_size
        assert size == int(np.prod(warmup["dims"])) * spec.dtype.byte_size
