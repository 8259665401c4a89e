# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The server's command line against the configs: only where its flags are known."""

from __future__ import annotations

from collections.abc import Iterator

from trtkit.lint.finding import Severity
from trtkit.lint.flags import is_met, needs
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import rule


def _unmet(model: Model, option: str) -> Iterator[Found]:
    if model.server.flags is None:
        return
    for need in needs(model):
        if need.option == option and not is_met(need, model.server):
            field = ".".join(str(part) for part in need.path if isinstance(part, str))
            yield model.found(
                need.path,
                f"{field} is set, but the server is started without --{option}: {need.otherwise}; add {need.example}",
            )


@rule("FLG001", "cache-without-flag", Severity.WARNING, depends_on_server=True)
def cache_without_flag(model: Model) -> Iterator[Found]:
    """response_cache is enabled, but the server has no cache.

    The server loads the model without a word and caches nothing: the cache itself is made by --cache-config
    (server: docs/user_guide/response_cache.md; measured with 2.51).

    Wrong:
        response_cache { enable: true }    # tritonserver --model-repository=...

    Right:
        response_cache { enable: true }    # tritonserver ... --cache-config=local,size=104857600
    """
    yield from _unmet(model, "cache-config")


@rule("FLG002", "rate-limiter-without-flag", Severity.WARNING, depends_on_server=True)
def rate_limiter_without_flag(model: Model) -> Iterator[Found]:
    """A rate limiter is configured, but the server's rate limiter is off.

    --rate-limit is off by default, and resources and priorities of the config are then ignored (server:
    docs/user_guide/rate_limiter.md; measured with 2.51).

    Wrong:
        instance_group { rate_limiter { priority: 2 } }    # tritonserver --model-repository=...

    Right:
        instance_group { rate_limiter { priority: 2 } }    # tritonserver ... --rate-limit=execution_count
    """
    yield from _unmet(model, "rate-limit")


@rule("FLG003", "rate-limit-resource-too-small", server=True, depends_on_server=True)
def resource_too_small(model: Model) -> Iterator[Found]:
    """An instance needs more of a resource than the server is given.

    Once --rate-limit-resource names any resource, what it does not name counts 0 (core: rate_limiter.cc;
    measured with 2.51).

    Wrong:
        instance_group { rate_limiter { resources { name: "R1" count: 4 } } }
        # tritonserver ... --rate-limit=execution_count --rate-limit-resource=R1:2

    Right:
        instance_group { rate_limiter { resources { name: "R1" count: 2 } } }
        # tritonserver ... --rate-limit=execution_count --rate-limit-resource=R1:2
    """
    given = model.server.option("rate-limit-resource")
    if not given or "execution_count" not in model.server.option("rate-limit"):
        return
    limits: dict[str, int] = {}
    for value in given:
        name, _, count = value.partition(":")
        number = count.partition(":")[0]
        limits[name] = max(limits.get(name, 0), int(number) if number.isdigit() else 0)
    for group_index, group in enumerate(model.config.instance_group):
        for index, resource in enumerate(group.rate_limiter.resources):
            limit = limits.get(resource.name, 0)
            if resource.count > limit:
                yield model.found(
                    ("instance_group", group_index, "rate_limiter", "resources", index),
                    f'Resource count for "{resource.name}" is limited to {limit} which will prevent scheduling of one '
                    f"or more model instances, the minimum required count is {resource.count}",
                )


@rule("FLG004", "histogram-without-flag", Severity.WARNING, depends_on_server=True)
def histogram_without_flag(model: Model) -> Iterator[Found]:
    """Buckets of a histogram are configured, but the server makes no histograms.

    They are off unless --metrics-config=histogram_latencies=true is given (server: docs/user_guide/metrics.md).

    Wrong:
        model_metrics {
          metric_control {
            metric_identifier { family: "nv_inference_first_response_histogram_ms" }
            histogram_options { buckets: [ 10, 100 ] }
          }
        }    # tritonserver --model-repository=...

    Right:
        model_metrics {
          metric_control {
            metric_identifier { family: "nv_inference_first_response_histogram_ms" }
            histogram_options { buckets: [ 10, 100 ] }
          }
        }    # tritonserver ... --metrics-config=histogram_latencies=true
    """
    yield from _unmet(model, "metrics-config")


@rule("FLG005", "host-policy-not-defined", Severity.WARNING, depends_on_server=True)
def host_policy_not_defined(model: Model) -> Iterator[Found]:
    """An instance group names a host policy that the server's flags do not define.

    The instances then run without one (server: docs/user_guide/optimization.md, NUMA; measured with 2.51).

    Wrong:
        instance_group { host_policy: "numa_0" }    # tritonserver --model-repository=...

    Right:
        instance_group { host_policy: "numa_0" }    # tritonserver ... --host-policy=numa_0,numa-node=0
    """
    yield from _unmet(model, "host-policy")


@rule("FLG006", "repository-agent-without-flag", Severity.WARNING, depends_on_server=True)
def agent_without_flag(model: Model) -> Iterator[Found]:
    """A repository agent is configured, and the server may not have it.

    A server that does not find libtritonrepoagent_NAME.so refuses the model. NVIDIA's images have the agent
    `checksum`; another needs its directory named.

    Wrong:
        model_repository_agents { agents { name: "mine" } }    # tritonserver --model-repository=...

    Right:
        model_repository_agents { agents { name: "mine" } }    # tritonserver ... --repoagent-directory=/agents
    """
    yield from _unmet(model, "repoagent-directory")


@rule("FLG007", "model-config-name-not-there", Severity.WARNING, depends_on_server=True)
def config_name_not_there(model: Model) -> Iterator[Found]:
    """The server is told to take a config that this model has not, though it has others.

    --model-config-name=NAME takes configs/NAME.pbtxt where it exists and config.pbtxt elsewhere, without a word.

    Wrong:
        m/configs/l40s.pbtxt    # tritonserver ... --model-config-name=l4

    Right:
        m/configs/l40s.pbtxt    # tritonserver ... --model-config-name=l40s
    """
    name = model.server.config_name
    there = [file.removeprefix("configs/").removesuffix(".pbtxt") for file in model.variants]
    if name is not None and there and name not in there and model.config_file == "config.pbtxt":
        have = ", ".join(there)
        yield model.found_in(
            "configs",
            f"--model-config-name={name}: there is no configs/{name}.pbtxt, only {have}; config.pbtxt is served",
        )


RULES = (
    cache_without_flag,
    rate_limiter_without_flag,
    resource_too_small,
    histogram_without_flag,
    host_policy_not_defined,
    agent_without_flag,
    config_name_not_there,
)
