# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Small repositories, and `trtkit lint` on them, for several test files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import json_format, text_format

from trtkit import cli
from trtkit.config import ModelConfig
from trtkit.lint.finding import Finding
from trtkit.lint.rule import Rule
from trtkit.lint.rules import RULES
from trtkit.lint.run import findings_of, open_repository
from trtkit.lint.server_facts import ServerFacts
from trtkit.lint.tree import LocalTree

PYTHON = "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"
TENSORS = """input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 4 ] } ]
"""
GOOD = f'name: "good"\nbackend: "python"\n{TENSORS}'
BAD = f'name: "bad"\nbackend: "python"\nmax_batchsize: 8\n{TENSORS}'


STRICT = "--disable-auto-complete-config"


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Files by their paths in a folder, which may be there already."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def write_model(root: Path, name: str, config: str | bytes, python: str = PYTHON) -> Path:
    """A Python model's folder."""
    return write_files(root / name, {"config.pbtxt": config, "1/model.py": python})


def as_pbtxt(config: Mapping[str, Any]) -> str:
    """A config as text."""
    return text_format.MessageToString(json_format.ParseDict(config, ModelConfig()))


def findings(
    repository: Path, rules: Iterable[Rule] = RULES, facts: ServerFacts | None = None, models: Sequence[str] = ()
) -> list[Finding]:
    """What rules find in a repository, for a server of which nothing is known by default."""
    return findings_of(open_repository(LocalTree(repository), facts or ServerFacts()), tuple(rules), models)


def lint(capture: Any, *arguments: str) -> tuple[int, Any, Any]:
    """Run the command here: exit code, standard output, standard error."""
    code = cli.run(["lint", *arguments])
    out, err = capture.readouterr()
    return code, out, err
