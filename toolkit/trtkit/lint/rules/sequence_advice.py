# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""sequence_batching that loads and does not do what is written."""

from __future__ import annotations

from collections.abc import Iterator

from trtkit.lint.edits import removed
from trtkit.lint.finding import Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import rule
from trtkit.lint.rules.sequence import BOOLEAN_KINDS, CORRID, VALUES, controls
from trtkit.lint.shapes import type_of

_SHORT_IDLE_MICROSECONDS = 1000
_INPUTS = ("sequence_batching", "control_input")


@rule("SEQ014", "control-tensor-without-control", Severity.WARNING)
def tensor_without_control(model: Model) -> Iterator[Found]:
    """A control input says nothing that the server knows, so the tensor is never made.

    It has no control, or one whose kind is a number that no kind has; the server passes over it
    (model_config_utils.cc, GetBooleanSequenceControlProperties).

    Wrong:
        control_input { name: "START" }

    Right:
        control_input { name: "START" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } }
    """
    known = {path for path, _, _ in controls(model)}
    for index, tensor in enumerate(model.config.sequence_batching.control_input):
        if not tensor.control:
            message = f"control input '{tensor.name}' has no control; the tensor is never made"
            yield model.found((*_INPUTS, index), message)
        for place, control in enumerate(tensor.control):
            path = (*_INPUTS, index, "control", place)
            if path not in known:
                allowed = ", ".join((*BOOLEAN_KINDS, CORRID))
                yield model.found((*path, "kind"), f"kind {control.kind} is none the server knows; kinds are {allowed}")


@rule("SEQ015", "controls-share-a-tensor", Severity.WARNING)
def controls_share_a_tensor(model: Model) -> Iterator[Found]:
    """One control input has several controls: the last one written into the tensor wins.

    The server puts them into the request one after the other under the same name
    (sequence_batch_scheduler.cc, SetControlTensors).

    Wrong:
        control_input {
          name: "A"
          control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] }
          control { kind: CONTROL_SEQUENCE_END fp32_false_true: [ 0, 1 ] }
        }

    Right:
        control_input { name: "A" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } }
        control_input { name: "B" control { kind: CONTROL_SEQUENCE_END fp32_false_true: [ 0, 1 ] } }
    """
    first: dict[object, str] = {}
    for path, kind, _ in controls(model):
        other = first.setdefault(path[2], kind)
        if other != kind:
            name = model.config.sequence_batching.control_input[int(path[2])].name
            message = f"'{name}' carries {other} and {kind}, of which only the last written arrives"
            yield model.found(path, f"{message}; give each control a tensor of its own")


@rule("SEQ016", "control-is-a-model-input", Severity.WARNING)
def control_is_an_input(model: Model) -> Iterator[Found]:
    """A control or state tensor is also listed as an input: clients have to send it, and it is overwritten.

    The server makes these tensors itself; `input` lists what clients send (sequence_batch_scheduler.cc,
    SetControlTensors; infer_request.cc, Normalize).

    Wrong:
        input { name: "START" data_type: TYPE_FP32 dims: [ 1 ] }
        sequence_batching {
          control_input { name: "START" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } }
        }

    Right:
        sequence_batching {
          control_input { name: "START" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } }
        }
    """
    config = model.config
    if not config.HasField("sequence_batching"):
        return
    inputs = {each.name for each in config.input}
    batching = config.sequence_batching
    named = [((*_INPUTS, index, "name"), each.name) for index, each in enumerate(batching.control_input)]
    named += [
        (("sequence_batching", "state", index, "input_name"), each.input_name)
        for index, each in enumerate(batching.state)
    ]
    for path, name in named:
        if name in inputs:
            message = f"'{name}' is made by the server and listed as an input too: clients have to send it"
            yield model.found(path, f"{message}, and it is overwritten; take it out of the inputs")


@rule("SEQ017", "control-values-are-equal", Severity.WARNING)
def control_values_are_equal(model: Model) -> Iterator[Found]:
    """A control has the same value for false and for true, so the model cannot tell them apart.

    The server writes one of the two into each request of a sequence, and does not compare them (core:
    model_config_utils.cc, GetBooleanSequenceControlProperties).

    Wrong:
        control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 1, 1 ] }

    Right:
        control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] }
    """
    for path, kind, control in controls(model):
        for name in VALUES if kind in BOOLEAN_KINDS else ():
            values = getattr(control, name)
            if len(values) == 2 and values[0] == values[1]:
                message = f"'{name}' writes {values[0]} for false and for true, so {kind} tells the model nothing"
                yield model.found((*path, name), message)


@rule("SEQ018", "control-data-type-ignored", Severity.WARNING, fixable=True)
def control_type_ignored(model: Model) -> Iterator[Found]:
    """A START, READY or END control has a data_type that its values do not have.

    The type follows from the field with the two values; data_type is read for CORRID only
    (model_config_utils.cc, GetBooleanSequenceControlProperties).

    Wrong:
        control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] data_type: TYPE_FP32 }

    Right:
        control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] }
    """
    types = dict(zip(VALUES, ("TYPE_INT32", "TYPE_FP32", "TYPE_BOOL"), strict=True))
    for path, kind, control in controls(model):
        given = next((name for name in VALUES if getattr(control, name)), None)
        if kind in BOOLEAN_KINDS and control.data_type and given and types[given] != type_of(control):
            message = f"data_type {type_of(control)} is not looked at: the tensor is {types[given]}, as '{given}' says"
            own = (*path, "data_type")
            fix = removed(model.document, own)
            yield model.found(own, message, fix=fix)


@rule("SEQ019", "delay-and-utilization-need-each-other", Severity.WARNING)
def half_a_delay(model: Model) -> Iterator[Found]:
    """Of the direct strategy's delay and slot utilisation only one is set, and so neither has an effect.

    A batch waits only where both are above zero (sequence_batch_scheduler.cc,
    DirectSequenceBatch::BatcherThread).

    Wrong:
        sequence_batching { direct { max_queue_delay_microseconds: 1000 } }

    Right:
        sequence_batching { direct { max_queue_delay_microseconds: 1000 minimum_slot_utilization: 0.5 } }
    """
    direct = model.config.sequence_batching.direct
    delay, share = direct.max_queue_delay_microseconds, direct.minimum_slot_utilization
    if bool(delay) != bool(share):
        given, missing = ("max_queue_delay_microseconds", "minimum_slot_utilization")[:: 1 if delay else -1]
        path = ("sequence_batching", "direct", given)
        yield model.found(path, f"{given} has no effect without {missing}: no batch waits; set both, or none")


@rule("SEQ020", "preferred-batch-size-above-candidates", Severity.WARNING)
def preferred_above_candidates(model: Model) -> Iterator[Found]:
    """A preferred batch size is larger than the number of sequences that can be in a batch.

    A sequence has one request in flight, so a batch holds at most max_candidate_sequences
    (sequence_batch_scheduler.cc, OldestSequenceBatch::CompleteAndNext); such a size is waited for in vain.

    Wrong:
        sequence_batching { oldest { max_candidate_sequences: 4 preferred_batch_size: [ 8 ] } }

    Right:
        sequence_batching { oldest { max_candidate_sequences: 64 preferred_batch_size: [ 8 ] } }
    """
    oldest = model.config.sequence_batching.oldest
    most = oldest.max_candidate_sequences
    for index, size in enumerate(oldest.preferred_batch_size):
        if 0 < most < size <= model.config.max_batch_size:
            path = ("sequence_batching", "oldest", "preferred_batch_size", index)
            message = f"a batch never has {size} requests: max_candidate_sequences lets only {most} sequences in"
            yield model.found(path, message)


@rule("SEQ021", "negative-candidate-sequences", Severity.WARNING)
def negative_candidates(model: Model) -> Iterator[Found]:
    """max_candidate_sequences is negative and taken for the default, max_batch_size.

    Source: sequence_batch_scheduler.cc, SequenceBatchScheduler::Create.

    Wrong:
        sequence_batching { oldest { max_candidate_sequences: -1 } }

    Right:
        sequence_batching { oldest { max_candidate_sequences: 64 } }
    """
    most = model.config.sequence_batching.oldest.max_candidate_sequences
    if most < 0:
        path = ("sequence_batching", "oldest", "max_candidate_sequences")
        default = max(1, model.config.max_batch_size)
        yield model.found(path, f"max_candidate_sequences {most} is taken for {default}, the default; set it above 0")


@rule("SEQ022", "short-sequence-idle", Severity.WARNING)
def short_idle(model: Model) -> Iterator[Found]:
    """Sequences end when their client is quiet for less than a millisecond.

    max_sequence_idle_microseconds counts microseconds; a request that comes later is refused for want of a
    START (sequence_batch_scheduler.cc, ReaperThread). The default is one second.

    Wrong:
        sequence_batching { max_sequence_idle_microseconds: 60 }

    Right:
        sequence_batching { max_sequence_idle_microseconds: 60000000 }
    """
    idle = model.config.sequence_batching.max_sequence_idle_microseconds
    if 0 < idle < _SHORT_IDLE_MICROSECONDS:
        path = ("sequence_batching", "max_sequence_idle_microseconds")
        message = f"a sequence ends when no request comes for {idle} microseconds, less than a round trip takes"
        yield model.found(path, f"{message}; {idle} seconds are {idle}000000")


RULES = (
    tensor_without_control, controls_share_a_tensor, control_is_an_input, control_values_are_equal,
    control_type_ignored, half_a_delay, preferred_above_candidates, negative_candidates, short_idle,
)  # fmt: skip
