# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Goodput: the rate of requests that met every goal (service level objective)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trtkit.perf.loop.records import Mask, Records
from trtkit.perf.statistics.conditions import GOAL, Condition, parse

Slo = Condition
"""A goal for each request."""


@dataclass(frozen=True, slots=True)
class Goodput:
    """How many requests met every goal.

    Attributes:
        goals: as given, each in the form in which conditions are written.
        good: requests that succeeded and met every goal.
        total: requests that ended; failed ones are not good.
        per_s: good requests per second.
    """

    goals: tuple[str, ...]
    good: int
    total: int
    per_s: float

    @property
    def share(self) -> float:
        """Good ones of all, 0 to 1; 0 without any."""
        return self.good / self.total if self.total else 0.0

    def to_json(self) -> dict[str, Any]:
        """The form kept in records."""
        return {**asdict(self), "goals": list(self.goals), "share": self.share}


def parse_slos(text: str) -> tuple[Slo, ...]:
    """Goals for each request, such as ``ttft < 100 ms, itl < 20 ms, latency < 1 s``.

    Raises:
        ProjectError: a metric, unit or number that is wrong, with the ones that are available.
    """
    return parse(text, GOAL)


def goodput_of(records: Records, duration_s: float, slos: Sequence[Slo]) -> Goodput:
    """Count the requests that met every goal.

    Times are from the intended send. `itl` is a request's mean gap, (last − first) / (n − 1); a request with fewer
    than two responses has none and meets it.

    Args:
        records: all requests that ended, failed ones too.
        duration_s: the time in which they ended, above 0.
        slos: at least one goal.
    """
    good = records.ok
    for slo in slos:
        good = good & _met(records, slo)
    count = int(good.sum())
    return Goodput(tuple(str(slo) for slo in slos), count, len(records), count / duration_s)


def _met(records: Records, slo: Slo) -> Mask:
    if slo.metric == "itl":
        gaps = np.maximum(records.responses - 1, 1)
        return _compare((records.last_ns - records.first_ns) / gaps, slo) | (records.responses < 2)
    times = records.first_ns - records.intended_ns if slo.metric == "ttft" else records.intended_latency_ns
    return _compare(times, slo)


def _compare(values: npt.NDArray[Any], slo: Slo) -> Mask:
    if slo.op in {"<", "<="}:
        return values < slo.limit if slo.op == "<" else values <= slo.limit
    return values > slo.limit if slo.op == ">" else values >= slo.limit
