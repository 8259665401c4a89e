# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The tritonserver flags without which a field of a config does nothing.

Measured with tritonserver 2.51: it loads such a model without a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trtkit.lint.model import Model, Repository
from trtkit.lint.server_facts import ServerFacts
from trtkit.pbtxt import Path
from trtkit.repository import config_file


@dataclass(frozen=True)
class Need:
    """A flag that a model needs.

    Attributes:
        option: its name, without dashes.
        example: the flag as it could be given.
        path: the field that needs it.
        otherwise: what happens without it.
    """

    option: str
    example: str
    path: Path
    otherwise: str


def needs(model: Model) -> Iterator[Need]:
    """What the server's command line has to hold for this model, whether it does or not."""
    config = model.config
    if config.response_cache.enable:
        yield Need("cache-config", "--cache-config=local,size=104857600", ("response_cache",), "nothing is cached")
    for index, group in enumerate(config.instance_group):
        path: Path = ("instance_group", index)
        if group.HasField("rate_limiter"):
            otherwise = "the rate limiter is off and every instance runs at once"
            yield Need("rate-limit", "--rate-limit=execution_count", (*path, "rate_limiter"), otherwise)
        if group.host_policy:
            example = f"--host-policy={group.host_policy},numa-node=0"
            yield Need("host-policy", example, (*path, "host_policy"), "the instances run anywhere")
    if config.model_metrics.metric_control:
        example, otherwise = "--metrics-config=histogram_latencies=true", "the histogram is not there"
        yield Need("metrics-config", example, ("model_metrics",), otherwise)
    for index, agent in enumerate(config.model_repository_agents.agents):
        example = "--repoagent-directory=/opt/tritonserver/repoagents"
        otherwise = f"libtritonrepoagent_{agent.name}.so has to be in /opt/tritonserver/repoagents/{agent.name}"
        yield Need("repoagent-directory", example, ("model_repository_agents", "agents", index), otherwise)


def is_met(need: Need, server: ServerFacts) -> bool:
    """Whether the flags that are known give what is needed."""
    values = [value.replace(" ", "") for value in server.option(need.option)]
    if need.option == "rate-limit":
        return "execution_count" in values
    if need.option == "host-policy":
        return any(value.partition(",")[0] == need.example.partition("=")[2].partition(",")[0] for value in values)
    if need.option == "metrics-config":
        return any(value.lower() in ("histogram_latencies=true", "histogram_latencies=1") for value in values)
    if need.option == "cache-config":
        return bool(values) or any(value != "0" for value in server.option("response-cache-byte-size"))
    return bool(values)


_SAFE = ("cache-config", "rate-limit", "metrics-config")
"""Options whose example is right for any repository."""


def flags_for(repository: Repository, given: Sequence[str], models: Sequence[str] = ()) -> dict[str, Model]:
    """The flags to add so that every config that is served does what it says.

    Args:
        repository: the models.
        given: the flags that are there already; an option that is given is left to its giver.
        models: only these; default: all.

    Returns:
        By flag, the first model that needs it, with the config that needs it.
    """
    server = ServerFacts(tuple(given))
    added: dict[str, Model] = {}
    for name in models or repository.models:
        model = _served(repository.models[name], server)
        for need in needs(model):
            if need.option in _SAFE and not server.option(need.option):
                added.setdefault(need.example, model)
    return added


def _served(model: Model, server: ServerFacts) -> Model:
    """The model with the config that the server takes: that of ``--model-config-name``, where there is one."""
    file = "".join(config_file(name) for name in server.option("model-config-name")[-1:])
    return Model(model.repository, model.name, model.folder, file) if file and model.entry(file) else model
