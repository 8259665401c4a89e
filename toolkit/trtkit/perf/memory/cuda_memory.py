# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Memory of a GPU that the server opens by its IPC handle: the CUDA runtime through ctypes."""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from trtkit.errors import ProjectError
from trtkit.perf.memory.system_memory import unique_name

# https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__MEMORY.html, cudaMemcpyKind
_HOST_TO_DEVICE, _DEVICE_TO_HOST = 1, 2
# the documentation of cudaIpcGetMemHandle: smaller allocations may share one block, and all of it would be shared
_GRANULARITY = 2 * 2**20
_VERSIONS = ("13", "12", "11.0")


class _IpcHandle(ctypes.Structure):
    """``cudaIpcMemHandle_t``: 64 opaque bytes, passed by value."""

    _fields_ = (("reserved", ctypes.c_char * 64),)


class CudaMemory:
    """An allocation on a GPU, for another process to open.

    Args:
        byte_size: above 0.
        device_id: the GPU, as CUDA numbers them here; the server must number them alike.
        runtime: the CUDA runtime's library; the machine's own when None.

    Raises:
        ProjectError: no CUDA runtime, driver or GPU, or too little memory on it.
    """

    def __init__(self, byte_size: int, device_id: int = 0, runtime: Any = None) -> None:
        self.name = unique_name()
        self.byte_size = byte_size
        self._device_id = device_id
        self._pointer = ctypes.c_void_p()
        self._runtime = _load() if runtime is None else runtime
        self._call("cudaSetDevice", device_id)
        room = -(-byte_size // _GRANULARITY) * _GRANULARITY
        self._call("cudaMalloc", ctypes.byref(self._pointer), ctypes.c_size_t(room))

    def registration(self) -> dict[str, Any]:
        """The fields of its registration at the server; the handle as bytes."""
        handle = _IpcHandle()
        self._call("cudaIpcGetMemHandle", ctypes.byref(handle), self._pointer)
        return {"raw_handle": bytes(handle), "device_id": self._device_id, "byte_size": self.byte_size}

    def write(self, offset: int, data: bytes) -> None:
        """Copy bytes to the GPU; they are there when it returns."""
        size = ctypes.c_size_t(len(data))
        self._call("cudaMemcpy", self._at(offset), ctypes.c_char_p(data), size, _HOST_TO_DEVICE)
        self._call("cudaDeviceSynchronize")  # a copy from pageable memory may return before it has arrived

    def read(self, offset: int, byte_size: int) -> bytes:
        """Copy bytes from the GPU."""
        buffer = ctypes.create_string_buffer(byte_size)
        self._call("cudaMemcpy", buffer, self._at(offset), ctypes.c_size_t(byte_size), _DEVICE_TO_HOST)
        return buffer.raw

    def release(self) -> None:
        """Free the memory; does nothing the second time."""
        pointer, self._pointer = self._pointer, ctypes.c_void_p()
        if pointer.value:
            with suppress(ProjectError):  # the GPU may be gone; the driver frees it with the process
                self._call("cudaFree", pointer)

    def _at(self, offset: int) -> ctypes.c_void_p:
        return ctypes.c_void_p((self._pointer.value or 0) + offset)

    def _call(self, function: str, *arguments: Any) -> None:
        code = getattr(self._runtime, function)(*arguments)
        if code:
            raise ProjectError(
                f"CUDA shared memory of {self.byte_size} bytes on GPU {self._device_id} is impossible: {function} says "
                f"'{self._sentence(code)}'; use --shared-memory system, or none"
            )

    def _sentence(self, code: int) -> str:
        text = self._runtime.cudaGetErrorString(code)
        return text.decode() if isinstance(text, bytes) else f"error {code}"


def _load() -> ctypes.CDLL:
    for name in _candidates():
        with suppress(OSError):
            runtime = ctypes.CDLL(name)
            runtime.cudaGetErrorString.restype = ctypes.c_char_p
            return runtime
    raise ProjectError(
        "CUDA shared memory needs the CUDA runtime, and no libcudart is on this machine; "
        "run: pip install nvidia-cuda-runtime-cu12, or use --shared-memory system"
    )


def _candidates() -> Iterator[str]:
    """Names and paths of the library: the loader's own, of NVIDIA's wheels, and beside the embedded server."""
    if found := ctypes.util.find_library("cudart"):
        yield found
    yield from (f"libcudart.so.{version}" for version in _VERSIONS)
    for folder in map(Path, sys.path):
        for version in _VERSIONS:
            yield from map(str, sorted(folder.glob(f"nvidia/*/lib/libcudart.so.{version}")))
        yield from map(str, sorted(folder.glob("nvidia_pytriton.libs/libcudart-*.so.*")))
