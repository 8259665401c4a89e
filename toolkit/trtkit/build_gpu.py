# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The engine stages of a build: proof with TensorRT-RTX on the CPU, and the plan for the target's GPU."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from trtkit.accelerator import optimization_block
from trtkit.artifacts import StageRun, fingerprint
from trtkit.build_plan import NothingToPublish, Served
from trtkit.build_plans import ENGINE, PLAN_FILE, PlanStages
from trtkit.build_warmups import with_warmups
from trtkit.compat import installed
from trtkit.container_build import in_container_files
from trtkit.engine import (
    EngineOptions,
    Profile,
    check_engine,
    default_profiles,
    profile_problems,
)
from trtkit.engine.derive import derive_profiles
from trtkit.engine.derived import count_rows, profile_rows
from trtkit.engine.profiles import as_yaml, profile_gaps, profiles_from_spec, to_json
from trtkit.engine.recorded import read_shapes
from trtkit.errors import BuildError, MissingDependencyError, ProjectError
from trtkit.export.onnx_file import MODEL_FILE
from trtkit.gpu import gpu_state
from trtkit.precision.key import CPU, flavour_of, is_quantized
from trtkit.signature import Signature

if TYPE_CHECKING:
    from trtkit.build_stages import StageReport, Stages

CHECK_ENGINE = "check-engine"


class EngineStages:
    """What a build does with one graph once it has its precision, for targets with TensorRT.

    Its profiles are found at once, because wrong ones have to be told before the calibration, which may take long.
    """

    def __init__(self, stages: Stages, name: str, exported: StageRun) -> None:
        self.stages, self.project, self.options = stages, stages.project, stages.options
        self.cache, self.target, self.engine = stages.cache, stages.options.target, self.project.models[name].engine
        self.found: dict[str, Any] = {}
        self.largest = int(exported.facts["max_batch_size"])
        on_tensorrt = "tensorrt" in (self.target.backend, self.target.execution_provider)
        if on_tensorrt or self.options.check_engine:
            self._refuse_strings(name, Signature.from_json(exported.facts["signature"]))
        needed = on_tensorrt or self.options.check_engine or self.options.named == name
        self.profiles = self._profiles(name, exported.facts) if needed else []
        if self.target.backend == "tensorrt" and self.target.fallback is None and not self.options.check_engine:
            self._refuse_early(name)

    def _refuse_strings(self, name: str, signature: Signature) -> None:
        texts = [spec for spec in (*signature.inputs, *signature.outputs) if spec.dtype.name == "BYTES"]
        if texts:
            raise BuildError(
                f"{self.project.where('models', name)}: TensorRT has no strings, and '{texts[0].name}' is BYTES; serve "
                f"model '{name}' on a target with backend onnxruntime and execution_provider cpu or cuda"
            )

    def run(self, name: str, served: Served, reports: list[StageReport]) -> Served:
        """Prove the graph if asked to, and build the plan or say why there is none."""
        profiles = self.profiles
        served.facts.update(self.found, profiles=to_json(profiles))
        if self.options.check_engine:
            self._check(name, served, profiles, reports)
        if self.target.backend != "tensorrt":
            return with_warmups(self.stages, name, self.on_provider(served), profiles, reports)
        plans = PlanStages(self.stages, profiles, lambda precision, cc: self._engine_options(name, precision, cc))
        with_plans, missing = plans.run(name, served, self._buildable(), reports)
        if with_plans is not None:
            return with_warmups(self.stages, name, with_plans, profiles, reports)
        why = self.why_no_plan() or f"those for compute capability {', '.join(missing)} are missing"
        if len(missing) < len(self.target.compute_capabilities):
            why += f"; missing is {', '.join(missing)}, the others are built"
        return self._without_plan(name, served, why)

    def race_options(self, name: str) -> dict[str, Any]:
        """What the race needs to time this target's candidates.

        Raises:
            BuildError: this machine is not the target's.
        """
        here = sorted({gpu.compute_capability for gpu in gpu_state().gpus})
        wanted = self.target.compute_capabilities[:1] or tuple(here[:1])
        if not here or wanted[0] not in here:
            where = self.project.where("targets", self.options.target_name)
            has = f"has compute capability {', '.join(here)}" if here else "has no GPU"
            raise BuildError(
                f"{where}: the race times the candidates on the target's GPU, and this machine {has}; "
                "name a precision, or race for a target on this machine"
            )
        engine = self._engine_options(name, "fp32", wanted[0])
        return {
            "target": self.options.target_name, "profiles": to_json(self.profiles), "engine": engine.to_json(),
            "gpu": gpu_state().gpus[0].name,
        }  # fmt: skip

    def on_provider(self, served: Served) -> Served:
        """The graph itself for ONNX Runtime, with what its GPU execution provider has to be told."""
        if not self.target.on_gpu:
            return served
        engine = self.engine
        block = optimization_block(
            self.target, self.profiles, int(served.facts["max_batch_size"]), precision=served.precision,
            workspace_bytes=engine.workspace_bytes, optimization_level=engine.optimization_level,
        )  # fmt: skip
        why = f"target '{self.options.target_name}': ONNX Runtime with {self.target.execution_provider}"
        serving = {"backend": "onnxruntime", "why": why, "kind": "KIND_GPU", "optimization": block}
        return replace(served, facts={**served.facts, "serving": serving})

    def _profiles(self, name: str, facts: Mapping[str, Any]) -> list[Profile]:
        """Those that recorded shapes give, else the project file's, else the one that follows from the batch."""
        spec = self.project.models[name]
        signature, largest = Signature.from_json(facts["signature"]), int(facts["max_batch_size"])
        where = self.project.where("models", name, "profiles")
        if self.options.named == name and self.options.profiles_from:
            derived = derive_profiles(
                read_shapes(self.options.profiles_from, signature.inputs), signature.inputs,
                self.options.profile_count, largest,
            )  # fmt: skip
            profiles = [one.profile for one in derived.profiles]
            self.found["derived"] = {
                "yaml": as_yaml(profiles), "rows": profile_rows(derived), "counts": count_rows(derived),
                **derived.to_json(),
            }  # fmt: skip
            return profiles
        given = profiles_from_spec(spec.profiles)
        if not given:
            try:
                return default_profiles(signature.inputs, largest)
            except BuildError as exc:
                raise ProjectError(f"{where}: {exc}") from exc
        dims = {spec.name: spec.dims for spec in signature.inputs}
        axes = {spec.name: spec.shape for spec in signature.inputs}
        overlapping = spec.engine.overlapping_profiles
        for problem in profile_problems(dims, given, axes=axes, max_batch_size=largest, overlapping=overlapping):
            raise ProjectError(f"{where}: {problem}")
        self.found["notes"] = profile_gaps(dims, given, axes=axes, max_batch_size=largest)
        return given

    def _check(self, name: str, served: Served, profiles: Sequence[Profile], reports: list[StageReport]) -> None:
        if installed("tensorrt-rtx") is None:
            raise MissingDependencyError("--check-engine builds with TensorRT-RTX; run: pip install 'trtkit[rtx]'")
        if is_quantized(served.precision) and flavour_of(self.target) == CPU:
            others = [target for target, one in self.project.targets.items() if one.on_gpu]
            raise ProjectError(
                f"{self.project.where('models', name, 'precision')}: --check-engine builds what TensorRT takes, and "
                f"the {served.precision} graph of target '{self.options.target_name}' is quantized for the CPU; choose "
                f"a target on a GPU with --target (available: {', '.join(others) or 'none'})"
            )
        capability = next(iter(self.target.compute_capabilities), None)
        inputs = {
            "graph": served.run.artifact,
            "profiles": fingerprint(to_json(profiles)),
            "compute capability": str(capability),
            "tensorrt-rtx": str(installed("tensorrt-rtx")),
        }

        def make(folder: Path) -> dict[str, Any]:
            check = check_engine(
                self._graph_file(served),
                profiles,
                capability,
                folder=folder,
                options=self._engine_options(name, served.precision, None),
            )
            (folder / PLAN_FILE).unlink(missing_ok=True)  # evidence, never something to serve
            return {"check": check.to_json()}

        run = self.stages.here(name, CHECK_ENGINE, inputs, make, reports)
        served.facts["check_engine"] = self.stages.checked[name] = run.facts["check"]
        if problem := run.facts["check"].get("problem"):
            raise BuildError(f"{self.project.where('models', name)}: {problem}")

    def _engine_options(self, name: str, precision: str, capability: str | None) -> EngineOptions:
        given = self.project.models[name].engine
        timing = self.project.state / "timing_cache" if given.timing_cache and capability else None
        return EngineOptions(
            workspace_bytes=given.workspace_bytes,
            optimization_level=given.optimization_level,
            version_compatible=given.version_compatible,
            hardware_compatibility=given.hardware_compatibility,
            strip_plan=given.strip_plan,
            refit=given.refit,
            plugins=tuple(str((self.project.root / plugin).resolve()) for plugin in given.plugins),
            timing_cache=timing,
            overlapping_profiles=given.overlapping_profiles,
            precision=precision,
            max_batch_size=self.largest,
        )

    def _graph_file(self, served: Served) -> Path:
        return self.project.state / "objects" / served.run.artifact / MODEL_FILE

    def _buildable(self) -> dict[str, int]:
        """The GPUs whose plans can be built here: device number by compute capability."""
        if self.options.in_container or installed("tensorrt") is None:
            return {}
        return {gpu.compute_capability: index for index, gpu in enumerate(gpu_state().gpus)}

    def why_no_plan(self) -> str:
        """Why the target's plan cannot be built on this machine; ``""`` when it can, or needs none."""
        if self.target.backend != "tensorrt":
            return ""
        if self.options.in_container:
            return "it is to be built in the target's container"
        here = sorted({gpu.compute_capability for gpu in gpu_state().gpus})
        if not here:
            return "this machine has no GPU"
        if missing := set(self.target.compute_capabilities) - set(here):
            return f"this machine's GPU has compute capability {', '.join(here)}, not {', '.join(sorted(missing))}"
        if installed("tensorrt") is None:
            return "tensorrt is not installed (pip install 'trtkit[gpu]')"
        return ""

    def _refuse_early(self, name: str) -> None:
        """Say that nothing can be published before the calibration, where no plan is built here nor was elsewhere."""
        here, wanted = self._buildable(), self.target.compute_capabilities
        some = [capability for capability in wanted or here if capability in here]
        kept = (
            [*(self.project.state / "stages" / name).glob(f"{ENGINE}*.json")] if not self.options.in_container else []
        )
        if not some and not kept:
            self._refuse_without_plan(name, self.why_no_plan(), self._how(name))

    def _how(self, name: str) -> str:
        """What builds the plan elsewhere."""
        given = self._given(name)
        if not self.options.in_container:
            command = shlex.join(["trtkit", "build", name, "--target", self.options.target_name, *given])
            return f"`{command} --in-container` writes what builds it there"
        files = in_container_files(self.project, [name], self.options.target_name, self.target, given)
        return f"run {' or '.join(str(file.relative_to(self.project.root)) for file in files)} where the GPU is"

    def _given(self, name: str) -> list[str]:
        """The options of this build that decide the plan."""
        given = ["--race"] if self.options.race else []
        if self.options.named != name or self.options.profiles_from is None:
            return given
        shapes = self.options.profiles_from.resolve()
        if self.options.in_container and not shapes.is_relative_to(self.project.root.resolve()):
            raise ProjectError(
                f"--profiles-from {self.options.profiles_from} lies outside the project's folder, which is all that "
                "the container sees; put it inside"
            )
        inside = os.path.relpath(shapes, self.project.root.resolve())
        return [*given, "--profiles-from", inside, "--count", str(self.options.profile_count)]

    def _refuse_without_plan(self, name: str, why: str, how: str) -> NoReturn:
        """Nothing is published without plan and fallback, which is no mistake where a container is to build it."""
        if self.options.in_container:
            raise NothingToPublish(f"no plan was built: {why}; {how}")
        raise BuildError(
            f"{self.project.where('targets', self.options.target_name)}: no plan was built for model '{name}': {why}; "
            f"{how}, or give the target `fallback: onnxruntime` to serve the graph meanwhile"
        )

    def _without_plan(self, name: str, served: Served, why: str) -> Served:
        """The graph itself for the target's fallback, where it has one."""
        how = self._how(name)
        if self.target.fallback is None:
            self._refuse_without_plan(name, why, how)
        what = f"the {served.precision} graph"
        if {"bf16", "fp8"} & set(served.precision.split("+")):  # ONNX Runtime has no CPU kernels for them
            what = f"the fp32 graph (onnxruntime does not run {served.precision} on every machine)"
            findings = ("profiles", "derived", "check_engine", "notes")
            facts = {**served.export.facts, **{key: served.facts[key] for key in findings if key in served.facts}}
            served = replace(served, run=served.export, precision="fp32", facts=facts)
        note = f"no plan was built ({why}); {what} is published for the fallback, onnxruntime; {how}"
        serving = {
            "backend": "onnxruntime",
            "why": f"the fallback of target '{self.options.target_name}': no plan was built",
        }
        return replace(served, facts={**served.facts, "no_plan": note, "serving": serving})
