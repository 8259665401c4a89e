# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What is drawn: the steps and tensors of a model of any repository, as its config.pbtxt says.

Calls that a model makes by itself (BLS) do not stand in a config and are not drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trtkit.config import ModelConfig, read_config
from trtkit.errors import ConfigError, ProjectError, RepositoryError, nearest
from trtkit.repository import CONFIG_FILE, config_text, models

UNKNOWN = "?"


@dataclass(frozen=True)
class Tensor:
    """A tensor between steps, or at the border.

    Attributes:
        key: what the steps call it here; unique.
        name: for people.
        data_type: e.g. ``TYPE_FP32``; ``?`` where no config says it.
        dims: as in the config, without the batch; None where no config says it.
        role: ``input`` or ``output`` of what is drawn, or ``inner``.
    """

    key: str
    name: str
    data_type: str
    dims: tuple[int, ...] | None
    role: str

    @property
    def type_text(self) -> str:
        """E.g. ``TYPE_FP32 [3, -1]``."""
        return f"{self.data_type} {UNKNOWN if self.dims is None else list(self.dims)}"


@dataclass(frozen=True)
class Step:
    """A model that is run.

    Attributes:
        model: its name.
        version: ``latest`` or a number.
        backend: the backend, or the platform where only that is given; ``?`` where nothing is known.
        max_batch_size: None where nothing is known.
        inputs: the tensor's key by the model's own name.
        outputs: the same.
    """

    model: str
    version: str
    backend: str
    max_batch_size: int | None
    inputs: dict[str, str]
    outputs: dict[str, str]

    @property
    def known(self) -> bool:
        """Whether there is a config of it."""
        return self.max_batch_size is not None

    @property
    def facts(self) -> tuple[str, ...]:
        """What is said of it, in lines."""
        batch = UNKNOWN if self.max_batch_size is None else str(self.max_batch_size)
        return (self.backend, f"version {self.version}", f"max_batch_size {batch}")


@dataclass(frozen=True)
class Graph:
    """A model as it is drawn.

    Attributes:
        name: the model's.
        heading: what it is, in a line.
        steps: each after those that it waits for.
        tensors: by key: inputs, inner ones, outputs.
        notes: what could not be found out.
    """

    name: str
    heading: str
    steps: tuple[Step, ...]
    tensors: dict[str, Tensor]
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


def printable(text: str) -> str:
    """A name without what no picture can hold: control characters, and bytes of a file name that are no text."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def graph_of(repository: Path, model: str) -> Graph:
    """Read the graph of a model from a repository, anyone's.

    A step whose model is not there, or has no readable config, is drawn with question marks and told in the notes.

    Raises:
        ProjectError: the repository or the model is not there, or the model has no config.pbtxt.
        RepositoryError: the config cannot be read.
        ConfigError: it is no ModelConfig, or the steps of the ensemble wait for each other.
    """
    if not repository.is_dir():
        raise ProjectError(f"there is no model repository at {repository}; pass --repository")
    if model not in models(repository):
        raise ProjectError(f"model '{model}' is not in {repository}; {nearest(model, models(repository))}")
    config = _config(repository, model)
    if config is None:
        raise ProjectError(f"model '{model}' has no {CONFIG_FILE} in {repository}, so that nothing can be drawn")
    steps = config.ensemble_scheduling.step
    return _ensemble(repository, model, config) if steps else _single(model, config)


def _config(repository: Path, model: str) -> ModelConfig | None:
    text = config_text(repository, model)
    return None if text is None else read_config(text, f"{model}/{CONFIG_FILE}")


def _single(name: str, config: ModelConfig) -> Graph:
    """A model that is no ensemble; an input and an output may have the same name."""
    sides = (("input", config.input), ("output", config.output))
    tensors = {f"{role} {row.name}": _tensor(f"{role} {row.name}", row, role) for role, rows in sides for row in rows}
    inputs, outputs = ({row.name: f"{role} {row.name}" for row in rows} for role, rows in sides)
    return Graph(name, f"{name}: a model", (_step(name, -1, config, inputs, outputs),), tensors)


def _ensemble(repository: Path, name: str, config: ModelConfig) -> Graph:
    notes: list[str] = []
    steps: list[Step] = []
    tensors = {row.name: _tensor(row.name, row, "input") for row in config.input}
    tensors |= {row.name: _tensor(row.name, row, "output") for row in config.output}
    for row in config.ensemble_scheduling.step:
        own = _step_config(repository, row.model_name, notes)
        inputs, outputs = dict(sorted(row.input_map.items())), dict(sorted(row.output_map.items()))
        steps.append(_step(row.model_name, row.model_version, own, inputs, outputs))
        for mapping, rows in ((outputs, own.output if own else ()), (inputs, own.input if own else ())):
            known = {tensor.name: tensor for tensor in rows}
            for inner, key in mapping.items():
                if key not in tensors or tensors[key].dims is None:
                    tensors[key] = _tensor(key, known.get(inner))
    heading = f"{name}: an ensemble, max_batch_size {config.max_batch_size}"
    return Graph(name, heading, _in_order(name, steps), tensors, notes)


def _step_config(repository: Path, model: str, notes: list[str]) -> ModelConfig | None:
    """The config of a step; None, and a note, where there is none to be read."""
    try:
        config = _config(repository, model)
    except (ConfigError, RepositoryError) as exc:
        notes.append(f"step '{model}' is drawn with question marks: {exc}")
        return None
    if config is None and model in models(repository):
        notes.append(f"step '{model}' is drawn with question marks: it has no {CONFIG_FILE} in {repository}")
    elif config is None:
        found = nearest(model, models(repository))
        notes.append(f"step '{model}' is drawn with question marks: it is not in {repository}; {found}")
    return config


def _step(
    model: str, version: int, config: ModelConfig | None, inputs: dict[str, str], outputs: dict[str, str]
) -> Step:
    backend = (config.backend or config.platform if config else "") or UNKNOWN
    shown = "latest" if version == -1 else str(version)  # 0 is no version, and the server refuses it
    return Step(model, shown, backend, config.max_batch_size if config else None, inputs, outputs)


def _tensor(key: str, row: Any, role: str = "inner") -> Tensor:
    if row is None:
        return Tensor(key, key, UNKNOWN, None, role)
    names = row.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
    known = names.get(row.data_type)
    return Tensor(key, row.name if role != "inner" else key, known.name if known else UNKNOWN, tuple(row.dims), role)


def _in_order(name: str, steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps, each after those that write what it reads."""
    ordered: list[Step] = []
    left = list(steps)
    while left:
        waiting = [{key for step in left if step is not other for key in step.outputs.values()} for other in left]
        ready = [
            step
            for step, others in zip(left, waiting, strict=True)
            if not set(step.inputs.values()) & (others | set(step.outputs.values()))
        ]
        if not ready:
            told = ", ".join(f"'{step.model}'" for step in left)
            raise ConfigError(
                f"the steps {told} of ensemble '{name}' wait for each other, so that no order can be drawn"
            )
        ordered += ready
        left = [step for step in left if not any(step is other for other in ready)]
    return tuple(ordered)
