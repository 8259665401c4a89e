# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Facts about the versions of the software around us, and checks of what is installed."""

from __future__ import annotations

import importlib
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType

from trtkit.errors import MissingDependencyError

# ONNX Runtime 1.18 (tritonserver 24.08) takes opset 21, TensorRT 10.0 takes 9 to 20, TensorRT 8.6 up to 17.
OPSET_EXPORT = 17
OPSET_MAX = 20
# IR 10 is what ONNX Runtime 1.18 reads; onnx's own helper writes newer ones that it refuses.
IR_MAX = 10
# ai.onnx.ml (tree ensembles, label encoders): version 3 is read by every ONNX Runtime since 1.8.
OPSET_ML_EXPORT = 3

# the extra that brings each importable module
EXTRAS = {
    "onnxruntime": "cpu",
    "pytriton": "server",
    "sklearn": "sklearn",
    "skl2onnx": "sklearn",
    "torch": "torch",
    "onnxscript": "torch",
    "transformers": "huggingface",
    "tokenizers": "text",
    "tensorrt": "gpu",
    "tensorrt_rtx": "rtx",
    "fsspec": "remote",
}


@cache
def installed(distribution: str) -> str | None:
    """The installed version of a distribution, without importing it; None when it is absent."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def tool_versions(*distributions: str) -> dict[str, str]:
    """The versions of those distributions that are installed, by name: what a record says made it."""
    return {name: version for name in distributions if (version := installed(name))}


def require(module: str) -> ModuleType:
    """Import an optional module.

    Args:
        module: a key of `EXTRAS`, or any module whose first part is one.

    Raises:
        MissingDependencyError: it cannot be imported, with the pip command that brings it.
    """
    name = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as exc:
        extra = EXTRAS.get(name, name)
        why = (
            "is not installed"
            if isinstance(exc, ModuleNotFoundError) and exc.name == name
            else f"cannot be imported ({exc})"
        )
        raise MissingDependencyError(f"{name} {why}; run: pip install 'trtkit[{extra}]'") from exc


def onnxruntime() -> ModuleType:
    """ONNX Runtime, after checking that exactly one of its two distributions is installed.

    Raises:
        MissingDependencyError: none is installed, or both are: they own the same files, the last one
            installed wins, and uninstalling either breaks the other.
    """
    problem = onnxruntime_problem()
    if problem:
        raise MissingDependencyError(problem)
    return require("onnxruntime")


def onnxruntime_problem() -> str | None:
    """What is wrong with the installed ONNX Runtime distributions, in one sentence; None when all is well."""
    cpu, gpu = installed("onnxruntime"), installed("onnxruntime-gpu")
    if cpu and gpu:
        return (
            f"onnxruntime {cpu} and onnxruntime-gpu {gpu} are both installed and overwrite each other; "
            "run: pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'trtkit[cpu]' (or 'trtkit[gpu]')"
        )
    if not cpu and not gpu:
        return "ONNX Runtime is not installed; run: pip install 'trtkit[cpu]' (or 'trtkit[gpu]' on a GPU machine)"
    return None


def python_backends_folder() -> Path:
    """The folder of trtkit's Python-based backends: in the wheel, or in a source checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "_python_backends", package.parents[1] / "python_backends"):
        if folder.is_dir():
            return folder
    raise MissingDependencyError(f"trtkit's python_backends are missing beside {package}; reinstall trtkit")
