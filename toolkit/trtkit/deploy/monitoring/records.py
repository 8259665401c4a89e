# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The recording rules: what alerts, autoscaling and dashboards read.

Every ratio is divided by rates that are greater than 0 only: without traffic there is no value, not a wrong one.
"""

from __future__ import annotations

from collections.abc import Mapping

from trtkit.deploy.monitoring.rule import Record, Series
from trtkit.deploy.monitoring.scope import (
    BY_MODEL,
    FIRST_RESPONSE,
    PENDING,
    SUMMARY,
    cached,
    decoupled,
    has_histogram,
    has_summaries,
    of_models,
    selector,
    summarized,
)
from trtkit.deploy.monitoring.timing import Timing
from trtkit.deploy.planned import Plan

FAILURES = "model:nv_inference_failure:ratio5m"
QUEUE = "model:nv_inference_queue_us:mean1m"
DURATION = "model:nv_inference_request_us:mean5m"
BATCH = "model:nv_inference_batch:mean5m"
PENDING_OF_POD = "pod:nv_inference_pending:sum"
P99 = "model:nv_inference_request_us:p99_worst_pod"
TTFT = "model:nv_inference_ttft_ms:p99_5m"
CACHE_HITS = "model:nv_cache_hit:ratio1h"


def records(plan: Plan, timing: Timing) -> list[Record]:
    """The recording rules of a plan, only of metrics that its server has."""
    names = [model.name for model in plan.models]
    rules = [_failures(plan, timing, names[0]), _queue(plan, timing, names[0]), _duration(plan, timing, names[0])]
    rules.append(_batch(plan, timing, names[0]))
    if plan.server_has_metric(PENDING):
        rules.append(_pending(plan, names[0]))
    if has_summaries(plan) and summarized(plan):
        rules.append(_p99(plan, summarized(plan)))
    if has_histogram(plan) and decoupled(plan):
        rules.append(_ttft(plan, timing, decoupled(plan)))
    if cached(plan):
        rules.append(_cache_hits(plan, timing, cached(plan)))
    return rules


def labels_of(plan: Plan, model: str, track: str = "stable") -> dict[str, str]:
    """The labels of a recorded series of a model."""
    return {"job": plan.name, "namespace": plan.namespace, "model": model, "track": track}


def server_labels(plan: Plan, model: str, track: str = "stable", **further: str) -> dict[str, str]:
    """The labels of a series that the server gives, as Prometheus stores it."""
    return {**labels_of(plan, model, track), "pod": f"{plan.name}-{track}-0", "version": "1", **further}


def traffic(labels: Mapping[str, str], success_per_s: float, failure_per_s: float) -> tuple[Series, Series]:
    """A model's successes and failures."""
    return (
        Series("nv_inference_request_success", labels, success_per_s),
        Series("nv_inference_request_failure", {**labels, "reason": "BACKEND"}, failure_per_s),
    )


def _sum(metric: str, plan: Plan, window: str, *further: str) -> str:
    return f"sum by ({BY_MODEL}) (rate({metric}{selector(plan, *further)}[{window}]))"


def _failures(plan: Plan, timing: Timing, model: str) -> Record:
    window = timing.window(300)
    success, failure = (_sum(f"nv_inference_request_{kind}", plan, window) for kind in ("success", "failure"))
    return Record(
        FAILURES,
        f"{failure}\n/ (({success}\n+ {failure}) > 0)",
        "share of requests that failed, 0 to 1; the server counts a failed request of an ensemble twice",
        traffic(server_labels(plan, model), 3.0, 1.0),
        (labels_of(plan, model), 0.25),
    )


def _queue(plan: Plan, timing: Timing, model: str) -> Record:
    return Record(
        QUEUE,
        _mean(plan, timing.window(60), "nv_inference_queue_duration_us"),
        "mean time from arrival to the start of execution, us",
        (
            *traffic(server_labels(plan, model), 4.0, 0.0),
            Series("nv_inference_queue_duration_us", server_labels(plan, model), 4000.0),
        ),
        (labels_of(plan, model), 1000.0),
    )


def _duration(plan: Plan, timing: Timing, model: str) -> Record:
    return Record(
        DURATION,
        _mean(plan, timing.window(300), "nv_inference_request_duration_us"),
        "mean time of a whole request in the server, us; answers from the cache are among them",
        (
            *traffic(server_labels(plan, model), 4.0, 0.0),
            Series("nv_inference_request_duration_us", server_labels(plan, model), 8000.0),
        ),
        (labels_of(plan, model), 2000.0),
    )


def _mean(plan: Plan, window: str, metric: str) -> str:
    return f"{_sum(metric, plan, window)}\n/ ({_sum('nv_inference_request_success', plan, window)} > 0)"


def _batch(plan: Plan, timing: Timing, model: str) -> Record:
    window = timing.window(300)
    labels = server_labels(plan, model)
    return Record(
        BATCH,
        f"{_sum('nv_inference_count', plan, window)}\n/ ({_sum('nv_inference_exec_count', plan, window)} > 0)",
        "mean batch size of an execution; answers from the cache are not executed",
        (Series("nv_inference_count", labels, 8.0), Series("nv_inference_exec_count", labels, 2.0)),
        (labels_of(plan, model), 4.0),
    )


def _pending(plan: Plan, model: str) -> Record:
    labels = server_labels(plan, model)
    return Record(
        PENDING_OF_POD,
        f"sum by (job, namespace, pod, track) ({PENDING}{selector(plan)})",
        "requests that wait for execution in a pod; what autoscaling reads",
        (Series(PENDING, labels, value=5.0),),
        ({key: labels[key] for key in ("job", "namespace", "pod", "track")}, 5.0),
    )


def _p99(plan: Plan, models: list[str]) -> Record:
    matchers = selector(plan, of_models(models), 'quantile="0.99"')
    pods = [server_labels(plan, models[0], quantile="0.99", pod=f"{plan.name}-{i}") for i in range(2)]
    return Record(
        P99,
        f"max by ({BY_MODEL}) ({SUMMARY}{matchers})",
        "99th percentile of the slowest pod over its last minute, us; no pod over a limit means that at most 1 % of "
        "all requests are",
        (Series(SUMMARY, pods[0], value=900.0), Series(SUMMARY, pods[1], value=1500.0)),
        (labels_of(plan, models[0]), 1500.0),
    )


def _ttft(plan: Plan, timing: Timing, models: list[str]) -> Record:
    matchers = selector(plan, of_models(models))
    bucket = f"{FIRST_RESPONSE}_bucket"
    labels = server_labels(plan, models[0])
    return Record(
        TTFT,
        f"histogram_quantile(0.99, sum by ({BY_MODEL}, le) (rate({bucket}{matchers}[{timing.window(300)}])))",
        "99th percentile until the first response of a stream, ms; no finer than the histogram's buckets",
        (
            Series(bucket, {**labels, "le": "100"}, 2.0),
            Series(bucket, {**labels, "le": "+Inf"}, 2.0),
        ),
        (labels_of(plan, models[0]), 99.0),
    )


def _cache_hits(plan: Plan, timing: Timing, models: list[str]) -> Record:
    window = timing.window(3600)
    matcher = of_models(models)
    hits, misses = (_sum(f"nv_cache_num_{kind}_per_model", plan, window, matcher) for kind in ("hits", "misses"))
    labels = server_labels(plan, models[0])
    return Record(
        CACHE_HITS,
        f"{hits}\n/ (({hits}\n+ {misses}) > 0)",
        "share of lookups that the response cache answered, 0 to 1",
        (Series("nv_cache_num_hits_per_model", labels, 3.0), Series("nv_cache_num_misses_per_model", labels, 1.0)),
        (labels_of(plan, models[0]), 0.75),
    )
