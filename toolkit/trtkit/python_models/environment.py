# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The packed environment of a Python model: packages in an archive that the Python backend unpacks and activates.

It holds packages and no interpreter: its ``bin/activate`` makes it, where it was unpacked, a virtual environment of
the Python that is on the server's PATH. So one archive serves wherever that Python has the same minor version, in the
embedded server as in a container, and it is small.
"""

from __future__ import annotations

import gzip
import platform
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trtkit.artifacts import hash_file
from trtkit.errors import BuildError, MissingDependencyError
from trtkit.project import Project
from trtkit.python_models.archive import check_archive, packages
from trtkit.python_models.key import is_archive

# what the stubs up to Triton 25 are compiled against; with numpy 2 every output has no bytes, and no error says so
_NUMPY = "numpy<2"
_GLIBC = ("2_28", "2_27", "2_24", "2_17")  # the images are of Ubuntu 22.04 and 24.04
_ACTIVATE = """\
# Sourced by Triton's Python backend, in bash, where it has unpacked this environment: makes it a virtual environment
# of the Python {minor} that is on the PATH.
_env="$(cd "$(dirname "${{BASH_SOURCE[0]}}")/.." && pwd)"
_python="$(command -v python{minor} || command -v python3)"
_home="$("$_python" -I -c 'import os, sys
if "%d.%d" % sys.version_info[:2] == "{minor}":
    print(os.path.dirname(os.path.realpath(sys._base_executable)))')"
if [ -x "$_home/python{minor}" ]; then
    printf 'home = %s\\ninclude-system-site-packages = false\\n' "$_home" > "$_env/pyvenv.cfg.$$"
    mv -f "$_env/pyvenv.cfg.$$" "$_env/pyvenv.cfg"
    for _name in python python3 python{minor}; do
        ln -sf "$_home/python{minor}" "$_env/bin/$_name.$$" && mv -fT "$_env/bin/$_name.$$" "$_env/bin/$_name"
    done
    unset PYTHONHOME
    export VIRTUAL_ENV="$_env" PATH="$_env/bin:$PATH"
else
    echo "this environment is for Python {minor}, and $_python is another; its packages are left out" >&2
fi
"""


def make_environment(project: Project, name: str, python: str, folder: Path) -> dict[str, Any]:
    """Make or take a model's environment, and put its archive into a folder under a name of its content.

    Args:
        project: the project.
        name: a model with ``environment:``.
        python: of the server, e.g. ``3.12``.
        folder: receives ``environment-HASH.tar.gz``.

    Returns:
        Facts: ``file``, ``python``, ``packages`` as ``name==version``, ``notes``.

    Raises:
        BuildError: pip could not install the packages, or the given archive is none for this Python.
    """
    given, where = project.models[name].environment, project.where("models", name, "environment")
    work = folder / "work"
    work.mkdir()
    try:
        if isinstance(given, str) and is_archive(given):
            archive, facts = project.root / given, check_archive(project.root / given, python, work, where)
        else:
            archive = work / "environment.tar.gz"
            facts = _packed(given or [], python, project.root, archive, where)
        file = f"environment-{hash_file(archive)[:12]}.tar.gz"
        shutil.copyfile(archive, folder / file)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return {"file": file, "python": python, **facts}


def _packed(given: str | Sequence[str], python: str, root: Path, archive: Path, where: str) -> dict[str, Any]:
    """Install requirements into a folder, and pack it."""
    folder = archive.parent / "environment"
    site = folder / "lib" / f"python{python}" / "site-packages"
    site.mkdir(parents=True)
    (folder / "bin").mkdir()
    _install(["--requirement", given] if isinstance(given, str) else given, python, site, root, where)
    for file in site.glob("*.dist-info/direct_url.json"):  # says where on this machine a wheel lay
        file.unlink()
    _move_programs(site / "bin", folder / "bin")
    if python == _own_python():  # at once, and not by every server that unpacks it
        how = ["-q", "-j0", "--invalidation-mode", "unchecked-hash", "-s", str(folder)]  # the same wherever it is made
        subprocess.run([sys.executable, "-m", "compileall", *how, str(site)], check=False)  # some are no Python
    (folder / "bin" / "activate").write_text(_ACTIVATE.format(minor=python))
    _pack(folder, archive)
    return {"packages": packages(site), "notes": []}


def _own_python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _install(requirements: Sequence[str], python: str, site: Path, root: Path, where: str) -> None:
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode:
        raise MissingDependencyError(
            f"{where}: an environment is made with pip, which this Python has not; install pip"
        )
    command = [sys.executable, "-m", "pip", "install", "--target", str(site), "--no-compile", "--no-input"]
    command += ["--disable-pip-version-check", "--no-warn-script-location", *_for(python), *requirements, _NUMPY]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, errors="replace", check=False)
    print(done.stdout, done.stderr, flush=True)  # noqa: T201 - to the stage's log
    if done.returncode:
        complaints = re.findall(r"^ERROR: (.*)$", done.stderr, flags=re.MULTILINE)
        why = complaints[-1] if complaints else done.stderr.strip().rpartition("\n")[2]
        raise BuildError(f"{where}: pip cannot make the environment for Python {python} with {_NUMPY}: {why}")


def _for(python: str) -> list[str]:
    """Options with which pip takes wheels for another Python than its own."""
    if python == _own_python():
        return []
    platforms = [f"manylinux_{glibc}_{platform.machine()}" for glibc in _GLIBC] + [
        f"manylinux2014_{platform.machine()}"
    ]
    chosen = [option for each in platforms for option in ("--platform", each)]
    return ["--python-version", python, "--implementation", "cp", "--only-binary", ":all:", *chosen]


def _move_programs(source: Path, target: Path) -> None:
    """Put programs where the activated PATH finds them, and let scripts run with its Python."""
    for file in sorted(source.glob("*")):
        content = file.read_bytes()
        if content.startswith(b"#!") and b"python" in content.partition(b"\n")[0]:
            content = b"#!/usr/bin/env python3\n" + content.partition(b"\n")[2]
        (target / file.name).write_bytes(content)
        (target / file.name).chmod(0o755)
    shutil.rmtree(source, ignore_errors=True)


def _pack(folder: Path, archive: Path) -> None:
    """A tar.gz that is the same for the same content."""
    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted(folder.rglob("*")):
            tar.add(path, path.relative_to(folder).as_posix(), recursive=False, filter=_plain)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
    return entry
