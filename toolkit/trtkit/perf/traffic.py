# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a load sends and how its answers are checked, made of the options and the chosen requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

from trtkit.errors import ProjectError
from trtkit.numerics import Array
from trtkit.perf.checks.closeness import Closeness
from trtkit.perf.checks.verify import Verifier
from trtkit.perf.data.choose import Choice
from trtkit.perf.encoding.decode import grpc_answer, http_answer
from trtkit.perf.encoding.encode import HttpOptions
from trtkit.perf.encoding.messages import Descriptions, messages_of
from trtkit.perf.encoding.placement import output_sizes
from trtkit.perf.job import Way
from trtkit.perf.jobs import Cursor, Traffic, slots_of
from trtkit.perf.load import Load
from trtkit.perf.loop.sources import SequencePlan
from trtkit.perf.memory.shared_memory import SharedMemory
from trtkit.perf.options import Options
from trtkit.perf.runner import SEQUENCE_LENGTH


@dataclass(frozen=True)
class Content:
    """What stays the same from load to load.

    Attributes:
        options: what was asked for.
        way: to the server.
        descriptions: of the models, by name.
        choice: the requests.
        http: how they travel over HTTP.
        sequences: whether they belong to sequences.
        expected: the reference answer of each request; None when answers are not checked.
        closeness: how near answers have to be.
    """

    options: Options
    way: Way
    descriptions: Descriptions
    choice: Choice
    http: HttpOptions
    sequences: bool
    expected: Sequence[Mapping[str, Array]] | None
    closeness: Closeness


@contextmanager
def traffic_of(content: Content, load: Load, cursor: Cursor, on_note: Callable[[str], None]) -> Iterator[Traffic]:
    """What is sent, with its shared memory for as long as the context lasts.

    Args:
        content: what to send.
        load: how much at a time.
        cursor: where the load goes on in a pool of requests that are to be sent once.
        on_note: told when the server could not be made to forget the shared memory.

    Raises:
        ProjectError: shared memory cannot be had.
        ServerError: the server refuses it.
    """
    options, requests = content.options, content.choice.pool.requests
    slots = slots_of(load, options.concurrent_sequences if content.sequences else 0)
    with _memory(content, slots) if options.shared_memory != "none" else nullcontext() as memory:
        yield Traffic(
            way=content.way,
            messages=messages_of(requests, content.descriptions, content.way, content.http, memory, content.sequences),
            slots=slots,
            order=content.choice.order,
            sequences=_sequence_plan(content) if content.sequences else None,
            times_ns=content.choice.times_ns,
            grow=(options.periodic[2], options.request_period) if options.periodic else (0, 0),
            verifier=_verifier(content, memory),
            cursor=cursor if content.choice.unique else None,
        )
    if memory is not None and memory.left_behind:
        on_note(memory.left_behind)
    if content.choice.unique and cursor.next > len(requests):
        on_note(
            f"all {len(requests):,} different requests were sent and began again, so a cache may have answered; "
            "measure for a shorter time, or a number of --requests"
        )
        cursor.next %= len(requests)


def _memory(content: Content, slots: int) -> SharedMemory:
    options, way, requests = content.options, content.way, content.choice.pool.requests
    if len(content.descriptions) > 1:
        raise ProjectError("shared memory cannot be used with --mix; measure the models one after the other")
    description = next(iter(content.descriptions.values()))
    sizes = output_sizes(*description, requests, options.output_shared_memory_size)
    return SharedMemory(
        options.shared_memory, requests, sizes, slots,
        address=way.address, protocol=options.wire, tls=way.tls, headers=options.headers,
    )  # fmt: skip


def _verifier(content: Content, memory: SharedMemory | None) -> Verifier | None:
    if content.expected is None:
        return None
    given = all(request.expected is not None for request in content.choice.pool.requests)
    return Verifier(
        content.expected,
        partial(_decoded, content.options.wire, memory),
        content.closeness,
        in_answer=memory is None,
        batched=any(int(one.config.get("max_batch_size", 0)) > 0 for one in content.descriptions.values()),
        reference="the data's own answers" if given else "the server's answers before the load",
    )


def _decoded(wire: str, memory: SharedMemory | None, slot: int, answer: bytes) -> dict[str, Array]:
    read = partial(memory.output, slot) if memory else None
    return grpc_answer(answer, read) if wire == "grpc" else http_answer(answer, read)


def _sequence_plan(content: Content) -> SequencePlan:
    options, pool = content.options, content.choice.pool
    own = len(pool.streams) > 1 and not options.sequence_length
    first, after = options.sequence_ids
    return SequencePlan(
        streams=pool.streams,
        length=None if own else options.sequence_length or SEQUENCE_LENGTH,
        variation=options.sequence_length_variation,
        first_id=first,
        ids=2**63 - 1 - first if after is None else after - first,
        seed=options.seed,
    )
