# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""scikit-learn estimators and pipelines to ONNX, by skl2onnx."""

from __future__ import annotations

from typing import Any

import onnx

from trtkit.compat import OPSET_EXPORT, OPSET_ML_EXPORT, require
from trtkit.errors import ExportError
from trtkit.export.quiet import quiet
from trtkit.export.sentences import one_line
from trtkit.export.sklearn_outputs import fit_outputs, predictions
from trtkit.export.sources import Predict, rename_outputs
from trtkit.project import InputSpec, ModelSpec

DEFAULT_INPUT = "x"
_TYPES = {
    "FP32": "FloatTensorType", "FP64": "DoubleTensorType", "INT64": "Int64TensorType", "INT32": "Int32TensorType",
    "BOOL": "BooleanTensorType", "BYTES": "StringTensorType", "UINT8": "UInt8TensorType",
}  # fmt: skip


def convert_estimator(estimator: Any, spec: ModelSpec, where: str) -> tuple[onnx.ModelProto, Predict]:
    """Convert a fitted estimator; classifiers give ``label`` and ``probabilities`` or ``scores``.

    Without ``inputs:`` in the project file the graph has one input, ``x`` FP32 [batch, n_features_in_].

    Raises:
        ExportError: it is not fitted, skl2onnx cannot convert it, or takes no such inputs.
    """
    skl2onnx = require("skl2onnx")
    inputs = dict(spec.inputs) or {DEFAULT_INPUT: _default_input(estimator, where)}
    types = [(name, _sklearn_type(skl2onnx, name, input_, where)) for name, input_ in inputs.items()]
    try:
        with quiet():
            model = _converted(skl2onnx, estimator, types)
    except Exception as exc:  # skl2onnx raises anything from KeyError to its own NameError-like classes
        reason = one_line(exc).partition(". ")[0].rstrip(".")  # what follows is advice to its developers
        raise ExportError(f"{where}: skl2onnx cannot convert {type(estimator).__name__}: {reason}") from exc
    for entry in model.opset_import:  # it writes the lowest that has all nodes in the form that 17 has them in
        entry.version = OPSET_EXPORT if entry.domain == "" else entry.version
    fit_outputs(model.graph, estimator)
    if spec.outputs:
        rename_outputs(model, spec.output_names, where)
    return model, predictions(estimator, model.graph)


def _converted(skl2onnx: Any, estimator: Any, types: list[tuple[str, Any]]) -> onnx.ModelProto:
    """The graph, with scores as tensors: by default a classifier gives a list of dictionaries."""
    options = [{"zipmap": False}, None] if hasattr(estimator, "classes_") else [None]
    versions = {"": OPSET_EXPORT, "ai.onnx.ml": OPSET_ML_EXPORT}
    for option in options:
        try:
            return skl2onnx.convert_sklearn(estimator, initial_types=types, options=option, target_opset=versions)
        except NameError:  # "Option 'zipmap' not in …": a classifier that has no such form
            if option is None:
                raise
    raise AssertionError("the last option is None")


def _default_input(estimator: Any, where: str) -> InputSpec:
    features = getattr(estimator, "n_features_in_", None)
    if features is None:
        raise ExportError(
            f"{where}: {type(estimator).__name__} does not say how many features it takes (is it fitted?); "
            "fit it, or give `inputs:`"
        )
    return InputSpec(data_type="FP32", shape=["batch", int(features)])


def _sklearn_type(skl2onnx: Any, name: str, spec: InputSpec, where: str) -> Any:
    if spec.data_type not in _TYPES:
        raise ExportError(f"{where}: input '{name}' is {spec.data_type}; skl2onnx takes {', '.join(_TYPES)}")
    shape = [dim if isinstance(dim, int) else None for dim in spec.shape]
    return getattr(skl2onnx.common.data_types, _TYPES[spec.data_type])(shape)
