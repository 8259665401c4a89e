# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The highest load for which conditions hold: doubling, then bisection, every measurement kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trtkit.errors import MeasurementError, ServerError, ServerUnavailableError
from trtkit.perf.statistics.conditions import CAPACITY, Condition, parse, render
from trtkit.perf.statistics.quantities import statistic_of, times_ns

if TYPE_CHECKING:
    from trtkit.perf.measurement import Measurement

_MOST_TRIALS = 30
_RESOLUTION = 0.05
_INTERRUPTED = "the search was interrupted"


@dataclass(frozen=True)
class Trial:
    """One measurement of the search.

    Attributes:
        level: the concurrency or the requests per second.
        measurement: what was found; None when measuring failed.
        broken: why the load does not hold, a sentence a condition; empty when it does.
        only_too_little: whether nothing is broken but a lower bound on the throughput or the goodput, which a higher
            load may reach.
    """

    level: float
    measurement: Measurement | None
    broken: tuple[str, ...]
    only_too_little: bool = False

    @property
    def holds(self) -> bool:
        """Whether every condition held, in a stable measurement."""
        return not self.broken


@dataclass(frozen=True)
class Capacity:
    """What the search found.

    Attributes:
        condition: as it was searched for, in its written form.
        integer: whether levels are concurrencies, and not requests per second.
        limit: the highest level that held when it was last measured; None when none did.
        broke_at: the lowest level above it that did not hold; None when the range ended before.
        broke_because: the sentences of its trial.
        trials: every measurement, in the order made.
        stopped: why the search ended early, in one sentence; empty when it ended by itself.
        notes: what speaks against a single limit, such as a level that held once and not again.
    """

    condition: str
    integer: bool
    limit: float | None
    broke_at: float | None
    broke_because: tuple[str, ...]
    trials: tuple[Trial, ...]
    stopped: str
    notes: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The answer, and what broke next."""
        if self.limit is None:
            found = f"'{self.condition}' held at no load that was measured"
        else:
            found = f"'{self.condition}' holds up to {self._load(self.limit)}"
        if self.broke_at is not None:
            found += f"; at {self._load(self.broke_at)}, {' and '.join(self.broke_because)}"
        elif self.limit is not None and not self.stopped:
            found += ", the highest load that was asked for"
        return found + (f"; {self.stopped}" if self.stopped else "")

    def _load(self, level: float) -> str:
        return f"concurrency {level:g}" if self.integer else f"{level:g} requests/s"

    def to_json(self) -> dict[str, Any]:
        """The form of reports; the measurements themselves are written elsewhere, in the same order."""
        trials = [{"level": one.level, "holds": one.holds, "broken": list(one.broken)} for one in self.trials]
        value = {**vars(self), "broke_because": list(self.broke_because), "trials": trials, "notes": list(self.notes)}
        return {**value, "sentence": self.sentence}


def parse_conditions(text: str) -> tuple[Condition, ...]:
    """Conditions of a load, such as ``p99 < 50 ms, errors < 0.1%``.

    Raises:
        ProjectError: a metric, unit or number that is wrong, with the ones that are available.
    """
    return parse(text, CAPACITY)


def find_capacity(
    measure: Callable[[int | float], Measurement],
    condition: Sequence[Condition],
    low: float,
    high: float,
    integer: bool,
    step: float = 0.0,
    most_trials: int = _MOST_TRIALS,
) -> Capacity:
    """Search the highest level at which the conditions hold.

    The level doubles from `low` until a condition breaks, then the range between is halved; the limit is measured a
    second time, because the luckiest measurement is the one that is found. A measurement that is not stable, or that
    fails with an error, does not hold; an unstable one is tried once more. A server that is gone, or ctrl-C, ends the
    search with what is known.

    Args:
        measure: measures one level, an int when `integer`.
        condition: at least one.
        low: the lowest level, above 0.
        high: the highest level, at least `low`.
        integer: whether levels are whole.
        step: the search ends at a range this wide; 0 for 5 % of the level. At least 1 for whole levels.
        most_trials: the most measurements, at least 1.

    Raises:
        ServerError, MeasurementError: of the first measurement that failed, when none succeeded.
        TrtkitError: any other that `measure` raises, such as a user's mistake.
    """
    search = _Search(measure, condition, integer, step, most_trials)
    try:
        search.run(int(low) if integer else low, int(high) if integer else high)
    except _StopSearchError as stop:
        search.stopped = str(stop)
    except KeyboardInterrupt:
        search.stopped = _INTERRUPTED
    if search.errors and not any(trial.measurement for trial in search.trials):
        raise search.errors[0]
    return search.result()


class _StopSearchError(Exception):
    """The search ends early."""


class _Search:
    def __init__(
        self,
        measure: Callable[[int | float], Measurement],
        condition: Sequence[Condition],
        integer: bool,
        step: float,
        most_trials: int,
    ) -> None:
        self.measure, self.condition = measure, condition
        self.integer, self.step, self.most_trials = integer, max(step, 1.0) if integer else step, most_trials
        self.trials: list[Trial] = []
        self.errors: list[ServerError | MeasurementError] = []
        self.stopped = ""

    def run(self, low: float, high: float) -> None:
        good, bad = self._double(low, high)
        while good is not None:
            if bad is not None:
                good, bad = self._bisect(good, bad)
            if self._confirmed(good):
                return
            good, bad = self._last_holding(good), good  # it held once and not again, or was too little all along

    def _confirmed(self, level: float) -> bool:
        """Whether a level held twice; it is measured again when it held once."""
        held = sum(trial.holds for trial in self._at(level))
        return held > 1 or (held == 1 and self._try_fairly(level).holds)

    def _double(self, low: float, high: float) -> tuple[float | None, float | None]:
        """The last level below the limit and the first above it, going up; None for one that was not met."""
        good, level = None, low
        while self._below(self._try_fairly(level)):
            good = level
            if level >= high:
                return good, None
            level = min(level * 2, high)
        return good, level

    def _below(self, trial: Trial) -> bool:
        """Whether the limit is above: the trial holds, or asks for more than so little a load can be."""
        return trial.holds or (trial.only_too_little and not self._holding())

    def _bisect(self, good: float, bad: float) -> tuple[float, float]:
        while (middle := self._middle(good, bad)) is not None:
            good, bad = (middle, bad) if self._below(self._try_fairly(middle)) else (good, middle)
        return good, bad

    def _middle(self, good: float, bad: float) -> float | None:
        """A level between, or None when they are close enough."""
        if bad - good <= (self.step or _RESOLUTION * good):
            return None
        middle = (good + bad) / 2
        middle = int(middle) if self.integer else float(f"{middle:.4g}")
        return middle if good < middle < bad else None

    def _try_fairly(self, level: float) -> Trial:
        """A trial; one more when the first was only unstable, which says nothing about the conditions."""
        trial = self._try(level)
        unstable = trial.measurement is not None and not trial.measurement.stable
        return self._try(level) if unstable and len(trial.broken) == 1 else trial

    def _try(self, level: float) -> Trial:
        if len(self.trials) >= self.most_trials:
            raise _StopSearchError(f"the search ended after {self.most_trials} measurements")
        try:
            measurement = self.measure(level)
        except (ServerError, MeasurementError) as error:
            self.errors.append(error)
            self.trials.append(Trial(level, None, (str(error),)))
            if isinstance(error, ServerUnavailableError):
                raise _StopSearchError(f"the search ended because the server is gone: {error}") from error
            return self.trials[-1]
        self.trials.append(judged(level, measurement, self.condition))
        if measurement.interrupted:
            raise _StopSearchError(_INTERRUPTED)
        return self.trials[-1]

    def _at(self, level: float) -> list[Trial]:
        return [trial for trial in self.trials if trial.level == level]

    def _holding(self) -> list[float]:
        """The levels whose last trial holds, ascending."""
        levels = sorted({trial.level for trial in self.trials})
        return [level for level in levels if self._at(level)[-1].holds]

    def _last_holding(self, below: float) -> float | None:
        return max((level for level in self._holding() if level < below), default=None)

    def result(self) -> Capacity:
        """What the trials say."""
        limit = max(self._holding(), default=None)
        failed = [trial for trial in self.trials if not trial.holds]
        above = sorted((trial for trial in failed if limit is None or trial.level > limit), key=lambda one: one.level)
        lower = [trial for trial in failed if limit is not None and trial.level < limit]
        notes = [f"{one.level:g} did not hold although {limit:g} did: {' and '.join(one.broken)}" for one in lower]
        for level in sorted({trial.level for trial in self.trials}):
            if len({trial.holds for trial in self._at(level)}) > 1:
                notes.append(f"{level:g} was measured {len(self._at(level))} times and held only sometimes")
        return Capacity(
            condition=render(self.condition),
            integer=self.integer,
            limit=limit,
            broke_at=above[0].level if above else None,
            broke_because=above[0].broken if above else (),
            trials=tuple(self.trials),
            stopped=self.stopped,
            notes=tuple(notes),
        )


def judged(level: float, measurement: Measurement, condition: Sequence[Condition]) -> Trial:
    """A measurement as a trial: whether it is stable and meets the conditions."""
    broken, too_little = [], True
    if not measurement.stable:
        broken.append(f"the measurement is not stable: {measurement.reason}")
        too_little = False
    for one in condition:
        value = _value(one, measurement)
        if value is None or not one.holds(value):
            broken.append(f"{one.name} has no value" if value is None else f"{one.name} is {_shown(one, value)}")
            too_little = too_little and value is not None and one.op.startswith(">") and not one.unit
    return Trial(level, measurement, tuple(broken), bool(broken) and too_little)


def _value(condition: Condition, measurement: Measurement) -> float | None:
    """What a condition is about, in the unit of its limit; None when the measurement has no such value."""
    if condition.metric == "throughput":
        return measurement.throughput_infer_per_s
    if condition.metric == "errors":
        ended = len(measurement.all_records)
        return float(measurement.error_count) if not condition.unit else measurement.error_count / max(ended, 1)
    if condition.metric == "goodput":
        found = measurement.goodput
        return None if found is None else found.share if condition.unit else found.per_s
    times = times_ns(condition.metric, measurement.records)
    return statistic_of(condition.statistic, times) if len(times) else None


def _shown(condition: Condition, value: float) -> str:
    """A value in the condition's own unit."""
    number = value / condition._replace(number=1.0).limit
    return f"{number:.4g}{'' if condition.unit == '%' else ' '}{condition.unit}".strip()
