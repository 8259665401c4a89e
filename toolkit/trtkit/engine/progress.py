# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""TensorRT's nested phases as one fraction that only grows, and the time that is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

OnProgress = Callable[[str, float, "float | None"], None]
_LEAST_STEP = 0.005
_LEAST_FOR_ETA = 0.02


@dataclass
class _Phase:
    """A phase that runs: what it is a part of, its steps, and the phases that ran within its present step."""

    parent: str | None
    steps: int
    done: int = 0
    inner: int = 0


class Progress:
    """Follows phases that start, step and finish, from any thread; `advance` gives the fraction.

    A phase within a step takes half of what the phases before it left of that step, because the library does
    not say how many there will be. The whole never reaches 1 before `finished`, and never falls.
    """

    def __init__(self, on_progress: OnProgress, clock: Callable[[], float] = time.monotonic) -> None:
        self.on_progress, self.clock, self.began = on_progress, clock, clock()
        self.phases: dict[str, _Phase] = {}
        self.fraction, self.told, self.phase = 0.0, -1.0, ""
        self.failure: BaseException | None = None
        self.lock = threading.Lock()

    def phase_start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins, within `parent` or, when that is None, by itself."""
        with self.lock:
            self.phases[name] = _Phase(parent, max(1, steps))
            if parent in self.phases:
                self.phases[parent].inner += 1
            self._tell(name)

    def step_complete(self, name: str, step: int) -> bool:
        """Step `step` (from 0) of a phase is done; False asks the library to stop."""
        with self.lock:
            if phase := self.phases.get(name):
                phase.done, phase.inner = min(phase.steps, max(phase.done, step + 1)), 0
                self._tell(name)
            return self.failure is None

    def phase_finish(self, name: str) -> None:
        """A phase ends, with all its steps done or not."""
        with self.lock:
            self.phases.pop(name, None)

    def finished(self) -> None:
        """Everything is done.

        Raises:
            BaseException: what the callback raised, if it did; inside the library nobody could have caught it.
        """
        if self.failure:
            raise self.failure
        self.on_progress("done", 1.0, 0.0)

    def _tell(self, name: str) -> None:
        self.fraction = max(self.fraction, min(0.99, self._reached(name)))
        if self.failure or (name == self.phase and self.fraction - self.told < _LEAST_STEP):
            return
        self.told, self.phase = self.fraction, name
        elapsed = self.clock() - self.began
        eta = elapsed * (1 - self.fraction) / self.fraction if self.fraction >= _LEAST_FOR_ETA else None
        try:
            self.on_progress(name, self.fraction, eta)
        except BaseException as exc:  # anything that leaves this call would end the process, inside C++
            self.failure = exc

    def _reached(self, name: str) -> float:
        """The share of the whole that is done, seen from a phase: its own within its parent's, up to the top."""
        within, current = 0.0, self.phases.get(name)
        seen: set[int] = set()
        while current and id(current) not in seen:
            seen.add(id(current))
            left = 0.5 ** max(0, current.inner - 1)
            step = 1 - left + left / 2 * within
            within = min(1.0, (current.done + (step if current.done < current.steps else 0.0)) / current.steps)
            current = self.phases.get(current.parent) if current.parent is not None else None
        return within


def monitor(trt: Any, progress: Progress) -> Any:
    """An ``IProgressMonitor`` that feeds `progress`; None where the version has none (before 10)."""
    if not hasattr(trt, "IProgressMonitor"):
        return None

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.phase_start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return progress.step_complete(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            progress.phase_finish(phase_name)

    return Monitor()
