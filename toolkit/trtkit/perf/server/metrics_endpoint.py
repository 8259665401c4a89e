# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Triton's metrics endpoint: GPU, CPU, pinned memory and waiting requests, now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any
from urllib.parse import urlsplit

from trtkit.errors import ProjectError, ServerUnavailableError
from trtkit.perf.server.address import Address, Tls, parse_address
from trtkit.perf.server.bounded_http import BoundedHttp
from trtkit.perf.server.prometheus import Metric, parse_metrics
from trtkit.perf.server.resources import GpuSample

DEFAULT_METRICS_PORT = 8002

_GPU_FIELDS = {
    "nv_gpu_utilization": "utilization",
    "nv_gpu_memory_used_bytes": "memory_used_bytes",
    "nv_gpu_memory_total_bytes": "memory_total_bytes",
    "nv_gpu_power_usage": "power_w",
    "nv_gpu_power_limit": "power_limit_w",
    "nv_energy_consumption": "energy_j",
}
_HOST = (
    "nv_cpu_utilization",
    "nv_cpu_memory_total_bytes",
    "nv_cpu_memory_used_bytes",
    "nv_pinned_memory_pool_used_bytes",
)
_PENDING = "nv_inference_pending_request_count"
# of each model that is loaded, also in servers too old to count what is pending
_MODEL = "nv_inference_request_success"
_WANTED = frozenset({*_GPU_FIELDS, *_HOST, _PENDING, _MODEL})


@dataclass(frozen=True, slots=True)
class Gauges:
    """What the endpoint says now; None is: not said.

    Attributes:
        models: the names of the loaded models.
        pending_requests: waiting to be executed, by model, all versions together.
        gpus: the server's GPUs.
        host_cpu_utilization: of the server's machine, 0 to 1.
        host_memory_used_bytes: of the server's machine.
        pinned_memory_used_bytes: of the server's pool of pinned memory.
    """

    models: frozenset[str]
    pending_requests: dict[str, int]
    gpus: tuple[GpuSample, ...]
    host_cpu_utilization: float | None
    host_memory_used_bytes: int | None
    pinned_memory_used_bytes: int | None


class MetricsEndpoint:
    """A connection to the endpoint.

    Args:
        url: ``HOST:PORT``, or a URL with ``http://`` or ``https://``; without a path it is ``/metrics``, without a
            port 8002.
        timeout_s: how long each question may take in all, in seconds.
        tls: for an ``https://`` URL.
        headers: sent with every question.

    Raises:
        ProjectError: no such URL, or a file of `tls` or a header is wrong.
    """

    def __init__(
        self, url: str, timeout_s: float, *, tls: Tls | None = None, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        self.url = url
        address, self._path = parse_metrics_url(url)
        self._http = BoundedHttp(address, tls or Tls(), timeout_s, headers)

    def ask(self) -> Gauges:
        """What it says now.

        Raises:
            ServerUnavailableError: nobody answers in time, or the answer is no page of metrics.
        """
        status, body = self._http.exchange("GET", self._path)
        if status != 200:
            raise ServerUnavailableError(f"{self.url} gives no metrics: it answers HTTP {status}")
        try:
            return gauges(parse_metrics(body.decode(), _WANTED))
        except ValueError as exc:
            raise ServerUnavailableError(f"{self.url} gives no metrics: {exc}") from exc

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


def parse_metrics_url(url: str) -> tuple[Address, str]:
    """The address and the path of a metrics endpoint; ``localhost:8002`` is ``/metrics`` at that port.

    Raises:
        ProjectError: it is no HTTP URL.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        has_port = parts.port is not None
    except ValueError as exc:
        raise ProjectError(f"'{url}' is no metrics URL ({exc}); give one as http://127.0.0.1:8002/metrics") from exc
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ProjectError(f"'{url}' is no metrics URL; give one as http://127.0.0.1:8002/metrics")
    address = parse_address(f"{parts.scheme}://{parts.netloc}", "http")
    if not has_port and not address.tls:
        address = address._replace(port=DEFAULT_METRICS_PORT)
    path = parts.path if parts.path.strip("/") else "/metrics"
    return address, path + (f"?{parts.query}" if parts.query else "")


def gauges(metrics: Sequence[Metric]) -> Gauges:
    """The metrics in our own words; those of GPUs by their uuid, in the page's order."""
    gpus: dict[str, dict[str, Any]] = {}
    host: dict[str, float] = {}
    models: set[str] = set()
    pending: dict[str, int] = {}
    for name, labels, value in metrics:
        if not isfinite(value):
            continue
        if name in _GPU_FIELDS:
            whole = name.endswith("_bytes")
            gpus.setdefault(labels.get("gpu_uuid", ""), {})[_GPU_FIELDS[name]] = int(value) if whole else value
        elif name in _HOST:
            host[name] = value
        else:
            model = labels.get("model", "")
            models.add(model)
            if name == _PENDING:
                pending[model] = pending.get(model, 0) + int(value)
    sampled = host.get("nv_cpu_memory_total_bytes", 0) > 0  # until Triton's first look they are all 0
    return Gauges(
        models=frozenset(models),
        pending_requests=pending,
        gpus=tuple(GpuSample(uuid, **fields) for uuid, fields in gpus.items()),
        host_cpu_utilization=host.get("nv_cpu_utilization") if sampled else None,
        host_memory_used_bytes=_whole(host.get("nv_cpu_memory_used_bytes")) if sampled else None,
        pinned_memory_used_bytes=_whole(host.get("nv_pinned_memory_pool_used_bytes")),
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
