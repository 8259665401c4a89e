# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""ONNX sources: every form they come in, what is made of them, and what is refused in one sentence."""

from __future__ import annotations

import json
import os
import random
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnx_models
from exporting import Result, export, export_onnx, export_python, graph, project
from trtkit.compat import IR_MAX, OPSET_MAX
from trtkit.errors import ExportError, ProjectError, TrtkitError
from trtkit.export import key, onnx_file
from trtkit.export.normalize import normalize
from trtkit.export.onnx_file import DATA_FILE, MODEL_FILE, external_tensors, read_onnx, write_onnx
from trtkit.export.runtime import Session
from trtkit.export.stage import Exported

X, Y = "float[batch, 4] x", "float[batch, 4] y"
NEG = graph(X, Y, "y = Neg(x)")
WHERE = "trtkit.yaml:3:14: "


def refused(folder: Path, model: ModelProto | bytes, block: str = "") -> str:
    """The sentence with which an ONNX file is refused, without its place."""
    with pytest.raises(ExportError) as caught:
        export_onnx(folder, model, block)
    message = str(caught.value)
    assert message.startswith("trtkit.yaml:")
    assert "\n" not in message
    return message.partition(": ")[2]


# --- what an export is


def test_an_export_is_a_file_and_its_facts(tmp_path: Path) -> None:
    result = export_onnx(tmp_path, NEG)
    assert (result.inputs, result.outputs) == (["x FP32 [batch, 4]"], ["y FP32 [batch, 4]"])
    facts = result.facts
    assert set(facts) == {
        "signature",
        "max_batch_size",
        "batch",
        "ranges",
        "axis_size",
        "opset",
        "ir_version",
        "changes",
        "source",
        "parity",
        "warmup",
        "tool_versions",
    }
    assert (facts["opset"], facts["ir_version"], facts["changes"], facts["source"]) == (17, 8, [], "onnx")
    assert facts["parity"] == {"compared": False, "why": "an ONNX source is its own reference"}
    assert {"trtkit", "onnx", "onnxruntime", "numpy"} <= set(facts["tool_versions"])
    assert sorted(p.relative_to(result.folder).as_posix() for p in result.folder.rglob("*") if p.is_file()) == [
        "model.onnx",
        "warmup/input_0.bin",
    ]
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_array_equal(result.run(x=x)["y"], -x)


def test_the_facts_survive_a_record(tmp_path: Path) -> None:
    result = export_onnx(tmp_path, NEG)
    assert Exported.from_facts(json.loads(json.dumps(result.facts))) == result.exported


def test_equal_sources_give_equal_files(tmp_path: Path) -> None:
    first, second = (export_onnx(tmp_path / name, onnx_models.matmul_dynamic_batch()) for name in ("a", "b"))
    assert (first.folder / MODEL_FILE).read_bytes() == (second.folder / MODEL_FILE).read_bytes()
    assert first.facts == second.facts


def test_the_graph_bears_the_models_name(tmp_path: Path) -> None:
    assert export_onnx(tmp_path, NEG).model.graph.name == "m"


# --- the forms of a source

MAKE = """
import onnx
from pathlib import Path

def neg():
    return onnx.parser.parse_model('''
        <ir_version: 8, opset_import: ["": 17]>
        main (float[batch, 4] x) => (float[batch, 4] y) { y = Neg(x) }''')
"""
FORMS = {
    "a message": "neg()",
    "bytes": "neg().SerializeToString()",
    "a path": "(onnx.save(neg(), Path(__file__).parent / 'saved.onnx'), Path(__file__).parent / 'saved.onnx')[1]",
    "a path in the project": "(onnx.save(neg(), Path(__file__).parent / 'saved.onnx'), 'saved.onnx')[1]",
}


@pytest.mark.parametrize("kind", ["onnx", "callable"])
@pytest.mark.parametrize("form", FORMS)
def test_a_callable_may_give_a_model_in_any_form(form: str, kind: str, tmp_path: Path) -> None:
    result = export_python(tmp_path, kind, f"{MAKE}\ndef make():\n    return {FORMS[form]}\n")
    np.testing.assert_array_equal(result.run(x=np.ones((1, 4), np.float32))["y"], -np.ones((1, 4)))


def test_a_message_that_the_users_module_keeps_is_not_changed(tmp_path: Path) -> None:
    keep = "kept = neg()\nbefore = kept.SerializeToString()\ndef make():\n    return kept\n"
    code = MAKE.replace('"": 17', '"": 28').replace("ir_version: 8", "ir_version: 14") + keep
    made = project(tmp_path, "source: {onnx: source.py:make}", source_py=code)
    export(made)
    from source import before, kept  # the user's module, which the export has imported

    assert kept.SerializeToString() == before


NO_MODELS = {
    "nothing": (
        "None",
        "'source.py:make' gave a NoneType; an onnx.ModelProto, its bytes, or the path of an .onnx file is needed",
    ),
    "a number": ("3", "'source.py:make' gave an int; an onnx.ModelProto"),
    "an empty message": ("onnx.ModelProto()", "what it gave is no ONNX model: it holds no graph with outputs"),
    "no bytes": ("b''", "what it gave is no ONNX model: it holds no graph with outputs"),
    "junk": ("b'junk' * 9", "the bytes it gave are no ONNX model: "),
    "no file": ("'missing.onnx'", "missing.onnx cannot be read as an ONNX model: "),
    "an error": ("1 / 0", "'source.py:make' raised ZeroDivisionError: division by zero (source.py:12)"),
}


@pytest.mark.parametrize("name", NO_MODELS)
def test_a_callable_that_gives_no_model_is_refused(name: str, tmp_path: Path) -> None:
    expression, sentence = NO_MODELS[name]
    with pytest.raises(ExportError) as caught:
        export_python(tmp_path, "onnx", f"{MAKE}\n\ndef make():\n    return {expression}\n")
    assert str(caught.value).startswith(WHERE)
    assert sentence in str(caught.value)


def test_a_callable_may_not_give_a_model_whose_weights_are_elsewhere(tmp_path: Path) -> None:
    code = MAKE + (
        "\ndef make():\n    model = neg()\n    weight = model.graph.initializer.add(name='w', data_type=1, dims=[1])\n"
        "    weight.data_location = 1\n    weight.external_data.add(key='location', value='w.bin')\n    return model\n"
    )
    with pytest.raises(
        ExportError, match=r"the model it gave has external data \('w'\) and does not say where; give the path"
    ):
        export_python(tmp_path, "onnx", code)


def test_a_file_of_another_kind_of_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="'model.onnx' is a .onnx file; a torch.nn.Module or a torch.export program"):
        export(project(tmp_path, "source: {torch: model.onnx}", model_onnx=NEG.SerializeToString()))


BROKEN = {
    "empty": (b"", "is no ONNX model: it holds no graph with outputs"),
    "junk": (b"junk" * 50, "cannot be read as an ONNX model: "),
    "cut off": (NEG.SerializeToString()[:60], "cannot be read as an ONNX model: "),
    "another message": (helper.make_tensor("t", 1, [1], [1.0]).SerializeToString(), ""),
    "zeros": (bytes(100), "cannot be read as an ONNX model: "),
    "text": (b"<html>not found</html>", "cannot be read as an ONNX model: "),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused(name: str, tmp_path: Path) -> None:
    content, sentence = BROKEN[name]
    assert sentence in refused(tmp_path, content)


@pytest.mark.parametrize("suffix", ["json", "textproto", "onnxtxt"])
def test_a_text_file_that_holds_no_model_is_refused(suffix: str, tmp_path: Path) -> None:
    """onnx chooses its reader by the file's name, and each has errors of its own."""
    (tmp_path / f"model.{suffix}").write_text("{ nothing")
    with pytest.raises(ExportError, match="cannot be read as an ONNX model: "):
        read_onnx(tmp_path / f"model.{suffix}", "here")


def test_a_folder_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").mkdir(parents=True)
    with pytest.raises(ProjectError, match="there is no file model.onnx"):
        project(tmp_path, "source: {onnx: model.onnx}")


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_file_is_exported_or_refused_in_one_sentence(seed: int, tmp_path: Path) -> None:
    """Bits flipped, bytes lost and added: never a traceback. 6,000 such files were tried when this was written."""
    source = random.Random(seed)
    models = [onnx_models.two_outputs(), onnx_models.label_of_bytes(), onnx_models.sum_of_dynamic_second_axis()]
    for turn in range(25):
        content = bytearray(source.choice(models).SerializeToString())
        place = source.randrange(len(content))
        change = source.randrange(3)
        content[place : place + (change < 2)] = [b"", bytes([source.randrange(256)]), b"\x00"][change]
        with suppress(TrtkitError):
            export_onnx(tmp_path / str(turn), bytes(content))
            continue
        message = refused(tmp_path / str(turn), bytes(content))
        assert len(message) < 1500


# --- opsets and IR versions


@pytest.mark.parametrize(
    ("opset", "ir"), [(21, 10), (22, 10), (23, 11), (24, 12), (25, 13), (26, 13), (27, 13), (28, 14)]
)
def test_a_newer_opset_and_ir_version_are_lowered_and_say_so(opset: int, ir: int, tmp_path: Path) -> None:
    nodes = "a = MatMul(x, w)\n b = Add(a, c)\n d = Relu(b)\n e = Reshape(d, s)\n y = Softmax<axis=1>(e)"
    weights = "float[4, 2] w = {1, -2, 3, -4, 5, -6, 7, -8}, float[2] c = {1, 2}, int64[2] s = {-1, 2}"
    result = export_onnx(tmp_path, graph(X, "float[batch, 2] y", nodes, weights, opset=opset, ir=ir))
    assert (result.facts["opset"], result.facts["ir_version"]) == (OPSET_MAX, min(ir, IR_MAX))
    assert f"opset {opset} converted to {OPSET_MAX}" in result.facts["changes"]
    assert (f"IR version {ir} lowered to {IR_MAX}" in result.facts["changes"]) == (ir > IR_MAX)
    assert (result.size, result.outputs) == (8, ["y FP32 [batch, 2]"])
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    same = export_onnx(tmp_path / "old", graph(X, "float[batch, 2] y", nodes, weights, opset=17))
    np.testing.assert_allclose(result.run(x=x)["y"], same.run(x=x)["y"], rtol=1e-6)


def test_a_converted_graph_is_compared_with_what_it_was(tmp_path: Path) -> None:
    parity = export_onnx(tmp_path, graph(X, Y, "y = Neg(x)", opset=22, ir=10)).facts["parity"]
    assert parity["compared"]
    assert (parity["data"], parity["rows"]) == ("random data", 16)
    assert parity["outputs"]["y"]["elements"] == 64
    assert parity["outputs"]["y"]["passed"]


def test_a_graph_too_new_for_onnx_runtime_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    parity = export_onnx(tmp_path, graph(X, Y, "y = Neg(x)", opset=28, ir=14)).facts["parity"]
    assert parity == {"compared": False, "why": "ONNX Runtime does not take the graph as it was before its conversion"}


def test_a_conversion_that_changes_what_the_graph_computes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(model: ModelProto, version: int) -> ModelProto:
        return graph(X, Y, "y = Abs(x)", opset=version)

    monkeypatch.setattr("trtkit.export.normalize.version_converter.convert_version", wrong)
    assert "the exported graph is not its source: output 'y' on random data: " in refused(
        tmp_path, graph(X, Y, "y = Neg(x)", opset=22, ir=10)
    )


TOO_NEW = {
    "RMSNormalization": (graph(X, Y, "y = RMSNormalization(x, w)", "float[4] w = {1,1,1,1}", opset=23, ir=11), 23),
    "Swish": (graph(X, Y, "y = Swish(x)", opset=24, ir=12), 24),
    "Mod": (graph(X, Y, "y = Mod(x, w)", "float[4] w = {1,1,1,1}", opset=28, ir=14), 28),
}


@pytest.mark.parametrize("operator", TOO_NEW)
def test_an_operator_that_no_older_opset_has_is_named(operator: str, tmp_path: Path) -> None:
    model, opset = TOO_NEW[operator]
    sentence = refused(tmp_path, model)
    assert sentence.startswith(
        f"opset {opset} is newer than 20, the newest that ONNX Runtime 1.18 and TensorRT 10.0 take"
    )
    assert operator in sentence.partition("cannot convert it: ")[2]
    assert "/onnx/version_converter" not in sentence
    assert sentence.endswith("; export with opset 17 or 18")


def test_an_opset_nobody_knows_is_refused(tmp_path: Path) -> None:
    model = graph(X, Y, "y = Neg(x)")
    model.opset_import[0].version = 99
    assert "opset 99 is newer than 20" in refused(tmp_path, model)


def test_branches_and_domains_survive_a_conversion(tmp_path: Path) -> None:
    nodes = """
        i = ai.onnx.ml.LabelEncoder<keys_strings=["a", "b"], values_int64s=[1, 2], default_int64=0>(x)
        y = If (c) <then_branch = t () => (int64[batch, 1] p) { p = Neg(i) },
                    else_branch = e () => (int64[batch, 1] q) { q = Abs(i) }>
    """
    model = graph("string[batch, 1] x", "int64[batch, 1] y", nodes, "bool c = {1}", opset=28, ir=14)
    result = export_onnx(tmp_path, model)
    words = np.array([[b"a"], [b"b"], [b"c"]], dtype=object)
    np.testing.assert_array_equal(result.run(x=words)["y"], [[-1], [-2], [0]])


def test_an_old_opset_is_raised_to_one_that_tensorrt_reads(tmp_path: Path) -> None:
    result = export_onnx(tmp_path, opset_6("float[2, 4] x"))
    assert result.facts["changes"] == ["IR version 3 raised to 4", "opset 6 converted to 17"]
    assert (result.inputs, result.facts["opset"], result.facts["ir_version"]) == (["x FP32 [2, 4]"], 17, 4)
    np.testing.assert_array_equal(result.run(x=np.zeros((2, 4), np.float32))["y"], [[1, 2, 3, 4]] * 2)


def opset_6(inputs: str) -> ModelProto:
    """An Add as it was before broadcasting was numpy's, and a weight that is an input."""
    weights = "float[4] w = {1, 2, 3, 4}"
    return graph(
        f"{inputs}, float[4] w", inputs.replace("x", "y"), "y = Add<axis=1, broadcast=1>(x, w)", weights, opset=6, ir=3
    )


def test_an_old_opset_that_nobody_takes_is_refused_with_both_reasons(tmp_path: Path) -> None:
    sentence = refused(tmp_path, opset_6("float[batch, 4] x"))
    assert "refuses the model: Could not find an implementation for Add(6)" in sentence
    assert sentence.endswith(
        "(opset 6 kept, as onnx cannot convert it to 17: batch Dimension is a param instead of an int.)"
    )


@pytest.mark.parametrize("opset", [9, 13, 17, 20])
def test_an_opset_that_all_take_is_left_alone(opset: int, tmp_path: Path) -> None:
    result = export_onnx(tmp_path, graph(X, Y, "y = Neg(x)", opset=opset))
    assert (result.facts["opset"], result.facts["changes"]) == (opset, [])


def old_models() -> list[Path]:
    """The models of onnx's own tests that were converted from torch, with data; opset 6."""
    return sorted((Path(onnx.__file__).parent / "backend/test/data/pytorch-converted").glob("*/model.onnx"))


def test_onnxs_own_old_models_give_what_they_gave(tmp_path: Path) -> None:
    """Opset 6 with weights among the inputs: real files, of which ONNX Runtime by itself refuses a third."""
    refusals = {}
    for index, file in enumerate(old_models()):
        (tmp_path / str(index)).mkdir()
        try:
            normal_outputs(file, tmp_path / str(index))
        except ExportError as exc:
            refusals[file.parent.name] = str(exc)
    assert len(old_models()) >= 70
    assert set(refusals) == {f"test_PReLU_{n}d_multiparam" for n in (1, 2, 3)}, "onnx converts their slopes wrongly"
    assert all("running PRelu node" in reason for reason in refusals.values())


def normal_outputs(file: Path, folder: Path) -> None:
    """Normalize a model with test data beside it and compare the outputs."""
    made = normalize(read_onnx(file, "here"), folder, "here").model
    session = Session(write_onnx(made, folder, "here"))
    data = file.parent / "test_data_set_0"
    given = session.run({value.name: tensor(data / f"input_{i}.pb") for i, value in enumerate(made.graph.input)})
    for index, array in enumerate(given.values()):
        np.testing.assert_allclose(array, tensor(data / f"output_{index}.pb"), rtol=1e-3, atol=1e-5, err_msg=str(file))


def tensor(file: Path) -> np.ndarray:
    return numpy_helper.to_array(onnx.load_tensor(file))


# --- what a graph may look like


def test_weights_listed_as_inputs_are_none(tmp_path: Path) -> None:
    result = export_onnx(tmp_path, onnx_models.initializer_as_input())
    assert result.inputs == ["x FP32 [2]"]
    np.testing.assert_array_equal(result.run(x=np.zeros(2, np.float32))["y"], [10, 20])


def test_local_functions_are_written_out(tmp_path: Path) -> None:
    more = '<domain: "own", opset_import: ["": 17]> double (a) => (b) { b = Add(a, a) }'
    result = export_onnx(tmp_path, graph(X, Y, "y = own.double(x)", more=more))
    assert result.facts["changes"] == ["1 local functions inlined"]
    assert [node.op_type for node in result.model.graph.node] == ["Add"]


# the number of kept elements, and so the rank of what is reshaped to them, is known when it has run
RANKLESS = "f = Compress(s, keep)"


def test_an_output_without_a_rank_gets_the_one_it_has(tmp_path: Path) -> None:
    model = graph(X, "float y", f"{RANKLESS}\n y = Reshape(x, f)", "int64[3] s = {-1, 4, 1}, bool[3] keep = {1, 1, 0}")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    result = export_onnx(tmp_path, model)
    assert (result.outputs, result.size) == (["y FP32 [batch, y_1]"], 8)
    assert result.facts["changes"] == ["output 'y' had no rank and has 2 axes"]


def test_an_output_whose_rank_cannot_be_observed_is_refused(tmp_path: Path) -> None:
    nodes = f"z = Cast<to=1>(x)\n {RANKLESS}\n y = Reshape(z, f)"
    model = graph("string[batch, 1] x", "float y", nodes, "int64[1] s = {-1}, bool[1] keep = {1}")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    sentence = refused(tmp_path, model)
    assert sentence.startswith("the graph does not say the rank of output 'y', and it could not be observed: ")
    assert "running Cast node" in sentence


def test_an_output_that_lies_about_its_shape_is_corrected(tmp_path: Path) -> None:
    model = graph("float[batch, n] x", "float[batch, 5] y, float[batch] z", "y = Neg(x)\n z = Abs(x)")
    result = export_onnx(tmp_path, model)
    assert result.outputs == ["y FP32 [batch, y_1]", "z FP32 [batch, z_1]"]
    assert result.facts["changes"] == [
        "output 'y' said ['?', 5] and has the shape [2, 8]",
        "output 'z' said ['?'] and has the shape [2, 8]",
    ]
    np.testing.assert_array_equal(result.run(x=np.ones((1, 3), np.float32))["y"], [[-1, -1, -1]])


def test_scalars_are_served_without_batching(tmp_path: Path) -> None:
    result = export_onnx(tmp_path, onnx_models.scalar())
    assert (result.inputs, result.outputs, result.size) == (["x FP32 []"], ["y FP32 []"], 0)
    assert result.facts["warmup"] == {"x": {"dims": [1], "file": "input_0.bin"}}
    assert (result.folder / "warmup/input_0.bin").stat().st_size == 4


@pytest.mark.parametrize("dim", ["negative", "nothing"])
def test_a_dimension_without_a_size_is_dynamic(dim: str, tmp_path: Path) -> None:
    model = graph(X, Y, "y = Neg(x)")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].Clear()
        if dim == "negative":
            value.type.tensor_type.shape.dim[0].dim_value = -1
    result = export_onnx(tmp_path, model)
    assert (result.inputs, result.size) == (["x FP32 [batch, 4]"], 8)


def changed(**fields: object) -> ModelProto:
    model = graph(X, Y, "y = Neg(x)")
    for name, value in fields.items():
        setattr(model, name, value)
    return model


def with_input(change: object) -> ModelProto:
    model = graph(X, Y, "y = Neg(x)")
    change(model.graph.input[0])
    return model


def not_text(model: ModelProto) -> bytes:
    return model.SerializeToString().replace(b"batch", b"b\xfftch")


REFUSED = {
    "an operator nobody knows": (
        graph(X, Y, "y = Magic(x)"),
        "the graph is not valid ONNX: No Op registered for Magic",
    ),
    "a custom operator": (
        graph(X, Y, "y = own.Magic(x)"),
        "refuses the model: Fatal error: own:Magic(-1) is not a registered",
    ),
    "a value from nowhere": (
        graph(X, Y, "y = Add(x, nobody)"),
        "the graph is not valid ONNX: Nodes in a graph must be",
    ),
    "a circle": (graph(X, Y, "a = Add(x, y)\n y = Neg(a)"), "the graph is not valid ONNX: Nodes in a graph must be"),
    "two values of one name": (
        graph(X, Y, "y = Neg(x)\n y = Abs(x)"),
        "'y' has been used as output names multiple times",
    ),
    "two outputs of one name": (
        graph(X, f"{Y}, {Y}", "y = Neg(x)"),
        "two outputs are called 'y'; give them names of their own",
    ),
    "an output that nothing makes": (
        graph(X, "float[batch, 4] z", "y = Neg(x)"),
        "Graph output 'z' is not an output of any node",
    ),
    "a sequence": (
        graph(X, "seq(float[batch, 4]) y", "y = SequenceConstruct(x)"),
        "output 'y' is no tensor but of the kind sequence; Triton serves tensors only",
    ),
    "a sequence as input": (
        graph("seq(float[4]) x", "float[4] y", "y = SequenceAt(x, i)", "int64 i = {0}"),
        "input 'x' is no tensor but of the kind sequence",
    ),
    "maps": (
        graph("float[batch, 2] x", "seq(map(int64, float)) y", "y = ai.onnx.ml.ZipMap<classlabels_int64s=[0, 1]>(x)"),
        "output 'y' is no tensor but of the kind sequence",
    ),
    "an optional": (
        graph(X, "optional(float[batch, 4]) y", "y = Optional(x)"),
        "output 'y' is no tensor but of the kind optional",
    ),
    "an empty axis": (
        graph("float[batch, 0] x", "float[batch, 0] y", "y = Neg(x)"),
        "input 'x' has the shape ['batch', 0], which",
    ),
    "brain floats": (
        graph("bfloat16[batch, 4] x", Y, "y = Cast<to=1>(x)"),
        "input 'x' has the type BFLOAT16, which ONNX Runtime's",
    ),
    "eight-bit floats": (
        graph("float8e4m3fn[batch, 4] x", Y, "y = Cast<to=1>(x)", opset=19, ir=9),
        "input 'x' has the type FLOAT8E4M3FN, which Triton does not know; cast it in the graph",
    ),
    "complex numbers": (
        graph("complex64[batch, 4] x", "complex64[batch, 4] y", "y = Identity(x)"),
        "has the type COMPLEX64",
    ),
    "no inputs": (
        graph("", "float[2] y", "y = Constant<value = float[2] {1, 2}>()"),
        "the graph has no inputs, so that nothing",
    ),
    "an input without a rank": (
        with_input(lambda value: value.type.tensor_type.ClearField("shape")),
        "input 'x' has no rank; export it",
    ),
    "an input without a type": (with_input(lambda value: value.ClearField("type")), "the graph is not valid ONNX: "),
    "an input of a type nobody knows": (
        with_input(lambda value: setattr(value.type.tensor_type, "elem_type", 77)),
        "77",
    ),
    "an input without a name": (
        with_input(lambda value: setattr(value, "name", "")),
        "the graph is not valid ONNX: Field 'name'",
    ),
    "a name that is no text": (not_text(NEG), "input 'x' or one of its axes has a name that is not UTF-8"),
    "an IR version nobody knows": (
        changed(ir_version=99),
        "the graph is not valid ONNX: Your model ir_version 99 is higher",
    ),
    "no opset": (with_input(lambda value: None), ""),
}
del REFUSED["no opset"]


@pytest.mark.parametrize("name", REFUSED)
def test_a_graph_that_cannot_be_served_is_refused(name: str, tmp_path: Path) -> None:
    model, sentence = REFUSED[name]
    found = refused(tmp_path, model)
    assert sentence in found
    assert str(tmp_path) not in found, "the file it was tried in is none of the user's"


# --- `outputs:` and `inputs:`


def test_outputs_get_the_names_of_the_project_file(tmp_path: Path) -> None:
    model = graph(X, "float[batch, 4] a, float[batch, 4] b", "inner = Neg(x)\n a = Abs(inner)\n b = Relu(inner)")
    result = export_onnx(tmp_path, model, "outputs: [inner, other]")
    assert result.outputs == ["inner FP32 [batch, 4]", "other FP32 [batch, 4]"]
    x = np.array([[-1, 2, -3, 4]], np.float32)
    outputs = result.run(x=x)
    np.testing.assert_array_equal(outputs["inner"], np.abs(x))
    np.testing.assert_array_equal(outputs["other"], np.maximum(-x, 0))


def test_outputs_may_swap_their_names(tmp_path: Path) -> None:
    model = graph(X, "float[batch, 4] a, float[batch, 4] b", "a = Neg(x)\n b = Abs(a)")
    outputs = export_onnx(tmp_path, model, "outputs: [b, a]").run(x=np.ones((1, 4), np.float32))
    assert (outputs["b"][0, 0], outputs["a"][0, 0]) == (-1, 1)


def test_an_output_may_take_the_name_of_a_weight(tmp_path: Path) -> None:
    model = graph(X, Y, "y = Add(x, bias)", "float[4] bias = {1, 2, 3, 4}")
    result = export_onnx(tmp_path, model, "outputs: [bias]")
    np.testing.assert_array_equal(result.run(x=np.zeros((1, 4), np.float32))["bias"], [[1, 2, 3, 4]])


def test_a_renamed_output_keeps_its_meaning_inside_of_branches(tmp_path: Path) -> None:
    nodes = """
        a = Neg(x)
        y = If (c) <then_branch = t () => (float[batch, 4] p) { p = Abs(a) },
                    else_branch = e () => (float[batch, 4] q) { q = Neg(a) }>
    """
    result = export_onnx(tmp_path, graph(X, Y, nodes, "bool c = {0}"), "outputs: [a]")
    np.testing.assert_array_equal(result.run(x=np.full((1, 4), -2, np.float32))["a"], np.full((1, 4), -2))


def test_an_output_that_is_an_input_or_given_twice_can_be_renamed(tmp_path: Path) -> None:
    model = graph(X, "float[batch, 4] x, float[batch, 4] y, float[batch, 4] y", "y = Neg(x)")
    result = export_onnx(tmp_path, model, "outputs: [same, minus, again]")
    outputs = result.run(x=np.ones((1, 4), np.float32))
    assert [float(outputs[name][0, 0]) for name in ("same", "minus", "again")] == [1, -1, -1]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("[a, b]", "`outputs:` gives the names ['a', 'b'], the graph has 1 outputs: y"),
        ("[x]", "`outputs:` gives the name 'x', which is an input's; choose another"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(names: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        export_onnx(tmp_path, NEG, f"outputs: {names}")
    assert str(caught.value) == f"trtkit.yaml:4:5: {sentence}"


def test_inputs_of_an_onnx_source_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"^trtkit.yaml:4:5: an ONNX model says itself what its inputs are; leave"):
        export_onnx(tmp_path, NEG, "inputs: {x: {shape: [batch, 4]}}")


# --- external data


def external(folder: Path, location: str, name: str = "model.onnx") -> Path:
    """A model whose weight, 1 to 4, stands in a file that it calls `location`."""
    model = graph(X, Y, "y = Add(x, w)", "float[4] w = {0, 0, 0, 0}")
    weight = model.graph.initializer[0]
    weight.CopyFrom(numpy_helper.from_array(np.array([1, 2, 3, 4], np.float32), "w"))
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key_, value in {"location": location, "offset": "0", "length": "16"}.items():
        weight.external_data.add(key=key_, value=value)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(model.SerializeToString())
    return folder / name


DATA = np.array([1, 2, 3, 4], np.float32).tobytes()


def export_file(folder: Path) -> Result:
    (folder / "trtkit.yaml").write_text("models:\n  m:\n    source: {onnx: model.onnx}\n")
    from trtkit.project import load_project

    return export(load_project(folder / "trtkit.yaml"))


@pytest.mark.parametrize("location", ["weights.bin", "data/weights.bin", "./weights.bin", "data/../weights.bin"])
def test_external_data_inside_of_the_folder_are_taken_in(location: str, tmp_path: Path) -> None:
    external(tmp_path, location)
    (tmp_path / "data").mkdir()
    (tmp_path / location).write_bytes(DATA)
    result = export_file(tmp_path)
    assert not list(external_tensors(result.model))
    assert not (result.folder / DATA_FILE).exists()
    np.testing.assert_array_equal(result.run(x=np.zeros((1, 4), np.float32))["y"], [[1, 2, 3, 4]])


@pytest.mark.parametrize(
    "where", ["absolute", "above", "above and back", "a link", "a folder's link", "nowhere", "empty"]
)
def test_external_data_outside_of_the_folder_are_refused(where: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(DATA)
    folder = tmp_path / "model"
    location = {
        "absolute": str(secret),
        "above": "../secret.bin",
        "above and back": "../model/../secret.bin",
        "a link": "link.bin",
        "a folder's link": "up/secret.bin",
        "nowhere": "missing.bin",
        "empty": "",
    }[where]
    external(folder, location)
    (folder / "link.bin").symlink_to(secret)
    (folder / "up").symlink_to(tmp_path)
    with pytest.raises(ExportError) as caught:
        export_file(folder)
    if where == "nowhere":
        expected = "are missing: there is no file missing.bin beside the model"
    else:
        expected = f"point to '{location}', outside the model's folder; refused: put the data file beside the model"
    assert str(caught.value) == f"{WHERE}model.onnx: the external data of 'w' {expected}"


@pytest.mark.parametrize("location", ["a\0b", "x" * 300, "circle.bin"])
def test_external_data_at_no_path_are_refused(location: str, tmp_path: Path) -> None:
    external(tmp_path, location)
    (tmp_path / "circle.bin").symlink_to("circle.bin")
    with pytest.raises(ExportError, match=r"^trtkit.yaml:3:14: model.onnx: the external data of 'w' "):
        export_file(tmp_path)


@pytest.mark.parametrize(("key_", "value"), [("offset", "100"), ("length", "100"), ("offset", "-4"), ("length", "x")])
def test_external_data_that_are_too_short_are_refused(key_: str, value: str, tmp_path: Path) -> None:
    file = external(tmp_path, "weights.bin")
    (tmp_path / "weights.bin").write_bytes(DATA)
    model = onnx.load(file, load_external_data=False)
    next(entry for entry in model.graph.initializer[0].external_data if entry.key == key_).value = value
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match=r"^trtkit.yaml:3:14: "):
        export_file(tmp_path)


def test_external_data_of_inner_graphs_are_checked_too(tmp_path: Path) -> None:
    branch = "p = Constant<value = float[4] {1, 2, 3, 4}>()"
    model = graph(
        X,
        "float[4] y",
        f"y = If (c) <then_branch = t () => (float[4] p) {{ {branch} }}, "
        "else_branch = e () => (float[4] q) { q = Constant<value = float[4] {1, 2, 3, 4}>() }>",
        "bool c = {1}",
    )
    inner = model.graph.node[0].attribute[0].g.node[0].attribute[0].t
    inner.name = "hidden"
    inner.ClearField("float_data")
    inner.data_location = TensorProto.EXTERNAL
    inner.external_data.add(key="location", value="../secret.bin")
    (tmp_path / "secret.bin").write_bytes(DATA)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match="the external data of 'hidden' point to '../secret.bin', outside"):
        export_file(tmp_path / "model")


def test_a_file_beside_the_current_folder_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnx itself looks for `model.onnx.data` in the current folder, and refuses to write another."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / DATA_FILE).write_bytes(b"the user's own")
    monkeypatch.setattr(onnx_file, "EXTERNAL_ABOVE_BYTES", 100)
    result = export_onnx(tmp_path / "project", large())
    assert (result.folder / DATA_FILE).is_file()
    assert (tmp_path / DATA_FILE).read_bytes() == b"the user's own"


# --- weights above the size of a protobuf message, here made small


def large(nodes: str = "a = MatMul(x, w)\n y = Relu(a)") -> ModelProto:
    """Two KB of weights, in typed fields and raw, and small ones that belong into the graph."""
    rng = np.random.default_rng(3)
    model = graph("float[batch, 16] x", "float[batch, 32] y", nodes)
    typed = helper.make_tensor("w", TensorProto.FLOAT, [16, 32], rng.standard_normal(512).tolist())
    raw = numpy_helper.from_array(np.array([4, -1]), "s")
    unused = numpy_helper.from_array(rng.standard_normal((3, 5, 70)).astype(np.float16), "unused")
    model.graph.initializer.extend([typed, raw, unused])
    return model


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "EXTERNAL_ABOVE_BYTES", 1000)


@pytest.mark.usefixtures("small_limit")
def test_large_weights_go_to_a_file_beside_the_graph(tmp_path: Path) -> None:
    result = export_onnx(tmp_path, large())
    graph_alone = onnx.load(result.folder / MODEL_FILE, load_external_data=False)
    held = {t.name: {entry.key: entry.value for entry in t.external_data} for t in external_tensors(graph_alone)}
    assert held == {
        "w": {"location": DATA_FILE, "offset": "0", "length": "2048"},
        "unused": {"location": DATA_FILE, "offset": "2048", "length": "2100"},
    }
    assert (result.folder / DATA_FILE).stat().st_size == 2048 + 2100
    for before, after in zip(large().graph.initializer, result.model.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(before), numpy_helper.to_array(after))
    assert (result.size, result.facts["batch"]["proven"]) == (8, [1, 2, 8])
    assert set(result.facts["warmup"]) == {"x"}


@pytest.mark.usefixtures("small_limit")
def test_large_weights_of_branches_go_there_too_and_text_stays(tmp_path: Path) -> None:
    nodes = """
        y = If (c) <then_branch = t () => (float[batch, 16] p) <float[16, 16] v = {0}> { p = MatMul(x, v) },
                    else_branch = e () => (float[batch, 16] q) { q = Abs(x) }>
        z = ai.onnx.ml.LabelEncoder<keys_int64s=[0], values_strings=["a"]>(i)
    """
    model = graph(
        "float[batch, 16] x, int64[batch, 1] i", "float[batch, 16] y, string[batch, 1] z", nodes, "bool c = {1}"
    )
    inner = model.graph.node[0].attribute[0].g
    inner.initializer[0].CopyFrom(numpy_helper.from_array(np.eye(16, dtype=np.float32) * 3, "v"))
    words = np.array([b"word"] * 400, dtype=object)
    model.graph.initializer.append(helper.make_tensor("words", TensorProto.STRING, [400], words.tolist()))
    result = export_onnx(tmp_path, model)
    alone = onnx.load(result.folder / MODEL_FILE, load_external_data=False)
    assert [tensor.name for tensor in external_tensors(alone)] == ["v"]
    assert len(next(t for t in alone.graph.initializer if t.name == "words").string_data) == 400
    outputs = result.run(x=np.ones((2, 16), np.float32), i=np.zeros((2, 1), np.int64))
    np.testing.assert_array_equal(outputs["y"], np.full((2, 16), 3))


@pytest.mark.usefixtures("small_limit")
def test_large_models_give_what_small_ones_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).standard_normal((5, 16)).astype(np.float32)
    beside = export_onnx(tmp_path / "beside", large())
    monkeypatch.undo()
    inside = export_onnx(tmp_path / "inside", large())
    assert not (inside.folder / DATA_FILE).exists()
    np.testing.assert_array_equal(beside.run(x=x)["y"], inside.run(x=x)["y"])
    assert beside.facts == inside.facts


@pytest.mark.usefixtures("small_limit")
def test_large_models_are_equal_files_too(tmp_path: Path) -> None:
    first, second = (export_onnx(tmp_path / name, large()) for name in ("a", "b"))
    for name in (MODEL_FILE, DATA_FILE):
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize(("opset", "ir"), [(6, 3), (22, 10), (28, 14)])
def test_large_models_are_converted(opset: int, ir: int, tmp_path: Path) -> None:
    model = large("y = MatMul(x, w)")
    del model.graph.initializer[1:]
    model.opset_import[0].version, model.ir_version = opset, ir
    if ir < 4:
        model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [16, 32]))
    result = export_onnx(tmp_path, model)
    assert result.facts["opset"] == (17 if opset < 9 else 20)
    weight = numpy_helper.to_array(large().graph.initializer[0])
    np.testing.assert_allclose(result.run(x=np.eye(16, dtype=np.float32))["y"], weight, rtol=1e-6)


@pytest.mark.usefixtures("small_limit")
def test_the_guilty_node_of_a_large_model_is_named(tmp_path: Path) -> None:
    sentence = refused(tmp_path, large("a = MatMul(x, w)\n b = Reshape(a, s)\n y = Neg(b)"))
    assert "; the node that baked it in is Reshape 'b'; export it" in sentence
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left == [MODEL_FILE, DATA_FILE], "nothing of the search stays behind"


@pytest.mark.usefixtures("small_limit")
def test_a_damaged_large_model_is_refused(tmp_path: Path) -> None:
    assert "the graph is not valid ONNX: No Op registered for Magic" in refused(tmp_path, large("y = Magic(x, w)"))


def test_constants_that_do_not_fit_into_a_message_are_refused(tmp_path: Path) -> None:
    def too_large(self: ModelProto, **_: object) -> bytes:
        raise ValueError("Failed to serialize proto")

    with pytest.raises(
        ExportError, match=r"^here: the graph without its weights does not fit into an ONNX file of 2 GB"
    ):
        write_onnx(
            type("Huge", (), {"SerializeToString": too_large, "graph": NEG.graph, "functions": []})(), tmp_path, "here"
        )


# --- warm-up data

WARMED = {
    "BOOL": ("bool", 1),
    "UINT8": ("uint8", 1),
    "UINT16": ("uint16", 2),
    "UINT32": ("uint32", 4),
    "UINT64": ("uint64", 8),
    "INT8": ("int8", 1),
    "INT16": ("int16", 2),
    "INT32": ("int32", 4),
    "INT64": ("int64", 8),
    "FP16": ("float16", 2),
    "FP32": ("float", 4),
    "FP64": ("double", 8),
}


@pytest.mark.parametrize("batching", [True, False])
@pytest.mark.parametrize("name", WARMED)
def test_warm_up_data_are_elements_times_size(name: str, batching: bool, tmp_path: Path) -> None:
    kind, size = WARMED[name]
    first = "batch" if batching else "2"
    result = export_onnx(tmp_path, graph(f"{kind}[{first}, 3, n] x", f"{kind}[{first}, 3, n] y", "y = Identity(x)"))
    assert result.inputs[0].split()[1] == name
    dims = [3, 8] if batching else [2, 3, 8]
    assert result.facts["warmup"] == {"x": {"dims": dims, "file": "input_0.bin"}}
    assert (result.folder / "warmup/input_0.bin").stat().st_size == int(np.prod(dims)) * size


def test_warm_up_text_has_a_length_of_four_bytes_before_each_element(tmp_path: Path) -> None:
    result = export_onnx(tmp_path, graph("string[batch, 2] x", "string[batch, 2] y", "y = Identity(x)"))
    content = (result.folder / "warmup/input_0.bin").read_bytes()
    words = []
    while content:
        (length,) = struct.unpack_from("<I", content)
        words.append(content[4 : 4 + length])
        content = content[4 + length :]
    assert len(words) == 2
    assert all(word.isalpha() for word in words)


def test_warm_up_data_are_the_first_row_of_the_real_ones(tmp_path: Path) -> None:
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.savez(tmp_path / "data.npz", x=rows)
    block = "source: {onnx: model.onnx}\nevaluate: {data: data.npz}"
    result = export(project(tmp_path, block, model_onnx=NEG.SerializeToString()))
    assert (result.folder / "warmup/input_0.bin").read_bytes() == rows[0].tobytes()


def test_a_value_per_row_is_warmed_up_with_dims_of_one(tmp_path: Path) -> None:
    """config.pbtxt needs a rank of 1, and takes it away again by a reshape."""
    result = export_onnx(tmp_path, onnx_models.scalar_per_row())
    assert result.facts["warmup"] == {"x": {"dims": [1], "file": "input_0.bin"}}
    assert (result.folder / "warmup/input_0.bin").stat().st_size == 4


# --- ONNX Runtime in this process


def test_text_goes_in_as_bytes_and_comes_out_as_bytes() -> None:
    session = Session(onnx_models.identity(TensorProto.STRING, ["batch", 1]).SerializeToString())
    words = np.array([["é".encode()], [b""], [b"a\0b"]], dtype=object)
    np.testing.assert_array_equal(session.run({"x": words})["y"], words)
    np.testing.assert_array_equal(session.run({"x": words[:2].astype("S")})["y"], words[:2])


def test_bytes_that_are_no_text_go_in_too() -> None:
    session = Session(onnx_models.label_of_bytes().SerializeToString())
    words = np.array([[b"\xff"], [b"cat"], ["né".encode()], [b"c"]], dtype=object)
    np.testing.assert_array_equal(session.run({"word": words})["label"], [[3], [1], [2], [-1]])


def test_bytes_that_are_no_text_do_not_come_out_and_that_is_said() -> None:
    session = Session(onnx_models.identity(TensorProto.STRING, ["batch", 1]).SerializeToString())
    with pytest.raises(
        ExportError, match=r"^ONNX Runtime cannot run the model on x\[1, 1\]: 'utf-8' codec can't decode"
    ):
        session.run({"x": np.array([[b"\xff"]], dtype=object)})


def test_only_the_outputs_that_are_asked_for_come() -> None:
    session = Session(onnx_models.two_outputs().SerializeToString())
    x = np.ones((1, 2), np.float32)
    assert [list(session.run({"x": x}, names)) for names in (["absolute"], [], None)] == [
        ["absolute"],
        [],
        ["negative", "absolute"],
    ]


def test_shape_inference_that_fails_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no\nshape")

    monkeypatch.setattr("trtkit.export.normalize.shape_inference.infer_shapes", fails)
    assert refused(tmp_path, NEG) == "shape inference failed: no shape"


# --- errors of the file system, and the key


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    made = project(tmp_path, "source: {onnx: model.onnx}", model_onnx=NEG.SerializeToString())
    from trtkit.errors import RepositoryError
    from trtkit.export.stage import export_model

    with pytest.raises(RepositoryError, match="No such file or directory"):
        export_model(made, "m", tmp_path / "missing")


@pytest.mark.parametrize(
    ("value", "batch"), [("8", 8), ("0", 0), ("true", None), ("eight", None), ("2.5", None)], ids=str
)
def test_only_an_integer_is_a_wanted_batch(value: str, batch: int | None, tmp_path: Path) -> None:
    made = project(tmp_path, f"source: {{onnx: model.onnx}}\nconfig: {{max_batch_size: {value}}}", model_onnx=b"")
    assert key.wanted_batch(made.models["m"]) == batch


def test_the_key_changes_with_what_decides_the_result(tmp_path: Path) -> None:
    blocks = [
        "",
        "outputs: [z]",
        "config: {max_batch_size: 3}",
        "evaluate: {data: model.onnx}",
        "inputs: {x: {shape: [1]}}",
        "evaluate: {data: model.onnx, samples: 5}",
    ]
    keys = []
    for block in blocks:
        made = project(tmp_path, f"source: {{onnx: model.onnx}}\n{block}", model_onnx=b"")
        keys.append(json.dumps(key.export_inputs(made.models["m"])))
    assert len(set(keys)) == len(blocks)
    same = project(tmp_path, "source: {onnx: model.onnx}\nevaluate: {data: model.onnx, metric: top1, max_drop: 0.1}")
    assert json.dumps(key.export_inputs(same.models["m"])) == keys[3], "a metric changes the validation only"


def test_a_full_disk_leaves_no_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trtkit.errors import RepositoryError

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, os.strerror(28), str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RepositoryError, match="No space left on device"):
        write_onnx(NEG, tmp_path, "here")
