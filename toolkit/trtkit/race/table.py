# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A race as text for people, in milliseconds, and as JSON for records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trtkit.race.choose import Choice
from trtkit.race.measure import Row

_NONE = "–"


def columns(rows: Sequence[Row]) -> list[str]:
    """The heads of the table; the two latencies are those of the smallest and the largest batch."""
    times = [f"batch {size} ms" if size else "request ms" for size in _sizes(rows)]
    return ["candidate", "size", "max abs error", "metric (drop)", *times, "speed-up", "verdict"]


def table(rows: Sequence[Row], choice: Choice) -> list[list[str]]:
    """The cells of each candidate, in the order of `columns`; the speed-up is at the batch that decided."""
    return [_cells(row, choice, _sizes(rows)) for row in rows]


def remarks(rows: Sequence[Row]) -> list[str]:
    """What a reader has to know beside the table: nodes kept in FP32 with their reasons, notes, what was not timed."""
    lines = []
    for row in rows:
        lines += [f"{row.name}: {node} stays in FP32: {reason}" for node, reason in row.candidate.kept.items()]
        lines += [f"{row.name}: {note}" for note in row.candidate.notes]
        if row.untimed and not row.problem:
            lines.append(f"{row.name}: not timed: {row.untimed}")
    return lines


def to_json(rows: Sequence[Row], choice: Choice) -> dict[str, Any]:
    """Everything that was measured and decided; nanoseconds, bytes, and null for numbers that are none."""
    return {**choice.to_json(), "candidates": [row.to_json() for row in rows]}


def _sizes(rows: Sequence[Row]) -> list[int]:
    return sorted({size for row in rows for size in row.timings})


def _cells(row: Row, choice: Choice, sizes: Sequence[int]) -> list[str]:
    ratio = choice.speedups.get(row.name)
    return [
        row.name,
        _NONE if row.size_bytes is None else size_text(row.size_bytes),
        _NONE if row.max_abs is None else f"{row.max_abs:.2g}",
        _metric(row),
        *(f"{row.timings[size].median_ns / 1e6:.3f}" if size in row.timings else _NONE for size in sizes),
        _NONE if ratio is None else f"{ratio.median:.2f}",
        choice.verdicts[row.name],
    ]


def _metric(row: Row) -> str:
    if row.metric is None or row.drop is None:
        return _NONE
    return f"{row.metric:.4f} ({row.drop + 0.0:.4f})"


def size_text(size_bytes: int) -> str:
    """Bytes with a decimal unit, e.g. ``1.5 MB``."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} B"
