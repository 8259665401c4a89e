# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What is installed here, and whether it fits together; nothing heavy is imported to find out."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trtkit.compat import installed, onnxruntime_problem
from trtkit.errors import MissingDependencyError
from trtkit.server.launch import embedded_launch, hides_gpus

_SHM_NEEDED_BYTES = 64 << 20  # one Python-backend instance maps 1 MB at first and grows from there


@dataclass(frozen=True)
class Check:
    """One part of the installation.

    Attributes:
        part: what was looked at.
        state: ``ok``, ``absent`` (an extra that is not installed) or ``problem``.
        details: versions, or what to do.
    """

    part: str
    state: str
    details: str

    def to_json(self) -> dict[str, Any]:
        """part, state, details."""
        return asdict(self)


def examine() -> list[Check]:
    """Every check, in the order in which one would mend things."""
    return [_python(), _onnxruntime(), _server(), *_extras(), _gpu(), _shared_memory(), _docker()]


def _python() -> Check:
    version = platform.python_version()
    fits = (3, 10) <= sys.version_info[:2] <= (3, 12)
    details = f"{version}, {os.cpu_count()} cores" if fits else f"{version}; trtkit needs 3.10 to 3.12"
    return Check("Python", "ok" if fits else "problem", details)


def _onnxruntime() -> Check:
    problem = onnxruntime_problem()
    if problem:
        return Check("ONNX Runtime", "problem", problem)
    gpu = installed("onnxruntime-gpu")
    return Check("ONNX Runtime", "ok", f"onnxruntime-gpu {gpu}" if gpu else f"onnxruntime {installed('onnxruntime')}")


def _server() -> Check:
    try:
        launch = embedded_launch()
    except MissingDependencyError as exc:
        absent = installed("nvidia-pytriton") is None
        return Check("embedded tritonserver", "absent" if absent else "problem", str(exc))
    return Check(
        "embedded tritonserver", "ok", f"nvidia-pytriton {installed('nvidia-pytriton')}: {Path(launch.command[0]).name}"
    )


def _extras() -> list[Check]:
    parts = (("sklearn", ("scikit-learn", "skl2onnx")), ("torch", ("torch", "onnxscript")), ("rtx", ("tensorrt-rtx",)))
    return [_extra(name, distributions) for name, distributions in parts] + [_extra("gpu", ("tensorrt",))]


def _extra(name: str, distributions: tuple[str, ...]) -> Check:
    versions = {distribution: installed(distribution) for distribution in distributions}
    missing = [distribution for distribution, version in versions.items() if version is None]
    if not missing:
        return Check(f"extra {name}", "ok", ", ".join(f"{d} {v}" for d, v in versions.items()))
    state = "problem" if len(missing) < len(versions) else "absent"
    return Check(f"extra {name}", state, f"no {', no '.join(missing)}; pip install 'trtkit[{name}]'")


def _gpu() -> Check:
    """Whether the CUDA driver answers; `cuInit` returns 0 when it has a device."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Check("GPU", "absent", "no CUDA driver (libcuda.so.1) on this machine")
    code = driver.cuInit(0)
    if code != 0:
        return Check("GPU", "problem", f"the CUDA driver is there but cuInit gives error {code}")
    count = ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    names = ", ".join(_gpu_name(driver, index) for index in range(count.value))
    hidden = "; not used by the embedded server: the extra gpu is not installed" if hides_gpus() else ""
    return Check("GPU", "ok", f"{count.value} device(s): {names}{hidden}")


def _gpu_name(driver: ctypes.CDLL, index: int) -> str:
    name = ctypes.create_string_buffer(100)
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, len(name), device)
    driver.cuDeviceGetAttribute(ctypes.byref(major), 75, device)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
    driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
    return f"{name.value.decode()} (compute capability {major.value}.{minor.value})"


def _shared_memory() -> Check:
    shm = Path("/dev/shm")
    if not shm.is_dir():
        return Check("/dev/shm", "problem", "there is none; the Python backend exchanges tensors through it")
    free = shutil.disk_usage(shm).free
    if free < _SHM_NEEDED_BYTES:
        return Check(
            "/dev/shm", "problem", f"{free >> 20} MiB free; the Python backend needs some per instance (--shm-size)"
        )
    return Check("/dev/shm", "ok", f"{free >> 20} MiB free")


def _docker() -> Check:
    path = shutil.which("docker")
    return Check("docker", "ok" if path else "absent", path or "only needed for `trtkit serve --image`")
