# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a load sends: a pool of requests, made before the load starts and sent again and again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from trtkit.errors import DataError
from trtkit.numerics import Array

Parameter = bool | int | float | str


@dataclass(frozen=True, eq=False)
class Request:
    """One inference request.

    Attributes:
        model: the model's name.
        version: its version; the server's choice when empty.
        inputs: an array per input in the model's data type, *with* the batch axis when the model has one. BYTES are
            `object` arrays of ``bytes``, BF16 are uint16 bit patterns.
        outputs: the outputs to ask for; all of them when None.
        parameters: of the request, by name.
        expected: the reference answer by output name, as `inputs` are; None when none is known.
    """

    model: str
    version: str
    inputs: Mapping[str, Array]
    outputs: tuple[str, ...] | None = None
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    expected: Mapping[str, Array] | None = None

    @property
    def byte_size(self) -> int:
        """Bytes of the inputs' elements, without what the protocol adds."""
        return sum(array_bytes(array) for array in self.inputs.values())


@dataclass(frozen=True, eq=False)
class Pool:
    """The requests of a load.

    Attributes:
        requests: at least one.
        streams: numbers of `requests`; each stream is the data of one sequence. One stream with all of them where
            the requests are no sequences.
        origin: where the data are from, for people: ``random values``, a file's name.
    """

    requests: tuple[Request, ...]
    streams: tuple[tuple[int, ...], ...]
    origin: str

    def __len__(self) -> int:
        return len(self.requests)

    @property
    def byte_size(self) -> int:
        """Bytes of all inputs."""
        return sum(request.byte_size for request in self.requests)

    def aimed(
        self,
        *,
        version: str = "",
        outputs: Sequence[str] | None = None,
        parameters: Mapping[str, Parameter] | None = None,
    ) -> Pool:
        """The same data for a version, with the outputs to ask for and parameters.

        Args:
            version: the model's version; each request's own when empty.
            outputs: each request's own when None.
            parameters: of every request; a request's own of the same name counts.
        """
        requests = tuple(
            replace(
                request,
                version=version or request.version,
                outputs=request.outputs if outputs is None else tuple(outputs),
                parameters={**(parameters or {}), **request.parameters},
            )
            for request in self.requests
        )
        return replace(self, requests=requests)


def in_order(pool: Pool, order: Sequence[int]) -> Pool:
    """The requests of a pool as a trace or a mix sends them, one for each place of the order.

    Args:
        pool: the requests.
        order: their numbers, at least one; a number may come again.
    """
    return one_stream([pool.requests[number] for number in order], pool.origin)


def one_stream(requests: Iterable[Request], origin: str) -> Pool:
    """A pool of requests that are no sequences.

    Raises:
        DataError: there is no request.
    """
    made = tuple(requests)
    if not made:
        raise DataError(f"{origin}: there is no request to send; give at least one sample")
    return Pool(made, (tuple(range(len(made))),), origin)


def joined(pools: Sequence[Pool]) -> Pool:
    """The requests and streams of several pools, one pool after the other.

    Args:
        pools: at least one. Pools with one stream each become one stream: their requests follow each other, as
            perf_analyzer joins several files.
    """
    requests: list[Request] = []
    streams: list[tuple[int, ...]] = []
    for pool in pools:
        streams += [tuple(len(requests) + index for index in stream) for stream in pool.streams]
        requests += pool.requests
    if all(len(pool.streams) == 1 for pool in pools):
        streams = [tuple(range(len(requests)))]
    return Pool(tuple(requests), tuple(streams), ", ".join(dict.fromkeys(pool.origin for pool in pools)))


def array_bytes(array: Array) -> int:
    """Bytes of an array's elements; of the texts themselves for BYTES."""
    return sum(map(len, array.ravel().tolist())) if array.dtype.kind == "O" else array.nbytes
