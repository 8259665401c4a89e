# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Instance groups (core: model_config_utils.cc, ValidateInstanceGroup)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trtkit.config import ModelConfig, ModelInstanceGroup
from trtkit.lint.edits import removed
from trtkit.lint.finding import Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import rule
from trtkit.lint.rules.tensors import TENSORRT
from trtkit.pbtxt import Path


def groups(model: Model) -> Iterator[tuple[Path, Any, str]]:
    """The groups that are validated: where, the message, and the server's words for it."""
    config: ModelConfig = model.config
    if config.HasField("ensemble_scheduling"):
        return
    for index, group in enumerate(config.instance_group):
        name = group.name or f"{config.name}_{index}"
        yield ("instance_group", index), group, f"instance group {name} of model {config.name}"


def _missing(model: Model, group: Any) -> list[int]:
    """The GPUs of a group that the server surely has not."""
    count = model.server.gpus
    return [gpu for gpu in group.gpus if gpu < 0 or (count is not None and gpu >= count)]


def _gpus_without_gpu(model: Model, kind: str) -> Iterator[Found]:
    for path, group, words in groups(model):
        if group.kind == ModelInstanceGroup.Kind.Value(kind) and group.gpus:
            yield model.found((*path, "gpus"), f"{words} has kind {kind} but specifies one or more GPUs")


@rule("INS001", "cpu-group-with-gpus", server=True)
def cpu_with_gpus(model: Model) -> Iterator[Found]:
    """A group of KIND_CPU names GPUs.

    Either they are left out, or the kind is KIND_GPU (core: model_config_utils.cc, ValidateInstanceGroup).

    Wrong:
        instance_group { kind: KIND_CPU gpus: [ 0 ] }

    Right:
        instance_group { kind: KIND_CPU }
    """
    yield from _gpus_without_gpu(model, "KIND_CPU")


@rule("INS002", "model-group-with-gpus", server=True)
def model_with_gpus(model: Model) -> Iterator[Found]:
    """A group of KIND_MODEL names GPUs: with that kind the model itself chooses its devices.

    Either they are left out, or the kind is KIND_GPU (core: model_config_utils.cc, ValidateInstanceGroup).

    Wrong:
        instance_group { kind: KIND_MODEL gpus: [ 0 ] }

    Right:
        instance_group { kind: KIND_MODEL }
    """
    yield from _gpus_without_gpu(model, "KIND_MODEL")


@rule("INS003", "group-falls-back-to-cpu-with-gpus", server=True, depends_on_server=True)
def auto_with_missing_gpus(model: Model) -> Iterator[Found]:
    """A group without a kind names a GPU that the server has not.

    KIND_AUTO then becomes KIND_CPU, which may not name GPUs (core: NormalizeInstanceGroup). Which GPUs there
    are has to be known.

    Wrong:
        instance_group { gpus: [ 1 ] }    # on a server with one GPU

    Right:
        instance_group { gpus: [ 0 ] }
    """
    for path, group, words in groups(model):
        missing = _missing(model, group) if group.kind == ModelInstanceGroup.KIND_AUTO else []
        if missing:
            yield model.found(
                (*path, "gpus"),
                f"{words} has kind KIND_CPU but specifies one or more GPUs; it is KIND_AUTO, which becomes KIND_CPU "
                f"because there is no GPU {', '.join(map(str, missing))}",
            )


@rule("INS004", "gpu-group-without-gpus", server=True, depends_on_server=True)
def no_gpus(model: Model) -> Iterator[Found]:
    """A group of KIND_GPU is for a server that has no GPU.

    Known only where the server's GPUs are. KIND_AUTO takes GPUs where there are some, else the CPU.

    Wrong:
        instance_group { kind: KIND_GPU }    # on a server without a GPU

    Right:
        instance_group { kind: KIND_CPU }
    """
    for path, group, words in groups(model) if model.server.gpus == 0 else ():
        if group.kind == ModelInstanceGroup.KIND_GPU and not group.gpus:
            yield model.found((*path, "kind"), f"{words} has kind KIND_GPU but no GPUs are available")


@rule("INS005", "gpu-not-there", server=True, depends_on_server=True)
def gpu_not_there(model: Model) -> Iterator[Found]:
    """A group of KIND_GPU names a GPU that the server has not.

    GPUs are counted from 0, among those that the server sees (CUDA_VISIBLE_DEVICES) and that have its minimum
    compute capability.

    Wrong:
        instance_group { kind: KIND_GPU gpus: [ 1 ] }    # on a server with one GPU

    Right:
        instance_group { kind: KIND_GPU gpus: [ 0 ] }
    """
    for path, group, words in groups(model):
        for gpu in _missing(model, group) if group.kind == ModelInstanceGroup.KIND_GPU else ():
            known = "" if model.server.gpus is None else ", ".join(map(str, range(model.server.gpus)))
            yield model.found(
                (*path, "gpus", list(group.gpus).index(gpu)),
                f"{words} specifies invalid or unsupported gpu id {gpu}. GPUs with at least the minimum required CUDA "
                f"compute compatibility of 6.000000 are: {known}",
            )


@rule("INS006", "instance-kind-unknown", server=True)
def unknown_kind(model: Model) -> Iterator[Found]:
    """A group's kind is a number that no kind has.

    A number without a name gets through the parser of the text format, and no further (core: model_config_utils.cc,
    ValidateInstanceGroup).

    Wrong:
        instance_group { kind: 9 }

    Right:
        instance_group { kind: KIND_CPU }
    """
    for path, group, words in groups(model):
        if group.kind not in ModelInstanceGroup.Kind.values():
            yield model.found(
                (*path, "kind"),
                f"{words} has unexpected kind KIND_AUTO; {group.kind} is none of KIND_AUTO, KIND_GPU, KIND_CPU, "
                "KIND_MODEL",
            )


@rule("INS007", "profile-outside-tensorrt", server=True, fixable=True)
def profile_outside_tensorrt(model: Model) -> Iterator[Found]:
    """A group chooses optimization profiles for a backend other than TensorRT.

    Only engines of TensorRT have profiles (core: model_config_utils.cc, ValidateInstanceGroup).

    Wrong:
        platform: "onnxruntime_onnx"
        instance_group { kind: KIND_GPU profile: [ "0" ] }

    Right:
        platform: "onnxruntime_onnx"
        instance_group { kind: KIND_GPU }
    """
    platform = model.config.platform
    for path, group, words in groups(model) if platform != TENSORRT else ():
        if group.profile:
            path = (*path, "profile")
            yield model.found(
                path,
                f"{words} and platform {platform}specifies profile field which is only supported for TensorRT models",
                fix=removed(model.document, path),
            )


@rule("INS012", "instance-count-negative", Severity.WARNING)
def count_negative(model: Model) -> Iterator[Found]:
    """A group has a negative count.

    The server takes it for "not given": one instance, or two of onnxruntime on the CPU (core:
    NormalizeInstanceGroup).

    Wrong:
        instance_group { count: -1 }

    Right:
        instance_group { count: 1 }
    """
    for path, group, words in groups(model):
        if group.count < 0:
            yield model.found(
                (*path, "count"), f"{words} has count {group.count}, which the server takes for its default"
            )


@rule("INS013", "only-passive-instances", Severity.WARNING)
def only_passive(model: Model) -> Iterator[Found]:
    """All groups are passive, so that nothing runs the requests.

    Passive instances are made ready, but get no work (core: backend_model_instance.cc); requests wait for ever.

    Wrong:
        instance_group { kind: KIND_CPU passive: true }

    Right:
        instance_group { kind: KIND_CPU }
    """
    found = list(groups(model))
    if found and all(group.passive for _, group, _ in found):
        yield model.found((*found[0][0], "passive"), "all instance groups are passive: no instance takes requests")


RULES = (
    cpu_with_gpus,
    model_with_gpus,
    auto_with_missing_gpus,
    no_gpus,
    gpu_not_there,
    unknown_kind,
    profile_outside_tensorrt,
    count_negative,
    only_passive,
)
