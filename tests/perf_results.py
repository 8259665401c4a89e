# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Measurements for tests of reports: made from records by the code that makes real ones, without a server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from trtkit.perf.load import Load
from trtkit.perf.loop.records import Records
from trtkit.perf.measurement import ClientFigures, Measurement
from trtkit.perf.server.ensemble_graph import Step
from trtkit.perf.server.resources import GpuSample, Sample, resources_over
from trtkit.perf.server.server_side import BatchFigures, ServerFigures
from trtkit.perf.server.stages import Stages, breakdown
from trtkit.perf.statistics.latency import latency_statistics
from trtkit.perf.statistics.streaming import streaming_statistics
from trtkit.perf.statistics.student import mean_interval
from trtkit.perf.statistics.windows import window_of
from trtkit.perf.transports.base import Failure

SECOND = 1_000_000_000
START_NS = 5_000 * SECOND
STRANGE = "<b>me&lt;</script><script>alert(1)</script>\x1b[31m'\"{{body}}"
"""A model's name as a stranger might choose it."""

A_LOAD = {
    "model": "digits",
    "version": "1",
    "url": "127.0.0.1:8000",
    "protocol": "http",
    "batch_size": 1,
    "warmup_s": 1.0,
    "window_s": 1.0,
    "timeout_s": 30.0,
}


def records_of(
    rng: np.random.Generator,
    *,
    seconds: int,
    per_second: int,
    median_ms: float,
    start_ns: int = START_NS,
    is_open: bool = False,
    error_share: float = 0.0,
    stall: tuple[float, float] | None = None,
    responses: int = 1,
) -> Records:
    """Requests with log-normal latencies.

    Args:
        rng: the source of chance.
        seconds: for how long they end.
        per_second: how many.
        median_ms: of the latency.
        start_ns: when the first one may end.
        is_open: whether they were intended at a steady pace.
        error_share: of them fail.
        stall: from when on, and for how long, nothing is sent (seconds): those intended then are late.
        responses: of each request; more than one is a stream.
    """
    count = seconds * per_second
    ends = np.sort(start_ns + (rng.random(count) * seconds * SECOND).astype(np.int64))
    latency = (rng.lognormal(np.log(median_ms), 0.3, count) * 1e6).astype(np.int64)
    sent = ends - latency
    intended = sent - (rng.exponential(20_000, count).astype(np.int64) if is_open else 0)
    if stall:
        begin, length = (int(value * SECOND) for value in stall)
        ends_of_stall = start_ns + begin + length
        late = (ends >= start_ns + begin) & (ends < ends_of_stall)
        intended = intended.copy()
        sent, ends = np.where(late, ends_of_stall, sent), np.where(late, ends_of_stall + latency, ends)
    order = np.argsort(ends, kind="stable")
    intended, sent, ends, latency = intended[order], sent[order], ends[order], latency[order]
    first, times = ends, np.empty(0, np.int64)
    counts = np.ones(count, np.int64)
    if responses > 1:
        steps = np.arange(1, responses + 1) / responses
        per_request = sent[:, None] + ((ends - sent)[:, None] * steps).astype(np.int64)
        per_request[:, -1] = ends
        first, times, counts = per_request[:, 0].copy(), per_request.ravel(), np.full(count, responses)
    outcome = (rng.random(count) < error_share).astype(np.int64) * rng.integers(1, 3, count)
    failures = (
        Failure("HTTP 503", f"model {STRANGE} is busy: Exceeds maximum queue size"),
        Failure("timeout", "no response after 30 s"),
    )
    return Records(
        intended_ns=intended,
        sent_ns=sent,
        first_ns=first,
        last_ns=ends,
        index=np.zeros(count, np.int64),
        outcome=outcome,
        responses=counts,
        sequence=np.zeros(count, np.int64),
        response_ns=times,
        failures=failures,
    )


def measurement(
    *,
    concurrency: int = 8,
    rate: float = 0.0,
    seconds: int = 7,
    per_second: int = 300,
    median_ms: float = 3.0,
    seed: int = 1,
    model: str = "digits",
    start_ns: int = START_NS,
    error_share: float = 0.0,
    stall: tuple[float, float] | None = None,
    responses: int = 1,
    gpu: bool = False,
    stable: bool = True,
    ensemble: bool = False,
) -> Measurement:
    """A measurement whose last five windows are judged; arguments as `records_of` has them."""
    rng = np.random.default_rng(seed)
    records = records_of(
        rng, seconds=seconds, per_second=per_second, median_ms=median_ms, start_ns=start_ns, is_open=rate > 0,
        error_share=error_share, stall=stall, responses=responses,
    )  # fmt: skip
    load = Load(
        **{**A_LOAD, "model": model},
        concurrency=0 if rate else concurrency,
        request_rate=rate,
        arrival="poisson" if rate else "",
        seed=seed,
    )
    edges = [start_ns + number * SECOND for number in range(seconds + 1)]
    windows = tuple(
        window_of(number, records.between(edges[number - 1], edges[number]), SECOND, 200_000_000)
        for number in range(1, seconds + 1)
    )
    judged = records.between(edges[max(seconds - 5, 0)], edges[-1])
    good = judged.where(judged.ok)
    duration_s = float(min(seconds, 5))
    requests_per_s = len(good) / duration_s
    figures = server_figures(model, len(good), median_ms)
    seen = tuple(samples(rng, start_ns, seconds, per_second, median_ms, gpu))
    return Measurement(
        load=load,
        started_at="2026-11-21T20:00:00+00:00",
        stable=stable,
        reason="" if stable else "the throughput varied by 20 %",
        duration_s=duration_s,
        throughput_infer_per_s=requests_per_s * load.batch_size,
        requests_per_s=requests_per_s,
        responses_per_s=requests_per_s * responses,
        throughput_interval=mean_interval([window.requests_per_s for window in windows[-5:]]),
        latency=latency_statistics(good.latency_ns),
        intended_latency=latency_statistics(good.intended_latency_ns) if rate else None,
        schedule_lag=latency_statistics(good.sent_ns - good.intended_ns) if rate else None,
        streaming=streaming_statistics(judged, duration_s),
        goodput=None,
        errors=records.errors(),
        in_flight_mean=requests_per_s * median_ms / 1e3,
        client=ClientFigures(cpu_share=0.2, cpu_us_per_request=14.0, processes=1),
        server=figures,
        composing=composing(figures) if ensemble else (),
        resources=resources_over(seen, edges[max(seconds - 5, 0)], edges[-1], cores=2),
        windows=windows,
        samples=seen,
        by_model=(),
        verification=None,
        warnings=("the client used 95 % of a core",) if error_share else (),
        interrupted=False,
        start_ns=start_ns,
        records=judged,
        all_records=records,
    )


def server_figures(model: str, count: int, median_ms: float) -> ServerFigures:
    """What a server would say of requests of such a latency: a fifth in the queue, half in the model."""
    return ServerFigures(
        model=model,
        version="1",
        success_count=count,
        fail_count=0,
        inference_count=count,
        execution_count=max(count // 4, 1),
        batch_size_mean=4.0,
        request_ns=int(median_ms * 0.8e6),
        queue_ns=int(median_ms * 0.2e6),
        compute_input_ns=int(median_ms * 0.05e6),
        compute_infer_ns=int(median_ms * 0.5e6),
        compute_output_ns=int(median_ms * 0.05e6),
        cache_hit_count=0,
        cache_miss_count=0,
        cache_hit_ns=None,
        cache_miss_ns=None,
        batches=tuple(
            BatchFigures(size, count // (4 * size) + 1, 20_000, int(median_ms * 0.5e6), 20_000) for size in (1, 2, 4, 8)
        ),
    )


def composing(figures: ServerFigures) -> tuple[ServerFigures, ...]:
    """The models of an ensemble with such figures: a first step, two beside each other, a last one."""
    shares = {"decode": 0.25, STRANGE: 0.3, "metadata": 0.1, "labels": 0.05}
    return tuple(
        replace(
            figures,
            model=name,
            request_ns=int(share * figures.request_ns),
            queue_ns=int(share * figures.queue_ns),
            compute_infer_ns=int(share * figures.compute_infer_ns),
        )
        for name, share in shares.items()
    )


def stages_of(one: Measurement) -> Stages | None:
    """Where the time went, also of an ensemble with the steps of `composing`."""
    steps = (Step("decode", "", ()), Step(STRANGE, "", (0,)), Step("metadata", "", (0,)), Step("labels", "", (1, 2)))
    return breakdown(one, {one.load.model: steps} if one.composing else {})


def samples(
    rng: np.random.Generator, start_ns: int, seconds: int, per_second: int, median_ms: float, gpu: bool
) -> Iterator[Sample]:
    """What a sampler would see, four times a second."""
    for number in range(4 * seconds):
        gpus = (GpuSample("GPU-11", rng.uniform(0.5, 0.9), 3 * 2**30, 24 * 2**30, rng.uniform(150, 250), 300.0),)
        yield Sample(
            at_ns=start_ns + (number + 1) * SECOND // 4,
            queue_ns=int(median_ms * 0.2e6 * rng.uniform(0.8, 1.2)),
            compute_ns=int(median_ms * 0.6e6 * rng.uniform(0.8, 1.2)),
            batch_size_mean=rng.uniform(3, 5),
            requests_per_s=per_second * rng.uniform(0.9, 1.1),
            gpus=gpus if gpu else (),
            server_memory_bytes=700_000_000 + number * 1_000_000,
            server_cpu_share=rng.uniform(0.9, 1.3),
        )
