# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Which step of an ensemble waits for which, and the longest way through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from trtkit.errors import ServerError
from trtkit.perf.server.control import Fetch


class Step(NamedTuple):
    """One step of an ensemble.

    Attributes:
        model: the model that it calls.
        version: its version; the latest when empty.
        after: positions of the steps whose outputs it takes; empty when it takes the ensemble's inputs only.
    """

    model: str
    version: str
    after: tuple[int, ...]


Graph = dict[str, tuple[Step, ...]]
"""The steps of each ensemble by its name: the measured one and those among its steps."""


def ensemble_graph(fetch: Fetch, model: str, config: Mapping[str, Any]) -> Graph:
    """The steps of an ensemble and of the ensembles in it; empty for another model.

    Args:
        fetch: the control connection.
        model: the model's name.
        config: its configuration, as the server gives it.

    Raises:
        ServerError: the server does not give a step's configuration.
    """
    steps = steps_of(config)
    graph: Graph = {model: steps} if steps else {}
    for step in steps:
        if step.model not in graph:
            graph |= ensemble_graph(fetch, step.model, fetch("config", step.model, step.version))
    return graph


def steps_of(config: Mapping[str, Any]) -> tuple[Step, ...]:
    """The steps of an ensemble's configuration, in its order; empty for another model."""
    entries: Sequence[Mapping[str, Any]] = config.get("ensemble_scheduling", {}).get("step", [])
    made_by = {tensor: index for index, entry in enumerate(entries) for tensor in entry.get("output_map", {}).values()}
    steps = []
    for entry in entries:
        taken = entry.get("input_map", {}).values()
        version = int(entry.get("model_version", -1))
        after = sorted({made_by[tensor] for tensor in taken if tensor in made_by})
        steps.append(Step(entry["model_name"], str(version) if version > 0 else "", tuple(after)))
    return tuple(steps)


class Path(NamedTuple):
    """The longest way through an ensemble.

    Attributes:
        steps: positions of the steps on it, the first one first.
        starts_ns: when each step of the ensemble begins after the request's arrival: all that it waits for is done.
        length_ns: when its last step is done.
    """

    steps: tuple[int, ...]
    starts_ns: tuple[int, ...]
    length_ns: int


def longest_path(steps: Sequence[Step], times_ns: Sequence[int]) -> Path:
    """The critical path by given times of the steps: steps that wait for nothing of each other run side by side.

    Args:
        steps: of one ensemble.
        times_ns: how long each takes, all of them 0 or more.

    Raises:
        ServerError: the steps wait for each other in a circle, which no server loads.
    """
    starts: dict[int, int] = {}
    before: dict[int, int] = {}
    while len(starts) < len(steps):
        ready = [i for i, step in enumerate(steps) if i not in starts and all(j in starts for j in step.after)]
        if not ready:
            raise ServerError("the steps of the ensemble wait for each other in a circle")
        for index in ready:
            after = steps[index].after
            starts[index] = max((starts[j] + times_ns[j] for j in after), default=0)
            if after:
                before[index] = max(after, key=lambda j: starts[j] + times_ns[j])
    if not steps:
        return Path((), (), 0)
    path = [max(starts, key=lambda index: (starts[index] + times_ns[index], -index))]
    while path[0] in before:
        path.insert(0, before[path[0]])
    last = path[-1]
    return Path(tuple(path), tuple(starts[i] for i in range(len(steps))), starts[last] + times_ns[last])
