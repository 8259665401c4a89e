# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""When to send and what, read from files: recorded traces, perf_analyzer's intervals and its fixed schedule."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trtkit.errors import DataError, nearest
from trtkit.perf.data.input_data import read_steps

_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_TIMES = {f"timestamp{suffix}": scale for unit, scale in _UNITS.items() for suffix in (f"_{unit}",)} | {
    "timestamp": _UNITS["ms"]
}
_COLUMNS = (*_TIMES, "model", "payload", "shape")
_LONGEST_NS = 2**62
_VARIANTS = 16


class Payload(NamedTuple):
    """What a row of a trace sends.

    Attributes:
        model: the model's name; the run's own when empty.
        number: a request of the run's pool; None when the row names none.
        path: an .npz file with the inputs of one request; None when the row names none.
        shapes: ``NAME:d,d`` of random values; as many as the row gives.
        variant: rows that name neither a request nor a file take turns with this many different ones, 0 to 15.
    """

    model: str = ""
    number: int | None = None
    path: Path | None = None
    shapes: tuple[str, ...] = ()
    variant: int = 0


@dataclass(frozen=True, eq=False)
class Trace:
    """A schedule with what is sent.

    Attributes:
        offsets_ns: when each request is sent, after the start of the load, int64, ascending.
        indexes: int64, for each: a position in `payloads`; with no payloads the number of a request in the pool,
            where a number past its end starts again at the first.
        payloads: the different things that are sent; () when the rows are requests of the pool.
        origin: the file, for people.
    """

    offsets_ns: npt.NDArray[np.int64]
    indexes: npt.NDArray[np.int64]
    payloads: tuple[Payload, ...]
    origin: str

    def __len__(self) -> int:
        return len(self.offsets_ns)

    @property
    def duration_ns(self) -> int:
        """From the start of the load to the last request."""
        return int(self.offsets_ns[-1])

    @property
    def rate(self) -> float:
        """The mean of requests per second between the first and the last; 0 when they are at one time."""
        span_ns = int(self.offsets_ns[-1] - self.offsets_ns[0])
        return (len(self) - 1) / span_ns * 1e9 if span_ns else 0.0

    def faster(self, factor: float) -> Trace:
        """The same requests, `factor` times as fast (0.5: half as fast); DataError unless it is above 0."""
        if not 0 < factor < float("inf"):
            raise DataError(f"a trace cannot be played {factor:g} times as fast; give a factor above 0")
        return replace(self, offsets_ns=np.round(self.offsets_ns / factor).astype(np.int64))

    def in_pool(self, size: int) -> list[int]:
        """The request of a pool for each row, where there are no `payloads`.

        Args:
            size: how many requests the pool has.
        """
        return [int(index) % size for index in self.indexes]


def read_trace(path: Path) -> Trace:
    """A recorded trace, as .jsonl (an object in each line) or .csv with a line of names.

    Columns: ``timestamp_ns``, ``_us``, ``_ms`` or ``_s``, or ``timestamp`` in milliseconds; and, in any row,
    ``model``; ``payload``, the number of a request in the pool or an .npz file (relative to the trace's folder) with
    the inputs of one request; ``shape`` of random values, ``NAME:d,d``, several separated by ``;``. The smallest
    timestamp is the start of the load, so that clock times are as good as offsets. Rows may be in any order.

    Raises:
        DataError: the file cannot be read, has no row, or a row that is not understood; says which.
    """
    rows = list(_rows(path))
    if not rows:
        raise DataError(f"{path} has no row; give one with a timestamp for each request")
    times = [_time(where, row) for where, row in rows]
    payloads = [_payload(where, row, path.parent) for where, row in rows]
    first = min(times)
    offsets = [time - first for time in times]
    if max(offsets) > _LONGEST_NS:
        raise DataError(f"{path} is longer than a hundred years; are its timestamps in the unit of their name?")
    return _trace(offsets, payloads, str(path))


def _trace(offsets: Sequence[int], payloads: Sequence[Payload], origin: str) -> Trace:
    order = sorted(range(len(offsets)), key=offsets.__getitem__)
    times = np.array([offsets[row] for row in order], dtype=np.int64)
    if any(payload.model or payload.path or payload.shapes for payload in payloads):
        turns = _in_turns(payloads[row] for row in order)
        table = {payload: number for number, payload in enumerate(dict.fromkeys(turns))}
        return Trace(times, np.array([table[payload] for payload in turns], dtype=np.int64), tuple(table), origin)
    numbers = [payloads[row].number for row in order]
    indexes = [place if number is None else number for place, number in enumerate(numbers)]
    return Trace(times, np.array(indexes, dtype=np.int64), (), origin)


def _in_turns(payloads: Iterable[Payload]) -> list[Payload]:
    """The payloads with their variants."""
    seen: Counter[Payload] = Counter()
    made = []
    for payload in payloads:
        is_open = payload.number is None and payload.path is None
        made.append(payload._replace(variant=seen[payload] % _VARIANTS) if is_open else payload)
        seen[payload] += 1
    return made


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise DataError(f"{path} cannot be read: {exc}") from exc
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), "")
    yield from _json_rows(path, lines) if first.lstrip().startswith("{") else _csv_rows(path, text)


def _json_rows(path: Path, lines: list[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line, parse_float=Decimal)
        except (ValueError, RecursionError) as exc:
            raise DataError(f"{where} is no JSON: {exc}") from exc
        if not isinstance(row, dict):
            raise DataError(f"{where}: expected an object with a timestamp, got {line.strip()[:80]!r}")
        yield where, row


def _csv_rows(path: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text), strict=True, skipinitialspace=True)
    try:
        names = [name.strip() for name in reader.fieldnames or []]
        unknown = [name for name in names if name not in _COLUMNS]
        if not names or unknown:
            what = f"column '{unknown[0][:80]}'" if unknown else "an empty file"
            raise DataError(f"{path}: {what} is not understood; {nearest(unknown[0] if unknown else '', _COLUMNS)}")
        reader.fieldnames = names
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row:
                raise DataError(f"{where} has more values than columns; put a shape with commas in quotes")
            yield where, {name: value.strip() for name, value in row.items() if value and value.strip()}
    except csv.Error as exc:
        raise DataError(f"{path}, line {reader.line_num} is no CSV: {exc}") from exc


def _time(where: str, row: Mapping[str, Any]) -> int:
    given = [name for name in _TIMES if row.get(name) is not None]
    if len(given) != 1:
        raise DataError(
            f"{where} needs one timestamp; has {', '.join(given) or 'none'}: give one of {', '.join(_TIMES)}"
        )
    value = row[given[0]]
    try:
        if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
            raise InvalidOperation
        time_ns = Decimal(value) * _TIMES[given[0]]
        if not abs(time_ns) < 2**63:
            raise InvalidOperation
    except ArithmeticError as exc:
        raise DataError(f"{where}: {given[0]} {str(value)[:80]!r} is no time") from exc
    return round(time_ns)


def _payload(where: str, row: Mapping[str, Any], folder: Path) -> Payload:
    model, payload = row.get("model") or "", row.get("payload")
    if not isinstance(model, str):
        raise DataError(f"{where}: model {model!r:.80} is no name")
    shapes = _shapes(where, row.get("shape"))
    if payload is None:
        return Payload(model, shapes=shapes)
    if shapes:
        raise DataError(f"{where} has a payload and a shape; a shape is for random values, so give one of them")
    if isinstance(payload, str) and not (payload.isascii() and payload.isdigit()):
        if not payload.endswith(".npz"):
            raise DataError(f"{where}: payload '{payload[:80]}' is neither a number of the pool nor an .npz file")
        return Payload(model, path=folder / payload)
    if isinstance(payload, bool) or not isinstance(payload, int | str) or not 0 <= int(payload) < 2**31:
        raise DataError(f"{where}: payload {payload!r:.80} is neither a number of the pool nor an .npz file")
    return Payload(model, int(payload))


def _shapes(where: str, given: Any) -> tuple[str, ...]:
    if not given:
        return ()
    if isinstance(given, dict):
        given = [f"{name}:{','.join(map(str, sizes))}" for name, sizes in given.items() if isinstance(sizes, list)]
    texts = given.split(";") if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise DataError(f"{where}: shape {given!r:.80} is not understood; give NAME:d,d as text, or {{NAME: [d, d]}}")
    return tuple(text.strip() for text in texts)


def read_intervals(path: Path) -> tuple[int, ...]:
    """The gaps of perf_analyzer's ``--request-intervals``, in nanoseconds: one in each line, in microseconds.

    The first request is sent after the first gap; after the last gap they start again.

    Raises:
        DataError: the file cannot be read, or has a line that is no gap, or nothing but zeros.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise DataError(f"{path} cannot be read: {exc}") from exc
    gaps = [_gap(f"{path}, line {number}", line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not any(gaps):
        raise DataError(f"{path} has no gap above zero; give the microseconds between two requests in each line")
    return tuple(gaps)


def _gap(where: str, text: str) -> int:
    try:
        gap_ns = Decimal(text) * _UNITS["us"]
        if not 0 <= gap_ns <= _LONGEST_NS:
            raise InvalidOperation
    except ArithmeticError as exc:
        raise DataError(f"{where}: '{text[:80]}' is no number of microseconds") from exc
    return round(gap_ns)


def read_fixed_schedule(paths: Sequence[Path]) -> Trace:
    """perf_analyzer's ``--fixed-schedule``: the ``timestamp`` of each step of its input data, in ms after the start.

    Request i of the trace is step i of the files, so the pool is the one of `input_data_pool` with batch size 1.

    Args:
        paths: the files of ``--input-data``.

    Raises:
        DataError: a file of another form, or a step without a timestamp.
    """
    offsets: list[int] = []
    for path in paths:
        for step in [step for stream in read_steps(path).streams for step in stream]:
            offsets.append(_step_time(f"{path}, step {len(offsets)}", step.get("timestamp")))
    payloads = [Payload(number=number) for number in range(len(offsets))]
    return _trace(offsets, payloads, ", ".join(map(str, paths)))


def _step_time(where: str, given: Any) -> int:
    value = given[0] if isinstance(given, list) and len(given) == 1 else given
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LONGEST_NS / _UNITS["ms"]:
        raise DataError(f'{where} needs "timestamp": [MILLISECONDS] after the start; got {given!r:.80}')
    return round(Decimal(value) * _UNITS["ms"])
