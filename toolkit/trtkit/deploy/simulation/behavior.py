# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How fast an HPA may change the number of pods: stabilization windows and policies.

What kube-controller-manager does in pkg/controller/podautoscaler/horizontal.go (1.36): the functions
stabilizeRecommendationWithBehaviors, convertDesiredReplicasWithBehaviorRate and, for an HPA without `behavior`,
stabilizeRecommendation and convertDesiredReplicasWithRules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

Select = Literal["Max", "Min", "Disabled"]
_OLD_WINDOW_S = 300.0  # --horizontal-pod-autoscaler-downscale-stabilization


@dataclass(frozen=True)
class Policy:
    """At most so many pods, or percent of them, within a time, s."""

    kind: Literal["Pods", "Percent"]
    value: int
    period_s: float


@dataclass(frozen=True)
class Rules:
    """Of one direction: the window in which the most careful recommendation counts, s, and the policies."""

    window_s: float
    policies: tuple[Policy, ...]
    select: Select = "Max"


@dataclass(frozen=True)
class Behavior:
    """Of an HPA's `spec.behavior`."""

    up: Rules
    down: Rules


def default_behavior(up_window_s: float = 0.0, down_window_s: float = 300.0) -> Behavior:
    """The policies that Kubernetes fills in, with these windows: up 4 pods or 100 % in 15 s, down 100 % in 15 s."""
    up = Rules(up_window_s, (Policy("Pods", 4, 15.0), Policy("Percent", 100, 15.0)))
    return Behavior(up, Rules(down_window_s, (Policy("Percent", 100, 15.0),)))


@dataclass
class History:
    """What the controller remembers of an HPA: recommendations, and changes with their times, s."""

    recommended: list[tuple[float, int]] = field(default_factory=list)
    added: list[tuple[float, int]] = field(default_factory=list)
    removed: list[tuple[float, int]] = field(default_factory=list)

    def remember(self, now: float, before: int, after: int) -> None:
        """A change that was made."""
        (self.added if after > before else self.removed).append((now, abs(after - before)))

    def begin(self, now: float, current: int) -> None:
        """The first recommendation is the number of pods that the controller finds."""
        if not self.recommended:
            self.recommended.append((now, current))


def limited(
    behavior: Behavior | None, history: History, now: float, current: int, wanted: int, minimum: int, maximum: int
) -> int:
    """The number of replicas that the HPA sets, from what the metrics ask for.

    Args:
        behavior: of the HPA; None for one without.
        history: of this HPA; the recommendation is added to it.
        now: s.
        current: replicas in the scale's spec.
        wanted: by the metrics.
        minimum: of the HPA.
        maximum: of the HPA.
    """
    if behavior is None:
        return _by_older_rules(history, now, current, wanted, minimum, maximum)
    stable = _stabilized(behavior, history, now, current, wanted)
    if stable > current:
        most = max(current, _limit_up(behavior.up, history, now, current))
        return min(stable, maximum, most)
    if stable < current:
        least = min(current, _limit_down(behavior.down, history, now, current))
        return max(stable, minimum, least)
    return stable


def _stabilized(behavior: Behavior, history: History, now: float, current: int, wanted: int) -> int:
    up = min([wanted, *(count for time, count in history.recommended if time > now - behavior.up.window_s)])
    down = max([wanted, *(count for time, count in history.recommended if time > now - behavior.down.window_s)])
    _add(history, now, wanted, max(behavior.up.window_s, behavior.down.window_s))
    return min(max(current, up), down)


def _by_older_rules(history: History, now: float, current: int, wanted: int, minimum: int, maximum: int) -> int:
    stable = max([wanted, *(count for time, count in history.recommended if time >= now - _OLD_WINDOW_S)])
    _add(history, now, wanted, _OLD_WINDOW_S)
    return max(minimum, min(stable, maximum, max(2 * current, 4)))


def _add(history: History, now: float, wanted: int, window_s: float) -> None:
    history.recommended[:] = [(time, count) for time, count in history.recommended if time >= now - window_s]
    history.recommended.append((now, wanted))


def _limit_up(rules: Rules, history: History, now: float, current: int) -> int:
    if rules.select == "Disabled":
        return current
    limits = []
    for policy in rules.policies:
        start = _at_start(history, now, current, policy)
        percent = math.ceil(start * (1 + policy.value / 100))
        limits.append(start + policy.value if policy.kind == "Pods" else percent)
    return max(limits) if rules.select == "Max" else min(limits)


def _limit_down(rules: Rules, history: History, now: float, current: int) -> int:
    if rules.select == "Disabled":
        return current
    limits = []
    for policy in rules.policies:
        start = _at_start(history, now, current, policy)
        percent = int(start * (1 - policy.value / 100))
        limits.append(start - policy.value if policy.kind == "Pods" else percent)
    return min(limits) if rules.select == "Max" else max(limits)


def _at_start(history: History, now: float, current: int, policy: Policy) -> int:
    """The replicas when the policy's period began."""
    added = sum(count for time, count in history.added if time > now - policy.period_s)
    removed = sum(count for time, count in history.removed if time > now - policy.period_s)
    return current - added + removed
