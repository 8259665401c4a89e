# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How the steps of an ensemble are wired: which of them reads and writes which tensor, and what is never ready.

Source: Triton core, ``src/model_config_utils.cc``, ``BuildEnsembleGraph`` and ``ValidateEnsembleSchedulingConfig``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from trtkit.config import ModelConfig
from trtkit.pbtxt import Path

SCHEDULING = "ensemble_scheduling"


def step_path(step: int, *rest: str) -> Path:
    """The path of a step, or of what it holds."""
    return (SCHEDULING, "step", step, *rest)


@dataclass(frozen=True)
class Entry:
    """An entry of a step's map.

    Attributes:
        step: its index.
        side: ``input_map`` or ``output_map``.
        name: the model's tensor.
        tensor: the ensemble's.
    """

    step: int
    side: str
    name: str
    tensor: str

    @property
    def path(self) -> Path:
        """Where it is written."""
        return step_path(self.step, self.side, self.name)


class Wiring:
    """Who reads and who writes each tensor of an ensemble.

    Attributes:
        inputs: the ensemble's inputs; by name, the index of the first of that name.
        outputs: its outputs, likewise.
        reads: by step, the entries of its input_map.
        writes: by step, the entries of its output_map.
        readers: by tensor, the entries that read it.
        writers: by tensor, the entries that write it.
    """

    def __init__(self, config: ModelConfig) -> None:
        steps = list(enumerate(config.ensemble_scheduling.step))
        self.inputs = {each.name: index for index, each in reversed(list(enumerate(config.input)))}
        self.outputs = {each.name: index for index, each in reversed(list(enumerate(config.output)))}
        self.reads = [[Entry(i, "input_map", *pair) for pair in sorted(step.input_map.items())] for i, step in steps]
        self.writes = [[Entry(i, "output_map", *pair) for pair in sorted(step.output_map.items())] for i, step in steps]
        self.readers = _by_tensor(self.reads)
        self.writers = _by_tensor(self.writes)

    def known(self, tensor: str) -> bool:
        """Whether a step reads or writes it."""
        return tensor in self.readers or tensor in self.writers

    @cached_property
    def unconnected(self) -> dict[str, Entry]:
        """The tensors that a step reads, that none writes and that are no input; each with its first reader."""
        return {t: rows[0] for t, rows in self.readers.items() if t not in self.writers and t not in self.inputs}

    @cached_property
    def unread(self) -> dict[str, Entry]:
        """The tensors that a step writes, that none reads and that are no output; each with its first writer."""
        return {t: rows[0] for t, rows in self.writers.items() if t not in self.readers and t not in self.outputs}

    @cached_property
    def flow(self) -> tuple[set[str], list[int]]:
        """The tensors that are ready when all has run, and the steps that run, in an order that works."""
        return self._flow(self.inputs)

    def _flow(self, given: Iterable[str]) -> tuple[set[str], list[int]]:
        waiting = [len({entry.tensor for entry in reads}) for reads in self.reads]
        order = [step for step, count in enumerate(waiting) if not count]
        ready = {*given, *(entry.tensor for step in order for entry in self.writes[step])}
        queue = deque(ready)
        while queue:
            for step in {entry.step for entry in self.readers.get(queue.popleft(), ())}:
                waiting[step] -= 1
                if not waiting[step]:
                    order.append(step)
                    fresh = {entry.tensor for entry in self.writes[step]} - ready
                    ready |= fresh
                    queue.extend(sorted(fresh))
        return ready, order

    @cached_property
    def blocked(self) -> dict[str, str]:
        """By tensor that is not ready, the output of the ensemble that is not written for its sake."""
        ready = self.flow[0]
        found = {name: name for name in self.outputs if self.known(name) and name not in ready}
        queue, asked = deque(found), set[int]()
        while queue:
            tensor = queue.popleft()
            for step in {entry.step for entry in self.writers.get(tensor, ())} - asked:
                asked.add(step)
                for entry in self.reads[step]:
                    if entry.tensor not in ready and entry.tensor not in found:
                        found[entry.tensor] = found[tensor]
                        queue.append(entry.tensor)
        return found

    @cached_property
    def cycles(self) -> list[list[Entry]]:
        """The circles in which steps wait for each other: the entries that write their tensors, each feeding the next.

        Where circles share steps, one of them.
        """
        ready = self._flow([*self.inputs, *self.unconnected])[0]
        blocking = [next((entry.tensor for entry in reads if entry.tensor not in ready), "") for reads in self.reads]
        cycles, explained = [], set[str]()
        for start in self.writers:
            walk: dict[str, Entry] = {}
            tensor = start
            while tensor not in ready and tensor not in explained and tensor not in walk:
                walk[tensor] = self.writers[tensor][0]
                tensor = blocking[walk[tensor].step]
            if tensor in walk:
                names = list(walk)
                cycles.append([walk[name] for name in reversed(names[names.index(tensor) :])])
            explained |= set(walk)
        return cycles


def _by_tensor(steps: list[list[Entry]]) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for entries in steps:
        for entry in entries:
            found.setdefault(entry.tensor, []).append(entry)
    return found
