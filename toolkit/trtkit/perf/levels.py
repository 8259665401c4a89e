# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The concurrencies a user asks for, as numbers."""

from __future__ import annotations

import re

from trtkit.errors import ProjectError

_RANGE = re.compile(r"(\d+):(\d+)(?::(\*?)(\d+))?")
_MOST_LEVELS = 1000


def parse_levels(text: str) -> list[int]:
    """``8``, ``1,4,8``, ``1:8`` (step 1), ``1:64:8`` (step 8) or ``1:64:*2`` (doubling) as a list.

    Both ends of a range belong to it; parts may be mixed, as in ``1,4:16:4``. Repeated levels are kept once.

    Raises:
        ProjectError: anything else, a level below 1, a range that ends before it starts or never ends.
    """
    levels: list[int] = []
    for part in text.split(","):
        levels += _levels_of(part.strip(), text)
    return list(dict.fromkeys(levels))


def _levels_of(part: str, text: str) -> list[int]:
    match = _RANGE.fullmatch(part)
    if not match and not part.isascii():
        raise _wrong(text, f"'{part}' is neither a number nor a range")
    if not match and part.isdigit():
        return _checked([int(part)], text)
    if not match:
        raise _wrong(text, f"'{part}' is neither a number nor a range")
    start, end, times, step = int(match[1]), int(match[2]), match[3] == "*", int(match[4] or 1)
    if start < 1 or end < start:
        raise _wrong(text, f"the range '{part}' must start at 1 or more and not end before it starts")
    if step < (2 if times else 1):
        raise _wrong(text, f"the range '{part}' never ends")
    if not times:
        return _checked(list(range(start, end + 1, step)[: _MOST_LEVELS + 1]), text)
    levels = [start]
    while levels[-1] * step <= end:
        levels.append(levels[-1] * step)
    return _checked(levels, text)


def _checked(levels: list[int], text: str) -> list[int]:
    if min(levels) < 1:
        raise _wrong(text, "it must be 1 or more")
    if len(levels) > _MOST_LEVELS:
        raise _wrong(text, f"that is more than {_MOST_LEVELS} levels; use a larger step")
    return levels


def _wrong(text: str, why: str) -> ProjectError:
    return ProjectError(f"concurrency '{text}': {why}; give a number (8), a list (1,4,8) or a range (1:8:1, 1:64:*2)")
