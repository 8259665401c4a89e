# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The requests of a pool as messages of a protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trtkit.perf.data.pool import Request
from trtkit.perf.encoding.encode import HttpOptions, generate_stream_request, grpc_request, http_request
from trtkit.perf.job import Way
from trtkit.perf.jobs import Messages
from trtkit.perf.memory.shared_memory import SharedMemory
from trtkit.perf.server.control import ModelDescription

Descriptions = Mapping[str, ModelDescription]


def datatypes_of(description: ModelDescription) -> dict[str, str]:
    """The KServe v2 data type of each input and output, by name."""
    metadata = description.metadata
    return {tensor["name"]: tensor["datatype"] for side in ("inputs", "outputs") for tensor in metadata.get(side, [])}


def encoded(
    requests: Sequence[Request],
    descriptions: Descriptions,
    way: Way,
    options: HttpOptions,
    memory: SharedMemory | None = None,
    slot: int = 0,
    sequence: bool = False,
) -> tuple[bytes, ...]:
    """A message for each request.

    Args:
        requests: the pool's.
        descriptions: of their models, by name.
        way: to the server.
        options: of HTTP.
        memory: where the tensors are, in shared memory.
        slot: whose output area is used there.
        sequence: whether requests belong to sequences.
    """
    datatypes = {name: datatypes_of(description) for name, description in descriptions.items()}
    messages = []
    for index, request in enumerate(requests):
        placement = memory.placement(index, slot) if memory else None
        own = datatypes[request.model]
        if way.protocol == "generate-stream":
            messages.append(generate_stream_request(way.address, request, options))
        elif way.protocol == "http":
            messages.append(http_request(way.address, request, own, options, placement, sequence))
        else:
            messages.append(grpc_request(request, own, placement))
    return tuple(messages)


def messages_of(
    requests: Sequence[Request],
    descriptions: Descriptions,
    way: Way,
    options: HttpOptions,
    memory: SharedMemory | None = None,
    sequence: bool = False,
) -> Messages:
    """The messages for any number of slots: each slot's own where outputs go to shared memory."""

    def make(slots: int) -> tuple[tuple[bytes, ...], ...]:
        return tuple(
            encoded(requests, descriptions, way, options, memory, slot, sequence)
            for slot in range(slots if memory else 1)
        )

    return make
