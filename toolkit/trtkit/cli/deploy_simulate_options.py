# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The options of ``trtkit deploy simulate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

_PATH = click.Path(path_type=Path)
_RPS: dict[str, Any] = {"type": float, "metavar": "RPS"}
_MS: dict[str, Any] = {"type": float, "metavar": "MS"}
_SECONDS: dict[str, Any] = {"type": click.FloatRange(0), "metavar": "SECONDS"}
_WINDOW: dict[str, Any] = {"type": click.FloatRange(0, 3600), "metavar": "SECONDS"}
_PODS: dict[str, Any] = {"type": click.IntRange(0), "metavar": "PODS"}
_PERCENT: dict[str, Any] = {"type": click.IntRange(1), "metavar": "PERCENT"}
_SHARE: dict[str, Any] = {"type": click.IntRange(1, 100), "metavar": "PERCENT"}
_PERIOD: dict[str, Any] = {"type": click.IntRange(1, 1800), "metavar": "SECONDS"}
_SHAPES = click.Choice(["daily", "noisy", "step", "ramp", "spike"])
_METRICS = click.Choice(["pending", "queue", "rps", "gpu", "cpu"])
_TICK: dict[str, Any] = {"type": click.FloatRange(0.1, 15), "default": 1.0, "metavar": "SECONDS"}

OPTIONS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("--trace", {"type": _PATH, "metavar": "CSV"}, "A recorded load."),
    ("--shape", {"type": _SHAPES}, "A built-in load. Default: daily."),
    ("--peak", _RPS, "Highest rate of a shape; a trace is scaled to it."),
    ("--low", _RPS, "Lowest rate of a shape. Default: a tenth of the peak."),
    ("--duration", {"type": float, "metavar": "SECONDS"}, "Of a shape. Default: a day; step and spike 1 h, ramp 2 h."),
    ("--start", {"metavar": "ISO"}, "When the load begins, for cron triggers. Default: a Monday, 0:00 UTC."),
    ("--seed", {"type": int, "default": 0}, "Of the noise: of the shape noisy, and of the gauges' samples."),
    ("--capacity", _RPS, "Requests per second of one pod. Default: measured."),
    ("--service-ms", _MS, "A request without waiting. Default: measured, else instances / capacity."),
    ("--batch-delay-ms", _MS, "What the dynamic batcher waits. Default: the models'."),
    ("--gpus", {"type": click.IntRange(0)}, "Of a pod. Default: the plan's, else 1."),
    ("--cold-start", _SECONDS, "From the container's start to ready. Default: the measured load time."),
    ("--pull-s", _SECONDS, "Pulling the image; with --node-s only on new nodes. Default: 0."),
    ("--node-s", _SECONDS, "Until a new node is there. Default: 0, there is room."),
    ("--room", _PODS, "Pods that fit without a new node. Default: the minimum and the free GPUs."),
    ("--slo-ms", _MS, "How long a request may take. Default: deploy.slo's."),
    ("--misses", {"type": click.FloatRange(0, 1, max_open=True)}, "Share that may take longer. Default: 0.01."),
    ("--autoscaler", {"type": click.Choice(["none", "hpa", "keda"])}, "Default: the project's, else hpa."),
    ("--metric", {"type": _METRICS}, "Default: the project's, else rps."),
    ("--target", {"type": float}, "Of the metric, for each pod. Default: the plan's."),
    ("--min-replicas", _PODS, "Default: the plan's, else 2."),
    ("--max-replicas", _PODS, "Default: the plan's, else 4 x the minimum."),
    ("--initial-replicas", _PODS, "At the beginning. Default: what the first minute needs."),
    ("--up-stabilization", _WINDOW, "Default: the plan's, else 0."),
    ("--down-stabilization", _WINDOW, "Default: the plan's, else 300."),
    ("--up-percent", _PERCENT, "Most pods that come in a period, of those there are. Default: the plan's, else 100."),
    ("--up-period", _PERIOD, "Of --up-percent. Default: the plan's, else 15."),
    ("--down-percent", _SHARE, "Most pods that go in a period. Default: the plan's, else 25."),
    ("--down-period", _PERIOD, "Of --down-percent. Default: the plan's, else 120."),
    ("--outage", {"metavar": "BEGIN:SECONDS"}, "A time in which Prometheus does not answer."),
    ("--tick", _TICK, "Of the simulation. Default: 1."),
    ("--propose", {"is_flag": True}, "Search metric, target and minimum; compare with NVIDIA's 50 µs."),
    ("--gpu-hour-cost", {"type": click.FloatRange(0)}, "Adds a column with the cost."),
    ("--plot", {"type": _PATH, "metavar": "FILE"}, "Draw it: .png or .svg."),
    ("--csv", {"type": _PATH, "metavar": "FILE"}, "Write the course, a line for each HPA period."),
)


def simulate_options(function: Any) -> Any:
    """Decorate a command with all of them."""
    for name, about, text in reversed(OPTIONS):
        function = click.option(name, **about, help=text)(function)
    return function
