# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""scikit-learn estimators and pipelines to ONNX, by skl2onnx."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx

from trtkit.compat import OPSET_EXPORT, OPSET_ML_EXPORT, require
from trtkit.errors import ExportError
from trtkit.export.sources import Predict, rename_outputs
from trtkit.numerics import Array
from trtkit.project import InputSpec, ModelSpec

DEFAULT_INPUT = "x"


def convert_estimator(estimator: Any, spec: ModelSpec, where: str) -> tuple[onnx.ModelProto, Predict]:
    """Convert a fitted estimator; classifiers give ``label`` and ``probabilities``.

    Without ``inputs:`` in the project file the graph has one input, ``x`` FP32 [batch, n_features_in_].

    Raises:
        ExportError: it is not fitted, or skl2onnx cannot convert it.
    """
    skl2onnx = require("skl2onnx")
    inputs = dict(spec.inputs) or {DEFAULT_INPUT: _default_input(estimator, where)}
    classifier = hasattr(estimator, "classes_") and hasattr(estimator, "predict")
    try:
        model = skl2onnx.convert_sklearn(
            estimator,
            initial_types=[(name, _sklearn_type(skl2onnx, input_)) for name, input_ in inputs.items()],
            options={"zipmap": False} if classifier and hasattr(estimator, "predict_proba") else None,
            target_opset={"": OPSET_EXPORT, "ai.onnx.ml": OPSET_ML_EXPORT},
        )
    except Exception as exc:  # skl2onnx raises anything from KeyError to its own NameError-like classes
        raise ExportError(
            f"{where}: skl2onnx cannot convert {type(estimator).__name__}: {' '.join(str(exc).split())[:500]}"
        ) from exc
    if spec.outputs:
        rename_outputs(model, spec.outputs, where)
    return model, _predict(estimator, [output.name for output in model.graph.output])


def _default_input(estimator: Any, where: str) -> InputSpec:
    features = getattr(estimator, "n_features_in_", None)
    if features is None:
        raise ExportError(
            f"{where}: {type(estimator).__name__} does not say how many features it takes (is it fitted?); "
            "fit it, or give `inputs:`"
        )
    return InputSpec(data_type="FP32", shape=["batch", int(features)])


def _sklearn_type(skl2onnx: Any, spec: InputSpec) -> Any:
    types = skl2onnx.common.data_types
    names = {
        "FP32": "FloatTensorType", "FP64": "DoubleTensorType", "INT64": "Int64TensorType", "INT32": "Int32TensorType",
        "BOOL": "BooleanTensorType", "BYTES": "StringTensorType", "UINT8": "UInt8TensorType",
    }  # fmt: skip
    if spec.data_type not in names:
        raise ExportError(f"`inputs:` of type {spec.data_type}; skl2onnx takes {', '.join(names)}")
    return getattr(types, names[spec.data_type])([dim if isinstance(dim, int) else None for dim in spec.shape])


def _predict(estimator: Any, names: list[str]) -> Predict:
    """The estimator's own answers, in the order in which skl2onnx writes its outputs."""

    def predict(inputs: Mapping[str, Array]) -> dict[str, Array]:
        rows = _rows(inputs)
        methods = [m for m in ("predict", "predict_proba", "decision_function") if hasattr(estimator, m)]
        if "predict_proba" in methods:
            methods = ["predict", "predict_proba"]
        methods = methods or ["transform"]
        answers = [np.asarray(getattr(estimator, method)(rows)) for method in methods]
        return dict(zip(names, answers, strict=False))

    return predict


def _rows(inputs: Mapping[str, Array]) -> Any:
    """One array for one input; a data frame of columns for several, as column transformers want."""
    if len(inputs) == 1:
        return next(iter(inputs.values()))
    pandas: Callable[..., Any] = require("pandas").DataFrame
    return pandas({name: [_text(v) for v in array.reshape(len(array), -1)[:, 0]] for name, array in inputs.items()})


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
