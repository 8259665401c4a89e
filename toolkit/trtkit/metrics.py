# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Task metrics: what the model is for, as one number of outputs and labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from trtkit.errors import DataError, ProjectError, nearest
from trtkit.numerics import Array
from trtkit.project import Project
from trtkit.project.callables import call, is_callable_reference


def top_k(k: int) -> Callable[[Array, Array], float]:
    """The share of rows whose label is among the k highest scores [rows, classes]; larger is better.

    A label is the index of its class. Of equal scores the first class counts; a NaN is the lowest score.
    """

    def metric(scores: Array, labels: Array) -> float:
        if scores.ndim < 2 or scores[0].size < 2:
            raise ValueError(
                f"it needs one score per class [rows, classes], the output has the shape {list(scores.shape)}"
            )
        if scores.dtype.kind not in "fiu" or labels.dtype.kind not in "iu":
            raise ValueError(
                f"it needs scores and the index of each class, got {scores.dtype} and labels of {labels.dtype}"
            )
        flat = scores.reshape(len(scores), -1).astype(np.float64)
        best = np.argsort(-flat, axis=1, kind="stable")[:, :k]
        return float((best == _one_per_row(labels, len(scores))[:, np.newaxis]).any(axis=1).mean())

    return metric


def accuracy(values: Array, labels: Array) -> float:
    """The share of values that equal their label, as numbers or as text; larger is better."""
    flat, wanted = values.ravel(), _one_per_row(labels, values.size)
    if flat.dtype.kind in "biuf" and wanted.dtype.kind in "biuf":
        return float((flat == wanted).mean())
    return float(
        np.mean([_text(value) == _text(label) for value, label in zip(flat.tolist(), wanted.tolist(), strict=True)])
    )


def _one_per_row(labels: Array, count: int) -> Array:
    if labels.size != count:
        raise ValueError(f"it needs {count} labels, got the shape {list(labels.shape)}")
    return labels.ravel()


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def negative_mae(values: Array, labels: Array) -> float:
    """Minus the mean absolute error, so that larger is better, in the label's unit."""
    return -float(np.abs(_errors(values, labels)).mean())


def negative_rmse(values: Array, labels: Array) -> float:
    """Minus the root of the mean squared error, so that larger is better, in the label's unit."""
    return -float(np.sqrt(np.square(_errors(values, labels)).mean()))


def _errors(values: Array, labels: Array) -> Array:
    return values.ravel().astype(np.float64) - _one_per_row(labels, values.size).astype(np.float64)


METRICS: dict[str, Callable[[Array, Array], float]] = {
    "top1": top_k(1),
    "top5": top_k(5),
    "accuracy": accuracy,
    "mae": negative_mae,
    "rmse": negative_rmse,
}


def measure_metric(project: Project, model: str, outputs: Mapping[str, Array], labels: Array) -> float:
    """The model's ``evaluate.metric`` on its outputs; larger is better.

    Raises:
        ProjectError: no such metric or output.
        DataError: the outputs do not fit the metric or the labels, or the user's metric gave no number.
        ExportError: the user's metric raised.
    """
    evaluate = project.models[model].evaluate
    assert evaluate is not None, f"{model} has no evaluate block"
    assert evaluate.metric is not None, f"{model} has no metric"
    where = project.where("models", model, "evaluate", "metric")
    name = evaluate.metric
    if is_callable_reference(name):
        return _number(call(name, project.root, where, dict(outputs), labels), f"{where}: the metric '{name}'")
    if name not in METRICS:
        raise ProjectError(f"{where}: no metric '{name}'; {nearest(name, METRICS)}, or FILE.py:NAME")
    values = _metric_output(outputs, evaluate.output, project.where("models", model, "evaluate", "output"))
    try:
        return METRICS[name](values, np.asarray(labels))
    except (TypeError, ValueError) as exc:
        raise DataError(f"{where}: {name} does not fit the output and labels: {exc}") from exc


def _number(value: object, what: str) -> float:
    """What a user's metric gave as a float; DataError when it is no single number."""
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise DataError(f"{what} gave {str(value)[:80]!r}, a {type(value).__name__}; one number is needed")
    return float(array.reshape(()))


def _metric_output(outputs: Mapping[str, Array], name: str | None, where: str) -> Array:
    if name is not None:
        if name not in outputs:
            raise ProjectError(f"{where}: the model has no output '{name}'; {nearest(name, outputs)}")
        return outputs[name]
    return next((array for array in outputs.values() if array.dtype.kind == "f"), next(iter(outputs.values())))
