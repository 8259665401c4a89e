# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""In which order the requests of the pool are sent: in turn, by weights, or as sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np

Item = tuple[int, Any, int]
"""The number of a request in the pool, what the transport sends for it, and its sequence's id or 0."""


class InTurn:
    """The requests one after the other, again and again.

    Args:
        prepared: what the transport sends for each request of the pool.
        order: their numbers in the order to send; the pool's own when None.
        limit: how many to send in all; no limit when None.
    """

    def __init__(self, prepared: Sequence[Any], order: Sequence[int] | None = None, limit: int | None = None) -> None:
        items: Iterator[Item] = cycle([(index, prepared[index], 0) for index in order or range(len(prepared))])
        self.pull: Callable[[], Item] = (items if limit is None else islice(items, limit)).__next__

    def failed(self) -> None:
        """Nothing follows from a failure."""

    def finish(self) -> None:
        """Nothing is left to send."""


class OwnInTurn:
    """As `InTurn`, for a slot whose messages are its own (its outputs are in its own shared memory).

    Args:
        prepared: what the transport sends for each request of the pool on this slot.
        indexes: the numbers of the requests to send; an iterator that all slots share.
    """

    def __init__(self, prepared: Sequence[Any], indexes: Iterator[int]) -> None:
        self.pull: Callable[[], Item] = ((index, prepared[index], 0) for index in indexes).__next__

    def failed(self) -> None:
        """Nothing follows from a failure."""

    def finish(self) -> None:
        """Nothing is left to send."""


@dataclass(frozen=True)
class SequencePlan:
    """How sequences are made.

    Attributes:
        streams: the numbers of the requests of each stream of data; a sequence takes the next stream.
        length: requests in a sequence; None for as many as its stream has.
        variation: a sequence's length is uniform in ``length × (1 ± variation)``; 0.2 is ±20 %.
        first_id: the first correlation id.
        ids: how many different ids there are; they are used again after the last.
        seed: of the lengths.
    """

    streams: tuple[tuple[int, ...], ...]
    length: int | None = None
    variation: float = 0.0
    first_id: int = 1
    ids: int = 2**63 - 1
    seed: int = 0


class Ids:
    """Correlation ids that no two sequences at the same time share.

    Args:
        plan: the range of ids.
        share: this process's number.
        shares: how many processes there are; each takes every `shares`-th id of the range.
    """

    def __init__(self, plan: SequencePlan, share: int = 0, shares: int = 1) -> None:
        self._plan, self._share, self._shares = plan, share, shares
        self._own = max(len(range(share, plan.ids, shares)), 1)
        self._turn, self._in_use = 0, set[int]()
        self._streams = cycle(plan.streams)
        self._lengths = np.random.default_rng([plan.seed, share])

    def next_sequence(self, ended: int = 0) -> tuple[int, list[int]]:
        """The id of a new sequence and the numbers of its requests.

        Args:
            ended: the id of a sequence whose last request was answered, or failed; 0 for none.
        """
        plan = self._plan
        self._in_use.discard(ended)
        number = self._next_id()
        while number in self._in_use and len(self._in_use) < self._own:
            number = self._next_id()
        self._in_use.add(number)
        stream = next(self._streams)
        if plan.length is None:
            return number, list(stream)
        low, high = (round(plan.length * (1 + sign * plan.variation)) for sign in (-1, 1))
        length = int(self._lengths.integers(max(low, 1), max(high, 1) + 1))
        return number, [stream[place % len(stream)] for place in range(length)]

    def _next_id(self) -> int:
        number = self._plan.first_id + self._share + self._shares * (self._turn % self._own)
        self._turn += 1
        return number


class Sequences:
    """The requests of one slot that carries one sequence after the other.

    Args:
        ids: shared by all slots of the process.
        build: what the transport sends for request `index` as part of sequence `id`, at its start or end.
        left: the number of requests still to send, shared by all slots; None for no limit.
    """

    def __init__(self, ids: Ids, build: Callable[[int, int, bool, bool], Any], left: list[int] | None = None) -> None:
        self._ids, self._build, self._left = ids, build, left
        self._open = False
        self._sequence = 0
        self._rest: list[int] = []

    def pull(self) -> Item:
        """The next request; a new sequence begins after the last request of one."""
        if self._left is not None:
            if self._left[0] <= 0 and not self._open:
                raise StopIteration
            self._left[0] -= 1
        start = not self._open
        if start:
            self._sequence, rest = self._ids.next_sequence(self._sequence)
            self._rest = rest[::-1]
        index = self._rest.pop()
        self._open = bool(self._rest)
        return index, self._build(index, self._sequence, start, not self._open), self._sequence

    def failed(self) -> None:
        """The server may have lost the sequence: begin a new one."""
        self._open = False

    def finish(self) -> Item | None:
        """The request that ends a begun sequence early, so that the server does not keep it until its idle time."""
        if not self._open:
            return None
        self._open = False
        index = self._rest.pop()
        return index, self._build(index, self._sequence, False, True), self._sequence
