# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Why requests are not batched, or wait too long for it."""

from __future__ import annotations

from collections.abc import Callable

from trtkit.perf.server.diagnose_facts import Diagnosis, ModelFacts, ms

_QUEUED = 0.2  # of the latency, from which on a queue is worth the merging of its requests
_NOT_QUEUED = 0.05
_DELAY_MATTERS = 0.2
# a wait within this part of the configured delay is the delay
_LIKE_THE_DELAY = (0.7, 1.5)


def batching(model: ModelFacts) -> Diagnosis | None:
    """The first reason that holds; None when requests are merged, or there is nothing to merge."""
    return next((found for reason in _REASONS if (found := reason(model)) is not None), None)


def _figures(model: ModelFacts) -> str:
    """What each of the reasons rests on."""
    mean = model.figures.batch_size_mean
    return (
        f"{model.name}: requests wait {ms(model.stages.queue_ns)} ({model.queue_share:.0%} of the latency) and have "
        f"{model.samples_per_request:.3g} samples, an execution has {mean or 0:.3g} on average"
    )


def _no_batch_axis(model: ModelFacts) -> Diagnosis | None:
    if model.max_batch_size or model.is_sequence or model.queue_share < _QUEUED:
        return None
    return Diagnosis(
        "The model cannot take several requests at once",
        f"{_figures(model)}, and max_batch_size is 0",
        "export the model with a batch axis and set max_batch_size, or give it more instances",
    )


def _sequence(model: ModelFacts) -> Diagnosis | None:
    if not model.is_sequence or model.merges or model.queue_share < _QUEUED:
        return None
    kind = "oldest" if "oldest" in model.config["sequence_batching"] else "direct"
    return Diagnosis(
        "A sequence model's requests are merged over sequences only",
        f"{_figures(model)}; its {kind} strategy takes one request of each sequence at a time",
        "more sequences at once (--concurrency), or max_candidate_sequences, preferred sizes and a queue delay in "
        "sequence_batching { oldest }",
    )


def _not_configured(model: ModelFacts) -> Diagnosis | None:
    if model.max_batch_size < 2 or model.is_dynamic or model.is_sequence or model.queue_share < _QUEUED:
        return None
    return Diagnosis(
        "Requests wait, and dynamic batching is off",
        f"{_figures(model)}; max_batch_size is {model.max_batch_size} and the configuration has no dynamic_batching",
        "dynamic_batching { } in the model's configuration",
    )


def _dynamic_without_merging(model: ModelFacts) -> bool:
    return model.is_dynamic and model.max_batch_size > 1 and bool(model.figures.execution_count) and not model.merges


def _full_requests(model: ModelFacts) -> Diagnosis | None:
    if not _dynamic_without_merging(model) or 2 * model.samples_per_request <= model.max_batch_size:
        return None
    return Diagnosis(
        "Requests are full batches already",
        f"{_figures(model)}; two of them do not fit into max_batch_size {model.max_batch_size}",
        "nothing for the batching; a larger max_batch_size, or smaller requests, when the model is not busy with one",
    )


def _few_requests(model: ModelFacts) -> Diagnosis | None:
    crowded = model.in_server >= model.instances + 0.5 or model.queue_share >= _QUEUED
    if crowded or not _dynamic_without_merging(model):
        return None
    return Diagnosis(
        "Too few requests at once to merge any",
        f"{_figures(model)}; {model.in_server:.2g} requests are in the server at once, for {_instances(model)}",
        "a higher --concurrency or --request-rate if the real load is higher, or fewer instances",
    )


def _below_the_preferred_size(model: ModelFacts) -> Diagnosis | None:
    if not (model.is_dynamic and model.preferred and model.delay_ns):
        return None
    samples = model.in_server * model.samples_per_request
    waits = model.stages.queue_ns / model.delay_ns
    if samples >= model.preferred[0] or waits < _LIKE_THE_DELAY[0] or model.queue_share < _DELAY_MATTERS:
        return None
    return Diagnosis(
        "The preferred batch size is never reached",
        f"{_figures(model)}; {samples:.3g} samples are in the server at once and the smallest preferred_batch_size is "
        f"{model.preferred[0]}, so that each waits for the delay of {ms(model.delay_ns)}",
        "no preferred_batch_size, or one below the load's samples at once; or a shorter max_queue_delay_microseconds",
    )


def _waits_for_the_delay(model: ModelFacts) -> Diagnosis | None:
    if not (model.is_dynamic and model.delay_ns) or model.queue_share < _DELAY_MATTERS:
        return None
    low, high = _LIKE_THE_DELAY
    if not low <= model.stages.queue_ns / model.delay_ns <= high:
        return None
    return Diagnosis(
        "Requests wait for the queue delay",
        f"{_figures(model)}; max_queue_delay_microseconds makes a request wait up to {ms(model.delay_ns)}, "
        f"and the model takes {ms(model.stages.compute_infer_ns)}",
        "a shorter max_queue_delay_microseconds: 0 still merges what waits while all instances are busy",
    )


def _no_delay(model: ModelFacts) -> Diagnosis | None:
    if not _dynamic_without_merging(model) or model.delay_ns or model.queue_share > _NOT_QUEUED:
        return None
    return Diagnosis(
        "Each request finds an instance free at once",
        f"{_figures(model)}; max_queue_delay_microseconds is 0, so that nothing waits for others, with "
        f"{model.in_server:.2g} requests in the server at once and {_instances(model)}",
        "fewer instances, or a max_queue_delay_microseconds that is short beside the model's "
        f"{ms(model.stages.compute_infer_ns)}",
    )


def _shapes(model: ModelFacts) -> Diagnosis | None:
    varying = model.varying_inputs
    waiting = _dynamic_without_merging(model) and model.queue_share >= _QUEUED
    if not waiting or not varying or model.whole.load.distinct_requests < 2:
        return None
    return Diagnosis(
        "Requests wait and are not merged: their shapes may differ",
        f"{_figures(model)}; input {', '.join(varying)} has axes of any size, and "
        f"{model.whole.load.distinct_requests} different requests were sent",
        "equal shapes (pad, or a few sizes only), or allow_ragged_batch when the model can take ragged batches",
    )


def _merging_in_vain(model: ModelFacts) -> Diagnosis | None:
    if not _dynamic_without_merging(model) or model.queue_share < _QUEUED:
        return None
    return Diagnosis(
        "Requests wait and are not merged",
        f"{_figures(model)}, with dynamic batching on and max_batch_size {model.max_batch_size}",
        "look for what makes requests differ: shapes, parameters, priorities, sequence ids; a preferred_batch_size "
        f"({model.preferred or 'none is set'}) that no two requests make",
    )


def _instances(model: ModelFacts) -> str:
    return f"{model.instances} instance{'s' if model.instances > 1 else ''}"


_REASONS: tuple[Callable[[ModelFacts], Diagnosis | None], ...] = (
    _no_batch_axis,
    _sequence,
    _not_configured,
    _full_requests,
    _below_the_preferred_size,
    _waits_for_the_delay,
    _few_requests,
    _no_delay,
    _shapes,
    _merging_in_vain,
)
