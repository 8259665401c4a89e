# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The project file: ``trtkit.yaml`` read, checked, and turned into frozen values."""

from trtkit.project.load import PROJECT_FILE, Project, find_project, load_project
from trtkit.project.spec import (
    Calibration,
    EnsembleStep,
    Evaluate,
    InputSpec,
    Keep,
    ModelSpec,
    ShapeRangeSpec,
    Source,
    Tolerance,
    json_schema,
)
from trtkit.project.spec_deploy import Deploy
from trtkit.project.spec_target import Engine, Target

__all__ = [
    "PROJECT_FILE",
    "Calibration",
    "Deploy",
    "Engine",
    "EnsembleStep",
    "Evaluate",
    "InputSpec",
    "Keep",
    "ModelSpec",
    "Project",
    "ShapeRangeSpec",
    "Source",
    "Target",
    "Tolerance",
    "find_project",
    "json_schema",
    "load_project",
]
