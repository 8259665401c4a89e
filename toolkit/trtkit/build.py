# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The build: which stages have to run, run them, publish. A second build does nothing and knows it quickly."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from trtkit.artifacts import file_errors
from trtkit.build_configs import ConfigStage, Texts
from trtkit.build_plan import NothingToPublish, Plan, Planner, Served
from trtkit.build_stages import BuildOptions, OnEvent, StageReport, Stages
from trtkit.compat import EXTRAS
from trtkit.container_build import check_container
from trtkit.errors import BuildError, ConfigError, MissingDependencyError, ProjectError, TrtkitError
from trtkit.project import Project
from trtkit.repository import CONFIG_FILE, PublishedVersion, clean_staging, config_text, publish_all
from trtkit.targets import pick_target

PUBLISH = "publish"


@dataclass(frozen=True)
class BuildResult:
    """What became of one model.

    Attributes:
        model: its name.
        stages: in order; shorter when one failed.
        version: the published version, 0 when there is none.
        byte_size: of that version's files.
        precision: of the served graph; ``ensemble`` for ensembles.
        target: the name of the target.
        max_abs_error: of the published graph against the exported one in another precision, or else of the
            export against its source; None when there was nothing to compare.
        metric: the task metric of the exported (``reference``) and the published graph (``value``); None without
            one, or for fp32.
        conversion: what became of the graph's nodes: ``quantized``, ``converted``, and with their reasons
            ``skipped``, ``kept`` and ``culprits``; None for fp32.
        race: the candidates side by side, and why one was chosen; None when there was no race.
        profiles: the optimization profiles, where the target or the command line asks for them.
        derived: what deriving them from recorded shapes gave: ``yaml`` and ``table``; None otherwise.
        check_engine: what TensorRT-RTX made of the graph; None when it was not asked.
        no_plan: that there is no plan, why, and what serves meanwhile; ``""`` when there is one, or none is needed.
        notes: what else a reader of the summary has to know.
        config_check: with `check`, per config file ``status``, ``note`` and ``differences``; None otherwise.
        skipped: why it was left out, or ``""``.
        error: the sentence of its failure, or ``""``.
    """

    model: str
    stages: list[StageReport] = field(default_factory=list)
    version: int = 0
    byte_size: int = 0
    precision: str = ""
    target: str = ""
    max_abs_error: float | None = None
    metric: dict[str, float] | None = None
    conversion: dict[str, Any] | None = None
    race: dict[str, Any] | None = None
    profiles: list[Any] = field(default_factory=list)
    derived: dict[str, Any] | None = None
    check_engine: dict[str, Any] | None = None
    no_plan: str = ""
    notes: list[str] = field(default_factory=list)
    config_check: list[dict[str, Any]] | None = None
    skipped: str = ""
    error: str = ""

    @property
    def up_to_date(self) -> bool:
        """Whether nothing had to be done."""
        return not self.skipped and not self.error and not any(stage.ran for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        """The form of ``trtkit build --json``."""
        return {**asdict(self), "up_to_date": self.up_to_date}


def build_models(
    project: Project,
    names: Sequence[str] = (),
    *,
    target: str | None = None,
    force: bool = False,
    race: bool = False,
    check_engine: bool = False,
    in_container: bool = False,
    profiles_from: Path | None = None,
    profile_count: int = 3,
    check: bool = False,
    jobs: int = 0,
    on_event: OnEvent = lambda model, stage, state: None,
) -> tuple[list[BuildResult], TrtkitError | None]:
    """Build models, those with sources in parallel, then ensembles after their steps; then publish all of them.

    A model that was built is published even when another one failed, unless an ensemble that could not be
    rebuilt would no longer fit it: the server refuses to start with such an ensemble.

    Args:
        project: the project.
        names: which, the steps of ensembles among them, and published ensembles that contain one of them;
            default: all, leaving out those whose ``requires:`` are not installed.
        target: the name of the target; default: what this machine has.
        force: run every stage, and replace a config.pbtxt that was edited by hand.
        race: let the race decide the precision, whatever the project file says.
        check_engine: build each graph with TensorRT-RTX on this machine, as evidence.
        in_container: the plan will be built in the target's container: publish what can be without it.
        profiles_from: recorded request shapes (JSON lines) of the one model that is named: its profiles follow
            from them, instead of the project file's.
        profile_count: how many profiles they become.
        check: change nothing in the repository, and compare its configs with those that would be published.
        jobs: how many exports at once; 0 for one per core.
        on_event: called with (model, stage, what happens) from several threads.

    Returns:
        A result per model, in the project file's order, and the first error; the others were still built.

    Raises:
        ProjectError: a name or the target is not in the project file, or `in_container` is not for this target.
        ConfigError: ensembles contain each other.
    """
    wanted = _with_steps(project, project.select(names))
    selected = _with_published_ensembles(project, wanted)
    ensembles = _in_order(project, [name for name in selected if project.models[name].ensemble])
    target_name, chosen = pick_target(project, target)
    options = BuildOptions(
        target_name, chosen, force=force, race=race, check_engine=check_engine, in_container=in_container,
        profiles_from=profiles_from, profile_count=profile_count, named=_the_one(project, names, profiles_from),
        check=check,
    )  # fmt: skip
    if in_container:
        check_container(project, [name for name in selected if project.models[name].source], target_name, chosen)
    with _lock(project):
        if not check:
            clean_staging(project.repository, project.state)
        builder = _Builder(project, options, set(wanted if names else ()), on_event)
        singles = [name for name in selected if project.models[name].source]
        with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
            try:
                results = dict(zip(singles, pool.map(builder.build_source, singles), strict=True))
            except BaseException:  # Ctrl-C, which would wait for them
                builder.stages.workers.stop()
                raise
        for name in ensembles:
            results[name] = builder.build_ensemble(name, results)
        results = builder.check(results) if check else builder.publish(results)
    return [results[name] for name in selected], builder.first_error


def _the_one(project: Project, names: Sequence[str], profiles_from: Path | None) -> str:
    """The model that recorded shapes are for; ``""`` when there are none.

    Raises:
        ProjectError: not exactly one model with a source was named.
    """
    if profiles_from is None:
        return ""
    if len(names) != 1 or project.models[names[0]].source is None:
        given = ", ".join(names) or "none"
        raise ProjectError(
            f"--profiles-from holds the shapes of one model with a source; models named: {given}; name that model"
        )
    return names[0]


def _with_steps(project: Project, names: list[str]) -> list[str]:
    """The names and the project's models that ensembles among them are made of."""
    wanted = list(names)
    for name in wanted:
        wanted += [step for step in _steps(project, name) if step in project.models and step not in wanted]
    return [name for name in project.models if name in wanted]


def _with_published_ensembles(project: Project, names: list[str]) -> list[str]:
    """The names and the ensembles that contain one of them and are published, which may have to follow it."""
    wanted = list(names)
    published = [n for n, spec in project.models.items() if spec.ensemble and config_text(project.repository, n)]
    for name in wanted:
        containing = [e for e in published if name in _steps(project, e)]
        wanted += [ensemble for ensemble in containing if ensemble not in wanted]
    return [name for name in project.models if name in wanted]


def _steps(project: Project, name: str) -> list[str]:
    return [step.model for step in project.models[name].ensemble or []]


def _in_order(project: Project, ensembles: list[str]) -> list[str]:
    """Ensembles after the ensembles they contain.

    Raises:
        ConfigError: ensembles contain each other.
    """
    ordered: list[str] = []
    left = list(ensembles)
    while left:
        ready = [name for name in left if not set(_steps(project, name)) & set(left)]
        if not ready:
            where = project.where("models", left[0], "ensemble")
            raise ConfigError(f"{where}: the ensembles {', '.join(left)} contain each other")
        ordered += ready
        left = [n for n in left if n not in ready]
    return ordered


@contextmanager
def _lock(project: Project) -> Iterator[None]:
    """One build of a project at a time; a second one waits."""
    with file_errors(f"locking {project.state}"):
        project.state.mkdir(parents=True, exist_ok=True)
        file = (project.state / "lock").open("w")
        fcntl.flock(file, fcntl.LOCK_EX)
    with file:
        yield


class _Builder:
    """One run of `build_models`: the options, what is to be published, and the first error."""

    def __init__(self, project: Project, options: BuildOptions, named: set[str], on_event: OnEvent) -> None:
        self.project, self.options, self.named, self.on_event = project, options, named, on_event
        self.stages = Stages(project, options, on_event)
        self.cache = self.stages.cache
        self.planner = Planner(project, self.cache, options.force)
        self.configs = ConfigStage(self.stages)
        self.plans: dict[str, Plan] = {}
        self.first_error: TrtkitError | None = None

    def build_source(self, name: str) -> BuildResult:
        """Make and configure one model with a source, and plan its publication."""
        result = BuildResult(name, precision=self.project.models[name].precision, target=self.options.target_name)
        missing = self._missing(name)
        if missing and name not in self.named:
            return replace(result, skipped=f"{missing} is not installed")
        reports: list[StageReport] = []
        try:
            self._refuse_missing(name, missing)
            served = self.stages.source(name, reports)
            texts, config_report = self.configs.source(name, served)
            self._plan(name, texts, served)
        except NothingToPublish as exc:
            return replace(result, stages=reports, skipped=str(exc))
        except TrtkitError as exc:
            checked = self.stages.checked.get(name)
            return self._failed(replace(result, stages=reports, check_engine=checked), exc)
        facts = served.facts
        return replace(
            result,
            stages=[*reports, config_report],
            precision=served.precision,
            max_abs_error=worst_parity(facts),
            no_plan=facts.get("no_plan", ""),
            notes=[*_notes(facts), *self.configs.left_out(name, served)],
            profiles=facts.get("profiles", []),
            metric=facts.get("metric"),
            conversion=facts.get("conversion"),
            race=facts.get("race"),
            derived=facts.get("derived"),
            check_engine=facts.get("check_engine"),
        )

    def build_ensemble(self, name: str, results: dict[str, BuildResult]) -> BuildResult:
        """Configure one ensemble and plan its publication, unless one of its steps could not be built."""
        result = BuildResult(name, precision="ensemble")
        missing = self._missing(name)
        if missing and name not in self.named:
            return replace(result, skipped=f"{missing} is not installed")
        for step in _steps(self.project, name):
            other = results.get(step)
            if other and (other.error or other.skipped):
                return replace(result, skipped=f"its step '{step}' was not built")
        try:
            self._refuse_missing(name, missing)
            texts, config_report = self.configs.ensemble(name)
            self._plan(name, texts, None)
        except TrtkitError as exc:
            return self._failed(result, exc)
        return replace(result, stages=[config_report])

    def check(self, results: dict[str, BuildResult]) -> dict[str, BuildResult]:
        """Compare the configs that were made with those in the repository, and complete the results."""
        from trtkit.build_check import check_configs, problem

        checks = {
            name: check_configs(self.project.repository, name, self.configs.made[name])
            for name, result in results.items()
            if not result.error and not result.skipped
        }
        self.first_error = self.first_error or problem(checks, self.named)
        found = {
            name: replace(results[name], config_check=[asdict(row) for row in rows]) for name, rows in checks.items()
        }
        return {**results, **found}

    def publish(self, results: dict[str, BuildResult]) -> dict[str, BuildResult]:
        """Publish what is planned, all of it or nothing, and complete the results."""
        started = time.perf_counter()
        results = self._hold_back(self._refuse(results))
        pending = {name: plan.publication for name, plan in self.plans.items() if plan.publication}
        ordered = [pending[name] for name in results if name in pending]  # ensembles after their steps
        try:
            versions = publish_all(self.project.repository, ordered, state=self.project.state)
        except TrtkitError as exc:
            failed = {name: self._failed(results[name], exc) for name in pending}
            self.plans = {name: plan for name, plan in self.plans.items() if name not in failed}
            return {**self._completed(results, {}, 0.0), **failed}
        published = {version.model: version for version in versions}
        for version in versions:
            self.on_event(version.model, PUBLISH, f"version {version.version}")
        return self._completed(results, published, time.perf_counter() - started)

    def _completed(
        self, results: dict[str, BuildResult], published: dict[str, PublishedVersion], seconds: float
    ) -> dict[str, BuildResult]:
        complete = dict(results)
        for name, plan in self.plans.items():
            version = published.get(name, plan.current)
            assert version is not None, f"{name} was planned and has no version"
            report = StageReport(PUBLISH, name in published, plan.why, seconds if name in published else 0.0)
            result = replace(results[name], stages=[*results[name].stages, report], version=version.version)
            complete[name] = replace(result, byte_size=version.byte_size)
        return complete

    def _refuse(self, results: dict[str, BuildResult]) -> dict[str, BuildResult]:
        """Take from the plans what the server would not load, and the ensembles that were made to fit it."""
        pending = [plan.publication for plan in self.plans.values() if plan.publication]
        if not pending:
            return results
        from trtkit.build_lint import refusals

        reasons = refusals(self.project.repository, pending, self.options.target.image)
        held: dict[str, BuildError] = {}
        for name in reasons:
            for other in self._take_back(name, name, []) if name in self.plans else ():
                held[other] = self._refused_error(other, reasons.get(other) or f"its step '{name}' is not published")
        return {**results, **{name: self._failed(results[name], error) for name, error in held.items()}}

    def _refused_error(self, name: str, why: str) -> BuildError:
        where = self.project.where("models", name, "config")
        return BuildError(f"{where}: model '{name}' is not published, because the server would refuse it: {why}")

    def _hold_back(self, results: dict[str, BuildResult]) -> dict[str, BuildResult]:
        """Take from the plans what would no longer fit a published ensemble that stays as it is.

        Such an ensemble is one that could not be rebuilt; and then one that is held back itself.
        """
        ensembles = [name for name, spec in self.project.models.items() if spec.ensemble]
        stays = [name for name in ensembles if name not in self.plans and config_text(self.project.repository, name)]
        held: dict[str, str] = {}
        for ensemble in stays:
            for step in _steps(self.project, ensemble):
                if step in self.plans and self.plans[step].replaces_config:
                    held |= self._take_back(step, ensemble, stays)
        return {**results, **{n: self._failed(results[n], self._held_error(n, why)) for n, why in held.items()}}

    def _take_back(self, name: str, ensemble: str, stays: list[str]) -> dict[str, str]:
        """Drop a model's plan and those of the ensembles that were made to fit it."""
        del self.plans[name]
        if self.project.models[name].ensemble:
            stays.append(name)
        held = {name: ensemble}
        for other in [n for n, plan in self.plans.items() if plan.publication and name in _steps(self.project, n)]:
            if other in self.plans:
                held |= self._take_back(other, ensemble, stays)
        return held

    def _held_error(self, name: str, ensemble: str) -> BuildError:
        where = self.project.where("models", name)
        return BuildError(
            f"{where}: model '{name}' is not published: its {CONFIG_FILE} changes, and the ensemble '{ensemble}', "
            "which fits the published one, could not be rebuilt"
        )

    def _plan(self, name: str, texts: Texts, served: Served | None) -> None:
        if self.options.check:
            return
        self.plans[name] = self.planner.plan(name, texts, served)

    def _failed(self, result: BuildResult, exc: TrtkitError) -> BuildResult:
        self.first_error = self.first_error or exc
        if not self.stages.workers.stopped:  # they did not fail
            self.on_event(result.model, "", f"failed: {exc}")
        return replace(result, error=str(exc))

    def _missing(self, name: str) -> str:
        modules = self.project.models[name].requires
        return next((module for module in modules if importlib.util.find_spec(module.partition(".")[0]) is None), "")

    def _refuse_missing(self, name: str, module: str) -> None:
        if module:
            where = self.project.where("models", name, "requires")
            hint = f"; run: pip install 'trtkit[{EXTRAS[module]}]'" if module in EXTRAS else ""
            raise MissingDependencyError(f"{where}: model '{name}' requires {module}, which is not installed{hint}")


def _notes(facts: dict[str, Any]) -> list[str]:
    """What the summary says below its table."""
    notes = [*facts.get("conversion", {}).get("notes", []), *facts.get("notes", [])]
    if "calibration" in facts:
        notes.insert(0, f"calibrated with {facts['calibration']['summary']}; coverage: {facts['calibration']['file']}")
    return notes


def worst_parity(facts: dict[str, Any]) -> float | None:
    """The largest absolute error of an export against its source; None when nothing was compared."""
    outputs = facts.get("parity", {}).get("outputs", {})
    numbers = {name: output for name, output in outputs.items() if not output.get("decision")}
    outputs = numbers or outputs  # a class index that differs by 5 is no error of 5
    return max((float(output["max_abs"]) for output in outputs.values()), default=None)
