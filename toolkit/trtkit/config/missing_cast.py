# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The lines of ``trtkit.yaml`` that put a cast between two steps whose data types differ."""

from __future__ import annotations

import json
import re
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc.model_config_pb2 import DataType

from trtkit.config.wiring import WiredStep
from trtkit.project import Project


@dataclass(frozen=True)
class End:
    """One input or output of a step, as the end of an ensemble's tensor.

    Attributes:
        step: the step.
        side: ``inputs`` or ``outputs``.
        spec: the ModelInput or ModelOutput of the step's config.
    """

    step: WiredStep
    side: str
    spec: Any

    @property
    def type_name(self) -> str:
        """The data type, e.g. ``TYPE_FP32``."""
        return str(DataType.Name(self.spec.data_type))

    @property
    def batching(self) -> bool:
        """Whether the step's model batches."""
        return bool(self.step.config.max_batch_size > 0)

    @property
    def dims(self) -> tuple[int, ...]:
        """As in the config."""
        return tuple(self.spec.dims)

    @property
    def shape(self) -> tuple[int, ...]:
        """With the batch, where the model batches."""
        return (-1, *self.dims) if self.batching else self.dims

    def where(self, project: Project, name: str) -> str:
        """Its place in the project file, or that of its step."""
        return project.where("models", name, "ensemble", self.step.index, self.side, self.spec.name)

    def __str__(self) -> str:
        return f"{self.step.model}.{self.spec.name}"


def cast_lines(project: Project, name: str, tensor: str, first: End, reader: End) -> str:
    """What to add to the project file so that `reader` gets the tensor in its own data type.

    Args:
        project: the project.
        name: the ensemble.
        tensor: the ensemble's tensor.
        first: its writer; for an input of the ensemble, the reader that decides its type.
        reader: the step's input of another type.

    Returns:
        The model under ``models:`` and the two steps that take the place of the reader's; ``""`` where one of the
        types is text, which no cast reads.
    """
    source, target = (end.type_name.removeprefix("TYPE_") for end in (first, reader))
    if not {source, target} <= _NUMBERS:
        return ""
    tensors = {t for s in project.models[name].ensemble or () for t in (*s.inputs.values(), *s.outputs.values())}
    cast = _free(f"{re.sub('[^A-Za-z0-9_]', '_', tensor)}_to_{target.lower()}", project.models)
    made = _free(f"{tensor}_{target.lower()}", tensors)
    sizes = [dim if dim > 0 else f"axis{index}" for index, dim in enumerate(first.dims)]
    shape = ", ".join(map(str, ["batch", *sizes] if first.batching else sizes))
    largest = first.step.config.max_batch_size
    step = reader.step
    inputs = {**step.inputs, reader.spec.name: made}
    version = "" if step.model_version == -1 else f", model_version: {step.model_version}"
    return "\n".join(
        [
            "models:",
            f"  {cast}:",
            f"    source: {{cast: {target}}}",
            f"    inputs: {{{_yaml(tensor)}: {{data_type: {source}, shape: [{shape}]}}}}",
            f"    outputs: [{_yaml(made)}]",
            f"    config: {{max_batch_size: {largest}}}",
            f"  {name}:",
            f"    ensemble:  # these two instead of step {step.index + 1}",
            f"      - {{model: {cast}}}",
            f"      - {{model: {step.model}{version}, inputs: {_map(inputs)}, outputs: {_map(step.outputs)}}}",
        ]
    )


_NUMBERS = {
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32", "FP64",
}  # fmt: skip


def _free(name: str, taken: Container[str]) -> str:
    while name in taken:
        name += "_cast"
    return name


def _map(mapping: Any) -> str:
    return "{" + ", ".join(f"{_yaml(own)}: {_yaml(tensor)}" for own, tensor in mapping.items()) + "}"


_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")
_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}


def _yaml(text: str) -> str:
    """A name as YAML reads it back."""
    plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
    return text if plain else json.dumps(text)
