# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""From a model configuration to an ONNX Runtime session: file, options, execution providers.

Parameters and their meaning are those of NVIDIA's C++ backend; README.md lists the differences.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

import onnxruntime as ort
from trtkit_ort_config import Graph, LoadError, Tensor

# optimization.graph.level -> ONNX Runtime's; every other level is the default, all optimizations.
_GRAPH_LEVELS = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}

_TENSORRT_PRECISIONS = {"FP16": "trt_fp16_enable", "BF16": "trt_bf16_enable", "INT8": "trt_int8_enable"}
# parameters of the "tensorrt" accelerator that ONNX Runtime calls otherwise; the others start with trt_
_TENSORRT_NAMES = {
    "max_workspace_size_bytes": "trt_max_workspace_size",
    "int8_calibration_table_name": "trt_int8_calibration_table_name",
    "int8_use_native_calibration_table": "trt_int8_use_native_calibration_table",
}

# parameters of the model that go to CUDA: the numbers the C++ backend takes -> ONNX Runtime's words
_CUDA_ENUMS = {
    "cudnn_conv_algo_search": ("EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
    "arena_extend_strategy": ("kNextPowerOfTwo", "kSameAsRequested"),
}

CPU_QUOTA_FILE = "/sys/fs/cgroup/cpu.max"  # of cgroup v2, as a container sees it

Provider = tuple[str, dict[str, str]]


def model_path(version_directory: str, config: Mapping[str, Any]) -> str:
    """The ONNX file of a version: ``default_model_filename`` or ``model.onnx``; or ``model.onnx`` inside it.

    Raises:
        LoadError: there is no such file.
    """
    path = os.path.join(version_directory, config.get("default_model_filename") or "model.onnx")
    if os.path.isdir(path):
        path = os.path.join(path, "model.onnx")
    if not os.path.exists(path):
        present = ", ".join(sorted(os.listdir(version_directory))) or "nothing"
        raise LoadError(
            f"unable to find '{path}' for model instance '{config['name']}'; the version directory has: {present}"
        )
    return path


def read_graph(path: str) -> Graph:
    """The interface of an ONNX file, read without optimizing the graph."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.disable_prepacking", "1")
    return graph_of(_create(path, options, [("CPUExecutionProvider", {})]))


def graph_of(session: ort.InferenceSession) -> Graph:
    """The interface of a session.

    Raises:
        LoadError: an input or output is no tensor (a sequence or a map).
    """
    return Graph(
        inputs=_tensors(session.get_inputs()),
        initializers=_tensors(session.get_overridable_initializers()),
        outputs=_tensors(session.get_outputs()),
    )


def _tensors(nodes: Iterable[Any]) -> dict[str, Tensor]:
    tensors = {}
    for node in nodes:
        container, _, element = node.type.rstrip(")").partition("(")
        if container != "tensor":
            raise LoadError(f"Unsupported ONNX Type '{node.type}' for I/O '{node.name}', expected 'ONNX_TYPE_TENSOR'.")
        shape = tuple(dim if isinstance(dim, int) else -1 for dim in node.shape)
        tensors[node.name] = Tensor(node.name, element, shape)
    return tensors


def open_session(path: str, config: Mapping[str, Any], kind: str, device_id: str) -> ort.InferenceSession:
    """A session on the device of one model instance.

    Args:
        path: of the ONNX file; external data is found beside it.
        config: the model configuration.
        kind: of the instance: ``CPU``, ``GPU``, ``AUTO`` or ``MODEL``.
        device_id: the GPU of the instance.

    Raises:
        LoadError: ONNX Runtime refuses the model, an option or a provider, or silently left a provider out.
    """
    wanted = providers(config, kind, device_id)
    available = ort.get_available_providers()
    for name, _ in wanted:
        if name not in available:
            raise LoadError(
                f"model '{config['name']}' needs {name}, which the installed onnxruntime {ort.__version__} "
                f"does not have (it has {', '.join(available)}); install onnxruntime-gpu in place of "
                "onnxruntime, or set instance_group [{kind: KIND_CPU}]"
            )
    session = _create(path, session_options(config), wanted)
    session.disable_fallback()
    missing = [name for name, _ in wanted if name not in session.get_providers()]
    if missing:
        raise LoadError(
            f"model '{config['name']}': {', '.join(missing)} did not load and ONNX Runtime fell back to "
            f"{', '.join(session.get_providers())}; check the CUDA and cuDNN libraries (the server's log "
            "has ONNX Runtime's reason)"
        )
    return session


def _create(path: str, options: ort.SessionOptions, wanted: list[Provider]) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(path, options, providers=wanted)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise LoadError(ort_message(error)) from error


def ort_message(error: Exception) -> str:
    """An error of ONNX Runtime in the words of the C++ backend: ``onnx runtime error 2: …``."""
    marker, *rest = str(error).split(" : ", 3)
    if marker == "[ONNXRuntimeError]" and len(rest) == 3:
        return f"onnx runtime error {rest[0]}: {rest[2]}"
    return f"onnx runtime error: {error}"


def session_options(config: Mapping[str, Any]) -> ort.SessionOptions:
    """Threads, memory, graph optimizations and custom operators, as configured."""
    parameters = _parameters(config)
    options = ort.SessionOptions()
    level = config.get("optimization", {}).get("graph", {}).get("level", 0)
    options.graph_optimization_level = _GRAPH_LEVELS.get(level, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    options.execution_mode = _execution_mode(parameters)
    share = threads_per_instance(config)
    options.intra_op_num_threads = _positive(parameters, "intra_op_thread_count") or share
    options.inter_op_num_threads = _positive(parameters, "inter_op_thread_count") or share
    if "enable_mem_arena" in parameters:
        options.enable_cpu_mem_arena = _boolean(parameters["enable_mem_arena"])
    if "enable_mem_pattern" in parameters:
        options.enable_mem_pattern = _boolean(parameters["enable_mem_pattern"])
    for key, value in parameters.items():
        if key.startswith("session."):
            options.add_session_config_entry(key, value)
    for library in config.get("model_operations", {}).get("op_library_filename", ()):
        _register_operators(options, library)
    return options


def _register_operators(options: ort.SessionOptions, library: str) -> None:
    try:
        options.register_custom_ops_library(library)
    except Exception as error:  # see _create
        raise LoadError(ort_message(error)) from error


def run_options(config: Mapping[str, Any]) -> ort.RunOptions | None:
    """What every run of the model is given; None when nothing is configured."""
    shrinkage = _parameters(config).get("memory.enable_memory_arena_shrinkage")
    if shrinkage is None:
        return None
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", shrinkage)
    return options


def threads_per_instance(config: Mapping[str, Any]) -> int:
    """An equal share of the machine's cores for each instance of the model, at least one."""
    instances = sum(
        int(group.get("count") or 1) * max(1, len(group.get("gpus", ()))) for group in config.get("instance_group", ())
    )
    return max(1, available_cores() // max(1, instances))


def available_cores() -> int:
    """Cores this process may use: its affinity, and the CPU quota of its container."""
    cores = len(os.sched_getaffinity(0))
    try:
        with open(CPU_QUOTA_FILE, encoding="ascii") as file:
            quota, period = file.read().split()
        return min(cores, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no cgroup v2, or no quota ("max 100000")
        return cores


def providers(config: Mapping[str, Any], kind: str, device_id: str) -> list[Provider]:
    """Execution providers for one instance, in order of preference.

    KIND_AUTO takes CUDA where this ONNX Runtime has it; KIND_MODEL runs on the CPU, as in the C++ backend.
    """
    accelerators = config.get("optimization", {}).get("execution_accelerators", {})
    chosen: list[Provider] = []
    if kind == "GPU" or (kind == "AUTO" and "CUDAExecutionProvider" in ort.get_available_providers()):
        chosen += _gpu_providers(config, accelerators.get("gpu_execution_accelerator", ()), device_id)
    for accelerator in accelerators.get("cpu_execution_accelerator", ()):
        if accelerator["name"] != "openvino":
            raise _unknown_accelerator(accelerator)
        chosen.append(("OpenVINOExecutionProvider", {"device_type": "CPU"}))
    return [*chosen, ("CPUExecutionProvider", {})]


def _gpu_providers(
    config: Mapping[str, Any], accelerators: Iterable[Mapping[str, Any]], device_id: str
) -> list[Provider]:
    chosen: list[Provider] = []
    cuda = {}
    for accelerator in accelerators:
        parameters = accelerator.get("parameters", {})
        if accelerator["name"] == "tensorrt":
            options = _tensorrt_options(parameters)
            chosen.append(("TensorrtExecutionProvider", {**options, "device_id": device_id}))
        elif accelerator["name"] == "cuda":
            cuda.update(parameters)
        else:
            raise _unknown_accelerator(accelerator)
    cuda.update(_cuda_parameters(_parameters(config)))
    return [*chosen, ("CUDAExecutionProvider", {**cuda, "device_id": device_id})]


def _unknown_accelerator(accelerator: Mapping[str, Any]) -> LoadError:
    return LoadError(f"unknown Execution Accelerator '{accelerator['name']}' is requested")


def _tensorrt_options(parameters: Mapping[str, str]) -> dict[str, str]:
    options = {}
    for key, value in parameters.items():
        if key == "precision_mode":
            if value in _TENSORRT_PRECISIONS:
                options[_TENSORRT_PRECISIONS[value]] = "1"
            elif value != "FP32":
                raise LoadError(f"unsupported precision mode '{value}' is requested")
        elif key in _TENSORRT_NAMES:
            options[_TENSORRT_NAMES[key]] = value
        elif key.startswith("trt_"):
            options[key] = value
        else:
            raise LoadError(f"unknown parameter '{key}' is provided for TensorRT Execution Accelerator")
    return options


def _cuda_parameters(parameters: Mapping[str, str]) -> dict[str, str]:
    options = {}
    for key, words in _CUDA_ENUMS.items():
        if key in parameters:
            index = _integer(parameters, key)
            if not 0 <= index < len(words):
                raise LoadError(f"unsupported {key} value '{index}' is requested")
            options[key] = words[index]
    for key in ("gpu_mem_limit", "do_copy_in_default_stream"):
        if key in parameters:
            options[key] = parameters[key]
    return options


def _parameters(config: Mapping[str, Any]) -> dict[str, str]:
    return {key: entry["string_value"] for key, entry in config.get("parameters", {}).items()}


def _execution_mode(parameters: Mapping[str, str]) -> ort.ExecutionMode:
    mode = _integer(parameters, "execution_mode")
    if mode not in (0, 1):
        raise LoadError(
            f"Invalid configuration value provided. Expected values for execution_mode are 0 or 1 but got {mode} ."
        )
    return ort.ExecutionMode.ORT_PARALLEL if mode else ort.ExecutionMode.ORT_SEQUENTIAL


def _positive(parameters: Mapping[str, str], key: str) -> int:
    """A count, or 0 for "the default": absent, zero, and negative as in the C++ backend."""
    return max(0, _integer(parameters, key))


def _integer(parameters: Mapping[str, str], key: str) -> int:
    value = parameters.get(key, "0")
    try:
        return int(value)
    except ValueError:
        raise LoadError(f"parameter '{key}': failed to convert '{value}' to integral number") from None


def _boolean(value: str) -> bool:
    if value.lower() in ("true", "on", "1"):
        return True
    if value.lower() in ("false", "off", "0"):
        return False
    raise LoadError(f"failed to convert '{value}' to boolean")
