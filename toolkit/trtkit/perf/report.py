# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Measurements as text for people, in milliseconds: tables, sentences, and what did not hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtkit.perf.latency import LatencyStatistics
from trtkit.perf.measurement import Measurement
from trtkit.perf.server_side import ServerFigures

if TYPE_CHECKING:
    from trtkit.perf.stages import ModelStages, Stages

_UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"

NONE = "–"
"""What a cell without a value shows."""


@dataclass(frozen=True)
class TextTable:
    """A table of ready cells; the first column says which load a row is of.

    Attributes:
        title: what it shows.
        columns: their titles, with units.
        rows: as many cells each as there are columns.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


TEXT_COLUMNS = frozenset({"", "load", "model", "longest way"})
"""Columns whose cells are words."""


def plain(text: str) -> str:
    """Text of a stranger (a model's name, a server's sentence) on one line, without what could steer a terminal."""
    return "".join(
        char if char.isprintable() else " " if char.isspace() else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def milliseconds(nanoseconds: float | None) -> str:
    """A time as a cell: three decimals below 100 ms, one above; `NONE` without a time."""
    if nanoseconds is None:
        return NONE
    return f"{nanoseconds / 1e6:.3f}" if abs(nanoseconds) < 1e8 else f"{nanoseconds / 1e6:,.1f}"


def rate(per_second: float | None) -> str:
    """A rate as a cell: whole from 100 on, three digits below."""
    if per_second is None:
        return NONE
    return f"{per_second:,.0f}" if abs(per_second) >= 100 else f"{per_second:.3g}"


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
    found += [_stage_table(measurements, stages), _ensemble_table(measurements, stages), _models(measurements)]
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
    yield from _server_cells(measurement.server)
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


def _server_cells(figures: ServerFigures | None) -> list[str]:
    if figures is None:
        return [NONE] * 3
    batch = figures.batch_size_mean
    return [milliseconds(figures.queue_ns), milliseconds(figures.compute_ns), NONE if batch is None else f"{batch:.2f}"]


def _mark(measurement: Measurement) -> str:
    if measurement.stable:
        return ""
    return "all failed" if measurement.errors and not measurement.latency else "unstable"


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


def _models(measurements: Sequence[Measurement]) -> TextTable:
    rows = [
        (
            measurement.load.label,
            f"{plain(figures.model)} (version {plain(figures.version)})",
            f"{figures.success_count:,}",
            *_server_cells(figures),
        )
        for measurement in measurements
        for figures in measurement.composing
    ]
    columns = ("load", "model", "requests", "server queue ms", "server compute ms", "avg batch")
    title = f"The models of {plain(measurements[0].load.model)}, the server's own figures"
    return TextTable(title, columns, tuple(rows))


def _stage_table(measurements: Sequence[Measurement], stages: Sequence[Stages | None]) -> TextTable:
    """Of an ensemble only what is its own; its compute times are sums over models that may run side by side."""
    rows = [
        (one.load.label, *_stage_cells(part, found))
        for one, found in zip(measurements, stages, strict=False)
        if found
        for part in (found.model, *found.parts)
    ]
    columns = ("load", "model", "client and network", "queue", "input", "infer", "output", "cache", "other", "in all")
    return TextTable("Where the time goes, mean ms", columns, tuple(rows))


def _stage_cells(part: ModelStages, whole: Stages) -> tuple[str, ...]:
    first, in_all = NONE, part.request_ns
    if part is whole.model:
        first, in_all = milliseconds(whole.client_and_network_ns), whole.latency_ns
    computing = (part.compute_input_ns, part.compute_infer_ns, part.compute_output_ns)
    times = (part.queue_ns, *computing, part.cache_ns, part.other_ns)
    cells = [NONE] * len(times) if part is whole.model and whole.ensembles else map(milliseconds, times)
    return (plain(part.model), first, *cells, milliseconds(in_all))


def _ensemble_table(measurements: Sequence[Measurement], stages: Sequence[Stages | None]) -> TextTable:
    rows = [
        (
            one.load.label,
            plain(ensemble.ensemble),
            plain(" → ".join(ensemble.critical)),
            *map(milliseconds, (ensemble.critical_ns, ensemble.sum_ns, ensemble.between_ns, ensemble.request_ns)),
        )
        for one, found in zip(measurements, stages, strict=False)
        if found
        for ensemble in found.ensembles
    ]
    columns = (
        "load",
        "model",
        "longest way",
        "longest way ms",
        "all steps added up ms",
        "between steps ms",
        "in all ms",
    )
    return TextTable("The steps of the ensemble", columns, tuple(rows))


def sentences(measurement: Measurement) -> list[str]:
    """What a reader has to know beside the numbers: why it is not stable, errors, verification, goodput, warnings."""
    lines = []
    if not measurement.stable:
        lines.append(f"not stable: {measurement.reason}")
    total = sum(window.requests + window.errors for window in measurement.windows)
    for error in measurement.errors:
        lines.append(f"{error.count:,} of {total:,} requests failed ({error.kind}), the first one: {error.message}")
    if measurement.verification:
        lines.append(measurement.verification.sentence())
    lines += [*_goodput(measurement), *measurement.warnings, *_cache(measurement.server)]
    return [plain(f"{measurement.load.label}: {line}") for line in lines]


def stage_sentences(measurements: Sequence[Measurement], stages: Sequence[Stages | None]) -> list[str]:
    """What a reader has to know beside the stages, each sentence once for all loads with it."""
    loads: dict[str, list[str]] = {}
    for one, found in zip(measurements, stages, strict=False):
        for sentence in found.sentences if found else ():
            loads.setdefault(sentence, []).append(one.load.label)
    return [plain(f"{', '.join(labels)}: {sentence}") for sentence, labels in loads.items()]


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
    if measurement.latency is None and measurement.errors:
        last, judged = measurement.errors[0], measurement.load.judged_windows
        return f"had no successful request in its last {judged} windows ({last.kind}: {last.message})"
    if not measurement.stable:
        return "is unstable"
    if measurement.verification and not measurement.verification.ok:
        return f"did not verify: {measurement.verification.sentence()}"
    if fail_on_errors and measurement.errors:
        return f"had {measurement.error_count:,} failed requests"
    return ""
