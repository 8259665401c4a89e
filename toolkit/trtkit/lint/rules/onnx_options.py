# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Parameters and execution accelerators of the onnxruntime backend."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from trtkit.errors import nearest
from trtkit.lint import ort_backend
from trtkit.lint.finding import Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import rule


def _of(model: Model, kind: str) -> Iterator[ort_backend.Problem]:
    return (problem for problem in model.onnx.problems if problem.kind == kind)


@rule("ONX201", "parameter-value", server=True)
def parameter_value(model: Model) -> Iterator[Found]:
    """A parameter of the backend, or of an execution accelerator, has a value that it cannot have.

    Parameters are texts in the config and are read as numbers, booleans (true, on, 1, false, off, 0) or
    words by the backend (onnxruntime.cc, ModelState and LoadModel). Those for CUDA are read by instances on a GPU only.

    Wrong:
        parameters { key: "intra_op_thread_count" value { string_value: "all" } }

    Right:
        parameters { key: "intra_op_thread_count" value { string_value: "4" } }
    """
    for problem in _of(model, "value"):
        yield model.found(problem.path, problem.message)


@rule("ONX202", "unknown-accelerator", server=True)
def unknown_accelerator(model: Model) -> Iterator[Found]:
    """An execution accelerator has a name that the backend does not know.

    For the GPU these are tensorrt and cuda, for the CPU openvino (onnxruntime.cc, LoadModel). Those for the GPU are
    read by instances on a GPU only.

    Wrong:
        optimization { execution_accelerators { gpu_execution_accelerator { name: "trt" } } }

    Right:
        optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }
    """
    for problem in _of(model, "accelerator"):
        known = ("tensorrt", "cuda") if "gpu_execution_accelerator" in problem.path else ("openvino",)
        yield model.found(problem.path, f"{problem.message}; available: {', '.join(known)}")


@rule("ONX203", "unknown-tensorrt-parameter", server=True)
def unknown_tensorrt_parameter(model: Model) -> Iterator[Found]:
    """A parameter of the accelerator tensorrt is not one that the backend passes on.

    The backend knows a list of names and refuses others, although ONNX Runtime has more (onnxruntime.cc,
    LoadModel). The list is that of 2026; older servers know fewer of them.

    Wrong:
        optimization { execution_accelerators { gpu_execution_accelerator {
          name: "tensorrt" parameters { key: "trt_fp16_enable" value: "1" }
        } } }

    Right:
        optimization { execution_accelerators { gpu_execution_accelerator {
          name: "tensorrt" parameters { key: "precision_mode" value: "FP16" }
        } } }
    """
    for problem in _of(model, "accelerator_parameter"):
        hint = nearest(str(problem.path[-1]), ort_backend.known_tensorrt_options())
        yield model.found(problem.path, f"{problem.message}; {hint}")


@rule("ONX204", "parameter-without-effect", Severity.WARNING)
def parameter_without_effect(model: Model) -> Iterator[Found]:
    """A parameter looks like one of the backend's and is none: the server ignores it.

    Parameters are free, so the server says nothing to a misspelt one. Of ONNX Runtime's session.* entries NVIDIA's
    backend passes on session.use_device_allocator_for_initializers alone (onnxruntime.cc, ModelState).

    Wrong:
        parameters { key: "intra_op_thread_cnt" value { string_value: "4" } }

    Right:
        parameters { key: "intra_op_thread_count" value { string_value: "4" } }
    """
    if model.config.backend != "onnxruntime":
        return
    known = ort_backend.known_parameters()
    for key in model.config.parameters.keys() - known:
        close = get_close_matches(key.lower(), known, n=1, cutoff=0.8)
        if close or key.startswith("session."):
            hint = f"did you mean '{close[0]}'?" if close else f"available: {', '.join(sorted(known))}"
            message = f"the onnxruntime backend has no parameter '{key}' and ignores it; {hint}"
            yield model.found(("parameters", key), message)


@rule("ONX205", "gpu-accelerator-on-the-cpu", Severity.WARNING)
def gpu_accelerator_on_cpu(model: Model) -> Iterator[Found]:
    """An accelerator for GPUs is configured for a model of which no instance runs on a GPU.

    Instances of KIND_CPU and KIND_MODEL do not read it (onnxruntime.cc, LoadModel).

    Wrong:
        instance_group { kind: KIND_CPU }
        optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }

    Right:
        instance_group { kind: KIND_GPU }
        optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }
    """
    accelerators = model.config.optimization.execution_accelerators.gpu_execution_accelerator
    if model.config.backend == "onnxruntime" and accelerators and not model.onnx.may_be_on_gpu:
        yield model.found(
            ("optimization", "execution_accelerators", "gpu_execution_accelerator", 0),
            f"the accelerator '{accelerators[0].name}' has no effect: no instance of the model runs on a GPU",
        )


@rule("ONX206", "engines-are-not-kept", Severity.ADVICE)
def engines_are_not_kept(model: Model) -> Iterator[Found]:
    """TensorRT builds the model's engines anew at each load, because no cache is set.

    Without trt_engine_cache_enable and a path the first request after each start waits for the build, which can take
    minutes.

    Wrong:
        gpu_execution_accelerator { name: "tensorrt" }

    Right:
        gpu_execution_accelerator {
          name: "tensorrt"
          parameters { key: "trt_engine_cache_enable" value: "true" }
          parameters { key: "trt_engine_cache_path" value: "/cache" }
        }
    """
    if model.config.backend != "onnxruntime" or not model.onnx.may_be_on_gpu:
        return
    for index, each in enumerate(model.config.optimization.execution_accelerators.gpu_execution_accelerator):
        enabled = each.parameters.get("trt_engine_cache_enable", "").lower() in ("true", "on", "1")
        if each.name == "tensorrt" and not enabled:
            yield model.found(
                ("optimization", "execution_accelerators", "gpu_execution_accelerator", index),
                "TensorRT builds its engines at every load; set trt_engine_cache_enable and trt_engine_cache_path",
            )


RULES = (
    parameter_value, unknown_accelerator, unknown_tensorrt_parameter, parameter_without_effect,
    gpu_accelerator_on_cpu, engines_are_not_kept,
)  # fmt: skip
