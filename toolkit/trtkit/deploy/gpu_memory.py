# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""GPU memory of a pod: weights, engines' workspace, activations, the CUDA context, pools; each part with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Any

from trtkit.config import ModelConfig, ModelInstanceGroup
from trtkit.deploy.figure import Figure, Origin
from trtkit.deploy.host_memory import DYNAMIC, batch_mib
from trtkit.deploy.options import size_option
from trtkit.deploy.place import Place
from trtkit.deploy.planned import ServedModel
from trtkit.engine import manifest_of
from trtkit.errors import BuildError
from trtkit.export.activations import Activations, activations_of

CUDA_CONTEXT_MIB = 500
"""Of one process on one GPU, with the kernels of its libraries."""
CUDA_POOL_MIB = 64
"""--cuda-memory-pool-byte-size, for each GPU."""
_FILES = {"tensorrt": "model.plan", "onnxruntime": "model.onnx"}


@dataclass(frozen=True)
class ModelGpu:
    """What one model needs on the GPUs of a pod, MiB.

    Attributes:
        weights: of all versions, and of every instance that has its own.
        workspace: scratch memory of engines.
        activations: intermediate tensors, inputs and outputs of all instances.
        arena: what ONNX Runtime's allocator may hold beyond that.
        why: how weights, workspace, activations and arena came about, in this order.
    """

    weights: float
    workspace: float
    activations: float
    arena: float
    why: tuple[str, str, str, str]

    @property
    def total(self) -> int:
        """All of it, rounded up."""
        return ceil(self.weights + self.workspace + self.activations + self.arena)


def runs_on_gpu(model: ServedModel) -> bool:
    """Whether a model's instances are on the GPU of a target that has one."""
    groups = model.config.instance_group
    if model.backend == "ensemble":
        return False
    if model.backend == "tensorrt":
        return True
    if model.python:  # without a group, or with KIND_AUTO, Python models run on the CPU
        return any(group.kind == ModelInstanceGroup.KIND_GPU for group in groups)
    kinds = (ModelInstanceGroup.KIND_GPU, ModelInstanceGroup.KIND_AUTO, ModelInstanceGroup.KIND_MODEL)
    return not groups or any(group.kind in kinds for group in groups)


def gpu_parts(place: Place) -> dict[str, Figure]:
    """What the memory of a pod's GPUs is made of, MiB; each of them holds every model."""
    needs = {model.name: model_gpu(place, model) for model in place.served if runs_on_gpu(model)}
    parts: dict[str, Figure] = {}
    for index, kind in enumerate(("weights", "workspace", "activations", "arena")):
        value = sum(getattr(need, kind) for need in needs.values())
        if value:
            why = "; ".join(f"{name}: {need.why[index]}" for name, need in needs.items() if getattr(need, kind))
            origin: Origin = "computed" if kind == "weights" else "estimated"
            parts[f"gpu {kind}"] = Figure(ceil(value), "MiB", why, origin)
    gpus = place.spec.gpu.count
    processes = 1 + sum(model.instances for model in place.served if model.python and model.name in needs)
    stubs = f" for the server and {processes - 1} Python instances" if processes > 1 else ""
    # the instances of a Python model are already counted over the GPUs
    contexts = CUDA_CONTEXT_MIB * (gpus + processes - 1)
    why = f"about {CUDA_CONTEXT_MIB} MiB a process on each of {gpus} GPU{'s' if gpus > 1 else ''}{stubs}"
    parts["gpu context"] = Figure(contexts, "MiB", why, "estimated")
    parts["gpu pool"] = _pool(place.spec.server.options, gpus)
    return parts


def _pool(options: Sequence[str], gpus: int) -> Figure:
    """The server's own pool on each GPU."""
    given = [size_option(options, "cuda-memory-pool-byte-size", f"{gpu}:") for gpu in range(gpus)]
    sizes = [CUDA_POOL_MIB if size is None else ceil(size / 2**20) for size in given]
    where = f"on {gpus} GPU{'s' if gpus > 1 else ''}"
    why = f"--cuda-memory-pool-byte-size, {CUDA_POOL_MIB} MiB where nothing is said, {where}"
    return Figure(sum(sizes), "MiB", why, "preset" if given == [None] * gpus else "declared")


def model_gpu(place: Place, model: ServedModel) -> ModelGpu:
    """What one model needs on the GPUs of a pod."""
    if model.backend == "tensorrt":
        return _tensorrt(place, model)
    own = model.instances / max(1, len(model.versions))
    mib = model.weight_bytes / 2**20
    weights = f"{mib:.1f} MiB for each of {own:g} instances, which have sessions of their own"
    activations, why = _activations(place, model)
    total = activations * model.instances
    if model.backend != "onnxruntime":
        return ModelGpu(mib * own, 0, total, 0, (weights, "", why, ""))
    limit = _gpu_mem_limit(model.config)
    if limit:
        arena = max(0.0, limit * model.instances - mib * own - total)
        return ModelGpu(mib * own, 0, total, arena, (weights, "", why, f"up to gpu_mem_limit {limit:.0f} MiB each"))
    grown = "ONNX Runtime's arena grows by powers of two and may hold as much again as it needs"
    return ModelGpu(mib * own, 0, total, total, (weights, "", why, grown))


def _tensorrt(place: Place, model: ServedModel) -> ModelGpu:
    """An engine is shared by the instances of a GPU; each has an execution context with scratch memory of its own."""
    gpus = place.spec.gpu.count
    mib = model.weight_bytes / 2**20
    weights = f"{mib:.1f} MiB on {gpus} GPU{'s' if gpus > 1 else ''}; instances share an engine"
    each, why = _workspace(place, model)
    activations = batch_mib(model.config) * model.instances
    about = f"inputs and outputs of a full batch, {batch_mib(model.config):.1f} MiB x {model.instances} instances"
    why = f"{why} x {model.instances} instances"
    return ModelGpu(mib * gpus, each * model.instances, activations, 0, (weights, why, about, ""))


def _workspace(place: Place, model: ServedModel) -> tuple[float, str]:
    """Scratch memory of one execution context: what the engine's record says, else the project's limit."""
    recorded = [value for manifest in _manifests(place, model) if (value := manifest["options"].get("workspace_bytes"))]
    if recorded:
        return max(recorded) / 2**20, f"{max(recorded) / 2**20:.0f} MiB, the limit it was built with (engine.json)"
    spec = place.project.models.get(model.name)
    value = spec.engine.workspace_bytes if spec else 1 << 30
    return value / 2**20, f"{value / 2**20:.0f} MiB, engine.workspace_bytes, a limit and not a use"


def _manifests(place: Place, model: ServedModel) -> Iterator[dict[str, Any]]:
    for version in model.versions:
        for plan in sorted((place.repository / model.name / str(version)).glob("*.plan")):
            try:
                manifest = manifest_of(plan)
            except BuildError:
                continue  # the check of the plan says it
            if manifest is not None:
                yield manifest


def _activations(place: Place, model: ServedModel) -> tuple[float, str]:
    """Of one instance, MiB, and where that is from."""
    batch = max(1, model.config.max_batch_size)
    file = _graph(place.repository / model.name, model)
    found = _estimated(file, file.stat().st_size, file.stat().st_mtime_ns, batch) if file else None
    if found is None or (found.unknown and not found.peak_bytes):
        tensors = batch_mib(model.config)
        why = f"4 x {tensors:.1f} MiB of inputs and outputs at batch {batch}, a guess without a readable graph"
        return 4 * tensors, f"{why}, x {model.instances} instances"
    mib = found.peak_bytes / 2**20
    taken = f", {', '.join(found.assumed[:3])} taken for {DYNAMIC}" if found.assumed else ""
    unknown = f", {found.unknown} tensors of unknown shape left out" if found.unknown else ""
    why = f"{mib:.1f} MiB alive at once at batch {batch} by the graph's shapes{taken}{unknown}"
    return mib, f"{why}, x {model.instances} instances"


@lru_cache(maxsize=256)
def _estimated(file: Path, size: int, changed_ns: int, batch: int) -> Activations | None:
    """Of a file in this state: gigabytes are read once for all environments."""
    return activations_of(file, batch, DYNAMIC)


def _graph(folder: Path, model: ServedModel) -> Path | None:
    """The largest served ONNX file; None where there is none."""
    name = model.config.default_model_filename or _FILES.get(model.backend, "")
    files = [folder / str(version) / name for version in model.versions]
    there = [file for file in files if name.endswith(".onnx") and file.is_file()]
    return max(there, key=lambda file: file.stat().st_size, default=None)


def _gpu_mem_limit(config: ModelConfig) -> float:
    """ONNX Runtime's gpu_mem_limit of the config, MiB; 0 where there is none."""
    value = config.parameters["gpu_mem_limit"].string_value if "gpu_mem_limit" in config.parameters else ""
    accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
    values = [value, *(each.parameters.get("gpu_mem_limit", "") for each in accelerators)]
    return max((int(each) / 2**20 for each in values if each.isdigit()), default=0.0)
