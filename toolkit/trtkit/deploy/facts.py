# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a built repository says about serving it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trtkit.config import ModelConfig, ModelInstanceGroup, read_config
from trtkit.deploy.planned import ServedModel
from trtkit.errors import ConfigError, ProjectError, RepositoryError, nearest
from trtkit.repository import PublishedVersion, config_text, models, versions

_PLATFORMS = {"tensorrt_plan": "tensorrt", "onnxruntime_onnx": "onnxruntime", "pytorch_libtorch": "pytorch"}


def read_models(repository: Path, names: Sequence[str], gpus: int) -> tuple[ServedModel, ...]:
    """The models of a repository, as they are served.

    Args:
        repository: the model repository.
        names: only these, and the models that their ensembles use; () for all.
        gpus: how many GPUs a pod has; 0 for none.

    Raises:
        ProjectError: there is no such model.
        RepositoryError: the repository, or a config in it, cannot be read.
    """
    there = models(repository)
    if not there:
        raise RepositoryError(f"there is no model in {repository}; run `trtkit build` first")
    for name in names:
        if name not in there:
            raise ProjectError(f"deploy.models: model '{name}' is not in {repository}; {nearest(name, there)}")
    all_models = {name: _model(repository, name, gpus) for name in there}
    all_models = {
        name: replace(model, steps=tuple(step for step in model.steps if step in there or model.backend == "ensemble"))
        for name, model in all_models.items()
    }
    wanted = _with_steps(all_models, names or there)
    return tuple(model for name, model in all_models.items() if name in wanted)


def _with_steps(all_models: dict[str, ServedModel], names: Sequence[str]) -> set[str]:
    wanted: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name not in wanted and name in all_models:
            wanted.add(name)
            left += all_models[name].steps
    return wanted


def _model(repository: Path, name: str, gpus: int) -> ServedModel:
    config = _config(repository, name)
    served = _served_versions(config, versions(repository, name))
    backend = "ensemble" if config.ensemble_scheduling.step else config.backend or _PLATFORMS.get(config.platform, "")
    return ServedModel(
        name,
        config,
        backend or config.platform,
        tuple(version.version for version in served),
        sum(version.byte_size for version in served),
        0 if backend == "ensemble" else _instances(config, backend, gpus) * max(1, len(served)),
        tuple(dict.fromkeys(step.model_name for step in config.ensemble_scheduling.step))
        or _routed(repository, name, config),
    )


# what trtkit's parts import that pass requests on to other models
_ROUTING = "trtkit_routing.py"


def _routed(repository: Path, name: str, config: ModelConfig) -> tuple[str, ...]:
    """Words in the parameters of a routing part; those that name models are the ones it passes requests on to."""
    if not any((repository / name).glob(f"*/{_ROUTING}")):
        return ()
    values = [parameter.string_value for parameter in config.parameters.values()]
    return tuple(dict.fromkeys(word for value in values for word in re.findall(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", value)))


def _config(repository: Path, name: str) -> ModelConfig:
    text = config_text(repository, name)
    if text is None:
        raise RepositoryError(f"{repository / name} has no config.pbtxt; a deployment needs one: `trtkit build {name}`")
    try:
        return read_config(text, f"{repository / name}/config.pbtxt")
    except ConfigError as exc:
        raise RepositoryError(str(exc)) from exc


def _served_versions(config: ModelConfig, there: Sequence[PublishedVersion]) -> list[PublishedVersion]:
    """Those that the version policy serves; the latest one by default (model_config.proto, ModelVersionPolicy)."""
    policy = config.version_policy
    if policy.HasField("all"):
        return list(there)
    if policy.HasField("specific"):
        return [version for version in there if version.version in policy.specific.versions]
    return list(there)[-(policy.latest.num_versions or 1) :]


def _instances(config: ModelConfig, backend: str, gpus: int) -> int:
    """Instances of one version: a KIND_GPU group has `count` on each GPU it names, or on every GPU there is.

    Without a group there is one for each GPU, and Python models have one on the CPU; without a count ONNX Runtime has
    two on the CPU (core: model_config_utils.cc).
    """
    if not config.instance_group:
        return 1 if backend == "python" else gpus or (2 if backend == "onnxruntime" else 1)
    return sum(_group(group, backend, gpus) for group in config.instance_group)


def _group(group: ModelInstanceGroup, backend: str, gpus: int) -> int:
    wide = group.kind == ModelInstanceGroup.KIND_AUTO and backend != "python"
    on_gpu = gpus > 0 and (group.kind == ModelInstanceGroup.KIND_GPU or wide)
    count = int(group.count) or (2 if backend == "onnxruntime" and not on_gpu else 1)
    return count * (len(group.gpus) or gpus if on_gpu else 1)
