# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Proof without a GPU: TensorRT-RTX really parses and builds a graph, in a process of its own.

Its acceptance is evidence for TensorRT 10 and 11, whose parser it has, and not a proof; its plans never go to Triton.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trtkit.engine.build_process import run_worker
from trtkit.engine.options import EngineOptions
from trtkit.engine.profiles import Profile, to_json
from trtkit.errors import BuildError

MODULE = "tensorrt_rtx"


@dataclass(frozen=True)
class EngineCheck:
    """What TensorRT-RTX made of a graph.

    Attributes:
        file: the ONNX file's name.
        compute_capability: the target's, or None when none was given.
        built_for: what it was built for; ``notes`` say why that may be another. Empty if the library died early.
        built: whether there is a plan.
        library_version: of TensorRT-RTX.
        seconds: of the build; 0.0 without a plan.
        plan_bytes: the plan's size; 0 without one.
        problems: why there is no plan, in sentences.
        profile_problems: those of them that are about profiles.
        unsupported: the nodes that the parser refuses: ``node`` (name or number), ``operator`` and ``why``.
        io: inputs and outputs: name, mode, shape, ``onnx_dtype`` in the graph and ``dtype`` in the engine.
        io_changes: inputs and outputs whose data type is another in the engine, in sentences.
        io_kept: those that stay INT64, which TensorRT before 10 would change, in sentences.
        layers: computing layers by precision, as found.
        precision_source: where that was found: ``network``, or ``engine`` on a GPU.
        notes: what else a reader has to know.
    """

    file: str
    compute_capability: str | None
    built_for: str = ""
    built: bool = False
    library_version: str = ""
    seconds: float = 0.0
    plan_bytes: int = 0
    problems: list[str] = field(default_factory=list)
    profile_problems: list[str] = field(default_factory=list)
    unsupported: list[dict[str, str]] = field(default_factory=list)
    io: list[dict[str, Any]] = field(default_factory=list)
    io_changes: list[str] = field(default_factory=list)
    io_kept: list[str] = field(default_factory=list)
    layers: dict[str, int] = field(default_factory=dict)
    precision_source: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def problem(self) -> str:
        """Why there is no plan, in one text; ``""`` when there is one."""
        return "; ".join(self.problems)

    @property
    def summary(self) -> str:
        """The findings in one line."""
        if not self.built:
            return "; ".join([f"no plan: {self.problem}", *self.notes])
        layers = ", ".join(f"{count} {dtype}" for dtype, count in self.layers.items())
        size = f"{self.plan_bytes / 1e6:.1f} MB"
        made = f"TensorRT-RTX {self.library_version} built a plan of {size} for {self.built_for}"
        facts = f"{made} in {self.seconds:.1f} s; layers: {layers}"
        return "; ".join([facts, *self.io_changes, *self.notes])

    def to_json(self) -> dict[str, Any]:
        """All of it, and ``problem`` and ``summary``."""
        return {**asdict(self), "problem": self.problem, "summary": self.summary}


def check_engine(
    onnx_file: Path,
    profiles: Sequence[Profile],
    compute_capability: str | None,
    *,
    folder: Path,
    options: EngineOptions | None = None,
) -> EngineCheck:
    """Parse and build a graph with TensorRT-RTX for a target, or the nearest it has.

    Args:
        onnx_file: the graph.
        profiles: the target's.
        compute_capability: the target's, e.g. ``"8.9"``.
        folder: where the plan and its engine.json go; made if it is not there. Never publish them.
        options: the target's; what TensorRT-RTX lacks of them is left out and noted.

    Raises:
        MissingDependencyError: TensorRT-RTX is not installed.
        BuildError: there is no such ONNX file, or an option is wrong in itself.
    """
    if not onnx_file.is_file():
        raise BuildError(f"there is no ONNX file {onnx_file}")
    request: Mapping[str, Any] = {
        "task": "check",
        "module": MODULE,
        "onnx": str(onnx_file.resolve()),
        "profiles": to_json(profiles),
        "options": (options or EngineOptions()).to_json(),
        "compute_capability": compute_capability,
    }
    return EngineCheck(onnx_file.name, compute_capability, **run_worker(request, folder))
