# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format, text_format
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc.model_config_pb2 import ModelConfig

from trtkit.accelerator import TENSORRT_PARAMETERS, optimization_block
from trtkit.engine import Profile
from trtkit.engine.profiles import ShapeRange
from trtkit.errors import ConfigError
from trtkit.project import Target

IMAGE = "nvcr.io/nvidia/tritonserver"
SHAPES = ("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes")


def target(image: str = "24.08-py3", provider: Any = "tensorrt", **more: Any) -> Target:
    return Target(image=f"{IMAGE}:{image}", execution_provider=provider, **more)


def profile(low: int, high: int, names: tuple[str, ...] = ("ids", "mask")) -> Profile:
    return {name: ShapeRange((1, low), (4, high), (8, high)) for name in names}


def parameters(block: dict[str, Any]) -> dict[str, str]:
    (entry,) = block["execution_accelerators"]["gpu_execution_accelerator"]
    found: dict[str, str] = entry["parameters"]
    return found


def as_onnxruntime_reads(text: str) -> dict[str, list[list[int]]]:
    """ParseProfileShapes of its TensorRT provider: parted at commas, colons and x's."""
    shapes: dict[str, list[list[int]]] = {}
    for part in text.split(","):
        name, sizes = part.split(":")
        shapes.setdefault(name, []).append([int(size) for size in sizes.split("x")])
    return shapes


def test_the_tensorrt_provider_with_its_caches_and_profiles() -> None:
    block = optimization_block(target(), [profile(1, 64), profile(65, 256)], 8, optimization_level=4)
    assert parameters(block) == {
        "max_workspace_size_bytes": "1073741824",
        "trt_engine_cache_enable": "true",
        "trt_engine_cache_path": "/tmp/trtkit-engines",
        "trt_timing_cache_enable": "true",
        "trt_timing_cache_path": "/tmp/trtkit-engines",
        "trt_builder_optimization_level": "4",
        "trt_profile_min_shapes": "ids:1x1,mask:1x1,ids:1x65,mask:1x65",
        "trt_profile_opt_shapes": "ids:4x64,mask:4x64,ids:4x256,mask:4x256",
        "trt_profile_max_shapes": "ids:8x64,mask:8x64,ids:8x256,mask:8x256",
    }


@pytest.mark.parametrize("options", [{}, {"parameters": {"trt_cuda_graph_enable": "1"}, "precision": "fp16"}])
def test_it_is_a_model_config(options: dict[str, Any]) -> None:
    block = optimization_block(target(), [profile(1, 64)], 8, **options)
    config = json_format.ParseDict({"name": "m", "optimization": block}, ModelConfig())
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    assert dict(accelerator.parameters) == parameters(block)
    assert text_format.Parse(text_format.MessageToString(config), ModelConfig()) == config
    assert set(accelerator.parameters) <= TENSORRT_PARAMETERS


SIZES = st.lists(st.integers(1, 2048), min_size=1, max_size=4).map(tuple)
RANGES = st.builds(lambda shape: ShapeRange(tuple(1 for _ in shape), shape, tuple(2 * s for s in shape)), SIZES)
NAMES = st.lists(st.from_regex(r"\A[A-Za-z_/][A-Za-z0-9_./x-]{0,8}\Z"), min_size=1, max_size=3, unique=True)


@given(
    NAMES.flatmap(lambda names: st.lists(st.fixed_dictionaries(dict.fromkeys(names, RANGES)), min_size=1, max_size=4))
)
def test_onnxruntime_reads_the_profiles_that_were_meant(profiles: list[Profile]) -> None:
    found = parameters(optimization_block(target(), profiles, 0))
    for key, which in zip(SHAPES, ("min", "opt", "max"), strict=True):
        read = as_onnxruntime_reads(found[key])
        assert read == {name: [list(getattr(p[name], which)) for p in profiles] for name in profiles[0]}


def test_inputs_without_axes_stand_in_no_profile() -> None:
    scalar = {"scale": ShapeRange((), (), ())}
    found = parameters(optimization_block(target(), [{**profile(1, 64), **scalar}], 8))
    assert "scale" not in found["trt_profile_min_shapes"]
    assert not set(SHAPES) & set(parameters(optimization_block(target(), [], 8)))
    assert not set(SHAPES) & set(parameters(optimization_block(target(), [scalar], 8)))


@pytest.mark.parametrize(
    ("image", "precision", "mode"),
    [
        ("24.08-py3", "fp16", None), ("24.08-py3", "int8+fp16", None), ("26.06-py3", "fp8", None),
        ("24.03-py3", "fp16", "FP16"), ("24.03-py3", "int8", "INT8"), ("24.03-py3", "fp32", None),
        ("99.99-py3", "fp16", None), ("23.10-py3", "fp16", "FP16"), ("23.10-py3", "int8+fp16", None),
    ],
)  # fmt: skip
def test_a_precision_mode_only_where_the_graphs_types_do_not_count(
    image: str, precision: str, mode: str | None
) -> None:
    found = parameters(optimization_block(target(image), [], 0, precision=precision))
    assert found.get("precision_mode") == mode


def test_the_targets_own_version_decides_the_mode() -> None:
    block = optimization_block(target("24.08-py3", tensorrt_version="8.6.1"), [], 0, precision="fp16")
    assert parameters(block)["precision_mode"] == "FP16"


@pytest.mark.parametrize("precision", ["int8+fp16", "bf16", "fp8+fp16"])
def test_tensorrt_8_takes_one_mode(precision: str) -> None:
    with pytest.raises(ConfigError, match=rf"precision {precision.replace('+', '.')} cannot run on TensorRT 8.6.3.1"):
        optimization_block(target("24.03-py3"), [], 0, precision=precision)


def test_what_a_user_gives_wins_and_has_to_exist() -> None:
    block = optimization_block(
        target(), [], 0, cache_folder="/cache", workspace_bytes=5, parameters={"trt_timing_cache_path": "/t"}
    )
    found = parameters(block)
    assert (found["trt_engine_cache_path"], found["trt_timing_cache_path"]) == ("/cache", "/t")
    assert found["max_workspace_size_bytes"] == "5"
    with pytest.raises(
        ConfigError, match="'trt_fp16_enable' is no parameter of Triton's TensorRT accelerator; did you"
    ):
        optimization_block(target(), [], 0, parameters={"trt_fp16_enable": "1"})


def test_other_providers() -> None:
    assert optimization_block(target(provider="cpu"), [profile(1, 64)], 8) == {}
    assert optimization_block(target(provider="cuda"), [profile(1, 64)], 8) == {}
    assert optimization_block(Target(backend="tensorrt"), [profile(1, 64)], 8) == {}
    block = optimization_block(target(provider="cuda"), [], 8, parameters={"use_ep_level_unified_stream": "1"})
    config = json_format.ParseDict({"optimization": block}, ModelConfig())
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert (accelerator.name, dict(accelerator.parameters)) == ("cuda", {"use_ep_level_unified_stream": "1"})


@pytest.mark.parametrize(
    ("profiles", "batch", "words"),
    [
        ([profile(1, 64)], 16, "max_batch_size is 16 and no profile takes more than 8 rows"),
        ([profile(1, 64, ("ids:0",))], 8, "input 'ids:0' cannot stand in a TensorRT profile of ONNX Runtime"),
        ([profile(1, 64, ("a,b",))], 8, "input 'a,b' cannot stand"),
        ([profile(1, 64), profile(65, 128, ("ids",))], 8, "one has ids, another ids, mask"),
    ],
)
def test_profiles_that_onnxruntime_would_misread(profiles: list[Profile], batch: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        optimization_block(target(), profiles, batch)
