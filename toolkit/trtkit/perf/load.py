# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What is asked of one load."""

from __future__ import annotations

from dataclasses import dataclass

from trtkit.perf.statistics.windows import JUDGED


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
