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
    from trtkit.config import ensemble_config, model_config, to_text
    from trtkit.engine import ShapeRange, build_engine, plan_info
    from trtkit.errors import TrtkitError
    from trtkit.export.stage import export_model
    from trtkit.inference import infer_rows
    from trtkit.inspection import inspect_onnx
    from trtkit.perf import measure
    from trtkit.project import Project, find_project, load_project
    from trtkit.repository import publish
    from trtkit.samples import random_inputs
    from trtkit.server import connect, serve
    from trtkit.validate import validate_model

_HOMES = {
    "Project": "trtkit.project",
    "ShapeRange": "trtkit.engine",
    "TrtkitError": "trtkit.errors",
    "build_engine": "trtkit.engine",
    "build_models": "trtkit.build",
    "connect": "trtkit.server",
    "ensemble_config": "trtkit.config",
    "export_model": "trtkit.export.stage",
    "find_project": "trtkit.project",
    "infer_rows": "trtkit.inference",
    "inspect_onnx": "trtkit.inspection",
    "load_project": "trtkit.project",
    "measure": "trtkit.perf",
    "model_config": "trtkit.config",
    "plan_info": "trtkit.engine",
    "publish": "trtkit.repository",
    "random_inputs": "trtkit.samples",
    "serve": "trtkit.server",
    "to_text": "trtkit.config",
    "validate_model": "trtkit.validate",
}

__all__ = [
    "Project",
    "ShapeRange",
    "TrtkitError",
    "__version__",
    "build_engine",
    "build_models",
    "connect",
    "ensemble_config",
    "export_model",
    "find_project",
    "infer_rows",
    "inspect_onnx",
    "load_project",
    "measure",
    "model_config",
    "plan_info",
    "publish",
    "random_inputs",
    "serve",
    "to_text",
    "validate_model",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trtkit' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
