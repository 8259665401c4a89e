# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Alerts on what is promised for models: failures, latency, queueing; and a canary that keeps it worse.

Nothing is promised for a model without an objective, and so nothing is alerted.
"""

from __future__ import annotations

from trtkit.deploy.monitoring.latency import latency_alerts
from trtkit.deploy.monitoring.records import (
    CACHE_HITS,
    DURATION,
    FAILURES,
    QUEUE,
    labels_of,
    server_labels,
    traffic,
)
from trtkit.deploy.monitoring.rule import Alert, Series
from trtkit.deploy.monitoring.scope import BY_MODEL, Promise, cached, falling_back, of_models, promises, selector
from trtkit.deploy.monitoring.timing import Timing
from trtkit.deploy.planned import Plan

SLOWER = 1.5
"""How many times as slow as stable a canary may be."""
SLOW_SHARE = 0.25
"""The share of the objective from which on a slower canary matters."""
COLD = 0.1
"""The hit ratio under which a response cache costs more than it saves."""


def promised_alerts(plan: Plan, timing: Timing) -> list[Alert]:
    """The alerts on objectives."""
    found = [_failures(plan, timing, promise) for promise in promises(plan, "error_ratio")]
    found += latency_alerts(plan, timing)
    found += [_queueing(plan, timing, promise) for promise in promises(plan, "queue_ms")]
    found += [_canary_failing(plan, timing, promise) for promise in promises(plan, "error_ratio")]
    found += [_canary_slower(plan, timing, promise) for promise in promises(plan, "latency_p99_ms")]
    falling = promises(plan, "error_ratio", falling_back(plan))
    found += [_fallback_used(plan, timing, promise) for promise in falling]
    return found + ([_cache_cold(plan, timing)] if cached(plan) else [])


def _failures(plan: Plan, timing: Timing, promise: Promise) -> Alert:
    model, limit = promise.models[0], promise.limit
    labels = server_labels(plan, model)
    ratio = min(0.5 + limit / 2, 2 * limit)
    return Alert(
        "ErrorRatioHigh",
        f"{FAILURES}{selector(plan, of_models(promise.models))} > {limit:g}",
        f"the objective error_ratio {limit:g}",
        timing.hold_s(300),
        "critical",
        "{{ $labels.model }} ({{ $labels.track }}): {{ $value | humanizePercentage }} of requests fail",
        f"""More than {100 * limit:g} % of the requests that the server accepted failed; promised was at
        most that. Look at the reason in nv_inference_request_failure: BACKEND is the model's own error
        (see the server's log), REJECTED a full queue or a queue timeout (too few servers), CANCELED
        clients that gave up (their deadline is too short or the server too slow), OTHER all else. A
        failed request of an ensemble counts twice, and its step's failure too; requests refused as
        malformed (HTTP 400) are not counted. After a rollout, roll back first.""",
        traffic(labels, 10 * (1 - ratio), 10 * ratio),
        traffic(labels, 10 * (1 - limit / 2), 10 * limit / 2),
        (labels_of(plan, model), ratio),
        {"objective": f"{limit:g}"},
        timing.window_s(300),
    )


def _queueing(plan: Plan, timing: Timing, promise: Promise) -> Alert:
    model, limit = promise.models[0], promise.limit

    def queue(mean_ms: float) -> tuple[Series, ...]:
        labels = server_labels(plan, model)
        return (*traffic(labels, 10.0, 0.0), Series("nv_inference_queue_duration_us", labels, 10_000 * mean_ms))

    return Alert(
        "QueueTimeHigh",
        f"{QUEUE}{selector(plan, of_models(promise.models))} / 1000 > {limit:g}",
        f"the objective queue_ms {limit:g}; the counter is in us",
        timing.hold_s(300),
        "warning",
        '{{ $labels.model }} ({{ $labels.track }}): requests wait {{ printf "%.1f" $value }} ms',
        f"""Requests wait longer than {limit:g} ms on average before they are executed: more arrives than the
        instances serve. Look whether autoscaling adds pods (or is at its maximum), whether one pod has
        most of the pending requests (clients with one gRPC channel stick to one pod), and whether
        max_queue_delay_microseconds of the dynamic batcher is the larger part of it. A full queue needs
        more pods, more instances or a queue policy that rejects early.""",
        queue(2 * limit),
        queue(limit / 2),
        (labels_of(plan, model), 2 * limit),
        {"objective": f"{limit:g} ms"},
        timing.window_s(60),
    )


def _canary_failing(plan: Plan, timing: Timing, promise: Promise) -> Alert:
    model, limit = promise.models[0], promise.limit
    canary, stable = _both_tracks(plan, FAILURES, promise)

    def both(ratio: float) -> tuple[Series, ...]:
        worse = traffic(server_labels(plan, model, "canary"), 1 - ratio, ratio)
        return (*worse, *traffic(server_labels(plan, model), 10.0, 0.0))

    return Alert(
        "CanaryFailing",
        f"{canary}\n- ignoring (track) {stable}\n> {limit:g}",
        f"as much more as the objective error_ratio {limit:g} allows in all",
        timing.hold_s(180),
        "critical",
        "{{ $labels.model }}: the canary fails {{ $value | humanizePercentage }} more often than stable",
        """The new version fails more often than the old one under the same traffic. Take the canary's weight
        to 0, then compare the reasons of nv_inference_request_failure and the logs of both tracks. With
        little traffic to the canary a single failure can be a large share.""",
        both(min(0.5 + limit / 2, 2 * limit)),
        both(limit / 2),
        (_without_track(plan, model), min(0.5 + limit / 2, 2 * limit)),
        {"objective": f"{limit:g}"},
        timing.window_s(300),
    )


def _canary_slower(plan: Plan, timing: Timing, promise: Promise) -> Alert:
    model, limit = promise.models[0], promise.limit
    canary, stable = _both_tracks(plan, DURATION, promise)
    floor = 1000 * SLOW_SHARE * limit

    def both(canary_us: float, stable_us: float) -> tuple[Series, ...]:
        rows: list[Series] = []
        for track, mean_us in (("canary", canary_us), ("stable", stable_us)):
            labels = server_labels(plan, model, track)
            rows += [*traffic(labels, 10.0, 0.0), Series("nv_inference_request_duration_us", labels, 10 * mean_us)]
        return tuple(rows)

    return Alert(
        "CanarySlower",
        f"({canary}\n/ ignoring (track) ({stable} > 0)\n> {SLOWER:g})\nand ignoring (track) {canary} > {floor:g}",
        f"{SLOWER:g} times as slow, and over {SLOW_SHARE:.0%} of the objective latency_p99_ms {limit:g}, in us",
        timing.hold_s(600),
        "warning",
        '{{ $labels.model }}: the canary takes {{ printf "%.1f" $value }} times as long as stable',
        """A request takes longer in the new version than in the old one, on average. Compare queue and
        compute time of both tracks in the dashboard: longer queues mean too few canary pods for their
        weight, longer compute another model, precision, batch size or GPU.""",
        both(4 * floor, 2 * floor),
        both(4 * floor, 3 * floor),
        (_without_track(plan, model), 2.0),
        {"objective": f"{limit:g} ms"},
        timing.window_s(300),
    )


def _both_tracks(plan: Plan, record: str, promise: Promise) -> tuple[str, ...]:
    models = of_models(promise.models)
    return tuple(record + selector(plan, models, f'track="{track}"') for track in ("canary", "stable"))


def _without_track(plan: Plan, model: str) -> dict[str, str]:
    return {key: value for key, value in labels_of(plan, model).items() if key != "track"}


def _cache_cold(plan: Plan, timing: Timing) -> Alert:
    models = cached(plan)

    def lookups(hits: float) -> tuple[Series, ...]:
        labels = server_labels(plan, models[0])
        return (
            Series("nv_cache_num_hits_per_model", labels, 10 * hits),
            Series("nv_cache_num_misses_per_model", labels, 10 * (1 - hits)),
        )

    return Alert(
        "CacheCold",
        f"{CACHE_HITS}{selector(plan, of_models(models))} < {COLD:g}",
        "below, a lookup and an insertion cost each request more than the few hits save",
        timing.hold_s(3600),
        "warning",
        "{{ $labels.model }}: the response cache answers {{ $value | humanizePercentage }} of the lookups",
        """Hardly any request is answered from the response cache, over an hour. Look at
        nv_cache_num_evictions (the cache is too small when it rises as fast as the misses), and whether
        inputs repeat at all: where they do not, take response_cache out of the model's config and save
        its memory and time.""",
        lookups(COLD / 2),
        lookups(2 * COLD),
        (labels_of(plan, models[0]), COLD / 2),
        span_s=timing.window_s(3600),
    )


def _fallback_used(plan: Plan, timing: Timing, promise: Promise) -> Alert:
    model, limit = promise.models[0], promise.limit
    labels, window = server_labels(plan, model), timing.window(300)
    matchers = selector(plan, of_models(promise.models))
    passed, good = (
        f"sum by ({BY_MODEL}) (rate({metric}{matchers}[{window}]))"
        for metric in ("trtkit_fallbacks_total", "nv_inference_request_success")
    )
    variant = {key: value for key, value in labels.items() if key != "version"}

    def passes(ratio: float) -> tuple[Series, ...]:
        passed_on = Series("trtkit_fallbacks_total", {**variant, "variant": "primary", "reason": "error"}, 10 * ratio)
        return (*traffic(labels, 10.0, 0.0), passed_on)

    return Alert(
        "FallbackUsed",
        f"{passed}\n/ ({good} > 0)\n> {limit:g}",
        f"as often as the objective error_ratio {limit:g} lets requests fail",
        timing.hold_s(300),
        "warning",
        "{{ $labels.model }} ({{ $labels.track }}): {{ $value | humanizePercentage }} of requests are passed on",
        """Clients get answers, but from the model that only stands in. Look at the reason in
        trtkit_fallbacks_total: error (the first model's own, see its log), deadline (it is too slow) or
        rest (it failed several times in a row and is left alone for a while).""",
        passes(min(0.5 + limit / 2, 2 * limit)),
        passes(limit / 2),
        (labels_of(plan, model), min(0.5 + limit / 2, 2 * limit)),
        {"objective": f"{limit:g}"},
        timing.window_s(300),
    )
