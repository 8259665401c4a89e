# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What happened to each request: one row per request, in columns."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from trtkit.perf.transports.base import Failure

Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ErrorCount:
    """Failed requests of one kind.

    Attributes:
        kind: ``connection``, ``timeout``, ``protocol``, ``HTTP 400``, ``gRPC UNAVAILABLE``, …
        count: how many.
        message: what the server, or the transport, said about the first of them.
    """

    kind: str
    count: int
    message: str

    def to_json(self) -> dict[str, Any]:
        """The form kept in records."""
        return asdict(self)


@dataclass(frozen=True)
class Records:
    """Requests that ended, in the order of their ends; times on the clock of ``time.perf_counter_ns``.

    Attributes:
        intended_ns: when each was to be sent; in a closed loop, when it was sent.
        sent_ns: when its bytes were handed to the transport.
        first_ns: its first response; `last_ns` of a request with one response, and of a failed one without any.
        last_ns: its end: the last response with content, or the failure.
        index: which request of the pool it was.
        outcome: 0 for success, else 1 + its place in `failures`.
        responses: how many responses with content came.
        sequence: its sequence's id, 0 without one.
        response_ns: the times of all responses of requests that were answered by streams, row by row; a request's
            are as many as its `responses`. Empty when no request was.
        failures: the kinds of failures, each with its first message.
    """

    intended_ns: Integers
    sent_ns: Integers
    first_ns: Integers
    last_ns: Integers
    index: Integers
    outcome: Integers
    responses: Integers
    sequence: Integers
    response_ns: Integers
    failures: tuple[Failure, ...] = ()

    def __len__(self) -> int:
        return len(self.last_ns)

    @property
    def ok(self) -> Mask:
        """Which requests succeeded."""
        return self.outcome == 0

    @property
    def latency_ns(self) -> Integers:
        """From the send to the end."""
        return self.last_ns - self.sent_ns

    @property
    def intended_latency_ns(self) -> Integers:
        """From the intended time to the end: a stalled server cannot hide by keeping requests from being sent."""
        return self.last_ns - self.intended_ns

    @property
    def streamed(self) -> bool:
        """Whether the times of all responses are known."""
        return len(self.response_ns) > 0

    def where(self, mask: Mask) -> Records:
        """The rows of a mask."""
        columns = {name: getattr(self, name)[mask] for name in _ROWS}
        times = self.response_ns
        if self.streamed:
            times = times[np.repeat(mask, self.responses)]
        return Records(**columns, response_ns=times, failures=self.failures)

    def between(self, start_ns: int, end_ns: int) -> Records:
        """The requests that ended in [start, end)."""
        return self.where((self.last_ns >= start_ns) & (self.last_ns < end_ns))

    def errors(self) -> tuple[ErrorCount, ...]:
        """The failed ones by kind, most frequent first."""
        counts = np.bincount(self.outcome, minlength=len(self.failures) + 1)[1:]
        found = [
            ErrorCount(failure.kind, int(count), failure.message)
            for failure, count in zip(self.failures, counts, strict=True)
            if count
        ]
        return tuple(sorted(found, key=lambda error: -error.count))


_ROWS = tuple(field.name for field in fields(Records) if field.name not in {"failures", "response_ns"})


def concatenate(parts: Sequence[Records]) -> Records:
    """The rows of several in the order of their ends, failures of one kind together; empty without any part."""
    merged = parts[0] if len(parts) == 1 else _merged(parts)
    if bool(np.all(merged.last_ns[1:] >= merged.last_ns[:-1])):
        return merged
    return _ordered(merged, np.argsort(merged.last_ns, kind="stable"))


def _merged(parts: Sequence[Records]) -> Records:
    """The rows one part after the other."""
    kinds: dict[str, int] = {}
    failures: list[Failure] = []
    outcomes = []
    for part in parts:
        places = np.zeros(len(part.failures) + 1, np.int64)
        for place, failure in enumerate(part.failures, 1):
            if failure.kind not in kinds:
                failures.append(failure)
            places[place] = kinds.setdefault(failure.kind, len(failures))
        outcomes.append(places[part.outcome])
    columns = {name: _joined([getattr(part, name) for part in parts]) for name in _ROWS}
    columns["outcome"] = _joined(outcomes)
    times = _joined([part.response_ns for part in parts])
    return Records(**columns, response_ns=times, failures=tuple(failures))


def _joined(columns: Sequence[Integers]) -> Integers:
    return np.concatenate(columns) if columns else np.empty(0, np.int64)


def _ordered(records: Records, order: Integers) -> Records:
    columns = {name: getattr(records, name)[order] for name in _ROWS}
    times = records.response_ns
    if records.streamed:
        ends = np.cumsum(records.responses)
        rows = np.split(times, ends[:-1])
        times = np.concatenate([rows[row] for row in order])
    return Records(**columns, response_ns=times, failures=records.failures)


class Recorder:
    """Takes the rows of requests as they end."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []
        self._places: dict[str, int] = {}
        self._start()

    def _start(self) -> None:
        self._columns = {name: array("q") for name in (*_ROWS, "response_ns")}
        columns = self._columns
        self._intended, self._sent = columns["intended_ns"].append, columns["sent_ns"].append
        self._first, self._last = columns["first_ns"].append, columns["last_ns"].append
        self._index, self._outcome = columns["index"].append, columns["outcome"].append
        self._responses, self._sequence = columns["responses"].append, columns["sequence"].append
        self._times = columns["response_ns"].extend

    def row(self, intended_ns: int, sent_ns: int, last_ns: int, index: int, sequence: int) -> None:
        """A request that succeeded with one response."""
        self._intended(intended_ns)
        self._sent(sent_ns)
        self._first(last_ns)
        self._last(last_ns)
        self._index(index)
        self._outcome(0)
        self._responses(1)
        self._sequence(sequence)

    def row_of(
        self,
        intended_ns: int,
        sent_ns: int,
        end_ns: int,
        index: int,
        sequence: int,
        times: Sequence[int],
        failure: Failure | None,
    ) -> None:
        """A request that failed, or was answered by a stream.

        Args:
            intended_ns: when it was to be sent.
            sent_ns: when it was sent.
            end_ns: when it failed, or its stream ended.
            index: which request of the pool.
            sequence: its sequence's id, or 0.
            times: of the responses with content.
            failure: None when it succeeded.
        """
        self._intended(intended_ns)
        self._sent(sent_ns)
        self._first(times[0] if times else end_ns)
        self._last(times[-1] if times and failure is None else end_ns)
        self._index(index)
        self._outcome(self._place(failure) if failure else 0)
        self._responses(len(times))
        self._sequence(sequence)
        self._times(times)

    def _place(self, failure: Failure) -> int:
        place = self._places.get(failure.kind)
        if place is None:
            self.failures.append(failure)
            place = self._places[failure.kind] = len(self.failures)
        return place

    def cut(self) -> Records:
        """The rows since the last cut."""
        columns = self._columns
        self._start()
        arrays = {name: np.frombuffer(column, np.int64) if column else _EMPTY for name, column in columns.items()}
        return Records(**arrays, failures=tuple(self.failures))


_EMPTY = np.empty(0, np.int64)
