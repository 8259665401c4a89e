# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What loads and works, and is probably not what its owner would choose."""

from __future__ import annotations

from collections.abc import Iterator

from trtkit.config import ModelConfig, ModelInstanceGroup
from trtkit.lint.finding import Severity
from trtkit.lint.flags import needs
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import rule

_LIGHT_BYTES = 200 * 10**6
_OF_FILES = ("onnxruntime", "openvino", "pytorch", "tensorflow", "tensorrt")
"""Backends that run the model of a file, and a batch of requests as one."""
_WITHOUT_FAVOURITES = ("onnxruntime", "openvino", "python", "pytorch", "tensorflow")
_LONG_DELAY_MICROSECONDS = 1_000_000


def _is_scheduled(config: ModelConfig) -> bool:
    return config.WhichOneof("scheduling_choice") is not None


@rule("ADV001", "batchable-model-does-not-batch", Severity.ADVICE)
def batchable_but_does_not_batch(model: Model) -> Iterator[Found]:
    """The model file has a batch dimension, but max_batch_size is 0.

    Every input and output of the ONNX file begins with the same dynamic dimension, so the server could put
    requests together; with max_batch_size 0 it runs them one by one.

    Wrong:
        max_batch_size: 0
        input { name: "x" data_type: TYPE_FP32 dims: [ -1, 64 ] }
        output { name: "y" data_type: TYPE_FP32 dims: [ -1, 10 ] }

    Right:
        max_batch_size: 32
        input { name: "x" data_type: TYPE_FP32 dims: [ 64 ] }
        output { name: "y" data_type: TYPE_FP32 dims: [ 10 ] }
        dynamic_batching { }
    """
    served = model.completed
    if served is None or served.max_batch_size != 0 or not model.onnx_headers:
        return
    for header in model.onnx_headers.values():
        shapes = [tensor.shape for tensor in (*header.inputs, *header.outputs)]
        firsts = {shape[0] if shape else 0 for shape in shapes}
        if shapes and len(firsts) == 1 and isinstance(first := firsts.pop(), str) and first:
            message = f"every tensor of the model begins with the dimension '{first}', but max_batch_size is 0"
            yield model.found(("max_batch_size",), f"{message}; set it, and leave that dimension out of the dims")
            return


@rule("ADV002", "no-dynamic-batching", Severity.ADVICE, depends_on_server=True)
def no_dynamic_batching(model: Model) -> Iterator[Found]:
    """The model takes batches, but the server does not make any.

    Without a scheduler each request runs alone, however many wait: a batch is then only what one client sends.
    Told of backends that run a batch as one. Whether a Python model gains from it is for its code to know, and
    TensorRT-LLM and vLLM put requests together by themselves.

    Wrong:
        backend: "onnxruntime"
        max_batch_size: 32

    Right:
        backend: "onnxruntime"
        max_batch_size: 32
        dynamic_batching { }
    """
    served = model.completed or model.config
    if served.max_batch_size > 1 and not _is_scheduled(served) and served.backend in (*_OF_FILES, "dali", "fil"):
        message = f"max_batch_size is {served.max_batch_size}, but requests are never put together"
        yield model.found(("max_batch_size",), f"{message}; add dynamic_batching {{ }}")


@rule("ADV003", "preferred-batch-sizes-without-reason", Severity.ADVICE)
def preferred_without_reason(model: Model) -> Iterator[Found]:
    """Preferred batch sizes are given for a backend that has no favourite sizes.

    The server sends a batch of a preferred size at once and lets any other wait for the whole delay. Only TensorRT
    plans with several profiles have sizes that are faster than their neighbours (server:
    docs/user_guide/batcher.md). max_batch_size alone is what the server prefers anyway.

    Wrong:
        backend: "onnxruntime"
        dynamic_batching { preferred_batch_size: [ 4, 8 ] }

    Right:
        backend: "onnxruntime"
        dynamic_batching { max_queue_delay_microseconds: 500 }
    """
    config = model.config
    for scheduler in (("dynamic_batching",), ("sequence_batching", "oldest")):
        inner = config
        for part in scheduler:
            inner = getattr(inner, part)
        path = (*scheduler, "preferred_batch_size")
        chosen = set(inner.preferred_batch_size) - {config.max_batch_size}
        if config.backend in _WITHOUT_FAVOURITES and chosen:
            message = f"{config.backend} has no batch sizes that are faster than their neighbours"
            yield model.found(path, f"{message}: a batch of another size waits for the whole delay; remove it")


def _bytes(model: Model, folder: str) -> int:
    """What a folder holds, with the folders in it: weights may lie beside the model file."""
    entries = model.entries(folder)
    deeper = sum(_bytes(model, f"{folder}/{entry.name}") for entry in entries if entry.kind == "folder")
    return deeper + sum(entry.size for entry in entries if entry.kind == "file")


@rule("ADV004", "one-gpu-instance", Severity.ADVICE)
def one_gpu_instance(model: Model) -> Iterator[Found]:
    """A small model has one instance on the GPU.

    With one instance the GPU idles while the next batch is copied; a second one of a model below 200 MB costs
    little memory (server: docs/user_guide/optimization.md). Measure it with `trtkit perf`.

    Wrong:
        backend: "tensorrt"
        instance_group { kind: KIND_GPU count: 1 }

    Right:
        backend: "tensorrt"
        instance_group { kind: KIND_GPU count: 2 }
    """
    config = model.config
    for index, group in enumerate(config.instance_group if config.backend in _OF_FILES else ()):
        on_gpu = group.kind == ModelInstanceGroup.KIND_GPU
        on_gpu |= config.backend == "tensorrt" and group.kind == ModelInstanceGroup.KIND_AUTO
        if on_gpu and group.count <= 1 and len(config.instance_group) == 1 and not group.HasField("rate_limiter"):
            size = max((_bytes(model, str(version)) for version in model.served_versions), default=0)
            if 0 < size < _LIGHT_BYTES:
                message = f"one instance on the GPU for a model of {size / 1e6:.1f} MB; try count: 2"
                yield model.found(("instance_group", index), message)


@rule("ADV005", "no-warm-up", Severity.ADVICE)
def no_warm_up(model: Model) -> Iterator[Found]:
    """The first requests will be slow: there is no model_warmup.

    TensorRT loads kernels and CUDA modules at the first run, ONNX Runtime with the TensorRT provider builds an
    engine; a warm-up moves that before the model is ready.

    Wrong:
        backend: "tensorrt"

    Right:
        backend: "tensorrt"
        model_warmup {
          name: "first"
          batch_size: 1
          inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 64 ] random_data: true } }
        }
    """
    config = model.config
    accelerated = bool(config.optimization.execution_accelerators.gpu_execution_accelerator)
    on_gpu = any(group.kind == ModelInstanceGroup.KIND_GPU for group in config.instance_group)
    slow_first = config.backend == "tensorrt" or (config.backend == "onnxruntime" and (accelerated or on_gpu))
    if slow_first and not config.model_warmup and not config.HasField("sequence_batching"):
        yield model.found(("backend",), "the first requests will be slow: add a model_warmup")


@rule("ADV006", "poll-mode", Severity.ADVICE, depends_on_server=True)
def poll_mode(model: Model) -> Iterator[Found]:
    """The server looks for changes in the repository by itself.

    In poll mode it sees half-written files, and an editor's swap file reloads a model; NVIDIA does not recommend
    it for production (server: docs/user_guide/model_management.md).

    Wrong:
        tritonserver ... --model-control-mode=poll

    Right:
        tritonserver ... --model-control-mode=explicit
    """
    first = next(iter(model.repository.models.values()), None)
    if first is not None and first.name == model.name and "poll" in model.server.option("model-control-mode"):
        yield Found(
            "", "--model-control-mode=poll: half-written files are seen; use explicit and load models by request"
        )


@rule("ADV007", "long-queue-delay", Severity.ADVICE)
def long_queue_delay(model: Model) -> Iterator[Found]:
    """A request may wait for a second or more before it runs.

    The delay is in microseconds; a value of a second is most often meant as something else.

    Wrong:
        dynamic_batching { max_queue_delay_microseconds: 5000000 }

    Right:
        dynamic_batching { max_queue_delay_microseconds: 500 }
    """
    config = model.config
    places = {
        ("dynamic_batching",): config.dynamic_batching.max_queue_delay_microseconds,
        ("sequence_batching", "oldest"): config.sequence_batching.oldest.max_queue_delay_microseconds,
        ("sequence_batching", "direct"): config.sequence_batching.direct.max_queue_delay_microseconds,
    }
    for scheduler, delay in places.items():
        if delay >= _LONG_DELAY_MICROSECONDS:
            message = (
                f"a request may wait {delay / 1e6:g} s in the queue: max_queue_delay_microseconds is in microseconds"
            )
            yield model.found((*scheduler, "max_queue_delay_microseconds"), message)


@rule("ADV008", "needs-server-flags", Severity.ADVICE)
def needs_server_flags(model: Model) -> Iterator[Found]:
    """A field does nothing unless the server is started with a flag.

    Say how the server is started, and lint checks it: trtkit lint REPOSITORY -- --cache-config=local,size=...

    Wrong:
        response_cache { enable: true }    # trtkit lint model_repository

    Right:
        response_cache { enable: true }    # trtkit lint model_repository -- --cache-config=local,size=104857600
    """
    if model.server.flags is None:
        for need in needs(model):
            message = f"start the server with {need.example}, or {need.otherwise}"
            yield model.found(need.path, message)


RULES = (
    batchable_but_does_not_batch,
    no_dynamic_batching,
    preferred_without_reason,
    one_gpu_instance,
    no_warm_up,
    poll_mode,
    long_queue_delay,
    needs_server_flags,
)
