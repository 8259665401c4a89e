# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The concurrencies and request rates a user asks for, as numbers."""

from __future__ import annotations

import re
from decimal import Decimal

from trtkit.errors import ProjectError

_NUMBER = r"(\d+(?:\.\d+)?)"
_RANGE = re.compile(rf"{_NUMBER}:(?:{_NUMBER})?(?::(\*?){_NUMBER})?", re.ASCII)
_ONE = re.compile(_NUMBER, re.ASCII)
_MOST_LEVELS = 1000


def parse_levels(text: str) -> list[int]:
    """Concurrencies: ``8``, ``1,4,8``, ``1:8`` (step 1), ``1:64:8`` (step 8) or ``1:64:*2`` (doubling) as a list.

    Both ends of a range belong to it; parts may be mixed, as in ``1,4:16:4``. Repeated levels are kept once.

    Raises:
        ProjectError: anything else, a level below 1, a range that ends before it starts or never ends.
    """
    return [int(level) for level in _levels(text, _CONCURRENCY)]


def parse_rates(text: str) -> list[float]:
    """Requests per second in the same forms: ``500``, ``100.5,200``, ``100:500:100``, ``50:800:*2``.

    Steps are added in decimals, so that ``0.1:0.5:0.1`` ends at 0.5.

    Raises:
        ProjectError: as `parse_levels`; a rate must be above 0.
    """
    return [float(level) for level in _levels(text, _RATE)]


class _Kind:
    """What is asked for: its name in messages, whether it is whole, and examples."""

    def __init__(self, name: str, whole: bool, examples: str) -> None:
        self.name, self.whole, self.examples = name, whole, examples

    def wrong(self, text: str, why: str) -> ProjectError:
        return ProjectError(f"{self.name} '{text}': {why}; give {self.examples}")

    def number(self, digits: str, text: str) -> Decimal:
        if self.whole and "." in digits:
            raise self.wrong(text, f"'{digits}' is not a whole number")
        return Decimal(digits)


_CONCURRENCY = _Kind("concurrency", True, "a number (8), a list (1,4,8) or a range (1:8:1, 1:64:*2)")
_RATE = _Kind("request rate", False, "a number (500), a list (100,500) or a range (100:500:100, 50:800:*2)")


def _levels(text: str, kind: _Kind) -> list[Decimal]:
    levels: list[Decimal] = []
    for part in text.split(","):
        levels += _levels_of(part.strip(), text, kind)
    return list(dict.fromkeys(levels))


def _levels_of(part: str, text: str, kind: _Kind) -> list[Decimal]:
    if _ONE.fullmatch(part):
        return _checked([kind.number(part, text)], text, kind)
    match = _RANGE.fullmatch(part)
    if not match:
        raise kind.wrong(text, f"'{part}' is neither a number nor a range")
    if not match[2] or not float(match[2]):
        raise kind.wrong(text, f"the range '{part}' has no end; --find-capacity searches without one")
    start, end = kind.number(match[1], text), kind.number(match[2], text)
    times, step = match[3] == "*", kind.number(match[4] or "1", text)
    if start <= 0 or end < start:
        lowest = "at 1 or more" if kind.whole else "above 0"
        raise kind.wrong(text, f"the range '{part}' must start {lowest} and not end before it starts")
    if step <= (1 if times else 0):
        raise kind.wrong(text, f"the range '{part}' never ends")
    return _checked(_steps(start, end, step, times), text, kind)


def _steps(start: Decimal, end: Decimal, step: Decimal, times: bool) -> list[Decimal]:
    levels = [start]
    while len(levels) <= _MOST_LEVELS and (following := levels[-1] * step if times else levels[-1] + step) <= end:
        levels.append(following)
    return levels


def _checked(levels: list[Decimal], text: str, kind: _Kind) -> list[Decimal]:
    if min(levels) <= 0:
        raise kind.wrong(text, "it must be 1 or more" if kind.whole else "it must be above 0")
    if len(levels) > _MOST_LEVELS:
        raise kind.wrong(text, f"that is more than {_MOST_LEVELS} levels; use a larger step")
    return levels
