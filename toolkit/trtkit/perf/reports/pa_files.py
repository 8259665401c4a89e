# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""perf_analyzer's two files, for scripts that read them: its CSV, and its profile export.

The columns, their order and the forms of their values are those of perf_analyzer 2.50; a column about what trtkit does
not time on its own (sending and receiving, which are part of the network's time) holds 0.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from trtkit.errors import ProjectError
from trtkit.perf.measurement import Measurement
from trtkit.perf.server.resources import GpuResources, Resources
from trtkit.perf.server.server_side import ServerFigures
from trtkit.perf.statistics.latency import percentile_of

_PERCENTILES = (50, 90, 95, 99)
_GPU_COLUMNS = ("Avg GPU Utilization", "Avg GPU Power Usage", "Max GPU Memory Usage", "Total GPU Memory")


def csv_text(
    measurements: Sequence[Measurement], *, verbose: bool = False, metrics: bool = False, percentile: int | None = None
) -> str:
    """The table of ``-f``: times in whole microseconds, rows by ascending throughput.

    Args:
        measurements: at least one, all of closed loops or all of open ones; those without a successful request are
            left out, as perf_analyzer does.
        verbose: also the columns of ``--verbose-csv``.
        metrics: with `verbose`, also the GPU's columns of ``--collect-metrics``.
        percentile: of ``--percentile``: its own column, and no ``Avg latency``.
    """
    is_open = measurements[0].load.is_open
    held = sorted((one for one in measurements if one.latency), key=lambda one: one.throughput_infer_per_s)
    caches = any(_uses_cache(one.server) for one in held)
    streams = any(one.streaming for one in held)
    columns = ["Request Rate" if is_open else "Concurrency", "Inferences/Second"]
    columns += ["Response Throughput"] if streams else []
    columns += _server_columns(caches)
    percentiles = sorted({*_PERCENTILES, *([percentile] if percentile else [])})
    columns += [f"p{number} latency" for number in percentiles]
    if verbose:
        columns += ([] if percentile else ["Avg latency"]) + ["request/response", "response wait"]
        columns += _GPU_COLUMNS if metrics else ()
    rows = []
    for one in held:
        assert one.latency
        mean_us = one.latency.mean_ns // 1000
        row = [_level(one), f"{one.throughput_infer_per_s:g}"]
        row += [f"{one.responses_per_s:g}"] if streams else []
        row += _server_cells(one.server, mean_us, caches)
        latencies = one.records.where(one.records.ok).latency_ns
        row += [str(percentile_of(latencies, 10 * number) // 1000) for number in percentiles]
        if verbose:
            row += ([] if percentile else [str(mean_us)]) + ["0", str(mean_us)]
            row += _gpu_cells(one.resources) if metrics else []
        rows.append(row)
    return _csv([columns, *rows])


def _csv(rows: Sequence[Sequence[str]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def _level(one: Measurement) -> str:
    return f"{one.load.request_rate:g}" if one.load.is_open else str(one.load.concurrency)


def _uses_cache(server: ServerFigures | None) -> bool:
    return server is not None and server.cache_hit_count + server.cache_miss_count > 0


def _server_columns(caches: bool) -> list[str]:
    columns = ["Client Send", "Network+Server Send/Recv", "Server Queue"]
    columns += [f"Server Compute {part}" for part in ("Input", "Infer", "Output")]
    return [*columns, *(["Server Cache Hit", "Server Cache Miss"] if caches else []), "Client Recv"]


def _server_cells(server: ServerFigures | None, mean_us: int, caches: bool) -> list[str]:
    """The stages in microseconds; what is left of the mean latency is the network's, as perf_analyzer counts it."""
    times: list[int | None] = [None] * 6
    if server:
        times = [server.queue_ns, server.compute_input_ns, server.compute_infer_ns, server.compute_output_ns]
        times += [server.cache_hit_ns, server.cache_miss_ns]
    stages = [(time or 0) // 1000 for time in times]
    shown = stages if caches else stages[:4]
    return ["0", str(max(mean_us - sum(shown), 0)), *map(str, shown), "0"]


def _gpu_cells(resources: Resources | None) -> list[str]:
    """Each as ``uuid:value;uuid:value;``; a GPU without the value is left out."""
    columns: tuple[Callable[[GpuResources], float | None], ...] = (
        lambda gpu: gpu.utilization_mean,
        lambda gpu: gpu.power_mean_w,
        lambda gpu: gpu.memory_used_max_bytes,
        lambda gpu: gpu.memory_total_bytes,
    )
    gpus = resources.gpus if resources else ()
    return [
        "".join(f"{gpu.uuid}:{_number(value)};" for gpu in gpus if (value := of(gpu)) is not None) for of in columns
    ]


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def composing_csvs(measurements: Sequence[Measurement], file_name: str) -> dict[str, str]:
    """The tables of an ensemble's models, by file name: ``MODEL_vVERSION.FILE``."""
    held = sorted((one for one in measurements if one.latency), key=lambda one: one.throughput_infer_per_s)
    models = dict.fromkeys((figures.model, figures.version) for one in held for figures in one.composing)
    tables = {}
    for key in models:
        caches = any(_uses_cache(figures) for one in held for figures in one.composing if _key(figures) == key)
        first = "Request Rate" if held[0].load.is_open else "Concurrency"
        rows = [[first, "Inferences/Second", *_server_columns(caches)]]
        for one in held:
            rows += [_composing_row(one, figures, caches) for figures in one.composing if _key(figures) == key]
        tables[f"{_safe(key[0])}_v{key[1]}.{file_name}"] = _csv(rows)
    return tables


def _key(figures: ServerFigures) -> tuple[str, str]:
    return figures.model, figures.version


def _safe(name: str) -> str:
    """A model's name as a part of a file's name; a name from the server must not choose a folder."""
    return "".join(char if char.isalnum() or char in "-_." else "_" for char in name)


def _composing_row(one: Measurement, figures: ServerFigures, caches: bool) -> list[str]:
    samples = one.server.inference_count if one.server else 0
    share = figures.inference_count / samples if samples else 1.0
    cells = _server_cells(figures, (figures.request_ns or 0) // 1000, caches)
    return [_level(one), f"{share * one.throughput_infer_per_s:g}", *cells]


def write_csv(
    path: Path,
    measurements: Sequence[Measurement],
    *,
    verbose: bool = False,
    metrics: bool = False,
    percentile: int | None = None,
) -> None:
    """Write the table of `csv_text`, and those of `composing_csvs` beside it.

    Raises:
        ProjectError: a file cannot be written.
    """
    table = csv_text(measurements, verbose=verbose, metrics=metrics, percentile=percentile)
    for name, text in {path.name: table, **composing_csvs(measurements, path.name)}.items():
        _write(path.with_name(name), [text])


def _write(path: Path, pieces: Sequence[str] | Iterator[str]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as stream:
            stream.writelines(pieces)
    except OSError as exc:
        raise ProjectError(f"{path} cannot be written: {exc.strerror}") from exc


def write_profile_export(
    path: Path, measurements: Sequence[Measurement], inputs: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write the file of ``--profile-export-file``: every successful request of every window, times in nanoseconds.

    Times are on the wall clock of the first window's begin; their differences are exact.

    Args:
        path: to write.
        measurements: an experiment each.
        inputs: what each request of the pool held, as JSON values by name; left empty without it.

    Raises:
        ProjectError: the file cannot be written.
    """
    _write(path, _export_pieces(measurements, inputs))


def _export_pieces(measurements: Sequence[Measurement], inputs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The document in pieces, a request each: a million requests must not be in memory as objects."""
    written = [json.dumps(dict(values), separators=(",", ":")) for values in inputs]
    yield '{"experiments":['
    for number, one in enumerate(measurements):
        load = one.load
        level = {"mode": "request_rate", "value": load.request_rate} if load.is_open else None
        level = level or {"mode": "concurrency", "value": load.concurrency}
        yield f'{"," if number else ""}{{"experiment":{json.dumps(level, separators=(",", ":"))},"requests":['
        yield from _request_pieces(one, written)
        yield f'],"window_boundaries":{json.dumps(_boundaries(one), separators=(",", ":"))}}}'
    yield '],"version":"","service_kind":"triton","endpoint":""}\n'


def _to_wall_ns(one: Measurement) -> int:
    """What to add to a time of the records for the wall clock's."""
    return int(datetime.fromisoformat(one.started_at).timestamp()) * 1_000_000_000 - one.start_ns


def _boundaries(one: Measurement) -> list[int]:
    durations = [0, *(window.duration_ns for window in one.windows)]
    return [int(end) + one.start_ns + _to_wall_ns(one) for end in np.cumsum(durations)]


def _request_pieces(one: Measurement, inputs: Sequence[str]) -> Iterator[str]:
    records, shift = one.all_records.where(one.all_records.ok), _to_wall_ns(one)
    ends = np.cumsum(records.responses)
    times = records.response_ns if records.streamed else records.last_ns
    columns = (records.sent_ns, records.sequence, records.index, ends)
    before = 0
    for row, (sent, sequence, index, end) in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        answers = [time + shift for time in times[before:end].tolist()]
        before = end
        parts = [f'"timestamp":{sent + shift}', f'"sequence_id":{sequence}' if sequence else ""]
        parts.append(f'"request_inputs":{inputs[index] if inputs else "{}"}')
        parts.append(f'"response_timestamps":{json.dumps(answers, separators=(",", ":"))}')
        parts.append(f'"response_outputs":[{",".join(["{}"] * len(answers))}]')
        yield ("," if row else "") + "{" + ",".join(part for part in parts if part) + "}"
