# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The figures that a diagnosis rests on: of the whole measurement, and of each of its models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

from trtkit.dtypes import by_name
from trtkit.errors import DataError
from trtkit.perf.server.server_side import ServerFigures
from trtkit.perf.server.stages import ModelStages, model_stages

if TYPE_CHECKING:
    from trtkit.perf.measurement import Measurement
    from trtkit.perf.server.control import ModelDescription

_BATCHED_FROM = 1.2  # executions this much larger than the requests are merged requests


@dataclass(frozen=True)
class Diagnosis:
    """One finding.

    Attributes:
        title: what is the matter, in a few words.
        because: the figures it rests on.
        try_: what to try.
    """

    title: str
    because: str
    try_: str


@dataclass(frozen=True)
class ModelFacts:
    """One model under load: the server's figures and its configuration.

    Args:
        figures: the server's, with at least one request.
        config: its ModelConfig in JSON form.
        whole: the measurement.
    """

    figures: ServerFigures
    config: Mapping[str, Any]
    whole: Measurement

    @property
    def name(self) -> str:
        """The model's name in quotes."""
        return f"'{self.figures.model}'"

    @cached_property
    def stages(self) -> ModelStages:
        """Means over all its requests."""
        return model_stages(self.figures)

    @property
    def is_ensemble(self) -> bool:
        """Whether it only calls other models."""
        return bool(self.config.get("ensemble_scheduling"))

    @property
    def is_sequence(self) -> bool:
        """Whether it takes sequences of requests."""
        return "sequence_batching" in self.config

    @property
    def is_dynamic(self) -> bool:
        """Whether the server merges requests for it."""
        return "dynamic_batching" in self.config

    @property
    def max_batch_size(self) -> int:
        """Samples in one execution at most; 0 when the model has no batch axis."""
        return int(self.config.get("max_batch_size", 0))

    @property
    def delay_ns(self) -> int:
        """How long a request may wait for others."""
        return int(self.config.get("dynamic_batching", {}).get("max_queue_delay_microseconds", 0)) * 1000

    @property
    def preferred(self) -> list[int]:
        """The preferred batch sizes, ascending."""
        return sorted(int(size) for size in self.config.get("dynamic_batching", {}).get("preferred_batch_size", []))

    @property
    def instances(self) -> int:
        """How many executions can run at once; 1 when the configuration is silent."""
        groups: Sequence[Mapping[str, Any]] = self.config.get("instance_group", [])
        return sum(_count(group) for group in groups) or 1

    @property
    def cpu_instances(self) -> int:
        """Those of them on the CPU."""
        groups: Sequence[Mapping[str, Any]] = self.config.get("instance_group", [])
        return sum(_count(group) for group in groups if group.get("kind") == "KIND_CPU")

    @property
    def varying_inputs(self) -> list[str]:
        """Inputs with an axis of any size whose requests are merged only when their shapes are equal."""
        inputs: Sequence[Mapping[str, Any]] = self.config.get("input", [])
        return [
            str(one.get("name"))
            for one in inputs
            if not one.get("allow_ragged_batch") and any(int(size) < 0 for size in one.get("dims", []))
        ]

    @property
    def samples_per_request(self) -> float:
        """Samples in a request, of those that were computed."""
        computed = self.figures.success_count - self.figures.cache_hit_count
        return self.figures.inference_count / computed if computed > 0 else float(self.whole.load.batch_size)

    @property
    def merges(self) -> bool:
        """Whether executions are larger than requests."""
        return (self.figures.batch_size_mean or 0) > _BATCHED_FROM * self.samples_per_request

    @property
    def queue_share(self) -> float:
        """The queue's part of the client's mean latency."""
        return self.share(self.stages.queue_ns)

    def share(self, time_ns: float) -> float:
        """A mean time as a part of the client's mean latency; 0 without a latency."""
        latency = self.whole.latency
        return time_ns / latency.mean_ns if latency is not None and latency.mean_ns else 0.0

    @property
    def in_server(self) -> float:
        """Its requests in the server at once, by Little's law from the server's own counters."""
        return self.figures.success_count * self.stages.request_ns / 1e9 / self.whole.duration_s

    @property
    def busy(self) -> float | None:
        """How much of the time an instance is computing, 0 to 1; None when the server does not say."""
        if not self.figures.batches:
            return None
        ns = sum(
            batch.execution_count
            * ((batch.compute_input_ns or 0) + (batch.compute_infer_ns or 0) + (batch.compute_output_ns or 0))
            for batch in self.figures.batches
        )
        return ns / 1e9 / self.whole.duration_s / self.instances

    @property
    def compute_share(self) -> float:
        """Input, inference and output as a part of the client's mean latency."""
        stages = self.stages
        return self.share(stages.compute_input_ns + stages.compute_infer_ns + stages.compute_output_ns)


def _count(group: Mapping[str, Any]) -> int:
    return int(group.get("count", 1)) * max(len(group.get("gpus", [])), 1)


def models_of(
    measurement: Measurement, description: ModelDescription, composing: Mapping[str, Mapping[str, Any]]
) -> list[ModelFacts]:
    """The models that computed something: the measured one, or those of an ensemble whose configuration is known."""
    known = {**composing, measurement.load.model: description.config}
    figures = [one for one in (measurement.server, *measurement.composing) if one is not None and one.success_count]
    facts = [ModelFacts(one, known[one.model], measurement) for one in figures if one.model in known]
    return [one for one in facts if not one.is_ensemble]


def request_bytes(description: ModelDescription, batch_size: int) -> int | None:
    """Bytes of a request's inputs by the model's metadata; None when they depend on the request."""
    total = 0
    for tensor in description.metadata.get("inputs", []):
        shape = [int(size) for size in tensor.get("shape", [])]
        if int(description.config.get("max_batch_size", 0)) > 0 and shape:
            shape[0] = batch_size
        try:
            size = by_name(str(tensor.get("datatype"))).byte_size
        except DataError:
            return None
        if not size or any(extent < 0 for extent in shape):
            return None
        total += size * prod(shape)
    return total


def ms(nanoseconds: float) -> str:
    """A time for people."""
    return f"{nanoseconds / 1e6:.3g} ms"
