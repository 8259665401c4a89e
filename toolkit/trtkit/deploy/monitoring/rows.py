# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The rows of the dashboard that every deployment has: how it is, traffic, latency, queue and batches, start, canary.

Counters in microseconds keep their unit: Grafana shows `µs` as ms or s where that is easier to read.
"""

from __future__ import annotations

from trtkit.deploy.monitoring.panel import Panel, Query, Row
from trtkit.deploy.monitoring.rows_resources import cache_row, gpu_row, host_row, kubernetes_row
from trtkit.deploy.monitoring.scope import (
    FIRST_RESPONSE,
    LOAD,
    PENDING,
    SUMMARY,
    Where,
    cached,
    decoupled,
    falling_back,
    has_histogram,
    has_summaries,
    of_models,
    promises,
    routing,
    summarized,
)
from trtkit.deploy.monitoring.variables import of_pods, per_model, rate, selected, total
from trtkit.deploy.planned import Plan

_SUCCESS, _FAILURE = "nv_inference_request_success", "nv_inference_request_failure"


def rows(plan: Plan, where: Where) -> list[Row]:
    """The rows of a plan's dashboard, only of metrics that it has."""
    found = [_overview(plan), _traffic(plan), _latency(plan), _queue(plan)]
    found += [_variants(plan)] if routing(plan) else []
    found += [cache_row(plan, where)] if cached(plan) else []
    found += [gpu_row(plan, where)] if plan.on_gpu else []
    found += [host_row(plan), _start(plan), _canary(plan)]
    return found + ([kubernetes_row(plan)] if where == "kubernetes" else [])


def _overview(plan: Plan) -> Row:
    errors = min((promise.limit for promise in promises(plan, "error_ratio")), default=None)
    mean = f"sum({rate(plan, 'nv_inference_request_duration_us')}) / (sum({rate(plan, _SUCCESS)}) > 0)"
    panels = [
        Panel(
            "Requests", "Successful and failed requests per second, over all models chosen.", "reqps",
            (Query(f"sum({rate(plan, _SUCCESS)}) + sum({rate(plan, _FAILURE)})", "requests"),), "stat", width=4,
        ),
        Panel(
            "Failed", "Share of the requests that failed.", "percentunit", (Query(_failed_share(plan), "failed"),),
            "stat", limit=errors, width=4,
        ),
        Panel(
            "Mean latency", "Mean time of a request in the server.", "µs",
            (Query(mean, "mean"),), "stat", width=4,
        ),
        Panel(
            "Servers up", "Servers that answer Prometheus; one that still loads its models does not.", "short",
            (Query(f"sum(up{of_pods(plan)})", "up"),), "stat", width=4,
        ),
        Panel(
            "Firing alerts", "Alerts of these rules that fire now; those on GPUs have no namespace.", "short",
            (Query('count(ALERTS{alertname=~"Triton.*", alertstate="firing", namespace=~"$namespace|"}) or vector(0)',
                   "firing"),),
            "stat", limit=1, width=4,
        ),
    ]  # fmt: skip
    if plan.server_has_metric(PENDING):
        queries = (Query(f"sum({PENDING}{selected(plan)})", "pending"),)
        panels.append(Panel("Waiting", "Requests that wait for execution.", "short", queries, "stat", width=4))
    return Row("Overview", tuple(panels))


def _failed_share(plan: Plan, by: str = "") -> str:
    failed, good = (f"sum{by}({rate(plan, metric)})" for metric in (_FAILURE, _SUCCESS))
    return f"{failed} / (({good} + {failed}) > 0)"


def _traffic(plan: Plan) -> Row:
    ratio = promises(plan, "error_ratio")
    reasons = "reason" if plan.server_has_metric(f"{_FAILURE}.reason") else "model"
    return Row(
        "Traffic",
        (
            Panel(
                "Successful requests", "Per model. A request of an ensemble counts for each of its steps too.", "reqps",
                (Query(per_model(rate(plan, _SUCCESS)), "{{model}}"),), stacked=True,
            ),
            Panel(
                "Failures by reason" if reasons == "reason" else "Failures",
                """BACKEND: the model's own error. REJECTED: a full queue or a queue timeout. CANCELED: the
                client gave up. OTHER: all else, and what an ensemble's step failed with, twice.""", "reqps",
                (Query(f"sum by (model, {reasons}) ({rate(plan, _FAILURE)})" if reasons == "reason"
                       else per_model(rate(plan, _FAILURE)),
                       "{{model}} {{reason}}" if reasons == "reason" else "{{model}}"),), stacked=True,
            ),
            Panel(
                "Failed share", "Failed by all requests, with the objective.", "percentunit",
                (Query(_failed_share(plan, " by (model) "), "{{model}}"), *_objectives(plan, "error_ratio")),
                limit=ratio[0].limit if len(ratio) == 1 else None,
            ),
        ),
    )  # fmt: skip


def _objectives(plan: Plan, field: str, factor: float = 1.0, among: list[str] | None = None) -> list[Query]:
    """A line for each objective of models that are chosen; none where one threshold says it for all."""
    found = promises(plan, field, among)
    if len(found) == 1:
        return []
    return [
        Query(
            f"0 * count by (model) ({_SUCCESS}{selected(plan, of_models(promise.models))}) "
            f"+ {factor * promise.limit:g}",
            "objective {{model}}",
            limit=True,
        )
        for promise in found
    ]


def _latency(plan: Plan) -> Row:
    panels = []
    if has_histogram(plan) and decoupled(plan):
        panels.append(_first_response(plan))
    if has_summaries(plan) and summarized(plan):
        panels.append(_percentiles(plan))
    mean = f"{per_model(rate(plan, 'nv_inference_request_duration_us'))} / ({per_model(rate(plan, _SUCCESS))} > 0)"
    panels.append(
        Panel("Mean request", "Mean time of a request in the server, answers from the cache included.", "µs",
              (Query(mean, "{{model}}"),)),
    )  # fmt: skip
    panels.append(_where_time_goes(plan))
    return Row("Latency", tuple(panels))


def _single(plan: Plan, field: str, factor: float, among: list[str] | None = None) -> float | None:
    found = promises(plan, field, among)
    return factor * found[0].limit if len(found) == 1 else None


def _first_response(plan: Plan) -> Panel:
    bucket = rate(plan, f"{FIRST_RESPONSE}_bucket")
    queries = tuple(
        Query(f"histogram_quantile({q / 100:g}, sum by (model, le) ({bucket}))", f"{{{{model}}}} p{q}")
        for q in (50, 99)
    )
    among = decoupled(plan)
    return Panel(
        "First response", "Time until the first response of a stream; no finer than the histogram's buckets.", "ms",
        (*queries, *_objectives(plan, "latency_p99_ms", 1.0, among)),
        limit=_single(plan, "latency_p99_ms", 1.0, among),
    )  # fmt: skip


def _percentiles(plan: Plan) -> Panel:
    among = summarized(plan)
    series = SUMMARY + selected(plan, 'quantile=~"0.5|0.99"')
    return Panel(
        "Request, slowest pod",
        """Median and 99th percentile of the pod in which it is largest, over about its last minute.
        Percentiles of pods cannot be added up; where no pod is over the objective, all requests together
        are not. The server makes none for models with the response cache.""",
        "µs",
        (
            Query(f"max by (model, quantile) ({series})", "{{model}} {{quantile}}"),
            *_objectives(plan, "latency_p99_ms", 1000.0, among),
        ),
        limit=_single(plan, "latency_p99_ms", 1000.0, among),
    )


def _where_time_goes(plan: Plan) -> Panel:
    parts = {
        "queue": "nv_inference_queue_duration_us",
        "input": "nv_inference_compute_input_duration_us",
        "infer": "nv_inference_compute_infer_duration_us",
        "output": "nv_inference_compute_output_duration_us",
    }
    good = per_model(rate(plan, _SUCCESS))
    queries = [
        Query(f"{per_model(rate(plan, metric))} / ({good} > 0)", f"{{{{model}}}} {name}")
        for name, metric in parts.items()
    ]
    return Panel(
        "Where the time goes",
        """Mean time of a request in the queue, for its input, its execution and its output, on top of each
        other; answers from the cache have only the first. Choose one model to read it.""",
        "µs",
        tuple(queries),
        stacked=True,
    )


def _queue(plan: Plan) -> Row:
    good = per_model(rate(plan, _SUCCESS))
    batch = f"{per_model(rate(plan, 'nv_inference_count'))} / ({per_model(rate(plan, 'nv_inference_exec_count'))} > 0)"
    queue = f"{per_model(rate(plan, 'nv_inference_queue_duration_us'))} / ({good} > 0)"
    panels = [
        Panel(
            "Queue time", "Mean wait of a request until it is executed, with the objective.", "µs",
            (Query(queue, "{{model}}"), *_objectives(plan, "queue_ms", 1000.0)),
            limit=_single(plan, "queue_ms", 1000.0),
        ),
        Panel(
            "Batch size", "Mean number of inferences in one execution.", "short", (Query(batch, "{{model}}"),),
        ),
    ]  # fmt: skip
    if plan.server_has_metric(PENDING):
        queries = (Query(f"sum by (pod) ({PENDING}{selected(plan)})", "{{pod}}"),)
        what = "Requests that wait in each pod. Far from equal: clients stick to their pod. Autoscaling reads this."
        panels.append(Panel("Waiting requests", what, "short", queries))
    return Row("Queue and batches", tuple(panels))


def _variants(plan: Plan) -> Row:
    """What the routing parts count; these series have no label `version`."""
    chosen = f'{of_pods(plan)[:-1]}, model=~"$model"}}'

    def counted(name: str, by: str = "model, variant") -> str:
        return f"sum by ({by}) (rate(trtkit_{name}_total{chosen}[$__rate_interval]))"

    asked, legend = counted("variant_requests"), "{{model}} {{variant}}"
    panels = [
        Panel("Requests by variant", "Where the routing models passed requests on to.", "reqps",
              (Query(asked, legend),), stacked=True),
        Panel("Failed share by variant", "Answered with an error by the model behind.", "percentunit",
              (Query(f"{counted('variant_failures')} / ({asked} > 0)", legend),), most=1),
        Panel("Mean time by variant", "As the routing model sees it, queue included.", "µs",
              (Query(f"{counted('variant_duration_us')} / ({asked} > 0)", legend),)),
    ]  # fmt: skip
    if falling_back(plan):
        queries = (Query(counted("fallbacks", "model, variant, reason"), "{{model}} {{variant}} {{reason}}"),)
        panels.append(Panel("Fallbacks", "Requests that went on to the next model, by reason.", "reqps", queries))
    return Row("Variants", tuple(panels))


def _start(plan: Plan) -> Row:
    panels = [
        Panel(
            "Up", "1 where a server answers Prometheus. None does before all its models are loaded.", "short",
            (Query(f"max by (pod, track) (up{of_pods(plan)})", "{{pod}} {{track}}"),), most=1,
        ),
    ]  # fmt: skip
    if plan.server_has_metric(LOAD):
        queries = (Query(f"max by (pod, model, version) ({LOAD}{selected(plan)})", "{{pod}} {{model}} {{version}}"),)
        what = (
            f"Time to load each model; a start may take {plan.startup.budget.text} in all ({plan.startup.budget.why})."
        )
        panels.append(Panel("Load time", what, "s", queries, limit=float(plan.startup.budget.value)))
    return Row("Start", tuple(panels))


def _canary(plan: Plan) -> Row:
    by = "model, track"
    good = total(by, rate(plan, _SUCCESS))
    mean = f"{total(by, rate(plan, 'nv_inference_request_duration_us'))} / ({good} > 0)"
    queue = f"{total(by, rate(plan, 'nv_inference_queue_duration_us'))} / ({good} > 0)"
    legend = "{{model}} {{track}}"
    return Row(
        "Canary against stable",
        (
            Panel("Requests by track", "Whether the canary gets the share it should.", "reqps", (Query(good, legend),),
                  width=6),
            Panel("Failed share by track", "With little traffic one failure is a large share.", "percentunit",
                  (Query(_failed_share(plan, f" by ({by}) "), legend),), width=6),
            Panel("Mean request by track", "Mean time in the server.", "µs", (Query(mean, legend),), width=6),
            Panel("Queue time by track", "Longer in the canary: it has too few pods for its share.", "µs",
                  (Query(queue, legend),), width=6),
        ),
    )  # fmt: skip
