# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The config of a model with a source: what follows from its signature and its target, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import json_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from trtkit.config.block import Block, blocks, check_block, with_block
from trtkit.config.check import YamlPath
from trtkit.config.reasons import Explained, Path, still_true
from trtkit.config.warmups import warmups
from trtkit.errors import ConfigError
from trtkit.project import Project
from trtkit.signature import Signature, TensorSpec

_GROUPS = {
    "KIND_AUTO": "one per GPU, or one on the CPU where there is none",
    "KIND_GPU": "one per GPU",
    "KIND_CPU": "one on the CPU",
}


def model_config(
    project: Project,
    name: str,
    signature: Signature,
    max_batch_size: int,
    warmup: Block,
    *,
    serving: Block | None = None,
) -> ModelConfig:
    """The config of a model that the onnxruntime or the tensorrt backend serves; see `explained_config`.

    Raises:
        ConfigError: a block of the project file is wrong.
    """
    return explained_config(project, name, signature, max_batch_size, warmup, serving=serving).config


def explained_config(
    project: Project,
    name: str,
    signature: Signature,
    max_batch_size: int,
    warmup: Block,
    *,
    serving: Block | None = None,
    batch: Block | None = None,
    variant: str = "",
) -> Explained:
    """The config of a model that the onnxruntime or the tensorrt backend serves, and why its values are what they are.

    Args:
        project: holds the ``config:`` block.
        name: the model.
        signature: full shapes, batch first.
        max_batch_size: what was proven; 0 for a model that does not batch; otherwise Triton's full shape is
            [-1] + dims.
        warmup: by input name, ``dims`` (without the batch) and ``file`` in the model's warmup folder; empty
            for no warm-up.
        serving: what the target asks for: ``backend`` (default onnxruntime) and ``why`` it is that, ``kind`` of the
            instances, ``profiles`` (how many optimization profiles each instance group gets), ``plans`` (file by
            compute capability, one or several), ``optimization`` (that block of the config), ``warmups`` (per
            profile, ``batch_size`` and ``inputs`` as in `warmup`).
        batch: the evidence for `max_batch_size`: the ``proven`` sizes, or ``why`` it does not batch.
        variant: one of the model's ``configs:``, on top of ``config:``; ``""`` for config.pbtxt.

    Raises:
        ConfigError: a block holds a field that ModelConfig has not, a value of another type, or a batch that was
            not proven.
    """
    check_block(project, name)
    serving, layers = serving or {}, blocks(project, name, variant)
    size = _batch_size(project, max_batch_size, layers)
    given = [block for block, _ in layers]
    draft = _Draft()
    draft.add("name", name)
    draft.add("backend", serving.get("backend", "onnxruntime"), serving.get("why", "it runs the ONNX graph as it is"))
    draft.add("max_batch_size", size, _why_batch(size, batch or {}))
    _add_tensors(draft, signature, size, _controls(given))
    _add_files(draft, serving.get("plans", {}))
    _add_serving(draft, serving, size)
    config = with_block(draft.fields, project, name, variant)
    reasons = still_true(draft.reasons, config, given)
    _add_profiles(reasons, config, serving)
    if not any("model_warmup" in block for block in given):
        row, tuned = _whole(warmup, signature, batched=max_batch_size > 0 and size == 0), serving.get("warmups", ())
        for index, (request, why) in enumerate(warmups(config, signature, row, tuned)):
            json_format.ParseDict(request, config.model_warmup.add())
            reasons["model_warmup", index] = why
    return Explained(config, reasons)


@dataclass
class _Draft:
    """The fields that trtkit knows, and why, while they are put together."""

    fields: dict[str, Any] = field(default_factory=dict)
    reasons: dict[Path, str] = field(default_factory=dict)

    def add(self, name: str, value: Any, reason: str = "", inside: Path = ()) -> None:
        """A field, and why it, or what is inside it, is what it is."""
        self.fields[name] = value
        if reason:
            self.reasons[(name, *inside)] = reason


def _batch_size(project: Project, proven: int, layers: Sequence[tuple[Block, YamlPath]]) -> int:
    """The last block's max_batch_size, or what was proven."""
    size = proven
    for block, path in layers:
        size = block.get("max_batch_size", size)
        if size > proven:
            raise ConfigError(
                f"{project.where(*path, 'max_batch_size')}: max_batch_size is {size}, and the model was proven for "
                f"{proven or 'no batching'} only; give the largest one in `config:`"
            )
    return size


def _why_batch(size: int, batch: Block) -> str:
    if not size:
        return f"no batching: {batch['why']}" if "why" in batch else "no batching"
    sizes = ", ".join(map(str, batch.get("proven", ())))
    return f"the default; batches of {sizes} rows gave what each row gives alone" if sizes else "the default"


def _controls(given: Sequence[Block]) -> set[str]:
    """Control and state tensors of a sequence batcher, which are no inputs and outputs of requests."""
    names: set[str] = set()
    for block in given:
        if "sequence_batching" in block or block.get("dynamic_batching") is not None:
            sequences = block.get("sequence_batching") or {}
            names = {control.get("name") for control in sequences.get("control_input") or []}
            for state in sequences.get("state") or []:
                names |= {state.get("input_name"), state.get("output_name")}
    listed = {row.get("name") for block in given for side in ("input", "output") for row in block.get(side) or []}
    return names - listed


def _add_tensors(draft: _Draft, signature: Signature, size: int, left_out: set[str]) -> None:
    for side, specs in (("input", signature.inputs), ("output", signature.outputs)):
        kept = [spec for spec in specs if spec.name not in left_out]
        without = ", without the batch in front" if size else ""
        draft.add(side, [tensor_row(spec, size) for spec in kept], f"as in the graph{without}", (0,))
        for index, spec in enumerate(kept):
            if len(spec.shape) == 1 and size:
                draft.reasons[side, index, "reshape"] = "one value per row: dims have one size at least"
            elif not spec.shape:
                draft.reasons[side, index, "dims"] = "one value: dims have one size at least"


def tensor_row(spec: TensorSpec, max_batch_size: int) -> dict[str, Any]:
    """A tensor of a full shape as a row under ``input`` or ``output``."""
    dims = list(spec.dims[1:] if max_batch_size else spec.dims)
    tensor: dict[str, Any] = {"name": spec.name, "data_type": spec.dtype.triton, "dims": dims or [1]}
    if not dims and max_batch_size:  # dims need a rank of 1; the reshape takes it away again, per row only
        tensor["reshape"] = {"shape": []}
    return tensor


def _add_files(draft: _Draft, plans: Mapping[str, str]) -> None:
    """The names of a model's plans: one for all, or one per compute capability."""
    if len(plans) == 1:
        draft.add("default_model_filename", next(iter(plans.values())), "the plan")
    elif plans:
        draft.add("cc_model_filenames", dict(plans), "a plan per compute capability", (min(plans),))


def _add_serving(draft: _Draft, serving: Block, size: int) -> None:
    """What does not follow from the model itself."""
    newest = "only the newest version is served"
    draft.add("version_policy", {"latest": {"num_versions": 1}}, newest, ("latest", "num_versions"))
    kind = serving.get("kind", "KIND_AUTO")
    draft.add("instance_group", [{"count": 1, "kind": kind}], _GROUPS[kind], (0, "kind"))
    if serving.get("optimization"):
        path = ("execution_accelerators", "gpu_execution_accelerator", 0)
        draft.add("optimization", serving["optimization"], "what runs the graph on the target", path)
    if size > 1:
        draft.add("dynamic_batching", {}, "requests that wait at the same time become one batch")


def _add_profiles(reasons: dict[Path, str], config: ModelConfig, serving: Block) -> None:
    """Every profile to every group that names none, the user's own too: without a list only profile 0 is used."""
    names = [str(index) for index in range(serving.get("profiles", 0))]
    for index, group in enumerate(config.instance_group):
        if names and not group.profile and group.kind != ModelInstanceGroup.KIND_CPU:
            group.profile.extend(names)
            reasons["instance_group", index, "profile"] = "without this list profile 0 alone would be used"


def _whole(warmup: Block, signature: Signature, *, batched: bool) -> Block:
    """The warm-up data's dims; of one row as a whole request where a batching model is to be served without."""
    if not batched or not warmup:
        return warmup
    rank = {spec.name: len(spec.shape) for spec in signature.inputs}
    return {name: {**one, "dims": [1, *(one["dims"] if rank[name] > 1 else [])]} for name, one in warmup.items()}
