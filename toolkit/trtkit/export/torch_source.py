# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""torch modules to ONNX, by torch's dynamo exporter."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from trtkit.compat import require
from trtkit.dtypes import by_name
from trtkit.errors import ExportError
from trtkit.export.sources import Predict, axis_names, rename_outputs, shapes_of
from trtkit.numerics import Array
from trtkit.project import ModelSpec
from trtkit.samples import random_array

# the dynamo exporter writes opset 18 itself; older ones only through a version conversion
OPSET_TORCH = 18
# distinct and above 1, because torch.export takes sizes 0 and 1 for constants
_FIRST_SIZE = 3


def convert_module(module: Any, spec: ModelSpec, where: str) -> tuple[onnx.ModelProto, Predict]:
    """Export a module in evaluation mode, with every named axis of ``inputs:`` dynamic.

    Raises:
        ExportError: no ``inputs:``, or torch cannot export it (an axis that is not dynamic, an operator).
    """
    torch = require("torch")
    require("onnxscript")
    if not spec.inputs:
        raise ExportError(
            f"{where}: a torch source needs `inputs:`, e.g. inputs: {{x: {{data_type: FP32, shape: [batch, 64]}}}}"
        )
    module = module.eval()
    arguments = _examples(torch, spec)
    dims = {name: torch.export.Dim(name) for name in axis_names(spec.inputs)}
    dynamic = tuple(
        {axis: dims[d] for axis, d in enumerate(s.shape) if isinstance(d, str)} for s in spec.inputs.values()
    )
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        try:
            program = torch.onnx.export(
                module, arguments, dynamo=True, opset_version=OPSET_TORCH, input_names=list(spec.inputs),
                dynamic_shapes=dynamic, external_data=False, verbose=False,
            )  # fmt: skip
        except Exception as exc:  # torch's exporter wraps anything, from user code to its own verifier
            raise ExportError(f"{where}: torch cannot export {type(module).__name__}: {_root_cause(exc)}") from exc
    model = program.model_proto
    names = spec.outputs or [output.name for output in model.graph.output]
    rename_outputs(model, names, where)
    return model, _predict(torch, module, names)


def _examples(torch: Any, spec: ModelSpec) -> tuple[Any, ...]:
    sizes = {name: _FIRST_SIZE + index for index, name in enumerate(axis_names(spec.inputs))}
    rng = np.random.default_rng(0)
    shapes = shapes_of(spec.inputs, sizes)
    return tuple(
        torch.from_numpy(random_array(rng, by_name(input_.data_type), shapes[name]))
        for name, input_ in spec.inputs.items()
    )


def _root_cause(exc: BaseException) -> str:
    while exc.__cause__ is not None:
        exc = exc.__cause__
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return f"{type(exc).__name__}: {' '.join(lines)[:600]}"


def _predict(torch: Any, module: Any, names: list[str]) -> Predict:
    def predict(inputs: Mapping[str, Array]) -> dict[str, Array]:
        with torch.no_grad():
            answer = module(*(torch.from_numpy(np.ascontiguousarray(array)) for array in inputs.values()))
        return {name: tensor.numpy() for name, tensor in zip(names, _flat(answer), strict=True)}

    return predict


def _flat(answer: Any) -> list[Any]:
    if isinstance(answer, Mapping):
        return [tensor for value in answer.values() for tensor in _flat(value)]
    if isinstance(answer, tuple | list):
        return [tensor for value in answer for tensor in _flat(value)]
    return [answer]
