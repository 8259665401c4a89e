# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""One export in a process of its own: ``python -m trtkit.build_worker PROJECT_FILE MODEL RESULT_FD``.

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

_SKIPPED_PARTS = {"site-packages", "__pycache__", "dist-packages"}


class FileWatch:
    """Notes which of the project's files are opened for reading, from `start` on.

    Modules count by their source file, whether or not Python read a cached copy.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
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
        """The sha256 of each, by path relative to the project."""
        files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
        modules = {Path(file) for file in files if isinstance(file, str)}
        relative = {path.relative_to(self.project.root) for path in self.opened | modules if self._counts(path)}
        return {path.as_posix(): hash_file(self.project.root / path) for path in sorted(relative)}

    def _counts(self, path: Path) -> bool:
        own = (self.project.repository, Path(__file__).resolve().parent)  # trtkit counts by its stage version
        if not path.is_relative_to(self.project.root) or any(path.is_relative_to(folder) for folder in own):
            return False
        parts = path.relative_to(self.project.root).parts
        hidden = any(part.startswith(".") for part in parts)
        return not hidden and not _SKIPPED_PARTS & set(parts) and path.is_file() and path != self.project.file


def run_export(project: Project, name: str) -> dict[str, Any]:
    """Export one model, store the artifact, remember the run."""
    from trtkit.export.key import STAGE, export_inputs
    from trtkit.export.stage import export_model

    started = time.perf_counter()
    watch = FileWatch(project)
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
    project_file, name, descriptor = sys.argv[1:4]
    os.set_inheritable(int(descriptor), False)  # a program that the user's code leaves running would hold it open
    try:
        result = run_export(load_project(Path(project_file)), name)
    except TrtkitError as exc:
        result = {"error": type(exc).__name__, "message": str(exc)}
    with os.fdopen(int(descriptor), "w") as pipe:
        json.dump(result, pipe)


if __name__ == "__main__":
    main()
