# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Each stage's script runs as a user runs it, over the public Python API, on a built copy of the sample."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from trtkit.config import read_config
from trtkit.engine import plan_info
from trtkit.inspection import inspect_onnx


def script(name: str, *arguments: str, cwd: Path) -> str:
    command = [sys.executable, str(cwd / "scripts" / f"{name}.py"), *arguments]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=200, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_export_onnx(sample: Path, tmp_path: Path) -> None:
    out = script("export_onnx", "digits", str(tmp_path / "out"), cwd=sample)
    assert "inputs: x FP32 [batch, 64]" in out
    onnx.checker.check_model(str(tmp_path / "out" / "model.onnx"))


def test_build_engine(sample: Path, tmp_path: Path) -> None:
    onnx_file = tmp_path / "out" / "model.onnx"
    script("export_onnx", "digits_cnn", str(onnx_file.parent), cwd=sample)
    plan = tmp_path / "model.plan"
    arguments = ["--profile", "image=1x1x8x8,8x1x8x8,32x1x8x8", "--module", "tensorrt_rtx"]
    script("build_engine", str(onnx_file), str(plan), *arguments, cwd=sample)
    assert plan_info(plan.read_bytes())["flavour"] == "tensorrt_rtx"


@pytest.mark.parametrize("arguments", [["--half"], ["--target", "cpu", "--method", "entropy"]])
def test_quantize(sample: Path, tmp_path: Path, arguments: list[str]) -> None:
    onnx_file, result = tmp_path / "out" / "model.onnx", tmp_path / "int8.onnx"
    script("export_onnx", "digits_cnn", str(onnx_file.parent), cwd=sample)
    rows = np.random.default_rng(0).uniform(0, 16, (32, 1, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", image=rows)
    assert "left in floating point" in script(
        "quantize", str(onnx_file), str(tmp_path / "rows.npz"), str(result), *arguments, cwd=sample
    )
    found = inspect_onnx(result)
    assert found.quantize_linear > 0
    assert ("FP16" in found.initializers) == ("--half" in arguments)


def test_generate_config(sample: Path) -> None:
    config = read_config(script("generate_config", "digits", cwd=sample), "config.pbtxt")
    built = read_config((sample / "model_repository" / "digits" / "config.pbtxt").read_text(), "config.pbtxt")
    assert config == built


@pytest.mark.triton
def test_validate(sample: Path) -> None:
    out = script("validate", "digits", cwd=sample)
    assert "http probabilities: largest error" in out
    assert "grpc label: largest error 0 in 450 rows" in out


@pytest.mark.triton
def test_perf(sample: Path) -> None:
    out = script("perf", "digits", "--window", "0.3", cwd=sample)
    assert "infer/s, stable:" in out
    assert "errors: 0" in out
