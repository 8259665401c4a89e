# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The optimization block: the core takes all of it, and each backend looks at its own part."""

from __future__ import annotations

from collections.abc import Iterator

from trtkit.lint.finding import Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import rule

# which of the backends of NVIDIA's images read what
_READERS = {
    "cuda": ("tensorrt",),
    "priority": ("tensorrt",),
    "execution_accelerators": ("onnxruntime", "openvino", "tensorflow"),
}
_KNOWN_BACKENDS = ("onnxruntime", "openvino", "python", "pytorch", "tensorrt")


def _unread(model: Model, field: str) -> Iterator[Found]:
    config = model.config
    if not config.HasField("optimization") or config.backend in _READERS[field]:
        return
    optimization = config.optimization
    written = bool(optimization.priority) if field == "priority" else optimization.HasField(field)
    if written and config.backend in _KNOWN_BACKENDS:
        yield model.found(
            ("optimization", field),
            f"optimization.{field} has no effect on backend '{config.backend}'; it is for {', '.join(_READERS[field])}",
        )


@rule("OPT001", "cuda-options-unread", Severity.WARNING)
def cuda_unread(model: Model) -> Iterator[Found]:
    """CUDA graphs or streams are configured for a backend other than TensorRT.

    Only the TensorRT backend reads optimization.cuda (tensorrt_backend: model_state.cc, instance_state.cc);
    onnxruntime has its own options for CUDA graphs.

    Wrong:
        backend: "onnxruntime"
        optimization { cuda { graphs: true } }

    Right:
        backend: "tensorrt"
        optimization { cuda { graphs: true } }
    """
    yield from _unread(model, "cuda")


@rule("OPT002", "priority-unread", Severity.WARNING)
def priority_unread(model: Model) -> Iterator[Found]:
    """A priority on the GPU is configured for a backend other than TensorRT.

    Only the TensorRT backend gives its streams a priority (model_config.proto, ModelOptimizationPolicy).

    Wrong:
        backend: "onnxruntime"
        optimization { priority: PRIORITY_MAX }

    Right:
        backend: "onnxruntime"
        instance_group { rate_limiter { priority: 1 } }
    """
    yield from _unread(model, "priority")


@rule("OPT003", "accelerators-unread", Severity.WARNING)
def accelerators_unread(model: Model) -> Iterator[Found]:
    """Execution accelerators are configured for a backend that has none.

    They are ways to run a graph of onnxruntime, OpenVINO or TensorFlow; a TensorRT plan is accelerated already.

    Wrong:
        backend: "python"
        optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }

    Right:
        backend: "onnxruntime"
        optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }
    """
    yield from _unread(model, "execution_accelerators")


RULES = (cuda_unread, priority_unread, accelerators_unread)
