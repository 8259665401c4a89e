# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs and the sides of a comparison they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtkit.perf.loop.records import Records

if TYPE_CHECKING:
    from trtkit.perf.measurement import Measurement


@dataclass(frozen=True)
class Run:
    """One run of one side.

    Attributes:
        records: of the judged windows, failed requests too.
        start_ns: the judged windows' beginning, on the records' clock.
        end_ns: their end.
        started_at: UTC, ISO 8601; empty where unknown. It orders the runs of both sides.
        batch_size: samples in each request.
        stable: whether the measurement was.
    """

    records: Records
    start_ns: int
    end_ns: int
    started_at: str = ""
    batch_size: int = 1
    stable: bool = True

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""
        return (self.end_ns - self.start_ns) / 1e9


@dataclass(frozen=True)
class RunSide:
    """One side of a comparison: all runs of one load on one thing.

    Attributes:
        label: of the load, as `Load.label`; sides of the same label are compared.
        runs: at least one.
    """

    label: str
    runs: tuple[Run, ...]


def run_of(measurement: Measurement) -> Run:
    """A measurement as one run."""
    end_ns = measurement.start_ns + sum(window.duration_ns for window in measurement.windows)
    return Run(
        records=measurement.records,
        start_ns=end_ns - round(measurement.duration_s * 1e9),
        end_ns=end_ns,
        started_at=measurement.started_at,
        batch_size=measurement.load.batch_size,
        stable=measurement.stable,
    )
