# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The digest of what is served: a rollout is a change of it, so that no change may go unnoticed.

Large files are read once: their hashes are kept with the file's size, times and inode, and a file that differs in one
of them is read again. The hashes in the records of published versions are not used: they say what was published, and
not what lies there now.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from trtkit.artifacts import hash_file, write_atomically
from trtkit.deploy.planned import ServedModel
from trtkit.errors import RepositoryError

HASHES = "deploy-hashes.json"
"""In the project's state folder."""
LEAST_BYTES = 1 << 20
"""Smaller files are read each time."""
_SETTLED_NS = 2_000_000_000  # FAT's times have steps of 2 s, and no file system has longer ones
State = tuple[int, int, int, int]


def digest_of(repository: Path, served: Sequence[ServedModel], state: Path | None = None) -> str:
    """SHA-256 over the path and content of every file of the served models: equal digests serve the same.

    Args:
        repository: the model repository.
        served: the models.
        state: the project's state folder, where hashes of large files are kept; None to read every file.

    Raises:
        RepositoryError: a file cannot be read.
    """
    kept = _read(state / HASHES) if state else {}
    known = dict(kept)
    rows = {}
    for model in served:
        for file in files_of(repository / model.name):
            rows[file.relative_to(repository).as_posix()] = _hash(file, known)
    if state and known != kept:
        _write(state / HASHES, known)
    return sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


def files_of(folder: Path, above: tuple[tuple[int, int], ...] = ()) -> Iterator[Path]:
    """The files of a model's folder by name, through links as the server reads them, without what Python compiles.

    A link to a folder that it lies in is left out.

    Raises:
        RepositoryError: a folder cannot be read.
    """
    try:
        here = folder.stat()
        entries = sorted(folder.iterdir())
    except OSError as exc:
        raise RepositoryError(f"{folder} cannot be read: {exc.strerror}") from exc
    if (here.st_dev, here.st_ino) in above:
        return
    for entry in entries:
        if entry.is_dir():
            if entry.name != "__pycache__":
                yield from files_of(entry, (*above, (here.st_dev, here.st_ino)))
        elif entry.is_file():
            yield entry


def _hash(file: Path, known: dict[str, list[Any]]) -> str:
    """Of a file, as it was found before where nothing speaks of a change."""
    before = _state(file)
    key = str(file.absolute())
    if known.get(key, [])[:-1] == list(before):
        return str(known[key][-1])
    value = _read_file(file, before)
    # one that is being written, or was just now, may change again without another time
    settled = time.time_ns() - max(before[1:3]) > _SETTLED_NS
    if before[0] >= LEAST_BYTES and settled and _state(file) == before:
        known[key] = [*before, value]
    else:
        known.pop(key, None)
    return value


@lru_cache(maxsize=10_000)
def _read_file(file: Path, state: State) -> str:
    """Of a file in this state: the plans of several environments read it once."""
    value = hash_file(file)
    if value in ("absent", "unreadable"):
        raise RepositoryError(f"{file} cannot be read, and what is served has to be; mend its rights")
    return value


def _state(file: Path) -> State:
    """What differs when a file was changed: its size, times and inode; nobody can set the second time."""
    try:
        found = file.stat()
    except OSError as exc:
        raise RepositoryError(f"{file} cannot be read: {exc.strerror}") from exc
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _read(file: Path) -> dict[str, list[Any]]:
    """What was kept; nothing where it cannot be read."""
    with suppress(OSError, ValueError, RecursionError):
        value = json.loads(file.read_bytes())
        if isinstance(value, dict) and all(isinstance(row, list) and len(row) == 5 for row in value.values()):
            return value
    return {}


def _write(file: Path, known: dict[str, list[Any]]) -> None:
    """Keep what is still there; a folder that nobody may write to costs time only."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        there = {name: row for name, row in known.items() if Path(name).exists()}
        write_atomically(file, json.dumps(there, sort_keys=True).encode())
