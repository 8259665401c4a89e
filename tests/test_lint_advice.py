# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Advice is given where it is known to help, and not about backends whose ways lint does not know."""

from __future__ import annotations

from pathlib import Path

import pytest

from lint_repositories import write_files
from trtkit.lint.rules import advice, layout_files, plans
from trtkit.lint.run import findings_of, open_repository
from trtkit.lint.server_facts import ServerFacts
from trtkit.lint.tree import LocalTree

IO = 'input { name: "x" data_type: TYPE_FP32 dims: 4 } output { name: "y" data_type: TYPE_FP32 dims: 4 }\n'
GPU = "instance_group { kind: KIND_GPU }\n"


def codes(root: Path) -> list[str]:
    repository = open_repository(LocalTree(root), ServerFacts())
    return [found.code for found in findings_of(repository, (*advice.RULES, *layout_files.RULES, *plans.RULES))]


@pytest.mark.parametrize("backend", ["tensorrtllm", "vllm", "fastertransformer", "python", "identity", "my_own"])
def test_other_backends_are_left_alone(tmp_path: Path, backend: str) -> None:
    config = f'backend: "{backend}"\nmax_batch_size: 64\n{IO}{GPU}'
    write_files(tmp_path / "m", {"config.pbtxt": config, "1/model.py": "class TritonPythonModel: ..."})
    assert codes(tmp_path) == []


@pytest.mark.parametrize(
    ("backend", "sizes", "expected"),
    [
        ("onnxruntime", "[ 4, 8 ]", ["ADV003"]),
        ("onnxruntime", "[ 8 ]", []),  # what the server prefers anyway
        ("tensorrtllm", "[ 1, 4 ]", []),
        ("dali", "[ 4 ]", []),
    ],
)
def test_preferred_sizes(tmp_path: Path, backend: str, sizes: str, expected: list[str]) -> None:
    scheduler = f"dynamic_batching {{ preferred_batch_size: {sizes} }}\n"
    config = f'backend: "{backend}"\nmax_batch_size: 8\n{IO}{scheduler}'
    write_files(tmp_path / "m", {"config.pbtxt": config, "1/model.onnx": "x"})
    assert codes(tmp_path) == expected


def test_weights_beside_the_model_file_are_counted(tmp_path: Path) -> None:
    config = f'backend: "onnxruntime"\n{IO}{GPU}model_warmup {{ name: "w" batch_size: 1 }}'
    write_files(tmp_path / "m", {"config.pbtxt": config, "1/model.onnx": "x", "1/weights/a.bin": ""})
    assert codes(tmp_path) == ["ADV004"]
    with (tmp_path / "m/1/weights/a.bin").open("wb") as weights:
        weights.truncate(300 * 10**6)
    assert codes(tmp_path) == []


def test_an_empty_entry_of_cc_model_filenames_names_no_file(tmp_path: Path) -> None:
    config = f'backend: "pytorch"\n{IO}cc_model_filenames: {{}}'
    write_files(tmp_path / "m", {"config.pbtxt": config, "1/model.pt": "x"})
    assert codes(tmp_path) == ["PLN009"]
