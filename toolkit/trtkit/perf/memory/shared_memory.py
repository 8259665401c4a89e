# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Tensors in memory that client and server share: inputs written once, an area for the outputs of each slot."""

from __future__ import annotations

import atexit
import base64
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from types import TracebackType
from typing import Any, Protocol

from trtkit.errors import ProjectError, ServerError, ServerUnavailableError, nearest
from trtkit.perf.data.pool import Request
from trtkit.perf.encoding.placement import DEFAULT_OUTPUT_BYTES, Placement, Region, output_sizes
from trtkit.perf.encoding.tensors import tensor_bytes
from trtkit.perf.memory.system_memory import SystemMemory, sweep
from trtkit.perf.server.address import Address, Tls
from trtkit.perf.server.control import Fetch, open_control

__all__ = ["DEFAULT_OUTPUT_BYTES", "Placement", "Region", "SharedMemory", "output_sizes", "sweep"]

KINDS = ("system", "cuda")

_ALIGNMENT = 256  # what CUDA's own allocations have, so that kernels read tensors as they are used to
_UNREGISTER_S = 2.0  # for all regions together: a server that is gone has forgotten them anyway
_RETRY_S = 0.05


class Memory(Protocol):
    """One region of memory, of this machine or of its GPU."""

    name: str
    byte_size: int

    def registration(self) -> dict[str, Any]:
        """The fields of its registration at the server; a CUDA handle as bytes."""

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes into it."""

    def read(self, offset: int, byte_size: int) -> bytes:
        """Take bytes out of it."""

    def release(self) -> None:
        """Give it back; does nothing the second time."""


class SharedMemory:
    """The inputs of a pool and the outputs of its answers in two regions, registered at the server.

    A context manager. At its end, also after an error, ctrl-C, and when the server is dead, the server is told to
    forget the regions (in at most two seconds) and nothing is left in /dev/shm. What a client left that was killed
    is removed at the next start (`sweep`). A child process that was forked may use it and does not remove it.

    An answer that comes after its deadline writes into its slot's area, where the next answer may be already.

    Args:
        kind: ``system`` or ``cuda``.
        requests: the pool's; their inputs are written once, at the start.
        outputs: bytes of each output, by name, from `output_sizes`; empty to leave the outputs in the answers.
        slots: how many requests may be in flight at once.
        address: where the server takes registrations.
        protocol: of the address: ``http`` or ``grpc``.
        timeout_s: of one registration, in seconds.
        tls: for an address with TLS.
        headers: sent with the registrations.
        device_id: the GPU of CUDA memory, as the server numbers them.

    Raises:
        ProjectError: no such kind, no room in /dev/shm, or no GPU.
        ServerError: the server refuses a region, as one does that runs elsewhere.
    """

    def __init__(
        self,
        kind: str,
        requests: Sequence[Request],
        outputs: Mapping[str, int],
        slots: int,
        *,
        address: Address,
        protocol: str,
        timeout_s: float = 10.0,
        tls: Tls | None = None,
        headers: Sequence[tuple[str, str]] = (),
        device_id: int = 0,
    ) -> None:
        if kind not in KINDS:
            raise ProjectError(f"shared memory '{kind}' is unknown; {nearest(kind, KINDS)}")
        self.kind = kind
        self.left_behind = ""
        """After the end: one sentence when the server did not forget the regions; empty when all is well."""
        self._address, self._protocol, self._timeout_s = address, protocol, timeout_s
        self._tls, self._headers = tls or Tls(), headers
        self._device_id = device_id
        self._owner = os.getpid()
        self._requests = requests
        self._wanted = [request.outputs for request in requests]
        self._inputs, self._input_bytes = _input_layout(requests)
        self._outputs, self._stride = _output_layout(outputs)
        self._output_bytes = self._stride * slots
        self._memories: dict[str, Memory] = {}

    def __enter__(self) -> SharedMemory:
        atexit.register(self.close)  # ctrl-C may come just before a context's end has begun
        try:
            stale = sweep() if self.kind == "system" else []
            self._make("inputs", self._input_bytes)
            self._make("outputs", self._output_bytes)
            self._write()
            self.register(stale)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make(self, use: str, byte_size: int) -> None:
        if not byte_size:
            return
        if self.kind == "cuda":
            from trtkit.perf.memory.cuda_memory import CudaMemory

            self._memories[use] = CudaMemory(byte_size, self._device_id)
        else:
            self._memories[use] = SystemMemory(byte_size)

    def _write(self) -> None:
        for request, places in zip(self._requests, self._inputs, strict=True):
            for name, (offset, _) in places.items():
                self._memories["inputs"].write(offset, tensor_bytes(request.inputs[name]))

    def register(self, stale: Sequence[str] = ()) -> None:
        """Make the server know the regions; again after it was started anew. Those that it knows stay as they are.

        Args:
            stale: names of regions that the server may still hold and nobody uses.

        Raises:
            ServerUnavailableError: nobody answers.
            ServerError: the server refuses a region.
        """
        with self._control(self._timeout_s) as fetch:
            for name in stale:
                with suppress(ServerError):
                    fetch("unregister_system", name)
            for memory in self._memories.values():
                self._register_one(fetch, memory)

    def _register_one(self, fetch: Fetch, memory: Memory) -> None:
        body = memory.registration()
        if "raw_handle" in body and self._protocol == "http":
            body["raw_handle"] = {"b64": base64.b64encode(body["raw_handle"]).decode()}
        try:
            fetch(f"register_{self.kind}", memory.name, body=body)
        except ServerError as exc:
            if "already" in str(exc):
                return  # it is ours: nobody else has this name
            if isinstance(exc, ServerUnavailableError) and "shared memory" not in str(exc):
                raise
            where = "this machine's GPU" if self.kind == "cuda" else "the same /dev/shm, as the same user"
            raise ServerError(
                f"the server at {self._address} cannot use this client's shared memory ({exc}); it must run on this "
                f"machine and reach {where} (docker run --ipc=host), since Triton 26.04 with --allow-client-shm=true; "
                "or leave out --shared-memory"
            ) from exc

    def _control(self, timeout_s: float) -> AbstractContextManager[Fetch]:
        return open_control(self._address, self._protocol, timeout_s, tls=self._tls, headers=self._headers)

    def placement(self, index: int, slot: int) -> Placement:
        """Where the tensors of request number `index` are when it is sent on a slot."""
        inputs, outputs = self._memories.get("inputs"), self._memories.get("outputs")
        start = slot * self._stride
        wanted = self._wanted[index]
        return Placement(
            {name: Region(inputs.name, *place) for name, place in self._inputs[index].items()} if inputs else {},
            {
                name: Region(outputs.name, start + offset, size)
                for name, (offset, size) in self._outputs.items()
                if wanted is None or name in wanted
            }
            if outputs
            else {},
        )

    def output(self, slot: int, name: str, byte_size: int | None = None) -> bytes:
        """What the last answer on a slot wrote; the whole area when `byte_size` is None, as BYTES need it."""
        offset, size = self._outputs[name]
        return self._memories["outputs"].read(slot * self._stride + offset, size if byte_size is None else byte_size)

    def close(self) -> None:
        """Remove everything; does nothing the second time, and nothing in a child that was forked."""
        if os.getpid() != self._owner:
            return
        with _interrupts_held():
            memories, self._memories = self._memories, {}
            try:
                for memory in memories.values():
                    if isinstance(memory, SystemMemory):
                        memory.unlink()  # before anything that may take time
                self._unregister([memory.name for memory in memories.values()])
            finally:
                for memory in memories.values():
                    memory.release()
                atexit.unregister(self.close)

    def _unregister(self, names: Sequence[str]) -> None:
        deadline = time.monotonic() + _UNREGISTER_S
        try:
            for name in names:
                self._unregister_one(name, deadline)
        except ServerUnavailableError:
            return  # it is dead, and so are its registrations; or it hangs, and that is said elsewhere
        except ServerError as exc:
            self.left_behind = f"the server still holds the shared memory of this client ({exc})"

    def _unregister_one(self, name: str, deadline: float) -> None:
        """Newer servers refuse while a request still uses the region: one that was given up may."""
        while True:
            left_s = max(deadline - time.monotonic(), 0.1)
            try:
                with self._control(left_s) as fetch:
                    fetch(f"unregister_{self.kind}", name)
                return
            except ServerUnavailableError:
                raise
            except ServerError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_RETRY_S)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let ctrl-C wait until the block has ended, which has to be soon."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    pressed = []
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
        if pressed:
            signal.raise_signal(signal.SIGINT)


_Places = dict[str, tuple[int, int]]


def _input_layout(requests: Sequence[Request]) -> tuple[list[_Places], int]:
    """Offset and size of each input of each request, and the bytes of all; empty tensors are not placed."""
    layout, at = [], 0
    for request in requests:
        places = {}
        for name, array in request.inputs.items():
            if size := _size(array):
                places[name] = (at, size)
                at = _aligned(at + size)
        layout.append(places)
    return layout, at


def _size(array: Any) -> int:
    if array.dtype.kind == "O":
        return sum(4 + len(item) for item in array.ravel().tolist())
    return int(array.nbytes)


def _output_layout(sizes: Mapping[str, int]) -> tuple[_Places, int]:
    """Offset and size of each output within a slot's area, and the bytes of the area."""
    places, at = {}, 0
    for name, size in sizes.items():
        if size:
            places[name] = (at, size)
            at = _aligned(at + size)
    return places, at


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT
