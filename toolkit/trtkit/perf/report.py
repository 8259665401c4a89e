# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A measurement as text for people, in milliseconds: rows of a table, sentences, and what did not hold."""

from __future__ import annotations

from collections.abc import Sequence

from trtkit.perf.latency import LatencyStatistics
from trtkit.perf.measurement import Measurement
from trtkit.perf.server_side import ServerFigures
from trtkit.perf.windows import JUDGED

COLUMNS = (
    "concurrency",
    "infer/s",
    "p50 ms",
    "p90 ms",
    "p95 ms",
    "p99 ms",
    "p99.9 ms",
    "server queue ms",
    "server compute ms",
    "avg batch",
    "errors",
    "",
)
"""One row a measurement; the server columns are the server's own figures."""

MODEL_COLUMNS = ("concurrency", "model", "requests", "server queue ms", "server compute ms", "avg batch")
"""One row for each model of an ensemble, all of it the server's own figures."""

_NONE = "–"


def row(measurement: Measurement) -> list[str]:
    """The cells of a measurement, in the order of `COLUMNS`."""
    rate = measurement.throughput_infer_per_s
    return [
        str(measurement.load.concurrency),
        f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}",
        *_latency_cells(measurement.latency),
        *_server_cells(measurement.server),
        str(measurement.error_count),
        _mark(measurement),
    ]


def _latency_cells(latency: LatencyStatistics | None) -> list[str]:
    if latency is None:
        return [_NONE] * 5
    return [_ms(ns) for ns in (latency.p50_ns, latency.p90_ns, latency.p95_ns, latency.p99_ns, latency.p99_9_ns)]


def _mark(measurement: Measurement) -> str:
    if measurement.stable:
        return ""
    return "all failed" if measurement.errors and not measurement.latency else "unstable"


def model_rows(measurement: Measurement) -> list[list[str]]:
    """The cells of each model of an ensemble, in the order of `MODEL_COLUMNS`; empty for other models."""
    return [
        [
            str(measurement.load.concurrency),
            f"{figures.model} (version {figures.version})",
            str(figures.success_count),
            *_server_cells(figures),
        ]
        for figures in measurement.composing
    ]


def _server_cells(figures: ServerFigures | None) -> list[str]:
    if figures is None:
        return [_NONE] * 3
    batch = figures.batch_size_mean
    return [_ms(figures.queue_ns), _ms(figures.compute_ns), _NONE if batch is None else f"{batch:.2f}"]


def _ms(nanoseconds: int | None) -> str:
    return _NONE if nanoseconds is None else f"{nanoseconds / 1e6:.3f}"


def sentences(measurement: Measurement) -> list[str]:
    """What a reader has to know beside the numbers: why it is not stable, the errors, the warnings."""
    lines = []
    if not measurement.stable:
        lines.append(f"not stable: {measurement.reason}")
    total = sum(window.requests + window.errors for window in measurement.windows)
    for error in measurement.errors:
        lines.append(f"{error.count:,} of {total:,} requests failed ({error.kind}), the first one: {error.message}")
    lines += measurement.warnings
    server = measurement.server
    if server and server.cache_hit_count:
        looked_up = server.cache_hit_count + server.cache_miss_count
        lines.append(
            f"the server's response cache answered {server.cache_hit_count:,} of {looked_up:,} requests; "
            "the compute time is that of the others"
        )
    return [f"concurrency {measurement.load.concurrency}: {line}" for line in lines]


def what_did_not_hold(measurements: Sequence[Measurement], fail_on_errors: bool = False) -> str:
    """Why these measurements must not be relied on, in one sentence; empty when they hold.

    Args:
        measurements: at least one.
        fail_on_errors: whether any failed request counts, besides instability and nothing but failures.
    """
    reasons = [
        f"concurrency {measurement.load.concurrency} {reason}"
        for measurement in measurements
        if (reason := _reason(measurement, fail_on_errors))
    ]
    if not reasons:
        return ""
    return f"{len(reasons)} of {len(measurements)} measurements did not hold: {'; '.join(reasons)}"


def _reason(measurement: Measurement, fail_on_errors: bool) -> str:
    if measurement.every_request_failed:
        return f"had no successful request ({measurement.errors[0].kind}: {measurement.errors[0].message})"
    if measurement.latency is None and measurement.errors:
        last = measurement.errors[0]
        return f"had no successful request in its last {JUDGED} windows ({last.kind}: {last.message})"
    if not measurement.stable:
        return "is unstable"
    if fail_on_errors and measurement.errors:
        return f"had {measurement.error_count} failed requests"
    return ""
