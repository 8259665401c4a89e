# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""max_batch_size and dynamic_batching (core: model_config_utils.cc, ValidateModelConfig)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trtkit.lint.edits import removed
from trtkit.lint.finding import Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import rule
from trtkit.pbtxt import Path

_DELAY = 1


@rule("BAT001", "max-batch-size-negative", server=True)
def max_batch_size_negative(model: Model) -> Iterator[Found]:
    """max_batch_size is negative.

    0 means that the model takes no batch dimension; there is no value for "any size" (core: model_config_utils.cc,
    ValidateModelConfig).

    Wrong:
        max_batch_size: -1

    Right:
        max_batch_size: 64
    """
    size = model.config.max_batch_size
    if size < 0:
        yield model.found(
            ("max_batch_size",), f"'max_batch_size' must be non-negative value for {model.config.name}; got {size}"
        )


def _preferred(model: Model) -> Iterator[tuple[Path, int]]:
    for index, size in enumerate(model.config.dynamic_batching.preferred_batch_size):
        yield ("dynamic_batching", "preferred_batch_size", index), size


@rule("BAT002", "preferred-batch-size-not-positive", server=True, fixable=True)
def preferred_not_positive(model: Model) -> Iterator[Found]:
    """A preferred batch size is zero or negative.

    It is a number of requests that the server sends at once (core: model_config_utils.cc, ValidateModelConfig).

    Wrong:
        dynamic_batching { preferred_batch_size: [ 0, 4 ] }

    Right:
        dynamic_batching { preferred_batch_size: [ 4 ] }
    """
    for path, size in _preferred(model):
        if size <= 0:
            yield model.found(
                path,
                f"dynamic batching preferred size must be positive for {model.config.name}; got {size}",
                fix=removed(model.document, path),
            )


@rule("BAT003", "preferred-batch-size-above-max", server=True)
def preferred_above_max(model: Model) -> Iterator[Found]:
    """A preferred batch size is larger than max_batch_size.

    The max_batch_size that is written counts: this is checked before the backend completes the config.

    Wrong:
        max_batch_size: 4
        dynamic_batching { preferred_batch_size: [ 4, 8 ] }

    Right:
        max_batch_size: 8
        dynamic_batching { preferred_batch_size: [ 4, 8 ] }
    """
    most = model.config.max_batch_size
    for path, size in _preferred(model):
        if size > max(most, 0):
            yield model.found(
                path,
                f"dynamic batching preferred size must be <= max batch size for {model.config.name}; "
                f"got {size}, and max_batch_size is {most}",
            )


@rule("BAT004", "default-priority-level-out-of-range", server=True)
def default_priority(model: Model) -> Iterator[Found]:
    """Priority levels are given, and the default level is none of them.

    Levels are counted from 1, the highest priority; default_priority_level has no default (core: model_config_utils.cc,
    ValidateModelConfig).

    Wrong:
        dynamic_batching { priority_levels: 2 }

    Right:
        dynamic_batching { priority_levels: 2 default_priority_level: 2 }
    """
    batching = model.config.dynamic_batching
    levels, default = batching.priority_levels, batching.default_priority_level
    if levels and not 1 <= default <= levels:
        yield model.found(
            ("dynamic_batching", "default_priority_level"),
            f"default priority level must be in range [1, {levels}] for {model.config.name}; got {default}",
        )


@rule("BAT005", "queue-policy-of-no-priority-level", server=True)
def policy_level(model: Model) -> Iterator[Found]:
    """A queue policy is for a priority level that there is not.

    Levels are counted from 1 to priority_levels (core: model_config_utils.cc, ValidateModelConfig).

    Wrong:
        dynamic_batching {
          priority_levels: 2
          default_priority_level: 1
          priority_queue_policy { key: 3 value { max_queue_size: 10 } }
        }

    Right:
        dynamic_batching {
          priority_levels: 2
          default_priority_level: 1
          priority_queue_policy { key: 2 value { max_queue_size: 10 } }
        }
    """
    batching = model.config.dynamic_batching
    levels = batching.priority_levels
    for key in sorted(batching.priority_queue_policy) if levels else ():
        if not 1 <= key <= levels:
            yield model.found(
                ("dynamic_batching", "priority_queue_policy", key),
                f"priority queue policy must have priority level in range [1, {levels}] for {model.config.name}; "
                f"got {key}",
            )


@rule("BAT006", "ordering-with-priorities", server=True)
def ordering_with_priorities(model: Model) -> Iterator[Found]:
    """The order of responses is to be preserved, and there is more than one priority level.

    A request of a higher priority would overtake those whose responses have to come first (core: model_config_utils.cc,
    ValidateModelConfig).

    Wrong:
        dynamic_batching { preserve_ordering: true priority_levels: 2 default_priority_level: 1 }

    Right:
        dynamic_batching { priority_levels: 2 default_priority_level: 1 }
    """
    batching = model.config.dynamic_batching
    if batching.preserve_ordering and batching.priority_levels > 1:
        yield model.found(
            ("dynamic_batching", "preserve_ordering"),
            f"Only one priority level is allowed when 'preserve_ordering' is true for {model.config.name}; "
            f"priority_levels is {batching.priority_levels}",
        )


@rule("BAT007", "ordering-with-delayed-requests", server=True)
def ordering_with_delay(model: Model) -> Iterator[Found]:
    """The order of responses is to be preserved, and requests that time out are put back.

    With DELAY such a request runs after those that came behind it (core: model_config_utils.cc, ValidateModelConfig).

    Wrong:
        dynamic_batching {
          preserve_ordering: true
          default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 1000 }
        }

    Right:
        dynamic_batching {
          preserve_ordering: true
          default_queue_policy { timeout_action: REJECT default_timeout_microseconds: 1000 }
        }
    """
    batching = model.config.dynamic_batching
    if not batching.preserve_ordering:
        return
    for path, policy in _policies(model):
        if policy.default_timeout_microseconds and policy.timeout_action == _DELAY:
            yield model.found(
                (*path, "timeout_action"),
                "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for "
                f"{model.config.name}",
            )


def _policies(model: Model) -> Iterator[tuple[Path, Any]]:
    """The default policy and those of the priority levels, with where they are."""
    batching = model.config.dynamic_batching
    if batching.HasField("default_queue_policy"):
        yield ("dynamic_batching", "default_queue_policy"), batching.default_queue_policy
    for key in sorted(batching.priority_queue_policy):
        yield ("dynamic_batching", "priority_queue_policy", key), batching.priority_queue_policy[key]


@rule("BAT008", "priorities-without-levels", Severity.WARNING)
def priorities_without_levels(model: Model) -> Iterator[Found]:
    """Priorities are configured, but priority_levels is not.

    With no levels the server has one queue and the default policy; what is said of priorities is not looked at
    (core: scheduler_utils.cc, PriorityQueue).

    Wrong:
        dynamic_batching { default_priority_level: 1 }

    Right:
        dynamic_batching { priority_levels: 2 default_priority_level: 1 }
    """
    batching = model.config.dynamic_batching
    if batching.priority_levels:
        return
    for field in ("default_priority_level", "priority_queue_policy"):
        if getattr(batching, field):
            yield model.found(
                ("dynamic_batching", field), f"{field} has no effect without priority_levels; set priority_levels"
            )


@rule("BAT009", "timeout-override-without-timeout", Severity.WARNING)
def override_without_timeout(model: Model) -> Iterator[Found]:
    """Requests may set their own timeout, but only below a default that is not given.

    A request's timeout counts only where it is smaller than default_timeout_microseconds; 0, the default, means
    none, and nothing is smaller (core: scheduler_utils.cc, PolicyQueue::Enqueue).

    Wrong:
        dynamic_batching { default_queue_policy { allow_timeout_override: true } }

    Right:
        dynamic_batching {
          default_queue_policy { allow_timeout_override: true default_timeout_microseconds: 1000000 }
        }
    """
    for path, policy in _policies(model):
        if policy.allow_timeout_override and not policy.default_timeout_microseconds:
            yield model.found(
                (*path, "allow_timeout_override"),
                "allow_timeout_override has no effect without default_timeout_microseconds, the longest timeout that a "
                "request can have",
            )


RULES = (
    max_batch_size_negative,
    preferred_not_positive,
    preferred_above_max,
    default_priority,
    policy_level,
    ordering_with_priorities,
    ordering_with_delay,
    priorities_without_levels,
    override_without_timeout,
)
