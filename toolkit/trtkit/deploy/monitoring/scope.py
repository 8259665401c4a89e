# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Which series are of a plan, which of them its server has, and how models share an objective."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from trtkit.deploy.planned import Objective, Plan, ServedModel

Where = Literal["kubernetes", "static"]
"""With prometheus-operator and kube-state-metrics, or a Prometheus of one's own."""

FIRST_RESPONSE = "nv_inference_first_response_histogram_ms"
SUMMARY = "nv_inference_request_summary_us"
PENDING = "nv_inference_pending_request_count"
LOAD = "nv_model_load_duration_secs"
DEFAULT_BUCKETS = (100.0, 500.0, 2000.0, 5000.0)
"""Of the first-response histogram, ms; a model's `model_metrics` says others (server: docs/user_guide/metrics.md)."""
BY_MODEL = "job, namespace, model, track"
"""What the rules of models are summed by: over pods and versions."""
DCGM_JOB = "dcgm-exporter"
ENVOY_JOB = "envoy"


def selector(plan: Plan, *further: str) -> str:
    """The matchers of a plan's own series, with braces.

    The job is the plan's name: a `job_name` in static files, by `jobLabel` with prometheus-operator.
    """
    return "{" + ", ".join((f'namespace="{plan.namespace}"', f'job="{plan.name}"', *further)) + "}"


def of_models(names: Iterable[str]) -> str:
    """A matcher for these models."""
    names = list(names)
    if len(names) == 1:
        return f'model="{names[0]}"'
    return f'model=~"{"|".join(escaped(name) for name in names)}"'


def escaped(text: str) -> str:
    """Text for the regular expression of a matcher: quoted for RE2, and its backslashes once more for PromQL."""
    return re.sub(r"([.+*?()\[\]{}|^$\\])", r"\\\\\1", text)


def dcgm(plan: Plan, where: Where, metric: str) -> str:
    """A metric of dcgm-exporter for the plan's GPUs, to be aggregated.

    The exporter's own labels `namespace` and `pod` name the workload; Prometheus calls them `exported_…` unless the
    monitor honors labels, so both are asked for.
    """
    if where == "static":
        return f'{metric}{{namespace="{plan.namespace}", job="{DCGM_JOB}"}}'
    pods = f"{escaped(plan.name)}-.*"
    own = f'{metric}{{exported_namespace="{plan.namespace}", exported_pod=~"{pods}"}}'
    return f'{own} or {metric}{{namespace="{plan.namespace}", pod=~"{pods}"}}'


def pods_of(plan: Plan) -> str:
    """Matchers of the server's containers in kube-state-metrics and cAdvisor, with braces."""
    return f'{{namespace="{plan.namespace}", pod=~"{escaped(plan.name)}-.*", container="triton"}}'


def has_summaries(plan: Plan) -> bool:
    """Whether the server gives the 99th percentile of each pod."""
    quantiles = [flag for flag, _ in plan.flags if "summary_quantiles=" in flag]
    wanted = plan.spec.server.summary_latencies or _has_flag(plan, "summary_latencies=true")
    return wanted and plan.server_has_metric(SUMMARY) and all("0.99:" in flag for flag in quantiles)


def has_histogram(plan: Plan) -> bool:
    """Whether the server makes the first-response histogram."""
    return plan.server_has_metric(FIRST_RESPONSE) and _has_flag(plan, "histogram_latencies=true")


def _has_flag(plan: Plan, text: str) -> bool:
    return any(text in flag for flag, _ in plan.flags)


def decoupled(plan: Plan) -> list[str]:
    """The models with the first-response histogram: only decoupled ones have it (core: metric_model_reporter.cc)."""
    return [model.name for model in plan.models if model.decoupled]


def summarized(plan: Plan) -> list[str]:
    """The unary models with a latency summary; the server makes none for a model with the response cache."""
    return [model.name for model in plan.models if not model.decoupled and not model.cached]


def cached(plan: Plan) -> list[str]:
    """The models with the response cache."""
    return [model.name for model in plan.models if model.cached]


def routing(plan: Plan) -> list[str]:
    """The models that pass requests on to others, which they count by `variant`."""
    return [model.name for model in plan.models if model.python and model.steps]


def falling_back(plan: Plan) -> list[str]:
    """Those of the part ``fallback``: only it and ``cascade`` have a chain `models`, and only that one an `output`."""
    chains = [model for model in plan.models if model.name in routing(plan) and "models" in model.config.parameters]
    return [model.name for model in chains if "output" not in model.config.parameters]


def buckets_of(model: ServedModel) -> tuple[float, ...]:
    """The upper bounds of a model's first-response histogram, ms, rising."""
    for control in model.config.model_metrics.metric_control:
        if control.metric_identifier.family == FIRST_RESPONSE and control.histogram_options.buckets:
            return tuple(sorted(control.histogram_options.buckets))
    return DEFAULT_BUCKETS


@dataclass(frozen=True)
class Promise:
    """One limit, and the models it holds for."""

    limit: float
    models: tuple[str, ...]


def promises(plan: Plan, field: str, among: Sequence[str] | None = None) -> list[Promise]:
    """The limits that are promised, each with its models.

    Args:
        plan: whose objectives.
        field: of `Objective`, e.g. ``queue_ms``.
        among: only these models; None for all.
    """
    groups: dict[float, list[str]] = {}
    for objective in plan.objectives:
        limit = _limit(objective, field)
        if limit is not None and (among is None or objective.model in among):
            groups.setdefault(limit, []).append(objective.model)
    return [Promise(limit, tuple(models)) for limit, models in sorted(groups.items())]


def _limit(objective: Objective, field: str) -> float | None:
    value: float | None = getattr(objective, field)
    return value
