# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Lists of several environments, side by side: which items are the same thing, in an order that all of them have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trtkit.deploy.figure import Noted, plain

_NAMES = ("name", "alert", "record")


def identities(items: Sequence[Any]) -> list[str]:
    """What tells the items of a list apart: their names, with a number where one is there again; else their place."""
    names = [_name(item) for item in items]
    if None in names:
        return [f"[{index}]" for index in range(len(items))]
    again = [names[:index].count(name) for index, name in enumerate(names)]
    return [f"[{name}]" if not count else f"[{name} {count + 1}]" for name, count in zip(names, again, strict=True)]


def union(rows: Sequence[list[str]]) -> list[str] | None:
    """All identities in an order of which each row is a part; None where the rows contradict each other.

    Args:
        rows: the identities of each list.
    """
    found: list[str] = []
    for row in rows:
        place = 0
        for identity in row:
            if identity in found:
                place = found.index(identity) + 1
            else:
                found.insert(place, identity)
                place += 1
    agree = all([identity for identity in found if identity in row] == row for row in rows)
    return found if agree else None


def _name(item: Any) -> str | None:
    value = item.value if isinstance(item, Noted) else item
    if not isinstance(value, dict):
        return None
    return next((str(plain(value[key])) for key in _NAMES if key in value), None)
