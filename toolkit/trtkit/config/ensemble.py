# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The config of an ensemble, derived from those of its steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

from trtkit.config.block import with_block
from trtkit.config.missing_cast import End, cast_lines
from trtkit.config.wiring import WiredStep, wired_steps
from trtkit.errors import ConfigError
from trtkit.project import Project


def ensemble_config(project: Project, name: str, steps: Sequence[ModelConfig]) -> ModelConfig:
    """The config of an ensemble, its tensors derived from its steps.

    A tensor that no step writes is an input of the ensemble, optional where it is optional for all that read it; one
    that no step reads is an output. The ensemble is decoupled when a step is.

    Args:
        project: holds the steps' maps and the ``config:`` block.
        name: the ensemble.
        steps: the config of each step's model, in order.

    Raises:
        ConfigError: a map names a tensor the step's model has not, two steps write one tensor, types or dims of a
            tensor do not agree, steps wait for each other, or a step reads tensors that come at different paces from
            decoupled models; with the place in the project file.
    """
    wired = wired_steps(project, name, steps)
    tensors = _tensors(project, name, wired)
    ends = [tensor.name for tensor in tensors if not tensor.readers]
    decoupled = _is_decoupled(project, name, _in_order(project, name, wired), ends)
    largest = min((config.max_batch_size for config in steps if config.max_batch_size > 0), default=0)
    largest = largest if all(tensor.can_batch for tensor in tensors) else 0
    known: dict[str, Any] = {
        "name": name,
        "platform": "ensemble",
        "max_batch_size": largest,
        "input": [tensor.row(largest > 0) for tensor in tensors if not tensor.writer],
        "output": [tensor.row(largest > 0) for tensor in tensors if not tensor.readers],
        "ensemble_scheduling": {"step": [_step(step) for step in wired]},
    }
    if decoupled:  # the server finds it out by itself; who reads the file should not have to
        known["model_transaction_policy"] = {"decoupled": True}
    config = with_block(known, project, name)
    if config.max_batch_size > largest:
        where = project.where("models", name, "config", "max_batch_size")
        raise ConfigError(
            f"{where}: max_batch_size is {config.max_batch_size}; the steps of '{name}' take at most {largest}"
        )
    return config


def _step(step: WiredStep) -> dict[str, Any]:
    return {
        "model_name": step.model,
        "model_version": step.model_version,
        "input_map": dict(step.inputs),
        "output_map": dict(step.outputs),
    }


@dataclass(frozen=True)
class _Tensor:
    """One tensor of an ensemble.

    The server joins a batching step with one that does not batch in two ways: where the dims agree, requests
    of one row; where the dims of the other have the batch as their first -1, any.

    Attributes:
        name: the ensemble's name of it.
        writer: the output that it is; None for an input of the ensemble.
        readers: the inputs that it is.
        dims: as in the configs of its steps, where one's -1 is another's size; None when theirs do not agree.
        shape: the same with the batch dimension of batching steps; None when the steps' shapes do not agree.
    """

    name: str
    writer: End | None
    readers: tuple[End, ...]
    dims: tuple[int, ...] | None
    shape: tuple[int, ...] | None

    @property
    def can_batch(self) -> bool:
        """Whether it has the batch as its first dimension, for every step."""
        return self.shape is not None and len(self.shape) > 1 and self.shape[0] == -1

    def row(self, batching: bool) -> dict[str, Any]:
        """Its row under ``input`` or ``output``."""
        dims = (self.shape or ())[1:] if batching else self.dims or self.shape or ()
        row = {"name": self.name, "data_type": DataType.Name(self.first.spec.data_type), "dims": list(dims)}
        optional = not self.writer and all(reader.spec.optional for reader in self.readers)
        return {**row, "optional": True} if optional else row

    @property
    def first(self) -> End:
        """What decides its data type."""
        return self.writer or self.readers[0]


def _tensors(project: Project, name: str, steps: Sequence[WiredStep]) -> list[_Tensor]:
    """Every tensor, in the order in which they are first met."""
    ends: dict[str, list[End]] = {}
    for end, tensor in _ends(steps):
        ends.setdefault(tensor, []).append(end)
    return [_tensor(project, name, tensor, found) for tensor, found in ends.items()]


def _ends(steps: Sequence[WiredStep]) -> Iterator[tuple[End, str]]:
    for step in steps:
        sides = (("inputs", step.inputs, step.config.input), ("outputs", step.outputs, step.config.output))
        for side, mapping, specs in sides:
            yield from ((End(step, side, spec), mapping[spec.name]) for spec in specs if spec.name in mapping)


def _tensor(project: Project, name: str, tensor: str, ends: Sequence[End]) -> _Tensor:
    """One tensor from all its ends, which have to agree."""
    writers = [end for end in ends if end.side == "outputs"]
    readers = tuple(end for end in ends if end.side == "inputs")
    if len(writers) > 1:
        raise ConfigError(
            f"{writers[1].where(project, name)}: tensor '{tensor}' is already written by step "
            f"{writers[0].step.index + 1}; give one of {writers[0]} and {writers[1]} another tensor in `outputs`"
        )
    ordered = [*writers, *readers]
    first = ordered[0]
    dims: tuple[int, ...] | None = first.dims
    shape: tuple[int, ...] | None = first.shape
    for end in ordered[1:]:
        if end.spec.data_type != first.spec.data_type:
            raise _other_type(project, name, tensor, first, end)
        merged, merged_shape = _merged(dims, end.dims), _merged(shape, end.shape)
        if merged is None and merged_shape is None:
            raise ConfigError(
                f"{end.where(project, name)}: tensor '{tensor}' has the dims {list(dims or shape or ())} at {first} "
                f"and the dims {list(end.dims)} at {end}"
            )
        dims, shape = merged, merged_shape
    return _Tensor(tensor, writers[0] if writers else None, readers, dims, shape)


def _other_type(project: Project, name: str, tensor: str, first: End, reader: End) -> ConfigError:
    lines = cast_lines(project, name, tensor, first, reader)
    end = f"put a step between them that casts it:\n{lines}" if lines else "a Python model between them can convert it"
    return ConfigError(
        f"{reader.where(project, name)}: tensor '{tensor}' is {first.type_name} at {first} and {reader.type_name} at "
        f"{reader}; {end}"
    )


def _merged(one: tuple[int, ...] | None, other: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """The dims that both stand for, -1 being any size; None when they contradict each other."""
    if one is None or other is None or len(one) != len(other):
        return None
    if any(a != b and -1 not in (a, b) for a, b in zip(one, other, strict=True)):
        return None
    return tuple(max(a, b) for a, b in zip(one, other, strict=True))


def _in_order(project: Project, name: str, steps: Sequence[WiredStep]) -> list[WiredStep]:
    """The steps, each after those it waits for; a step that waits for itself through others is refused."""
    written = {tensor for step in steps for tensor in step.outputs.values()}
    done = {tensor for step in steps for tensor in step.inputs.values()} - written
    ordered: list[WiredStep] = []
    left = list(steps)
    while left:
        ready = [step for step in left if set(step.inputs.values()) <= done]
        if not ready:
            where = project.where("models", name, "ensemble", left[0].index)
            raise ConfigError(f"{where}: step '{left[0].model}' waits for its own output: the steps form a cycle")
        ordered += ready
        done |= {tensor for step in ready for tensor in step.outputs.values()}
        left = [step for step in left if step not in ready]
    return ordered


def _is_decoupled(project: Project, name: str, ordered: Sequence[WiredStep], ends: Sequence[str]) -> bool:
    """Whether a step is decoupled.

    Its tensors come at a pace of its own, and the server refuses a step that reads tensors of two paces, and an
    ensemble whose outputs (`ends`) do.
    """
    paces: dict[str, str] = {}  # the decoupled step that a tensor comes from
    for step in ordered:
        found = {paces.get(tensor, ""): tensor for tensor in step.inputs.values()}
        if len(found) > 1:
            told = " and ".join(f"'{tensor}' from {pace or 'the request'}" for pace, tensor in sorted(found.items()))
            raise ConfigError(
                f"{project.where('models', name, 'ensemble', step.index)}: step '{step.model}' reads tensors that come "
                f"at different paces, which the server refuses: {told}; let the decoupled model hand on what "
                "later steps need"
            )
        own = f"step {step.index + 1}, '{step.model}'" if step.config.model_transaction_policy.decoupled else ""
        paces |= dict.fromkeys(step.outputs.values(), own or next(iter(found), ""))
    last = {paces.get(tensor, ""): tensor for tensor in ends}
    if len(last) > 1:
        told = " and ".join(f"'{tensor}' from {pace or 'the request'}" for pace, tensor in sorted(last.items()))
        raise ConfigError(
            f"{project.where('models', name, 'ensemble')}: the outputs come at different paces, which the server "
            f"refuses: {told}; leave the others out, or let the decoupled model hand them on"
        )
    return any(paces.values())
