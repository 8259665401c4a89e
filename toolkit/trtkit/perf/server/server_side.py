# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The server's own figures: the differences of answers of its statistics endpoint.

The counts are the server's and can differ from the client's by the requests in flight at either end. A
Python-backend model that answers a request with an error is counted as a success by the server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from trtkit.errors import ServerError
from trtkit.perf.server.control import Fetch

_STAGES = (
    "success",
    "fail",
    "queue",
    "compute_input",
    "compute_infer",
    "compute_output",
    "cache_hit",
    "cache_miss",
)
_BATCH_STAGES = ("compute_input", "compute_infer", "compute_output")

Counters = dict[str, int]
"""``STAGE.count`` and ``STAGE.ns`` of a model's stages, and ``batch.SIZE.STAGE`` of its batch sizes."""
Snapshot = dict[tuple[str, str], Counters]
"""The counters of each model, by its name and version."""


@dataclass(frozen=True, slots=True)
class BatchFigures:
    """The executions of one batch size; the times are means per execution.

    Attributes:
        batch_size: samples in the batch, of all its requests together.
        execution_count: how often the backend was called with this size.
        compute_input_ns: bringing the inputs to the model.
        compute_infer_ns: the model itself.
        compute_output_ns: bringing the outputs back.
    """

    batch_size: int
    execution_count: int
    compute_input_ns: int | None
    compute_infer_ns: int | None
    compute_output_ns: int | None


@dataclass(frozen=True, slots=True)
class ServerFigures:
    """What the server says about one model over the measured windows.

    The times are means per request *that went through the stage*: with the response cache on, a hit does not
    reach the model. An ensemble's compute times are the server's sums over its models (parallel branches are
    added up); its queue time is its own only, without the queues of its models.

    Attributes:
        model: its name.
        version: its version.
        success_count: requests answered.
        fail_count: requests failed.
        inference_count: samples computed; a batch of 8 counts as 8.
        execution_count: how often the backend was called.
        batch_size_mean: inference_count / execution_count; None without an execution.
        request_ns: from the request's arrival in the server's core to its response.
        queue_ns: waiting for an instance, or for a batch to fill.
        compute_input_ns: bringing the inputs to the model.
        compute_infer_ns: the model itself.
        compute_output_ns: bringing the outputs back.
        cache_hit_count: requests answered from the response cache.
        cache_miss_count: requests looked up in vain.
        cache_hit_ns: looking up a response that was there.
        cache_miss_ns: looking up and storing a response that was not there.
        batches: the executions by batch size, ascending; a distribution of the batch sizes.
    """

    model: str
    version: str
    success_count: int
    fail_count: int
    inference_count: int
    execution_count: int
    batch_size_mean: float | None
    request_ns: int | None
    queue_ns: int | None
    compute_input_ns: int | None
    compute_infer_ns: int | None
    compute_output_ns: int | None
    cache_hit_count: int
    cache_miss_count: int
    cache_hit_ns: int | None
    cache_miss_ns: int | None
    batches: tuple[BatchFigures, ...] = ()

    @property
    def compute_ns(self) -> int | None:
        """Input, inference and output together; None when nothing was computed."""
        if self.compute_infer_ns is None:
            return None
        return (self.compute_input_ns or 0) + self.compute_infer_ns + (self.compute_output_ns or 0)

    @property
    def cache_hit_share(self) -> float | None:
        """Hits by look-ups in the response cache, 0 to 1; None when nothing was looked up."""
        looked_up = self.cache_hit_count + self.cache_miss_count
        return self.cache_hit_count / looked_up if looked_up else None

    def to_json(self) -> dict[str, Any]:
        """The form kept in records."""
        return {
            **asdict(self),
            "batches": [asdict(batch) for batch in self.batches],
            "compute_ns": self.compute_ns,
            "cache_hit_share": self.cache_hit_share,
        }


def composing_models(fetch: Fetch, config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The models an ensemble is made of, of its ensembles too, by name and version, each once.

    Args:
        fetch: the control connection.
        config: the ensemble's configuration; another model's gives an empty list.
    """
    return list(dict.fromkeys(_steps(fetch, config)))


def _steps(fetch: Fetch, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for step in config.get("ensemble_scheduling", {}).get("step", []):
        version = int(step.get("model_version", -1))
        name = step["model_name"]
        yield name, str(version) if version > 0 else ""
        yield from _steps(fetch, fetch("config", name, str(version) if version > 0 else ""))


def snapshot(fetch: Fetch, models: Sequence[tuple[str, str]]) -> Snapshot:
    """The counters of each model now; of the highest version when none is named.

    Raises:
        ServerError: the server does not answer, or does not serve one of the models.
    """
    taken: Snapshot = {}
    for name, version in models:
        served = fetch("statistics", name, version).get("model_stats", [])
        if not served:
            raise ServerError(f"the server has no statistics for model '{name}'")
        stats = max(served, key=lambda entry: _version_number(entry["version"]))
        taken[name, stats["version"]] = _counters(stats)
    return taken


def _version_number(version: str) -> int:
    return int(version) if version.isdigit() else -1


def _counters(stats: Mapping[str, Any]) -> Counters:
    """All counters of a model flat; zeros that gRPC leaves out are put back."""
    counters = {name: int(stats.get(name, 0)) for name in ("inference_count", "execution_count")}
    stages = stats.get("inference_stats", {})
    for stage in _STAGES:
        _count(counters, stage, stages.get(stage, {}))
    for batch in stats.get("batch_stats", []):
        for stage in _BATCH_STAGES:
            _count(counters, f"batch.{int(batch.get('batch_size', 0))}.{stage}", batch.get(stage, {}))
    return counters


def _count(counters: Counters, stage: str, duration: Mapping[str, Any]) -> None:
    counters[f"{stage}.count"] = int(duration.get("count", 0))
    counters[f"{stage}.ns"] = int(duration.get("ns", 0))


def difference(before: Snapshot, after: Snapshot) -> list[ServerFigures]:
    """The figures of each model between two snapshots, in the order of `after`.

    Raises:
        ServerError: a model was loaded anew in between, so that its counters do not belong together.
    """
    return [_figures(*key, before.get(key), counters) for key, counters in after.items()]


def _figures(model: str, version: str, before: Counters | None, after: Counters) -> ServerFigures:
    if before is None or _anew(before, after):
        raise ServerError(f"model '{model}' version {version} was loaded anew during the measurement")
    return _figures_of(model, version, _minus(after, before))


def _anew(before: Counters, after: Counters) -> bool:
    """Whether the counters began at zero again in between."""
    return any(after.get(name, 0) < count for name, count in before.items())


def _minus(after: Counters, before: Counters) -> Counters:
    return {name: count - before.get(name, 0) for name, count in after.items()}


def figures_over(
    snapshots: Sequence[Snapshot | ServerError], models: Sequence[tuple[str, str]]
) -> tuple[list[ServerFigures], list[str]]:
    """What is known from a sequence of snapshots, in which the server may have been away or started anew.

    Counters that began anew count from zero: what happened between the last snapshot before the reload and the
    reload itself is missing, and nothing is ever negative.

    Args:
        snapshots: in the order of time; an error where the server gave no statistics.
        models: name and version of each model, as given to `snapshot`.

    Returns:
        The figures of each model in the order of `models`, those of the version seen last, and a sentence about
        each thing that is missing. No figures when fewer than two snapshots succeeded.
    """
    taken = [shot for shot in snapshots if not isinstance(shot, ServerError)]
    failed = [shot for shot in snapshots if isinstance(shot, ServerError)]
    if len(taken) < 2:
        reason = str(failed[0]) if failed else "it was asked only once"
        return [], [f"the server gave no figures of its own: {reason}"]
    sentences = []
    if failed:
        sentences.append(
            f"{len(failed)} of {len(snapshots)} questions for the server's statistics failed ({failed[0]}); "
            "its figures are those of the others"
        )
    figures = []
    for name, version in models:
        one, reloads = _over(taken, name, version)
        figures += one
        sentences += reloads
    return figures, sentences


def _over(taken: Sequence[Snapshot], name: str, version: str) -> tuple[list[ServerFigures], list[str]]:
    """The figures of one model over the snapshots that have it, and what is missing."""
    served = [key for key in taken[-1] if key[0] == name and version in ("", key[1])]
    if not served:
        return [], [f"the server's last statistics say nothing of model '{name}'"]
    key = max(served, key=lambda entry: _version_number(entry[1]))
    seen = [shot.get(key) for shot in taken]
    total: Counters = {}
    reloads = 0
    for before, after in pairwise(seen):
        if after is None:
            continue
        anew = before is None or _anew(before, after)
        reloads += anew
        for counter, count in (after if anew else _minus(after, before or {})).items():
            total[counter] = total.get(counter, 0) + count
    sentences = []
    if reloads:
        sentences.append(
            f"model '{name}' version {key[1]} was loaded anew during the measurement; "
            "the server's figures miss what it did just before"
        )
    return [_figures_of(*key, total)], sentences


def _figures_of(model: str, version: str, delta: Counters) -> ServerFigures:
    executions = delta["execution_count"]
    return ServerFigures(
        model=model,
        version=version,
        success_count=delta["success.count"],
        fail_count=delta["fail.count"],
        inference_count=delta["inference_count"],
        execution_count=executions,
        batch_size_mean=delta["inference_count"] / executions if executions else None,
        request_ns=_mean(delta, "success"),
        queue_ns=_mean(delta, "queue"),
        compute_input_ns=_mean(delta, "compute_input"),
        compute_infer_ns=_mean(delta, "compute_infer"),
        compute_output_ns=_mean(delta, "compute_output"),
        cache_hit_count=delta["cache_hit.count"],
        cache_miss_count=delta["cache_miss.count"],
        cache_hit_ns=_mean(delta, "cache_hit"),
        cache_miss_ns=_mean(delta, "cache_miss"),
        batches=tuple(_batches(delta)),
    )


def _batches(delta: Counters) -> Iterator[BatchFigures]:
    sizes = {int(name.split(".")[1]) for name in delta if name.startswith("batch.")}
    for size in sorted(sizes):
        executions = delta[f"batch.{size}.compute_infer.count"]
        if executions:
            yield BatchFigures(size, executions, *(_mean(delta, f"batch.{size}.{stage}") for stage in _BATCH_STAGES))


def _mean(delta: Counters, stage: str) -> int | None:
    count = delta[f"{stage}.count"]
    return round(delta[f"{stage}.ns"] / count) if count else None
