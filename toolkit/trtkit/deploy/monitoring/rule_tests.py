# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Unit tests for ``promtool test rules``: of each alert one case that fires and one that does not.

The series are computed from the thresholds, so that the tests stay right when an objective changes, and fail when a
rule is edited by hand and its test is not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from trtkit.deploy.monitoring.records import records
from trtkit.deploy.monitoring.rule import Alert, Record, Series
from trtkit.deploy.monitoring.rules import alerts
from trtkit.deploy.monitoring.scope import Where
from trtkit.deploy.monitoring.timing import Timing, duration, timing_of
from trtkit.deploy.planned import Plan
from trtkit.deploy.yaml_out import dump

_LABEL = re.compile(r"\{\{ \$labels\.(\w+) \}\}")
_SLACK = 4
"""Evaluations more than the span and the hold of a rule, for the first samples and the order of evaluation."""


def unit_test_file(plan: Plan, timing: Timing | None = None, where: Where = "static", rules: str = "rules.yml") -> str:
    """The unit tests of a plan's rules.

    Args:
        plan: what the rules are for.
        timing: as the rules have it; the plan's own where it is None.
        where: as the rules have it.
        rules: the rule file, relative to this one.
    """
    timing = timing or timing_of(plan)
    cases = [_record_test(record, timing) for record in records(plan, timing)]
    for alert in alerts(plan, timing, where):
        cases += [_alert_test(alert, timing, fires=True), _alert_test(alert, timing, fires=False)]
    return dump(
        {"rule_files": [rules], "evaluation_interval": duration(step_s(timing)), "tests": cases},
        comment=f"promtool test rules {rules.replace('.yml', '_test.yml')}",
    )


def step_s(timing: Timing) -> int:
    """Between two evaluations, s: a minute is as fine as the holds are, and four times as fast as 15 s."""
    return max(timing.interval_s, timing.hold_s(60))


def _record_test(record: Record, timing: Timing) -> dict[str, Any]:
    samples = timing.window_s(300) // timing.interval_s + 2 * _SLACK
    labels, value = record.sample
    return {
        "name": record.name,
        "interval": duration(timing.interval_s),
        "input_series": _series(record.series, timing, samples),
        "promql_expr_test": [
            {
                # rounded: a rate is a quotient of floating-point numbers
                "expr": f"round({record.name}, 0.0001)",
                "eval_time": duration(samples * timing.interval_s),
                "exp_samples": [{"labels": _shown(labels), "value": _number(value)}],
            }
        ],
    }


def _alert_test(alert: Alert, timing: Timing, *, fires: bool) -> dict[str, Any]:
    samples = math.ceil((alert.span_s + alert.hold_s + _SLACK * step_s(timing)) / timing.interval_s)
    labels, value = alert.fired
    labels = {**labels, **alert.static_labels}
    expected = {
        "exp_labels": labels,
        "exp_annotations": {key: expanded(text, labels, value) for key, text in alert.annotations.items()},
    }
    return {
        "name": f"{alert.alert_name} {'fires' if fires else 'is quiet within the limit'}",
        "interval": duration(timing.interval_s),
        "input_series": _series(alert.fires if fires else alert.quiet, timing, samples),
        "alert_rule_test": [
            {
                "eval_time": duration(samples * timing.interval_s // step_s(timing) * step_s(timing)),
                "alertname": alert.alert_name,
                "exp_alerts": [expected] if fires else [],
            }
        ],
    }


def _series(series: Sequence[Series], timing: Timing, samples: int) -> list[dict[str, Any]]:
    return [
        {
            "series": one.metric + _shown(one.labels),
            "values": f"{_number(one.value)}+{_number(one.per_s * timing.interval_s)}x{samples}",
        }
        for one in series
    ]


def _shown(labels: Mapping[str, str]) -> str:
    return "{" + ", ".join(f'{key}="{value}"' for key, value in sorted(labels.items())) + "}"


def _number(value: float) -> str | int | float:
    """A number without the noise of floating-point arithmetic, and without an exponent."""
    text = f"{value:.9f}".rstrip("0").rstrip(".")
    return int(text) if "." not in text else float(text)


def expanded(text: str, labels: Mapping[str, str], value: float) -> str:
    """An annotation as Prometheus' templates make it, for the three forms that ours have."""
    text = _LABEL.sub(lambda match: labels.get(match[1], ""), text)
    text = text.replace("{{ $value | humanizePercentage }}", f"{100 * value:.4g}%")
    text = text.replace('{{ printf "%.1f" $value }}', f"{value:.1f}")
    return text.replace("{{ $value }}", f"{value:g}")
