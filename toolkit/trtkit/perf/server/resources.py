# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What the server used while it was loaded: samples over the time, and their means over the judged windows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One GPU now, as the server's metrics say; None for what they leave out.

    Attributes:
        uuid: the GPU's.
        utilization: 0 to 1.
        memory_used_bytes: of all processes.
        memory_total_bytes: it has.
        power_w: drawn now.
        power_limit_w: it may draw.
        energy_j: used since the server began.
    """

    uuid: str
    utilization: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    energy_j: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """The server at one moment; the means are of the requests since the sample before. None is: not known.

    Attributes:
        at_ns: when, on the clock of `time.perf_counter_ns`.
        requests_per_s: requests that the server answered.
        queue_ns: mean wait per request, of an ensemble with the waits of its models (parallel branches added up).
        compute_ns: mean input, inference and output per request that was computed.
        batch_size_mean: samples per execution; None for an ensemble.
        pending_requests: of the model, waiting to be executed.
        server_memory_bytes: resident memory of the server and its Python stubs.
        server_cpu_share: CPU time of these by time; 1.0 is one core.
        host_cpu_utilization: of the server's machine, 0 to 1.
        host_memory_used_bytes: of the server's machine.
        pinned_memory_used_bytes: of the server's pool of pinned memory.
        gpus: the server's GPUs.
    """

    at_ns: int
    requests_per_s: float | None = None
    queue_ns: int | None = None
    compute_ns: int | None = None
    batch_size_mean: float | None = None
    pending_requests: int | None = None
    server_memory_bytes: int | None = None
    server_cpu_share: float | None = None
    host_cpu_utilization: float | None = None
    host_memory_used_bytes: int | None = None
    pinned_memory_used_bytes: int | None = None
    gpus: tuple[GpuSample, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The form kept in records."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class GpuResources:
    """One GPU over a time; None for what the server's metrics leave out.

    Attributes:
        uuid: the GPU's.
        utilization_mean: 0 to 1.
        utilization_max: 0 to 1.
        memory_used_max_bytes: of all processes.
        memory_total_bytes: it has.
        power_mean_w: drawn.
        power_max_w: drawn.
        power_limit_w: it may draw.
        energy_j: used between the first and the last sample.
    """

    uuid: str
    utilization_mean: float | None
    utilization_max: float | None
    memory_used_max_bytes: int | None
    memory_total_bytes: int | None
    power_mean_w: float | None
    power_max_w: float | None
    power_limit_w: float | None
    energy_j: float | None


@dataclass(frozen=True, slots=True)
class Resources:
    """What the server used over a time. None is: not known.

    Attributes:
        samples: how many the figures rest on.
        server_cores: CPU cores that the server may use, when it runs on this machine.
        server_memory_mean_bytes: resident memory of the server and its Python stubs, shared pages counted for each.
        server_memory_max_bytes: the largest of these.
        server_pss_bytes: the same at the end of the run, shared pages counted once.
        server_cpu_share_mean: CPU time by time; 1.0 is one core.
        host_cpu_utilization_mean: of the server's machine, 0 to 1.
        pending_requests_mean: of the model, waiting to be executed.
        pending_requests_max: the largest of these.
        pinned_memory_used_max_bytes: of the server's pool of pinned memory.
        gpus: the server's GPUs.
    """

    samples: int
    server_cores: int | None
    server_memory_mean_bytes: int | None
    server_memory_max_bytes: int | None
    server_pss_bytes: int | None
    server_cpu_share_mean: float | None
    host_cpu_utilization_mean: float | None
    pending_requests_mean: float | None
    pending_requests_max: int | None
    pinned_memory_used_max_bytes: int | None
    gpus: tuple[GpuResources, ...]

    def to_json(self) -> dict[str, Any]:
        """The form kept in records."""
        return asdict(self)


def resources_over(
    samples: Sequence[Sample], start_ns: int, end_ns: int, *, cores: int | None = None, pss_bytes: int | None = None
) -> Resources | None:
    """Means and maxima of the samples from start to end; None when there is no sample there that says anything.

    Args:
        samples: in the order of time.
        start_ns: on the samples' clock.
        end_ns: on the samples' clock.
        cores: CPU cores that the server may use, when known.
        pss_bytes: resident memory of the server with shared pages counted once, when known.
    """
    within = [sample for sample in samples if start_ns <= sample.at_ns <= end_ns]
    memory = _known(sample.server_memory_bytes for sample in within)
    pending = _known(sample.pending_requests for sample in within)
    host = _known(sample.host_cpu_utilization for sample in within)
    gpus = tuple(_gpus(within))
    if not (memory or pending or host or gpus):
        return None
    mean_memory = _mean(memory)
    return Resources(
        samples=len(within),
        server_cores=cores,
        server_memory_mean_bytes=None if mean_memory is None else round(mean_memory),
        server_memory_max_bytes=max(memory, default=None),
        server_pss_bytes=pss_bytes,
        server_cpu_share_mean=_mean(_known(sample.server_cpu_share for sample in within if sample.at_ns > start_ns)),
        host_cpu_utilization_mean=_mean(host),
        pending_requests_mean=_mean(pending),
        pending_requests_max=max(pending, default=None),
        pinned_memory_used_max_bytes=max(_known(sample.pinned_memory_used_bytes for sample in within), default=None),
        gpus=gpus,
    )


def _gpus(samples: Sequence[Sample]) -> Iterable[GpuResources]:
    by_uuid: dict[str, list[GpuSample]] = {}
    for sample in samples:
        for gpu in sample.gpus:
            by_uuid.setdefault(gpu.uuid, []).append(gpu)
    for uuid, seen in by_uuid.items():
        utilization, power = _known(gpu.utilization for gpu in seen), _known(gpu.power_w for gpu in seen)
        energy = _known(gpu.energy_j for gpu in seen)
        yield GpuResources(
            uuid=uuid,
            utilization_mean=_mean(utilization),
            utilization_max=max(utilization, default=None),
            memory_used_max_bytes=max(_known(gpu.memory_used_bytes for gpu in seen), default=None),
            memory_total_bytes=max(_known(gpu.memory_total_bytes for gpu in seen), default=None),
            power_mean_w=_mean(power),
            power_max_w=max(power, default=None),
            power_limit_w=max(_known(gpu.power_limit_w for gpu in seen), default=None),
            energy_j=_growth(energy),
        )


def _growth(counter: Sequence[float]) -> float | None:
    """How far a counter rose; None when it began anew, or was read less than twice."""
    if len(counter) < 2 or any(later < earlier for earlier, later in pairwise(counter)):
        return None
    return counter[-1] - counter[0]


def _known(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if value is not None]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
