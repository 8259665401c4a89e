# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Measurements as text for people, in milliseconds: tables, sentences, and what did not hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from trtkit.perf.measurement import Measurement
from trtkit.perf.reports.report_stages import ensemble_table, stage_sentences, stage_table
from trtkit.perf.reports.report_text import NONE, TEXT_COLUMNS, TextTable, milliseconds, plain, rate
from trtkit.perf.server.server_side import ServerFigures
from trtkit.perf.statistics.latency import LatencyStatistics
from trtkit.perf.statistics.windows import all_failed

if TYPE_CHECKING:
    from trtkit.perf.server.stages import Stages

__all__ = [
    "NONE",
    "TEXT_COLUMNS",
    "TextTable",
    "half_width",
    "milliseconds",
    "plain",
    "rate",
    "sentences",
    "stage_sentences",
    "tables",
    "what_did_not_hold",
    "what_is_wrong",
]


def tables(
    measurements: Sequence[Measurement], *, data: str = "", stages: Sequence[Stages | None] = ()
) -> list[TextTable]:
    """Every table that these measurements fill: the result first, then streaming, stages, models.

    Args:
        measurements: at least one.
        data: what the requests held, for the title.
        stages: where the time went, one for each measurement; may be empty.
    """
    found = [_result(measurements, data), _streaming(measurements), _mix(measurements)]
    found += [stage_table(measurements, stages), ensemble_table(measurements, stages), _models(measurements)]
    return [table for table in found if table.rows]


def _result(measurements: Sequence[Measurement], data: str) -> TextTable:
    load = measurements[0].load
    is_open = any(measurement.load.is_open for measurement in measurements)
    columns = ["load" if is_open else "concurrency", "infer/s", "±"]
    columns += [f"{name} ms" for name in ("p50", "p90", "p95", "p99", "p99.9")]
    columns += ["p99 ms from intended time"] if is_open else []
    columns += ["server queue ms", "server compute ms", "avg batch", "errors", ""]
    title = f"{plain(load.model)} over {_protocol(load.protocol)}, batch size {load.batch_size}"
    rows = tuple(tuple(_result_cells(measurement, is_open)) for measurement in measurements)
    return TextTable(f"{title}, {plain(data)}" if data else title, tuple(columns), rows)


def _protocol(name: str) -> str:
    return {"http": "HTTP", "grpc": "GRPC", "grpc-stream": "a gRPC stream", "generate-stream": "generate_stream"}.get(
        name, name
    )


def _load_cell(measurement: Measurement) -> str:
    load = measurement.load
    if load.is_open and load.request_rate and not load.ramp_s:
        return f"{load.request_rate:g}/s"
    return load.label.removeprefix("concurrency ")


def _result_cells(measurement: Measurement, is_open: bool) -> Iterable[str]:
    yield _load_cell(measurement)
    yield rate(measurement.throughput_infer_per_s)
    yield half_width(measurement)
    yield from _latency_cells(measurement.latency)
    if is_open:
        intended = measurement.intended_latency
        yield milliseconds(intended.p99_ns if intended else None)
    yield from _own_cells(measurement)
    yield f"{measurement.error_count:,}"
    yield _mark(measurement)


def half_width(measurement: Measurement) -> str:
    """Half of the 95 % confidence interval of the throughput in inferences per second, as a cell."""
    interval = measurement.throughput_interval
    if interval is None:
        return NONE
    return rate((interval.high - interval.low) / 2 * measurement.load.batch_size)


def _latency_cells(latency: LatencyStatistics | None) -> list[str]:
    if latency is None:
        return [NONE] * 5
    values = (latency.p50_ns, latency.p90_ns, latency.p95_ns, latency.p99_ns, latency.p99_9_ns)
    return [milliseconds(value) for value in values]


def _own_cells(measurement: Measurement) -> list[str]:
    """The server's figures of the measured model.

    Nothing for a mix, and no compute time for an ensemble, whose own is the sum of steps that may run side by side;
    the tables of models and stages have what there is.
    """
    if measurement.by_model:
        return [NONE] * 3
    queue, compute, batch = _server_cells(measurement.server)
    return [queue, NONE if measurement.composing else compute, batch]


def _server_cells(figures: ServerFigures | None) -> list[str]:
    if figures is None:
        return [NONE] * 3
    batch = figures.batch_size_mean
    return [milliseconds(figures.queue_ns), milliseconds(figures.compute_ns), NONE if batch is None else f"{batch:.2f}"]


def _mark(measurement: Measurement) -> str:
    if measurement.errors and not measurement.latency:
        return "all failed"
    return "" if measurement.stable else "unstable"


def _streaming(measurements: Sequence[Measurement]) -> TextTable:
    """Times to the first response and between responses; "tokens" are responses with content."""
    columns = ("load", "TTFT p50 ms", "TTFT p99 ms", "ITL p50 ms", "ITL p99 ms", "tokens/s", "tokens/s/user")
    return TextTable(
        "Streaming: time to the first token, time between tokens (a token is a response with content)",
        (*columns, "tokens/request"),
        tuple(tuple(_streaming_cells(measurement)) for measurement in measurements if measurement.streaming),
    )


def _streaming_cells(measurement: Measurement) -> Iterable[str]:
    streaming = measurement.streaming
    assert streaming is not None
    yield measurement.load.label
    for latency in (streaming.first_response, streaming.inter_response):
        yield milliseconds(latency.p50_ns if latency else None)
        yield milliseconds(latency.p99_ns if latency else None)
    yield rate(streaming.responses_per_s)
    yield rate(streaming.responses_per_s_per_user)
    yield f"{streaming.responses_per_request_mean:.1f}"


def _mix(measurements: Sequence[Measurement]) -> TextTable:
    rows = [
        (
            measurement.load.label,
            plain(share.model),
            rate(share.requests_per_s),
            *_p50_p99(share.latency),
            f"{share.errors:,}",
        )
        for measurement in measurements
        for share in measurement.by_model
    ]
    columns = ("load", "model", "requests/s", "p50 ms", "p99 ms", "errors")
    return TextTable("By model", columns, tuple(rows))


def _p50_p99(latency: LatencyStatistics | None) -> tuple[str, str]:
    return (milliseconds(latency.p50_ns), milliseconds(latency.p99_ns)) if latency else (NONE, NONE)


def _shown_models(measurement: Measurement) -> tuple[ServerFigures, ...]:
    own = (measurement.server,) if measurement.by_model and measurement.server else ()
    return (*own, *measurement.composing)


def _models(measurements: Sequence[Measurement]) -> TextTable:
    rows = [
        (
            measurement.load.label,
            f"{plain(figures.model)} (version {plain(figures.version)})",
            f"{figures.success_count:,}",
            *_server_cells(figures),
        )
        for measurement in measurements
        for figures in _shown_models(measurement)
    ]
    columns = ("load", "model", "requests", "server queue ms", "server compute ms", "avg batch")
    title = f"The models of {plain(measurements[0].load.model)}, the server's own figures"
    return TextTable(title, columns, tuple(rows))


def sentences(measurement: Measurement) -> list[str]:
    """What a reader has to know beside the numbers: why it is not stable, errors, verification, goodput, warnings."""
    lines = []
    if measurement.interrupted:
        lines.append("interrupted: the figures are of what was measured until then")
    if not measurement.stable:
        lines.append(f"not stable: {measurement.reason}")
    total = len(measurement.all_records)
    for error in measurement.errors:
        lines.append(f"{error.count:,} of {total:,} requests failed ({error.kind}), the first one: {error.message}")
    if measurement.verification:
        lines.append(measurement.verification.sentence())
    lines += [*_goodput(measurement), *measurement.warnings, *_cache(measurement.server)]
    return [plain(f"{measurement.load.label}: {line}") for line in lines]


def _goodput(measurement: Measurement) -> Iterable[str]:
    goodput = measurement.goodput
    if goodput:
        goals = ", ".join(goodput.goals)
        yield f"{goodput.share:.2%} of {goodput.total:,} requests met {goals}: {rate(goodput.per_s)} good requests/s"


def _cache(server: ServerFigures | None) -> Iterable[str]:
    if server and server.cache_hit_count:
        looked_up = server.cache_hit_count + server.cache_miss_count
        yield (
            f"the server's response cache answered {server.cache_hit_count:,} of {looked_up:,} requests; "
            "the compute time is that of the others"
        )


def what_did_not_hold(measurements: Sequence[Measurement], fail_on_errors: bool = False) -> str:
    """Why these measurements must not be relied on, in one sentence; empty when they hold.

    Args:
        measurements: at least one.
        fail_on_errors: whether any failed request counts, besides instability and nothing but failures.
    """
    reasons = [
        f"{measurement.load.label} {reason}"
        for measurement in measurements
        if (reason := what_is_wrong(measurement, fail_on_errors))
    ]
    if not reasons:
        return ""
    return plain(f"{len(reasons)} of {len(measurements)} measurements did not hold: {'; '.join(reasons)}")


def what_is_wrong(measurement: Measurement, fail_on_errors: bool = False) -> str:
    """The rest of a sentence that begins with the load; empty when the measurement holds."""
    if measurement.every_request_failed:
        return f"had no successful request ({measurement.errors[0].kind}: {measurement.errors[0].message})"
    judged = measurement.load.judged_windows
    if all_failed(measurement.windows, judged):
        last = measurement.errors[0]
        return f"had no successful request in its last {judged} windows ({last.kind}: {last.message})"
    if not measurement.stable:
        return "is unstable"
    if measurement.verification and not measurement.verification.ok:
        return f"did not verify: {measurement.verification.sentence()}"
    if fail_on_errors and measurement.errors:
        return f"had {measurement.error_count:,} failed requests"
    return ""
