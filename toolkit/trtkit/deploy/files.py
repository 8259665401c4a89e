# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Write rendered files, each whole or not at all, and never over what somebody changed by hand.

A folder of rendered files holds ``.trtkit-rendered.json``: the SHA-256 of each file as it was written. A file whose
content is another one now was edited, and a file that stands there without being listed is somebody's own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from trtkit.artifacts import file_errors, write_atomically
from trtkit.errors import ProjectError

RECORD = ".trtkit-rendered.json"


@dataclass(frozen=True)
class Change:
    """What writing would do to one file: ``create``, ``update``, ``remove`` or ``keep``."""

    file: str
    kind: str
    edited: bool


def changes(files: Mapping[str, str], folder: Path, part: str) -> list[Change]:
    """What writing the files to a folder would change.

    Args:
        files: content by relative path, with slashes.
        folder: where they go; it need not exist.
        part: which renderer they are of; several may share a folder, and each removes only its own files.
    """
    record = _record(folder)
    known = record.get(part, {})
    shared = {file for name, files_of in record.items() if name != part for file in files_of}
    found = []
    with file_errors(f"reading {folder}"):
        for file in sorted({*files, *known}):
            now = _hash(folder / file)
            wanted = _text_hash(files[file]) if file in files else None
            edited = now is not None and now not in (known.get(file), wanted)
            if now == wanted:
                found += [Change(file, "keep", edited=False)] if wanted else []
            elif wanted is None:
                found += [] if file in shared else [Change(file, "remove", edited)]
            else:
                found.append(Change(file, "create" if now is None else "update", edited))
    return found


def write(files: Mapping[str, str], folder: Path, part: str, *, force: bool = False) -> list[Change]:
    """Write the files, remove those that an earlier run wrote and this one does not, and say what was done.

    Args:
        files: content by relative path, with slashes.
        folder: where they go; made where it is absent.
        part: which renderer they are of.
        force: also over files that were changed by hand.

    Raises:
        ProjectError: files were changed by hand, or are somebody's own; nothing was written.
        RepositoryError: the file system refused.
    """
    done = changes(files, folder, part)
    _refuse_edited([change.file for change in done if change.edited and not force], folder)
    _refuse_folders([folder / change.file for change in done], folder)
    with file_errors(f"writing to {folder}"):
        for change in done:
            if change.kind in ("create", "update"):
                (folder / change.file).parent.mkdir(parents=True, exist_ok=True)
                write_atomically(folder / change.file, files[change.file].encode())
                _make_executable(folder / change.file, files[change.file])
            elif change.kind == "remove":
                _remove(folder / change.file, folder)
        _remember(folder, {**_record(folder), part: {file: _text_hash(text) for file, text in sorted(files.items())}})
    return done


def _refuse_edited(edited: list[str], folder: Path) -> None:
    if edited:
        raise ProjectError(
            f"{folder}: {', '.join(edited[:5])}{', …' if len(edited) > 5 else ''} was not written by trtkit, or "
            "changed since; nothing was written. Move it away, choose another --output, or pass --force to overwrite it"
        )


def _refuse_folders(paths: list[Path], folder: Path) -> None:
    """Before anything is written: what stands in the way can be neither replaced nor written below."""
    for path in paths:
        above = [p for p in path.parents if p.is_relative_to(folder)]
        blocked = [path] if path.is_dir() else [p for p in above if os.path.lexists(p) and not p.is_dir()]
        if blocked:
            what = "a folder" if blocked[0].is_dir() else "no folder"
            raise ProjectError(f"{blocked[0]} is {what}, so {path} cannot be written; nothing was. Move it away")


def _remove(path: Path, folder: Path) -> None:
    """A file, and the folders that it leaves empty."""
    path.unlink()
    for above in path.parents:
        if above == folder or any(above.iterdir()):
            return
        above.rmdir()


def _remember(folder: Path, record: Mapping[str, Mapping[str, str]]) -> None:
    if record != _record(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / RECORD, (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())


def _make_executable(path: Path, text: str) -> None:
    if text.startswith("#!"):
        path.chmod(0o755)


def _text_hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _hash(path: Path) -> str | None:
    """Of a file; None where there is nothing, '' where there is something else, such as a folder."""
    if path.is_file():
        return sha256(path.read_bytes()).hexdigest()
    return "" if os.path.lexists(path) else None


def _record(folder: Path) -> dict[str, dict[str, str]]:
    """The files of each part by the hash they were written with; empty where it cannot be read."""
    try:
        value = json.loads((folder / RECORD).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    parts = value.items() if isinstance(value, dict) else ()
    return {part: _own(files) for part, files in parts if isinstance(files, dict)}


def _own(files: Mapping[str, object]) -> dict[str, str]:
    """Without names that lead out of the folder: nothing there is removed, whatever a record says."""
    inside = {file for file in files if ".." not in Path(file).parts and not Path(file).is_absolute()}
    return {file: str(text) for file, text in files.items() if file in inside}
