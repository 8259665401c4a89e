# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The content-addressed cache ``.trtkit/`` and the records of what made each artifact.

::

    .trtkit/objects/<sha256>/…         an artifact: one folder of files, named by the hash of its content
    .trtkit/stages/<model>/<stage>.json  the runs of a stage: inputs, discovered files, the artifact, facts

An artifact appears by one rename and is never changed afterwards. A record is replaced by one rename.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trtkit.errors import RepositoryError

_RUNS_KEPT = 8


@dataclass(frozen=True)
class Artifact:
    """A folder of files in the cache, which never changes.

    Attributes:
        kind: ``onnx`` (holds model.onnx and, above 2 GB, its external data) or ``config``.
        path: the folder.
        sha256: the hash of the names and contents of its files.
    """

    kind: str
    path: Path
    sha256: str


@dataclass(frozen=True)
class StageRun:
    """One remembered run of a stage.

    Attributes:
        inputs: fingerprint by the input's name, as in "source", "inputs", "trtkit".
        files: sha256 by path (relative to the project) of the files the user's code was seen to read.
        artifact: the sha256 of the artifact it made.
        facts: what else it found (signature, parity, warnings), JSON values.
    """

    inputs: dict[str, str]
    files: dict[str, str]
    artifact: str
    facts: dict[str, Any] = field(default_factory=dict)


def fingerprint(value: Any) -> str:
    """A short hash of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def hash_file(path: Path) -> str:
    """The sha256 of a file's content; ``absent`` when there is none, ``unreadable`` when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return "absent"
    except (OSError, ValueError):  # no rights, a broken disk, a name that is none
        return "unreadable"
    return digest.hexdigest()


def hash_folder(path: Path) -> str:
    """The hash of the names and contents of all files under a folder."""
    lines = [
        f"{file.relative_to(path).as_posix()} {hash_file(file)}" for file in sorted(path.rglob("*")) if file.is_file()
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@contextmanager
def file_errors(doing: str) -> Iterator[None]:
    """The one place where the file system's errors become ours."""
    try:
        yield
    except OSError as exc:
        place = f" ({exc.filename})" if exc.filename else ""
        raise RepositoryError(f"{doing}: {exc.strerror or exc}{place}; nothing was changed") from exc


class Cache:
    """The artifacts and stage records of one project."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def artifact(self, kind: str, sha256: str) -> Artifact | None:
        """The artifact with this hash, or None when the cache does not hold it."""
        path = self.state / "objects" / sha256
        return Artifact(kind, path, sha256) if path.is_dir() else None

    def verified(self, kind: str, sha256: str) -> Artifact | None:
        """The same, but only if its files still have the hash."""
        artifact = self.artifact(kind, sha256)
        return artifact if artifact and hash_folder(artifact.path) == sha256 else None

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder on the cache's file system, removed afterwards."""
        with file_errors(f"making a temporary folder in {self.state}"):
            self.state.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix="tmp-", dir=self.state))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def store(self, kind: str, folder: Path) -> Artifact:
        """Move a folder of files into the cache; an equal artifact that is already there is kept."""
        sha256 = hash_folder(folder)
        target = self.state / "objects" / sha256
        with file_errors(f"storing an artifact in {self.state}"):
            if target.is_dir() and hash_folder(target) != sha256:
                shutil.rmtree(target)
            if not target.is_dir():
                sync_tree(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                _rename_unless_there(folder, target)
        return Artifact(kind, target, sha256)

    def runs(self, model: str, stage: str) -> list[StageRun]:
        """The remembered runs of a stage, newest first."""
        try:
            records = json.loads((self.state / "stages" / model / f"{stage}.json").read_bytes())
            return [_run(record) for record in records]
        except (OSError, ValueError, TypeError, RecursionError):
            return []  # no record, or one that is no record: the stage runs again

    def remember(self, model: str, stage: str, run: StageRun) -> None:
        """Put a run in front of a stage's remembered ones."""
        others = [r for r in self.runs(model, stage) if (r.inputs, r.files) != (run.inputs, run.files)]
        path = self.state / "stages" / model / f"{stage}.json"
        records = [vars(r) for r in [run, *others][:_RUNS_KEPT]]
        with file_errors(f"writing {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(records, indent=1).encode())

    def matching(self, model: str, stage: str, inputs: Mapping[str, str], root: Path) -> StageRun | None:
        """A remembered run with these inputs whose files are all unchanged."""
        for run in self.runs(model, stage):
            if run.inputs == dict(inputs) and all(hash_file(root / f) == sha for f, sha in run.files.items()):
                return run
        return None

    def why_not(self, model: str, stage: str, inputs: Mapping[str, str], root: Path) -> str:
        """What differs from the last run, in words: the reason a stage runs again."""
        runs = self.runs(model, stage)
        if not runs:
            return "never built here"
        last = runs[0]
        names = [name for name in {**last.inputs, **inputs} if last.inputs.get(name) != inputs.get(name)]
        files = [f for f, sha in last.files.items() if hash_file(root / f) != sha]
        return f"changed: {', '.join([*names, *files])}" if names or files else "its artifact is gone from the cache"


def _run(record: Any) -> StageRun:
    run = StageRun(**record)
    if not all(isinstance(part, dict) for part in (run.inputs, run.files, run.facts)) or not isinstance(
        run.artifact, str
    ):
        raise TypeError("no StageRun")
    return run


def _rename_unless_there(folder: Path, target: Path) -> None:
    """Two workers may make one artifact at the same time; either's copy will do."""
    try:
        folder.rename(target)
        sync(target.parent)
    except OSError as exc:
        if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file by one rename, after its bytes are on the disk."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Flush one file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Flush every file and folder under `folder`, and itself."""
    for path in folder.rglob("*"):
        if not path.is_symlink() and (path.is_file() or path.is_dir()):  # opening a pipe would wait for its reader
            sync(path)
    sync(folder)
