# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's own quantizer for TensorRT, modelopt, in a process of its own and with its silence checked.

A process of its own because it replaces parts of onnxruntime.quantization for the rest of the process. It takes
a dynamic batch for 1 and leaves every product with one row alone, without a word, so that it is given the
shapes of the calibration data, and its Q/DQ pairs are counted afterwards.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trtkit import compat
from trtkit.artifacts import file_errors
from trtkit.errors import BuildError, MissingDependencyError
from trtkit.export.onnx_file import read_graph, read_onnx
from trtkit.numerics import Array
from trtkit.precision.qdq import refuse_quantized
from trtkit.precision.qdq_rules import count_qdq, qdq_problems

QUANTIZED_FILE = "modelopt.onnx"
# trtkit's methods in modelopt's words; it has no percentile
_METHODS = {"minmax": "max", "entropy": "entropy"}
_TIMEOUT_SECONDS = 1800
_SHOWN_CHARACTERS = 400

# the arguments come as a file: shapes and paths would not survive a command line in every shell
_RUNNER = """
import json, pathlib, sys
import numpy
from modelopt.onnx.quantization import quantize
arguments = json.loads(pathlib.Path(sys.argv[1]).read_text())
with numpy.load(arguments.pop("rows"), allow_pickle=False) as archive:
    quantize(calibration_data={name: archive[name] for name in archive.files}, calibration_eps=["cpu"], **arguments)
"""


def quantize_modelopt(
    model_file: Path,
    rows: Mapping[str, Array],
    folder: Path,
    dtype: str,
    method: str,
    where: str,
    *,
    python: str = sys.executable,
) -> Path:
    """Quantize a graph for TensorRT with modelopt.

    Weights stay FP32 beside their Q/DQ pairs, so that the file does not shrink; the opset becomes 19 or newer.

    Args:
        model_file: the FP32 graph.
        rows: calibration data, one array per input.
        folder: receives the result and intermediate files.
        dtype: ``INT8`` or ``FP8``.
        method: ``minmax`` or ``entropy``.
        where: FILE:LINE:COLUMN of ``quantizer:``, for messages.
        python: the interpreter that has modelopt.

    Returns:
        The quantized graph's file.

    Raises:
        MissingDependencyError: modelopt is not installed.
        BuildError: the method is not one of modelopt's, it failed, or its result breaks TensorRT's rules.
    """
    if method not in _METHODS:
        raise BuildError(f"{where}: modelopt has no method '{method}'; available: {', '.join(_METHODS)}")
    if python == sys.executable and compat.installed("nvidia-modelopt") is None:
        raise MissingDependencyError(
            f"{where}: modelopt is not installed; run: pip install 'trtkit[modelopt]', or leave `quantizer:` out"
        )
    refuse_quantized(read_graph(model_file, where), where)
    result = folder / QUANTIZED_FILE
    arguments = folder / "modelopt.json"
    with file_errors(f"writing modelopt's input to {folder}"):
        np.savez(folder / "modelopt_rows.npz", **{name: np.asarray(array) for name, array in rows.items()})
        arguments.write_text(json.dumps(_arguments(model_file, rows, folder, dtype, method, result)))
    _run([python, "-c", _RUNNER, str(arguments)], folder, where)
    if not result.is_file():
        raise BuildError(f"{where}: modelopt ended without an error and without a result")
    return _checked(result, dtype, where)


def _arguments(
    model_file: Path, rows: Mapping[str, Array], folder: Path, dtype: str, method: str, result: Path
) -> dict[str, object]:
    shapes = ",".join(f"{name}:{'x'.join(map(str, array.shape))}" for name, array in rows.items())
    return {
        "onnx_path": str(model_file.resolve()),
        "quantize_mode": dtype.lower(),
        "calibration_method": _METHODS[method],
        "calibration_shapes": shapes,
        "rows": str((folder / "modelopt_rows.npz").resolve()),
        "output_path": str(result.resolve()),
        "high_precision_dtype": "fp32",
        "log_level": "ERROR",
    }


def _run(command: list[str], folder: Path, where: str) -> None:
    # no GPU is asked for, and none is taken from what serves on this machine
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace",
            timeout=_TIMEOUT_SECONDS, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as exc:
        raise BuildError(
            f"{where}: modelopt did not end within {_TIMEOUT_SECONDS} seconds; give fewer samples"
        ) from exc
    except OSError as exc:
        raise BuildError(f"{where}: modelopt cannot be started: {exc}") from exc
    if done.returncode:
        said = " ".join((done.stderr.strip() or done.stdout.strip()).split())[-_SHOWN_CHARACTERS:]
        raise BuildError(f"{where}: modelopt failed with exit code {done.returncode}: …{said}")


def _checked(result: Path, dtype: str, where: str) -> Path:
    model = read_onnx(result, where)
    if not any(count_qdq(model).values()):
        raise BuildError(
            f"{where}: {dtype} was asked for and modelopt quantized nothing; it leaves products of one row and "
            "matrices with a side below 16 alone; leave `quantizer:` out to use trtkit's own"
        )
    problems = qdq_problems(model, "tensorrt")
    if problems:
        raise BuildError(f"{where}: modelopt's graph breaks TensorRT's rules: {problems[0]}")
    return result
