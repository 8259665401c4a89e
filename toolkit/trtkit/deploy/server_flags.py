# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""tritonserver's options, each with its reason, as its release takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256

from trtkit.deploy.options import options_by_name
from trtkit.deploy.planned import ServedModel
from trtkit.deploy.releases import DEFAULT_MAX_REQUEST_BYTES, has_flag, has_metric
from trtkit.lint.flags import flags_for
from trtkit.lint.model import Repository
from trtkit.preflight import VERSION_COMPATIBLE_OPTION
from trtkit.project import Deploy

Flag = tuple[str, str]
CACHE_BYTES = 100 << 20
MAX_CONNECTION_AGE_MS, CONNECTION_GRACE_MS = 300_000, 60_000
OWN = (
    "model-repository", "model-store", "http-port", "grpc-port", "metrics-port", "exit-timeout-secs",
    "model-control-mode", "load-model", "exit-on-error", "strict-readiness", "log-verbose", "http-max-input-size",
)  # fmt: skip
"""Options that follow from the project file; in server.options they would be given twice."""
_ADMIN_KEY = "trtkit-admin"


def flags_of(
    spec: Deploy, release: str, served: Sequence[ServedModel], repository: Repository, digest: str, *, on_gpu: bool
) -> tuple[Flag, ...]:
    """The options, without the repository and the ports, which a container adds.

    Args:
        spec: the ``deploy:`` block.
        release: of the server; options it does not know are left out.
        served: the models.
        repository: the same, as the linter reads it.
        digest: of the repository.
        on_gpu: whether the server has a GPU.
    """
    given = options_by_name(spec.server.options)
    found = [
        *_life(spec),
        *_models(spec, served),
        *_needed(spec, served, repository),
        *_metrics(spec, release, served, on_gpu=on_gpu),
        *_network(spec, release),
        *_restrictions(spec, release, digest),
    ]
    own = [(flag, why) for flag, why in found if not _is_given(flag, given)]
    return (*own, *((option, "server.options") for option in spec.server.options))


def _is_given(flag: str, given: Mapping[str, list[str]]) -> bool:
    """Whether the user gives the same option, or the same setting of one that takes several."""
    name, _, value = flag.removeprefix("--").partition("=")
    if name in ("metrics-config", "backend-config", "load-model"):
        return any(each.partition("=")[0] == value.partition("=")[0] for each in given.get(name, ()))
    return name in given


def _life(spec: Deploy) -> Iterator[Flag]:
    server = spec.server
    yield f"--exit-timeout-secs={server.exit_timeout_seconds}", "requests in flight may take so long after SIGTERM"
    if server.strict:
        yield "--exit-on-error=true", "a model that does not load ends the server, so that a rollout stops"
    else:
        yield "--exit-on-error=false", "server.strict: false, the other models are served"
        yield "--strict-readiness=false", "ready although a model is missing; watch each model's own readiness"
    if server.log_verbose:
        yield f"--log-verbose={server.log_verbose}", f"server.log_verbose: {server.log_verbose}"
    yield "--log-format=ISO8601", "times with their zone, for log collectors"


def _models(spec: Deploy, served: Sequence[ServedModel]) -> Iterator[Flag]:
    if spec.server.control_mode == "explicit":
        yield "--model-control-mode=explicit", "only the models of `models:` are loaded"
        for model in served:
            wanted = model.name in spec.models
            yield f"--load-model={model.name}", "of `models:`" if wanted else "another model of `models:` needs it"


def _needed(spec: Deploy, served: Sequence[ServedModel], repository: Repository) -> Iterator[Flag]:
    """What configs ask for: without the flag the server ignores them without a word."""
    server = spec.server
    names = [model.name for model in served]
    cached = [model.name for model in served if model.cached]
    if cached or server.response_cache_bytes:
        size = server.response_cache_bytes or CACHE_BYTES
        why = f"response_cache of {', '.join(cached)}" if cached else "server.response_cache_bytes"
        yield f"--cache-config=local,size={size}", why
    asked = flags_for(repository, server.options, names)
    limit = next((flag for flag in asked if flag.startswith("--rate-limit=")), None)
    if server.rate_limit or (limit and server.rate_limit is None):
        why = f"rate_limiter of {asked[limit].name}" if limit else "server.rate_limit: true"
        yield "--rate-limit=execution_count", why
    if any(model.backend == "tensorrt" and _version_compatible(repository, model) for model in served):
        yield VERSION_COMPATIBLE_OPTION, "a plan was built version compatible, and loads only with it"


def _version_compatible(repository: Repository, model: ServedModel) -> bool:
    from trtkit.lint.plan_files import plan_files

    plans = plan_files(repository.models[model.name])
    return any(plan.engine and plan.engine.manifest["options"].get("version_compatible") is True for plan in plans)


def _metrics(spec: Deploy, release: str, served: Sequence[ServedModel], *, on_gpu: bool) -> Iterator[Flag]:
    if spec.server.summary_latencies and has_metric(release, "nv_inference_request_summary_us"):
        yield "--metrics-config=summary_latencies=true", "latency quantiles of each pod"
    # the server keeps a histogram of decoupled models only (core: metric_model_reporter.cc); for others the option does
    # nothing, but the linter asks for it where a config sets the buckets
    streams = [model.name for model in served if model.decoupled or model.config.HasField("model_metrics")]
    if streams and has_metric(release, "nv_inference_first_response_histogram_ms"):
        why = f"time to the first response of {', '.join(streams)} as a histogram; buckets are those of model_metrics"
        yield "--metrics-config=histogram_latencies=true", why
    if not on_gpu:
        yield "--allow-gpu-metrics=false", "the target has no GPU"


def _network(spec: Deploy, release: str) -> Iterator[Flag]:
    if has_flag(release, "grpc-max-connection-age"):
        why = "a gRPC client stays on one pod until its connection ends; so it finds pods that came later"
        yield f"--grpc-max-connection-age={MAX_CONNECTION_AGE_MS}", why
        why = "calls in flight may finish when a connection reaches its age"
        yield f"--grpc-max-connection-age-grace={CONNECTION_GRACE_MS}", why
    size = spec.server.max_request_bytes
    if size != DEFAULT_MAX_REQUEST_BYTES and has_flag(release, "http-max-input-size"):
        yield f"--http-max-input-size={size}", "server.max_request_bytes"


def restricted_apis(spec: Deploy) -> tuple[str, ...]:
    """The APIs that clients have no use for."""
    explicit = ("model-repository",) if spec.server.control_mode == "explicit" else ()
    return (*explicit, "shared-memory", "trace", "logging")


def _restrictions(spec: Deploy, release: str, digest: str) -> Iterator[Flag]:
    """Close what changes the server: loading a model is running its code."""
    apis = restricted_apis(spec)
    value = sha256(f"{_ADMIN_KEY} {digest}".encode()).hexdigest()[:32]
    why = (
        f"{', '.join(apis)}: only with this header, which clients are not told. Whoever reads this file knows it: the "
        "fence is the network"
    )
    for option in ("http-restricted-api", "grpc-restricted-protocol"):
        if has_flag(release, option):
            yield f"--{option}={','.join(apis)}:{_ADMIN_KEY}={value}", why
