# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The few lines wanted of a page of metrics in Prometheus's text format, version 0.0.4."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

_LABEL = re.compile(r'[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"[ \t]*(,|(?=\}))')
_LABELS_END = re.compile(r"[ \t]*\}")
_VALUE = re.compile(r"[ \t]*(\S+)(?:[ \t]+-?\d+)?[ \t\r]*")
_ESCAPE = re.compile(r"\\(.)")


class Metric(NamedTuple):
    """One line: a metric's name, its labels, its value (NaN and infinities too)."""

    name: str
    labels: dict[str, str]
    value: float


def parse_metrics(text: str, wanted: Collection[str]) -> list[Metric]:
    """The metrics with a wanted name, in the order of the page; other lines are only skipped.

    Args:
        text: the page.
        wanted: names of metrics.

    Raises:
        ValueError: a line with a wanted name is not in the format
            (https://prometheus.io/docs/instrumenting/exposition_formats).
    """
    if not wanted:
        return []
    return [_metric(line[1], line.end(2) - line.start(1)) for line in _lines_with(frozenset(wanted)).finditer(text)]


@lru_cache(maxsize=8)
def _lines_with(names: frozenset[str]) -> re.Pattern[str]:
    """One pattern for all: a page has thousands of lines when a server has a hundred models."""
    return re.compile(rf"^[ \t]*(({'|'.join(map(re.escape, sorted(names)))})[{{ \t].*)$", re.MULTILINE)


def _metric(line: str, name_end: int) -> Metric:
    labels: dict[str, str] = {}
    rest = line[name_end:].lstrip(" \t")
    if rest.startswith("{"):
        position = 1
        while label := _LABEL.match(rest, position):
            labels[label[1]] = _ESCAPE.sub(_unescaped, label[2])
            position = label.end()
        closing = _LABELS_END.match(rest, position)
        if not closing:
            raise ValueError(f"'{line[:120]}' is no line of metrics: its labels do not end")
        rest = rest[closing.end() :]
    value = _VALUE.fullmatch(rest)
    if not value:
        raise ValueError(f"'{line[:120]}' is no line of metrics: it has no value")
    try:
        return Metric(line[:name_end], labels, float(value[1]))
    except ValueError as exc:
        raise ValueError(f"'{line[:120]}' is no line of metrics: '{value[1]}' is no number") from exc


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1] if match[1] in '"\\' else match[0]
