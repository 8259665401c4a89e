# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""One stage in a process of its own: ``python -m trtkit.build_worker REQUEST RESULT_FD BUILD_PID``.

The user's code, and the libraries that convert and quantize, may print, change global state or crash; here they
can. The request is JSON: project, model, stage, inputs (the fingerprints to remember) and options (the artifacts
the stage starts from). The result, or the error, goes to a pipe as one JSON object; what is printed goes to the log.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from trtkit.artifacts import Cache, StageRun, file_errors, hash_file
from trtkit.errors import BuildError, TrtkitError
from trtkit.export.huggingface_folder import files_of
from trtkit.project import Project, load_project
from trtkit.project.callables import split_reference

_SKIPPED_PARTS = {"site-packages", "__pycache__", "dist-packages"}


class FileWatch:
    """Notes which files are opened for reading from `start` on: the project's, and those beside what a model names.

    Modules count by their source file, whether or not Python read a cached copy.
    """

    def __init__(self, project: Project, name: str) -> None:
        self.project = project
        spec = project.models[name]
        named = [spec.source.reference if spec.source else "", spec.evaluate.data if spec.evaluate else ""]
        named.append(spec.calibration.data if spec.calibration else "")
        named += [*spec.files.values(), *([spec.environment] if isinstance(spec.environment, str) else [])]
        files = [split_reference(reference, project.root)[0] for reference in named if reference]
        # a source may be elsewhere, or a link to there
        self.roots = [project.root, *(file if file.is_dir() else file.parent for file in files)]
        folder = spec.source.huggingface if spec.source else None
        self.listed = files_of(project.root / folder) if folder else []  # Rust reads its weights, which no hook sees
        self.opened: set[Path] = set()

    def start(self) -> None:
        """Begin noting; an audit hook cannot be removed again, which is fine in a worker."""
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        mode, flags = arguments[1], arguments[2]
        if (isinstance(mode, str) and set(mode) & set("wax+")) or (isinstance(flags, int) and flags & os.O_ACCMODE):
            return
        with contextlib.suppress(ValueError, RuntimeError):
            self.opened.add(Path(os.path.abspath(os.fsdecode(arguments[0]))))  # noqa: PTH100 - no symlink resolution here

    def files(self) -> dict[str, str]:
        """The sha256 of each, by path; relative to the project where it is inside."""
        files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
        modules = {Path(file) for file in files if isinstance(file, str)}
        seen = {path for path in self.opened | modules if self._counts(path)}
        seen |= set(self.listed)
        seen |= {data for path in seen if path.suffix == ".onnx" for data in _external_data(path) if self._counts(data)}
        root = self.project.root
        names = {path: path.relative_to(root) if path.is_relative_to(root) else path for path in sorted(seen)}
        return {name.as_posix(): hash_file(path) for path, name in names.items()}

    def _counts(self, path: Path) -> bool:
        own = (self.project.repository, Path(__file__).resolve().parent)  # trtkit counts by its stage version
        root = next((root for root in self.roots if path.is_relative_to(root)), None)
        if root is None or any(path.is_relative_to(folder) for folder in own):
            return False
        parts = path.relative_to(root).parts
        hidden = any(part.startswith(".") for part in parts)
        return not hidden and not _SKIPPED_PARTS & set(parts) and path.is_file() and path != self.project.file


def _external_data(file: Path) -> set[Path]:
    """The files with an ONNX file's weights, which onnx opens in C++, where Python's audit hook sees nothing."""
    from trtkit.export.onnx_file import external_tensors, read_graph

    try:
        tensors = list(external_tensors(read_graph(file, "")))
    except TrtkitError:
        return set()  # the user's code may have opened something else of that name
    locations = {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
    return {file.parent / location for location in locations}


def _export(project: Project, name: str, folder: Path, cache: Cache, options: dict[str, Any]) -> dict[str, Any]:
    from trtkit.export.stage import export_model

    return export_model(project, name, folder).facts


def _calibration(project: Project, name: str, folder: Path, cache: Cache, options: dict[str, Any]) -> dict[str, Any]:
    from trtkit.precision.calibration_stage import calibrate_model

    exported = _exported(cache, name, options)
    return calibrate_model(project, name, _folder(cache, exported.artifact), exported.facts, folder)


def _precision(project: Project, name: str, folder: Path, cache: Cache, options: dict[str, Any]) -> dict[str, Any]:
    from trtkit.precision.stage import make_precision, refuse_lost_accuracy

    exported, precision = _exported(cache, name, options), options["precision"]
    facts = make_precision(
        project, name, precision, options["flavour"], exported=_folder(cache, exported.artifact), facts=exported.facts,
        calibration=_calibration_folder(cache, options), folder=folder,
    )  # fmt: skip
    refuse_lost_accuracy(project, name, precision, facts)
    return facts


def _race(project: Project, name: str, folder: Path, cache: Cache, options: dict[str, Any]) -> dict[str, Any]:
    from trtkit.race.stage import Race

    exported = _exported(cache, name, options)
    return Race(
        project, name, options["flavour"], _folder(cache, exported.artifact), exported.facts,
        _calibration_folder(cache, options), folder, Path(options["plot"]), _gpu_race(project, options.get("gpu")),
    ).run()  # fmt: skip


def _gpu_race(project: Project, options: dict[str, Any] | None) -> Any:
    if options is None:
        return None
    from trtkit.engine import EngineOptions
    from trtkit.engine.profiles import from_json
    from trtkit.race.on_gpu import GpuRace

    engine = EngineOptions.from_json(options["engine"])
    return GpuRace(project.targets[options["target"]], from_json(options["profiles"]), engine)


def _exported(cache: Cache, name: str, options: dict[str, Any]) -> StageRun:
    """The run of the export whose artifact a later stage starts from."""
    return next(run for run in cache.runs(name, "export") if run.artifact == options["exported"])


def _folder(cache: Cache, sha256: str) -> Path:
    artifact = cache.verified("onnx", sha256)
    if artifact is None:
        shutil.rmtree(cache.state / "objects" / sha256, ignore_errors=True)
        raise BuildError(f"an artifact in {cache.state} was damaged and is removed; build again")
    return artifact.path


def _calibration_folder(cache: Cache, options: dict[str, Any]) -> Path | None:
    return _folder(cache, options["calibration"]) if options["calibration"] else None


def _environment(project: Project, name: str, folder: Path, cache: Cache, options: dict[str, Any]) -> dict[str, Any]:
    from trtkit.python_models.environment import make_environment

    return make_environment(project, name, options["python"], folder)


def _python(project: Project, name: str, folder: Path, cache: Cache, options: dict[str, Any]) -> dict[str, Any]:
    from trtkit.python_models.stage import make_python_model

    packed = _folder(cache, options["environment"]) if options["environment"] else None
    return make_python_model(project, name, folder, next(packed.iterdir()) if packed else None, options["python"])


_STAGES = {
    "export": _export, "calibration": _calibration, "precision": _precision, "race": _race,
    "environment": _environment, "python": _python,
}  # fmt: skip


def run_stage(
    project: Project, name: str, stage: str, inputs: dict[str, str], options: dict[str, Any]
) -> dict[str, Any]:
    """Run one stage of a model, store its artifact, remember the run."""
    started = time.perf_counter()
    watch = FileWatch(project, name)
    watch.start()
    cache = Cache(project.state)
    with cache.scratch() as folder:
        facts = _STAGES[stage](project, name, folder, cache, options)
        with file_errors(f"storing the artifact of {name}'s {stage}"):
            artifact = cache.store(stage, folder)
    cache.remember(name, stage, StageRun(inputs, watch.files(), artifact.sha256, facts))
    return {"seconds": time.perf_counter() - started}


def main() -> None:
    """The worker's entry point."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end when the build is killed
    request, descriptor, build = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
    if os.getppid() != int(build):
        sys.exit("the build was killed before its worker began")
    os.set_inheritable(int(descriptor), False)  # a program that the user's code leaves running would hold it open
    try:
        project = load_project(Path(request["project"]))
        result = run_stage(project, request["model"], request["stage"], request["inputs"], request["options"])
    except TrtkitError as exc:
        result = {"error": type(exc).__name__, "message": str(exc)}
    with os.fdopen(int(descriptor), "w") as pipe:
        json.dump(result, pipe)


if __name__ == "__main__":
    main()
