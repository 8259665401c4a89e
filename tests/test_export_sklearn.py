# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""scikit-learn sources: each kind of estimator exported, and its graph compared with its own answers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris

from exporting import Result, export_python
from trtkit.errors import ExportError, MissingDependencyError
from trtkit.export import parity, sklearn_outputs, sklearn_source
from trtkit.export.onnx_file import MODEL_FILE
from trtkit.numerics import difference

FLOWERS, KINDS = load_iris(return_X_y=True)
FLOWERS = FLOWERS.astype(np.float32)

HEAD = """
import numpy as np
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
X, y = load_iris(return_X_y=True)
X = X.astype(np.float32)
names = np.array(["setosa", "versicolor", "virginica"])
target = X[:, 0] * 2 + X[:, 1]
"""


def made(folder: Path, code: str, block: str = "") -> Result:
    """Export what the expression in the last line of the code gives."""
    *imports, expression = code.strip().splitlines()
    lines = "\n".join(imports)
    return export_python(folder, "sklearn", f"{HEAD}\n{lines}\n\ndef make():\n    return {expression}\n", block)


LINEAR = "from sklearn.linear_model import *\n"
ENSEMBLE = "from sklearn.ensemble import *\n"
SVM = "from sklearn.svm import *\n"
LABELS, BYTES = "label INT64 [batch]", "label BYTES [batch]"
THREE = "FP32 [batch, 3]"
# name -> the code, and the outputs it has to have
ESTIMATORS = {
    "classes that are words": (
        f"{LINEAR}make_pipeline(StandardScaler(), LogisticRegression()).fit(X, names[y])",
        [BYTES, f"probabilities {THREE}"],
    ),
    "classes that are numbers from 5": (
        f"{LINEAR}LogisticRegression(max_iter=500).fit(X, y + 5)",
        [LABELS, f"probabilities {THREE}"],
    ),
    "two classes": (
        f"{LINEAR}LogisticRegression(max_iter=500).fit(X, y == 1)",
        [LABELS, "probabilities FP32 [batch, 2]"],
    ),
    "a search over parameters": (
        "from sklearn.model_selection import GridSearchCV\n"
        + LINEAR
        + "GridSearchCV(LogisticRegression(max_iter=500), {'C': [0.5, 1]}, cv=2).fit(X, names[y])",
        [BYTES, f"probabilities {THREE}"],
    ),
    "a tree": (
        "from sklearn.tree import *\nDecisionTreeClassifier(random_state=0).fit(X, names[y])",
        [BYTES, f"probabilities {THREE}"],
    ),
    "a forest": (f"{ENSEMBLE}RandomForestClassifier(10, random_state=0).fit(X, y)", [LABELS, f"probabilities {THREE}"]),
    "boosted trees": (
        f"{ENSEMBLE}GradientBoostingClassifier(n_estimators=5, random_state=0).fit(X, y)",
        [LABELS, f"probabilities {THREE}"],
    ),
    "histogram boosted trees": (
        f"{ENSEMBLE}HistGradientBoostingClassifier(max_iter=5, random_state=0).fit(X, y)",
        [LABELS, f"probabilities {THREE}"],
    ),
    "a perceptron": (
        "from sklearn.neural_network import *\nMLPClassifier((8,), early_stopping=True, random_state=0).fit(X, y == 2)",
        [LABELS, "probabilities FP32 [batch, 2]"],
    ),
    "neighbours": (
        "from sklearn.neighbors import *\nKNeighborsClassifier(3).fit(X, y)",
        [LABELS, f"probabilities {THREE}"],
    ),
    "naive Bayes": ("from sklearn.naive_bayes import *\nGaussianNB().fit(X, y)", [LABELS, f"probabilities {THREE}"]),
    "stacked": (
        f"from sklearn.naive_bayes import *\n{LINEAR}{ENSEMBLE}"
        "StackingClassifier([('a', LogisticRegression(max_iter=500)), ('b', GaussianNB())]).fit(X, y)",
        [LABELS, f"probabilities {THREE}"],
    ),
    "a linear regressor": (f"{LINEAR}Ridge().fit(X, target)", ["variable FP32 [batch, 1]"]),
    "a regressor of two": (f"{LINEAR}LinearRegression().fit(X, np.c_[target, -target])", ["variable FP32 [batch, 2]"]),
    "a forest that regresses": (
        f"{ENSEMBLE}RandomForestRegressor(10, random_state=0).fit(X, target)",
        ["variable FP32 [batch, 1]"],
    ),
    "boosted trees that regress": (
        f"{ENSEMBLE}HistGradientBoostingRegressor(max_iter=5, random_state=0).fit(X, target)",
        ["variable FP32 [batch, 1]"],
    ),
    "a support vector regressor": (f"{SVM}SVR().fit(X, target)", ["variable FP32 [batch, 1]"]),
    "clusters": (
        "from sklearn.cluster import *\nKMeans(3, n_init=1, random_state=0).fit(X)",
        [LABELS, f"scores {THREE}"],
    ),
    "principal components": ("from sklearn.decomposition import *\nPCA(2).fit(X)", ["variable FP32 [batch, 2]"]),
    "a pipeline that transforms": (
        "from sklearn.decomposition import *\nmake_pipeline(StandardScaler(), PCA(2)).fit(X)",
        ["variable FP32 [batch, 2]"],
    ),
    "outliers": (
        f"{ENSEMBLE}IsolationForest(n_estimators=10, random_state=0).fit(X)",
        ["label INT64 [batch, 1]", "scores FP32 [batch, 1]"],
    ),
    "novelties": (
        "from sklearn.neighbors import *\nLocalOutlierFactor(novelty=True).fit(X)",
        ["label INT64 [batch, 1]", "scores FP32 [batch, 1]"],
    ),
    "a mixture": (
        "from sklearn.mixture import *\nGaussianMixture(3, random_state=0).fit(X)",
        ["label INT64 [batch, 1]", f"probabilities {THREE}"],
    ),
    "support vectors without probabilities": (f"{SVM}SVC().fit(X, y)", [LABELS, f"scores {THREE}"]),
    "two classes of support vectors": (f"{SVM}SVC().fit(X, y == 1)", [LABELS, "scores FP32 [batch, 2]"]),
    "a pipeline of them": (
        f"{SVM}make_pipeline(StandardScaler(), SVC()).fit(X, names[y % 2])",
        [BYTES, "scores FP32 [batch, 2]"],
    ),
    "linear support vectors": (f"{SVM}LinearSVC().fit(X, y)", [LABELS, f"scores {THREE}"]),
    "linear support vectors of two classes": (f"{SVM}LinearSVC().fit(X, y == 1)", [LABELS, "scores FP32 [batch, 2]"]),
    "gradient descent": (f"{LINEAR}SGDClassifier(random_state=0).fit(X, y == 0)", [LABELS, "scores FP32 [batch, 2]"]),
    "ridge of two classes": (f"{LINEAR}RidgeClassifier().fit(X, y == 0)", [LABELS, "scores FP32 [batch, 2]"]),
    "a forest of two targets": (
        f"{ENSEMBLE}RandomForestClassifier(5, random_state=0).fit(X, np.c_[y, y == 1])",
        ["label INT64 [batch, 2]", f"probabilities_0 {THREE}", "probabilities_1 FP32 [batch, 2]"],
    ),
    "two targets": (
        "from sklearn.multioutput import *\n"
        + LINEAR
        + "MultiOutputClassifier(LogisticRegression(max_iter=500)).fit(X, np.c_[y, y == 1])",
        ["label INT64 [batch, 2]", f"probabilities_0 {THREE}", "probabilities_1 FP32 [batch, 2]"],
    ),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_output_of_an_estimator_is_compared_with_its_own_answer(name: str, tmp_path: Path) -> None:
    code, outputs = ESTIMATORS[name]
    result = made(tmp_path, code)
    assert result.outputs == outputs
    assert (result.inputs, result.size) == (["x FP32 [batch, 4]"], 8)
    parity = result.facts["parity"]
    assert list(parity["outputs"]) == [output.split()[0] for output in outputs]
    assert all(found["passed"] and found["elements"] >= 16 for found in parity["outputs"].values())
    assert "not_compared" not in parity
    assert (result.facts["opset"], result.facts["source"]) == (17, "sklearn")


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, (_, outputs) in ESTIMATORS.items()
        if "scores" in outputs[-1] and "batch, 1" not in outputs[-1] and name != "clusters"
    ],
)
def test_the_largest_score_is_at_the_label(name: str, tmp_path: Path) -> None:
    """skl2onnx writes the two scores of an SVC the other way round."""
    code, outputs = ESTIMATORS[name]
    answers = made(tmp_path, code).run(x=FLOWERS)
    labels = answers["label"]
    classes = np.unique(labels.astype(bytes)) if outputs[0] == BYTES else np.unique(labels)
    np.testing.assert_array_equal(classes[answers["scores"].argmax(axis=1)], labels.astype(classes.dtype))


def test_real_data_give_the_estimators_own_classes(tmp_path: Path) -> None:
    code, _ = ESTIMATORS["a tree"]
    answers = made(tmp_path, code).run(x=FLOWERS)
    names = np.array([b"setosa", b"versicolor", b"virginica"], dtype=object)
    np.testing.assert_array_equal(answers["label"], names[KINDS])
    np.testing.assert_array_equal(answers["probabilities"], np.eye(3)[KINDS])


def test_the_comparison_stands_on_real_data_where_there_are_some(tmp_path: Path) -> None:
    code = LINEAR + "LogisticRegression(max_iter=500).fit(X, y)"
    (tmp_path / "rows.py").write_text(f"{HEAD}\ndef data():\n    return {{'x': X}}, y\n")
    facts = made(tmp_path, code, "evaluate: {data: rows.py:data}").facts["parity"]
    assert (facts["data"], facts["rows"]) == ("rows.py:data", 150)


def test_outputs_are_renamed_and_compared_under_their_new_names(tmp_path: Path) -> None:
    code, _ = ESTIMATORS["classes that are words"]
    result = made(tmp_path, code, "outputs: [kind, how_sure]")
    assert result.outputs == ["kind BYTES [batch]", "how_sure FP32 [batch, 3]"]
    assert list(result.facts["parity"]["outputs"]) == ["kind", "how_sure"]


def test_too_many_names_are_refused(tmp_path: Path) -> None:
    code, _ = ESTIMATORS["a linear regressor"]
    with pytest.raises(
        ExportError,
        match=r"^trtkit.yaml:3:14: `outputs:` gives the names \['a', 'b'\], the graph has 1 outputs: variable",
    ):
        made(tmp_path, code, "outputs: [a, b]")


def test_equal_estimators_give_equal_files(tmp_path: Path) -> None:
    code, _ = ESTIMATORS["a pipeline of them"]
    first, second = (made(tmp_path / name, code) for name in ("a", "b"))
    assert (first.folder / MODEL_FILE).read_bytes() == (second.folder / MODEL_FILE).read_bytes()


# --- columns of several types

MIXED = """
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import OneHotEncoder
from sklearn.linear_model import LogisticRegression
rng = np.random.default_rng(0)
rows = np.empty((90, 4), dtype=object)
rows[:, :2] = rng.normal(size=(90, 2)).astype(np.float32)
rows[:, 2] = np.array(["red", "green", "blue"])[rng.integers(0, 3, 90)]
rows[:, 3] = rng.integers(1, 5, 90)
kind = np.where(rows[:, 2] == "red", "warm", "cold")
colors = OneHotEncoder(handle_unknown="ignore")
columns = ColumnTransformer([("n", StandardScaler(), [0, 1]), ("c", colors, [2]), ("a", "passthrough", [3])])
make_pipeline(columns, LogisticRegression(max_iter=500)).fit(rows, kind)
"""
MIXED_INPUTS = """
inputs:
  sizes: {data_type: FP32, shape: [batch, 2]}
  color: {data_type: BYTES, shape: [batch, 1]}
  age: {data_type: INT64, shape: [batch, 1]}
"""


def test_columns_of_three_types_are_three_inputs(tmp_path: Path) -> None:
    code = "from sklearn.pipeline import make_pipeline\n" + MIXED
    result = made(tmp_path, code, MIXED_INPUTS)
    assert result.inputs == ["sizes FP32 [batch, 2]", "color BYTES [batch, 1]", "age INT64 [batch, 1]"]
    assert list(result.facts["parity"]["outputs"]) == ["label", "probabilities"]
    words = np.array([[b"red"], [b"blue"]], dtype=object)
    answers = result.run(sizes=np.zeros((2, 2), np.float32), color=words, age=np.full((2, 1), 2))
    assert answers["label"].tolist() == [b"warm", b"cold"]


def frame_fitted(monkeypatch: pytest.MonkeyPatch, frame: object) -> object:
    """An estimator that says it was fitted on a data frame, and what it is then asked with."""
    monkeypatch.setitem(sys.modules, "pandas", frame)

    class Fitted:
        feature_names_in_ = np.array(["size", "color"], dtype=object)

        def predict(self, rows: object) -> object:
            self.rows = rows
            return np.zeros(2)

    return Fitted()


COLUMNS = {
    "size": np.array([[1.5], [2.5]], np.float32),
    "color": np.array([[b"red"], [b"blue"]], dtype=object),
}


def graph_of(*outputs: str) -> object:
    from exporting import graph

    text = ", ".join(f"float[batch, 1] {name}" for name in outputs)
    return graph("float[batch, 1] x", text, "\n".join(f"{name} = Neg(x)" for name in outputs)).graph


def test_an_estimator_fitted_on_a_data_frame_is_asked_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pandas:
        DataFrame = dict

    estimator = frame_fitted(monkeypatch, Pandas)
    predict = sklearn_outputs.predictions(estimator, graph_of("label"))
    assert list(predict(COLUMNS)) == ["label"]
    assert {name: list(column) for name, column in estimator.rows.items()} == {
        "size": [1.5, 2.5],
        "color": ["red", "blue"],
    }


def test_without_pandas_such_an_estimator_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    estimator = frame_fitted(monkeypatch, None)
    with pytest.raises(
        MissingDependencyError,
        match="pandas is not installed, and the Fitted was fitted on a data frame, .*: pip install pandas",
    ):
        sklearn_outputs.predictions(estimator, graph_of("label"))(COLUMNS)


def test_an_output_that_the_estimator_has_no_method_for_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sklearn_outputs, "_SCORES", ())
    code, _ = ESTIMATORS["clusters"]
    parity = made(tmp_path, code).facts["parity"]
    assert (list(parity["outputs"]), parity["not_compared"]) == (["label"], ["scores"])


def test_a_request_that_does_not_batch_is_compared_whole(tmp_path: Path) -> None:
    (tmp_path / "rows.py").write_text(f"{HEAD}\ndef data():\n    return {{'x': X}}, y\n")
    code = LINEAR + "LogisticRegression(max_iter=500).fit(X, y)"
    block = "inputs: {x: {shape: [3, 4]}}\nevaluate: {data: rows.py:data}"
    result = made(tmp_path, code, block)
    assert (result.size, result.facts["parity"]["rows"]) == (0, 3)
    block = "config: {max_batch_size: 0}\nevaluate: {data: rows.py:data}"
    assert made(tmp_path / "dynamic", code, block.replace("rows.py", "../rows.py")).facts["parity"]["rows"] == 16


def test_data_that_the_graph_cannot_take_are_said_with_the_place(tmp_path: Path) -> None:
    """A category that was not there at the fit."""
    (tmp_path / "rows.py").write_text(
        "import numpy as np\ndef data():\n    return {'x': np.array([['red'], ['mauve'], ['red']], dtype=object)}\n"
    )
    code = "from sklearn.preprocessing import *\nOneHotEncoder().fit(np.array([['red'], ['blue']], dtype=object))"
    block = "inputs: {x: {data_type: BYTES, shape: [batch, 1]}}\nevaluate: {data: rows.py:data}\n"
    with pytest.raises(ExportError, match=r"^trtkit.yaml:3:14: .*running OneHotEncoder node.*Unknown Category"):
        made(tmp_path, code, block + "config: {max_batch_size: 0}")


def test_a_classifier_that_cannot_give_its_scores_as_a_tensor_is_asked_for_what_it_has() -> None:
    asked = []

    class Skl2onnx:
        @staticmethod
        def convert_sklearn(*_: object, options: object, **__: object) -> str:
            asked.append(options)
            if options:
                raise NameError("Option 'zipmap' not in [] for class 'Own'")
            return "graph"

    class Own:
        classes_ = (0, 1)

    assert sklearn_source._converted(Skl2onnx, Own(), []) == "graph"
    assert asked == [{"zipmap": False}, None]


# --- what cannot be exported

REFUSED = {
    "not fitted": (
        f"{LINEAR}LogisticRegression()",
        "",
        "LogisticRegression does not say how many features it takes (is it fitted?)",
    ),
    "a pipeline that is not fitted": (
        f"{LINEAR}make_pipeline(StandardScaler(), LogisticRegression())",
        "",
        "Pipeline does not say how",
    ),
    "not fitted, but with inputs": (
        f"{LINEAR}LogisticRegression()",
        "inputs: {x: {shape: [batch, 4]}}",
        "skl2onnx cannot convert LogisticRegression: ",
    ),
    "no converter": (
        "from sklearn.cluster import *\nDBSCAN().fit(X)",
        "",
        "skl2onnx cannot convert DBSCAN: Unable to find a shape calculator",
    ),
    "a type skl2onnx has not": (
        f"{LINEAR}Ridge().fit(X, target)",
        "inputs: {x: {data_type: INT8, shape: [batch, 4]}}",
        "input 'x' is INT8; skl2onnx takes FP32, FP64, INT64, INT32, BOOL, BYTES, UINT8",
    ),
    "no estimator": ("3", "", "'source.py:make' gave an int; a fitted scikit-learn estimator or pipeline is needed"),
    "an ONNX model": (
        "b'1'",
        "",
        "'source.py:make' gave a bytes; a fitted scikit-learn estimator or pipeline is needed",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exported_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    code, block, sentence = REFUSED[name]
    with pytest.raises(ExportError) as caught:
        made(tmp_path, code, block)
    message = str(caught.value)
    assert message.startswith("trtkit.yaml:3:14: ")
    assert sentence in message
    assert "\n" not in message
    assert "issues" not in message, "advice for the developers of skl2onnx"


def converted_as_ridge(body: str) -> str:
    """A regressor with a `predict` of its own, which skl2onnx takes for a Ridge."""
    return (
        f"{LINEAR}class Own(Ridge):\n    def predict(self, X):\n        {body}\n"
        "from skl2onnx import update_registered_converter\n"
        "from skl2onnx.common.shape_calculator import calculate_linear_regressor_output_shapes as shapes\n"
        "from skl2onnx.operator_converters.linear_regressor import convert_sklearn_linear_regressor as converter\n"
        "update_registered_converter(Own, 'Own', shapes, converter)\n"
        "Own().fit(X, target)"
    )


def test_a_graph_that_is_not_its_estimator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match="the exported graph is not its source: output 'variable' on random data: 16 of 16 "
    ):
        made(tmp_path, converted_as_ridge("return super().predict(X) * 1.01"))


@pytest.mark.parametrize(("off", "passes"), [(0.9e-5, True), (1.2e-5, False)])
def test_what_is_near_zero_is_held_to_the_unit_of_the_largest_value(off: float, passes: bool) -> None:
    expected, actual = np.array([1e6, 0.0]), np.array([1e6, 1e6 * off])
    assert difference(expected, actual, *parity._tolerance(expected, actual)).passed is passes


@pytest.mark.parametrize(("off", "passes"), [(0.9e-4, True), (1.1e-4, False)])
def test_small_values_are_held_to_an_absolute_difference(off: float, passes: bool) -> None:
    expected, actual = np.array([0.01, 0.0], np.float32), np.array([0.01, off], np.float32)
    assert difference(expected, actual, *parity._tolerance(expected, actual)).passed is passes


def test_a_source_that_fails_on_the_data_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        made(tmp_path, converted_as_ridge("raise RuntimeError('not today')"))
    assert str(caught.value).endswith("the source itself failed on random data: RuntimeError: not today (source.py:14)")


def test_without_skl2onnx_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    code, _ = ESTIMATORS["a linear regressor"]
    with pytest.raises(MissingDependencyError, match=r"skl2onnx .*; run: pip install 'trtkit\[sklearn\]'"):
        made(tmp_path, code)
