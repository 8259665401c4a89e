# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Why a model is not faster: findings from a measurement's own figures, each with what to try."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from trtkit.perf.server.diagnose_batching import batching
from trtkit.perf.server.diagnose_bounds import (
    cache,
    compute,
    copies,
    gpu,
    gpu_memory,
    one_instance,
    queue,
    too_many_instances,
)
from trtkit.perf.server.diagnose_facts import Diagnosis, ModelFacts, models_of, ms, request_bytes
from trtkit.perf.server.ensemble_graph import Graph
from trtkit.perf.server.stages import breakdown

if TYPE_CHECKING:
    from trtkit.perf.measurement import Measurement
    from trtkit.perf.server.control import ModelDescription

__all__ = ["Diagnosis", "diagnose"]

_BUSY_CLIENT = 0.9  # of one core, for each process
_MOST = 0.5
_LARGE_REQUEST = 64 * 1024
_DELIVERED = 0.95
_COLD = 2.0
_SLOW_STEP = 0.6
_QUEUE_FULL = ("Exceeds maximum queue size", "maximum queue size")
_OVERLOADED = ("HTTP 503", "HTTP 429", "gRPC UNAVAILABLE", "gRPC RESOURCE_EXHAUSTED")

_OF_A_MODEL: tuple[Callable[[ModelFacts], Diagnosis | None], ...] = (
    batching,
    queue,
    compute,
    one_instance,
    too_many_instances,
    gpu,
    gpu_memory,
    copies,
    cache,
)


def diagnose(
    measurement: Measurement,
    description: ModelDescription,
    *,
    composing: Mapping[str, Mapping[str, Any]] | None = None,
    graph: Graph | None = None,
) -> list[Diagnosis]:
    """What bounds the result, and what to try; nothing is said without a figure.

    Args:
        measurement: the result.
        description: what the server says about the model.
        composing: the configurations of an ensemble's models, by name.
        graph: its `ensemble_graph.ensemble_graph`.

    Returns:
        The findings: first those that make others doubtful (the client), then errors, then the server's. Empty when
        nothing stands out.
    """
    found = [_client(measurement), _overload(measurement), _rate(measurement), _cold(measurement)]
    found += [_transport(measurement, description), _slow_step(measurement, graph or {})]
    for model in models_of(measurement, description, composing or {}):
        found += [look(model) for look in _OF_A_MODEL]
    return list(dict.fromkeys(one for one in found if one is not None))


def _client(measurement: Measurement) -> Diagnosis | None:
    client = measurement.client
    share = client.cpu_share / max(client.processes, 1)
    if share < _BUSY_CLIENT:
        return None
    each = "" if client.cpu_us_per_request is None else f", {client.cpu_us_per_request:.0f} µs for each request"
    return Diagnosis(
        "The load generator bounds the throughput",
        f"{client.processes} client process(es) used {share:.0%} of a core each{each}",
        "more client processes, another machine for the client, --shared-memory or smaller requests",
    )


def _overload(measurement: Measurement) -> Diagnosis | None:
    full = [
        one
        for one in measurement.errors
        if any(words in one.message for words in _QUEUE_FULL)
        or (one.kind in _OVERLOADED and "queue" in one.message.lower())
    ]
    if not full:
        return None
    count = sum(one.count for one in full)
    return Diagnosis(
        "The server refuses requests: its queue is full",
        f"{count:,} requests failed ({full[0].kind}: {full[0].message})",
        "less load; or a larger max_queue_size in default_queue_policy, at the price of longer waits",
    )


def _rate(measurement: Measurement) -> Diagnosis | None:
    rate = measurement.load.request_rate
    if not rate or measurement.requests_per_s >= _DELIVERED * rate or measurement.load.ramp_s:
        return None
    return Diagnosis(
        "The asked rate is above what is answered",
        f"{measurement.requests_per_s:,.3g} of {rate:,.3g} requests per second were answered",
        "a lower --request-rate, or --find-capacity for the highest one that holds",
    )


def _cold(measurement: Measurement) -> Diagnosis | None:
    first, later = measurement.windows[:1], measurement.windows[1:]
    known = sorted(window.p90_ns for window in later if window.p90_ns is not None)
    if not first or first[0].p90_ns is None or len(known) < 2:
        return None
    middle = known[len(known) // 2]
    if first[0].p90_ns < _COLD * middle:
        return None
    return Diagnosis(
        "The server was still warming up",
        f"the p90 of the first window is {ms(first[0].p90_ns)}, that of the later ones {ms(middle)}",
        "a longer --warmup; and model_warmup in the configuration, so that the first users do not wait",
    )


def _transport(measurement: Measurement, description: ModelDescription) -> Diagnosis | None:
    latency, server, load = measurement.latency, measurement.server, measurement.load
    if latency is None or server is None or server.request_ns is None or not latency.mean_ns:
        return None
    outside_ns = latency.mean_ns - server.request_ns
    share = outside_ns / latency.mean_ns
    if share < _MOST:
        return None
    size = request_bytes(description, load.batch_size)
    sized = "" if size is None else f"; a request's inputs are {size / 1024:,.3g} KiB"
    frontend = "HTTP" if load.protocol in {"http", "generate-stream"} else "gRPC"
    return Diagnosis(
        "Most of the time passes outside of the server's core",
        f"{ms(outside_ns)} of the mean {ms(latency.mean_ns)} ({share:.0%}) are the client, the network and the "
        f"server's {frontend} frontend{sized}",
        _try_transport(measurement, size),
    )


def _try_transport(measurement: Measurement, size: int | None) -> str:
    load, tries = measurement.load, []
    if size is not None and size >= _LARGE_REQUEST and load.shared_memory == "none":
        tries.append("--shared-memory system on the same machine")
    if load.protocol == "http":
        tries.append("--protocol grpc")
    if size is not None and size >= _LARGE_REQUEST:
        tries.append("smaller data types on the wire (UINT8 or FP16 instead of FP32)")
    tries.append("a client nearer to the server, or fewer requests at once when both share cores")
    return "; ".join(tries)


def _slow_step(measurement: Measurement, graph: Graph) -> Diagnosis | None:
    stages = breakdown(measurement, graph) if graph else None
    if stages is None or not stages.ensembles:
        return None
    ensemble = stages.ensembles[0]
    way = [step for step in ensemble.steps if step.critical]
    if len(ensemble.steps) < 2 or not ensemble.critical_ns:
        return None
    slowest = max(way, key=lambda step: step.mean_ns)
    share = slowest.mean_ns / ensemble.critical_ns
    if share < _SLOW_STEP:
        return None
    return Diagnosis(
        f"One step is most of the ensemble: '{slowest.model}'",
        f"'{slowest.model}' takes {ms(slowest.mean_ns)} of the {ms(ensemble.critical_ns)} on the longest way "
        f"({' → '.join(ensemble.critical)}, {share:.0%})",
        f"make '{slowest.model}' faster or give it more instances before anything else",
    )
