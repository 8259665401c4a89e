# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The plans of one graph: one for each compute capability of the target, built here or on another machine of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtkit.artifacts import StageRun, file_errors, fingerprint
from trtkit.build_plan import WARMUP, Served
from trtkit.compat import installed
from trtkit.engine import EngineOptions, PlanHeader, Profile, build_in_process, plan_header
from trtkit.engine.profiles import to_json
from trtkit.errors import BuildError
from trtkit.export.onnx_file import MODEL_FILE
from trtkit.gpu import gpu_state
from trtkit.images import parse_version
from trtkit.preflight import plan_verdict

if TYPE_CHECKING:
    from trtkit.build_stages import StageReport, Stages

ENGINE = "engine"
PLAN_FILE, MANIFEST_FILE = "model.plan", "engine.json"


class PlanStages:
    """Builds the plans for this machine's GPUs, and finds those that other machines built in the same folder.

    The machines of a target with several kinds of GPU take turns: each builds its own plan, and the last one
    publishes all of them.

    Args:
        stages: of the build.
        name: the model.
        served: its graph.
        profiles: of every plan.
        options_of: the builder's options for a compute capability.
    """

    def __init__(
        self, stages: Stages, name: str, served: Served, profiles: Sequence[Profile],
        options_of: Callable[[str], EngineOptions],
    ) -> None:  # fmt: skip
        self.stages, self.name, self.served, self.profiles = stages, name, served, profiles
        self.target, self.cache, self.options_of = stages.options.target, stages.cache, options_of
        self.devices = {gpu.compute_capability: index for index, gpu in enumerate(gpu_state().gpus)}
        self.version = installed("tensorrt")
        self.capabilities = self.target.compute_capabilities or tuple(self.devices)[:1]

    def found(self, reports: list[StageReport]) -> dict[str, StageRun]:
        """The plans by compute capability, built now where this machine can; some may be missing.

        Raises:
            BuildError: TensorRT refused the graph, or the target cannot load what is built here.
        """
        here = [c for c in self.capabilities if c in self.devices and self.version and not self._elsewhere_only]
        for capability in here:  # before minutes are spent on what the target would not load
            planned = {"compute_capability": capability, "options": self.options_of(capability).to_json()}
            self._refuse(PlanHeader("tensorrt", parse_version(str(self.version)), (), 0), planned)
        runs = {c: self._built(c, reports) if c in here else self._kept(c) for c in self.capabilities}
        return {capability: run for capability, run in runs.items() if run}

    def serve(self, runs: Mapping[str, StageRun], reports: list[StageReport]) -> Served:
        """What is published of all plans: one file, or one for each compute capability."""
        if len(runs) == 1:
            run, plans = next(iter(runs.values())), dict.fromkeys(runs, PLAN_FILE)
        else:
            plans = {capability: f"model_{_sm(capability)}.plan" for capability in runs}
            inputs = {f"plan for {capability}": run.artifact for capability, run in runs.items()}
            run = self.stages.here(self.name, ENGINE, inputs, lambda folder: self._join(runs, plans, folder), reports)
        serving = {"backend": "tensorrt", "kind": "KIND_GPU", "profiles": len(self.profiles), "plans": plans}
        manifests = {capability: run.facts["manifest"] for capability, run in runs.items()}
        return replace(self.served, run=run, facts={**self.served.facts, "engine": manifests, "serving": serving})

    @property
    def _elsewhere_only(self) -> bool:
        return self.stages.options.in_container

    def _stage(self, capability: str) -> str:
        return ENGINE if len(self.capabilities) == 1 else f"{ENGINE}-{_sm(capability)}"

    def _inputs(self, capability: str) -> dict[str, str]:
        return {
            "graph": self.served.run.artifact,
            "profiles": fingerprint(to_json(self.profiles)),
            "engine": fingerprint(self.stages.project.models[self.name].engine.model_dump()),
            "compute capability": capability,
        }

    def _built(self, capability: str, reports: list[StageReport]) -> StageRun:
        inputs = {**self._inputs(capability), "tensorrt": str(self.version)}
        return self.stages.here(
            self.name, self._stage(capability), inputs, lambda folder: self._build(capability, folder), reports
        )

    def _kept(self, capability: str) -> StageRun | None:
        """A plan of another machine, with any TensorRT whose plans the target loads."""
        for run in self.cache.runs(self.name, self._stage(capability)):
            artifact = self.cache.verified("plan", run.artifact)
            if artifact and run.inputs == {**self._inputs(capability), "tensorrt": run.inputs.get("tensorrt")}:
                header = plan_header(artifact.path / PLAN_FILE)
                if not plan_verdict(header, run.facts["manifest"], self.target).problem:
                    return run
        return None

    def _build(self, capability: str, folder: Path) -> dict[str, Any]:
        graph = self.cache.state / "objects" / self.served.run.artifact
        stage = self._stage(capability)
        manifest = build_in_process(
            "tensorrt", graph / MODEL_FILE, self.profiles, self.options_of(capability), folder,
            on_progress=lambda phase, done, eta: self.stages.on_event(
                self.name, stage, f"{phase} {done:.0%}" + (f", {eta:.0f} s left" if eta is not None else "")
            ),
            device=self.devices[capability],
        )  # fmt: skip
        self._refuse(plan_header(folder / PLAN_FILE), manifest)
        _copy_warmup(graph, folder)
        return {"manifest": manifest}

    def _join(self, runs: Mapping[str, StageRun], plans: Mapping[str, str], folder: Path) -> dict[str, Any]:
        """Triton looks for all plans of a version in its one folder."""
        for capability, run in runs.items():
            one = self.cache.verified("plan", run.artifact)
            if one is None:
                raise BuildError(f"the plan for {capability} in {self.cache.state} was damaged; build with --force")
            with file_errors(f"copying plans to {folder}"):
                shutil.copyfile(one.path / PLAN_FILE, folder / plans[capability])
                shutil.copyfile(one.path / MANIFEST_FILE, folder / f"{plans[capability]}.json")
        _copy_warmup(self.cache.state / "objects" / self.served.run.artifact, folder)
        return {}

    def _refuse(self, header: PlanHeader, manifest: dict[str, Any]) -> None:
        """Raise when the target cannot load a plan."""
        if problem := plan_verdict(header, manifest, self.target).problem:
            raise BuildError(f"{self.stages.project.where('targets', self.stages.options.target_name)}: {problem}")


def _sm(capability: str) -> str:
    return f"sm{capability.replace('.', '')}"


def _copy_warmup(graph: Path, folder: Path) -> None:
    if (graph / WARMUP).is_dir():
        with file_errors(f"copying warm-up data to {folder}"):
            shutil.copytree(graph / WARMUP, folder / WARMUP)
