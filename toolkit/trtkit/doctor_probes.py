# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Try a library in a process of its own: some end the process without a GPU, or promise what they cannot do.

``python -m trtkit.doctor_probes MODULE`` prints what was found as one line of JSON.
"""

from __future__ import annotations

import base64
import importlib
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SECONDS = 60.0
# y = x + x for four floats, opset 13: a model without a library to write it
MODEL = base64.b64decode("CAc6NQoOCgF4CgF4EgF5IgNBZGQSAWdaDwoBeBIKCggIARIECgIIBGIPCgF5EgoKCAgBEgQKAggEQgQKABAN")
_REMOTE = {"AzureExecutionProvider"}  # calls a service, in every CPU build


@dataclass(frozen=True)
class Found:
    """What came of it.

    Attributes:
        facts: what the library does; by name.
        error: why it does nothing, in a few words; empty when it does.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    error: str = ""


def probe(module: str, timeout_s: float = _SECONDS) -> Found:
    """Import a module and use it, in another process; a crash or a hang there is a finding.

    Args:
        module: ``onnxruntime``, ``tensorrt``, ``tensorrt_rtx`` or ``torch``.
        timeout_s: how long it may take.
    """
    command = [sys.executable, "-m", "trtkit.doctor_probes", module]
    folder = Path(__file__).parents[1]  # so that the process finds this trtkit
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout_s, cwd=folder)
    except subprocess.TimeoutExpired:
        return Found(error=f"{module} did nothing for {timeout_s:g} s")
    if done.returncode < 0:
        return Found(error=f"{module} ended its process with signal {-done.returncode}")
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        return Found(error=(done.stderr.strip().splitlines() or [f"{module} ended its process"])[-1][:300])
    answer = json.loads(lines[-1])
    return Found(answer["facts"], answer["error"])


def main(module: str) -> None:
    """Try one library here, and print what was found."""
    try:
        facts, error = _PROBES[module](importlib.import_module(module)), ""
    except Exception as exc:  # whatever a foreign library raises is what was to be found
        facts, error = {}, _first_line(exc)
    sys.stdout.write(json.dumps({"facts": facts, "error": error}) + "\n")


def _onnxruntime(onnxruntime: Any) -> dict[str, Any]:
    """By provider that the build names: None when a session ran on it, else why not."""
    onnxruntime.set_default_logger_severity(4)
    names = [name for name in onnxruntime.get_available_providers() if name not in _REMOTE]
    return {name: _provider_error(onnxruntime, name) for name in names}


def _provider_error(onnxruntime: Any, name: str) -> str | None:
    import numpy as np

    try:
        session = onnxruntime.InferenceSession(MODEL, providers=[name])
        if name not in session.get_providers():
            return f"it falls back to {session.get_providers()[0]}"
        (y,) = session.run(None, {"x": np.arange(4, dtype=np.float32)})
    except Exception as exc:  # ONNX Runtime's exceptions have no common class, and the driver's errors come through
        return _first_line(exc)
    return None if y.tolist() == [0, 2, 4, 6] else f"it adds wrongly: {y.tolist()}"


def _tensorrt(trt: Any) -> dict[str, Any]:
    """A builder that makes a network: without a GPU the constructor raises, or gives an object that crashes in use."""
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    builder.create_network(0)
    return {"version": trt.__version__}


def _torch(torch: Any) -> dict[str, Any]:
    """The kernels that torch was built with, and what a small one says on each GPU."""
    facts = {"version": torch.__version__, "cuda": torch.version.cuda, "arch_list": [], "kernel_error": None}
    if torch.version.cuda is None:
        return facts
    facts["arch_list"] = torch.cuda.get_arch_list()
    try:
        for index in range(torch.cuda.device_count()):
            (torch.ones(2, device=f"cuda:{index}") * 2).sum().item()
    except RuntimeError as exc:
        facts["kernel_error"] = _first_line(exc)
    return facts


def _first_line(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0][:300]


_PROBES = {"onnxruntime": _onnxruntime, "tensorrt": _tensorrt, "tensorrt_rtx": _tensorrt, "torch": _torch}

if __name__ == "__main__":
    main(sys.argv[1])
