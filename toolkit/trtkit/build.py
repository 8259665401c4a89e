# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The build: which stages have to run, run them, publish. A second build does nothing and knows it quickly."""

from __future__ import annotations

import fcntl
import filecmp
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from trtkit import errors
from trtkit.artifacts import Cache, StageRun, file_errors, fingerprint
from trtkit.compat import EXTRAS
from trtkit.errors import BuildError, ConfigError, MissingDependencyError, RepositoryError, TrtkitError, nearest
from trtkit.export.key import STAGE as EXPORT
from trtkit.export.key import export_inputs
from trtkit.project import Project
from trtkit.repository import CONFIG_FILE, PublishedVersion, clean_staging, config_text, latest, models, publish

CONFIG, PUBLISH = "config", "publish"
WARMUP = "warmup"
_CONFIG_STAGE_VERSION = 1
_LOG_LINES = 12


@dataclass(frozen=True)
class StageReport:
    """What one stage did.

    Attributes:
        stage: ``export``, ``config`` or ``publish``.
        ran: False when it was up to date.
        why: why it ran, or why it did not.
        seconds: how long it took.
    """

    stage: str
    ran: bool
    why: str
    seconds: float = 0.0


@dataclass(frozen=True)
class BuildResult:
    """What became of one model.

    Attributes:
        model: its name.
        stages: in order; shorter when one failed.
        version: the published version, 0 when there is none.
        byte_size: of that version's files.
        precision: of the served graph; ``ensemble`` for ensembles.
        max_abs_error: of the exported graph against its source; None when there was nothing to compare.
        skipped: why it was left out, or ``""``.
        error: the sentence of its failure, or ``""``.
    """

    model: str
    stages: list[StageReport] = field(default_factory=list)
    version: int = 0
    byte_size: int = 0
    precision: str = ""
    max_abs_error: float | None = None
    skipped: str = ""
    error: str = ""

    @property
    def up_to_date(self) -> bool:
        """Whether nothing had to be done."""
        return not self.skipped and not self.error and not any(stage.ran for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        """The form of ``trtkit build --json``."""
        return {**asdict(self), "up_to_date": self.up_to_date}


OnEvent = Callable[[str, str, str], None]


def build_models(
    project: Project,
    names: Sequence[str] = (),
    *,
    force: bool = False,
    jobs: int = 0,
    on_event: OnEvent = lambda model, stage, state: None,
) -> tuple[list[BuildResult], TrtkitError | None]:
    """Build models, those with sources in parallel, then ensembles after their steps.

    Args:
        project: the project.
        names: which, and the steps of ensembles among them; default: all, leaving out those whose
            ``requires:`` are not installed.
        force: run every stage, and replace a config.pbtxt that was edited by hand.
        jobs: how many exports at once; 0 for one per core.
        on_event: called with (model, stage, what happens) from several threads.

    Returns:
        A result per model, in the project file's order, and the first error; the others were still built.

    Raises:
        ProjectError: a name is not in the project file.
        ConfigError: ensembles contain each other.
    """
    selected = _with_steps(project, project.select(names))
    ensembles = _in_order(project, [name for name in selected if project.models[name].ensemble])
    with _lock(project):
        clean_staging(project.repository, project.state)
        builder = _Builder(project, force, set(_with_steps(project, list(names))), on_event)
        singles = [name for name in selected if project.models[name].source]
        with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
            results = dict(zip(singles, pool.map(builder.build_source, singles), strict=True))
        for name in ensembles:
            results[name] = builder.build_ensemble(name, results)
    return [results[name] for name in selected], builder.first_error


def _with_steps(project: Project, names: list[str]) -> list[str]:
    """The names and the project's models that ensembles among them are made of."""
    wanted = list(names)
    for name in wanted:
        steps = project.models[name].ensemble or []
        wanted += [step.model for step in steps if step.model in project.models and step.model not in wanted]
    return [name for name in project.models if name in wanted]


def _in_order(project: Project, ensembles: list[str]) -> list[str]:
    """Ensembles after the ensembles they contain.

    Raises:
        ConfigError: ensembles contain each other.
    """
    ordered: list[str] = []
    left = list(ensembles)
    while left:
        ready = [n for n in left if not any(step.model in left for step in project.models[n].ensemble or [])]
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
    """One run of `build_models`: the options and the first error."""

    def __init__(self, project: Project, force: bool, named: set[str], on_event: OnEvent) -> None:
        self.project, self.force, self.named, self.on_event = project, force, named, on_event
        self.cache = Cache(project.state)
        self.first_error: TrtkitError | None = None

    def build_source(self, name: str) -> BuildResult:
        """Export, configure and publish one model with a source."""
        result = BuildResult(name, precision=self.project.models[name].precision)
        missing = self._missing(name)
        if missing and name not in self.named:
            return replace(result, skipped=f"{missing} is not installed")
        try:
            self._refuse_missing(name, missing)
            run, export_report = self._export(name)
            text, config_report = self._source_config(name, run)
            published, publish_report = self._publish(name, text, run)
        except TrtkitError as exc:
            return self._failed(result, exc)
        return replace(
            result,
            stages=[export_report, config_report, publish_report],
            version=published.version,
            byte_size=published.byte_size,
            max_abs_error=worst_parity(run.facts),
        )

    def build_ensemble(self, name: str, results: dict[str, BuildResult]) -> BuildResult:
        """Configure and publish one ensemble, unless one of its steps could not be built."""
        result = BuildResult(name, precision="ensemble")
        missing = self._missing(name)
        if missing and name not in self.named:
            return replace(result, skipped=f"{missing} is not installed")
        for step in self.project.models[name].ensemble or []:
            other = results.get(step.model)
            if other and (other.error or other.skipped):
                return replace(result, skipped=f"its step '{step.model}' was not built")
        try:
            self._refuse_missing(name, missing)
            text, config_report = self._ensemble_config(name)
            published, publish_report = self._publish(name, text, None)
        except TrtkitError as exc:
            return self._failed(result, exc)
        return replace(result, stages=[config_report, publish_report], version=published.version)

    def _failed(self, result: BuildResult, exc: TrtkitError) -> BuildResult:
        self.first_error = self.first_error or exc
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

    def _reason(self, name: str, stage: str, inputs: dict[str, str]) -> str:
        return "--force" if self.force else self.cache.why_not(name, stage, inputs, self.project.root)

    def _export(self, name: str) -> tuple[StageRun, StageReport]:
        inputs = export_inputs(self.project.models[name])
        run = None if self.force else self.cache.matching(name, EXPORT, inputs, self.project.root)
        if run and self.cache.artifact("onnx", run.artifact):
            return run, StageReport(EXPORT, False, "up to date")
        from trtkit.config import check_block

        check_block(self.project, name)  # before a training that may take long
        why = self._reason(name, EXPORT, inputs)
        self.on_event(name, EXPORT, why)
        seconds = run_worker(self.project, name)
        run = self.cache.runs(name, EXPORT)[0]
        self.on_event(name, EXPORT, "done")
        return run, StageReport(EXPORT, True, why, seconds)

    def _source_config(self, name: str, run: StageRun) -> tuple[str, StageReport]:
        inputs = {"config": fingerprint(self.project.models[name].config), "exported model": _config_facts(run)}

        def generate() -> str:
            from trtkit.config import model_config, to_text
            from trtkit.signature import Signature

            signature = Signature.from_json(run.facts["signature"])
            return to_text(
                model_config(self.project, name, signature, run.facts["max_batch_size"], run.facts["warmup"])
            )

        return self._config(name, inputs, generate)

    def _ensemble_config(self, name: str) -> tuple[str, StageReport]:
        spec = self.project.models[name]
        steps = spec.ensemble or []
        texts = [self._step_config(name, index, step.model) for index, step in enumerate(steps)]
        inputs = {
            "config": fingerprint(spec.config),
            "ensemble": fingerprint([step.model_dump() for step in steps]),
            **{f"config.pbtxt of {step.model}": fingerprint(text) for step, text in zip(steps, texts, strict=True)},
        }

        def generate() -> str:
            from trtkit.config import ensemble_config, read_config, to_text

            configs = [read_config(t, f"{s.model}/{CONFIG_FILE}") for s, t in zip(steps, texts, strict=True)]
            return to_text(ensemble_config(self.project, name, configs))

        return self._config(name, inputs, generate)

    def _step_config(self, name: str, index: int, model: str) -> str:
        text = config_text(self.project.repository, model)
        if text is None:
            where = self.project.where("models", name, "ensemble", index, "model")
            raise ConfigError(
                f"{where}: step '{model}' has no {CONFIG_FILE} in {self.project.repository.name}; "
                f"{nearest(model, models(self.project.repository))}"
            )
        return text

    def _config(self, name: str, inputs: dict[str, str], generate: Callable[[], str]) -> tuple[str, StageReport]:
        inputs = {**inputs, "trtkit's config stage": str(_CONFIG_STAGE_VERSION)}
        run = None if self.force else self.cache.matching(name, CONFIG, inputs, self.project.root)
        if run:
            return str(run.facts["text"]), StageReport(CONFIG, False, "up to date")
        why, started = self._reason(name, CONFIG, inputs), time.perf_counter()
        text = generate()
        self.cache.remember(name, CONFIG, StageRun(inputs, {}, "", {"text": text}))
        return text, StageReport(CONFIG, True, why, time.perf_counter() - started)

    def _publish(self, name: str, text: str, run: StageRun | None) -> tuple[PublishedVersion, StageReport]:
        """Publish what differs from the repository: a new version, or the config alone."""
        started = time.perf_counter()
        repository = self.project.repository
        current, on_disk = latest(repository, name), config_text(repository, name)
        new_version = "--force" if self.force else self._why_new_version(current, run)
        damaged = "" if new_version else self._changed_warmup(name, run)
        if current and not new_version and not damaged and on_disk == text:
            return current, StageReport(PUBLISH, False, f"version {current.version} is up to date")
        self._refuse_to_overwrite(name, text, on_disk)
        version_files, model_files = self._files(name, run)
        published = publish(
            repository,
            name,
            text,
            state=self.project.state,
            version_files=version_files if new_version else None,
            model_files=model_files,
            record=self._record(name, run),
        )
        why = new_version or f"{damaged or CONFIG_FILE} changed"
        self.on_event(name, PUBLISH, f"version {published.version}")
        return published, StageReport(PUBLISH, True, why, time.perf_counter() - started)

    def _why_new_version(self, current: PublishedVersion | None, run: StageRun | None) -> str:
        if current is None:
            return "no version is published"
        if current.record.get("artifact") != (run.artifact if run else ""):
            return "the artifact changed"
        changed = self._changed_file(current)
        return f"version {current.version} was changed after it was published: {changed}" if changed else ""

    def _changed_warmup(self, name: str, run: StageRun | None) -> str:
        """The first warm-up file that is not the artifact's, without which the server refuses the model."""
        folder = self.project.state / "objects" / (run.artifact if run else "") / WARMUP
        for file in sorted(folder.glob("*")) if run else ():
            served = self.project.repository / name / WARMUP / file.name
            if not served.is_file() or not filecmp.cmp(file, served, shallow=False):
                return f"{WARMUP}/{file.name}"
        return ""

    def _changed_file(self, version: PublishedVersion) -> str | None:
        """The first changed file of a version; files whose stat is unchanged since the last look are trusted."""
        stats = {n: _stat(version.path / n) for n in version.record.get("files", {})}
        memo = self.project.state / "verified" / f"{version.model}.json"
        seen = {"version": version.version, "stats": stats}
        if memo.is_file() and _read_json(memo) == json.loads(json.dumps(seen)):
            return None
        changed = version.changed_file()
        if changed is None:
            with suppress(OSError):  # it only saves time
                memo.parent.mkdir(parents=True, exist_ok=True)
                memo.write_text(json.dumps(seen))
        return changed

    def _refuse_to_overwrite(self, name: str, text: str, on_disk: str | None) -> None:
        if self.force or on_disk is None or on_disk == text:
            return
        from trtkit.config import is_generated

        if not is_generated(on_disk):
            where = self.project.where("models", name)
            raise RepositoryError(
                f"{self.project.repository / name / CONFIG_FILE} was written or edited by hand and would be replaced; "
                f"move its fields to the `config:` block at {where}, or build with --force"
            )

    def _files(self, name: str, run: StageRun | None) -> tuple[dict[str, Path], dict[str, Path]]:
        """The version's files and the model folder's files of an artifact; nothing for an ensemble."""
        if run is None:
            return {}, {}
        artifact = self.cache.verified("onnx", run.artifact)
        if artifact is None:
            shutil.rmtree(self.project.state / "objects" / run.artifact, ignore_errors=True)
            raise BuildError(
                f"model '{name}': its artifact in {self.project.state} was damaged and is removed; build again"
            )
        files = {f.relative_to(artifact.path).as_posix(): f for f in artifact.path.rglob("*") if f.is_file()}
        return (
            {path: f for path, f in files.items() if not path.startswith(f"{WARMUP}/")},
            {path: f for path, f in files.items() if path.startswith(f"{WARMUP}/")},
        )

    def _record(self, name: str, run: StageRun | None) -> dict[str, Any]:
        spec = self.project.models[name]
        made: dict[str, Any] = {
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "precision": spec.precision if run else "ensemble",
            "artifact": run.artifact if run else "",
            "reference": run.artifact if run else "",  # the FP32 graph that the served one is validated against
        }
        if run:
            kept = (
                "signature",
                "max_batch_size",
                "batch",
                "ranges",
                "axis_size",
                "opset",
                "ir_version",
                "changes",
                "parity",
            )
            made |= {"source": spec.source.model_dump(exclude_none=True) if spec.source else {}}
            made |= {
                "made_from": {"inputs": run.inputs, "files": run.files},
                "tool_versions": run.facts["tool_versions"],
            }
            made |= {key: run.facts[key] for key in kept}
        return made


def _config_facts(run: StageRun) -> str:
    return fingerprint([run.facts[key] for key in ("signature", "max_batch_size", "warmup")])


def worst_parity(facts: dict[str, Any]) -> float | None:
    """The largest absolute error of an export against its source; None when nothing was compared."""
    outputs = facts.get("parity", {}).get("outputs", {})
    return max((float(output["max_abs"]) for output in outputs.values()), default=None)


def _stat(path: Path) -> list[int]:
    try:
        stat = path.stat()
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def run_worker(project: Project, name: str) -> float:
    """Export one model in a process of its own.

    Returns:
        The seconds it took.

    Raises:
        TrtkitError: what the worker raised.
        BuildError: the worker died; with the end of its log.
    """
    log = project.state / "logs" / f"{name}.log"
    with file_errors(f"writing {log}"):
        log.parent.mkdir(parents=True, exist_ok=True)
        output = log.open("wb")
    reader, writer = os.pipe()
    with output, os.fdopen(reader, "rb") as pipe:
        process = subprocess.Popen(
            [sys.executable, "-m", "trtkit.build_worker", str(project.file), name, str(writer)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, pass_fds=[writer], cwd=project.root,
        )  # fmt: skip
        os.close(writer)
        try:
            answer = pipe.read()
            code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
    if not answer:
        raise BuildError(_death(name, code, log))
    result = json.loads(answer)
    if "error" in result:
        raise getattr(errors, result["error"])(result["message"])
    return float(result["seconds"])


def _death(name: str, code: int, log: Path) -> str:
    names = {number.value: number.name for number in signal.Signals}  # real-time signals have none
    how = f"was killed by {names.get(-code, f'signal {-code}')}" if code < 0 else f"ended with exit code {code}"
    end = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
    return f"model '{name}': the export {how}; the end of {log}:\n{end}"
