# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Candidates for a GPU target: what is timed of each, and on what. It needs that GPU here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from trtkit.engine import EngineOptions, Profile, build_in_process
from trtkit.engine.plan_runner import PlanRunner
from trtkit.export.onnx_file import MODEL_FILE
from trtkit.preflight import graph_problem
from trtkit.project import Target
from trtkit.race.runner import CpuRunner, Runner

MODULE = "tensorrt"
PRECISIONS = ("fp16", "bf16", "int8", "int8+fp16", "fp8+fp16")
_PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}


@dataclass(frozen=True)
class GpuRace:
    """Where the candidates of a GPU target are timed.

    Attributes:
        target: of backend tensorrt, or onnxruntime with an execution provider on the GPU.
        profiles: of the plans; empty where there are none.
        options: of the plans.
    """

    target: Target
    profiles: Sequence[Profile]
    options: EngineOptions

    def refusal(self, opset: int, precision: str) -> str:
        """Why the target cannot run a precision; ``""`` when it can."""
        return graph_problem(opset, precision, self.target) or ""

    def timed_file(self, folder: Path, precision: str) -> Path:
        """What is timed of the graph in a folder: for backend tensorrt the plan that is built of it.

        Raises:
            BuildError: the plan cannot be built.
        """
        if self.target.backend != "tensorrt":
            return folder / MODEL_FILE
        options = replace(self.options, precision=precision)
        build_in_process(MODULE, folder / MODEL_FILE, self.profiles, options, folder / "plan")
        return folder / "plan" / "model.plan"

    def open(self, file: Path, threads: int) -> Runner:
        """A plan on TensorRT, or a graph on the target's execution provider.

        Raises:
            ExportError: it does not load here, or ONNX Runtime would run it on the CPU instead.
        """
        if self.target.backend == "tensorrt":
            return PlanRunner(import_module(MODULE), file, self.profiles)
        return CpuRunner(file, threads, provider=_PROVIDERS[self.target.execution_provider])
