# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How often Prometheus looks, and over which spans rules judge."""

from __future__ import annotations

from dataclasses import dataclass

from trtkit.deploy.planned import Plan

SAMPLES_IN_A_WINDOW = 4
"""A rate needs two samples; with four one missed scrape or two do not make it empty."""


@dataclass(frozen=True)
class Timing:
    """The spans of the rules.

    Attributes:
        interval_s: between two scrapes, and between two evaluations, s.
        scale: what every span is multiplied by; 1 but for trying alerts out in seconds.
    """

    interval_s: int = 15
    scale: float = 1.0

    def window_s(self, nominal_s: float) -> int:
        """A range for rate(), s: the nominal one, but never fewer than four scrapes."""
        return max(round(nominal_s * self.scale), SAMPLES_IN_A_WINDOW * self.interval_s)

    def window(self, nominal_s: float) -> str:
        """`window_s` in PromQL's notation."""
        return duration(self.window_s(nominal_s))

    def hold_s(self, nominal_s: float) -> int:
        """How long a condition has to hold, s, before its alert fires; never 0."""
        return max(1, round(nominal_s * self.scale))


def timing_of(plan: Plan) -> Timing:
    """The plan's own scrape interval, and spans as they are documented."""
    return Timing(plan.spec.monitoring.interval_seconds)


def duration(seconds: int) -> str:
    """Whole seconds in PromQL's notation: ``90s``, ``5m``, ``1h``."""
    for size, unit in ((3600, "h"), (60, "m")):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
