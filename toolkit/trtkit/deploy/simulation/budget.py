# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How long it takes from more load to more answers, part by part."""

from __future__ import annotations

from trtkit.deploy.simulation.settings import Lifecycle, Scaler

_WINDOWED = ("queue", "rps", "queue_us_chart")


def reaction_parts(scaler: Scaler, life: Lifecycle) -> dict[str, float]:
    """The parts of the reaction time, s, each at its worst; those that are 0 are left out.

    The window of a rate counts half: the metric has half of its new value then.
    """
    windows = [metric.window_s / 2 for metric in scaler.metrics if metric.kind in _WINDOWED]
    parts = {
        "scrape": scaler.scrape_s,
        "half of the query's window": max(windows, default=0.0),
        "HPA sync": scaler.sync_s,
        "new node": life.node_s,
        "image": life.pull_s,
        "load": life.load_s,
        "probe": life.probe_s,
    }
    if scaler.keda is not None and scaler.minimum == 0:
        parts = {"KEDA's polling, from no pods": scaler.keda.polling_s, **parts}
    return {name: seconds for name, seconds in parts.items() if seconds > 0} if scaler.metrics else {}
