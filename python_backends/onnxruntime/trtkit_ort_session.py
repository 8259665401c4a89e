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
from trtkit_ort_options import (
    PARAMETERS,
    accelerators_of,
    cuda_options,
    cuda_parameters,
    parameters_of,
    tensorrt_options,
    unknown_accelerator,
)

# optimization.graph.level -> ONNX Runtime's; every other level is the default, all optimizations.
_GRAPH_LEVELS = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}

# Threads that wait for work busily take the cores from the server and the other instances: on two cores a request of a
# small convolutional network costs 240 µs of them without that, and up to 880 µs with it (benchmarks/).
_SESSION_ENTRIES = {"session.intra_op.allow_spinning": "0", "session.inter_op.allow_spinning": "0"}

_FATAL = 4  # OrtLoggingLevel

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
    """Threads, memory, graph optimizations and custom operators, as configured.

    Raises:
        LoadError: a parameter has a value that it cannot have, or a library of operators does not load.
    """
    parameters = parameters_of(config)
    given = {key: read(key, parameters[key]) for key, read in PARAMETERS.items() if key in parameters}
    options = ort.SessionOptions()
    level = config.get("optimization", {}).get("graph", {}).get("level", 0)
    options.graph_optimization_level = _GRAPH_LEVELS.get(level, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    parallel = given.get("execution_mode")
    options.execution_mode = ort.ExecutionMode.ORT_PARALLEL if parallel else ort.ExecutionMode.ORT_SEQUENTIAL
    share = threads_per_instance(config)  # where no number is given, or none above 0, as in the C++ backend
    options.intra_op_num_threads = max(0, given.get("intra_op_thread_count", 0)) or share
    options.inter_op_num_threads = max(0, given.get("inter_op_thread_count", 0)) or share
    options.enable_cpu_mem_arena = given.get("enable_mem_arena", options.enable_cpu_mem_arena)
    options.enable_mem_pattern = given.get("enable_mem_pattern", options.enable_mem_pattern)
    entries = {key: value for key, value in parameters.items() if key.startswith("session.")}
    for key, value in {**_SESSION_ENTRIES, **entries}.items():
        options.add_session_config_entry(key, value)
    for library in config.get("model_operations", {}).get("op_library_filename", ()):
        _register_operators(options, library)
    return options


def _register_operators(options: ort.SessionOptions, library: str) -> None:
    try:
        options.register_custom_ops_library(library)
    except Exception as error:  # see _create
        raise LoadError(ort_message(error)) from error


def run_options(config: Mapping[str, Any]) -> ort.RunOptions:
    """What every run of the model is given."""
    options = ort.RunOptions()
    options.log_severity_level = _FATAL  # errors go to who sent the request
    shrinkage = parameters_of(config).get("memory.enable_memory_arena_shrinkage")
    if shrinkage is not None:
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
    chosen: list[Provider] = []
    if kind == "GPU" or (kind == "AUTO" and "CUDAExecutionProvider" in ort.get_available_providers()):
        chosen += _gpu_providers(config, device_id)
    for accelerator in accelerators_of(config, "cpu"):
        if accelerator["name"] != "openvino":
            raise unknown_accelerator(accelerator["name"])
        chosen.append(("OpenVINOExecutionProvider", {"device_type": "CPU"}))
    return [*chosen, ("CPUExecutionProvider", {})]


def _gpu_providers(config: Mapping[str, Any], device_id: str) -> list[Provider]:
    chosen: list[Provider] = []
    cuda = {}
    for accelerator in accelerators_of(config, "gpu"):
        parameters = accelerator.get("parameters", {})
        if accelerator["name"] == "tensorrt":
            options = tensorrt_options(parameters)
            chosen.append(("TensorrtExecutionProvider", {**options, "device_id": device_id}))
        elif accelerator["name"] == "cuda":
            cuda.update(cuda_options(parameters))
        else:
            raise unknown_accelerator(accelerator["name"])
    cuda.update(cuda_parameters(parameters_of(config)))
    return [*chosen, ("CUDAExecutionProvider", {**cuda, "device_id": device_id})]
