# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Write rendered files, each whole or not at all, and never over what somebody changed by hand.

A folder of rendered files holds ``.trtkit-rendered.json``: the SHA-256 of each file as it was written. A file whose
content is another one now was edited, and a file that stands there without being listed is somebody's own.
"""

from __future__ import annotations

import json
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
    known = _record(folder).get(part, {})
    found = []
    for file in sorted({*files, *known}):
        now = _hash(folder / file)
        wanted = _text_hash(files[file]) if file in files else None
        edited = now is not None and now not in (known.get(file), wanted)
        if now == wanted:
            found += [Change(file, "keep", edited=False)] if wanted else []
        elif wanted is None:
            found.append(Change(file, "remove", edited))
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
    edited = [change.file for change in done if change.edited]
    if edited and not force:
        raise ProjectError(
            f"{folder}: {', '.join(edited[:5])}{', …' if len(edited) > 5 else ''} was not written by trtkit, or "
            "changed since; nothing was written. Move it away, choose another --output, or pass --force to overwrite it"
        )
    with file_errors(f"writing to {folder}"):
        for change in done:
            if change.kind in ("create", "update"):
                (folder / change.file).parent.mkdir(parents=True, exist_ok=True)
                write_atomically(folder / change.file, files[change.file].encode())
                _make_executable(folder / change.file, files[change.file])
            elif change.kind == "remove":
                (folder / change.file).unlink()
        folder.mkdir(parents=True, exist_ok=True)
        record = {**_record(folder), part: {file: _text_hash(text) for file, text in sorted(files.items())}}
        write_atomically(folder / RECORD, (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())
    return done


def _make_executable(path: Path, text: str) -> None:
    if text.startswith("#!"):
        path.chmod(0o755)


def _text_hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _hash(path: Path) -> str | None:
    return sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _record(folder: Path) -> dict[str, dict[str, str]]:
    try:
        value = json.loads((folder / RECORD).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return {k: v for k, v in value.items() if isinstance(v, dict)} if isinstance(value, dict) else {}
