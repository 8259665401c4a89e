# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""tritonserver's options and metrics, by name.

The options are those that ``tritonserver --help`` of 24.10 prints, and the newer ones of `releases.FLAGS`; the
metrics are those of the server's source, with what a real server printed.
"""

from __future__ import annotations

from difflib import get_close_matches

from trtkit.deploy.releases import DEPRECATED_FLAGS, FLAGS

_PRINTED = """
allow-cpu-metrics allow-gpu-metrics allow-grpc allow-http allow-metrics allow-sagemaker allow-vertex-ai
backend-config backend-directory buffer-manager-thread-count cache-config cache-directory
cuda-memory-pool-byte-size cuda-virtual-address-size disable-auto-complete-config enable-peer-access exit-on-error
exit-timeout-secs grpc-address grpc-header-forward-pattern grpc-http2-max-ping-strikes
grpc-http2-max-pings-without-data grpc-http2-min-recv-ping-interval-without-data grpc-infer-allocation-pool-size
grpc-infer-response-compression-level grpc-keepalive-permit-without-calls grpc-keepalive-time grpc-keepalive-timeout
grpc-max-connection-age grpc-max-connection-age-grace grpc-port grpc-restricted-protocol grpc-root-cert
grpc-server-cert grpc-server-key grpc-use-ssl grpc-use-ssl-mutual help host-policy http-address
http-header-forward-pattern http-port http-restricted-api http-thread-count id load-model log-error log-file
log-format log-info log-verbose log-warning metrics-address metrics-config metrics-interval-ms metrics-port
min-supported-compute-capability model-config-name model-control-mode model-load-gpu-limit model-load-retry-count
model-load-thread-count model-namespacing model-repository pinned-memory-pool-byte-size rate-limit
rate-limit-resource repoagent-directory repository-poll-secs reuse-grpc-port reuse-http-port sagemaker-port
sagemaker-safe-port-range sagemaker-thread-count strict-readiness trace-config vertex-ai-default-model vertex-ai-port
vertex-ai-thread-count
"""
OPTIONS = {*_PRINTED.split(), *FLAGS, *DEPRECATED_FLAGS}
"""All options that some tritonserver takes."""

COUNTERS = {
    "nv_inference_request_success", "nv_inference_request_failure", "nv_inference_count", "nv_inference_exec_count",
    "nv_inference_request_duration_us", "nv_inference_queue_duration_us", "nv_inference_compute_input_duration_us",
    "nv_inference_compute_infer_duration_us", "nv_inference_compute_output_duration_us",
    "nv_cache_num_hits", "nv_cache_num_misses", "nv_cache_num_lookups", "nv_cache_num_evictions",
    "nv_cache_num_hits_per_model", "nv_cache_num_misses_per_model", "nv_cache_hit_duration_per_model",
    "nv_cache_miss_duration_per_model", "nv_cache_lookup_duration", "nv_cache_insertion_duration",
    "nv_energy_consumption",
}  # fmt: skip
"""What only grows."""
GAUGES = {
    "nv_inference_pending_request_count", "nv_model_load_duration_secs", "nv_pinned_memory_pool_total_bytes",
    "nv_pinned_memory_pool_used_bytes", "nv_gpu_utilization", "nv_gpu_memory_total_bytes",
    "nv_gpu_memory_used_bytes", "nv_gpu_power_usage", "nv_gpu_power_limit", "nv_cpu_utilization",
    "nv_cpu_memory_total_bytes", "nv_cpu_memory_used_bytes", "nv_cache_util", "nv_cache_num_entries",
}  # fmt: skip
"""What rises and falls."""
SUMMARIES = {
    f"nv_inference_{part}_summary_us"
    for part in ("request", "queue", "compute_input", "compute_infer", "compute_output")
}
"""Quantiles over time; there with ``--metrics-config=summary_latencies=true``."""
HISTOGRAMS = {"nv_inference_first_response_histogram_ms"}
"""There with ``--metrics-config=histogram_latencies=true``."""
OTHERS = ("nv_trt_llm_", "nv_llm_", "nv_energy_", "nv_tensorrtllm_")
"""What backends' own metrics begin with."""
RATIOS = {"nv_gpu_utilization", "nv_cpu_utilization", "nv_cache_util", "DCGM_FI_PROF_GR_ENGINE_ACTIVE"}
"""From 0 to 1."""
_ALL = {*COUNTERS, *GAUGES, *SUMMARIES, *HISTOGRAMS}


def base_metric(name: str) -> str:
    """A metric's name without what histograms and summaries append."""
    for ending in ("_bucket", "_sum", "_count"):
        if name.endswith(ending) and name.removesuffix(ending) in SUMMARIES | HISTOGRAMS:
            return name.removesuffix(ending)
    return name


def is_metric(name: str) -> bool:
    """Whether some tritonserver has a metric of that name."""
    return base_metric(name) in _ALL or name.startswith(OTHERS)


def nearest_metric(name: str) -> str:
    """The end of a sentence about a metric that there is not."""
    if name.removesuffix("_total") in _ALL:
        return f"its name is {name.removesuffix('_total')}: Triton's counters have no _total"
    found = get_close_matches(name, _ALL, n=1, cutoff=0.5)
    return f"did you mean {found[0]}?" if found else "Triton's docs/user_guide/metrics.md lists all"
