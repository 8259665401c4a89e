# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Tensors in shared memory: through the real server over both protocols, and nothing left behind in any case."""

from __future__ import annotations

import ctypes
import errno
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as messages
from tritonclient.http import InferenceServerClient

from conftest import processes
from perf_wire import DATATYPES, TYPES, ask_grpc, ask_http, values, write_models
from trtkit.errors import ProjectError, ServerError, ServerUnavailableError
from trtkit.perf.data.pool import Request
from trtkit.perf.encoding.decode import grpc_answer, http_answer
from trtkit.perf.encoding.encode import grpc_request, http_request
from trtkit.perf.encoding.placement import output_sizes
from trtkit.perf.memory import cuda_memory, shared_memory, system_memory
from trtkit.perf.memory.cuda_memory import CudaMemory
from trtkit.perf.memory.shared_memory import SharedMemory
from trtkit.perf.memory.system_memory import SystemMemory, sweep
from trtkit.perf.server.address import Address, parse_address
from trtkit.server import RunningServer, serve

PROTOCOLS = ("http", "grpc")
NOWHERE = Address("127.0.0.1", 1)
X = Request("every_type", "", {"x_FP32": np.arange(4, dtype=np.float32).reshape(1, 4)})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository: Path = tmp_path_factory.mktemp("wire")
    write_models(repository)
    with serve(repository) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    assert mine() == []


def mine(pid: int | None = None) -> list[str]:
    """The files of a process in /dev/shm, this one's without a pid."""
    found = (system_memory._NAME.fullmatch(file.name) for file in system_memory.FOLDER.iterdir())
    return sorted(match[0] for match in found if match and int(match[1]) == (pid or os.getpid()))


def address(server: RunningServer, protocol: str) -> Address:
    return parse_address(server.http_url if protocol == "http" else server.grpc_url, protocol)


def share(server: RunningServer, protocol: str, requests: list[Request], outputs: dict[str, int], slots: int = 1):
    where = address(server, protocol)
    return SharedMemory("system", requests, outputs, slots, address=where, protocol=protocol)


def ask(server: RunningServer, protocol: str, shared: SharedMemory, requests: list[Request], index: int, slot: int):
    where, placement, read = address(server, protocol), shared.placement(index, slot), partial(shared.output, slot)
    if protocol == "http":
        message = http_request(where, requests[index], DATATYPES, placement=placement)
        return http_answer(ask_http(where, message), read)
    return grpc_answer(ask_grpc(where, grpc_request(requests[index], DATATYPES, placement)), read)


def registered(server: RunningServer) -> list[str]:
    with_client = InferenceServerClient(server.http_url)
    try:
        return [region["name"] for region in with_client.get_system_shared_memory_status()]
    finally:
        with_client.close()


@pytest.mark.triton
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", TYPES)
def test_every_type_in_and_out(server, protocol, name):
    requests = [
        Request("every_type", "", {f"x_{name}": values(name, (2, 5), seed)}, (f"y_{name}", "seen")) for seed in range(3)
    ]
    with share(server, protocol, requests, {f"y_{name}": 4000, "other": 7}, slots=2) as shared:
        assert len(mine()) == 2
        assert set(registered(server)) == set(mine())
        for index, slot in ((0, 0), (1, 1), (2, 0), (1, 0)):
            answer = ask(server, protocol, shared, requests, index, slot)
            np.testing.assert_array_equal(answer[f"y_{name}"], requests[index].inputs[f"x_{name}"])
            assert b"sequence" in answer["seen"][0, 0]  # no area is for it, so the answer carries it
    assert mine() == []
    assert registered(server) == []
    assert shared.left_behind == ""


@pytest.mark.triton
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_inputs_alone_and_outputs_alone_and_neither(server, protocol):
    wanted = X.inputs["x_FP32"]
    with share(server, protocol, [X], {}) as shared:
        assert len(mine()) == 1
        np.testing.assert_array_equal(ask(server, protocol, shared, [X], 0, 0)["y_FP32"], wanted)
    empty = [Request("every_type", "", {"x_FP32": np.zeros((1, 0), np.float32)})]
    with share(server, protocol, empty, {"y_FP32": 64}) as shared:
        assert shared.placement(0, 0).inputs == {}
        assert ask(server, protocol, shared, empty, 0, 0)["y_FP32"].shape == (1, 0)
    with share(server, protocol, empty, {}) as shared:
        assert mine() == []
        assert ask(server, protocol, shared, empty, 0, 0)["y_FP32"].shape == (1, 0)


@pytest.mark.triton
def test_an_area_that_is_too_small_is_the_servers_sentence(server):
    with (
        share(server, "http", [X], {"y_FP32": 4}) as shared,
        pytest.raises(ServerError, match=r"output 'y_FP32' \(4 bytes\) should be at least 16 bytes"),
    ):
        ask(server, "http", shared, [X], 0, 0)


@pytest.mark.triton
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_cannot_see_the_memory_says_so_once(server, protocol, tmp_path, monkeypatch):
    monkeypatch.setattr(system_memory, "FOLDER", tmp_path)  # as in a container of its own
    with pytest.raises(
        ServerError, match=r"cannot use this client's shared memory \(.*Unable to open.*\); it must"
    ) as e:
        share(server, protocol, [X], {}).__enter__()
    assert "\n" not in str(e.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.triton
def test_an_error_within_leaves_nothing(server):
    with pytest.raises(ZeroDivisionError), share(server, "http", [X], {"y_FP32": 16}, slots=3):
        raise ZeroDivisionError
    assert registered(server) == []


@pytest.mark.triton
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_it_can_be_registered_again_after_the_server_forgot(server, protocol):
    with share(server, protocol, [X], {"y_FP32": 16}) as shared:
        shared.register()
        shared.register()
        client = InferenceServerClient(server.http_url)
        client.unregister_system_shared_memory()
        client.close()
        with pytest.raises(ServerError, match="Unable to find shared memory region"):
            ask(server, "http", shared, [X], 0, 0)
        shared.register()
        np.testing.assert_array_equal(ask(server, "http", shared, [X], 0, 0)["y_FP32"], X.inputs["x_FP32"])


@contextmanager
def silent_server() -> Iterator[Address]:
    """An address where somebody takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Address(*listener.getsockname())


@pytest.mark.triton
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("how", ["dead", "hangs"])
def test_a_server_that_is_gone_does_not_hold_up_the_end(server, protocol, how):
    with silent_server() as silent, share(server, protocol, [X], {"y_FP32": 16}) as shared:
        names = set(registered(server))
        shared._address = NOWHERE if how == "dead" else silent
    assert mine() == []
    client = InferenceServerClient(server.http_url)
    assert {region["name"] for region in client.get_system_shared_memory_status()} == names
    client.unregister_system_shared_memory()
    client.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_server_is_one_sentence(protocol):
    with pytest.raises(ServerUnavailableError, match="127.0.0.1:1"):
        SharedMemory("system", [X], {}, 1, address=NOWHERE, protocol=protocol, timeout_s=2).__enter__()


CLIENT = """
import sys, time
import numpy as np
from trtkit.perf.server.address import parse_address
from trtkit.perf.data.pool import Request
from trtkit.perf.memory.shared_memory import SharedMemory

asked = Request("every_type", "", {"x_FP32": np.zeros((1, 4), np.float32)})
try:
    where = parse_address(sys.argv[1], "http")
    with SharedMemory("system", [asked], {"y_FP32": 16}, 4, address=where, protocol="http"):
        print("ready", flush=True)
        time.sleep(100)
except KeyboardInterrupt:
    sys.exit(130)
"""


@contextmanager
def client(server: RunningServer) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", CLIENT, server.http_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.triton
def test_ctrl_c_leaves_nothing(server):
    with client(server) as process:
        assert len(mine(process.pid)) == 2
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert mine(process.pid) == []
    assert registered(server) == []


@pytest.mark.triton
def test_what_a_killed_client_left_is_removed_at_the_next_start(server):
    with client(server) as living:
        with client(server) as killed:
            files = mine(killed.pid)
            killed.kill()
            killed.wait(30)
        assert mine(killed.pid) == files
        assert set(files) < set(registered(server))
        with share(server, "grpc", [X], {}):
            assert mine(killed.pid) == []
            assert len(mine(living.pid)) == 2
            assert set(registered(server)) == {*mine(), *mine(living.pid)}
        living.send_signal(signal.SIGINT)
        assert living.wait(30) == 130
    assert registered(server) == []


def test_a_forked_child_removes_nothing():
    shared = SharedMemory("system", [X], {}, 1, address=NOWHERE, protocol="http")
    memory = SystemMemory(16)
    shared._memories["inputs"] = memory
    pid = os.fork()
    if pid == 0:
        shared.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert mine() == [memory.name]
    memory.release()


def _dead_pid() -> int:
    living = {process.pid for process in processes()}
    return next(pid for pid in range(4_000_000, 1_000_000, -1) if pid not in living)


def test_the_sweep_takes_dead_processes_files_only(tmp_path, monkeypatch):
    monkeypatch.setattr(system_memory, "FOLDER", tmp_path)
    dead = _dead_pid()
    names = [f"trtkit_{dead}_1", f"trtkit_{dead}_2", f"trtkit_{dead}_8000_8a09", f"trtkit_{os.getpid()}_3", "other_1_1"]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / f"trtkit_{dead}_4").mkdir()
    with (tmp_path / names[1]).open() as held:  # in another container its process lives
        system_memory.fcntl.flock(held, system_memory.fcntl.LOCK_EX)
        assert sweep() == [names[0]]
    assert sweep() == [names[1]]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*names[2:], f"trtkit_{dead}_4"])


def test_a_full_shared_memory_is_one_sentence(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ProjectError, match=r"shared memory of 0.0 MiB is needed, and /dev/shm has .* free; use"):
        SharedMemory("system", [X], {}, 1, address=NOWHERE, protocol="http").__enter__()


def test_more_than_the_machine_has_is_one_sentence():
    folder = os.statvfs("/dev/shm")
    if not folder.f_blocks:
        pytest.skip("/dev/shm has no limit on this machine")
    slots = folder.f_blocks * folder.f_frsize // 2**30 + 2
    with pytest.raises(ProjectError, match=r"use fewer distinct requests or a lower concurrency, or enlarge /dev/shm"):
        SharedMemory("system", [X], {"y_FP32": 2**30}, slots, address=NOWHERE, protocol="http").__enter__()


def test_no_shared_memory_at_all_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(system_memory, "FOLDER", tmp_path / "absent")
    assert sweep() == []
    with pytest.raises(ProjectError, match=r"/dev/shm does not give it \(No such file or directory\); leave out"):
        SystemMemory(16)


def test_an_interrupt_while_it_is_made_leaves_nothing(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(shared_memory, "tensor_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        SharedMemory("system", [X], {}, 1, address=NOWHERE, protocol="http").__enter__()
    assert mine() == []
    monkeypatch.setattr(os, "posix_fallocate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        SystemMemory(16)


@pytest.mark.triton
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_ctrl_c_at_the_end_waits_until_all_is_removed(server, protocol, monkeypatch):
    open_control = shared_memory.open_control

    def interrupted(*given, **more):
        signal.raise_signal(signal.SIGINT)
        return open_control(*given, **more)

    with pytest.raises(KeyboardInterrupt), share(server, protocol, [X], {"y_FP32": 16}):
        monkeypatch.setattr(shared_memory, "open_control", interrupted)
    assert registered(server) == []


def test_what_was_never_closed_is_removed_when_the_process_ends():
    code = CLIENT.partition("try:")[0] + (
        "shared = SharedMemory('system', [asked], {}, 1, address=('127.0.0.1', 1), protocol='http')\n"
        "shared.register = lambda stale: None\n"
        "shared.__enter__()\n"
        "print(len(list(__import__('pathlib').Path('/dev/shm').glob(f'trtkit_{__import__(\"os\").getpid()}_*'))))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.communicate(timeout=60)[0] == "1\n"
    assert mine(process.pid) == []


@contextmanager
def refusing(*_, **__):
    def fetch(what, name, body=None):
        raise ServerError(f"'{name}' is in use")

    yield fetch


def test_a_server_that_does_not_let_go_is_said(monkeypatch):
    shared = SharedMemory("system", [X], {}, 1, address=NOWHERE, protocol="http")
    shared._memories["inputs"] = memory = SystemMemory(16)
    monkeypatch.setattr(shared_memory, "open_control", refusing)
    monkeypatch.setattr(shared_memory, "_UNREGISTER_S", 0.1)
    shared.close()
    assert shared.left_behind == f"the server still holds the shared memory of this client ('{memory.name}' is in use)"
    assert mine() == []


def test_kinds_and_sizes_that_make_no_sense():
    with pytest.raises(ProjectError, match="shared memory 'sytem' is unknown; did you mean 'system'"):
        SharedMemory("sytem", [X], {}, 1, address=NOWHERE, protocol="http")
    with pytest.raises(ProjectError, match="an output area of 0 bytes is impossible"):
        output_sizes({}, {}, [X], 0)


def test_sizes_of_outputs():
    metadata = {
        "outputs": [
            {"name": "scores", "datatype": "FP32", "shape": ["-1", "10"]},
            {"name": "flags", "datatype": "BOOL", "shape": [-1]},
            {"name": "boxes", "datatype": "FP16", "shape": [-1, -1, 4]},
            {"name": "label", "datatype": "BYTES", "shape": [-1, 1]},
        ]
    }
    requests = [Request("m", "", {"x": np.zeros((rows, 3))}) for rows in (1, 8, 2)]
    sizes = {"scores": 320, "flags": 8, "boxes": 102_400, "label": 102_400}
    assert output_sizes(metadata, {"max_batch_size": 8}, requests) == sizes
    fixed = {"outputs": [{"name": "y", "datatype": "INT64", "shape": [2, 3]}, {"name": "z", "datatype": "INT8"}]}
    assert output_sizes(fixed, {}, requests, 5) == {"y": 48, "z": 1}


def test_areas_do_not_overlap_and_travel_to_other_processes(monkeypatch):
    requests = [Request("m", "", {"a": np.zeros(3, np.int8), "b": np.zeros(300, np.int8)}) for _ in range(3)]
    shared = SharedMemory("system", requests, {"y": 5, "z": 300}, 4, address=NOWHERE, protocol="http")
    shared._memories = {"inputs": SystemMemory(shared._input_bytes), "outputs": SystemMemory(shared._output_bytes)}
    placements = [shared.placement(index, slot) for index in range(3) for slot in range(4)]
    assert pickle.loads(pickle.dumps(placements)) == placements
    for side, total in (("inputs", shared._input_bytes), ("outputs", shared._output_bytes)):
        regions = sorted({region for placement in placements for region in getattr(placement, side).values()})
        assert all(region.offset % 256 == 0 for region in regions)
        assert all(a.offset + a.byte_size <= b.offset for a, b in pairwise(regions))
        assert regions[-1].offset + regions[-1].byte_size <= total
    for memory in shared._memories.values():
        memory.release()


class HostRuntime:
    """The CUDA runtime's functions over memory of the host, with the arguments' types checked."""

    def __init__(self) -> None:
        self.blocks: dict[int, ctypes.Array] = {}
        self.fails: dict[str, int] = {}

    def cudaSetDevice(self, device: int) -> int:  # noqa: N802
        return self.fails.get("cudaSetDevice", 0 if device == 0 else 101)

    def cudaMalloc(self, pointer, size: ctypes.c_size_t) -> int:  # noqa: N802
        block = ctypes.create_string_buffer(size.value)
        self.blocks[ctypes.addressof(block)] = block
        pointer._obj.value = ctypes.addressof(block)
        return self.fails.get("cudaMalloc", 0)

    def cudaIpcGetMemHandle(self, handle, pointer: ctypes.c_void_p) -> int:  # noqa: N802
        ctypes.memmove(handle, (pointer.value or 0).to_bytes(8, "big") + bytes(range(56)), 64)
        return 0

    def cudaMemcpy(self, to, source, size: ctypes.c_size_t, kind: int) -> int:  # noqa: N802
        assert kind in (1, 2)
        ctypes.memmove(to, source, size.value)
        return 0

    def cudaDeviceSynchronize(self) -> int:  # noqa: N802
        return 0

    def cudaFree(self, pointer: ctypes.c_void_p) -> int:  # noqa: N802
        return 0 if self.blocks.pop(pointer.value or 0, None) is not None else 1

    def cudaGetErrorString(self, code: int) -> bytes:  # noqa: N802
        return b"error %d" % code


def test_cuda_memory_is_written_read_and_freed():
    runtime = HostRuntime()
    memory = CudaMemory(1000, 0, runtime)
    assert [len(block) for block in runtime.blocks.values()] == [2 * 2**20]
    memory.write(256, b"abc\0def")
    assert memory.read(256, 7) == b"abc\0def"
    registration = memory.registration()
    assert registration["raw_handle"][8:] == bytes(range(56))
    assert registration | {"raw_handle": b""} == {"raw_handle": b"", "device_id": 0, "byte_size": 1000}
    memory.release()
    memory.release()
    assert runtime.blocks == {}


def test_cuda_without_a_gpu_is_one_sentence(monkeypatch):
    with pytest.raises(ProjectError, match="on GPU 7 is impossible: cudaSetDevice says 'error 101'; use "):
        CudaMemory(16, 7, HostRuntime())
    monkeypatch.setattr(cuda_memory, "_candidates", lambda: iter(["libabsent.so"]))
    with pytest.raises(ProjectError, match="no libcudart is on this machine; run: pip install"):
        CudaMemory(16)


def test_the_real_cuda_runtime_without_a_driver_is_one_sentence():
    library = next(iter(cuda_memory._candidates()), "")
    if not library or Path("/dev/nvidia0").exists():
        pytest.skip("no CUDA runtime, or a GPU, on this machine")
    with pytest.raises(ProjectError, match=r"of 256 bytes on GPU 0 is impossible: cudaSetDevice says '"):
        SharedMemory("cuda", [X], {}, 1, address=NOWHERE, protocol="http").__enter__()


@pytest.mark.triton
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_server_reads_our_cuda_registration(server, protocol, monkeypatch):
    """It has no GPU here: it refuses the handle itself, and not the form of the request."""
    runtime = HostRuntime()
    monkeypatch.setattr(cuda_memory, "_load", lambda: runtime)
    where = address(server, protocol)
    with pytest.raises(ServerError, match=r"\(.*failed to register shared memory region.*\); it must.*GPU") as e:
        SharedMemory("cuda", [X], {"y_FP32": 16}, 2, address=where, protocol=protocol).__enter__()
    assert "\n" not in str(e.value)
    assert runtime.blocks == {}


def test_a_registration_over_grpc_has_the_protocols_fields():
    body = CudaMemory(16, 0, HostRuntime()).registration()
    parsed = messages.CudaSharedMemoryRegisterRequest(name="r", **body)
    assert (len(parsed.raw_handle), parsed.device_id, parsed.byte_size) == (64, 0, 16)
