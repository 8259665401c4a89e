# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The GPU here, asked of the driver's own library, which is there or not; nothing is installed or imported for it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

# CUdevice_attribute: the two halves of the compute capability
_MAJOR, _MINOR = 75, 76


@dataclass(frozen=True)
class Gpu:
    """The first GPU that this process may use.

    Attributes:
        name: as the driver calls it, e.g. ``NVIDIA L40S``.
        compute_capability: e.g. ``8.9``.
        cuda_version: the newest CUDA that the driver supports, e.g. ``12.4``.
    """

    name: str
    compute_capability: str
    cuda_version: str


def find_gpu() -> Gpu | None:
    """The first GPU of CUDA_VISIBLE_DEVICES; None where there is no driver or it has no GPU."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, major, minor, version = (ctypes.c_int() for _ in range(4))
    name = ctypes.create_string_buffer(256)
    calls = (
        lambda: cuda.cuInit(0),
        lambda: cuda.cuDeviceGet(ctypes.byref(device), 0),
        lambda: cuda.cuDeviceGetName(name, len(name), device),
        lambda: cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device),
        lambda: cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device),
        lambda: cuda.cuDriverGetVersion(ctypes.byref(version)),
    )
    if any(call() for call in calls):
        return None
    text = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return Gpu(name.value.decode(errors="replace"), f"{major.value}.{minor.value}", text)
