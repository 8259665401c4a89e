# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The HPA's decisions, against sequences worked out by hand from kube-controller-manager's source.

replica_calculator.go and horizontal.go of pkg/controller/podautoscaler; each case says which lines of reasoning apply.
"""

from __future__ import annotations

import pytest

from trtkit.deploy.simulation.behavior import Behavior, History, Policy, Rules, default_behavior, limited
from trtkit.deploy.simulation.replicas import (
    NoMetricError,
    PodCounts,
    for_external_per_pod,
    for_external_value,
    for_pods,
)

ALL_THERE = PodCounts(unready=0, missing=0, ready=0)


@pytest.mark.parametrize(
    ("values", "target", "expected"),
    [
        ([10.0, 10.0], 10.0, 2),  # ratio 1
        ([11.0, 11.0], 10.0, 2),  # 1.1 is the edge of the tolerance, and inside
        ([11.1, 11.1], 10.0, 3),  # ceil(1.11 x 2)
        ([9.0, 9.0], 10.0, 2),  # 0.9, inside
        ([8.9, 8.9], 10.0, 2),  # outside, but ceil(0.89 x 2) = 2
        ([4.0, 5.0], 10.0, 1),  # mean 4.5: ceil(0.45 x 2)
        ([0.0, 0.0, 0.0], 10.0, 0),  # ceil(0): the minimum is applied later
        ([80.0], 8.0, 10),  # ceil(10 x 1)
        ([40.0, 0.0], 8.0, 5),  # the mean over the pods: 20 / 8 x 2
    ],
)
def test_pods_with_a_metric(values: list[float], target: float, expected: int) -> None:
    assert for_pods(len(values), values, target, ALL_THERE) == expected


def test_values_are_whole_thousandths() -> None:
    """The mean is an integer division: (1100 + 1101) / 2 = 1100, a ratio of 1.1, which is tolerated."""
    assert for_pods(2, [1.1, 1.101], 1.0, ALL_THERE) == 2
    assert for_pods(2, [1.101, 1.101], 1.0, ALL_THERE) == 3


def test_a_pod_that_loads_counts_as_idle_on_the_way_up() -> None:
    # two pods at 3 x the target, two running without a metric: ratio 3, then (30 + 30 + 0 + 0) / 4 / 10 = 1.5
    assert for_pods(4, [30.0, 30.0], 10.0, PodCounts(0, 2, 2)) == 6
    # without them it would have been ceil(3 x 2) = 6 too; with unequal loads the tolerance decides: 22 / 2 = 11 / 10
    assert for_pods(2, [22.0], 10.0, PodCounts(0, 1, 1)) == 2


def test_a_pod_that_loads_counts_as_at_its_target_on_the_way_down() -> None:
    # mean 2 of 10: ratio 0.2; with the missing one at 10: (2 + 2 + 2 + 10) / 4 = 4: ceil(0.4 x 4) = 2
    assert for_pods(4, [2.0, 2.0, 2.0], 10.0, PodCounts(0, 1, 3)) == 2
    assert for_pods(3, [2.0, 2.0, 2.0], 10.0, ALL_THERE) == 1


def test_pending_pods_count_as_idle_on_the_way_up_only() -> None:
    assert (
        for_pods(3, [20.0], 10.0, PodCounts(unready=2, missing=0, ready=1)) == 3
    )  # (20 + 0 + 0) / 3 turns the direction
    assert for_pods(3, [50.0], 10.0, PodCounts(unready=2, missing=0, ready=1)) == 5  # 50 / 3 = 16.666 of 10, x 3
    assert (
        for_pods(3, [1.0], 10.0, PodCounts(unready=2, missing=0, ready=1)) == 1
    )  # down: the one pod alone, ceil(0.1 x 1)


def test_no_change_against_the_direction() -> None:
    # up by the one pod (1.5), down with the missing ones (0.5): nothing
    assert for_pods(3, [15.0], 10.0, PodCounts(0, 2, 1)) == 3
    # more pods with values than the scale says: down by the ratio, up by the number: nothing
    assert for_pods(2, [8.0, 8.0, 8.0], 10.0, PodCounts(0, 1, 3)) == 2


def test_without_any_metric_nothing_is_decided() -> None:
    with pytest.raises(NoMetricError):
        for_pods(2, [], 10.0, PodCounts(0, 2, 0))
    with pytest.raises(NoMetricError):
        for_external_per_pod(2, None, 10.0)
    with pytest.raises(NoMetricError):
        for_external_value(2, None, 10.0, 2)


def test_external_metrics() -> None:
    assert for_external_per_pod(4, 80.0, 10.0) == 8
    assert for_external_per_pod(4, 44.0, 10.0) == 4  # 1.1 of 4 x 10
    assert for_external_per_pod(4, 36.0, 10.0) == 4  # 0.9
    assert for_external_per_pod(4, 35.0, 10.0) == 4  # 0.875, ceil(3.5)
    assert for_external_per_pod(4, 29.0, 10.0) == 3
    assert for_external_value(4, 30.0, 10.0, ready=2) == 6  # the ratio times the ready pods, not all of them
    assert for_external_value(0, 30.0, 10.0, ready=0) == 3


# -- stabilization and policies ---------------------------------------------------------------------------------------


def sequence(
    behavior: Behavior | None, wanted: list[int], current: int, minimum: int = 1, maximum: int = 100
) -> list[int]:
    """The replicas after each sync, every 15 s, for what the metrics ask for."""
    history, found = History(), []
    history.begin(15.0, current)
    for index, number in enumerate(wanted):
        now = 15.0 * (index + 1)
        after = limited(behavior, history, now, current, number, minimum, maximum)
        if after != current:
            history.remember(now, current, after)
        current = after
        found.append(current)
    return found


def test_up_by_kubernetes_own_policies() -> None:
    """The larger of +4 and +100 % in 15 s; a period that has just ended no longer counts (After, strictly)."""
    assert sequence(default_behavior(), [50] * 4, 1) == [5, 10, 20, 40]
    assert sequence(default_behavior(), [50] * 5, 1, maximum=30) == [5, 10, 20, 30, 30]


def test_up_by_half_in_a_minute() -> None:
    """50 % in 60 s: 2 to 3; nothing more until 60 s have passed, then ceil(4.5) = 5, then ceil(7.5) = 8."""
    rules = Behavior(Rules(0, (Policy("Percent", 50, 60),)), default_behavior().down)
    assert sequence(rules, [50] * 9, 2) == [3, 3, 3, 3, 5, 5, 5, 5, 8]


def test_down_waits_for_the_window_and_goes_at_once() -> None:
    """300 s are 20 syncs: the 10 of the first sync count for 19 more, then all of them go (100 % in 15 s)."""
    assert sequence(default_behavior(), [10] + [2] * 21, 10) == [10] * 20 + [2, 2]


def test_down_by_a_quarter_in_two_minutes() -> None:
    """int(10 x 0.75) = 7; 120 s later int(7 x 0.75) = 5; then int(3.75) = 3: a whole pod more than a quarter."""
    rules = Behavior(default_behavior().up, Rules(0, (Policy("Percent", 25, 120),)))
    assert sequence(rules, [1] * 17, 10) == [7] * 8 + [5] * 8 + [3]


def test_the_up_window_takes_the_lowest() -> None:
    """With 60 s, a peak of two syncs is not followed; one that lasts is, when the last low one is 60 s old."""
    rules = default_behavior(up_window_s=60.0)
    assert sequence(rules, [2, 8, 8, 2, 2, 2], 2) == [2] * 6
    assert sequence(rules, [2, 8, 8, 8, 8, 8], 2) == [2, 2, 2, 2, 6, 8]


def test_both_windows_hold_what_lies_between() -> None:
    """The current number stays while it is between the lowest of the up and the highest of the down window."""
    rules = default_behavior(up_window_s=60.0, down_window_s=60.0)
    assert sequence(rules, [4, 9, 1, 9, 1, 9], 4) == [4] * 6


def test_select_policies() -> None:
    two = (Policy("Pods", 1, 15), Policy("Percent", 100, 15))
    assert sequence(Behavior(Rules(0, two, "Min"), default_behavior().down), [50] * 3, 4) == [5, 6, 7]
    assert sequence(Behavior(Rules(0, two, "Disabled"), default_behavior().down), [50] * 3, 4) == [4, 4, 4]
    down = Behavior(default_behavior().up, Rules(0, (Policy("Pods", 1, 15), Policy("Percent", 50, 15)), "Min"))
    assert sequence(down, [1] * 3, 8) == [7, 6, 5]


def test_pods_that_were_removed_may_come_back_at_once() -> None:
    """The period's start counts what was removed in it: 10 - 3 + 3, so 50 % are of 10 again."""
    rules = Behavior(Rules(0, (Policy("Percent", 50, 60),)), Rules(0, (Policy("Percent", 25, 120),)))
    assert sequence(rules, [1, 20], 10) == [7, 15]


def test_an_hpa_without_behavior() -> None:
    """Older rules: at most the double or 4 in a sync, down to the highest of 300 s; 300 s exactly still count there."""
    assert sequence(None, [50] * 4, 1) == [4, 8, 16, 32]
    assert sequence(None, [10] + [2] * 22, 10) == [10] * 21 + [2, 2]
    assert sequence(None, [0] * 30, 3, minimum=2)[-1] == 2


def test_replicas_stay_between_the_limits() -> None:
    assert sequence(default_behavior(0, 0), [0, 0], 5, minimum=3) == [3, 3]
    assert sequence(default_behavior(0, 0), [90, 90], 5, maximum=6) == [6, 6]
