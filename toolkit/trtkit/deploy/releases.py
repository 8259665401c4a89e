# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Since which NGC release tritonserver has a flag, a metric or a behaviour, and which Kubernetes has a field.

The dates are those of the commits that brought them (server and core repositories), as the release that followed;
what was run against a real server (24.10, Triton 2.51) is said beside it.
"""

from __future__ import annotations

from trtkit.images import parse_version

Version = tuple[int, ...]

FLAGS: dict[str, str] = {
    "cache-config": "23.03",
    "metrics-config": "23.04",
    "grpc-restricted-protocol": "23.06",
    "http-restricted-api": "23.12",
    "grpc-max-connection-age": "24.01",
    "grpc-max-connection-age-grace": "24.01",
    "model-load-retry-count": "24.02",
    "http-max-input-size": "25.07",
    "allow-client-shm": "26.04",
}
"""Options of tritonserver by the first release that takes them for certain; those not listed are older than 22.11.

http-max-input-size: server pull request 8174 was still under review on 2025-05-30. allow-client-shm: pull request 8739
brought it to the branch of 26.04.
"""

DEPRECATED_FLAGS: dict[str, str] = {
    "model-store": "model-repository",
    "strict-model-config": "disable-auto-complete-config",
    "response-cache-byte-size": "cache-config",
    "trace-file": "trace-config",
    "trace-level": "trace-config",
    "trace-rate": "trace-config",
    "trace-count": "trace-config",
    "trace-log-frequency": "trace-config",
}
"""Options that tritonserver still takes, and what stands in their place."""

METRICS: dict[str, str] = {
    "nv_inference_pending_request_count": "23.09",
    "nv_inference_request_failure.reason": "24.08",
    "nv_inference_request_summary_us": "23.04",
    "nv_inference_first_response_histogram_ms": "24.11",
    "nv_model_load_duration_secs": "24.11",
    "nv_pinned_memory_pool_total_bytes": "24.01",
}
"""Metrics by the first release that has them; the last two but one were not there in 24.10 when it was run."""

DEFAULT_MAX_REQUEST_BYTES = 64 << 20
"""Of --http-max-input-size."""

KUBERNETES: dict[str, str] = {
    "lifecycle.preStop.sleep": "1.30",
    "topologySpreadConstraints.matchLabelKeys": "1.27",
    "unhealthyPodEvictionPolicy": "1.27",
}
"""Fields by the first Kubernetes version in which they are on by default."""


def has(release: str, since: str) -> bool:
    """Whether a release, e.g. ``25.01``, is `since` or newer."""
    return parse_version(release) >= parse_version(since)


def has_flag(release: str, flag: str) -> bool:
    """Whether tritonserver of a release takes ``--flag``."""
    return has(release, FLAGS.get(flag, "22.11"))


def has_metric(release: str, metric: str) -> bool:
    """Whether tritonserver of a release has a metric."""
    return has(release, METRICS.get(metric, "22.11"))


def has_field(kube_version: str, field: str) -> bool:
    """Whether Kubernetes of a version, e.g. ``1.30``, has a field of `KUBERNETES`."""
    return parse_version(kube_version) >= parse_version(KUBERNETES[field])
