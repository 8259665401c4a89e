# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ctypes
import json
import sys
import textwrap
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtkit import doctor, doctor_probes
from trtkit.doctor_probes import Found, probe
from trtkit.gpu import Gpu, GpuState, gpu_state, kernel_problem

L40S = Gpu("NVIDIA L40S", "8.9", 48 << 30)
WITH_GPU = GpuState("575.57.08", "12.9", (L40S,))


class Driver:
    """The CUDA driver and NVML, as their headers describe them, for a machine without either."""

    def __init__(self, gpus: tuple[Gpu, ...] = (L40S,), code: int = 0, nvml: bool = True) -> None:
        self.gpus, self.code, self.nvml = gpus, code, nvml

    def load(self, name: str) -> Any:
        if name == "libnvidia-ml.so.1" and not self.nvml:
            raise OSError(name)
        assert name in ("libcuda.so.1", "libnvidia-ml.so.1")
        return self

    def set(self, pointer: Any, value: Any) -> int:
        pointer._obj.value = value
        return 0

    def cuInit(self, flags: int) -> int:  # noqa: N802
        assert flags == 0
        return self.code

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        return self.set(version, 12090)

    def cuGetErrorName(self, code: int, name: Any) -> int:  # noqa: N802
        assert code == self.code
        return self.set(name, b"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH")

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        return self.set(count, len(self.gpus))

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        return self.set(device, index)

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:  # noqa: N802
        name.value = self.gpus[device.value].name.encode()[: size - 1]
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:  # noqa: N802
        parts = self.gpus[device.value].compute_capability.split(".")
        return self.set(value, int(parts[{75: 0, 76: 1}[attribute]]))

    def cuDeviceTotalMem_v2(self, memory: Any, device: Any) -> int:  # noqa: N802
        return self.set(memory, self.gpus[device.value].memory_bytes)

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return 0

    def nvmlShutdown(self) -> int:  # noqa: N802
        return 0

    def nvmlSystemGetDriverVersion(self, version: Any, size: int) -> int:  # noqa: N802
        assert size == ctypes.sizeof(version)
        version.value = b"575.57.08"
        return 0


def test_the_driver_is_asked_for_every_gpu() -> None:
    two = (L40S, Gpu("NVIDIA B200", "10.0", 180 << 30))
    assert gpu_state(Driver(two).load) == GpuState("575.57.08", "12.9", two)
    assert gpu_state(Driver(nvml=False).load).driver is None


def test_a_driver_that_does_not_start_says_why() -> None:
    state = gpu_state(Driver(code=803).load)
    assert state.gpus == ()
    assert state.problem == (
        "the CUDA driver is there and does not start: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (error 803)"
    )
    assert "finds no GPU (error 100)" in str(gpu_state(Driver(code=100).load).problem)


def test_no_driver_is_no_problem() -> None:
    def none(name: str) -> Any:
        raise OSError(name)

    assert gpu_state(none) == GpuState()


@pytest.mark.parametrize(
    ("arch_list", "capability", "runs"),
    [
        (["sm_80", "sm_86"], "8.6", True),
        (["sm_80", "sm_86"], "8.9", True),
        (["sm_86"], "8.0", False),
        (["sm_80", "sm_90"], "12.0", False),
        (["sm_90", "compute_90"], "12.0", True),
        (["compute_90"], "8.9", False),
        (["sm_120"], "12.0", True),
        (["sm_100"], "12.0", False),
        (["sm_90a"], "9.0", True),
        (["sm_90a", "compute_90a"], "10.0", False),
        (["gfx90a", "sm_"], "9.0", False),
        ([], "9.0", False),
    ],
)
def test_a_kernel_for_the_gpu(arch_list: list[str], capability: str, runs: bool) -> None:
    assert (kernel_problem(arch_list, capability) is None) == runs


@given(st.lists(st.tuples(st.booleans(), st.integers(3, 13), st.integers(0, 9))), st.integers(3, 13), st.integers(0, 9))
def test_kernels_by_the_rule_itself(built: list[tuple[bool, int, int]], major: int, minor: int) -> None:
    arch_list = [f"{'compute' if ptx else 'sm'}_{a}{b}" for ptx, a, b in built]
    binary = any(a == major and b <= minor for ptx, a, b in built if not ptx)
    ptx = any(10 * a + b <= 10 * major + minor for ptx, a, b in built if ptx)
    assert (kernel_problem(arch_list, f"{major}.{minor}") is None) == (binary or ptx)


def test_the_probes_model_adds() -> None:
    model = onnx.load_from_string(doctor_probes.MODEL)
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["Add"]


def test_onnxruntime_is_tried_for_real() -> None:
    found = probe("onnxruntime")
    assert found.error == ""
    assert found.facts["CPUExecutionProvider"] is None
    assert "AzureExecutionProvider" not in found.facts


def test_tensorrt_rtx_makes_a_builder() -> None:
    pytest.importorskip("tensorrt_rtx")
    assert probe("tensorrt_rtx") == Found({"version": metadata.version("tensorrt-rtx")})


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A module of a name that the probes know, found before the real one by the probe's process."""

    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return write


def test_a_library_that_crashes_or_hangs_or_raises_is_a_finding(library: Any) -> None:
    library("tensorrt", "import os; os.kill(os.getpid(), 11)")
    assert probe("tensorrt").error == "tensorrt ended its process with signal 11"
    library("tensorrt", "import time; time.sleep(60)")
    assert probe("tensorrt", timeout_s=1).error == "tensorrt did nothing for 1 s"
    library("tensorrt", "import sys; sys.exit('no licence')")
    assert probe("tensorrt").error == "no licence"
    library("tensorrt", "raise RuntimeError('cudaError 35\\nmore')")
    assert probe("tensorrt").error == "cudaError 35"
    library("tensorrt", "print('chatter')\nclass Logger: ERROR = 1\ndef Builder(logger): raise TypeError('nullptr')")
    assert "Logger" in probe("tensorrt").error


def test_a_provider_that_falls_back_is_found(library: Any) -> None:
    library(
        "onnxruntime",
        """
        import numpy as np
        def set_default_logger_severity(level): pass
        def get_available_providers(): return [f"{name}ExecutionProvider" for name in ("Tensorrt", "CUDA", "CPU")]
        class InferenceSession:
            def __init__(self, model, providers):
                self.asked = providers[0]
            def get_providers(self):
                return ["CPUExecutionProvider"] if self.asked[0] == "T" else [self.asked, "CPUExecutionProvider"]
            def run(self, names, inputs):
                if self.asked[:2] == "CU":
                    raise RuntimeError("CUDA error 209: no kernel image is available for execution on the device")
                return [inputs["x"] * 2]
        """,
    )
    assert probe("onnxruntime").facts == {
        "TensorrtExecutionProvider": "it falls back to CPUExecutionProvider",
        "CUDAExecutionProvider": "CUDA error 209: no kernel image is available for execution on the device",
        "CPUExecutionProvider": None,
    }


def test_torchs_kernel_is_run_on_each_gpu(library: Any) -> None:
    library(
        "torch",
        """
        __version__ = "9.9"
        class version: cuda = "12.4"
        class cuda:
            get_arch_list = staticmethod(lambda: ["sm_80"])
            device_count = staticmethod(lambda: 2)
        class Tensor:
            __mul__ = sum = lambda self, *_: self
            def item(self): pass
        def ones(size, device):
            if device == "cuda:1":
                raise RuntimeError("CUDA error: no kernel image is available for execution on the device\\nmore")
            return Tensor()
        """,
    )
    facts = probe("torch").facts
    assert (facts["version"], facts["cuda"], facts["arch_list"]) == ("9.9", "12.4", ["sm_80"])
    assert facts["kernel_error"] == "CUDA error: no kernel image is available for execution on the device"


CPU_ONLY = {"CUDAExecutionProvider": "it falls back to CPUExecutionProvider", "CPUExecutionProvider": None}
TORCH = {"version": "2.13.0", "cuda": "12.8", "arch_list": ["sm_80"], "kernel_error": None}


@pytest.mark.parametrize(
    ("check", "found", "gpu", "state", "words"),
    [
        (doctor._providers, Found(CPU_ONLY), GpuState(), "ok", "runs on CPUExecutionProvider; not on CUDAExecution"),
        (doctor._providers, Found(CPU_ONLY), WITH_GPU, "problem", "CUDAExecutionProvider: it falls back to CPU"),
        (doctor._providers, Found({"CPUExecutionProvider": "broken"}), GpuState(), "problem", "on none; not on CPU"),
        (doctor._providers, Found(error="signal 11"), GpuState(), "problem", "signal 11"),
        (doctor._torch, Found(TORCH), WITH_GPU, "ok", "torch 2.13.0 with CUDA 12.8"),
        (doctor._torch, Found({**TORCH, "arch_list": ["sm_90"]}), WITH_GPU, "problem",
         "NVIDIA L40S: no kernel for compute capability 8.9 (built for sm_90); install a torch built for this GPU"),
        (doctor._torch, Found({**TORCH, "kernel_error": "CUDA error: x"}), WITH_GPU, "problem", "0: CUDA error: x;"),
        (doctor._torch, Found({**TORCH, "cuda": None}), WITH_GPU, "absent", "is a build for CPUs"),
        (doctor._torch, Found(error="no torch"), WITH_GPU, "problem", "no torch"),
    ],
)  # fmt: skip
def test_what_was_found_becomes_a_row(check: Any, found: Found, gpu: GpuState, state: str, words: str) -> None:
    (row,) = check(found, gpu)
    assert row.state == state
    assert words in row.details


@pytest.mark.parametrize(
    ("module", "error", "gpu", "state"),
    [
        ("tensorrt", "", WITH_GPU, "ok"),
        ("tensorrt", "factory function returned nullptr", GpuState(), "absent"),
        ("tensorrt", "factory function returned nullptr", WITH_GPU, "problem"),
        ("tensorrt_rtx", "signal 11", GpuState(), "problem"),
    ],
)
def test_a_builder_needs_a_gpu_or_not(module: str, error: str, gpu: GpuState, state: str) -> None:
    (row,) = doctor._builders({module: Found({"version": "1.2"}, error)}, gpu)
    assert row.state == state
    assert (error or "1.2 makes a builder here") in row.details


def test_the_gpus_are_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "hides_gpus", lambda: False)
    row = doctor._gpu(WITH_GPU)
    assert row.details == (
        "1 device(s): NVIDIA L40S (compute capability 8.9, 48 GiB); driver 575.57.08 for CUDA up to 12.9"
    )
    broken = doctor._gpu(GpuState(None, "12.9", (), "the CUDA driver is there and finds no GPU (error 100)"))
    assert (broken.state, "driver of unknown version" in broken.details) == ("problem", True)
    assert doctor._gpu(GpuState()).state == "absent"


def test_a_tritonserver_on_path_with_its_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "tritonserver"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    assert doctor._tritonserver().details == f"{program}, version not known"
    monkeypatch.setenv("TRITON_SERVER_VERSION", "2.50.0")
    assert doctor._tritonserver().details == f"{program}, version 2.50.0"
    (tmp_path / "TRITON_VERSION").write_text("2.49.0\n")
    assert doctor._tritonserver().details == f"{program}, version 2.49.0"
    monkeypatch.setenv("PATH", "")
    assert doctor._tritonserver().state == "absent"


def test_libraries_are_found_without_loading_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("libcudart.so.12", "libcudart.so.12.4.127", "libcudart.so.9", "libnvinfer.so.10.3.0"):
        (tmp_path / name).touch()
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setenv("LD_LIBRARY_PATH", f":{tmp_path}")
    row = doctor._libraries(GpuState())
    assert row.state == "ok"
    assert "CUDA runtime 9/12" in row.details
    assert "TensorRT 10" in row.details


def test_a_missing_extra_says_what_it_gives_and_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "installed", lambda name: None)
    for extra in doctor._EXTRAS:
        row = doctor._extra(extra)
        assert row.state == "absent"
        assert f"pip install 'trtkit[{extra}]' gives {doctor._COST[extra]}" in row.details
        assert "MB" in row.details


def test_everything_is_examined_quickly_and_each_in_one_line() -> None:
    started = time.perf_counter()
    checks = doctor.examine()
    assert time.perf_counter() - started < 15  # under 2 s on an idle machine
    parts = [check.part for check in checks]
    assert len(parts) == len(set(parts))
    assert {"ONNX Runtime providers", "GPU", "CUDA libraries", "tritonserver on PATH", "docker", "kubectl"} <= set(
        parts
    )
    assert all("\n" not in check.details and check.state in ("ok", "absent", "problem") for check in checks)
    assert json.dumps([check.to_json() for check in checks])
