# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How many threads an instance of a model may use so that all of them do not fight over the cores."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

_CPU_QUOTA = "/sys/fs/cgroup/cpu.max"


def threads_per_instance(config: Mapping[str, Any]) -> int:
    """An equal share of the cores for each instance that the model configuration asks for, at least one."""
    groups = config.get("instance_group", ())
    instances = sum(int(group.get("count") or 1) * max(1, len(group.get("gpus", ()))) for group in groups)
    return max(1, available_cores() // max(1, instances))


def available_cores() -> int:
    """The cores this process may use: its affinity, and the CPU quota of its container."""
    cores = len(os.sched_getaffinity(0))
    try:
        with open(_CPU_QUOTA, encoding="ascii") as file:
            quota, period = file.read().split()
        return min(cores, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no cgroup v2, or no quota ("max 100000")
        return cores
