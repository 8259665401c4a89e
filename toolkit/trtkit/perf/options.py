# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Everything that can be asked of a load test, as plain values; and the loads that follow from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trtkit.perf.load_levels import Levels, Range

STREAMS = ("grpc-stream", "generate-stream")
"""The protocols over which a request may have several responses."""

# where a search for the capacity ends that was given no range
_SEARCHED_TO = 1024
_TIMED = {"trace": "trace", "fixed_schedule": "schedule", "schedule_s": "schedule", "intervals": "intervals"}


@dataclass(frozen=True)
class Point:
    """One load of a run; the fields are those of `Load`.

    Attributes:
        concurrency: requests in flight of a closed loop; 0 in an open one.
        request_rate: requests per second of an open loop; 0 in a closed one, and where a file says the times.
        arrival: "" (closed loop), constant, poisson, intervals, schedule, trace or periodic.
        ramp_from: the load at the start, rising evenly to the other one; without `ramp_s` it has no meaning.
        ramp_s: the seconds in which it rises; 0 for a load that is constant.
    """

    concurrency: int = 0
    request_rate: float = 0.0
    arrival: str = ""
    ramp_from: float = 0.0
    ramp_s: float = 0.0


@dataclass(frozen=True)
class Search:
    """A search for the highest load that holds.

    Attributes:
        condition: in the language of `conditions`.
        by_rate: whether request rates are searched, and not concurrencies.
        low: where it starts.
        high: where it ends.
        step: smaller differences are not looked at; 0 leaves that to the search.
    """

    condition: str
    by_rate: bool
    low: float
    high: float
    step: float


@dataclass(frozen=True)
class ServerUrls:
    """Where the server is that is measured.

    Attributes:
        http: as `parse_address` takes it; the same as `grpc` when the user gave one URL.
        grpc: likewise.
        metrics: HOST:PORT/PATH, with or without a scheme; empty when nobody asked for them.
        pid: of the embedded server, whose memory and CPU are then known; None for another.
    """

    http: str
    grpc: str
    metrics: str = ""
    pid: int | None = None


@dataclass(frozen=True)
class Options:
    """What is asked of a load test. Names end in their unit; tuples are () and files None where nothing was asked.

    Attributes that do not say themselves:
        mix: several models at once, with their shares of the requests; `model` is then in it.
        composing: models behind a BLS model, with versions, whose statistics are asked for too.
        url: of a running server; empty for an embedded one.
        fixed_schedule: the times are those in the files of `input_data`.
        schedule_s: when to send each request, from the start.
        periodic: concurrency from, to, step; the next step is when each request of the last had `request_period`
            responses.
        latency_limit_ms: no further level after one above it; 0 for none.
        duration_s: measure exactly so long; 0 until stable.
        requests: measure exactly so many; 0 for no such end.
        warmup_requests: the warm-up ends after so many requests and not after `warmup_s`; 0 for by time.
        window_requests: a window holds at least so many requests and lasts at least a second; 0 for `window_s`.
        stability: 0.1 for 10 %.
        percentile: that of the latency that has to be stable; None for p90.
        processes: of the client; 0 for as many as a calibration finds necessary.
        string_length: bytes of each random string.
        sequence_length: requests in a sequence; 0 for 20, or as many as the data of one have.
        sequence_ids: the first, and the one after the last; None for no end.
        metrics_url: of a server that is not embedded; empty asks for no metrics.
        trace_settings: names and values for the server's own tracing.
        tolerance: relative and absolute, for `verify`; None for that of each output's data type.
    """

    model: str = ""
    version: str = ""
    mix: tuple[tuple[str, float], ...] = ()
    composing: tuple[tuple[str, str], ...] = ()
    outputs: tuple[str, ...] = ()
    url: str = ""
    project: Path | None = None
    repository: Path | None = None

    concurrency: Levels | None = None
    request_rate: Levels | None = None
    arrival: str = "constant"
    intervals: Path | None = None
    schedule_s: tuple[float, ...] = ()
    trace: Path | None = None
    fixed_schedule: bool = False
    periodic: tuple[int, int, int] | None = None
    request_period: int = 10
    ramp_s: float = 0.0
    max_in_flight: int = 0
    processes: int = 0
    find_capacity: str = ""
    latency_limit_ms: float = 0.0

    duration_s: float = 0.0
    requests: int = 0
    warmup_s: float = 1.0
    warmup_requests: int = 0
    window_s: float = 1.0
    window_requests: int = 0
    windows: int = 5
    max_windows: int = 20
    stability: float = 0.1
    percentile: int | None = None
    timeout_s: float = 30.0
    metrics_url: str = ""
    metrics_interval_s: float = 1.0
    trace_settings: tuple[tuple[str, tuple[str, ...]], ...] = ()

    batch_size: int = 1
    shapes: tuple[str, ...] = ()
    ranges: tuple[str, ...] = ()
    input: Path | None = None
    input_data: tuple[str, ...] = ()
    images: Path | None = None
    texts: Path | None = None
    calibration: bool = False
    unique: bool = False
    string_length: int = 128
    string_data: str = ""
    seed: int = 0

    protocol: str = "http"
    shared_memory: str = "none"
    output_shared_memory_size: int = 102_400
    headers: tuple[tuple[str, str], ...] = ()
    compression: str = ""
    response_compression: str = ""
    input_format: str = "binary"
    output_format: str = "binary"
    request_parameters: tuple[tuple[str, bool | int | float | str], ...] = ()
    tls: bool = False
    tls_ca: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_verify: bool = True

    sequence_length: int = 0
    sequence_length_variation: float = 0.2
    concurrent_sequences: int = 4
    sequence_ids: tuple[int, int | None] = (1, None)

    goodput: str = ""
    verify: bool = False
    tolerance: tuple[float, float] | None = None
    diagnose: bool = False
    fail_on_errors: bool = False
    baseline: Path | None = None
    fail_if: str = ""

    html: Path | None = None
    csv: Path | None = None
    verbose_csv: bool = False
    junit: Path | None = None
    profile_export: Path | None = None
    bundle: Path | None = None
    report: Path | None = None
    as_json: bool = False
    verbose: int = 0

    @property
    def wire(self) -> str:
        """``http`` or ``grpc``: whose port the protocol uses."""
        return "grpc" if self.protocol.startswith("grpc") else "http"

    @property
    def models(self) -> tuple[tuple[str, float], ...]:
        """The models with their shares of the requests."""
        alone = () if not self.model or self.model in dict(self.mix) else ((self.model, 1.0),)
        return (*alone, *self.mix)


def loads(options: Options) -> Iterator[Point]:
    """The loads to measure, in their order; without an end where the last range has none.

    A search for the capacity (see `search`) has none, because each of its loads follows from the last result.
    """
    if options.find_capacity:
        return
    for name, arrival in _TIMED.items():
        if getattr(options, name):
            yield Point(arrival=arrival)
            return
    if options.periodic:
        yield Point(concurrency=options.periodic[1], arrival="periodic", ramp_from=options.periodic[0])
        return
    rates = options.request_rate
    levels = rates or options.concurrency or Levels((Range(1, 1),))
    if options.ramp_s:
        low = levels.low if levels.low < levels.high else (0.0 if rates else 1.0)
        yield _point(options, levels.high, ramp_from=low, ramp_s=options.ramp_s)
        return
    yield from (_point(options, value) for value in levels)


def _point(options: Options, value: float, ramp_from: float = 0.0, ramp_s: float = 0.0) -> Point:
    if options.request_rate:
        return Point(request_rate=value, arrival=options.arrival, ramp_from=ramp_from, ramp_s=ramp_s)
    return Point(concurrency=round(value), ramp_from=ramp_from, ramp_s=ramp_s)


def search(options: Options) -> Search | None:
    """The search for the capacity, or None when none was asked for."""
    if not options.find_capacity:
        return None
    levels = options.request_rate or options.concurrency
    if levels is None:
        return Search(options.find_capacity, False, 1, _SEARCHED_TO, 1)
    by_rate = options.request_rate is not None
    low, high = (levels.low, levels.high) if levels.low < levels.high else (1, levels.high)
    step = next((part.step for part in levels.parts if not part.times and part.start < part.end), 0)
    return Search(options.find_capacity, by_rate, low, high, step if by_rate else max(step, 1))
