# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What happened to each request since the last cut: the raw material of a window."""

from __future__ import annotations

from array import array
from dataclasses import asdict, dataclass
from time import perf_counter_ns, process_time_ns
from typing import Any

import numpy as np
import numpy.typing as npt

from trtkit.perf.transport import Failure


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
class Cut:
    """The requests that ended in a stretch of time.

    Attributes:
        start_ns: its first moment, on the clock of ``time.perf_counter_ns``.
        end_ns: the first moment after it; the next cut starts there.
        latencies_ns: of the requests that succeeded, in the order in which they ended.
        errors: the failed ones, by kind.
        client_cpu_ns: CPU time of this process, all threads.
    """

    start_ns: int
    end_ns: int
    latencies_ns: npt.NDArray[np.int64]
    errors: tuple[ErrorCount, ...]
    client_cpu_ns: int

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""
        return (self.end_ns - self.start_ns) / 1e9

    @property
    def error_count(self) -> int:
        """How many requests failed."""
        return sum(error.count for error in self.errors)


def merge_errors(cuts: list[Cut]) -> tuple[ErrorCount, ...]:
    """The errors of several cuts by kind, most frequent first, each with its first message."""
    merged: dict[str, ErrorCount] = {}
    for error in (error for cut in cuts for error in cut.errors):
        seen = merged.get(error.kind, ErrorCount(error.kind, 0, error.message))
        merged[error.kind] = ErrorCount(error.kind, seen.count + error.count, seen.message)
    return tuple(sorted(merged.values(), key=lambda error: -error.count))


class Recorder:
    """Counts the requests that end. A request belongs to the cut in which it ends."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._latencies = array("q")
        self.succeeded = self._latencies.append
        self._errors: dict[str, list[Any]] = {}
        self._start_ns, self._start_cpu_ns = perf_counter_ns(), process_time_ns()

    def failed(self, failure: Failure) -> None:
        """Count a request that failed."""
        entry = self._errors.setdefault(failure.kind, [0, failure.message])
        entry[0] += 1

    def cut(self) -> Cut:
        """End the current stretch here and start the next one, without a gap."""
        latencies, errors = self._latencies, self._errors
        start_ns, start_cpu_ns = self._start_ns, self._start_cpu_ns
        self._start()
        return Cut(
            start_ns=start_ns,
            end_ns=self._start_ns,
            latencies_ns=np.frombuffer(latencies, dtype=np.int64) if latencies else np.empty(0, np.int64),
            errors=tuple(ErrorCount(kind, count, message) for kind, (count, message) in errors.items()),
            client_cpu_ns=self._start_cpu_ns - start_cpu_ns,
        )
