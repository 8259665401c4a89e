# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The result of a measurement: plain values, kept whether it held or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trtkit.perf.load import Load
from trtkit.perf.loop.records import ErrorCount, Integers, Records, concatenate
from trtkit.perf.remarks import remarks
from trtkit.perf.statistics.goodput import Goodput, Slo, goodput_of
from trtkit.perf.statistics.histogram import encoded
from trtkit.perf.statistics.latency import LatencyStatistics, latency_statistics
from trtkit.perf.statistics.streaming import StreamingStatistics, streaming_statistics
from trtkit.perf.statistics.student import Interval, mean_interval
from trtkit.perf.statistics.windows import (
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

# fewer windows say nothing about stability
_FEWEST = 3


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
    object.__setattr__(found, "warnings", (*warnings, *side.warnings, *remarks(found, run)))
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
