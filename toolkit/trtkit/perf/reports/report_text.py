# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What every report for people is made of: cells, tables, text that is safe to show."""

from __future__ import annotations

from dataclasses import dataclass

_UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"

NONE = "–"
"""What a cell without a value shows."""


@dataclass(frozen=True)
class TextTable:
    """A table of ready cells; the first column says which load a row is of.

    Attributes:
        title: what it shows.
        columns: their titles, with units.
        rows: as many cells each as there are columns.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


TEXT_COLUMNS = frozenset({"", "load", "model", "longest way"})
"""Columns whose cells are words."""


def plain(text: str) -> str:
    """Text of a stranger (a model's name, a server's sentence) on one line, without what could steer a terminal."""
    return "".join(
        char if char.isprintable() else " " if char.isspace() else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def milliseconds(nanoseconds: float | None) -> str:
    """A time as a cell: three decimals below 100 ms, one above; `NONE` without a time."""
    if nanoseconds is None:
        return NONE
    return f"{nanoseconds / 1e6:.3f}" if abs(nanoseconds) < 1e8 else f"{nanoseconds / 1e6:,.1f}"


def rate(per_second: float | None) -> str:
    """A rate as a cell: whole from 100 on, three digits below."""
    if per_second is None:
        return NONE
    return f"{per_second:,.0f}" if abs(per_second) >= 100 else f"{per_second:.3g}"
