# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The builder over each TensorRT version's API: it touches no name that the version lacks, and calls what it should."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from trt_fake import PLAN, TIMES, VERSIONS, World
from trtkit.engine import EngineOptions, ShapeRange, build_engine
from trtkit.engine.gpu import Gpu
from trtkit.engine.layers import engine_layers
from trtkit.errors import BuildError, MissingDependencyError

GPU = Gpu("NVIDIA L40S", "8.9", "12.8")
PROFILE = {"x": ShapeRange((1, 4), (2, 4), (8, 4)), "sizes": ShapeRange((1, 1), (2, 2), (4, 4))}
PRECISION_FLAGS = {"FP16", "INT8", "FP8", "BF16", "INT4", "FP4", "OBEY_PRECISION_CONSTRAINTS"}


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"the fake parser does not read it")
    return file


@pytest.fixture(params=VERSIONS)
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("trtkit.engine.builder.find_gpu", lambda: GPU)
    return World(request.param)


def major(world: World) -> int:
    return 11 if world.rtx else int(world.version.partition(".")[0])


def run(world: World, file: Path, **options: Any) -> Any:
    return build_engine(world.module, file, [PROFILE], EngineOptions(**options))


def flags(world: World) -> list[str]:
    return [flag.name for (flag,) in world.called("IBuilderConfig.set_flag")]


def test_there_is_data_for_every_version() -> None:
    assert {version.partition(".")[0] for version in VERSIONS} == {"8", "10", "11", "rtx_1"}
    assert len(VERSIONS) == 8


def test_a_build_without_options(world: World, onnx_file: Path) -> None:
    built = run(world, onnx_file)
    assert built.plan == PLAN
    kinds = world.module.NetworkDefinitionCreationFlag.__members__
    expected = {8: "EXPLICIT_BATCH", 10: "STRONGLY_TYPED", 11: None}[major(world)]
    assert world.called("Builder.create_network") == [(1 << kinds[expected] if expected else 0,)]
    assert not PRECISION_FLAGS & set(flags(world))
    assert world.called("IOptimizationProfile.set_shape") == [("x", (1, 4), (2, 4), (8, 4))]
    assert world.called("IOptimizationProfile.set_shape_input") == [("sizes", (1, 1), (2, 2), (4, 4))]
    assert world.called("IBuilderConfig.set_memory_pool_limit") == [(world.module.MemoryPoolType.WORKSPACE, 1 << 30)]
    assert bool(world.called("init_libnvinfer_plugins")) is not world.rtx


def test_the_facts_of_a_build(world: World, onnx_file: Path) -> None:
    facts = run(world, onnx_file, optimization_level=4).facts
    assert world.called("IBuilderConfig.builder_optimization_level") == [(4,)]
    assert (facts["tensorrt_version"], facts["gpu_name"], facts["cuda_version"]) == (
        world.version,
        "NVIDIA L40S",
        "12.8",
    )
    assert facts["flavour"] == ("tensorrt_rtx" if world.rtx else "tensorrt")
    names = [(entry["name"], entry["dtype"], entry["mode"], entry["sizes"]) for entry in facts["io"]]
    int64 = "INT32" if major(world) == 8 else "INT64"
    assert names == [("x", "FP32", "input", False), ("sizes", int64, "input", True), ("y", "FP16", "output", False)]
    assert facts["precision_source"] == "engine"
    assert facts["layers"] == {"INT8": 1, "FP16": 1, "BF16": 1, "unknown": 1}
    assert facts["profiles"] == [
        {"x": {"min": [1, 4], "opt": [2, 4], "max": [8, 4]}, "sizes": {"min": [1, 1], "opt": [2, 2], "max": [4, 4]}}
    ]


def test_layers_come_from_the_network_when_the_engine_cannot_be_loaded(world: World, onnx_file: Path) -> None:
    world.no_engine = True
    facts = run(world, onnx_file).facts
    assert (facts["layers"], facts["precision_source"]) == ({"INT8": 1, "FP16": 1}, "network")


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("fp32", []), ("fp16", ["FP16"]), ("int8", ["INT8"]), ("int8+fp16", ["INT8", "FP16"])],
)
def test_precision_flags_are_for_weak_typing_only(
    world: World, onnx_file: Path, precision: str, expected: list[str]
) -> None:
    run(world, onnx_file, precision=precision)
    assert flags(world) == (expected if major(world) == 8 else [])


@pytest.mark.parametrize("precision", ["bf16", "fp8", "fp8+fp16"])
def test_precisions_that_weak_typing_lacks(world: World, onnx_file: Path, precision: str) -> None:
    if major(world) == 8:
        with pytest.raises(
            BuildError, match=rf"model.onnx: precision {re.escape(precision)} needs TensorRT 10 or newer; .*8.6.1"
        ):
            run(world, onnx_file, precision=precision)
        assert not world.called("Builder")
    else:
        run(world, onnx_file, precision=precision)
        assert flags(world) == []


def test_version_compatible(world: World, onnx_file: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "plugin.so"
    plugin.touch()
    if world.rtx:
        with pytest.raises(BuildError, match="version_compatible needs TensorRT; TensorRT-RTX has no lean runtime"):
            run(world, onnx_file, version_compatible=True)
        return
    built = run(world, onnx_file, version_compatible=True, plugins=(str(plugin),))
    assert flags(world) == ["VERSION_COMPATIBLE"]
    assert world.called("IBuilderConfig.plugins_to_serialize") == [(["libvc.so", str(plugin)],)]
    assert world.called("IPluginRegistry.load_library") == [(str(plugin),)]
    assert world.called("OnnxParser.set_flag") == [(world.module.OnnxParserFlag.NATIVE_INSTANCENORM,)]
    assert world.called("Runtime.engine_host_code_allowed") == [(True,)]
    assert "version-compatible=true" in " ".join(built.facts["notes"])


def test_plugins_are_loaded_and_the_server_is_told(world: World, onnx_file: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "plugin.so"
    plugin.touch()
    built = run(world, onnx_file, plugins=(str(plugin),))
    order = [name for name, _ in world.calls if name in ("IPluginRegistry.load_library", "OnnxParser.parse_from_file")]
    assert order == ["IPluginRegistry.load_library", "OnnxParser.parse_from_file"]
    assert not world.called("IBuilderConfig.plugins_to_serialize")
    assert built.facts["notes"] == ["plugins: the server has to load plugin.so too before it can load the plan"]


@pytest.mark.parametrize("level", ["ampere_plus", "same_compute_capability"])
def test_hardware_compatibility(world: World, onnx_file: Path, level: str) -> None:
    if world.rtx:
        with pytest.raises(BuildError, match=f"{level} needs TensorRT; TensorRT-RTX builds for the compute_capabil"):
            run(world, onnx_file, hardware_compatibility=level)
    elif level == "same_compute_capability" and world.version in ("8.6.1", "10.0.1", "10.3.0"):
        with pytest.raises(BuildError, match=f"{level} needs TensorRT 10.13 or newer; this is {world.version}"):
            run(world, onnx_file, hardware_compatibility=level)
        assert not world.called("Builder")
    else:
        notes = run(world, onnx_file, hardware_compatibility=level).facts["notes"]
        member = world.module.HardwareCompatibilityLevel[level.upper()]
        assert world.called("IBuilderConfig.hardware_compatibility_level") == [(member,)]
        assert "slower" in notes[0]


@pytest.mark.parametrize(
    ("refit", "expected"), [(False, ["STRIP_PLAN", "REFIT_IDENTICAL"]), (True, ["REFIT", "STRIP_PLAN"])]
)
def test_strip_plan(world: World, onnx_file: Path, refit: bool, expected: list[str]) -> None:
    if major(world) == 8:
        with pytest.raises(BuildError, match="strip_plan needs TensorRT 10 or newer; this is 8.6.1"):
            run(world, onnx_file, strip_plan=True, refit=refit)
    else:
        notes = run(world, onnx_file, strip_plan=True, refit=refit).facts["notes"]
        given = [flag for (flag,) in world.called("IBuilderConfig.set_flag")]
        assert given == [world.module.BuilderFlag[name] for name in expected]
        assert "cannot be served before it is refitted" in notes[0]


def test_refit(world: World, onnx_file: Path) -> None:
    notes = run(world, onnx_file, refit=True).facts["notes"]
    assert flags(world) == ["REFIT"]
    assert "slower" in notes[0]


def test_compute_capabilities(world: World, onnx_file: Path) -> None:
    if not world.rtx:
        with pytest.raises(
            BuildError, match="compute_capabilities 8.9 are for TensorRT-RTX; TensorRT builds for the GPU"
        ):
            run(world, onnx_file, compute_capabilities=("8.9",))
        return
    run(world, onnx_file, compute_capabilities=("8.9", "12.0"))
    kinds = world.module.ComputeCapability
    assert world.called("IBuilderConfig.num_compute_capabilities") == [(2,)]
    assert world.called("IBuilderConfig.set_compute_capability") == [(kinds.SM89, 0), (kinds.SM120, 1)]
    with pytest.raises(BuildError, match=r"has no compute capability 9.0; did you mean .*12.1"):
        run(world, onnx_file, compute_capabilities=("9.0",))


def test_the_timing_cache_belongs_to_a_version_and_a_gpu(world: World, onnx_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "times"
    notes = run(world, onnx_file, timing_cache=folder).facts["notes"]
    if world.rtx:
        assert not folder.exists()
        assert notes == ["timing_cache: TensorRT-RTX measures no kernels when it builds; nothing is kept"]
        return
    assert [file.name for file in folder.iterdir()] == [f"tensorrt-{world.version}-sm89.timing"]
    assert (folder / f"tensorrt-{world.version}-sm89.timing").read_bytes() == TIMES
    assert notes == []
    run(world, onnx_file, timing_cache=folder)
    assert world.called("IBuilderConfig.create_timing_cache") == [(b"",), (TIMES,)]
    world.bad_cache = True
    assert "is damaged or of another machine" in run(world, onnx_file, timing_cache=folder).facts["notes"][0]
    assert world.called("IBuilderConfig.create_timing_cache")[-1] == (b"",)


def test_progress_where_the_version_has_it(world: World, onnx_file: Path) -> None:
    told: list[tuple[str, float]] = []
    build_engine(world.module, onnx_file, [PROFILE], on_progress=lambda phase, done, eta: told.append((phase, done)))
    steps = [("Building", 0.0), ("Building", 0.5), ("Building", 0.99)]
    assert told == [*(steps if major(world) >= 10 else []), ("done", 1.0)]


def test_a_raising_callback_ends_the_build_and_is_raised(world: World, onnx_file: Path) -> None:
    told: list[str] = []

    def on_progress(phase: str, fraction: float, eta: float | None) -> None:
        told.append(phase)
        if len(told) == 1:
            raise ZeroDivisionError(phase)

    with pytest.raises(ZeroDivisionError):
        build_engine(world.module, onnx_file, [PROFILE], on_progress=on_progress)
    assert len(told) == 1
    assert world.cancelled is (major(world) >= 10)


def test_what_the_parser_refuses(world: World, onnx_file: Path) -> None:
    plugin = 'creator && "Plugin not found, are the plugin name, version, and namespace correct?"'
    world.refusals = [(3, "odd", "Odd", plugin), (5, "", "Even", "false"), (-1, "", "", "Assertion failed: broken")]
    with pytest.raises(BuildError, match="cannot parse") as raised:
        run(world, onnx_file)
    first, second = ("node '3'", "node '5'") if major(world) == 8 else ("node 'odd' (Odd)", "node '5' (Even)")
    assert str(raised.value).endswith(
        f"{first}: neither an operator nor a plugin has this name; "
        f"{second}: UNSUPPORTED_NODE, with no reason given; broken"
    )


def test_what_the_builder_refuses(world: World, onnx_file: Path) -> None:
    world.no_plan = "IBuilder::buildSerializedNetwork: Error Code 1: Myelin (no tactics In run at /_src/a/b.cpp:12)"
    with pytest.raises(BuildError, match=rf"{world.version} cannot build model.onnx: Myelin \(no tactics\)$"):
        run(world, onnx_file)


def test_a_profile_that_the_library_refuses_in_silence(world: World, onnx_file: Path) -> None:
    world.added = -1
    with pytest.raises(BuildError, match="profile 0 is refused: it gives no reason"):
        run(world, onnx_file)


def test_a_machine_without_a_gpu(world: World, onnx_file: Path) -> None:
    world.no_gpu = True
    with pytest.raises(MissingDependencyError, match=f"{world.version} cannot build here: no usable GPU or driver"):
        run(world, onnx_file)


def test_a_version_that_is_too_old(onnx_file: Path) -> None:
    world = World("8.6.1")
    world.module.__version__ = "8.5.3"
    with pytest.raises(BuildError, match="TensorRT 8.5.3 is too old; 8.6 is the oldest"):
        run(world, onnx_file)


def test_the_fakes_lack_what_the_versions_lack() -> None:
    eleven, eight = World("11.0.0.114").module, World("8.6.1")
    with pytest.raises(AttributeError, match="EXPLICIT_BATCH"):
        _ = eleven.NetworkDefinitionCreationFlag.EXPLICIT_BATCH
    with pytest.raises(AttributeError, match="FP16"):
        _ = eleven.BuilderFlag.FP16
    with pytest.raises(AttributeError, match="IProgressMonitor"):
        _ = eight.module.IProgressMonitor
    config = eight.make("IBuilderConfig")
    with pytest.raises(AttributeError, match="8.6.1 has no IBuilderConfig.progress_monitor"):
        config.progress_monitor = None
    with pytest.raises(AttributeError, match="has no attribute 'platform_has_fast_fp16'"):
        eleven.Builder(None).platform_has_fast_fp16()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"Layers": ["names", "only"]}', '{"Layers": 3'])
def test_inspector_texts_without_details(text: str) -> None:
    assert engine_layers(text) == {}
