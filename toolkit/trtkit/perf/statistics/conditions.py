# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The language of conditions: ``p99 < 50 ms, errors < 0.1%``, read for goals, capacity searches and gates.

A condition is ``[STATISTIC] METRIC OP NUMBER UNIT``, several are separated by commas and must all hold. A
statistic (``p50`` to ``p99.99``, ``mean``, ``max``) alone is that of the latency; ``ttft`` (time to first response)
and ``itl`` (inter-response latency) alone are their p99.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from trtkit.errors import ProjectError, nearest

_PARTS = re.compile(r"([^<>=]*)(<=|>=|<|>)([^<>=]*)")
_NUMBER = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?)\s*(.*)", re.IGNORECASE | re.ASCII)
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d{1,2})?)", re.ASCII)
_SCALES = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9, "%": 0.01, "": 1.0}
_OTHER_SPELLINGS = {"µs": "us", "μs": "us", "/s": "", "infer/s": "", "requests/s": ""}
_TIMES = ("ns", "us", "ms", "s")


class Condition(NamedTuple):
    """One comparison. ``str()`` of it can be read again.

    Attributes:
        metric: ``latency``, ``ttft``, ``itl``, ``throughput``, ``errors`` or ``goodput``.
        statistic: ``p99``, ``mean``, …; empty where the metric is one number, or is judged request by request.
        op: ``<``, ``<=``, ``>`` or ``>=``.
        number: as given, in `unit`.
        unit: ``ns``, ``us``, ``ms``, ``s``, ``%``, or empty for a rate or a count.
    """

    metric: str
    statistic: str
    op: str
    number: float
    unit: str

    @property
    def name(self) -> str:
        """What is compared: ``p99``, ``p99 ttft``, ``throughput``."""
        return (
            self.statistic if self.metric == "latency" and self.statistic else f"{self.statistic} {self.metric}".strip()
        )

    @property
    def limit(self) -> float:
        """The number in nanoseconds, as a share of 1, per second, or a count."""
        return self.number * _SCALES[self.unit]

    def holds(self, value: float) -> bool:
        """Whether a value, in the unit of `limit`, keeps it."""
        return {
            "<": value < self.limit,
            "<=": value <= self.limit,
            ">": value > self.limit,
            ">=": value >= self.limit,
        }[self.op]

    def __str__(self) -> str:
        number = str(int(self.number)) if self.number.is_integer() and abs(self.number) < 1e15 else repr(self.number)
        return f"{self.name} {self.op} {number}{'' if self.unit == '%' else ' '}{self.unit}".strip()


@dataclass(frozen=True)
class Vocabulary:
    """What may be said in one place.

    Attributes:
        what: the thing being read, for messages, as in ``goodput goal``.
        example: a text that is right.
        metrics: their names, and the units of each; the empty unit is a plain number.
        statistics: those of the latency, ttft and itl; empty where every request is judged by itself.
        signed: whether the number is a change, which needs its sign.
    """

    what: str
    example: str
    metrics: Mapping[str, tuple[str, ...]]
    statistics: tuple[str, ...] = ("mean", "max")
    signed: bool = False


CAPACITY = Vocabulary(
    "capacity condition",
    "p99 < 50 ms, errors < 0.1%",
    {
        "latency": _TIMES,
        "ttft": _TIMES,
        "itl": _TIMES,
        "throughput": ("",),
        "errors": ("%", ""),
        "goodput": ("%", ""),
    },
)
"""Of ``--find-capacity``. A plain number of errors is a count, of goodput good requests per second."""

GOAL = Vocabulary(
    "goodput goal",
    "ttft < 100 ms, itl < 20 ms, latency < 1 s",
    {"latency": _TIMES, "ttft": _TIMES, "itl": _TIMES},
    statistics=(),
)
"""Of ``--goodput``: each request is good or not."""

GATE = Vocabulary(
    "gate",
    "p99 > +10%, throughput < -5%",
    {"latency": ("%",), "ttft": ("%",), "itl": ("%",), "throughput": ("%",), "errors": ("%",)},
    statistics=("mean",),
    signed=True,
)
"""Of ``--fail-if``: changes from A to B; of errors in percentage points."""


def parse(text: str, vocabulary: Vocabulary) -> tuple[Condition, ...]:
    """Read conditions.

    Raises:
        ProjectError: the first one that is wrong, and what would have been right.
    """
    if not text.strip():
        raise ProjectError(f"an empty {vocabulary.what} says nothing; write for example '{vocabulary.example}'")
    return tuple(_condition(part.strip(), vocabulary) for part in text.split(","))


def render(conditions: Sequence[Condition]) -> str:
    """A text that `parse` reads as these conditions."""
    return ", ".join(str(condition) for condition in conditions)


def per_mille(statistic: str) -> Fraction:
    """The rank of a percentile by name: 999.9 for ``p99.99``, exactly."""
    return Fraction(statistic[1:]) * 10


def streaming_metrics(conditions: Sequence[Condition]) -> tuple[str, ...]:
    """The metrics among them that only streamed answers have."""
    return tuple(dict.fromkeys(one.metric for one in conditions if one.metric in {"ttft", "itl"}))


def _condition(part: str, vocabulary: Vocabulary) -> Condition:
    parts = _PARTS.fullmatch(part)
    if not parts:
        wanted = "METRIC, one of < <= > >=, NUMBER and UNIT"
        raise ProjectError(f"{vocabulary.what} '{part}' is not {wanted}; an example is '{vocabulary.example}'")
    metric, statistic = _metric(parts[1].lower().split(), part, vocabulary)
    number, unit = _amount(parts[3].strip(), metric, part, vocabulary)
    condition = Condition(metric, statistic, parts[2], number, unit)
    _check_sign(condition, part, vocabulary)
    return condition


def _metric(words: list[str], part: str, vocabulary: Vocabulary) -> tuple[str, str]:
    """The metric and its statistic."""
    statistic = _statistic(words[0], vocabulary) if words else ""
    rest = words[1:] if statistic else words
    metric = rest[0] if rest else "latency"
    timed = metric in {"latency", "ttft", "itl"}
    if not words or len(rest) > 1 or metric not in vocabulary.metrics or (statistic and not timed):
        raise ProjectError(f"{vocabulary.what} '{part}': {_no_metric(' '.join(words), vocabulary)}")
    if timed and not statistic and vocabulary.statistics:
        if metric == "latency":
            names = ", ".join(("p99", *vocabulary.statistics))
            raise ProjectError(f"{vocabulary.what} '{part}': which statistic of the latency is meant? ({names}, …)")
        statistic = "p99"
    return metric, statistic


def _statistic(word: str, vocabulary: Vocabulary) -> str:
    """The word as a statistic; empty when it is none here."""
    percentile = _PERCENTILE.fullmatch(word)
    if percentile and vocabulary.statistics and Decimal(percentile[1]):
        return f"p{Decimal(percentile[1]).normalize():f}"
    return word if word in vocabulary.statistics else ""


def _no_metric(given: str, vocabulary: Vocabulary) -> str:
    percentiles = ("p50", "p90", "p95", "p99", "p99.9", "p99.99") if vocabulary.statistics else ()
    names = [name for name in vocabulary.metrics if name != "latency" or not vocabulary.statistics]
    return f"'{given}' is not a metric; {nearest(given, (*percentiles, *vocabulary.statistics, *names))}"


def _amount(text: str, metric: str, part: str, vocabulary: Vocabulary) -> tuple[float, str]:
    """The number and its unit."""
    found = _NUMBER.fullmatch(text)
    number = float(found[1]) if found else float("inf")
    if not found or number in {float("inf"), float("-inf")}:
        raise ProjectError(f"{vocabulary.what} '{part}': '{text}' is not a number with a unit")
    given = found[2].lower()
    unit = _OTHER_SPELLINGS.get(given, given)
    units = vocabulary.metrics[metric]
    if unit not in units:
        named = f"'{found[2]}' is not a unit of it" if found[2] else "it needs a unit"
        choice = ", ".join(unit or "none at all" for unit in units)
        raise ProjectError(f"{vocabulary.what} '{part}': {named}; available: {choice}")
    if metric == "errors" and not unit and not number.is_integer():
        raise ProjectError(f"{vocabulary.what} '{part}': a count of errors is whole; write a share with %")
    return number, unit


def _check_sign(condition: Condition, part: str, vocabulary: Vocabulary) -> None:
    number, rising = condition.number, condition.op.startswith(">")
    if not vocabulary.signed and number < 0:
        raise ProjectError(f"{vocabulary.what} '{part}': the number must not be negative")
    if vocabulary.signed and condition.holds(0.0):
        raise ProjectError(
            f"{vocabulary.what} '{part}' comes true without any change; write '> +N%' for a rise, '< -N%' for a fall"
        )
    if vocabulary.signed and (number < 0) == rising:
        raise ProjectError(f"{vocabulary.what} '{part}': a rise is written '> +N%' and a fall '< -N%'")
