# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The parts of validation that need no server: tolerances, metrics, references, JUnit XML."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onnx_models
from exporting import project
from trtkit.artifacts import Cache
from trtkit.config import ModelConfig
from trtkit.dtypes import DTYPES, by_name
from trtkit.errors import DataError, ExportError, ProjectError
from trtkit.export.onnx_file import MODEL_FILE
from trtkit.metrics import METRICS, measure_metric
from trtkit.numerics import Difference, difference
from trtkit.project import Project, Tolerance, load_project
from trtkit.repository import PublishedVersion
from trtkit.signature import Signature, TensorSpec
from trtkit.tolerance import TOLERANCES, largest_value, outside_share, tolerance_for
from trtkit.validate import MetricResult, ModelReport, OutputResult, junit_xml, reference

# --- tolerances

NONE = Tolerance()


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if not dtype.is_float], ids=lambda dtype: dtype.name)
def test_what_is_no_floating_point_has_to_be_equal(precision: str, dtype: Any) -> None:
    loose = Tolerance(rtol=1.0, atol=1.0, outputs={"y": Tolerance(atol=9.0)})
    assert tolerance_for(precision, dtype, "y", loose) == (0.0, 0.0)


def test_a_lower_precision_is_never_held_to_more() -> None:
    order = ["fp32", "fp16", "bf16", "int8"]
    for tighter, looser in pairwise(order):
        assert all(a < b for a, b in zip(TOLERANCES[tighter], TOLERANCES[looser], strict=True))


def test_an_ensemble_is_held_to_fp32() -> None:
    assert tolerance_for("ensemble", by_name("FP32"), "y", NONE) == TOLERANCES["fp32"]


@pytest.mark.parametrize(("dtype", "ulp"), [("FP16", 2.0**-10), ("BF16", 2.0**-7), ("FP32", 1e-4), ("FP64", 1e-4)])
def test_an_output_may_be_rounded_to_its_own_type(dtype: str, ulp: float) -> None:
    rtol, atol = tolerance_for("fp32", by_name(dtype), "y", NONE)
    assert (rtol, atol) == (max(ulp, 1e-4), 1e-5)
    if dtype == "FP16":
        exact = np.random.default_rng(0).uniform(0.1, 100, 2000)
        rounded = exact.astype(np.float16)
        assert difference(exact, rounded, rtol, atol).passed
        assert not difference(exact, rounded, *TOLERANCES["fp32"]).passed


OVERRIDES = {
    "nothing": (NONE, (1e-2, 2e-3)),
    "one of the two": (Tolerance(atol=0.5), (1e-2, 0.5)),
    "both": (Tolerance(rtol=0.1, atol=0.5), (0.1, 0.5)),
    "exactly": (Tolerance(rtol=0.0, atol=0.0), (0.0, 0.0)),
    "another output": (Tolerance(outputs={"z": Tolerance(rtol=0.7)}), (1e-2, 2e-3)),
    "this output": (Tolerance(rtol=0.1, outputs={"y": Tolerance(rtol=0.7)}), (0.7, 2e-3)),
    "this output before all": (Tolerance(rtol=0.1, atol=0.2, outputs={"y": Tolerance(atol=0.0)}), (0.1, 0.0)),
}


@pytest.mark.parametrize("name", OVERRIDES)
def test_the_project_file_has_the_last_word(name: str) -> None:
    override, expected = OVERRIDES[name]
    assert tolerance_for("fp16", by_name("FP32"), "y", override) == expected


def test_without_a_word_of_the_project_file_a_tolerance_is_not_zero() -> None:
    assert all(rtol > 0 and atol > 0 for rtol, atol in TOLERANCES.values())


# --- metrics

SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.1, 0.4], [0.2, 0.3, 0.5], [0.4, 0.4, 0.2]], np.float32)
WORDS = np.array([[b"cat"], [b"n\xc3\xa9"], [b"dog"]], dtype=object)
VALUES = {
    "the best score": ("top1", SCORES, [1, 0, 0, 0], 0.75),
    "the first of equal scores": ("top1", SCORES, [1, 0, 2, 1], 0.75),
    "the first of many equal scores": ("top1", np.zeros((1, 100)), [0], 1.0),
    "labels in a column": ("top1", SCORES, [[1], [0], [2], [0]], 1.0),
    "among the best five": ("top5", np.tile(np.arange(7.0), (2, 1)), [2, 1], 0.5),
    "fewer classes than five": ("top5", SCORES, [0, 1, 2, 0], 1.0),
    "scores of more axes": ("top1", SCORES.reshape(4, 1, 3), [1, 0, 2, 0], 1.0),
    "whole numbers as scores": ("top1", (SCORES * 10).astype(np.int32), [1, 0, 2, 0], 1.0),
    "the smallest unsigned score is not the best": ("top1", np.array([[0, 200]], np.uint8), [1], 1.0),
    "NaN is the lowest": ("top1", np.array([[np.nan, 0.1]]), [1], 1.0),
    "words": ("accuracy", WORDS, ["cat", "né", "cow"], 2 / 3),
    "words as bytes": ("accuracy", WORDS.ravel(), [b"cat", b"x", b"dog"], 2 / 3),
    "classes": ("accuracy", np.array([1, 2, 3]), [1, 2, 4], 2 / 3),
    "classes as floats": ("accuracy", np.array([1.0, 2.0], np.float32), [1, 2], 1.0),
    "truth": ("accuracy", np.array([True, False]), [1, 1], 0.5),
    "numbers for words": ("accuracy", np.array([1, 2]), ["1", "3"], 0.5),
    "mean absolute error": ("mae", np.array([[1.0], [3.0]]), [2, 5], -1.5),
    "root mean squared error": ("rmse", np.array([[1.0], [4.0]]), [1, 7], -np.sqrt(4.5)),
    "errors of unsigned values": ("mae", np.array([1, 2], np.uint8), [3, 2], -1.0),
    "half precision adds up in full": ("mae", np.full(3000, 1, np.float16), np.zeros(3000), -1.0),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_metric_is_what_it_is_defined_as(name: str) -> None:
    metric, values, labels, expected = VALUES[name]
    assert METRICS[metric](values, np.asarray(labels)) == pytest.approx(expected)


@given(st.integers(1, 30), st.integers(2, 9), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=50)
def test_top_k_is_what_sorting_says(rows: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, labels = rng.standard_normal((rows, classes)), rng.integers(0, classes, rows)
    for k in (1, 5):
        hits = [
            label in sorted(range(classes), key=lambda c: -row[c])[:k]
            for row, label in zip(scores, labels, strict=True)
        ]
        assert METRICS[f"top{k}"](scores, labels) == pytest.approx(np.mean(hits))


@pytest.mark.parametrize("metric", ["mae", "rmse"])
def test_an_error_grows_when_the_values_leave_their_labels(metric: str) -> None:
    labels = np.arange(5.0)
    near, far = (METRICS[metric](labels + off, labels) for off in (0.1, 0.2))
    assert far < near < 0 == METRICS[metric](labels, labels)


def with_metric(folder: Path, metric: str, code: str = "", output: str = "") -> Project:
    more = f", output: {output}" if output else ""
    block = f"source: {{onnx: model.onnx}}\nevaluate: {{data: data.npz, metric: '{metric}'{more}}}"
    return project(folder, block, model_onnx=b"", data_npz=b"", metric_py=code)


OUTPUTS = {
    "label": np.array([0, 1]),
    "scores": np.array([[0.9, 0.1], [0.2, 0.8]], np.float32),
    "size": np.array([1.0, 2.0]),
}


def test_a_metric_reads_the_first_floating_point_output_or_the_one_it_is_told(tmp_path: Path) -> None:
    assert measure_metric(with_metric(tmp_path / "a", "top1"), "m", OUTPUTS, np.array([0, 0])) == 0.5
    assert measure_metric(with_metric(tmp_path / "b", "mae", output="size"), "m", OUTPUTS, np.array([1, 3])) == -0.5
    assert (
        measure_metric(with_metric(tmp_path / "c", "accuracy", output="label"), "m", OUTPUTS, np.array([0, 1])) == 1.0
    )
    only = {"label": np.array([5, 6])}
    assert measure_metric(with_metric(tmp_path / "d", "accuracy"), "m", only, np.array([5, 5])) == 0.5


def test_a_metric_of_the_users_gets_all_outputs_and_the_labels(tmp_path: Path) -> None:
    code = (
        "def share(outputs, labels):\n    assert set(outputs) == {'label', 'scores', 'size'}\n"
        "    return (outputs['label'] == labels).mean()\n"
    )
    assert measure_metric(with_metric(tmp_path, "metric.py:share", code), "m", OUTPUTS, np.array([0, 0])) == 0.5


@pytest.mark.parametrize("given", ["0.5", "np.float32(0.5)", "np.array([0.5])", "True"])
def test_a_metric_of_the_users_may_give_any_one_number(given: str, tmp_path: Path) -> None:
    code = f"import numpy as np\ndef metric(outputs, labels):\n    return {given}\n"
    found = measure_metric(with_metric(tmp_path, "metric.py:metric", code), "m", OUTPUTS, np.array([0, 0]))
    assert found == (1.0 if given == "True" else 0.5)
    assert isinstance(found, float)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("None", "gave 'None', a NoneType; one number is needed"),
        ("'high'", "gave 'high', a str; one number is needed"),
        ("[0.5, 0.5]", "gave '[0.5, 0.5]', a list; one number is needed"),
    ],
)
def test_a_metric_of_the_users_that_gives_no_number_is_refused(given: str, sentence: str, tmp_path: Path) -> None:
    made = with_metric(tmp_path, "metric.py:metric", f"def metric(outputs, labels):\n    return {given}\n")
    with pytest.raises(DataError) as caught:
        measure_metric(made, "m", OUTPUTS, np.array([0, 0]))
    assert str(caught.value) == f"trtkit.yaml:4:32: the metric 'metric.py:metric' {sentence}"


def test_a_metric_of_the_users_that_raises_is_named_with_its_line(tmp_path: Path) -> None:
    made = with_metric(tmp_path, "metric.py:metric", "def metric(outputs, labels):\n    return outputs['missing']\n")
    with pytest.raises(
        ExportError, match=r"^trtkit.yaml:4:32: 'metric.py:metric' raised KeyError: 'missing' \(metric.py:2\)"
    ):
        measure_metric(made, "m", OUTPUTS, np.array([0, 0]))


UNFIT = {
    "one column": (
        "top1",
        "scores",
        np.array([[0.5], [0.6]]),
        [0, 1],
        "it needs one score per class [rows, classes], the output has",
    ),
    "no classes": ("top1", "scores", np.array([0.5, 0.6]), [0, 1], "it needs one score per class"),
    "words for classes": (
        "top1",
        "scores",
        SCORES,
        ["a", "b", "c", "d"],
        "it needs scores and the index of each class",
    ),
    "words for scores": ("top1", "scores", np.array([["a", "b"]]), [0], "it needs scores and the index of each class"),
    "too few labels": ("top1", "scores", SCORES, [1, 0], "it needs 4 labels, got the shape [2]"),
    "one label for many": ("top1", "scores", SCORES, [1], "it needs 4 labels, got the shape [1]"),
    "labels one hot": ("top1", "scores", SCORES, np.eye(4, 3, dtype=int), "it needs 4 labels, got the shape [4, 3]"),
    "many values per label": ("mae", "scores", SCORES, [1, 2, 3, 4], "it needs 12 labels, got the shape [4]"),
    "one label for all values": ("rmse", "scores", SCORES, [1], "it needs 12 labels, got the shape [1]"),
    "too many classes": ("accuracy", "scores", np.array([1, 2]), [1, 2, 3], "it needs 2 labels, got the shape [3]"),
    "errors of words": ("mae", "scores", WORDS, [1, 2, 3], "could not convert string to float"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_outputs_and_labels_that_do_not_fit_are_refused(name: str, tmp_path: Path) -> None:
    """numpy would make something of most of them: one label is compared with every row, one hot with each."""
    metric, output, values, labels, sentence = UNFIT[name]
    with pytest.raises(DataError) as caught:
        measure_metric(with_metric(tmp_path, metric, output=output), "m", {output: values}, np.asarray(labels))
    assert str(caught.value).startswith(f"trtkit.yaml:4:32: {metric} does not fit the output and labels: {sentence}")


def test_a_metric_or_output_that_there_is_not_is_refused_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(
        ProjectError, match=r"^trtkit.yaml:4:32: no metric 'accurate'; did you mean 'accuracy'\? .*, or FILE.py:NAME"
    ):
        measure_metric(with_metric(tmp_path / "a", "accurate"), "m", OUTPUTS, np.array([0]))
    with pytest.raises(
        ProjectError, match=r"^trtkit.yaml:4:48: the model has no output 'score'; did you mean 'scores'"
    ):
        measure_metric(with_metric(tmp_path / "b", "top1", output="score"), "m", OUTPUTS, np.array([0]))


@pytest.mark.parametrize(
    ("reference_value", "served", "passed"),
    [
        (0.9, 0.9, True),
        (0.9, 0.8951, True),
        (0.9, 0.89, False),
        (0.9, 1.0, True),
        (float("nan"), 0.9, False),
        (0.9, float("nan"), False),
    ],
)
def test_a_drop_inside_the_budget_passes_and_nan_does_not(reference_value: float, served: float, passed: bool) -> None:
    assert MetricResult("http", "top1", reference_value, served, 0.005).passed is passed


# --- JUnit XML


def report(model: str, output: str, problem: str, metric: str) -> ModelReport:
    wrong = Difference(4, outside=1, max_abs=0.5, worst=(1,), worst_reference=problem, worst_actual="2")
    outputs = [
        OutputResult("http", output, 0.0, 0.0, Difference(4)),
        OutputResult("grpc", output, 0.0, 0.0, wrong),
        OutputResult("grpc", output, 0.0, 0.0, Difference(0, problem=problem)),
    ]
    metrics = [MetricResult("http", metric, 0.9, 0.9, 0.0), MetricResult("grpc", metric, 0.9, 0.1, 0.0)]
    return ModelReport(model, 1, "fp32", 4, "data", outputs, metrics)


def parsed(text: str) -> ElementTree.Element:
    """As a CI system reads the file."""
    return ElementTree.fromstring(text.encode("utf-8"))


def test_a_report_counts_what_it_holds() -> None:
    root = parsed(junit_xml([report("m", "y", "shape", "top1"), report("n", "z", "type", "mae")]))
    assert [(suite.get("name"), suite.get("tests"), suite.get("failures"), suite.get("errors")) for suite in root] == [
        ("m", "5", "3", "0"),
        ("n", "5", "3", "0"),
    ]
    cases = root[0].findall("testcase")
    assert [case.get("name") for case in cases] == ["http y", "grpc y", "grpc y", "http top1", "grpc top1"]
    assert {case.get("classname") for case in cases} == {"trtkit.m"}
    failures = [case.find("failure") for case in cases]
    assert [failure is not None for failure in failures] == [False, True, True, False, True]
    assert failures[1].text == failures[1].get("message")
    assert "1 of 4 elements outside" in failures[1].text
    assert "the worst is element [1]: served 2, reference shape" in failures[1].text
    assert failures[4].text == "top1 over grpc: served 0.1000, reference 0.9000, allowed drop 0"


def test_a_report_is_utf_8_whatever_the_locale_says() -> None:
    text = junit_xml([report("m", "zażółć", "名前", "top1")])
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n')
    assert text.endswith("</testsuites>\n")
    assert parsed(text)[0].findall("testcase")[0].get("name") == "http zażółć"


def test_no_models_are_an_empty_report() -> None:
    assert len(parsed(junit_xml([]))) == 0


ANY_TEXT = st.text(st.characters(codec=None), max_size=40)


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT, ANY_TEXT)
@settings(deadline=None, max_examples=200)
def test_any_names_and_sentences_give_xml_that_can_be_written_and_read(
    model: str, output: str, problem: str, metric: str
) -> None:
    root = parsed(junit_xml([report(model, output, problem, metric)]))
    assert [len(suite) for suite in root] == [5]


@pytest.mark.parametrize("code", [0x0, 0x8, 0x1B, 0xD800, 0xDFFF, 0xFFFE, 0xFFFF], ids=hex)
def test_what_xml_cannot_hold_becomes_a_question_mark(code: int) -> None:
    character = chr(code)
    suite = parsed(junit_xml([report(f"m{character}", f"y{character}", character, "a")]))[0]
    assert (suite.get("name"), suite[0].get("name"), suite[0].get("classname")) == ("m?", "http y?", "trtkit.m?")


@pytest.mark.parametrize("text", ["<a&b>", "]]>", "\"quoted\" 'too'", "é\U0001f600", "a\tb"])
def test_what_xml_can_hold_is_kept(text: str) -> None:
    assert parsed(junit_xml([report("m", text, "p", "a")]))[0][0].get("name") == f"http {text}"


# --- references


class FakeClient:
    """A server of Python models: what they answer, and what they were asked."""

    def __init__(self, models: dict[str, Any], signatures: dict[str, Signature], outputs: list[str]) -> None:
        self.models, self.signatures, self.outputs = models, signatures, outputs
        self.url = "here:8000"
        self.asked: list[tuple[str, dict[str, tuple[int, ...]]]] = []

    def ready_models(self) -> dict[str, list[str]]:
        return {"double": ["1"], "add": ["1", "2"]}

    def signature(self, model: str) -> Signature:
        return self.signatures[model]

    def config(self, model: str) -> ModelConfig:
        if model in self.signatures:
            signature = self.signatures[model]
            inputs, outputs = ([spec.name for spec in side] for side in (signature.inputs, signature.outputs))
        else:
            inputs, outputs = (["X"], self.outputs) if model == "pipeline" else (["x"], ["y"])
        return ModelConfig(input=[{"name": name} for name in inputs], output=[{"name": name} for name in outputs])

    def infer(self, model: str, inputs: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((model, {name: array.shape for name, array in inputs.items()}))
        return self.models[model](**inputs)


PROJECT = """
models:
  double:
    source: {onnx: model.onnx}
  pipeline:
    ensemble:
      - {model: add, inputs: {left: twice, right: one}, outputs: {sum: SUM}}
      - {model: double, inputs: {x: X}, outputs: {y: twice}}
      - {model: ones, inputs: {like: X}, outputs: {out: one}}
"""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Project, FakeClient, PublishedVersion]:
    """A project whose model `double`, one value per row, is published; and a server of two Python models."""
    (tmp_path / "model.onnx").write_bytes(b"")
    (tmp_path / "trtkit.yaml").write_text(PROJECT)
    made = load_project(tmp_path / "trtkit.yaml")
    folder = tmp_path / "exported"
    folder.mkdir()
    (folder / MODEL_FILE).write_bytes(onnx_models.scalar_per_row().SerializeToString())
    artifact = Cache(made.state).store("onnx", folder)
    version = PublishedVersion("double", 1, tmp_path / "1", {"reference": artifact.sha256})
    monkeypatch.setattr(reference, "versions", lambda _, model: [version] if model == "double" else [])

    def spec(name: str) -> TensorSpec:
        return TensorSpec(name, by_name("FP32"), ("batch", 1))

    client = FakeClient(
        {"add": lambda left, right: {"sum": left + right}, "ones": lambda like: {"out": np.ones_like(like)}},
        {
            "add": Signature((spec("left"), spec("right")), (spec("sum"),)),
            "ones": Signature((spec("like"),), (spec("out"),)),
        },
        ["SUM", "twice"],
    )
    return made, client, version


def test_the_reference_of_a_model_is_its_graph(served: Any) -> None:
    made, client, version = served
    run = reference.reference_for(made, "double", version, client)
    np.testing.assert_array_equal(run({"x": np.array([1, 2], np.float32)})["y"], [2, 4])
    assert client.asked == []


def test_one_value_per_row_may_come_with_the_axis_that_triton_adds(served: Any) -> None:
    made, client, version = served
    run = reference.reference_for(made, "double", version, client)
    np.testing.assert_array_equal(run({"x": np.array([[1], [2]], np.float32)})["y"], [2, 4])


def test_the_reference_of_an_ensemble_is_its_steps_in_the_order_of_their_tensors(served: Any) -> None:
    made, client, version = served
    run = reference.reference_for(made, "pipeline", version, client)
    outputs = run({"X": np.array([[3], [4]], np.float32)})
    assert list(outputs) == ["SUM", "twice"]
    np.testing.assert_array_equal(outputs["twice"].ravel(), [6, 8])
    np.testing.assert_array_equal(outputs["SUM"].ravel(), [7, 9])
    assert client.asked == [("ones", {"like": (2, 1)}), ("add", {"left": (2, 1), "right": (2, 1)})]


def test_a_reference_that_is_gone_or_changed_is_said_with_the_remedy(served: Any) -> None:
    made, client, version = served
    file = made.state / "objects" / version.record["reference"] / MODEL_FILE
    file.write_bytes(file.read_bytes() + b"\0")
    sentence = "model 'double': the reference of version 1 is not in the cache, or was changed there; run `trtkit build"
    with pytest.raises(DataError, match=sentence):
        reference.reference_for(made, "double", version, client)
    unknown = PublishedVersion("double", 1, made.root, {})
    with pytest.raises(DataError, match=r"is not recorded \(trtkit did not publish it\); run `trtkit build double`"):
        reference.reference_for(made, "double", unknown, client)


def test_a_step_is_never_its_own_reference(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server serves a version of `double` that is not published here: nothing to compare with."""
    made, client, version = served
    monkeypatch.setattr(client, "ready_models", lambda: {"double": ["2"]})
    with pytest.raises(
        DataError,
        match="model 'double': the server at here:8000 serves version 2, which is not in .*, so that there is no",
    ):
        reference.reference_for(made, "pipeline", version, client)


def test_a_step_that_nobody_feeds_is_said(served: Any) -> None:
    made, client, version = served
    run = reference.reference_for(made, "pipeline", version, client)
    with pytest.raises(DataError, match="ensemble 'pipeline': step 'add' has no tensor 'one' to read"):
        run({})


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8", "fp8", "int8+fp16"])
@pytest.mark.parametrize("largest", [0.01, 1.0, 30.0])
def test_below_fp32_the_absolute_tolerance_is_in_units_of_the_output(precision: str, largest: float) -> None:
    rtol, atol = tolerance_for(precision, by_name("FP32"), "y", Tolerance(), largest)
    table = TOLERANCES[precision.partition("+")[0]]
    assert rtol == table[0]
    assert atol == pytest.approx(table[1] * largest)
    assert tolerance_for(precision, by_name("FP32"), "y", Tolerance(atol=0.5), largest)[1] == 0.5, "given, so as given"
    assert tolerance_for("fp32", by_name("FP32"), "y", Tolerance(), largest) == TOLERANCES["fp32"]


def test_an_output_of_zeros_has_the_tables_tolerance() -> None:
    assert largest_value(np.zeros(3, np.float32)) == 0.0
    assert tolerance_for("fp16", by_name("FP32"), "y", Tolerance(), 0.0) == TOLERANCES["fp16"]


@pytest.mark.parametrize(
    ("values", "largest"),
    [([1.0, -3.0, np.nan, np.inf], 3.0), ([np.nan], 0.0), ([], 0.0), ([2, -7], 7.0), (["text"], 0.0)],
)
def test_the_largest_value(values: list[object], largest: float) -> None:
    assert largest_value(np.array(values)) == largest


@pytest.mark.parametrize(
    ("precision", "dtype", "share"),
    [
        ("fp32", "INT64", 0.0), ("ensemble", "BYTES", 0.0), ("fp32", "FP32", 0.0), ("fp16", "FP32", 0.0),
        ("fp16", "INT64", 0.02), ("int8", "FP32", 0.02), ("int8", "BYTES", 0.02), ("fp8+fp16", "FP32", 0.02),
    ],
)  # fmt: skip
def test_what_share_may_be_outside(precision: str, dtype: str, share: float) -> None:
    assert outside_share(precision, by_name(dtype)) == share


@pytest.mark.parametrize(("wrong", "passes"), [(2, True), (3, False)])
def test_a_share_of_the_elements_may_be_outside(wrong: int, passes: bool) -> None:
    actual = np.zeros(100, np.int64)
    actual[:wrong] = 5
    result = difference(np.zeros(100, np.int64), actual, 0.0, 0.0, share=0.02)
    assert (result.outside, result.allowed, result.passed) == (wrong, 2, passes)
    assert result.to_json()["passed"] is passes
