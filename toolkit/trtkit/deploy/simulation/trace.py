# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A load over time: read from a CSV file, or made by a function of time."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np

from trtkit.errors import DataError

START = datetime(2026, 1, 5, tzinfo=timezone.utc)
"""When a trace begins that does not say it: a Monday, midnight."""
LONGEST_S = 32 * 86400.0
_RATES = ("requests_per_s", "rps", "rate")
_COUNTS = ("requests", "count")
_TIMES = ("time", "timestamp")


@dataclass(frozen=True)
class Trace:
    """Requests per second over time, constant from each time to the next.

    Attributes:
        name: a file's name, or a shape's.
        start: when it begins, with a time zone.
        times: s from `start`, the first one 0, ascending; one more than there are rates: the last one is the end.
        rates: requests per second, each 0 or more.
    """

    name: str
    start: datetime
    times: tuple[float, ...]
    rates: tuple[float, ...]

    @property
    def duration_s(self) -> float:
        """From the beginning to the end, s."""
        return self.times[-1]

    @property
    def peak(self) -> float:
        """The highest rate, requests per second."""
        return max(self.rates)

    @property
    def requests(self) -> float:
        """All of them."""
        return sum(
            rate * (after - before) for rate, before, after in zip(self.rates, self.times, self.times[1:], strict=False)
        )

    def ticks(self, tick_s: float) -> list[float]:
        """The mean rate of each interval of `tick_s`; the last one may be cut short and counts as a whole."""
        number = max(1, math.ceil(self.duration_s / tick_s - 1e-9))
        done = np.concatenate([[0.0], np.cumsum(np.diff(self.times) * np.asarray(self.rates))])
        edges = np.minimum(np.arange(number + 1) * tick_s, self.duration_s)
        return [float(value) for value in np.diff(np.interp(edges, self.times, done)) / tick_s]

    def scaled(self, peak: float) -> Trace:
        """The same course with another peak, requests per second."""
        factor = peak / self.peak
        return replace(self, rates=tuple(rate * factor for rate in self.rates))


def trace_of(name: str, rate: Callable[[float], float], duration_s: float, start: datetime, step_s: float) -> Trace:
    """A trace from a function of the time in s; each step has the rate of its middle."""
    number = max(1, math.ceil(duration_s / step_s))
    times = (*(index * step_s for index in range(number)), duration_s)
    middles = ((before + after) / 2 for before, after in itertools.pairwise(times))
    return Trace(name, start, times, tuple(max(0.0, float(rate(middle))) for middle in middles))


def read_trace(path: Path, start: datetime | None = None) -> Trace:
    """Read a trace from a CSV file.

    The header names a column ``time`` (seconds, or ISO 8601 timestamps; without a zone they are UTC) and either
    ``requests_per_s`` (the rate from this time to the next) or ``requests`` (how many came in that time). The last
    row lasts as long as the one before it.

    Args:
        path: of the file.
        start: when it begins, for times in seconds; default: `START`.

    Raises:
        DataError: it cannot be read, or a line is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise DataError(f"--trace: {path} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise DataError(f"--trace: {path} is no UTF-8 text: {exc.reason} at byte {exc.start}") from exc
    rows = [(number, row) for number, row in _rows(path, text) if any(cell.strip() for cell in row)]
    if len(rows) < 3:
        raise DataError(f"{path} needs a header and at least two rows; it has {len(rows)} lines that are not empty")
    (header_line, header), *body = rows
    names = [cell.strip().lower() for cell in header]
    time_column = _column(path, header_line, names, _TIMES)
    value_column = _column(path, header_line, names, (*_RATES, *_COUNTS))
    stamps = [_time(path, line, _cell(path, line, row, time_column)) for line, row in body]
    values = [_value(path, line, _cell(path, line, row, value_column)) for line, row in body]
    times, begin = _seconds(path, [line for line, _ in body], stamps, start)
    times.append(times[-1] + (times[-1] - times[-2]))
    if times[-1] > LONGEST_S:
        raise DataError(f"{path} lasts {times[-1] / 86400:.1f} days; at most {LONGEST_S / 86400:.0f} are simulated")
    if names[value_column] in _COUNTS:
        values = [value / (times[index + 1] - times[index]) for index, value in enumerate(values)]
    if max(values) <= 0:
        raise DataError(f"{path} has no request in it: every row of column '{names[value_column]}' is 0")
    return Trace(path.name, begin, tuple(times), tuple(values))


def _rows(path: Path, text: str) -> list[tuple[int, list[str]]]:
    lines = [line if not line.lstrip().startswith("#") else "" for line in text.splitlines()]
    try:
        return [(number, next(csv.reader([line]), [])) for number, line in enumerate(lines, 1)]
    except csv.Error as exc:
        raise DataError(f"{path} is no CSV: {exc}") from exc


def _column(path: Path, line: int, names: Sequence[str], wanted: Sequence[str]) -> int:
    found = [index for index, name in enumerate(names) if name in wanted]
    if len(found) == 1:
        return found[0]
    problem = "has none of the columns" if not found else "has more than one of the columns"
    raise DataError(f"{path}:{line} {problem} {', '.join(wanted)}; its header is: {', '.join(names)}")


def _cell(path: Path, line: int, row: Sequence[str], column: int) -> str:
    if column >= len(row):
        raise DataError(f"{path}:{line} has {len(row)} columns; column {column + 1} is needed")
    return row[column].strip()


def _value(path: Path, line: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise DataError(f"{path}:{line} '{text}' is no number of requests") from None
    if not (math.isfinite(value) and value >= 0):
        raise DataError(f"{path}:{line} '{text}' requests are not possible; 0 or more are")
    return value


def _time(path: Path, line: int, text: str) -> float | datetime:
    try:
        seconds = float(text)
    except ValueError:
        return read_time(text, f"{path}:{line}")
    if not math.isfinite(seconds):
        raise DataError(f"{path}:{line} '{text}' is no time")
    return seconds


def read_time(text: str, where: str) -> datetime:
    """An ISO 8601 time; UTC where it names no zone.

    Raises:
        DataError: it is none.
    """
    try:
        stamp = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise DataError(
            f"{where} '{text}' is no time: neither seconds nor ISO 8601, e.g. 2026-01-05T08:00:00Z"
        ) from None
    return stamp if stamp.tzinfo else stamp.replace(tzinfo=timezone.utc)


def _seconds(
    path: Path, lines: Sequence[int], stamps: Sequence[float | datetime], start: datetime | None
) -> tuple[list[float], datetime]:
    """Seconds from the first row, and when that is."""
    kinds = {isinstance(stamp, datetime) for stamp in stamps}
    if len(kinds) > 1:
        first = isinstance(stamps[0], datetime)
        line = next(line for line, stamp in zip(lines, stamps, strict=True) if isinstance(stamp, datetime) != first)
        raise DataError(f"{path}:{line} mixes seconds with timestamps in column time; use one of them")
    begin = stamps[0] if isinstance(stamps[0], datetime) else start or START
    times = [
        (stamp - begin) / timedelta(seconds=1) if isinstance(stamp, datetime) else stamp - float(stamps[0])  # type: ignore[arg-type]
        for stamp in stamps
    ]
    for line, before, after in zip(lines[1:], times, times[1:], strict=False):
        if after <= before:
            raise DataError(f"{path}:{line} is not after the row before it; times have to ascend")
    return times, begin
