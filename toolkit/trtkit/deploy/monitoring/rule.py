# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Recording and alert rules as values, with the series that show them to be right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from trtkit.deploy.figure import Noted
from trtkit.deploy.monitoring.timing import duration

Severity = Literal["critical", "warning"]


@dataclass(frozen=True)
class Series:
    """What a metric does in a unit test.

    Attributes:
        metric: its name.
        labels: without the name.
        per_s: how much it grows each second; 0 for a gauge.
        value: what it starts with.
    """

    metric: str
    labels: Mapping[str, str]
    per_s: float = 0.0
    value: float = 0.0


@dataclass(frozen=True)
class Record:
    """A recording rule.

    Attributes:
        name: level:metric:operation, as Prometheus' documentation recommends.
        expr: PromQL.
        what: a comment beside it, with the unit.
        series: of its unit test.
        sample: the labels and the value that these series make.
    """

    name: str
    expr: str
    what: str
    series: tuple[Series, ...]
    sample: tuple[Mapping[str, str], float]

    def document(self) -> dict[str, Any]:
        """As it stands in a rule file."""
        return {"record": Noted(self.name, self.what), "expr": _block(self.expr)}


@dataclass(frozen=True)
class Alert:
    """An alert rule.

    Attributes:
        name: CamelCase, without the prefix Triton.
        expr: PromQL.
        why: where the threshold comes from; a comment beside the expression.
        hold_s: how long the condition has to hold, s; 0 for not at all.
        severity: critical: somebody has to act now; warning: in working hours.
        summary: one line, with `{{ $labels.model }}` and the like.
        description: what it means and what to look at.
        fires: series under which it fires.
        quiet: series just within the limit.
        fired: the labels of the alert that fires, without those in `labels`, and the value.
        labels: further static labels.
        span_s: of the longest range in the expression, s; the unit test waits for it.
    """

    name: str
    expr: str
    why: str
    hold_s: int
    severity: Severity
    summary: str
    description: str
    fires: tuple[Series, ...]
    quiet: tuple[Series, ...]
    fired: tuple[Mapping[str, str], float]
    labels: Mapping[str, str] = field(default_factory=dict)
    span_s: int = 0

    @property
    def alert_name(self) -> str:
        """The name in the rule file."""
        return f"Triton{self.name}"

    @property
    def static_labels(self) -> dict[str, str]:
        """The labels that the rule adds."""
        return {"severity": self.severity, **self.labels}

    @property
    def annotations(self) -> dict[str, str]:
        """What people read."""
        return {"summary": self.summary, "description": " ".join(self.description.split())}

    def document(self) -> dict[str, Any]:
        """As it stands in a rule file."""
        return {
            "alert": self.alert_name,
            "expr": Noted(_block(self.expr), self.why),
            **({"for": duration(self.hold_s)} if self.hold_s else {}),
            "labels": self.static_labels,
            "annotations": self.annotations,
        }


def _block(expr: str) -> str:
    """An expression that is written as lines of its own, without a backslash before every quote."""
    return f"{expr}\n"
