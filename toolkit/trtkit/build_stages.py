# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The stages of one model with a source, each run only when what it starts from changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtkit.artifacts import Cache, StageRun, fingerprint
from trtkit.build_plan import Served
from trtkit.build_process import Workers, run_worker
from trtkit.build_python import python_model
from trtkit.errors import BuildError
from trtkit.export.key import STAGE as EXPORT
from trtkit.export.key import export_inputs
from trtkit.precision.key import (
    CALIBRATION,
    PRECISION,
    RACE,
    calibration_inputs,
    flavour_of,
    is_quantized,
    precision_inputs,
)
from trtkit.preflight import graph_problem
from trtkit.project import Project, Target

if TYPE_CHECKING:
    from trtkit.build_gpu import EngineStages

ENGINE, CHECK_ENGINE = "engine", "check-engine"
OnEvent = Callable[[str, str, str], None]


@dataclass(frozen=True)
class StageReport:
    """What one stage did.

    Attributes:
        stage: ``export``, ``calibration``, ``precision``, ``race``, ``check-engine``, ``engine``, ``environment``,
            ``python``, ``config`` or ``publish``.
        ran: False when it was up to date.
        why: why it ran, or why it did not.
        seconds: how long it took.
    """

    stage: str
    ran: bool
    why: str
    seconds: float = 0.0


@dataclass(frozen=True)
class BuildOptions:
    """What a build was asked for besides the project file.

    Attributes:
        force: run every stage, and replace a config.pbtxt that was edited by hand.
        target_name: of `target`.
        target: where the models will run.
        race: let the race decide the precision of every model, whatever the project file says.
        check_engine: build each graph with TensorRT-RTX on this machine, as evidence.
        in_container: the plan will be built elsewhere: publish what can be published without it.
        profiles_from: recorded request shapes, from which the profiles of `named` follow instead of the project file.
        profile_count: how many of them.
        named: the one model they are for.
        check: publish nothing; compare the configs.
    """

    target_name: str
    target: Target
    force: bool = False
    race: bool = False
    check_engine: bool = False
    in_container: bool = False
    profiles_from: Path | None = None
    profile_count: int = 3
    named: str = ""
    check: bool = False


class Stages:
    """The stages of a build: the cache, the options, and what each model's stages did."""

    def __init__(self, project: Project, options: BuildOptions, on_event: OnEvent) -> None:
        self.project, self.options, self.on_event = project, options, on_event
        self.cache, self.workers = Cache(project.state), Workers()
        self.checked: dict[str, dict[str, Any]] = {}  # what --check-engine found, also of a model that fails later

    def source(self, name: str, reports: list[StageReport]) -> Served:
        """Everything from the source to what is published, adding a report per stage.

        Raises:
            TrtkitError: the first stage that failed.
        """
        source = self.project.models[name].source
        if source and not source.is_graph:
            return python_model(self, name, reports)
        precision = self._precision_of(name)
        self._refuse(name, 0, precision)  # before the export, which may take long
        self._refuse_calibration(name, precision)
        self._refuse_race(name, precision)
        exported = self._export(name, reports)
        self._refuse(name, exported.facts["opset"], precision)
        engine = self._engine_stages(name, exported)
        served = self._graph(name, exported, engine, reports)
        self._refuse(name, served.facts["opset"], served.precision)
        return engine.run(name, served, reports) if engine else served

    def _engine_stages(self, name: str, exported: StageRun) -> EngineStages | None:
        """The stages after the graph's, with its profiles; None where there are none."""
        source = self.project.models[name].source
        if source and source.cast:  # TensorRT has not all of its types, and nothing to gain from it
            return None
        wanted = self.options.check_engine or self.options.named == name
        if not wanted and not self.options.target.on_gpu:
            return None
        from trtkit.build_gpu import EngineStages

        return EngineStages(self, name, exported)

    def _refuse_calibration(self, name: str, precision: str) -> None:
        """Raise when the project file has not what the precision is calibrated with."""
        calibration = self.project.models[name].calibration
        if is_quantized(precision) and calibration is None:
            from trtkit.samples import no_calibration

            raise no_calibration(self.project, name)
        modelopt = calibration is not None and calibration.quantizer == "modelopt"
        if modelopt and (is_quantized(precision) or precision == "auto") and not self.options.target.on_gpu:
            where = self.project.where("models", name, "calibration", "quantizer")
            raise BuildError(
                f"{where}: modelopt quantizes for TensorRT, and target '{self.options.target_name}' runs ONNX Runtime "
                "on the CPU; leave `quantizer` out, or choose a target on a GPU"
            )

    def _refuse_race(self, name: str, precision: str) -> None:
        """Raise when one choice would have to fit several kinds of GPU."""
        target = self.options.target
        if precision == "auto" and target.backend == "tensorrt" and len(target.compute_capabilities) > 1:
            where = self.project.where("targets", self.options.target_name, "compute_capability")
            raise BuildError(
                f"{where}: the race times the candidates on one kind of GPU, and target '{self.options.target_name}' "
                f"has {', '.join(target.compute_capabilities)}; name a precision, or give each kind a target of its own"
            )

    def _refuse(self, name: str, opset: int, precision: str) -> None:
        """Raise when the target cannot take a graph of this opset and precision."""
        if problem := graph_problem(opset, precision, self.options.target):
            raise BuildError(f"{self.project.where('models', name, 'precision')}: {problem}")

    def _precision_of(self, name: str) -> str:
        return "auto" if self.options.race else self.project.models[name].precision

    def _export(self, name: str, reports: list[StageReport]) -> StageRun:
        return self.worker(name, EXPORT, export_inputs(self.project.models[name]), {}, reports, self.check_block)

    def check_block(self, name: str) -> None:
        """Check what the project file gives for config.pbtxt."""
        from trtkit.config import check_block

        check_block(self.project, name)  # before a training that may take long

    def _graph(self, name: str, exported: StageRun, engine: EngineStages | None, reports: list[StageReport]) -> Served:
        """The exported graph in the precision that was asked for."""
        precision, target = self._precision_of(name), self.options.target_name
        unraced = precision == "auto" and engine is not None and engine.why_no_plan()
        if precision == "fp32" or unraced:  # the race times plans, and the container that builds them will run it
            return Served(exported, exported, "fp32", dict(exported.facts), target)
        spec, flavour = self.project.models[name], flavour_of(self.options.target)
        calibration = self._calibration(name, precision, exported, reports)
        inputs = precision_inputs(spec, precision, flavour, exported.artifact, calibration)
        found = {"calibration": self._coverage(name, calibration)} if calibration else {}
        options: dict[str, Any] = {"exported": exported.artifact, "calibration": calibration, "flavour": flavour}
        if precision == "auto":
            options["plot"] = str(self.project.state / "reports" / f"{name}.race.svg")
            if engine and self.options.target.on_gpu:
                options["gpu"] = engine.race_options(name)
                inputs["timed on"] = fingerprint(options["gpu"])
            run = self.worker(name, RACE, inputs, options, reports)
            precision = str(run.facts["race"]["chosen"])
        else:
            run = self.worker(name, PRECISION, inputs, {**options, "precision": precision}, reports)
        return Served(exported, run, precision, {**exported.facts, **run.facts, **found}, target)

    def _coverage(self, name: str, calibration: str) -> dict[str, Any]:
        """What the calibration saw: in a line, and where all of it is."""
        run = next(run for run in self.cache.runs(name, CALIBRATION) if run.artifact == calibration)
        file = self.project.state / "objects" / calibration / "calibration.json"
        return {"summary": run.facts["summary"], "cache": calibration, "file": str(file.relative_to(self.project.root))}

    def _calibration(self, name: str, precision: str, exported: StageRun, reports: list[StageReport]) -> str:
        """The sha256 of the calibration cache; ``""`` where none is needed, or the race has no data for one."""
        spec = self.project.models[name]
        if not is_quantized(precision) and not (precision == "auto" and spec.calibration):
            return ""
        inputs = calibration_inputs(spec, exported.artifact)
        return self.worker(name, CALIBRATION, inputs, {"exported": exported.artifact}, reports).artifact

    def worker(
        self, name: str, stage: str, inputs: dict[str, str], options: dict[str, Any], reports: list[StageReport],
        before: Callable[[str], None] = lambda name: None,
    ) -> StageRun:  # fmt: skip
        """The remembered run of a stage, or a new one in a process of its own."""
        run = None if self.options.force else self.cache.matching(name, stage, inputs, self.project.root)
        if run and self.cache.artifact(stage, run.artifact):
            reports.append(StageReport(stage, False, "up to date"))
            return run
        before(name)
        why = self.reason(name, stage, inputs)
        self.on_event(name, stage, why)
        seconds = run_worker(self.project, name, stage, inputs, options, self.workers)
        self.on_event(name, stage, "done")
        reports.append(StageReport(stage, True, why, seconds))
        return self.cache.runs(name, stage)[0]

    def here(
        self, name: str, stage: str, inputs: dict[str, str], make: Callable[[Path], dict[str, Any]],
        reports: list[StageReport],
    ) -> StageRun:  # fmt: skip
        """The same for a stage that runs none of the user's code: `make` fills a folder and returns facts."""
        run = None if self.options.force else self.cache.matching(name, stage, inputs, self.project.root)
        if run and self.cache.artifact(stage, run.artifact):
            reports.append(StageReport(stage, False, "up to date"))
            return run
        why, started = self.reason(name, stage, inputs), time.perf_counter()
        self.on_event(name, stage, why)
        with self.cache.scratch() as folder:
            facts = make(folder)
            artifact = self.cache.store(stage, folder)
        run = StageRun(inputs, {}, artifact.sha256, facts)
        self.cache.remember(name, stage, run)
        reports.append(StageReport(stage, True, why, time.perf_counter() - started))
        return run

    def reason(self, name: str, stage: str, inputs: dict[str, str]) -> str:
        """Why a stage has to run."""
        return "--force" if self.options.force else self.cache.why_not(name, stage, inputs, self.project.root)
