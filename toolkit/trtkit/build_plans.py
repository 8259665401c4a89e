# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The plans of one model, one per compute capability, each a stage of its own.

A plan is built where its GPU is. Those of other GPUs are taken from the cache, where a build on such a machine (or
in a container there) has left them, so that the last one of them publishes all.
"""

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
from trtkit.export.warmup import convert_warmup
from trtkit.images import parse_version
from trtkit.preflight import plan_verdict
from trtkit.signature import Signature

if TYPE_CHECKING:
    from trtkit.build_stages import StageReport, Stages

ENGINE = "engine"
PLAN_FILE, MANIFEST_FILE = "model.plan", "engine.json"
_TENSORRT = "tensorrt"


class PlanStages:
    """Builds or finds the plans of a target and puts them together."""

    def __init__(
        self, stages: Stages, profiles: Sequence[Profile], options: Callable[[str, str], EngineOptions]
    ) -> None:
        self.stages, self.project, self.profiles, self.engine_options = stages, stages.project, profiles, options
        self.target, self.cache = stages.options.target, stages.cache

    def run(
        self, name: str, served: Served, devices: Mapping[str, int], reports: list[StageReport]
    ) -> tuple[Served | None, list[str]]:
        """The model with its plans; None, and what is missing, when not all of them are here.

        Args:
            name: the model.
            served: its graph.
            devices: the GPUs whose plans can be built here, device number by compute capability.
            reports: receives one per stage.
        """
        wanted = self.target.compute_capabilities or ("",)  # "" is whatever GPU there is
        runs = {cc: self._run(name, served, cc, devices, reports) for cc in wanted}
        missing = [cc or "the target's GPU" for cc, run in runs.items() if run is None]
        built = {cc: run for cc, run in runs.items() if run is not None}
        if missing:
            return None, missing
        run = next(iter(built.values())) if len(built) == 1 else self._together(name, built, reports)
        plans = {cc: _plan_name(cc, len(built) > 1) for cc in built}
        manifests = {cc: one.facts["engine"] for cc, one in built.items()}
        signature = _as_built(Signature.from_json(served.facts["signature"]), next(iter(manifests.values())))
        serving = {
            "backend": "tensorrt", "why": f"target '{self.stages.options.target_name}' runs TensorRT plans",
            "kind": "KIND_GPU", "profiles": len(self.profiles), "plans": plans,
        }  # fmt: skip
        facts = {**served.facts, "signature": signature.to_json(), "engine": manifests, "serving": serving}
        return replace(served, run=run, facts=facts), []

    def _run(
        self, name: str, served: Served, capability: str, devices: Mapping[str, int], reports: list[StageReport]
    ) -> StageRun | None:
        inputs = {
            "graph": served.run.artifact,
            "profiles": fingerprint(to_json(self.profiles)),
            "engine": fingerprint(self.project.models[name].engine.model_dump()),
            "compute capability": capability,
            _TENSORRT: str(installed(_TENSORRT)),
        }
        stage = f"{ENGINE}.sm{capability.replace('.', '')}" if capability else ENGINE
        if not devices or (capability and capability not in devices):
            return self._from_elsewhere(name, stage, inputs)
        here = capability or next(iter(devices))
        self._refuse_before(name, served, here)

        def make(folder: Path) -> dict[str, Any]:
            return self._build(name, served, here, devices[here], folder)

        return self.stages.here(name, stage, inputs, make, reports)

    def _from_elsewhere(self, name: str, stage: str, inputs: Mapping[str, str]) -> StageRun | None:
        """A plan that another machine left in the cache, by whatever TensorRT the target loads."""
        for run in self.cache.runs(name, stage):
            same = all(run.inputs.get(key) == value for key, value in inputs.items() if key != _TENSORRT)
            artifact = self.cache.artifact(stage, run.artifact) if same else None
            if artifact and not self._problem(plan_header(artifact.path / PLAN_FILE), run.facts["engine"]):
                return run
        return None

    def _refuse_before(self, name: str, served: Served, capability: str) -> None:
        """Before minutes are spent on a plan that the target would not load."""
        options = self.engine_options(served.precision, capability)
        planned = {"compute_capability": capability, "options": options.to_json()}
        header = PlanHeader(_TENSORRT, parse_version(str(installed(_TENSORRT))), (), 0)
        self._refuse(self._problem(header, planned))

    def _problem(self, header: PlanHeader, manifest: Mapping[str, Any]) -> str | None:
        return plan_verdict(header, manifest, self.target).problem

    def _refuse(self, problem: str | None) -> None:
        if problem:
            raise BuildError(f"{self.project.where('targets', self.stages.options.target_name)}: {problem}")

    def _build(self, name: str, served: Served, capability: str, device: int, folder: Path) -> dict[str, Any]:
        def progress(phase: str, done: float, seconds_left: float | None) -> None:
            left = f", {seconds_left:.0f} s left" if seconds_left is not None else ""
            self.stages.on_event(name, ENGINE, f"{phase} {done:.0%}{left}")

        graph = self.cache.state / "objects" / served.run.artifact
        manifest = build_in_process(
            _TENSORRT, graph / MODEL_FILE, self.profiles, self.engine_options(served.precision, capability), folder,
            on_progress=progress, device=device, log=self.project.state / "logs" / f"{name}.{ENGINE}.log",
        )  # fmt: skip
        self._refuse(self._problem(plan_header(folder / PLAN_FILE), manifest))
        if (graph / WARMUP).is_dir():
            before = Signature.from_json(served.facts["signature"])
            with file_errors(f"copying warm-up data to {folder}"):
                shutil.copytree(graph / WARMUP, folder / WARMUP)
                convert_warmup(folder, before, _as_built(before, manifest))
        return {"engine": manifest}

    def _together(self, name: str, built: Mapping[str, StageRun], reports: list[StageReport]) -> StageRun:
        """All plans in one folder, where Triton looks for them."""

        def make(folder: Path) -> dict[str, Any]:
            with file_errors(f"collecting plans in {folder}"):
                for capability, run in built.items():
                    part, plan = self.cache.state / "objects" / run.artifact, _plan_name(capability, several=True)
                    shutil.copyfile(part / PLAN_FILE, folder / plan)
                    shutil.copyfile(part / MANIFEST_FILE, folder / f"{plan}.json")
                    if (part / WARMUP).is_dir():
                        shutil.copytree(part / WARMUP, folder / WARMUP, dirs_exist_ok=True)
            return {}

        return self.stages.here(name, ENGINE, {cc: run.artifact for cc, run in built.items()}, make, reports)


def _plan_name(capability: str, several: bool) -> str:
    return f"model_sm{capability.replace('.', '')}.plan" if several else PLAN_FILE


def _as_built(signature: Signature, manifest: Mapping[str, Any]) -> Signature:
    """The signature with the data types that the engine has: TensorRT makes DOUBLE FLOAT, and 8.6 INT64 INT32."""
    types = {tensor["name"]: tensor["dtype"] for tensor in manifest.get("io", [])}
    return signature.with_dtypes({name: dtype for name, dtype in types.items() if dtype})
