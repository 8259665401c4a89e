# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The alert on the 99th percentile, from what the server really measures for each kind of model.

Triton has no latency histogram of unary models. So the alert is made from

- a decoupled model's first-response histogram: the share of requests over the bucket at the objective, or the next
  one above it. That never fires wrongly; between the objective and that bucket it is blind, and says so;
- a unary model's latency summary: the 99th percentile of each pod, exact at any objective. If all requests together
  miss the objective at least one pod does, so none is overlooked;
- the mean, for a unary model with the response cache, for which the server makes no summary.
"""

from __future__ import annotations

from trtkit.deploy.monitoring.records import DURATION, P99, labels_of, server_labels, traffic
from trtkit.deploy.monitoring.rule import Alert, Series
from trtkit.deploy.monitoring.scope import (
    BY_MODEL,
    FIRST_RESPONSE,
    SUMMARY,
    Promise,
    buckets_of,
    has_histogram,
    has_summaries,
    of_models,
    promises,
    selector,
    summarized,
)
from trtkit.deploy.monitoring.timing import Timing
from trtkit.deploy.planned import Plan, ServedModel

_MEANING = """Look in the dashboard where the time goes: queueing (too few instances or pods), compute (a larger
batch, another GPU clock, a slower version), or input and output (large tensors; shared memory helps). After a rollout,
roll back first."""


def latency_alerts(plan: Plan, timing: Timing) -> list[Alert]:
    """Each promised latency by the best of the three ways that the server allows."""
    found: list[Alert] = []
    exact = summarized(plan) if has_summaries(plan) else []
    found += [_by_summary(plan, timing, promise) for promise in promises(plan, "latency_p99_ms", exact)]
    unary = [model.name for model in plan.models if not model.decoupled and model.name not in exact]
    found += [_by_mean(plan, timing, promise) for promise in promises(plan, "latency_p99_ms", unary)]
    for model, limit in _streams(plan) if has_histogram(plan) else []:
        bucket = bucket_over(model, limit)
        if bucket is not None:
            found.append(_by_histogram(plan, timing, model.name, limit, bucket))
    return found


def blind_spots(plan: Plan) -> list[str]:
    """What is promised and cannot be told from the server's metrics, and what to change."""
    found = []
    for model, limit in _streams(plan):
        bucket = bucket_over(model, limit)
        if not plan.server_has_metric(FIRST_RESPONSE):
            found.append(
                f"{model.name}: latency_p99_ms {limit:g} is not watched: the server has no first-response histogram "
                f"before 24.11, and this one is {plan.release}"
            )
        elif not has_histogram(plan):
            found.append(
                f"{model.name}: latency_p99_ms {limit:g} is not watched: the server makes no histogram without "
                "--metrics-config=histogram_latencies=true"
            )
        elif bucket != limit:
            seen = "nothing is watched" if bucket is None else f"the alert fires from {bucket:g} ms on"
            found.append(
                f"{model.name}: latency_p99_ms {limit:g} is no bucket of its histogram "
                f"({', '.join(f'{b:g}' for b in buckets_of(model))} ms), so {seen}; add {limit:g} to model_metrics in "
                "its config"
            )
    without = [m.name for m in plan.models if not m.decoupled and (m.cached or not has_summaries(plan))]
    for promise in promises(plan, "latency_p99_ms", without):
        found.append(
            f"{', '.join(promise.models)}: latency_p99_ms {promise.limit:g} is watched by the mean latency only: the "
            "server gives no percentile "
            + ("of a model with the response cache" if has_summaries(plan) else "without summary_latencies")
        )
    return found


def bucket_over(model: ServedModel, limit_ms: float) -> float | None:
    """The smallest bucket bound of a model's histogram that is the limit or above; None where all are below."""
    return next((bucket for bucket in buckets_of(model) if bucket >= limit_ms), None)


def _streams(plan: Plan) -> list[tuple[ServedModel, float]]:
    limits = {objective.model: objective.latency_p99_ms for objective in plan.objectives}
    pairs = [(model, limits.get(model.name)) for model in plan.models if model.decoupled]
    return [(model, limit) for model, limit in pairs if limit is not None]


def _by_summary(plan: Plan, timing: Timing, promise: Promise) -> Alert:
    model, limit = promise.models[0], promise.limit
    labels = server_labels(plan, model, quantile="0.99")
    return Alert(
        "LatencyHigh",
        f"{P99}{selector(plan, of_models(promise.models))} / 1000 > {limit:g}",
        f"the objective latency_p99_ms {limit:g}; the summary is in us",
        timing.hold_s(300),
        "critical",
        '{{ $labels.model }} ({{ $labels.track }}): p99 of the slowest pod is {{ printf "%.1f" $value }} ms',
        f"""In the slowest pod more than 1 % of the requests of the last minute took longer than {limit:g} ms
        in the server; the network is not part of it. {_MEANING} If it is one pod only, look at its node
        and its GPU.""",
        (Series(SUMMARY, labels, value=2000 * limit),),
        (Series(SUMMARY, labels, value=1000 * limit),),
        (labels_of(plan, model), 2 * limit),
        {"objective": f"{limit:g} ms"},
    )


def _by_mean(plan: Plan, timing: Timing, promise: Promise) -> Alert:
    model, limit = promise.models[0], promise.limit

    def mean(mean_ms: float) -> tuple[Series, ...]:
        labels = server_labels(plan, model)
        return (*traffic(labels, 10.0, 0.0), Series("nv_inference_request_duration_us", labels, 10_000 * mean_ms))

    return Alert(
        "MeanLatencyHigh",
        f"{DURATION}{selector(plan, of_models(promise.models))} / 1000 > {limit:g}",
        f"the objective latency_p99_ms {limit:g}, though of the mean: the server gives no percentile here",
        timing.hold_s(300),
        "critical",
        '{{ $labels.model }} ({{ $labels.track }}): a request takes {{ printf "%.1f" $value }} ms on average',
        f"""The mean time of a request in the server is over what was promised for 99 % of them, {limit:g} ms.
        The server gives no percentile of this model, so it may have been missed for a while. {_MEANING}""",
        mean(2 * limit),
        mean(limit / 2),
        (labels_of(plan, model), 2 * limit),
        {"objective": f"{limit:g} ms"},
        timing.window_s(300),
    )


def _by_histogram(plan: Plan, timing: Timing, model: str, limit: float, bucket: float) -> Alert:
    name, window = f"{FIRST_RESPONSE}_bucket", timing.window(300)

    def within(bound: str) -> str:
        return f"sum by ({BY_MODEL}) (rate({name}{selector(plan, of_models([model]), bound)}[{window}]))"

    def responses(late: float) -> tuple[Series, ...]:
        labels = server_labels(plan, model)
        return (
            Series(name, {**labels, "le": f"{bucket:g}"}, 10 * (1 - late)),
            Series(name, {**labels, "le": "+Inf"}, 10.0),
        )

    every = within('le="+Inf"')
    exact = "a bucket of the histogram" if bucket == limit else f"the next bucket above is {bucket:g} ms"
    bound = f"{bucket:g}".replace(".", "\\\\.")
    # Prometheus 3 stores the bound 100 as 100.0
    at_most = f'le="{bucket:g}"' if "." in bound else f'le=~"{bound}(\\\\.0)?"'
    return Alert(
        "FirstResponseSlow",
        f"1 - {within(at_most)}\n/ ({every} > 0)\n> 0.01",
        f"p99 is over a limit when more than 1 % is; the objective latency_p99_ms is {limit:g}: {exact}",
        timing.hold_s(300),
        "critical",
        "{{ $labels.model }} ({{ $labels.track }}): {{ $value | humanizePercentage }} of first responses take longer "
        f"than {bucket:g} ms",
        f"""More than 1 % of the streams began later than {bucket:g} ms after their request; promised are
        {limit:g} ms for 99 %. {_MEANING}""",
        responses(0.02),
        responses(0.005),
        (labels_of(plan, model), 0.02),
        {"objective": f"{limit:g} ms", "model": model},
        timing.window_s(300),
    )
