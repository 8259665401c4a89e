# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""One export in a process of its own: ``python -m trtkit.build_worker PROJECT_FILE MODEL RESULT_FD BUILD_PID``.

The user's code may print, change global state or crash; here it can. The result, or the error, goes to a
pipe as one JSON object; everything printed goes to the log.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from trtkit.artifacts import Cache, StageRun, file_errors, hash_file
from trtkit.errors import TrtkitError
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
        files = [split_reference(reference, project.root)[0] for reference in named if reference]
        self.roots = [project.root, *(file.parent for file in files)]  # a source may be elsewhere, or a link to there
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


def run_export(project: Project, name: str) -> dict[str, Any]:
    """Export one model, store the artifact, remember the run."""
    from trtkit.export.key import STAGE, export_inputs
    from trtkit.export.stage import export_model

    started = time.perf_counter()
    watch = FileWatch(project, name)
    watch.start()
    cache = Cache(project.state)
    with cache.scratch() as folder:
        exported = export_model(project, name, folder)
        with file_errors("storing the exported model"):
            artifact = cache.store("onnx", folder)
    run = StageRun(export_inputs(project.models[name]), watch.files(), artifact.sha256, exported.facts)
    cache.remember(name, STAGE, run)
    return {"seconds": time.perf_counter() - started}


def main() -> None:
    """The worker's entry point."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end when the build is killed
    project_file, name, descriptor, build = sys.argv[1:5]
    if os.getppid() != int(build):
        sys.exit("the build was killed before its worker began")
    os.set_inheritable(int(descriptor), False)  # a program that the user's code leaves running would hold it open
    try:
        result = run_export(load_project(Path(project_file)), name)
    except TrtkitError as exc:
        result = {"error": type(exc).__name__, "message": str(exc)}
    with os.fdopen(int(descriptor), "w") as pipe:
        json.dump(result, pipe)


if __name__ == "__main__":
    main()
