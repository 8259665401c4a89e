# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The backend's parameters and execution accelerators: which there are, and what their values may be.

As in NVIDIA's C++ backend (``onnxruntime_backend: src/onnxruntime.cc``, ``ModelState`` and ``LoadModel``), with its
words. Nothing here imports ONNX Runtime or Triton.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from trtkit_ort_config import LoadError, Path, Problem

Reader = Callable[[str, str], Any]  # of a key and its value; raises LoadError

_PRECISIONS = {"FP16": "trt_fp16_enable", "BF16": "trt_bf16_enable", "INT8": "trt_int8_enable", "FP32": ""}
# the numbers the C++ backend takes -> ONNX Runtime's words
_CUDA_WORDS = {
    "cudnn_conv_algo_search": ("EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
    "arena_extend_strategy": ("kNextPowerOfTwo", "kSameAsRequested"),
}


def integer(key: str, value: str) -> int:
    """A whole number."""
    try:
        return int(value)
    except ValueError:
        raise LoadError(f"parameter '{key}': failed to convert '{value}' to integral number") from None


def boolean(key: str, value: str) -> bool:
    """``true``, ``on``, ``1``, or their opposites."""
    if value.lower() in ("true", "on", "1"):
        return True
    if value.lower() in ("false", "off", "0"):
        return False
    raise LoadError(f"parameter '{key}': failed to convert '{value}' to boolean")


def text(key: str, value: str) -> str:
    """Anything."""
    return value


def execution_mode(key: str, value: str) -> bool:
    """0, sequential, or 1, parallel."""
    mode = integer(key, value)
    if mode not in (0, 1):
        raise LoadError(
            f"Invalid configuration value provided. Expected values for execution_mode are 0 or 1 but got {mode} ."
        )
    return bool(mode)


def cuda_word(key: str, value: str) -> str:
    """One of `_CUDA_WORDS`, given by its number."""
    index, words = integer(key, value), _CUDA_WORDS[key]
    if not 0 <= index < len(words):
        raise LoadError(f"unsupported {key} value '{index}' is requested")
    return words[index]


def precision(key: str, value: str) -> str:
    """The option of ONNX Runtime that a ``precision_mode`` turns on; '' for FP32."""
    if value not in _PRECISIONS:
        raise LoadError(f"unsupported precision mode '{value}' is requested")
    return _PRECISIONS[value]


# of the model
PARAMETERS: dict[str, Reader] = {
    "intra_op_thread_count": integer,
    "inter_op_thread_count": integer,
    "execution_mode": execution_mode,
    "enable_mem_arena": boolean,
    "enable_mem_pattern": boolean,
    "share_session_between_instances": boolean,
    "session.use_device_allocator_for_initializers": text,
    "memory.enable_memory_arena_shrinkage": text,
}
# of the model too, but read for instances on a GPU only
CUDA_PARAMETERS: dict[str, Reader] = {
    "cudnn_conv_algo_search": cuda_word,
    "arena_extend_strategy": cuda_word,
    "gpu_mem_limit": text,
    "do_copy_in_default_stream": text,
}
# of the accelerator "cuda", which takes every other option of ONNX Runtime as a text
CUDA_OPTIONS: dict[str, Reader] = {"do_copy_in_default_stream": boolean, "use_ep_level_unified_stream": boolean}
# of the accelerator "tensorrt"
TENSORRT_OPTIONS: dict[str, Reader] = {
    "precision_mode": precision,
    "max_workspace_size_bytes": integer,
    "int8_calibration_table_name": text,
    "int8_use_native_calibration_table": boolean,
    "trt_max_partition_iterations": integer,
    "trt_min_subgraph_size": integer,
    "trt_dla_enable": boolean,
    "trt_dla_core": integer,
    "trt_engine_cache_enable": boolean,
    "trt_engine_cache_path": text,
    "trt_engine_cache_prefix": text,
    "trt_dump_subgraphs": boolean,
    "trt_force_sequential_engine_build": boolean,
    "trt_context_memory_sharing_enable": boolean,
    "trt_layer_norm_fp32_fallback": boolean,
    "trt_timing_cache_enable": boolean,
    "trt_timing_cache_path": text,
    "trt_force_timing_cache": boolean,
    "trt_detailed_build_log": boolean,
    "trt_build_heuristics_enable": boolean,
    "trt_sparsity_enable": boolean,
    "trt_builder_optimization_level": integer,
    "trt_auxiliary_streams": integer,
    "trt_tactic_sources": text,
    "trt_extra_plugin_lib_paths": text,
    "trt_profile_min_shapes": text,
    "trt_profile_opt_shapes": text,
    "trt_profile_max_shapes": text,
    "trt_cuda_graph_enable": boolean,
    "trt_dump_ep_context_model": boolean,
    "trt_ep_context_file_path": text,
    "trt_ep_context_embed_mode": integer,
}
# those that ONNX Runtime calls otherwise
_TENSORRT_NAMES = {
    "max_workspace_size_bytes": "trt_max_workspace_size",
    "int8_calibration_table_name": "trt_int8_calibration_table_name",
    "int8_use_native_calibration_table": "trt_int8_use_native_calibration_table",
}


def parameters_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The model's parameters."""
    return {key: entry["string_value"] for key, entry in config.get("parameters", {}).items()}


def accelerators_of(config: Mapping[str, Any], processor: str) -> list[Mapping[str, Any]]:
    """The execution accelerators for ``gpu`` or ``cpu``."""
    chosen = config.get("optimization", {}).get("execution_accelerators", {})
    return list(chosen.get(f"{processor}_execution_accelerator", ()))


def tensorrt_options(parameters: Mapping[str, str]) -> dict[str, str]:
    """What ONNX Runtime is told for the parameters of the accelerator ``tensorrt``; LoadError for a wrong one."""
    options = {}
    for key, value in parameters.items():
        if key not in TENSORRT_OPTIONS:
            raise unknown_parameter(key)
        read = TENSORRT_OPTIONS[key](key, value)
        if key != "precision_mode":
            options[_TENSORRT_NAMES.get(key, key)] = value
        elif read:
            options[read] = "1"
    return options


def cuda_options(parameters: Mapping[str, str]) -> dict[str, str]:
    """What ONNX Runtime is told for the parameters of the accelerator ``cuda``; LoadError for a wrong one."""
    for key, value in parameters.items():
        CUDA_OPTIONS.get(key, text)(key, value)
    return dict(parameters)


def cuda_parameters(parameters: Mapping[str, str]) -> dict[str, str]:
    """What ONNX Runtime is told for those of the model's parameters that are CUDA's; LoadError for a wrong one."""
    return {key: read(key, parameters[key]) for key, read in CUDA_PARAMETERS.items() if key in parameters}


def unknown_accelerator(name: str) -> LoadError:
    """An execution accelerator that the backend does not have."""
    return LoadError(f"unknown Execution Accelerator '{name}' is requested")


def unknown_parameter(key: str) -> LoadError:
    """A parameter that the accelerator ``tensorrt`` does not have."""
    return LoadError(f"unknown parameter '{key}' is provided for TensorRT Execution Accelerator")


def option_problems(config: Mapping[str, Any], *, on_gpu: bool) -> Iterator[Problem]:
    """Every parameter and accelerator that an instance refuses; other parameters of the model are let be.

    Args:
        config: the model configuration.
        on_gpu: whether the instance is of KIND_GPU.
    """
    readers = {**PARAMETERS, **(CUDA_PARAMETERS if on_gpu else {})}
    yield from _value_problems(parameters_of(config), ("parameters",), readers)
    place = ("optimization", "execution_accelerators")
    for index, accelerator in enumerate(accelerators_of(config, "gpu") if on_gpu else ()):
        path = (*place, "gpu_execution_accelerator", index)
        yield from _accelerator_problems(accelerator, path, {"tensorrt": TENSORRT_OPTIONS, "cuda": CUDA_OPTIONS})
    for index, accelerator in enumerate(accelerators_of(config, "cpu")):
        yield from _accelerator_problems(accelerator, (*place, "cpu_execution_accelerator", index), {"openvino": {}})


def _accelerator_problems(
    accelerator: Mapping[str, Any], path: Path, known: Mapping[str, Mapping[str, Reader]]
) -> Iterator[Problem]:
    name, parameters = accelerator["name"], accelerator.get("parameters", {})
    if name not in known:
        yield Problem("accelerator", (*path, "name"), str(unknown_accelerator(name)))
        return
    yield from _value_problems(parameters, (*path, "parameters"), known[name])
    for key in parameters.keys() - known[name].keys() if name == "tensorrt" else ():
        yield Problem("accelerator_parameter", (*path, "parameters", key), str(unknown_parameter(key)))


def _value_problems(values: Mapping[str, str], path: Path, readers: Mapping[str, Reader]) -> Iterator[Problem]:
    for key, value in values.items():
        try:
            readers.get(key, text)(key, value)
        except LoadError as error:
            yield Problem("value", (*path, key), str(error))
