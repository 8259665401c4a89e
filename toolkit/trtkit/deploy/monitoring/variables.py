# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""PromQL of the dashboard: what its variables choose."""

from __future__ import annotations

from trtkit.deploy.planned import Plan


def selected(plan: Plan, *further: str) -> str:
    """The matchers of the servers' series per model, with braces."""
    chosen = ('model=~"$model"', 'version=~"$version"', 'pod=~"$pod"')
    return "{" + ", ".join((*_common(plan), *chosen, *further)) + "}"


def of_pods(plan: Plan) -> str:
    """The matchers of series that a server has once, with braces."""
    return "{" + ", ".join((*_common(plan), 'pod=~"$pod"')) + "}"


def rate(plan: Plan, metric: str) -> str:
    """The rate of a counter of the chosen models."""
    return f"rate({metric}{selected(plan)}[$__rate_interval])"


def total(by: str, expr: str) -> str:
    """Summed by labels."""
    return f"sum by ({by}) ({expr})"


def per_model(expr: str) -> str:
    """Summed by model."""
    return total("model", expr)


def _common(plan: Plan) -> tuple[str, str]:
    return ('namespace=~"$namespace"', f'job="{plan.name}"')
