# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A plan on this machine's GPU, with the TensorRT module passed in; memory through the CUDA driver's own library."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trtkit.engine.library import logger_of, reason
from trtkit.engine.profiles import Profile, profile_for
from trtkit.errors import ExportError
from trtkit.numerics import Array

# TensorRT's data types that numpy has too, under the names of both
_NUMPY = {
    "FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "INT64": "int64", "UINT8": "uint8",
    "BOOL": "bool",
}  # fmt: skip


class Cuda:
    """The first GPU's primary context, which TensorRT uses too, one stream, and memory that is freed with it.

    Raises:
        ExportError: there is no driver, or a call fails, with the driver's number.
    """

    def __init__(self) -> None:
        try:
            self._driver = ctypes.CDLL("libcuda.so.1")
        except OSError as exc:
            raise ExportError("no CUDA driver (libcuda.so.1) on this machine, so that no plan runs here") from exc
        device, context, stream = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._call("cuCtxSetCurrent", context)
        self._call("cuStreamCreate", ctypes.byref(stream), 1)  # CU_STREAM_NON_BLOCKING
        self.stream = int(stream.value or 0)
        self._owned: list[int] = []

    def _call(self, name: str, *arguments: Any) -> None:
        if code := getattr(self._driver, name)(*arguments):
            raise ExportError(f"the CUDA driver's {name} failed with error {code}")

    def reserve(self, byte_size: int) -> int:
        """The address of new device memory."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(byte_size, 1)))
        self._owned.append(address.value)
        return address.value

    def upload(self, array: Array) -> int:
        """The address of a copy of an array."""
        address = self.reserve(array.nbytes)
        source = ctypes.c_void_p(array.ctypes.data)
        self._call("cuMemcpyHtoD_v2", ctypes.c_uint64(address), source, ctypes.c_size_t(array.nbytes))
        return address

    def download(self, address: int, array: Array) -> None:
        """Fill an array from device memory."""
        target = ctypes.c_void_p(array.ctypes.data)
        self._call("cuMemcpyDtoH_v2", target, ctypes.c_uint64(address), ctypes.c_size_t(array.nbytes))

    def synchronize(self) -> None:
        """Wait for the stream."""
        self._call("cuStreamSynchronize", ctypes.c_void_p(self.stream))

    def release(self) -> None:
        """Free all memory that was reserved."""
        for address in self._owned:
            self._call("cuMemFree_v2", ctypes.c_uint64(address))
        self._owned.clear()


class PlanRunner:
    """A loaded plan; answers requests, and repeats one for timing.

    Args:
        trt: the TensorRT module that built it.
        plan: the file.
        profiles: those it was built with, in their order.

    Raises:
        ExportError: this TensorRT does not load it here, or there is no GPU.
    """

    def __init__(self, trt: Any, plan: Path, profiles: Sequence[Profile]) -> None:
        self._trt, self._profiles, self._cuda = trt, profiles, Cuda()
        log = logger_of(trt)
        self._runtime = runtime = trt.Runtime(log)
        self._engine = engine = runtime.deserialize_cuda_engine(plan.read_bytes())
        if engine is None:
            raise ExportError(f"{plan.name} does not load: {reason(log.errors)}")
        self._context = engine.create_execution_context()
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self._inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self._outputs = [name for name in names if name not in self._inputs]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name for full inputs, batch first."""
        outputs = self._prepared(inputs)
        self._execute()
        answers = {}
        for name, (address, array) in outputs.items():
            self._cuda.download(address, array)
            answers[name] = array
        return answers

    def timed(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """A call that computes the outputs once, with the inputs on the GPU already, and waits for them."""
        self._prepared(inputs)
        return self._execute

    def _execute(self) -> None:
        context = self._context
        if not context.execute_async_v3(self._cuda.stream):
            raise ExportError(f"TensorRT could not run the plan: {reason(logger_of(self._trt).errors)}")
        self._cuda.synchronize()

    def _prepared(self, inputs: Mapping[str, Array]) -> dict[str, tuple[int, Array]]:
        """Bind device memory for every tensor; the outputs' addresses and host arrays."""
        context, cuda = self._context, self._cuda
        cuda.release()
        self._choose_profile({name: array.shape for name, array in inputs.items()})
        for name in self._inputs:
            array = np.ascontiguousarray(inputs[name], self._dtype(name))
            if not context.set_input_shape(name, array.shape):
                raise ExportError(f"the plan does not take the shape {list(array.shape)} for '{name}'")
            context.set_tensor_address(name, cuda.upload(array))
        outputs = {}
        for name in self._outputs:
            shape = tuple(context.get_tensor_shape(name))
            if -1 in shape:
                raise ExportError(f"the shape of output '{name}' depends on its values; it cannot be timed here")
            array = np.empty(shape, self._dtype(name))
            address = cuda.reserve(array.nbytes)
            context.set_tensor_address(name, address)
            outputs[name] = (address, array)
        return outputs

    def _choose_profile(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        if not self._profiles:
            return
        index = profile_for(self._profiles, shapes)
        if index is None:
            given = ", ".join(f"{name}{list(shape)}" for name, shape in shapes.items())
            raise ExportError(f"no profile of the plan takes {given}")
        context = self._context
        context.set_optimization_profile_async(index, self._cuda.stream)
        self._cuda.synchronize()

    def _dtype(self, name: str) -> np.dtype[Any]:
        engine = self._engine
        kind = engine.get_tensor_dtype(name).name
        if kind not in _NUMPY:
            raise ExportError(f"tensor '{name}' of the plan is {kind}, which numpy does not have")
        return np.dtype(_NUMPY[kind])
