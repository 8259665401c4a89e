# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The GPUs of this machine, asked of the CUDA driver itself; nothing but ctypes is needed.

The calls and numbers are the CUDA driver API's (https://docs.nvidia.com/cuda/cuda-driver-api/) and NVML's
(https://docs.nvidia.com/deploy/nvml-api/).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_CUDA, _NVML = "libcuda.so.1", "libnvidia-ml.so.1"
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, …_MINOR
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
Loader = Callable[[str], Any]


@dataclass(frozen=True)
class Gpu:
    """One GPU, in the order in which CUDA numbers them.

    Attributes:
        compute_capability: e.g. ``8.9``.
        memory_bytes: all of it, not what is free.
    """

    name: str
    compute_capability: str
    memory_bytes: int


@dataclass(frozen=True)
class GpuState:
    """What the driver says.

    Attributes:
        driver: the NVIDIA driver's version, e.g. ``575.57.08``; None when it is not told.
        cuda: the newest CUDA API that the driver speaks, e.g. ``12.9``; None without a driver.
        gpus: those this process may use: CUDA_VISIBLE_DEVICES counts.
        problem: why there are none although there is a driver, in one sentence.
    """

    driver: str | None = None
    cuda: str | None = None
    gpus: tuple[Gpu, ...] = ()
    problem: str | None = None


def gpu_state(load: Loader = ctypes.CDLL) -> GpuState:
    """Ask the driver; takes milliseconds without a GPU, and about a second with one that is asleep.

    Args:
        load: opens a shared library by name, and raises OSError when there is none.
    """
    try:
        cuda = load(_CUDA)
    except OSError:
        return GpuState()
    driver, version = _driver_version(load), ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    spoken = f"{version.value // 1000}.{version.value % 1000 // 10}"
    code = cuda.cuInit(0)
    if code:
        why = "finds no GPU" if code == _NO_DEVICE else f"does not start: {_error(cuda, code)}"
        return GpuState(driver, spoken, (), f"the CUDA driver is there and {why} (error {code})")
    count = ctypes.c_int()
    cuda.cuDeviceGetCount(ctypes.byref(count))
    return GpuState(driver, spoken, tuple(_gpu(cuda, index) for index in range(count.value)))


def _gpu(cuda: Any, index: int) -> Gpu:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    cuda.cuDeviceGet(ctypes.byref(device), index)
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    return Gpu(name.value.decode(errors="replace"), f"{major.value}.{minor.value}", memory.value)


def _error(cuda: Any, code: int) -> str:
    text = ctypes.c_char_p()
    cuda.cuGetErrorName(code, ctypes.byref(text))
    return (text.value or b"no name").decode(errors="replace")


def _driver_version(load: Loader) -> str | None:
    """NVML's word for the driver version; None where it is not installed, as in some containers."""
    try:
        nvml = load(_NVML)
    except OSError:
        return None
    if nvml.nvmlInit_v2():
        return None
    version = ctypes.create_string_buffer(96)
    failed = nvml.nvmlSystemGetDriverVersion(version, len(version))
    nvml.nvmlShutdown()
    return None if failed else version.value.decode(errors="replace")


def kernel_problem(arch_list: list[str], capability: str) -> str | None:
    """Why a library has no kernel that a GPU runs, in one sentence; None when it has one.

    Binary code (``sm_86``) runs on GPUs of the same major and the same or a later minor number; ``sm_90a`` on its own
    only; PTX (``compute_80``) is compiled for any later GPU when it is loaded.
    https://docs.nvidia.com/cuda/cuda-c-programming-guide/#binary-compatibility

    Args:
        arch_list: as ``torch.cuda.get_arch_list()`` gives it.
        capability: of the GPU, e.g. ``8.9``.
    """
    major, minor = (int(part) for part in capability.split("."))
    if any(_runs(arch, major, minor) for arch in arch_list):
        return None
    return f"no kernel for compute capability {capability} (built for {', '.join(arch_list) or 'none'})"


def _runs(arch: str, major: int, minor: int) -> bool:
    kind, _, number = arch.partition("_")
    digits = number.rstrip("af")
    if kind not in ("sm", "compute") or not digits.isdigit() or len(digits) < 2:
        return False
    built = int(digits[:-1]), int(digits[-1])
    if number.endswith("a"):
        return built == (major, minor)
    return built <= (major, minor) if kind == "compute" else built[0] == major and built[1] <= minor
