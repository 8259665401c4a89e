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
    """The share of rows whose label is among the k highest scores [rows, classes]; larger is better."""

    def metric(scores: Array, labels: Array) -> float:
        if scores.ndim < 2:
            raise DataError(f"top{k} needs scores [rows, classes], got the shape {list(scores.shape)}")
        flat = scores.reshape(len(scores), -1)
        best = np.argsort(-flat, axis=1, kind="stable")[:, :k]
        return float((best == np.asarray(labels).reshape(-1, 1)).any(axis=1).mean())

    return metric


def accuracy(values: Array, labels: Array) -> float:
    """The share of rows that equal their label, as numbers or as text; larger is better."""
    return float(
        np.mean([_text(v) == _text(label) for v, label in zip(values.ravel(), np.asarray(labels).ravel(), strict=True)])
    )


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def negative_mae(values: Array, labels: Array) -> float:
    """Minus the mean absolute error, so that larger is better, in the label's unit."""
    return -float(np.abs(values.ravel().astype(np.float64) - np.asarray(labels).ravel()).mean())


def negative_rmse(values: Array, labels: Array) -> float:
    """Minus the root of the mean squared error, so that larger is better, in the label's unit."""
    return -float(np.sqrt(np.square(values.ravel().astype(np.float64) - np.asarray(labels).ravel()).mean()))


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
        DataError: the outputs do not fit the metric or the labels.
        ExportError: the user's metric raised.
    """
    evaluate = project.models[model].evaluate
    assert evaluate is not None and evaluate.metric is not None, f"{model} has no metric"
    where = project.where("models", model, "evaluate", "metric")
    if is_callable_reference(evaluate.metric):
        return float(call(evaluate.metric, project.root, where, dict(outputs), labels))
    if evaluate.metric not in METRICS:
        raise ProjectError(
            f"{where}: no metric '{evaluate.metric}'; {nearest(evaluate.metric, METRICS)}, or FILE.py:NAME"
        )
    values = _metric_output(outputs, evaluate.output, where)
    if len(values) != len(labels):
        raise DataError(f"{where}: {len(labels)} labels for an output of {len(values)} rows")
    try:
        return METRICS[evaluate.metric](values, labels)
    except (TypeError, ValueError) as exc:
        raise DataError(f"{where}: {evaluate.metric} does not fit the output and labels: {exc}") from exc


def _metric_output(outputs: Mapping[str, Array], name: str | None, where: str) -> Array:
    if name is not None:
        if name not in outputs:
            raise ProjectError(f"{where}: the model has no output '{name}'; {nearest(name, outputs)}")
        return outputs[name]
    return next((array for array in outputs.values() if array.dtype.kind == "f"), next(iter(outputs.values())))
