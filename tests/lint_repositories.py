# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Small repositories, and `trtkit lint` on them, for several test files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trtkit import cli

PYTHON = "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"
TENSORS = """input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 4 ] } ]
"""
GOOD = f'name: "good"\nbackend: "python"\n{TENSORS}'
BAD = f'name: "bad"\nbackend: "python"\nmax_batchsize: 8\n{TENSORS}'


def write_model(root: Path, name: str, config: str | bytes, python: str = PYTHON) -> Path:
    """A Python model's folder."""
    (root / name / "1").mkdir(parents=True)
    (root / name / "config.pbtxt").write_bytes(config.encode() if isinstance(config, str) else config)
    (root / name / "1" / "model.py").write_text(python)
    return root / name


def lint(capture: Any, *arguments: str) -> tuple[int, Any, Any]:
    """Run the command here: exit code, standard output, standard error."""
    code = cli.run(["lint", *arguments])
    out, err = capture.readouterr()
    return code, out, err
