# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Which tensors of a request are in shared memory, where, and how much room outputs need there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from trtkit.errors import ProjectError
from trtkit.perf.data.pool import Request
from trtkit.perf.encoding.tensors import byte_size as tensor_byte_size

DEFAULT_OUTPUT_BYTES = 102_400  # perf_analyzer's --output-shared-memory-size


class Region(NamedTuple):
    """Where a tensor is: a region that the server knows by name, and bytes within it."""

    name: str
    offset: int
    byte_size: int

    def parameters(self) -> dict[str, str | int]:
        """The tensor's parameters in Triton's shared-memory extension."""
        where: dict[str, str | int] = {"shared_memory_region": self.name, "shared_memory_byte_size": self.byte_size}
        return where | ({"shared_memory_offset": self.offset} if self.offset else {})


@dataclass(frozen=True)
class Placement:
    """Which tensors of a request are in shared memory, by name; the others travel with it."""

    inputs: Mapping[str, Region] = field(default_factory=dict)
    outputs: Mapping[str, Region] = field(default_factory=dict)


def output_names(outputs: tuple[str, ...] | None, placement: Placement | None) -> tuple[str, ...] | None:
    """The outputs to ask for by name; None for all of them, which the server chooses."""
    if outputs is None and placement and placement.outputs:
        return tuple(placement.outputs)
    return outputs


def output_sizes(
    metadata: Mapping[str, Any],
    config: Mapping[str, Any],
    requests: Sequence[Request],
    default: int = DEFAULT_OUTPUT_BYTES,
) -> dict[str, int]:
    """The bytes that each output of a model needs, by name.

    Args:
        metadata: the model's metadata, with full shapes.
        config: its configuration, for `max_batch_size`.
        requests: what will be sent; the largest batch among them counts.
        default: for outputs of BYTES or with a dynamic axis, whose size nobody knows before.

    Raises:
        ProjectError: `default` is not positive.
    """
    if default < 1:
        raise ProjectError(f"an output area of {default} bytes is impossible; it must be 1 or more")
    batched = int(config.get("max_batch_size", 0)) > 0
    rows = max((len(array) for request in requests for array in request.inputs.values() if array.ndim), default=1)
    sizes = {}
    for tensor in metadata.get("outputs", []):
        shape = [int(size) for size in tensor.get("shape", [])]
        shape = [rows, *shape[1:]] if batched else shape
        known = None if min(shape, default=1) < 0 else tensor_byte_size(tensor["datatype"], shape)
        sizes[tensor["name"]] = default if known is None else known
    return sizes
