# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The race for a GPU target, as far as a machine without one can tell.

The CUDA driver and TensorRT are stand-ins: the library's names are checked against the API of each version, the
driver is a table of functions over host memory.
"""

from __future__ import annotations

import ast
import ctypes
import enum
import importlib
import inspect
import json
import re
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import precision_models
from trt_fake import DATA, VERSIONS
from trtkit import build_models, load_project
from trtkit.engine import EngineOptions, Profile, ShapeRange, plan_runner
from trtkit.engine.plan_runner import PlanRunner
from trtkit.errors import BuildError, ExportError
from trtkit.export.runtime import Session
from trtkit.gpu import Gpu, GpuState
from trtkit.project import Target
from trtkit.race.on_gpu import GpuRace

CLASSES = {"runtime": "Runtime", "engine": "ICudaEngine", "context": "IExecutionContext"}


def used() -> set[tuple[str, str]]:
    """The members that the runner asks of TensorRT's objects, by the local names they have there."""
    found = set()
    for node in ast.walk(ast.parse(inspect.getsource(plan_runner))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in CLASSES:
            found.add((CLASSES[node.value.id], node.attr))
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_has_what_the_runner_uses(version: str) -> None:
    data = json.loads((DATA / f"api_{version}.json").read_text())
    names = used()
    assert {"Runtime", "ICudaEngine", "IExecutionContext"} <= {kind for kind, _ in names}
    assert [f"{kind}.{name}" for kind, name in sorted(names) if name not in data[kind]["cls"]] == []
    assert "INPUT" in data["TensorIOMode"]["enum"]
    assert {"FLOAT", "HALF", "INT32"} <= set(data["DataType"]["enum"]) & set(plan_runner._NUMPY)


class Driver:
    """The CUDA driver's functions, over memory of this process."""

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.failing = ""

    def __getattr__(self, name: str) -> Any:
        if name not in {
            "cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuStreamCreate",
            "cuStreamSynchronize", "cuMemAlloc_v2", "cuMemcpyHtoD_v2", "cuMemcpyDtoH_v2", "cuMemFree_v2",
        }:  # fmt: skip
            raise AttributeError(name)
        return lambda *given: 2 if name == self.failing else getattr(self, f"do_{name}", lambda *_: 0)(*given)

    def do_cuMemAlloc_v2(self, address: Any, size: Any) -> int:  # noqa: N802
        block = ctypes.create_string_buffer(size.value)
        ctypes.cast(address, ctypes.POINTER(ctypes.c_uint64)).contents.value = ctypes.addressof(block)
        self.memory[ctypes.addressof(block)] = block
        return 0

    def do_cuMemcpyHtoD_v2(self, address: Any, source: Any, size: Any) -> int:  # noqa: N802
        ctypes.memmove(address.value, source.value, size.value)
        return 0

    def do_cuMemcpyDtoH_v2(self, target: Any, address: Any, size: Any) -> int:  # noqa: N802
        ctypes.memmove(target.value, address.value, size.value)
        return 0

    def do_cuMemFree_v2(self, address: Any) -> int:  # noqa: N802
        del self.memory[address.value]
        return 0


class Mode(enum.IntEnum):
    INPUT = 1
    OUTPUT = 2


class Engine:
    """x FP32 [batch, 3] -> y FP16, twice x."""

    num_io_tensors = 2

    def __init__(self, world: World) -> None:
        self.world = world
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()

    def get_tensor_name(self, index: int) -> str:
        return "xy"[index]

    def get_tensor_mode(self, name: str) -> Mode:
        return Mode.INPUT if name == "x" else Mode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return types.SimpleNamespace(name={"x": "FLOAT", "y": self.world.output_type}[name])

    def create_execution_context(self) -> Engine:
        return self

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self.world.profiles.append(index)
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = tuple(shape)
        return shape[1] == 3

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self.world.runs += 1
        count = int(np.prod(self.shape))
        read = np.ctypeslib.as_array((ctypes.c_float * count).from_address(self.addresses["x"]))
        (ctypes.c_uint16 * count).from_address(self.addresses["y"])[:] = (2 * read).astype(np.float16).view(np.uint16)
        return not self.world.broken


class World:
    """A TensorRT module that loads one engine."""

    __name__ = "tensorrt_for_the_race"

    def __init__(self) -> None:
        self.profiles: list[int] = []
        self.runs, self.broken, self.loads, self.output_type = 0, False, True, "HALF"
        self.TensorIOMode = Mode

    class ILogger:
        pass

    def Runtime(self, log: Any) -> Any:  # noqa: N802
        engine = Engine(self) if self.loads else None
        return types.SimpleNamespace(deserialize_cuda_engine=lambda plan: engine)


def ranges(low: int, high: int) -> Profile:
    return {"x": ShapeRange((low, 3), (high, 3), (high, 3))}


PROFILES = [ranges(1, 4), ranges(5, 16)]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    found = Driver()
    monkeypatch.setattr(plan_runner.ctypes, "CDLL", lambda name: found)
    return found


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    (tmp_path / "model.plan").write_bytes(b"ftrt")
    return tmp_path / "model.plan"


def rows(count: int, width: int = 3) -> Mapping[str, Any]:
    return {"x": np.arange(count * width, dtype=np.float64).reshape(count, width)}


def test_a_request_is_answered_by_the_profile_that_takes_it(driver: Driver, plan: Path) -> None:
    world = World()
    runner = PlanRunner(world, plan, PROFILES)
    for count, profile in ((2, 0), (9, 1), (1, 0)):
        answer = runner.run(rows(count))["y"]
        assert answer.dtype == np.float16
        assert np.array_equal(answer, (2 * rows(count)["x"]).astype(np.float16))
        assert world.profiles[-1] == profile
    assert len(driver.memory) == 2, "what earlier requests took was freed"
    call = runner.timed(rows(4))
    before = world.runs
    call(), call()
    assert world.runs == before + 2


def test_what_goes_wrong_on_the_gpu_is_a_sentence(driver: Driver, plan: Path) -> None:
    world = World()
    runner = PlanRunner(world, plan, PROFILES)
    with pytest.raises(ExportError, match=r"no profile of the plan takes x\[20, 3\]"):
        runner.run(rows(20))
    world.broken = True
    with pytest.raises(ExportError, match="could not run the plan"):
        runner.run(rows(2))
    world.broken, world.output_type = False, "BF16"
    with pytest.raises(ExportError, match="tensor 'y' of the plan is BF16"):
        runner.run(rows(2))
    driver.failing = "cuMemAlloc_v2"
    with pytest.raises(ExportError, match="cuMemAlloc_v2 failed with error 2"):
        runner.run(rows(2))
    world.loads, driver.failing = False, ""
    with pytest.raises(ExportError, match=r"model\.plan does not load"):
        PlanRunner(world, plan, PROFILES)


def test_without_a_driver_no_plan_runs(plan: Path) -> None:
    if importlib.import_module("trtkit.gpu").gpu_state().cuda is not None:
        pytest.skip("there is a driver here")
    with pytest.raises(ExportError, match="no CUDA driver"):
        PlanRunner(World(), plan, [])


def test_a_provider_that_is_not_there_is_told(tmp_path: Path) -> None:
    onnx.save(precision_models.conv_net(channels=(4,)), tmp_path / "m.onnx")
    with pytest.raises(ExportError, match="this ONNX Runtime has no CUDAExecutionProvider; it has "):
        Session(tmp_path / "m.onnx", provider="CUDAExecutionProvider")
    race = GpuRace(Target(execution_provider="cuda"), [], EngineOptions())
    with pytest.raises(ExportError, match="CUDAExecutionProvider"):
        race.open(tmp_path / "m.onnx", 1)


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("backend: tensorrt, tensorrt_version: 10.8.0", "no plan was built for model 'm': this machine has no GPU"),
        ("execution_provider: cuda", "the race times the candidates on the target's GPU.* this machine has no GPU"),
    ],
)
def test_the_race_of_a_gpu_target_needs_its_gpu(tmp_path: Path, target: str, sentence: str) -> None:
    onnx.save(precision_models.conv_net(channels=(4,)), tmp_path / "m.onnx")
    model = "models: {m: {source: {onnx: m.onnx}, precision: auto}}"
    (tmp_path / "trtkit.yaml").write_text(f"targets: {{gpu: {{{target}}}}}\n{model}")
    _, error = build_models(load_project(tmp_path / "trtkit.yaml"))
    assert isinstance(error, BuildError)
    assert re.search(sentence, str(error))


def test_a_race_that_waits_for_the_container_is_no_obstacle(tmp_path: Path) -> None:
    onnx.save(precision_models.conv_net(channels=(4,)), tmp_path / "m.onnx")
    target = '{backend: tensorrt, image: "nvcr.io/nvidia/tritonserver:25.01-py3", fallback: onnxruntime}'
    model = "models: {m: {source: {onnx: m.onnx}, precision: auto}}"
    (tmp_path / "trtkit.yaml").write_text(f"targets: {{gpu: {target}}}\n{model}")
    results, error = build_models(load_project(tmp_path / "trtkit.yaml"), in_container=True)
    assert error is None, error
    assert (results[0].precision, results[0].version) == ("fp32", 1)
    assert "no plan was built" in results[0].no_plan


def test_the_candidates_of_a_gpu_target(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The worker's part in this process, with plans that stand for themselves and ONNX Runtime where they would run."""
    from trtkit.artifacts import Cache
    from trtkit.race import on_gpu
    from trtkit.race.runner import CpuRunner
    from trtkit.race.stage import Race

    built: list[str] = []

    def build(module: str, graph: Path, profiles: Sequence[Profile], options: EngineOptions, folder: Path) -> None:
        built.append(options.precision)
        folder.mkdir()
        (folder / "model.plan").write_bytes(graph.read_bytes())

    monkeypatch.setattr(on_gpu, "build_in_process", build)
    monkeypatch.setattr(on_gpu, "PlanRunner", lambda module, file, profiles: CpuRunner(file.read_bytes(), 1))
    monkeypatch.setattr(on_gpu, "import_module", lambda name: name)
    for module in ("trtkit.build_gpu", "trtkit.targets"):
        monkeypatch.setattr(f"{module}.gpu_state", lambda: GpuState("570", "12.8", (Gpu("A10", "8.6", 1),)))
    onnx.save(precision_models.conv_net(channels=(4, 8)), tmp_path / "m.onnx")
    (tmp_path / "trtkit.yaml").write_text(
        'targets: {cpu: {}, gpu: {backend: tensorrt, tensorrt_version: 10.8.0, compute_capability: "8.6"}}\n'
        "models: {m: {source: {onnx: m.onnx}, config: {max_batch_size: 8}}}"
    )
    project = load_project(tmp_path / "trtkit.yaml")
    assert build_models(project, target="cpu")[1] is None
    cache = Cache(project.state)
    run = cache.runs("m", "export")[0]
    folder = tmp_path / "race"
    folder.mkdir()
    gpu = GpuRace(project.targets["gpu"], [], EngineOptions())
    facts = Race(
        project, "m", "tensorrt", project.state / "objects" / run.artifact, run.facts, None, folder,
        tmp_path / "race.svg", gpu,
    ).run()["race"]  # fmt: skip
    verdicts = facts["verdicts"]
    assert list(verdicts) == ["fp32", "fp16", "bf16", "int8", "int8+fp16", "fp8+fp16"]
    assert "fp8 needs compute capability 8.9" in verdicts["fp8+fp16"]
    assert "calibration" in verdicts["int8"]
    assert built == ["fp32", "fp16", "bf16"]
    assert sorted(file.name for file in folder.iterdir() if file.is_dir()) in ([], ["warmup"])
    assert (folder / "model.onnx").exists()
