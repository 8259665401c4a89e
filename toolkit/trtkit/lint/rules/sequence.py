# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""sequence_batching as the server refuses it: its controls, preferred sizes and slot utilisation.

What loads and does not do what is written is in `sequence_advice`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from trtkit.lint.edits import removed, set_value
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import rule
from trtkit.lint.shapes import type_of
from trtkit.pbtxt import Path

VALUES = ("int32_false_true", "fp32_false_true", "bool_false_true")
BOOLEAN_KINDS = ("CONTROL_SEQUENCE_START", "CONTROL_SEQUENCE_READY", "CONTROL_SEQUENCE_END")
CORRID = "CONTROL_SEQUENCE_CORRID"
_CORRID_TYPES = ("TYPE_UINT64", "TYPE_INT64", "TYPE_UINT32", "TYPE_INT32", "TYPE_STRING")
_OLDEST_SIZES = ("sequence_batching", "oldest", "preferred_batch_size")


def controls(model: Model) -> Iterator[tuple[Path, str, Any]]:
    """Each control with its path and its kind's name; kinds without a name are not looked at by the server."""
    for index, tensor in enumerate(model.config.sequence_batching.control_input):
        for place, control in enumerate(tensor.control):
            known = type(control).Kind.DESCRIPTOR.values_by_number.get(control.kind)
            if known is not None:
                yield ("sequence_batching", "control_input", index, "control", place), known.name, control


@rule("SEQ001", "control-tensor-without-name", server=True)
def control_without_name(model: Model) -> Iterator[Found]:
    """A control input has no name.

    The name is that of the model's input that the server fills in (model_config_utils.cc,
    GetBooleanSequenceControlProperties).

    Wrong:
        control_input { control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } }

    Right:
        control_input { name: "START" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } }
    """
    for index, tensor in enumerate(model.config.sequence_batching.control_input):
        if not tensor.name:
            words = f"sequence batching control tensor must have a name for {model.config.name}"
            yield model.found(("sequence_batching", "control_input", index), f"{words}; name the model's input")


@rule("SEQ002", "control-tensor-twice", server=True)
def control_tensor_twice(model: Model) -> Iterator[Found]:
    """Two control inputs have the same name.

    One tensor carries one control (model_config_utils.cc, GetBooleanSequenceControlProperties).

    Wrong:
        control_input { name: "CONTROL" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } }
        control_input { name: "CONTROL" control { kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] } }

    Right:
        control_input { name: "START" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } }
        control_input { name: "END" control { kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] } }
    """
    seen = set()
    for index, tensor in enumerate(model.config.sequence_batching.control_input):
        if tensor.name and tensor.name in seen:
            words = f"sequence batching control tensor '{tensor.name}' is specified for multiple control kinds"
            message = f"{words} for {model.config.name}; give each control a tensor of its own"
            yield model.found(("sequence_batching", "control_input", index, "name"), message)
        seen.add(tensor.name)


@rule("SEQ003", "control-kind-twice", server=True)
def control_kind_twice(model: Model) -> Iterator[Found]:
    """A kind of control is given to more than one tensor, or twice to one.

    Each of START, READY, END and CORRID goes into at most one tensor (model_config_utils.cc,
    GetBooleanSequenceControlProperties, GetTypedSequenceControlProperties).

    Wrong:
        control_input { name: "A" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } }
        control_input { name: "B" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } }

    Right:
        control_input { name: "A" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } }
    """
    seen: Counter[str] = Counter()
    for path, kind, _ in controls(model):
        seen[kind] += 1
        if seen[kind] > 1:
            words = f"sequence batching specifies multiple {kind} tensors for {model.config.name}"
            yield model.found((*path, "kind"), f"{words}; keep one of them")


@rule("SEQ004", "control-without-values", server=True)
def control_without_values(model: Model) -> Iterator[Found]:
    """A START, READY or END control does not say what is written for false and true.

    The two values also decide the tensor's data type (model_config_utils.cc,
    GetBooleanSequenceControlProperties).

    Wrong:
        control_input { name: "START" control { kind: CONTROL_SEQUENCE_START } }

    Right:
        control_input { name: "START" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } }
    """
    for path, kind, control in controls(model):
        if kind in BOOLEAN_KINDS and not any(getattr(control, values) for values in VALUES):
            words = "sequence batching must specify either 'int32_false_true', 'fp32_false_true' or 'bool_false_true'"
            yield model.found(path, f"{words} for {kind} for {model.config.name}")


@rule("SEQ005", "control-with-values-of-two-types", server=True)
def control_with_values_of_two_types(model: Model) -> Iterator[Found]:
    """A START, READY or END control has values of more than one data type.

    The tensor has one data type (model_config_utils.cc, GetBooleanSequenceControlProperties).

    Wrong:
        control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] fp32_false_true: [ 0, 1 ] }

    Right:
        control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] }
    """
    for path, kind, control in controls(model):
        given = [values for values in VALUES if getattr(control, values)]
        if kind in BOOLEAN_KINDS and len(given) > 1:
            words = "sequence batching specifies more than one from 'int32_false_true', 'fp32_false_true' and"
            message = f"{words} 'bool_false_true' for {kind} for {model.config.name}; keep one of {' and '.join(given)}"
            yield model.found((*path, given[1]), message)


@rule("SEQ006", "control-values-not-two", server=True)
def control_values_not_two(model: Model) -> Iterator[Found]:
    """A START, READY or END control has not exactly two values.

    The first is written for false, the second for true (model_config_utils.cc,
    GetBooleanSequenceControlProperties).

    Wrong:
        control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 1 ] }

    Right:
        control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] }
    """
    for path, kind, control in controls(model):
        given = [values for values in VALUES if getattr(control, values)]
        if kind in BOOLEAN_KINDS and len(given) == 1 and (count := len(getattr(control, given[0]))) != 2:
            words = f"sequence batching control '{given[0]}' must have exactly 2 entries for {kind}"
            message = f"{words} for {model.config.name}, got {count}; first false, then true"
            yield model.found((*path, given[0]), message)


@rule("SEQ007", "correlation-id-with-values", server=True)
def correlation_id_with_values(model: Model) -> Iterator[Found]:
    """The CORRID control has values for false and true.

    It carries the sequence's ID, of the type that data_type says (model_config_utils.cc,
    GetTypedSequenceControlProperties).

    Wrong:
        control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 int32_false_true: [ 0, 1 ] }

    Right:
        control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 }
    """
    for path, kind, control in controls(model):
        given = [values for values in VALUES if getattr(control, values)]
        if kind == CORRID and given:
            words = "sequence batching must not specify either 'int32_false_true', 'fp32_false_true' or"
            message = f"{words} 'bool_false_true' for {kind} for {model.config.name}; remove {given[0]}"
            yield model.found((*path, given[0]), message)


@rule("SEQ008", "correlation-id-type", server=True)
def correlation_id_type(model: Model) -> Iterator[Found]:
    """The CORRID control has no data type, or one that no sequence ID has.

    IDs are whole numbers of 32 or 64 bits, or text (model_config_utils.cc, ValidateModelConfig).

    Wrong:
        control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_FP32 }

    Right:
        control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 }
    """
    for path, kind, control in controls(model):
        given = type_of(control)
        if kind == CORRID and given not in _CORRID_TYPES:
            words = f"unexpected data type for control {kind} for {model.config.name}. Allowed data types are"
            shown = "no data_type" if given == "TYPE_INVALID" else given
            message = f"{words} TYPE_UINT64, TYPE_INT64, TYPE_UINT32, TYPE_INT32 and TYPE_STRING, got {shown}"
            yield model.found((*path, "data_type"), message)


@rule("SEQ009", "sequence-preferred-size-not-positive", server=True, fixable=True)
def preferred_size_not_positive(model: Model) -> Iterator[Found]:
    """A preferred batch size of the oldest strategy is zero or less.

    Source: model_config_utils.cc, ValidateModelConfig.

    Wrong:
        sequence_batching { oldest { preferred_batch_size: [ 0, 4 ] } }

    Right:
        sequence_batching { oldest { preferred_batch_size: [ 4 ] } }
    """
    for index, size in enumerate(model.config.sequence_batching.oldest.preferred_batch_size):
        if size <= 0:
            words = f"sequence batching preferred batch size must be positive for {model.config.name}, got {size}"
            path = (*_OLDEST_SIZES, index)
            fix = removed(model.document, path)
            yield model.found(path, f"{words}; remove it", fix=fix)


@rule("SEQ010", "preferred-batch-size-above-max-batch-size", server=True)
def preferred_size_above_max(model: Model) -> Iterator[Found]:
    """A preferred batch size of the oldest strategy is larger than max_batch_size.

    With max_batch_size 0 there are no batches, so no size can be preferred (model_config_utils.cc,
    ValidateModelConfig).

    Wrong:
        max_batch_size: 4
        sequence_batching { oldest { preferred_batch_size: [ 8 ] } }

    Right:
        max_batch_size: 8
        sequence_batching { oldest { preferred_batch_size: [ 8 ] } }
    """
    most = model.config.max_batch_size
    for index, size in enumerate(model.config.sequence_batching.oldest.preferred_batch_size):
        if size > 0 and size > most:
            words = f"sequence batching preferred batch size must be <= max batch size for {model.config.name}"
            yield model.found((*_OLDEST_SIZES, index), f"{words}, got {size} with max_batch_size {most}")


@rule("SEQ011", "slot-utilization-out-of-range", server=True)
def slot_utilization_out_of_range(model: Model) -> Iterator[Found]:
    """minimum_slot_utilization is no share of the slots.

    It is the part of the batch's slots that has to be filled before a batch is sent early, 0.5 for a half
    (model_config_utils.cc, ValidateModelConfig).

    Wrong:
        sequence_batching { direct { minimum_slot_utilization: 50 } }

    Right:
        sequence_batching { direct { minimum_slot_utilization: 0.5 max_queue_delay_microseconds: 1000 } }
    """
    given = model.config.sequence_batching.direct.minimum_slot_utilization
    if given < 0 or given > 1:
        words = "sequence batching minimum slot utilization must be in range (0.0, 1.0] for"
        path = ("sequence_batching", "direct", "minimum_slot_utilization")
        yield model.found(path, f"{words} {model.config.name}, got {given:g}")


@rule("SEQ012", "response-cache-with-sequences", server=True, fixable=True)
def response_cache_with_sequences(model: Model) -> Iterator[Found]:
    """The response cache is on for a model with sequences.

    An answer depends on the requests before it, so it cannot be looked up (model_config_utils.cc,
    ValidateModelConfig).

    Wrong:
        sequence_batching { }
        response_cache { enable: true }

    Right:
        sequence_batching { }
    """
    config = model.config
    if config.HasField("sequence_batching") and config.response_cache.enable:
        words = f"Response Cache does not currently support model {config.name} with sequence batching scheduler."
        path = ("response_cache", "enable")
        fix = set_value(model.document, path, "false")
        yield model.found(path, f"{words} Please disable the response cache.", fix=fix)


@rule("SEQ013", "batching-library-with-sequences", server=True, fixable=True)
def batching_library_with_sequences(model: Model) -> Iterator[Found]:
    """A library with its own batching is given to a model with sequences.

    TRITON_BATCH_STRATEGY_PATH is for the dynamic batcher. The server's words end with "using default batching
    strategy", but it refuses the model (measured with 2.51; backend_model.cc).

    Wrong:
        sequence_batching { }
        parameters { key: "TRITON_BATCH_STRATEGY_PATH" value { string_value: "/opt/strategy.so" } }

    Right:
        sequence_batching { }
    """
    config, key = model.config, "TRITON_BATCH_STRATEGY_PATH"
    if config.HasField("sequence_batching") and key in config.parameters:
        words = f"{key} cannot be specified with sequence batcher, using default batching strategy"
        path = ("parameters", key)
        fix = removed(model.document, path)
        yield model.found(path, f"{words}: the model is refused; remove the parameter", fix=fix)


RULES = (
    control_without_name, control_tensor_twice, control_kind_twice, control_without_values,
    control_with_values_of_two_types, control_values_not_two, correlation_id_with_values, correlation_id_type,
    preferred_size_not_positive, preferred_size_above_max, slot_utilization_out_of_range,
    response_cache_with_sequences, batching_library_with_sequences,
)  # fmt: skip
