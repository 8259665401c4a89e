# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The result of a measurement: plain values, kept whether it held or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trtkit.perf.loop.records import ErrorCount, Integers, Records, concatenate
from trtkit.perf.statistics.goodput import Goodput, Slo, goodput_of
from trtkit.perf.statistics.histogram import encoded
from trtkit.perf.statistics.latency import LatencyStatistics, latency_statistics
from trtkit.perf.statistics.streaming import StreamingStatistics, streaming_statistics
from trtkit.perf.statistics.student import Interval, mean_interval
from trtkit.perf.statistics.windows import (
    JUDGED,
    Window,
    all_failed,
    instability,
    stable_windows,
    window_of,
)

if TYPE_CHECKING:
    from trtkit.perf.checks.verify import Verification
    from trtkit.perf.job import Cut, Final
    from trtkit.perf.server.sampler import Resources, Sample
    from trtkit.perf.server.server_side import ServerFigures

# above this share of one core a process's own work is a visible part of every latency
_BUSY_CLIENT_SHARE = 0.9
_LITTLE_TOLERANCE = 0.1
# an open loop that sends later than this, or fewer than this share, is not the load that was asked for
_LATE_NS = 1_000_000
_DELIVERED = 0.99
# fewer requests than this say nothing about a rate
_ENOUGH = 20
# fewer windows say nothing about stability
_FEWEST = 3


@dataclass(frozen=True)
class Load:
    """What was asked for.

    Attributes:
        model: the model's name; of a mix, all names joined by commas.
        version: its version; empty is the server's choice.
        url: ``HOST:PORT``.
        protocol: ``http``, ``grpc``, ``grpc-stream`` or ``generate-stream``.
        concurrency: requests kept in flight; 0 in an open loop.
        request_rate: requests per second; 0 in a closed loop, and where a file says the times.
        arrival: "" (closed loop), ``constant``, ``poisson``, ``intervals``, ``schedule``, ``trace`` or ``periodic``.
        ramp_from: the concurrency or rate at the start of a ramp.
        ramp_s: the seconds in which the load changes; 0 for a constant one.
        seed: of random times, values and orders.
        batch_size: samples in each request.
        distinct_requests: how many different requests were sent in turn.
        warmup_s: discarded time before the first window, in seconds.
        window_s: length of a window, in seconds.
        judged_windows: so many windows, the last ones, are judged and merged; more where all together are stable.
        timeout_s: deadline of each request, in seconds.
        stability: how precisely throughput and latency have to be known; 0.1 is ±10 %.
        percentile: of the latency that has to be stable; None for p90.
        shared_memory: ``none``, ``system`` or ``cuda``.
        sequences: whether requests belong to sequences.
        processes: how many processes made the load.
        max_in_flight: the most requests in flight in an open loop.
    """

    model: str
    version: str
    url: str
    protocol: str = "http"
    concurrency: int = 0
    request_rate: float = 0.0
    arrival: str = ""
    ramp_from: float = 0.0
    ramp_s: float = 0.0
    seed: int = 0
    batch_size: int = 1
    distinct_requests: int = 1
    warmup_s: float = 1.0
    window_s: float = 1.0
    judged_windows: int = JUDGED
    timeout_s: float = 30.0
    stability: float = 0.1
    percentile: int | None = None
    shared_memory: str = "none"
    sequences: bool = False
    processes: int = 1
    max_in_flight: int = 0

    @property
    def label(self) -> str:
        """The load in a few words, for tables."""
        if self.request_rate:
            start = f"{self.ramp_from:g} to " if self.ramp_s else ""
            return f"{start}{self.request_rate:g} requests/s ({self.arrival})"
        if self.arrival and not self.concurrency:
            return self.arrival
        start = f"{self.ramp_from:g} to " if self.ramp_s or self.arrival == "periodic" else ""
        return f"concurrency {start}{self.concurrency}"

    @property
    def is_open(self) -> bool:
        """Whether requests have times, and do not wait for the ones before."""
        return bool(self.arrival) and self.arrival != "periodic"


@dataclass(frozen=True)
class ClientFigures:
    """What making the load cost.

    Attributes:
        cpu_share: CPU time of all its processes by the duration; 1.0 is one core.
        cpu_us_per_request: CPU time for each request that ended, in microseconds; None without one.
        processes: how many.
    """

    cpu_share: float
    cpu_us_per_request: float | None
    processes: int


@dataclass(frozen=True)
class ModelShare:
    """One model of a mix.

    Attributes:
        model: its name.
        requests_per_s: successful requests per second.
        latency: of those; None without one.
        errors: its failed requests in the judged windows.
    """

    model: str
    requests_per_s: float
    latency: LatencyStatistics | None
    errors: int


class ServerSide(NamedTuple):
    """What the server, or its machine, said about the same time.

    Attributes:
        server: the model's figures; None when it gave none.
        composing: those of an ensemble's models.
        samples: figures over time.
        resources: of the judged windows.
        warnings: why something is missing.
    """

    server: ServerFigures | None = None
    composing: tuple[ServerFigures, ...] = ()
    samples: tuple[Sample, ...] = ()
    resources: Resources | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """What happened, before it is put together.

    Attributes:
        started_at: when the first window began, UTC, ISO 8601.
        warmup: what ended before the first window.
        cuts: a window each, following each other without a gap.
        final: what ended after the last window, and how.
        interrupted: whether the user ended it.
        judged: whether stability says anything about this load: not when it changes, or was a number of requests.
        whole: whether all windows are the result, and not only the last ones.
    """

    started_at: str
    warmup: Cut
    cuts: tuple[Cut, ...]
    final: Final
    interrupted: bool = False
    judged: bool = True
    whole: bool = False


def windows_of(load: Load, run: Run) -> tuple[Window, ...]:
    """Every window in numbers."""
    return tuple(
        window_of(number, cut.records, cut.end_ns - cut.start_ns, cut.cpu_ns, load.percentile)
        for number, cut in enumerate(run.cuts, 1)
    )


def judged_cuts(load: Load, run: Run) -> tuple[Cut, ...]:
    """The windows that are the result: the last ones, as many as are stable together, or all."""
    if run.whole:
        return run.cuts
    windows = windows_of(load, run)
    count = stable_windows(windows, load.stability, load.judged_windows, load.percentile)
    if not count and all_failed(windows, load.judged_windows):
        return run.cuts  # the server went away: what it answered before is the result
    return run.cuts[-(count or load.judged_windows) :]


@dataclass(frozen=True)
class Measurement:
    """What was found. Rates, latencies and the server's figures are those of the judged windows, merged.

    Attributes:
        load: what was asked for.
        started_at: when the first window began, UTC, ISO 8601.
        stable: whether the judged windows agree.
        reason: why not, in one sentence; empty when stable.
        duration_s: length of the judged windows together, in seconds.
        throughput_infer_per_s: samples per second: successful requests × batch size / duration.
        requests_per_s: successful requests per second.
        responses_per_s: responses with content per second.
        throughput_interval: 95 % confidence interval of `requests_per_s`; None with fewer than two windows.
        latency: from the send, of the successful requests; None when there was none.
        intended_latency: from the time the request was to be sent; None in a closed loop.
        schedule_lag: from the intended time to the send; None in a closed loop.
        streaming: of requests answered by several responses; None otherwise.
        goodput: the requests that met the objectives; None when none were given.
        errors: failed requests of *all* windows and of the end, not the warm-up, by kind, most frequent first.
        in_flight_mean: requests in flight by Little's law: requests per second × mean latency.
        client: what making the load cost.
        server: the server's own figures for the model; None when it gave none.
        composing: those of an ensemble's models.
        resources: the server's memory, CPU and GPUs; None when unknown.
        windows: every window, also those before the judged ones.
        samples: the server's figures over time.
        by_model: each model of a mix; empty for one model.
        verification: of the answers; None when they were not checked.
        warnings: what a reader has to know, in plain sentences.
        interrupted: whether the user ended it.
        start_ns: the first window's beginning on the clock of the records.
        records: the requests of the judged windows; not in `to_json`.
        all_records: those of all windows and of the end; not in `to_json`.
    """

    load: Load
    started_at: str
    stable: bool
    reason: str
    duration_s: float
    throughput_infer_per_s: float
    requests_per_s: float
    responses_per_s: float
    throughput_interval: Interval | None
    latency: LatencyStatistics | None
    intended_latency: LatencyStatistics | None
    schedule_lag: LatencyStatistics | None
    streaming: StreamingStatistics | None
    goodput: Goodput | None
    errors: tuple[ErrorCount, ...]
    in_flight_mean: float
    client: ClientFigures
    server: ServerFigures | None
    composing: tuple[ServerFigures, ...]
    resources: Resources | None
    windows: tuple[Window, ...]
    samples: tuple[Sample, ...]
    by_model: tuple[ModelShare, ...]
    verification: Verification | None
    warnings: tuple[str, ...]
    interrupted: bool
    start_ns: int
    records: Records = field(repr=False, compare=False)
    all_records: Records = field(repr=False, compare=False)

    @property
    def error_count(self) -> int:
        """Failed requests of all windows and of the end."""
        return sum(error.count for error in self.errors)

    @property
    def every_request_failed(self) -> bool:
        """Whether no request succeeded in any window."""
        return self.error_count > 0 and not np.any(self.all_records.ok)

    def to_json(self) -> dict[str, Any]:
        """The form of reports: JSON values only; times in nanoseconds or seconds, as the names say."""
        value = {item.name: _plain(getattr(self, item.name)) for item in fields(self) if item.name not in _RAW}
        value["label"] = self.load.label
        value["error_count"] = self.error_count
        value["latency_histogram"] = encoded(self.records.latency_ns[self.records.ok])
        return value


_RAW = {"records", "all_records"}


def _plain(value: Any) -> Any:
    """A value as JSON has it; a class with a form of its own gives that."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: _plain(item) for name, item in value._asdict().items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    return value


def measurement_of(
    load: Load,
    run: Run,
    side: ServerSide | None = None,
    *,
    slos: Sequence[Slo] = (),
    models: Sequence[str] = (),
    verification: Verification | None = None,
    warnings: Sequence[str] = (),
) -> Measurement:
    """Put a run's parts together.

    Args:
        load: what was asked for.
        run: what happened; at least one window.
        side: what the server said.
        slos: objectives for the goodput.
        models: the model of each request of the pool, when it is a mix.
        verification: what checking the answers gave.
        warnings: sentences from the run, to which those about the result are added.
    """
    side = side or ServerSide()
    judged = judged_cuts(load, run)
    records = concatenate([cut.records for cut in judged])
    after = concatenate([*(cut.records for cut in run.cuts), run.final.cut.records])
    windows = windows_of(load, run)
    duration_s = (judged[-1].end_ns - judged[0].start_ns) / 1e9
    good = records.where(records.ok)
    cpu_ns = sum(cut.cpu_ns for cut in judged)
    reason = instability(windows, load.stability, max(len(judged), _FEWEST), load.percentile)
    rate = len(good) / duration_s
    found = Measurement(
        load=load,
        started_at=run.started_at,
        stable=not (run.judged and reason),
        reason=reason if run.judged else "",
        duration_s=duration_s,
        throughput_infer_per_s=rate * load.batch_size,
        requests_per_s=rate,
        responses_per_s=int(good.responses.sum()) / duration_s,
        throughput_interval=mean_interval([window.requests_per_s for window in windows[-len(judged) :]]),
        latency=latency_statistics(good.latency_ns),
        intended_latency=latency_statistics(good.intended_latency_ns) if load.is_open else None,
        schedule_lag=latency_statistics(records.sent_ns - records.intended_ns) if load.is_open else None,
        streaming=streaming_statistics(records, duration_s),
        goodput=goodput_of(records, duration_s, slos) if slos else None,
        errors=after.errors(),
        in_flight_mean=float(good.latency_ns.sum()) / 1e9 / duration_s,
        client=ClientFigures(
            cpu_ns / 1e9 / duration_s, cpu_ns / 1e3 / len(records) if len(records) else None, load.processes
        ),
        server=side.server,
        composing=side.composing,
        resources=side.resources,
        windows=windows,
        samples=side.samples,
        by_model=_by_model(records, models, duration_s),
        verification=verification,
        warnings=(),
        interrupted=run.interrupted,
        start_ns=run.cuts[0].start_ns,
        records=records,
        all_records=after,
    )
    object.__setattr__(found, "warnings", (*warnings, *side.warnings, *_warnings(found, run)))
    return found


def _by_model(records: Records, models: Sequence[str], duration_s: float) -> tuple[ModelShare, ...]:
    names = sorted(set(models))
    if len(names) < 2:
        return ()
    number_of: Integers = np.array([names.index(name) for name in models])
    shares = []
    for number, name in enumerate(names):
        own = records.where(number_of[records.index] == number)
        good = own.where(own.ok)
        shares.append(
            ModelShare(name, len(good) / duration_s, latency_statistics(good.latency_ns), len(own) - len(good))
        )
    return tuple(shares)


def _warnings(found: Measurement, run: Run) -> list[str]:
    """What a reader has to know, in plain sentences."""
    sentences = []
    failed = run.warmup.records.errors()
    if failed:
        count = sum(error.count for error in failed)
        sentences.append(f"{count} requests failed during the warm-up ({failed[0].kind}: {failed[0].message})")
    if not run.judged:
        sentences.append("stability was not judged: the load was to change, or to be a number of requests")
    share = found.client.cpu_share / found.client.processes
    if share >= _BUSY_CLIENT_SHARE:
        sentences.append(
            f"the client used {share:.0%} of one core: it is probably the bottleneck, and the server can do more"
        )
    if not run.final.drained:
        sentences.append("some requests were still in flight when the run ended; they were given up")
    return sentences + (_open_warnings(found, run.final) if found.load.is_open else _closed_warnings(found, run))


def _closed_warnings(found: Measurement, run: Run) -> list[str]:
    load, in_flight = found.load, found.in_flight_mean
    steady = run.judged and found.stable and not (load.ramp_s or load.arrival or load.sequences)
    complete = steady and not np.any(~found.records.ok)
    if not complete or abs(in_flight - load.concurrency) <= _LITTLE_TOLERANCE * load.concurrency:
        return []
    return [
        f"throughput × mean latency is {in_flight:.1f} requests in flight instead of {load.concurrency}: "
        "the client did not keep up, or the windows are short for such requests"
    ]


def _open_warnings(found: Measurement, final: Final) -> list[str]:
    load, lag = found.load, found.schedule_lag
    sentences = []
    if lag and lag.p99_ns > _LATE_NS:
        sentences.append(
            f"requests were sent late, p99 {lag.p99_ns / 1e6:.1f} ms after their time: "
            "read the latencies from the intended time"
        )
    if final.delayed:
        sentences.append(
            f"{final.delayed:,} requests had to wait because {load.max_in_flight} were in flight already; "
            "--max-in-flight allows more"
        )
    if final.unsent:
        sentences.append(f"{final.unsent:,} requests were due and never sent: the server is slower than the schedule")
    sent = len(found.records) / found.duration_s
    enough = len(found.records) >= _ENOUGH
    if load.request_rate and not load.ramp_s and enough and sent < _DELIVERED * load.request_rate:
        sentences.append(f"{sent:,.1f} requests/s ended instead of the {load.request_rate:g} that were asked for")
    return sentences
