# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures: the real tritonserver, and a built copy of the sample project."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from trtkit.server import RunningServer, serve

ECHO_MODEL = '''
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("y", pb_utils.get_input_tensor_by_name(request, "x").as_numpy())]
            )
            for request in requests
        ]
'''

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
