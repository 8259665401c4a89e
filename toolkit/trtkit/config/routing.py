# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The tensors of a model that passes requests on, derived from the models it passes them on to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

from trtkit.config.reasons import Path
from trtkit.errors import ConfigError
from trtkit.project import Project

Row = dict[str, Any]


def routed_tensors(
    project: Project, name: str, configs: Mapping[str, ModelConfig]
) -> tuple[dict[str, Any], dict[Path, str]]:
    """Inputs, outputs and batch that all of some models take, and why they are what they are.

    Args:
        project: holds ``models:``.
        name: the model that passes on.
        configs: those of the models in ``models:``, in order.

    Returns:
        ``input``: what all take; ``output``: what all give; ``max_batch_size``: the smallest.

    Raises:
        ConfigError: they have other inputs, types or dims, no output in common, or only some of them batch.
    """
    where = project.where("models", name, "models")
    sizes = {model: config.max_batch_size for model, config in configs.items()}
    if min(sizes.values()) == 0 < max(sizes.values()):
        told = ", ".join(f"'{model}' {'batches' if size else 'does not'}" for model, size in sizes.items())
        raise ConfigError(f"{where}: all of them have to batch, or none: {told}; give `inputs:` and `outputs:`")
    inputs = {model: {row.name: row for row in config.input} for model, config in configs.items()}
    needed = {model: {name for name, row in rows.items() if not row.optional} for model, rows in inputs.items()}
    first, *others = configs
    for model in others:
        if differ := needed[first] ^ needed[model]:
            raise ConfigError(
                f"{where}: '{first}' and '{model}' differ in the input '{min(differ)}'; one request has to fit all"
            )
    outputs = {model: {row.name: row for row in config.output} for model, config in configs.items()}
    found = {"input": _common(where, inputs, max), "output": _common(where, outputs, min)}
    if not found["output"]:
        raise ConfigError(
            f"{where}: {', '.join(configs)} have no output in common; choose models with the same outputs"
        )
    listed = ", ".join(configs)
    reasons: dict[Path, str] = {
        ("input", 0): f"what {listed} have in common",
        ("output", 0): f"what {listed} have in common",
        ("max_batch_size",): "the smallest of the models that requests are passed on to",
    }
    return {**found, "max_batch_size": min(sizes.values())}, reasons


def _common(where: str, tensors: Mapping[str, Mapping[str, Any]], choose: Callable[[int, int], int]) -> list[Row]:
    """The tensors that all have; of a dim that is -1 for one and fixed for another, the one to `choose`.

    Requests have to fit all: the fixed one. Responses may be any's: -1.
    """
    first, *others = tensors
    rows = []
    for name, row in tensors[first].items():
        if not all(name in tensors[other] for other in others):
            continue
        dims = list(row.dims)
        for other in others:
            dims = _merged(where, name, (first, row, dims), (other, tensors[other][name]), choose)
        found: Row = {"name": name, "data_type": DataType.Name(row.data_type), "dims": dims}
        rows.append({**found, "optional": True} if getattr(row, "optional", False) else found)
    return rows


def _merged(
    where: str,
    name: str,
    one: tuple[str, Any, Sequence[int]],
    other: tuple[str, Any],
    choose: Callable[[int, int], int],
) -> list[int]:
    (first, row, dims), (model, its) = one, other
    same = len(dims) == len(its.dims) and all(a == b or -1 in (a, b) for a, b in zip(dims, its.dims, strict=True))
    if row.data_type != its.data_type or not same:
        raise ConfigError(
            f"{where}: tensor '{name}' is {DataType.Name(row.data_type)} {list(dims)} at '{first}' and "
            f"{DataType.Name(its.data_type)} {list(its.dims)} at '{model}'; one request has to fit all"
        )
    return [choose(a, b) for a, b in zip(dims, its.dims, strict=True)]
