# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Queries: metrics that there are, and what can be asked of them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from trtkit.deploy.manifests.fileset import FileSet
from trtkit.deploy.manifests.known_triton import (
    COUNTERS,
    GAUGES,
    HISTOGRAMS,
    RATIOS,
    SUMMARIES,
    base_metric,
    is_metric,
    nearest_metric,
)
from trtkit.deploy.manifests.rule import ADVICE, WARNING, found, rule
from trtkit.deploy.manifests.values import seconds
from trtkit.deploy.releases import METRICS, has_metric
from trtkit.lint.model import Found

_NOT_DCGM = re.compile(r"nvidia_gpu_\w+|gpu_mem(ory)?_usage_percent|gpu_utilization_percent|nvidia_smi_gpu_\w+")
_INSTEAD = {
    "util": "DCGM_FI_DEV_GPU_UTIL", "duty": "DCGM_FI_DEV_GPU_UTIL", "temp": "DCGM_FI_DEV_GPU_TEMP",
    "power": "DCGM_FI_DEV_POWER_USAGE", "mem": "DCGM_FI_DEV_FB_USED / (DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE)",
}  # fmt: skip
_HTTP = re.compile(r"http_request_duration_seconds(_bucket|_sum|_count)?|http_requests_total|http_server_requests_\w+")
_LATENCY = "use nv_inference_first_response_histogram_ms_bucket or nv_inference_request_duration_us"
_CALL = r"\b({functions})\s*\(\s*({names})\s*[\[{{]"


@rule("PQL001", "gpu-metric-of-nobody")
def gpu_metric_of_nobody(files: FileSet) -> Iterator[Found]:
    """A query asks for a GPU metric that the DCGM exporter does not have.

    There are no nvidia_gpu_* and no gpu_mem_usage_percent; the exporter's names begin with DCGM_FI_, Triton's own with
    nv_gpu_. An alert on a metric that is not there never fires.

    Wrong:
        expr: nvidia_gpu_utilization > 90

    Right:
        expr: DCGM_FI_DEV_GPU_UTIL > 90
    """
    for query in files.queries:
        for word in query.names:
            if _NOT_DCGM.fullmatch(word.text):
                instead = next((name for part, name in _INSTEAD.items() if part in word.text), "a DCGM_FI_… metric")
                yield found(word, f"the DCGM exporter has no {word.text}; use {instead}")


@rule("PQL002", "http-metrics-of-triton", WARNING)
def http_metrics(files: FileSet) -> Iterator[Found]:
    """A query asks Triton for metrics of a web framework.

    Triton has no http_request_duration_seconds: latency is nv_inference_request_duration_us by
    nv_inference_request_success (a mean), and nv_inference_first_response_histogram_ms_bucket for percentiles, from
    24.11 and with --metrics-config=histogram_latencies=true.

    Wrong:
        expr: histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket{service="triton"}[5m])))

    Right:
        expr: histogram_quantile(0.99, sum by (le) (rate(nv_inference_first_response_histogram_ms_bucket[5m])))
    """
    for query in files.queries if files.about_triton or _says_triton(files) else ():
        for word in query.names:
            if _HTTP.fullmatch(word.text):
                yield found(
                    word,
                    f"Triton has no {word.text}; {_LATENCY}",
                )


def _says_triton(files: FileSet) -> bool:
    return any("triton" in query.text.lower() for query in files.queries)


@rule("PQL003", "unknown-triton-metric")
def unknown_metric(files: FileSet) -> Iterator[Found]:
    """A query asks for an nv_ metric that Triton does not have.

    Prometheus answers with nothing, without an error. Triton's counters have no _total.

    Wrong:
        expr: rate(nv_inference_requests_success_total[5m])

    Right:
        expr: rate(nv_inference_request_success[5m])
    """
    for query in files.queries:
        for word in query.names:
            # a colon is for names that recording rules give
            if word.text.startswith("nv_") and ":" not in word.text and not is_metric(word.text):
                yield found(word, f"Triton has no metric {word.text}; {nearest_metric(word.text)}")


@rule("PQL004", "histogram-without-bucket")
def histogram_without_bucket(files: FileSet) -> Iterator[Found]:
    """A percentile is taken of something that has no buckets.

    histogram_quantile needs the series that end in _bucket, with the label le; Triton's documentation prints the
    histogram's name without it. Counters and summaries have none.

    Wrong:
        expr: histogram_quantile(0.99, rate(nv_inference_first_response_histogram_ms[5m]))

    Right:
        expr: histogram_quantile(0.99, sum by (le) (rate(nv_inference_first_response_histogram_ms_bucket[5m])))
    """
    for query in files.queries:
        for word in query.names:
            if word.text in HISTOGRAMS and query.kind != "adapter":
                yield found(word, f"there is no series {word.text}; its series end in _bucket, _sum and _count")
            elif "histogram_quantile" in query.text and base_metric(word.text) in COUNTERS | SUMMARIES:
                yield found(word, f"{word.text} has no buckets; use nv_inference_first_response_histogram_ms_bucket")


@rule("PQL005", "metric-newer-than-image")
def metric_newer_than_image(files: FileSet) -> Iterator[Found]:
    """A query asks for a metric that came with a later release than the image's.

    The oldest tritonserver near the query counts, by folders, or --release. A 24.10 server has neither the histogram of
    first responses nor the load time (run).

    Wrong:
        image: nvcr.io/nvidia/tritonserver:24.10-py3
        expr: nv_model_load_duration_secs > 60

    Right:
        image: nvcr.io/nvidia/tritonserver:24.11-py3
        expr: nv_model_load_duration_secs > 60
    """
    for query in files.queries:
        release = files.release(file=query.node.file)
        for word in query.names if release else ():
            name = base_metric(word.text)
            if name in METRICS and not has_metric(release, name):
                yield found(word, f"{name} is there since {METRICS[name]}; the server is of {release}")


@rule("PQL006", "rate-of-a-gauge")
def rate_of_gauge(files: FileSet) -> Iterator[Found]:
    """rate(), irate() or increase() is taken of a gauge.

    They take every fall for a restart of a counter, and give a large, meaningless number.

    Wrong:
        expr: rate(nv_inference_pending_request_count[5m])

    Right:
        expr: avg_over_time(nv_inference_pending_request_count[5m])
    """
    names = sorted([*GAUGES, "DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_GPU_TEMP"])
    yield from _calls(
        files,
        "rate|irate|increase",
        names,
        "{name} is a gauge, and {function}() is for counters; use avg_over_time or deriv",
    )


@rule("PQL007", "delta-of-a-counter", WARNING)
def delta_of_counter(files: FileSet) -> Iterator[Found]:
    """delta(), idelta() or deriv() is taken of a counter.

    They do not know that a counter begins at 0 again when a pod restarts, and go negative. NVIDIA's example for the
    Prometheus adapter has it.

    Wrong:
        expr: delta(nv_inference_queue_duration_us[1m]) / (1 + delta(nv_inference_request_success[1m]))

    Right:
        expr: rate(nv_inference_queue_duration_us[1m]) / (rate(nv_inference_request_success[1m]) > 0)
    """
    yield from _calls(
        files,
        "delta|idelta|deriv",
        sorted(COUNTERS),
        "{name} is a counter, and {function}() goes negative at a restart; use increase or rate",
    )


def _calls(files: FileSet, functions: str, names: list[str], says: str) -> Iterator[Found]:
    pattern = re.compile(_CALL.format(functions=functions, names="|".join(names)))
    for query in files.queries:
        for match in pattern.finditer(query.text):
            yield found(query.word(match[2], match.start(2)), says.format(name=match[2], function=match[1]))


@rule("PQL008", "percent-of-a-ratio")
def percent_of_ratio(files: FileSet) -> Iterator[Found]:
    """A ratio is compared with a percentage.

    nv_gpu_utilization goes from 0 to 1, so "> 90" is never true.

    Wrong:
        expr: nv_gpu_utilization > 90

    Right:
        expr: nv_gpu_utilization > 0.9
    """
    pattern = re.compile(rf"\b({'|'.join(sorted(RATIOS))})\b[^<>*/]*?[<>]=?\s*(\d+(?:\.\d+)?)")
    for query in files.queries:
        for match in pattern.finditer(query.bare):
            if float(match[2]) > 1 and "100" not in query.bare[: match.start(1)]:
                yield found(
                    query.word(match[1], match.start(1)), f"{match[1]} goes from 0 to 1; {match[2]} is never reached"
                )


@rule("PQL009", "metric-needs-an-option", WARNING)
def metric_needs_option(files: FileSet) -> Iterator[Found]:
    """A query asks for a metric that the servers of these files do not have without an option.

    Summaries need --metrics-config=summary_latencies=true, histograms --metrics-config=histogram_latencies=true.

    Wrong:
        args: [tritonserver, --model-repository=/models]
        expr: nv_inference_queue_summary_us{quantile="0.99"}

    Right:
        args: [tritonserver, --model-repository=/models, --metrics-config=summary_latencies=true]
        expr: nv_inference_queue_summary_us{quantile="0.99"}
    """
    for query in files.queries:
        servers = [each for each in files.near(query.node.file) if each.kind in ("pod", "compose") and each.known]
        for word in query.names if servers else ():
            name = base_metric(word.text)
            option = "summary_latencies" if name in SUMMARIES else "histogram_latencies" if name in HISTOGRAMS else ""
            if option and not any(each.metrics_config(option) in ("true", "1") for each in servers):
                yield found(word, f"{name} is there only with --metrics-config={option}=true, which no server here has")


@rule("PQL010", "alert-before-models-are-loaded", WARNING, depends=True)
def alert_before_loaded(files: FileSet) -> Iterator[Found]:
    """An alert on a missing server fires while it loads its models.

    No port is open until then, so `up` is 0 and every series absent; `for` has to be longer than the load
    (--load-seconds).

    Wrong:
        expr: absent(nv_inference_request_success)
        for: 30s                                     # loading takes 120 s

    Right:
        expr: absent(nv_inference_request_success)
        for: 5m
    """
    load = files.known.load_seconds
    for query in files.queries if load is not None else ():
        missing = re.search(r"absent(_over_time)?\s*\(\s*nv_|\bup\b\s*(\{[^}]*triton[^}]*\})\s*==\s*0", query.text)
        waits = seconds(query.around["for"].text) or 0
        if query.kind == "alert" and missing and load is not None and waits < load:
            where = query.around["for"] if query.around["for"] else query.node
            yield found(where, f"`for` is {waits:g} s, and no metric is there for the {load:g} s that loading takes")


@rule("PQL011", "ratio-understated", ADVICE)
def ratio_understated(files: FileSet) -> Iterator[Found]:
    """A mean is divided by at least 1, and so is too small where there is less than one request per second.

    NVIDIA's example rules use clamp_min(rate, 1) or 1 + delta against a division by zero. `> 0` drops the empty series
    instead.

    Wrong:
        expr: rate(nv_inference_queue_duration_us[1m]) / clamp_min(rate(nv_inference_request_success[1m]), 1)

    Right:
        expr: rate(nv_inference_queue_duration_us[1m]) / (rate(nv_inference_request_success[1m]) > 0)
    """
    pattern = re.compile(
        r"/\s*(clamp_min\s*\([^,]*\b(nv_inference\w+)[^,]*,\s*1\s*\)|\(?\s*1\s*\+\s*\w+\s*\(\s*(nv_inference\w+))"
    )
    for query in files.queries:
        for match in pattern.finditer(query.text):
            says = "below one request per second the mean is understated"
            yield found(
                query.word(match[0], match.start(1)), f"{says}; divide by (rate({match[2] or match[3]}[…]) > 0)"
            )


RULES = (
    gpu_metric_of_nobody,
    http_metrics,
    unknown_metric,
    histogram_without_bucket,
    metric_newer_than_image,
    rate_of_gauge,
    delta_of_counter,
    percent_of_ratio,
    metric_needs_option,
    alert_before_loaded,
    ratio_understated,
)
