# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures: the real tritonserver, and a built copy of the sample project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from trtkit.server import RunningServer, serve

# new examples where people work, the same ones in CI; examples on a busy machine may take their time
settings.register_profile("trtkit", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("trtkit")


@dataclass(frozen=True)
class Process:
    """A row of /proc."""

    pid: int
    parent: int
    group: int
    name: str


def processes() -> list[Process]:
    """The living processes (zombies do not count)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            head, _, tail = (folder / "stat").read_text().rpartition(")")
        except OSError:
            continue  # it ended in between
        state, parent, group = tail.split()[:3]
        if state not in "ZX":
            found.append(Process(int(folder.name), int(parent), int(group), head.partition("(")[2]))
    return found


ECHO_MODEL = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("y", pb_utils.get_input_tensor_by_name(request, "x").as_numpy())]
            )
            for request in requests
        ]
"""

ECHO_CONFIG = """
name: "echo"
backend: "python"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: 4 }
output { name: "y" data_type: TYPE_FP32 dims: 4 }
instance_group { count: 1 kind: KIND_CPU }
"""


def write_model(repository: Path, name: str, config: str, python: str) -> None:
    version = repository / name / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(python)
    (repository / name / "config.pbtxt").write_text(config)


@pytest.fixture(scope="session")
def echo_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with `echo`: FP32 x[4] to y[4], max_batch_size 8."""
    repository = tmp_path_factory.mktemp("echo_repository")
    write_model(repository, "echo", ECHO_CONFIG, ECHO_MODEL)
    return repository


@pytest.fixture(scope="session")
def server(echo_repository: Path) -> Iterator[RunningServer]:
    """A real tritonserver serving `echo`."""
    with serve(echo_repository) as running:
        yield running


ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def built_sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample project as a fresh clone has it, built once; not to be changed by a test."""
    project = tmp_path_factory.mktemp("sample") / "project"
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]  # also what is not committed yet
    files = subprocess.run(
        [*command, "trtkit.yaml", "scripts", "model_repository"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for file in filter(lambda file: (ROOT / file).is_file(), files):
        (project / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, project / file)
    subprocess.run([sys.executable, "-m", "trtkit", "build"], cwd=project, check=True, capture_output=True, timeout=280)
    return project


@pytest.fixture
def sample(built_sample: Path, tmp_path: Path) -> Path:
    """A copy of the built sample project that a test may change."""
    return Path(shutil.copytree(built_sample, tmp_path / "project", symlinks=True))
