# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The replicas that one metric asks for, as kube-controller-manager computes them.

What pkg/controller/podautoscaler/replica_calculator.go (1.36) does: calcPlainMetricReplicas for metrics of pods,
GetExternalPerPodMetricReplicas and GetExternalMetricReplicas for external ones. Values and targets are integers of
thousandths there, and so they are here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


class NoMetricError(Exception):
    """The metric has no value; the HPA does nothing, and says so in its status."""


@dataclass(frozen=True)
class PodCounts:
    """The pods of a Deployment as the HPA sees them, without those that are being deleted.

    Attributes:
        unready: in phase Pending: no node yet, or the image is being pulled.
        missing: running, but without a value of the metric: loading, or not yet scraped often enough.
        ready: that are ready for traffic; only for external metrics with Value.
    """

    unready: int
    missing: int
    ready: int


def milli(value: float) -> int:
    """Thousandths, cut off, as resource quantities carry them."""
    return int(value * 1000)


def is_within(ratio: float, tolerance: float) -> bool:
    """Whether the metric is close enough to its target to do nothing."""
    return 1.0 - tolerance <= ratio <= 1.0 + tolerance


def for_pods(current: int, values: Sequence[float], target: float, pods: PodCounts, tolerance: float = 0.1) -> int:
    """For a metric of type Pods with an AverageValue.

    Args:
        current: replicas in the scale's spec.
        values: of the pods that have the metric and are not Pending.
        target: for each pod.
        pods: those without a value.
        tolerance: of the ratio.

    Raises:
        NoMetricError: no pod has a value.
    """
    if not values:
        raise NoMetricError
    usage = [milli(value) for value in values]
    goal = milli(target)
    ratio = _ratio(usage, goal)
    up_with_unready = pods.unready > 0 and ratio > 1.0
    if not up_with_unready and pods.missing == 0:
        return current if is_within(ratio, tolerance) else math.ceil(ratio * len(usage))
    if ratio < 1.0:  # on the way down, a pod without the metric is taken to be at its target
        usage += [goal] * pods.missing
    elif ratio > 1.0:  # on the way up, one without it and one that is Pending are taken to do nothing
        usage += [0] * pods.missing
    if up_with_unready:
        usage += [0] * pods.unready
    new = _ratio(usage, goal)
    if is_within(new, tolerance) or (ratio < 1.0 < new) or (new < 1.0 < ratio):
        return current
    wanted = math.ceil(new * len(usage))
    return current if (new < 1.0 and wanted > current) or (new > 1.0 and wanted < current) else wanted


def _ratio(usage: Sequence[int], goal: int) -> float:
    """The mean in whole thousandths (GetMetricUsageRatio), by the target."""
    return (sum(usage) // len(usage)) / goal


def for_external_per_pod(current: int, value: float | None, target: float, tolerance: float = 0.1) -> int:
    """For an external metric with an AverageValue: the value is divided by all replicas, ready or not.

    Raises:
        NoMetricError: there is no value.
    """
    if value is None:
        raise NoMetricError
    usage, goal = milli(value), milli(target)
    if current == 0 or is_within(usage / (goal * current), tolerance):
        return current
    return math.ceil(usage / goal)


def for_external_value(current: int, value: float | None, target: float, ready: int, tolerance: float = 0.1) -> int:
    """For an external metric with a Value: the ratio multiplies the ready pods.

    Raises:
        NoMetricError: there is no value.
    """
    if value is None:
        raise NoMetricError
    ratio = milli(value) / milli(target)
    if current == 0:
        return math.ceil(ratio)
    return current if is_within(ratio, tolerance) else math.ceil(ratio * ready)
