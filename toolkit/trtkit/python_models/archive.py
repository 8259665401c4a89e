# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Packed environments: unpacked and activated as the Python backend does it, in a process that has nothing of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trtkit.errors import BuildError

_PROBE = """
import json, sys
import numpy
print(json.dumps([sys.prefix, numpy.__version__]))
"""


def check_archive(archive: Path, python: str, work: Path, where: str) -> dict[str, Any]:
    """Unpack the user's archive somewhere and activate it, to see that it is what the server needs.

    Args:
        archive: a .tar.gz of conda-pack, venv-pack or trtkit.
        python: of the server, e.g. ``3.12``.
        work: an empty folder.
        where: of the archive in the project file.

    Returns:
        Facts: ``packages`` as ``name==version``, ``notes``.

    Raises:
        BuildError: it is no archive, has no ``bin/activate`` at its top, is of another Python, does not work where it
            was unpacked, or has no numpy 1.
    """
    folder = work / "given"
    unpack(archive, folder, where)
    if not (folder / "bin" / "activate").is_file():
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
        raise BuildError(
            f"{where}: '{archive.name}' has no bin/activate at its top, where it has {found}; pack what is in the "
            "environment's folder, as conda-pack does"
        )
    if not (site := folder / "lib" / f"python{python}" / "site-packages").is_dir():
        has = ", ".join(sorted(path.name for path in folder.glob("lib/python3*"))) or "no Python"
        raise BuildError(f"{where}: '{archive.name}' holds {has}; the server's stub is one of Python {python}")
    prefix, numpy = _probe(folder, archive, where)
    if Path(prefix).resolve() != folder.resolve():
        raise BuildError(
            f"{where}: '{archive.name}' is not relocatable: activated in another folder its Python is that of "
            f"{prefix}; pack it with conda-pack or venv-pack"
        )
    if int(numpy.partition(".")[0]) > 1:
        raise BuildError(f"{where}: '{archive.name}' holds numpy {numpy}; the server's stub needs numpy 1")
    return {"packages": packages(site), "notes": _outside(folder)}


def packages(site: Path) -> list[str]:
    """The distributions of a site-packages folder as ``name==version``."""
    names = (info.name.removesuffix(".dist-info").rpartition("-") for info in site.glob("*.dist-info"))
    return sorted(f"{name.replace('_', '-').lower()}=={version}" for name, _, version in names)


def unpack(archive: Path, folder: Path, where: str) -> None:
    """Unpack an archive into a new folder.

    Raises:
        BuildError: it cannot be read.
    """
    folder.mkdir()
    done = subprocess.run(
        ["tar", "-xzf", str(archive), "-C", str(folder)], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise BuildError(f"{where}: '{archive.name}' cannot be unpacked as tar.gz: {_last_line(done.stderr)}")


def run_activated(folder: Path, arguments: Sequence[str], given: str = "") -> subprocess.CompletedProcess[str]:
    """Run the Python of an unpacked environment as the server's stub is run: after its ``bin/activate``.

    Args:
        folder: the environment.
        arguments: of Python.
        given: to its standard input.
    """
    line = 'source "$0/bin/activate" && exec python3 "$@"'
    command = ["bash", "-c", line, str(folder), *arguments]
    own = (str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin")
    clean = {"PATH": os.pathsep.join(own), "HOME": str(folder), "LANG": "C.UTF-8", "PYTHONNOUSERSITE": "1"}
    return subprocess.run(
        command, env=clean, input=given, capture_output=True, text=True, errors="replace", check=False
    )


def _probe(folder: Path, archive: Path, where: str) -> tuple[str, str]:
    """Where the environment's Python thinks it is, and its numpy."""
    done = run_activated(folder, ["-c", _PROBE])
    try:
        prefix, numpy = json.loads(done.stdout)
    except ValueError as exc:
        links = "".join(f" ({note})" for note in _outside(folder))
        why = f"{_last_line(done.stderr)}{links}"
        raise BuildError(
            f"{where}: '{archive.name}' has no Python that imports numpy, as the stub does: {why}"
        ) from exc
    return str(prefix), str(numpy)


def _outside(folder: Path) -> list[str]:
    """What the server's machine needs to have, because the environment only links to it."""
    link = folder / "bin" / "python3"
    target = os.readlink(link) if link.is_symlink() else ""  # noqa: PTH115 - as it is written
    if not target.startswith("/") or Path(target).is_relative_to(folder):
        return []
    return [f"its python3 is a link to {target}, which the server's machine needs to have too"]


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2] or "no word about why"
