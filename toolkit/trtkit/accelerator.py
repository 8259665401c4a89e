# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Execution providers of Triton's onnxruntime backend, as the ``optimization`` field of a ModelConfig.

The names are those that the backend reads; it refuses to load a model with any other:
https://github.com/triton-inference-server/onnxruntime_backend/blob/02ffb9ed5b6b6b99d010aba292984497d933f187/src/onnxruntime.cc
(ModelState::LoadModel) and README.md, "Parameter mapping". Every value is a string there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trtkit.engine import Profile
from trtkit.errors import ConfigError, nearest
from trtkit.images import image_facts, parse_version
from trtkit.project import Target

TENSORRT_PARAMETERS = frozenset({
    "precision_mode", "max_workspace_size_bytes", "trt_max_partition_iterations", "trt_min_subgraph_size",
    "int8_calibration_table_name", "int8_use_native_calibration_table", "trt_dla_enable", "trt_dla_core",
    "trt_engine_cache_enable", "trt_engine_cache_path", "trt_engine_cache_prefix", "trt_dump_subgraphs",
    "trt_force_sequential_engine_build", "trt_context_memory_sharing_enable", "trt_layer_norm_fp32_fallback",
    "trt_timing_cache_enable", "trt_timing_cache_path", "trt_force_timing_cache", "trt_detailed_build_log",
    "trt_build_heuristics_enable", "trt_sparsity_enable", "trt_builder_optimization_level", "trt_auxiliary_streams",
    "trt_tactic_sources", "trt_extra_plugin_lib_paths", "trt_profile_min_shapes", "trt_profile_max_shapes",
    "trt_profile_opt_shapes", "trt_cuda_graph_enable", "trt_dump_ep_context_model", "trt_ep_context_file_path",
    "trt_ep_context_embed_mode",
})  # fmt: skip
_CACHE = "/tmp/trtkit-engines"
# what TensorRT 8 has to be told, because it does not read a graph's types as they are
_MODES = {"fp16": "FP16", "int8": "INT8"}


def optimization_block(
    target: Target,
    profiles: Sequence[Profile],
    max_batch_size: int,
    *,
    precision: str = "fp32",
    cache_folder: str = _CACHE,
    workspace_bytes: int = 1 << 30,
    optimization_level: int | None = None,
    parameters: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The ``optimization`` field for the target's execution provider; empty where nothing is to be said.

    Args:
        target: of backend onnxruntime.
        profiles: full shapes by input name; without any, ONNX Runtime builds an engine for the shapes it sees, and
            builds it again, during a request, whenever a shape lies outside.
        max_batch_size: of the model; 0 is no batching. A batch no profile takes would fail when it comes.
        precision: of the graph.
        cache_folder: on the server, writable; give it a volume, or each start builds the engines again.
        workspace_bytes: the most scratch memory a layer may use.
        optimization_level: 0 to 5; None is TensorRT's own.
        parameters: further ones in the backend's names; they win. For cuda they are the CUDA provider's options.

    Raises:
        ConfigError: an input has a name that ONNX Runtime cannot read in a profile, no profile takes the largest
            batch, a parameter's name is none of the backend's, or TensorRT 8 cannot run the precision this way.
    """
    given = dict(parameters or {})
    if target.backend != "onnxruntime" or target.execution_provider == "cpu":
        return {}
    if target.execution_provider == "cuda":  # the backend takes it anyway, so there is something to say only of options
        return _accelerator("cuda", given) if given else {}
    for name in given:
        if name not in TENSORRT_PARAMETERS:
            raise ConfigError(
                f"'{name}' is no parameter of Triton's TensorRT accelerator; {nearest(name, TENSORRT_PARAMETERS)}"
            )
    level = {} if optimization_level is None else {"trt_builder_optimization_level": str(optimization_level)}
    built_in = {
        **_precision_mode(precision, target),
        "max_workspace_size_bytes": str(workspace_bytes),
        "trt_engine_cache_enable": "true",
        "trt_engine_cache_path": cache_folder,
        "trt_timing_cache_enable": "true",
        "trt_timing_cache_path": cache_folder,
        **level,
        **_profile_shapes(profiles, max_batch_size),
    }
    return _accelerator("tensorrt", {**built_in, **given})


def _accelerator(name: str, parameters: Mapping[str, str]) -> dict[str, Any]:
    entry = {"name": name, "parameters": dict(parameters)}
    return {"execution_accelerators": {"gpu_execution_accelerator": [entry]}}


def _precision_mode(precision: str, target: Target) -> dict[str, str]:
    """Nothing from TensorRT 10 on: without a mode ONNX Runtime builds strongly typed, by the graph's own types.

    https://github.com/microsoft/onnxruntime/pull/18707, in ONNX Runtime 1.18, which is what images with 10.0 have.
    """
    facts = image_facts(target.image, tensorrt_version=target.tensorrt_version)
    version = parse_version(facts.tensorrt if facts else None)
    kinds = [kind for kind in precision.split("+") if kind not in ("fp32", "auto")]
    if not version or version[0] > 8 or not kinds:
        return {}
    modes = [_MODES[kind] for kind in kinds if kind in _MODES]
    if len(kinds) > 1 or not modes:
        if facts is None or facts.sure("tensorrt") is None:
            return {}
        raise ConfigError(
            f"precision {precision} cannot run on TensorRT {facts.tensorrt} by way of ONNX Runtime, "
            "whose precision_mode is one of FP32, FP16 and INT8; choose fp16 or int8, or an image from 24.05 on"
        )
    return {"precision_mode": modes[0]}


def _profile_shapes(profiles: Sequence[Profile], max_batch_size: int) -> dict[str, str]:
    """The three strings ``x:1x64,y:1x64,x:8x64,y:8x64``: an input that is named again belongs to the next profile.

    ONNX Runtime's core/providers/tensorrt/tensorrt_execution_provider_utils.h, ParseProfileShapes: it parts at commas,
    then at colons, and takes no input without axes.
    """
    if not profiles:
        return {}
    _check_names(profiles)
    _check_batch(profiles, max_batch_size)
    texts = {}
    for which in ("min", "opt", "max"):
        shapes = [(name, getattr(shape, which)) for profile in profiles for name, shape in profile.items() if shape.max]
        texts[f"trt_profile_{which}_shapes"] = ",".join(f"{name}:{'x'.join(map(str, sizes))}" for name, sizes in shapes)
    return texts if texts["trt_profile_max_shapes"] else {}


def _check_names(profiles: Sequence[Profile]) -> None:
    for profile in profiles:
        if profile.keys() != profiles[0].keys():
            raise ConfigError(
                f"every profile has to name the same inputs for ONNX Runtime; one has {', '.join(sorted(profile))}, "
                f"another {', '.join(sorted(profiles[0]))}"
            )
        for name in profile:
            if not name or set(name) & set(":,"):
                raise ConfigError(
                    f"input '{name}' cannot stand in a TensorRT profile of ONNX Runtime, which parts names at ':' and "
                    "','; rename the input"
                )


def _check_batch(profiles: Sequence[Profile], max_batch_size: int) -> None:
    largest = max((shape.max[0] for profile in profiles for shape in profile.values() if shape.max), default=0)
    if 0 < largest < max_batch_size:
        raise ConfigError(
            f"max_batch_size is {max_batch_size} and no profile takes more than {largest} rows; "
            f"raise a profile's max, or set max_batch_size: {largest}"
        )
