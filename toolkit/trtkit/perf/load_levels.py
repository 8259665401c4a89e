# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The concurrencies or request rates that a user asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from trtkit.errors import ProjectError

_NUMBER = r"\d+(?:\.\d+)?"
_PART = re.compile(rf"({_NUMBER})(?:(:)({_NUMBER})?(?::(\*?)({_NUMBER}))?)?", re.ASCII)


@dataclass(frozen=True)
class Range:
    """One part of `Levels`: both ends belong to it.

    Attributes:
        start: the first level.
        end: the last one; 0 for a range without an end, which goes on until the latency limit is passed.
        step: from each level to the next, or the factor between them.
        times: whether `step` is a factor.
    """

    start: float
    end: float
    step: float = 1.0
    times: bool = False

    def __iter__(self) -> Iterator[float]:
        for number in count():
            value = self.start * self.step**number if self.times else self.start + number * self.step
            if self.end and value > self.end * (1 + 1e-9):
                return
            yield float(f"{value:.12g}")  # 0.1 + 2 × 0.1 is 0.3


@dataclass(frozen=True)
class Levels:
    """Concurrencies or request rates to measure one after the other, or to search between."""

    parts: tuple[Range, ...]

    def __iter__(self) -> Iterator[float]:
        seen = set()
        for part in self.parts:
            for value in part:
                if value not in seen:
                    seen.add(value)
                    yield value

    @property
    def low(self) -> float:
        """The smallest level."""
        return min(part.start for part in self.parts)

    @property
    def high(self) -> float:
        """The largest one; 0 when there is no end."""
        ends = [part.end for part in self.parts]
        return 0.0 if 0.0 in ends else max(ends)


def parse_levels(text: str, what: str, *, whole: bool, open_end: bool = False) -> Levels:
    """``8``, ``1,4,8``, ``1:8`` (step 1), ``1:64:8`` or ``1:64:*2`` as levels.

    Args:
        text: what the user gave.
        what: ``concurrency`` or ``request rate``, for the sentence.
        whole: whether only whole numbers make sense.
        open_end: whether ``4:0:2`` is a range without an end.

    Raises:
        ProjectError: anything else, a level that is not above 0, a range that ends before it starts or never ends.
    """
    try:
        return Levels(tuple(_range(part.strip(), whole, open_end) for part in text.split(",")))
    except ValueError as exc:
        example = "a number (8), a list (1,4,8) or a range (1:8:1, 1:64:*2)"
        raise ProjectError(f"{what} '{text}': {exc}; give {example}") from exc


def _range(part: str, whole: bool, open_end: bool) -> Range:
    """One part; a ValueError says why it is none."""
    match = _PART.fullmatch(part)
    lowest = "1 or more" if whole else "above 0"
    if not match:
        raise ValueError(f"'{part}' is neither a number nor a range")
    if whole and "." in part:
        raise ValueError(f"'{part}' is not a whole number")
    start, times, step = float(match[1]), match[4] == "*", float(match[5] or 1)
    end = float(match[3] or 0) if match[2] else start
    if match[2] and not end and not open_end:
        raise ValueError(f"the range '{part}' has no end; --find-capacity searches without one")
    if start <= 0 and not match[2]:
        raise ValueError(f"it must be {lowest}")
    if start <= 0 or 0 < end < start:
        lowest = f"at {lowest}" if whole else lowest
        raise ValueError(f"the range '{part}' must start {lowest} and not end before it starts")
    if step <= (1 if times else 0):
        raise ValueError(f"the range '{part}' never ends")
    return Range(start, end, step, times)
