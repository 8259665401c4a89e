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
from dataclasses import asdict, replace
from pathlib import Path

from trtkit.artifacts import file_errors
from trtkit.build_configs import ConfigStage, Texts
from trtkit.build_order import in_order, is_graph, steps_of, the_one, with_published_ensembles, with_steps
from trtkit.build_plan import NothingToPublish, Plan, Planner, Served
from trtkit.build_results import BuildResult, result_fields
from trtkit.build_stages import BuildOptions, OnEvent, StageReport, Stages
from trtkit.compat import EXTRAS
from trtkit.container_build import check_container
from trtkit.errors import BuildError, MissingDependencyError, TrtkitError
from trtkit.project import Project
from trtkit.python_models.key import PYTHON
from trtkit.repository import CONFIG_FILE, PublishedVersion, clean_staging, config_text, publish_all
from trtkit.targets import pick_target

PUBLISH = "publish"


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
    """Build models, those with sources in parallel, then those made of others after them; then publish all of them.

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
    wanted = with_steps(project, project.select(names))
    selected = with_published_ensembles(project, wanted)
    composed = in_order(project, [name for name in selected if steps_of(project, name)])
    target_name, chosen = pick_target(project, target)
    options = BuildOptions(
        target_name, chosen, force=force, race=race, check_engine=check_engine, in_container=in_container,
        profiles_from=profiles_from, profile_count=profile_count, named=the_one(project, names, profiles_from),
        check=check,
    )  # fmt: skip
    if in_container:
        check_container(project, [name for name in selected if is_graph(project, name)], target_name, chosen)
    with _lock(project):
        if not check:
            clean_staging(project.repository, project.state)
        builder = _Builder(project, options, set(wanted if names else ()), on_event)
        singles = [name for name in selected if name not in composed]
        results = builder.build_sources(singles, jobs or os.cpu_count() or 1)
        for name in composed:
            results[name] = builder.build_composed(name, results)
        results = builder.check(results) if check else builder.publish(results)
    return [results[name] for name in selected], builder.first_error


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

    def build_sources(self, names: Sequence[str], jobs: int) -> dict[str, BuildResult]:
        """Make and configure models with a source, so many at once."""
        with ThreadPoolExecutor(jobs) as pool:
            try:
                return dict(zip(names, pool.map(self.build_source, names), strict=True))
            except BaseException:  # Ctrl-C, which would wait for them
                self.stages.workers.stop()
                raise

    def build_source(self, name: str) -> BuildResult:
        """Make and configure one model with a source, and plan its publication."""
        result = BuildResult(name, precision=self._label(name), target=self.options.target_name)
        missing = self._missing(name)
        if missing and name not in self.named:
            return replace(result, skipped=f"{missing} is not installed")
        reports: list[StageReport] = []
        try:
            self._refuse_missing(name, missing)
            served = self.stages.source(name, reports)
            graph = is_graph(self.project, name)
            texts, config_report = (self.configs.source if graph else self.configs.python)(name, served)
            self._plan(name, texts, served)
        except NothingToPublish as exc:
            return replace(result, stages=reports, skipped=str(exc))
        except TrtkitError as exc:
            checked = self.stages.checked.get(name)
            return self._failed(replace(result, stages=reports, check_engine=checked), exc)
        found = result_fields(served.facts)
        found["notes"] += self.configs.left_out(name, served) if graph else []
        return replace(result, stages=[*reports, config_report], precision=served.precision, **found)

    def build_composed(self, name: str, results: dict[str, BuildResult]) -> BuildResult:
        """Build one model that is made of others, unless one of them could not be built."""
        is_ensemble = self.project.models[name].ensemble is not None
        result, missing = BuildResult(name, precision=self._label(name)), self._missing(name)
        if missing and name not in self.named:
            return replace(result, skipped=f"{missing} is not installed")
        for step in steps_of(self.project, name):
            other = results.get(step)
            if other and (other.error or other.skipped):
                return replace(result, skipped=f"its {'step' if is_ensemble else 'model'} '{step}' was not built")
        return self._build_ensemble(result, missing) if is_ensemble else self.build_source(name)

    def _build_ensemble(self, result: BuildResult, missing: str) -> BuildResult:
        """Configure one ensemble and plan its publication."""
        name = result.model
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
        """Take from the plans what the server would not load, and the models that were made to fit it."""
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
        composed = [name for name in self.project.models if steps_of(self.project, name)]
        stays = [name for name in composed if name not in self.plans and config_text(self.project.repository, name)]
        held: dict[str, str] = {}
        for ensemble in stays:
            for step in steps_of(self.project, ensemble):
                if step in self.plans and self.plans[step].replaces_config:
                    held |= self._take_back(step, ensemble, stays)
        return {**results, **{n: self._failed(results[n], self._held_error(n, why)) for n, why in held.items()}}

    def _take_back(self, name: str, ensemble: str, stays: list[str]) -> dict[str, str]:
        """Drop a model's plan and those of the ensembles that were made to fit it."""
        del self.plans[name]
        if steps_of(self.project, name):
            stays.append(name)
        held = {name: ensemble}
        for other in [n for n, plan in self.plans.items() if plan.publication and name in steps_of(self.project, n)]:
            if other in self.plans:
                held |= self._take_back(other, ensemble, stays)
        return held

    def _held_error(self, name: str, other: str) -> BuildError:
        where = self.project.where("models", name)
        what = "ensemble" if self.project.models[other].ensemble else "model"
        return BuildError(
            f"{where}: model '{name}' is not published: its {CONFIG_FILE} changes, and the {what} '{other}', "
            "which fits the published one, could not be rebuilt"
        )

    def _plan(self, name: str, texts: Texts, served: Served | None) -> None:
        if self.options.check:
            return
        self.plans[name] = self.planner.plan(name, texts, served)

    def _label(self, name: str) -> str:
        """What stands for the precision in the summary."""
        spec = self.project.models[name]
        return "ensemble" if spec.ensemble else spec.precision if is_graph(self.project, name) else PYTHON

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
