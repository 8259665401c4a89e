# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""server.options: those that the server does not know, that follow from the project file, or that blind its metrics."""

from __future__ import annotations

from collections.abc import Iterator

from trtkit.deploy.options import options_by_name
from trtkit.deploy.releases import DEPRECATED_FLAGS, FLAGS, has_flag
from trtkit.deploy.server_flags import OWN
from trtkit.errors import nearest
from trtkit.project import Deploy

KNOWN = frozenset((
    "id", "exit-timeout-secs", "log-verbose", "log-info", "log-warning", "log-error", "log-format", "log-file",
    "model-repository", "exit-on-error", "disable-auto-complete-config", "strict-readiness", "model-control-mode",
    "repository-poll-secs", "load-model", "model-config-name", "model-load-thread-count", "model-load-retry-count",
    "model-namespacing", "enable-peer-access", "allow-http", "http-address", "http-port", "reuse-http-port",
    "http-header-forward-pattern", "http-thread-count", "http-restricted-api", "http-max-input-size", "allow-grpc",
    "grpc-address", "grpc-port", "reuse-grpc-port", "grpc-header-forward-pattern", "grpc-infer-allocation-pool-size",
    "grpc-max-response-pool-size", "grpc-infer-thread-count", "grpc-use-ssl", "grpc-use-ssl-mutual",
    "grpc-server-cert", "grpc-server-key", "grpc-root-cert", "grpc-infer-response-compression-level",
    "grpc-keepalive-time", "grpc-keepalive-timeout", "grpc-keepalive-permit-without-calls",
    "grpc-http2-max-pings-without-data", "grpc-http2-min-recv-ping-interval-without-data",
    "grpc-http2-max-ping-strikes", "grpc-max-connection-age", "grpc-max-connection-age-grace",
    "grpc-restricted-protocol", "allow-sagemaker", "sagemaker-port", "sagemaker-safe-port-range",
    "sagemaker-thread-count", "allow-vertex-ai", "vertex-ai-port", "vertex-ai-thread-count",
    "vertex-ai-default-model", "allow-metrics", "allow-gpu-metrics", "allow-cpu-metrics", "metrics-address",
    "metrics-port", "metrics-interval-ms", "metrics-config", "trace-config", "backend-directory", "backend-config",
    "repoagent-directory", "cache-config", "cache-directory", "rate-limit", "rate-limit-resource",
    "pinned-memory-pool-byte-size", "cuda-memory-pool-byte-size", "cuda-virtual-address-size",
    "min-supported-compute-capability", "buffer-manager-thread-count", "host-policy", "model-load-gpu-limit",
    "allow-client-shm",
))  # fmt: skip
"""Options of tritonserver 24.10 (--help), and those that came later."""
_FALSE = ("false", "0")


def option_problems(spec: Deploy, release: str) -> Iterator[str]:
    """What is wrong with the options, a sentence each.

    Args:
        spec: the ``deploy:`` block.
        release: of the server.
    """
    for option in spec.server.options:
        name, equals, _ = option.removeprefix("--").partition("=")
        if not option.startswith("--"):
            yield f"'{option}' is no option; write --NAME=VALUE"
        elif name in DEPRECATED_FLAGS:
            yield f"--{name} is deprecated; use --{DEPRECATED_FLAGS[name]}"
        elif name not in KNOWN:
            yield f"tritonserver has no option --{name}, and would not start; {_close(name)}"
        elif not has_flag(release, name):
            yield f"--{name} came with {FLAGS[name]}, and the server is {release}; it would not start"
        elif name in OWN:
            yield f"--{name} {_instead(name)}"
        elif not equals and name != "disable-auto-complete-config":
            yield f"--{name} has no value; write --{name}=VALUE"
    yield from _blind(spec)


def _blind(spec: Deploy) -> Iterator[str]:
    given = options_by_name(spec.server.options)
    for value in given.get("metrics-config", ()):
        if value.replace(" ", "").lower() in ("counter_latencies=false", "counter_latencies=0"):
            yield (
                "--metrics-config=counter_latencies=false freezes nv_inference_request_success and every other counter "
                "at 0; alerts and scaling would see nothing"
            )
    if any(value.lower() in _FALSE for value in given.get("allow-metrics", ())):
        yield "--allow-metrics=false leaves nothing to alert and scale on; set monitoring.kind: none and keep them"
    for option in ("http-restricted-api", "grpc-restricted-protocol"):
        for value in given.get(option, ()):
            closed = value.partition(":")[0].split(",")
            if "health" in closed or "inference" in closed:
                what = "health" if "health" in closed else "inference"
                yield f"--{option} closes {what}: probes and clients are refused; leave {what} out of it"
    if any(value.lower() in _FALSE for value in given.get("allow-http", ())):
        yield "--allow-http=false: the probes and the proxies speak HTTP; restrict its APIs instead"


def _instead(name: str) -> str:
    """Where in the project file the option follows from."""
    keys = {
        "exit-timeout-secs": "server.exit_timeout_seconds", "model-control-mode": "server.control_mode",
        "load-model": "models", "exit-on-error": "server.strict", "strict-readiness": "server.strict",
        "log-verbose": "server.log_verbose", "http-max-input-size": "server.max_request_bytes",
    }  # fmt: skip
    if name in keys:
        return f"follows from {keys[name]}; set that instead"
    return "is set by trtkit, as the probes and Services need it; leave it out"


def _close(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, KNOWN, n=1)
    return f"did you mean --{close[0]}?" if close else nearest(name, sorted(KNOWN)).partition(",")[0] + ", …"
