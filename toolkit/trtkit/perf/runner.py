# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The Python API's way to one measurement: a model, its inputs, a load."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from trtkit.errors import ProjectError
from trtkit.perf.data.pool import Request, one_stream
from trtkit.perf.data.workload import checked
from trtkit.perf.encoding.encode import HttpOptions
from trtkit.perf.encoding.messages import encoded
from trtkit.perf.job import Way
from trtkit.perf.jobs import DEFAULT_IN_FLIGHT, Traffic, slots_of
from trtkit.perf.load import Load
from trtkit.perf.loop.sources import SequencePlan
from trtkit.perf.measured import CONTROL_TIMEOUT_S, Setting, measure_load
from trtkit.perf.measurement import Measurement
from trtkit.perf.run import Plan
from trtkit.perf.server.address import Tls, parse_address
from trtkit.perf.server.control import ModelDescription, describe_with, open_control
from trtkit.perf.statistics.windows import JUDGED, Window

_FEWEST_WINDOWS = 3
_CONCURRENT_SEQUENCES = 4
SEQUENCE_LENGTH = 20
"""Requests in a sequence when nobody says how many, as in perf_analyzer."""


def measure(
    url: str,
    model: str,
    *,
    inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    protocol: str = "http",
    version: str = "",
    concurrency: int = 1,
    request_rate: float = 0.0,
    arrival: str = "constant",
    seed: int = 0,
    batch_size: int = 1,
    outputs: Sequence[str] | None = None,
    warmup_s: float = 1.0,
    window_s: float = 1.0,
    windows: int = JUDGED,
    max_windows: int = 20,
    duration_s: float = 0.0,
    requests: int = 0,
    timeout_s: float = 30.0,
    stability: float = 0.1,
    processes: int = 1,
    tls: Tls | None = None,
    on_window: Callable[[Window], None] | None = None,
) -> Measurement:
    """Load a model and say how fast it answers.

    Windows follow each other without a gap until the last ones are stable (see `windows`) or `max_windows`
    were measured, or until as many in a row saw only failed requests. A failed request is counted and never
    ends the measurement. Takes at most warm-up + `max_windows` windows + three deadlines (connecting,
    draining, the last question for statistics).

    Args:
        url: ``HOST:PORT`` of the protocol.
        model: the model's name.
        inputs: one request, or a pool of requests that are sent in turn: one array per input, *with* the
            batch dimension when the model has one.
        protocol: ``http`` (KServe v2 with binary tensors), ``grpc``, or ``grpc-stream`` (decoupled models).
        version: the model's version; the server's choice when empty.
        concurrency: requests kept in flight; not used with `request_rate`.
        request_rate: requests per second of an open loop; 0 for a closed loop.
        arrival: ``constant`` or ``poisson`` times of an open loop.
        seed: of Poisson times.
        batch_size: samples in each request.
        outputs: names of the outputs to ask for; all when None.
        warmup_s: loaded time before the first window, discarded, in seconds.
        window_s: length of a window, in seconds.
        windows: at least this many windows are measured, and the last of them are the result; 3 or more.
        max_windows: at most this many.
        duration_s: measure exactly so long instead; 0 until stable.
        requests: measure exactly so many requests instead; 0 until stable.
        timeout_s: a request without a complete response after this many seconds has failed.
        stability: how precisely throughput and p90 have to be known; 0.1 is ±10 %.
        processes: how many processes make the load.
        tls: how to trust the server, for ``https://`` and ``grpcs://``.
        on_window: called after each window, between two requests: keep it short.

    Raises:
        ProjectError: an argument is impossible.
        ServerUnavailableError: nobody answers as Triton does at the address.
        ModelUnavailableError: the model is not loaded.
        DataError: the inputs do not fit the model.
    """
    wire = "grpc" if protocol.startswith("grpc") else "http"
    address = parse_address(url, wire)
    pool = [inputs] if isinstance(inputs, Mapping) else list(inputs)
    load = Load(
        model=model, version=version, url=str(address), protocol=protocol,
        concurrency=0 if request_rate else concurrency, request_rate=request_rate,
        arrival=arrival if request_rate else "", seed=seed, batch_size=batch_size, distinct_requests=len(pool),
        warmup_s=warmup_s, window_s=window_s, judged_windows=windows, timeout_s=timeout_s, stability=stability,
        processes=processes, max_in_flight=DEFAULT_IN_FLIGHT if request_rate else 0,
    )  # fmt: skip
    plan = Plan(windows, max_windows, duration_s=duration_s, requests=requests)
    check_numbers(load, plan)
    way = Way(protocol, address, tls or Tls(), timeout_s=timeout_s)
    with open_control(address, wire, min(timeout_s, CONTROL_TIMEOUT_S), tls=way.tls) as fetch:
        description = describe_with(fetch, model, version)
        check_kind(model, description, way)
        requests_of = [
            Request(model, version, request, tuple(outputs) if outputs else None)
            for request in checked(pool, *description, batch_size)
        ]
        in_sequences = "sequence_batching" in description.config
        descriptions = {model: description}
        stream = one_stream(requests_of, "inputs")
        messages = encoded(stream.requests, descriptions, way, HttpOptions(), sequence=in_sequences)
        sequences = SequencePlan(stream.streams, SEQUENCE_LENGTH, seed=seed) if in_sequences else None
        load = replace(load, sequences=in_sequences)
        told = (lambda _load, window: on_window(window)) if on_window else None
        setting = Setting(fetch, descriptions, on_window=told)
        slots = slots_of(load, _CONCURRENT_SEQUENCES if in_sequences else 0)
        traffic = Traffic(way, lambda _slots: (messages,), slots, sequences=sequences)
        return measure_load(load, traffic, plan, setting)


def check_numbers(load: Load, plan: Plan) -> None:
    """ProjectError for a number that makes no sense."""
    if not load.is_open and load.concurrency < 1:
        raise ProjectError(f"concurrency {load.concurrency} is impossible; it must be 1 or more")
    if plan.windows < _FEWEST_WINDOWS:
        raise ProjectError(f"{plan.windows} windows are too few to judge stability; measure {_FEWEST_WINDOWS} or more")
    if plan.max_windows < plan.windows:
        raise ProjectError(f"at most {plan.max_windows} windows is below the {plan.windows} windows asked for")
    for name, value in (
        ("window", load.window_s),
        ("timeout", load.timeout_s),
        ("stability", load.stability),
    ):
        if not value > 0:
            raise ProjectError(f"{name} {value:g} is impossible; it must be above 0")
    if not load.warmup_s >= 0:
        raise ProjectError(f"warm-up {load.warmup_s:g} is impossible; it must be 0 or more seconds")


def check_kind(model: str, description: ModelDescription, way: Way) -> None:
    """ProjectError for a model that needs another way to it."""
    decoupled = description.config.get("model_transaction_policy", {}).get("decoupled")
    if decoupled and not way.streams:
        raise ProjectError(
            f"model '{model}' is decoupled: it answers over a stream; "
            "use the protocol grpc-stream (--protocol grpc --streaming), or generate-stream for text"
        )
