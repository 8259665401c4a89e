# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The programs that check rendered files; `.ci/tools` installs those that pip does not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = Path(sys.prefix)
FOLDERS = (
    Path(sys.executable).parent,
    ENVIRONMENT / "checkov/bin",
    ENVIRONMENT / "docker-config/cli-plugins",
    ENVIRONMENT / "later/bin",
    Path(sysconfig.get_path("purelib")) / "envoy/_bin",
)
"""Where programs are that belong to this checkout; `docker-compose` is version 2 there, and needs no docker."""


def program(name: str) -> str:
    """The path of a program, of the virtual environment first; the test is skipped where there is none."""
    found = shutil.which(name, path=os.pathsep.join(map(str, FOLDERS))) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed; `sh .ci/tools` installs it where it can")
    return found


def node_module(name: str) -> Path:
    """The folder of an npm package of this checkout; the test is skipped without it, or without Node.js."""
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed")
    folder = ENVIRONMENT / "node/node_modules" / name
    if not folder.is_dir():
        pytest.skip(f"the npm package {name} is not installed; `sh .ci/tools` installs it where it can")
    return folder


def run(*command: str | Path, cwd: Path | None = None, text: str | None = None, timeout: float = 120) -> str:
    """Run a program and give what it printed; the test fails with that where it exits with another code than 0."""
    done = subprocess.run(list(map(str, command)), cwd=cwd, input=text, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"{' '.join(map(str, command))} exited {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def write_all(files: dict[str, str], folder: Path) -> Path:
    """Rendered files on disk."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder
