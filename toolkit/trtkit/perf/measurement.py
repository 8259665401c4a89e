# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The result of a measurement: plain values, kept whether it held or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trtkit.perf.latency import Latencies, LatencyStatistics, latency_statistics
from trtkit.perf.recorder import Cut, ErrorCount, merge_errors
from trtkit.perf.server_side import ServerFigures
from trtkit.perf.windows import JUDGED, Window, instability, window_of

# above this share of one core the client's own work is a visible part of every latency
_BUSY_CLIENT_SHARE = 0.9
_LITTLE_TOLERANCE = 0.1


@dataclass(frozen=True)
class Load:
    """What was asked for.

    Attributes:
        model: the model's name.
        version: its version; empty is the server's choice.
        protocol: ``http`` or ``grpc``.
        url: ``HOST:PORT``.
        concurrency: requests kept in flight.
        batch_size: samples in each request.
        distinct_requests: how many different requests were sent in turn.
        warmup_s: discarded time before the first window, in seconds.
        window_s: length of a window, in seconds.
        timeout_s: deadline of each request, in seconds.
        stability: how far a window may be from the mean of the last three; 0.1 is ±10 %.
    """

    model: str
    version: str
    protocol: str
    url: str
    concurrency: int
    batch_size: int
    distinct_requests: int
    warmup_s: float
    window_s: float
    timeout_s: float
    stability: float


@dataclass(frozen=True)
class Measurement:
    """What was found. Rates, latencies and the server's figures are those of the last three windows, merged.

    Attributes:
        load: what was asked for.
        started_at: when the first window began, UTC, ISO 8601.
        stable: whether the last three windows agree.
        reason: why not, in one sentence; empty when stable.
        duration_s: length of the last three windows together, in seconds.
        throughput_infer_per_s: samples per second: successful requests × batch size / duration.
        requests_per_s: successful requests per second.
        latency: of the successful requests; None when there was none.
        errors: failed requests of *all* windows (not the warm-up) by kind, most frequent first.
        in_flight_mean: requests in flight by Little's law: requests per second × mean latency.
        client_cpu_share: CPU time of the client process by the duration; 1.0 is one core.
        server: the server's own figures for the model; None when it gave none.
        composing: those of an ensemble's models.
        windows: every window, also those before the last three.
        warnings: what a reader has to know, in plain sentences.
        latencies_ns: the latencies behind `latency`, in the order the requests ended; not in `to_json`.
    """

    load: Load
    started_at: str
    stable: bool
    reason: str
    duration_s: float
    throughput_infer_per_s: float
    requests_per_s: float
    latency: LatencyStatistics | None
    errors: tuple[ErrorCount, ...]
    in_flight_mean: float
    client_cpu_share: float
    server: ServerFigures | None
    composing: tuple[ServerFigures, ...]
    windows: tuple[Window, ...]
    warnings: tuple[str, ...]
    latencies_ns: Latencies = field(repr=False, compare=False)

    @property
    def error_count(self) -> int:
        """Failed requests of all windows."""
        return sum(error.count for error in self.errors)

    @property
    def every_request_failed(self) -> bool:
        """Whether no request succeeded in any window."""
        return self.error_count > 0 and not any(window.requests for window in self.windows)

    def to_json(self) -> dict[str, Any]:
        """The form of reports: JSON values only; times in nanoseconds or seconds, as the names say."""
        value = {name: item for name, item in vars(self).items() if name != "latencies_ns"}
        value["error_count"] = self.error_count
        value["load"] = dict(vars(self.load))
        for name in ("latency", "server"):
            value[name] = value[name].to_json() if value[name] else None
        for name in ("errors", "composing", "windows"):
            value[name] = [item.to_json() for item in value[name]]
        value["warnings"] = list(self.warnings)
        return value


def measurement_of(
    load: Load,
    started_at: str,
    warmup: Cut,
    cuts: Sequence[Cut],
    figures: Sequence[ServerFigures],
    warnings: Sequence[str],
) -> Measurement:
    """Put a run's parts together.

    Args:
        load: what was asked for.
        started_at: when the first window began, UTC, ISO 8601.
        warmup: the requests of the warm-up.
        cuts: the requests of each window.
        figures: the server's, for the last three windows: the model's first, then its composing models'.
        warnings: sentences from the run, to which those about the result are added.
    """
    last = cuts[-JUDGED:]
    latencies = np.concatenate([cut.latencies_ns for cut in last])
    latency = latency_statistics(latencies)
    duration_s = sum(cut.duration_s for cut in last)
    requests_per_s = len(latencies) / duration_s
    windows = tuple(window_of(number, cut) for number, cut in enumerate(cuts, 1))
    reason = instability(windows, load.stability)
    in_flight = float(latencies.sum()) / 1e9 / duration_s
    cpu_share = sum(cut.client_cpu_ns for cut in last) / 1e9 / duration_s
    return Measurement(
        load=load,
        started_at=started_at,
        stable=not reason,
        reason=reason,
        duration_s=duration_s,
        throughput_infer_per_s=requests_per_s * load.batch_size,
        requests_per_s=requests_per_s,
        latency=latency,
        errors=merge_errors(list(cuts)),
        in_flight_mean=in_flight,
        client_cpu_share=cpu_share,
        server=figures[0] if figures else None,
        composing=tuple(figures[1:]),
        windows=windows,
        warnings=(*warnings, *_warnings(load, warmup, last, reason, in_flight, cpu_share)),
        latencies_ns=latencies,
    )


def _warnings(
    load: Load, warmup: Cut, last: Sequence[Cut], reason: str, in_flight: float, cpu_share: float
) -> list[str]:
    sentences = []
    if warmup.error_count:
        first = warmup.errors[0]
        sentences.append(f"{warmup.error_count} requests failed during the warm-up ({first.kind}: {first.message})")
    if cpu_share >= _BUSY_CLIENT_SHARE:
        sentences.append(
            f"the client used {cpu_share:.0%} of one core: it is probably the bottleneck, and the server can do more"
        )
    complete = not reason and not any(cut.error_count for cut in last)
    if complete and abs(in_flight - load.concurrency) > _LITTLE_TOLERANCE * load.concurrency:
        sentences.append(
            f"throughput × mean latency is {in_flight:.1f} requests in flight instead of {load.concurrency}: "
            "the client did not keep up, or the windows are short for such requests"
        )
    return sentences
