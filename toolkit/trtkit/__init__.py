# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""trtkit: from a trained model to a Triton Inference Server deployment that can be trusted.

The names below are the public Python API, one or more per stage; each is imported when it is first used, so
that ``import trtkit`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from trtkit.build import build_models
    from trtkit.config import ensemble_config, explained_config, model_config, to_text
    from trtkit.engine import EngineOptions, ShapeRange, build_engine, check_engine, plan_info
    from trtkit.errors import TrtkitError
    from trtkit.export.stage import export_model
    from trtkit.inference import infer_rows
    from trtkit.inspection import inspect_onnx, inspect_plan
    from trtkit.lint.finding import Finding, Severity
    from trtkit.lint.outcome import lint_repository
    from trtkit.perf import measure
    from trtkit.precision.calibration import calibrate, tensors_to_calibrate
    from trtkit.precision.cpu_int8 import quantize_cpu
    from trtkit.precision.half import to_half
    from trtkit.precision.qdq import quantize_tensorrt
    from trtkit.project import Project, find_project, load_project
    from trtkit.repository import publish
    from trtkit.samples import random_inputs
    from trtkit.server import connect, serve
    from trtkit.validate import validate_model

_HOMES = {
    "EngineOptions": "trtkit.engine",
    "Finding": "trtkit.lint.finding",
    "Project": "trtkit.project",
    "Severity": "trtkit.lint.finding",
    "ShapeRange": "trtkit.engine",
    "TrtkitError": "trtkit.errors",
    "build_engine": "trtkit.engine",
    "build_models": "trtkit.build",
    "calibrate": "trtkit.precision.calibration",
    "check_engine": "trtkit.engine",
    "connect": "trtkit.server",
    "ensemble_config": "trtkit.config",
    "explained_config": "trtkit.config",
    "export_model": "trtkit.export.stage",
    "find_project": "trtkit.project",
    "infer_rows": "trtkit.inference",
    "inspect_onnx": "trtkit.inspection",
    "inspect_plan": "trtkit.inspection",
    "lint_repository": "trtkit.lint.outcome",
    "load_project": "trtkit.project",
    "measure": "trtkit.perf",
    "model_config": "trtkit.config",
    "plan_info": "trtkit.engine",
    "publish": "trtkit.repository",
    "quantize_cpu": "trtkit.precision.cpu_int8",
    "quantize_tensorrt": "trtkit.precision.qdq",
    "random_inputs": "trtkit.samples",
    "serve": "trtkit.server",
    "tensors_to_calibrate": "trtkit.precision.calibration",
    "to_half": "trtkit.precision.half",
    "to_text": "trtkit.config",
    "validate_model": "trtkit.validate",
}

__all__ = [
    "EngineOptions",
    "Finding",
    "Project",
    "Severity",
    "ShapeRange",
    "TrtkitError",
    "__version__",
    "build_engine",
    "build_models",
    "calibrate",
    "check_engine",
    "connect",
    "ensemble_config",
    "explained_config",
    "export_model",
    "find_project",
    "infer_rows",
    "inspect_onnx",
    "inspect_plan",
    "lint_repository",
    "load_project",
    "measure",
    "model_config",
    "plan_info",
    "publish",
    "quantize_cpu",
    "quantize_tensorrt",
    "random_inputs",
    "serve",
    "tensors_to_calibrate",
    "to_half",
    "to_text",
    "validate_model",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trtkit' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
