# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Where the time of a request goes: client and network, queue, input, inference, output; an ensemble's longest way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from trtkit.perf.server.ensemble_graph import Graph, Step, longest_path
from trtkit.perf.server.server_side import ServerFigures

# a model that answered this much more than the ensemble can have asked has other callers
_OTHERS_SHARE = 0.05
_OTHERS_COUNT = 10


# means that are no farther apart are the same
_SAME_NS = 500_000


class Latency(Protocol):
    """What is needed of the client's latencies."""

    @property
    def mean_ns(self) -> float:
        """From the send to the last response."""
        ...


class Measured(Protocol):
    """What is needed of a measurement."""

    @property
    def latency(self) -> Latency | None:
        """The client's; None without a successful request."""
        ...

    @property
    def server(self) -> ServerFigures | None:
        """The server's figures of the model; None when it gave none."""
        ...

    @property
    def composing(self) -> Sequence[ServerFigures]:
        """Those of an ensemble's models."""
        ...


@dataclass(frozen=True, slots=True)
class ModelStages:
    """The mean time of a request in the server, by stage; the stages add up to `request_ns`.

    They are means over *all* requests of the model: a stage that a request skips (the response cache answers it)
    counts as 0. An ensemble's compute times are sums over its models, so that they can be above `request_ns` when
    branches run side by side: its `EnsembleStages` say where its time goes.

    Attributes:
        model: its name.
        version: its version.
        requests: answered requests.
        request_ns: from the request's arrival in the server's core to its response.
        queue_ns: waiting for an instance, or for a batch to fill.
        compute_input_ns: bringing the inputs to the model.
        compute_infer_ns: the model itself.
        compute_output_ns: bringing the outputs back.
        cache_ns: looking up and storing responses.
        other_ns: what is left: the server's own work, and waiting that it does not count.
    """

    model: str
    version: str
    requests: int
    request_ns: int
    queue_ns: int
    compute_input_ns: int
    compute_infer_ns: int
    compute_output_ns: int
    cache_ns: int
    other_ns: int


@dataclass(frozen=True, slots=True)
class StepTimes:
    """One step of an ensemble.

    Attributes:
        model: the model that it calls.
        start_ns: when it begins after the ensemble's request arrived, by the mean times of the steps before it.
        mean_ns: the mean time of the model's requests, of all its callers; 0 when it had none.
        critical: whether it is on the longest way.
    """

    model: str
    start_ns: int
    mean_ns: int
    critical: bool


@dataclass(frozen=True, slots=True)
class EnsembleStages:
    """The steps of an ensemble.

    Attributes:
        ensemble: its name.
        steps: in the order of its configuration.
        critical_ns: the longest way by mean times, parallel branches side by side. The mean of the slowest branch is
            never below the slowest mean, so that this is a lower bound of what the requests took.
        sum_ns: all steps added up, as if they ran one after the other.
        request_ns: what the ensemble's requests took.
        between_ns: what is left beside the longest way, at least 0: handing tensors on, waiting for a step's turn.
    """

    ensemble: str
    steps: tuple[StepTimes, ...]
    critical_ns: int
    sum_ns: int
    request_ns: int
    between_ns: int

    @property
    def critical(self) -> tuple[str, ...]:
        """The models on the longest way, the first one first."""
        way = sorted((step for step in self.steps if step.critical), key=lambda step: step.start_ns)
        return tuple(step.model for step in way)


@dataclass(frozen=True, slots=True)
class Stages:
    """Where the mean time of a request goes.

    Attributes:
        latency_ns: what the client saw.
        client_and_network_ns: latency without the server's time: sending, transport, the server's frontend, reading.
        model: the measured model in the server.
        parts: the models of an ensemble.
        ensembles: the measured ensemble first, then the ensembles in it; empty for another model.
        sentences: what has to be known beside the figures.
    """

    latency_ns: int
    client_and_network_ns: int
    model: ModelStages
    parts: tuple[ModelStages, ...]
    ensembles: tuple[EnsembleStages, ...]
    sentences: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The form kept in records."""
        return asdict(self)


def breakdown(measurement: Measured, graph: Graph) -> Stages | None:
    """Where the mean time of a request goes.

    Args:
        measurement: the result of a measurement.
        graph: the model's `ensemble_graph`; empty for a model that is no ensemble.

    Returns:
        None when no request succeeded, or the server gave no figures.
    """
    server, latency = measurement.server, measurement.latency
    if latency is None or server is None or server.request_ns is None:
        return None
    latency_ns = round(latency.mean_ns)
    figures = {(one.model, one.version): one for one in (*measurement.composing, server)}
    sentences = []
    if server.request_ns > latency_ns + max(latency_ns // 20, _SAME_NS):  # it counts to a stream's empty last response
        sentences.append(
            "the server's mean time is above the client's: it counts requests of others, or of another time"
        )
    ensembles = []
    for name, steps in graph.items():
        own = _find(figures, name, "")
        if own is not None and own.request_ns is not None:
            ensembles.append(_ensemble(own, steps, figures))
    return Stages(
        latency_ns=latency_ns,
        client_and_network_ns=max(latency_ns - server.request_ns, 0),
        model=model_stages(server),
        parts=tuple(model_stages(one) for one in measurement.composing),
        ensembles=tuple(ensembles),
        sentences=(*sentences, *_shared(graph, server, figures)),
    )


def model_stages(figures: ServerFigures) -> ModelStages:
    """The stages of one model's requests, as shares of their mean time."""
    requests = figures.success_count
    computed = max(1 - figures.cache_hit_count / requests, 0) if requests else 0
    cache_ns = (figures.cache_hit_ns or 0) * figures.cache_hit_count
    cache_ns += (figures.cache_miss_ns or 0) * figures.cache_miss_count
    queue_ns = figures.queue_ns or 0
    compute = [figures.compute_input_ns, figures.compute_infer_ns, figures.compute_output_ns]
    input_ns, infer_ns, output_ns = (round((time or 0) * computed) for time in compute)
    mean_cache_ns = round(cache_ns / requests) if requests else 0
    request_ns = figures.request_ns or 0
    known_ns = queue_ns + input_ns + infer_ns + output_ns + mean_cache_ns
    return ModelStages(
        model=figures.model,
        version=figures.version,
        requests=requests,
        request_ns=request_ns,
        queue_ns=queue_ns,
        compute_input_ns=input_ns,
        compute_infer_ns=infer_ns,
        compute_output_ns=output_ns,
        cache_ns=mean_cache_ns,
        other_ns=max(request_ns - known_ns, 0),
    )


_Figures = dict[tuple[str, str], ServerFigures]


def _find(figures: _Figures, model: str, version: str) -> ServerFigures | None:
    found = [one for key, one in figures.items() if key[0] == model and version in ("", key[1])]
    return found[-1] if found else None


def _ensemble(own: ServerFigures, steps: Sequence[Step], figures: _Figures) -> EnsembleStages:
    found = [_find(figures, step.model, step.version) for step in steps]
    times = [(one.request_ns or 0) if one else 0 for one in found]
    path = longest_path(steps, times)
    request_ns = own.request_ns or 0
    return EnsembleStages(
        ensemble=own.model,
        steps=tuple(
            StepTimes(step.model, path.starts_ns[index], times[index], index in path.steps)
            for index, step in enumerate(steps)
        ),
        critical_ns=path.length_ns,
        sum_ns=sum(times),
        request_ns=request_ns,
        between_ns=max(request_ns - path.length_ns, 0),
    )


def _shared(graph: Graph, server: ServerFigures, figures: _Figures) -> list[str]:
    """A sentence about each model whose figures are not those of one step only."""
    users: dict[str, list[str]] = {}
    for ensemble, steps in graph.items():
        for step in steps:
            users.setdefault(step.model, []).append(ensemble)
    asked = {server.model: server.success_count} if graph else {}
    sentences = []
    for ensemble, steps in graph.items():  # an ensemble comes before those among its steps
        for step in steps:
            asked[step.model] = asked.get(step.model, 0) + asked.get(ensemble, 0)
    for model, ensembles in users.items():
        if len(ensembles) > 1:
            names = ", ".join(f"'{name}'" for name in dict.fromkeys(ensembles))
            sentences.append(
                f"model '{model}' is shared by {len(ensembles)} steps of {names}: its figures are those of all together"
            )
        answered = sum(one.success_count for key, one in figures.items() if key[0] == model)
        if answered > asked[model] * (1 + _OTHERS_SHARE) + _OTHERS_COUNT:
            sentences.append(
                f"model '{model}' is shared with other callers: it answered {answered:,} requests of which "
                f"'{server.model}' asked {asked[model]:,}; its figures are of all of them together"
            )
    return sentences
