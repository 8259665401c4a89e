# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Which tensor of an ensemble each step reads and writes: the project file's maps, and the rest by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelConfig

from trtkit.errors import ConfigError, nearest
from trtkit.project import Project


@dataclass(frozen=True)
class WiredStep:
    """A step with all its maps.

    Attributes:
        index: its place among the steps.
        model: the model's name.
        model_version: -1 for the latest.
        config: the model's.
        inputs: the ensemble's tensor by the model's input.
        outputs: the ensemble's tensor by the model's output.
    """

    index: int
    model: str
    model_version: int
    config: ModelConfig
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


def wired_steps(project: Project, name: str, configs: Sequence[ModelConfig]) -> list[WiredStep]:
    """The steps of an ensemble, with the maps that the project file leaves out.

    An input that is not mapped reads the tensor of its own name; an optional one only if there is such a tensor for
    another reason. Of a step without `outputs` all are written under their own names; of one with some, also those
    that another step reads by their names.

    Args:
        project: holds the ensemble.
        name: the ensemble.
        configs: the config of each step's model, in order.

    Raises:
        ConfigError: a map names a tensor that the step's model has not, with the place in the project file.
    """
    given = project.models[name].ensemble
    assert given is not None, f"{name} is no ensemble"
    steps = [
        WiredStep(index, step.model, step.model_version, config, step.inputs, step.outputs)
        for index, (step, config) in enumerate(zip(given, configs, strict=True))
    ]
    for step in steps:
        _check_names(project, name, step)
    steps = [replace(step, inputs=_inputs(step, _required(step)), outputs=_all_or_given(step)) for step in steps]
    steps = [replace(step, outputs=_outputs(step, steps)) for step in steps]
    known = {tensor for step in steps for tensor in (*step.inputs.values(), *step.outputs.values())}
    return [replace(step, inputs=_inputs(step, known - set(step.outputs.values()))) for step in steps]


def _check_names(project: Project, name: str, step: WiredStep) -> None:
    for side, mapping, tensors in _sides(step):
        known = [tensor.name for tensor in tensors]
        for own in mapping:
            if own not in known:
                where = project.where("models", name, "ensemble", step.index, side, own)
                raise ConfigError(f"{where}: model '{step.model}' has no {side[:-1]} '{own}'; {nearest(own, known)}")


def _sides(step: WiredStep) -> tuple[tuple[str, Mapping[str, str], Any], ...]:
    return ("inputs", step.inputs, step.config.input), ("outputs", step.outputs, step.config.output)


def _inputs(step: WiredStep, by_name: set[str]) -> dict[str, str]:
    """The step's inputs with those of these names that are not mapped, in the model's order."""
    return {
        tensor.name: step.inputs.get(tensor.name, tensor.name)
        for tensor in step.config.input
        if tensor.name in step.inputs or tensor.name in by_name
    }


def _required(step: WiredStep) -> set[str]:
    return {tensor.name for tensor in step.config.input if not tensor.optional}


def _all_or_given(step: WiredStep) -> Mapping[str, str]:
    return step.outputs or {tensor.name: tensor.name for tensor in step.config.output}


def _outputs(step: WiredStep, steps: Sequence[WiredStep]) -> dict[str, str]:
    """The step's outputs with those that another step reads by their names, in the model's order."""
    others = [other for other in steps if other is not step]
    read = {tensor for other in others for tensor in other.inputs.values()}
    written = {tensor for other in others for tensor in other.outputs.values()}
    return {
        tensor.name: step.outputs.get(tensor.name, tensor.name)
        for tensor in step.config.output
        if tensor.name in step.outputs or tensor.name in read - written
    }
