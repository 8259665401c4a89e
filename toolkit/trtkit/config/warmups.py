# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Warm-up requests that the server will take: it refuses a model when one of them fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig, ModelInstanceGroup

from trtkit.signature import Signature

Tensors = Mapping[str, Mapping[str, Any]]  # by input name: `dims`, without the batch, and `file`


def warmups(
    config: ModelConfig, signature: Signature, row: Tensors, profiles: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[dict[str, Any], str]]:
    """A request per optimization profile, or else one of one row and one of a full batch; each with its reason.

    Left out are requests for profiles that not every instance has, and requests that the config would not take:
    inputs of other dims or types than the data's, and sequences, whose control tensors have no data.

    Args:
        config: the config, complete but for them.
        signature: the model's inputs.
        row: the data of one row, or of one request of a model that does not batch; empty for no warm-up.
        profiles: per profile, ``batch_size`` and ``inputs``, as `row`, which are empty where the model does not take
            them; empty where there are no profiles.
    """
    sequences = config.sequence_batching
    if not row or sequences.control_input or sequences.state:
        return
    types = {spec.name: spec.dtype.triton for spec in signature.inputs}
    for name, size, tensors, reason in _requests(config, row, profiles):
        if tensors and _taken(config, tensors, types):
            yield {"name": name, "batch_size": size, "inputs": _inputs(tensors, types)}, reason


def _requests(
    config: ModelConfig, row: Tensors, profiles: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, int, Tensors, str]]:
    largest = max(config.max_batch_size, 1)
    if not profiles:
        yield "batch_1", 1, row, "loads what a first request would wait for"
        if largest > 1:
            yield f"batch_{largest}", largest, row, "the same row as a full batch"
        return
    for index, profile in enumerate(profiles):
        if profile["batch_size"] <= largest and str(index) in _profiles_everywhere(config, len(profiles)):
            yield f"profile_{index}", profile["batch_size"], profile["inputs"], f"what profile {index} is tuned for"


def _profiles_everywhere(config: ModelConfig, count: int) -> set[str]:
    """The profiles that every instance has; all where no group names any."""
    found = {str(index) for index in range(count)}
    for group in config.instance_group:
        if group.profile and group.kind != ModelInstanceGroup.KIND_CPU:
            found &= set(group.profile)
    return found


def _taken(config: ModelConfig, tensors: Tensors, types: Mapping[str, str]) -> bool:
    """Whether the data are what the config's inputs take, which the project file may have changed."""
    for spec in config.input:
        dims = tensors[spec.name]["dims"]
        if DataType.Name(spec.data_type) != types[spec.name] or len(dims) != len(spec.dims):
            return False
        if any(wanted not in (-1, size) for wanted, size in zip(spec.dims, dims, strict=True)):
            return False
    return True


def _inputs(tensors: Tensors, types: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: {"data_type": types[name], "dims": list(tensor["dims"]), "input_data_file": tensor["file"]}
        for name, tensor in tensors.items()
    }
