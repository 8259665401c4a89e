# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The outputs of a converted estimator: named for what they are, one row per sample, and the estimator's own."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from trtkit.errors import MissingDependencyError
from trtkit.export.quiet import quiet
from trtkit.export.sources import Predict
from trtkit.numerics import Array

# what a second output of a graph with a `predict` holds, the first that the estimator has
_SCORES = ("predict_proba", "decision_function", "transform")
# skl2onnx writes the two scores of a binary one the wrong way round: the largest is not the label's
_SWAPPED = ("SVC", "NuSVC")


def fit_outputs(graph: onnx.GraphProto, estimator: Any) -> None:
    """Name and shape a classifier's scores, in place.

    One that has no `predict_proba` gives ``scores``, its `decision_function` per class, with the largest at the
    label; a binary one's is minus and plus the function, as it has one value only.
    One with several targets gives ``probabilities_0``, ``probabilities_1`` and so on, each [batch, classes].
    """
    classes = getattr(estimator, "classes_", None)
    if classes is None or len(graph.output) != 2:
        return
    if isinstance(classes, list | tuple):
        _split_targets(graph, [len(of_target) for of_target in classes])
    elif not hasattr(estimator, "predict_proba"):
        if len(classes) == 2:
            _both_sides(graph, swapped=type(_last_step(estimator)).__name__ in _SWAPPED)
        else:
            graph.node.append(helper.make_node("Identity", [graph.output[-1].name], ["scores"], name="scores"))
            graph.output[-1].name = "scores"


def _last_step(estimator: Any) -> Any:
    """The estimator inside pipelines and parameter searches."""
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif getattr(estimator, "steps", None):
            estimator = estimator.steps[-1][1]
        else:
            return estimator


def _both_sides(graph: onnx.GraphProto, swapped: bool) -> None:
    """``scores`` [batch, 2], minus and plus the decision function, of one column or two in either order."""
    last = graph.output.pop().name
    for key, value in {"from": -1, "to": np.iinfo(np.int64).max, "axis": 1}.items():
        graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), f"scores_{key}"))
    sides = ["scores_last", "scores_other"] if swapped else ["scores_other", "scores_last"]
    graph.node.extend(
        [
            helper.make_node(
                "Slice", [last, "scores_from", "scores_to", "scores_axis"], ["scores_last"], name="scores_last"
            ),
            helper.make_node("Neg", ["scores_last"], ["scores_other"], name="scores_other"),
            helper.make_node("Concat", sides, ["scores"], name="scores", axis=1),
        ]
    )
    graph.output.append(helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [None, 2]))


def _split_targets(graph: onnx.GraphProto, classes: Sequence[int]) -> None:
    """One output per target, of a sequence of them or of a tensor [targets, batch, most classes]."""
    output = graph.output.pop()
    sequence = output.type.HasField("sequence_type")
    for index, count in enumerate(classes):
        name, constants = f"probabilities_{index}", {"index": index, "from": [0], "to": [count], "axis": [1]}
        for key, value in constants.items():
            graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), f"{name}_{key}"))
        if sequence:
            graph.node.append(helper.make_node("SequenceAt", [output.name, f"{name}_index"], [f"{name}_all"]))
        else:
            graph.node.append(helper.make_node("Gather", [output.name, f"{name}_index"], [f"{name}_all"], axis=0))
        bounds = [f"{name}_{key}" for key in ("from", "to", "axis")]
        graph.node.append(helper.make_node("Slice", [f"{name}_all", *bounds], [name]))
        graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, count]))


def predictions(estimator: Any, graph: onnx.GraphProto) -> Predict:
    """The function from inputs to the estimator's own answers, by the names of the graph's outputs."""
    names = [output.name for output in graph.output]
    methods = ["predict"] if hasattr(estimator, "predict") else ["transform"]
    methods += [method for method in _SCORES if methods == ["predict"] and hasattr(estimator, method)][:1]

    def predict(inputs: Mapping[str, Array]) -> dict[str, Array]:
        rows = _rows(estimator, inputs)
        answers: list[Array] = []
        with quiet():
            for method, _ in zip(methods, names, strict=False):
                answers += _arrays(
                    getattr(estimator, method)(rows), method == "decision_function" and hasattr(estimator, "classes_")
                )
        return dict(zip(names, answers, strict=False))

    return predict


def _arrays(answer: Any, binary: bool) -> list[Array]:
    """An answer as arrays: one per target where it is a list, both sides of a binary classifier's score."""
    if isinstance(answer, list):
        return [np.asarray(of_target) for of_target in answer]
    array = np.asarray(answer)
    if array.ndim == 1 and binary:
        return [np.stack([-array, array], axis=1)]
    return [array]


def _rows(estimator: Any, inputs: Mapping[str, Array]) -> Any:
    """The inputs as the estimator takes them: an array, or a data frame if it was fitted on one."""
    arrays = {name: _text(array).reshape(len(array), -1) for name, array in inputs.items()}
    fitted = getattr(estimator, "feature_names_in_", None)
    if fitted is not None and len(arrays) > 1:
        return _frame(arrays, list(fitted), type(estimator).__name__)
    mixed = any(array.dtype == object for array in arrays.values())
    columns = [array.astype(object) if mixed else array for array in arrays.values()]
    return np.concatenate(columns, axis=1) if len(columns) > 1 else columns[0]


def _frame(arrays: Mapping[str, Array], fitted: list[str], kind: str) -> Any:
    try:
        data_frame: Any = importlib.import_module("pandas").DataFrame
    except ImportError as exc:
        raise MissingDependencyError(
            f"pandas is not installed, and the {kind} was fitted on a data frame, which its export is compared on; "
            "run: pip install pandas"
        ) from exc
    columns = [array[:, index] for array in arrays.values() for index in range(array.shape[1])]
    named = set(arrays) == set(fitted)
    return data_frame(dict(zip(arrays if named else fitted, columns, strict=True)))


def _text(array: Array) -> Array:
    if array.dtype != object:
        return array
    out = np.empty(array.size, dtype=object)
    out[:] = [item.decode() if isinstance(item, bytes) else item for item in array.ravel().tolist()]
    return out.reshape(array.shape)
