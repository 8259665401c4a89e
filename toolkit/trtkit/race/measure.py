# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Error, task metric, latency and size of each candidate, on the same inputs in the same run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from trtkit.dtypes import DType, by_numpy
from trtkit.errors import BuildError, DataError, TrtkitError
from trtkit.numerics import Array, Difference, difference
from trtkit.race.candidate import Candidate
from trtkit.race.runner import CpuRunner, Opener, Runner
from trtkit.race.timing import Timing, take_turns
from trtkit.tolerance import outside_share

Metric = Callable[[Mapping[str, Array]], float]
ToleranceOf = Callable[[str, str, DType], tuple[float, float]]


@dataclass(frozen=True)
class Row:
    """What was measured of one candidate.

    Attributes:
        candidate: which one.
        size_bytes: of its file and external data; None without a file.
        outputs: how far each output is from the reference's, over all rows.
        allowed_share: the largest error of an element as a share of what its tolerance allows; above 1 it is
            outside, infinite when there is no number to compare.
        metric: the task metric, larger is better; None without one.
        drop: the reference's metric minus this one.
        timings: by batch size.
        problem: why its outputs could not be had, in one sentence; empty when they could.
        untimed: why it has no timings; empty when it has.
        decisions: the outputs that are integers, booleans or text.
    """

    candidate: Candidate
    size_bytes: int | None = None
    outputs: Mapping[str, Difference] = field(default_factory=dict)
    allowed_share: float = math.inf
    metric: float | None = None
    drop: float | None = None
    timings: Mapping[int, Timing] = field(default_factory=dict)
    problem: str = ""
    untimed: str = ""
    decisions: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The candidate's name."""
        return self.candidate.name

    @property
    def max_abs(self) -> float | None:
        """The largest absolute error of all floating-point outputs, in their own units; None without a number."""
        if self.problem or not self.outputs or any(d.problem or d.nonfinite for d in self.outputs.values()):
            return None
        numbers = {name: found for name, found in self.outputs.items() if name not in self.decisions}
        return max(d.max_abs for d in (numbers or self.outputs).values())

    def to_json(self) -> dict[str, Any]:
        """The form kept in records; numbers that are none are null."""
        return {
            **self.candidate.to_json(),
            "size_bytes": self.size_bytes,
            "outputs": {name: found.to_json() for name, found in self.outputs.items()},
            "max_abs": self.max_abs,
            "allowed_share": _finite(self.allowed_share),
            "metric": _finite(self.metric),
            "metric_drop": _finite(self.drop),
            "timings": [timing.to_json() for timing in self.timings.values()],
            "problem": self.problem,
            "untimed": self.untimed,
        }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def measure(
    candidates: Sequence[Candidate],
    rows: Mapping[str, Array],
    *,
    batch_sizes: Sequence[int],
    metric: Metric | None,
    tolerance: ToleranceOf,
    threads: int = 1,
    seconds: float,
    runner: Opener = CpuRunner,
) -> list[Row]:
    """Measure all candidates.

    Args:
        candidates: the first one is the FP32 reference; names are unique.
        rows: the inputs; axis 0 counts the rows.
        batch_sizes: the sizes the model is served with. The smallest and the largest are timed, and the outputs
            are computed in batches of the largest. Empty for a model that does not batch: all rows are one
            request.
        metric: takes the outputs of all rows; larger is better.
        tolerance: (rtol, atol) for a precision, an output's name and its data type.
        threads: intra-op threads.
        seconds: about how long each candidate is timed at each batch size.
        runner: loads a candidate's `file` for timing, and for its outputs where it has no `run_file`.

    Returns:
        One row per candidate, in their order; those that could not be built, loaded or run say why.

    Raises:
        BuildError: the reference could not be built or does not run.
        DataError: the metric cannot be computed on the reference's outputs.
    """
    assert len({c.name for c in candidates}) == len(candidates), "two candidates have the same name"
    batch = max(batch_sizes, default=0)
    answers: dict[str, dict[str, Array] | str] = {c.name: _answer(c, rows, batch, threads, runner) for c in candidates}
    reference = answers[candidates[0].name]
    if isinstance(reference, str):
        raise BuildError(f"the race has no reference: {candidates[0].name}: {reference}")
    base = metric(reference) if metric else None
    found = [_judged(c, answers[c.name], reference, metric, base, tolerance) for c in candidates]
    sizes = sorted({min(batch_sizes), batch}) if batch_sizes else [0]
    return _timed(found, [(size, _request(rows, size)) for size in sizes], threads, seconds, runner)


def _answer(
    candidate: Candidate, rows: Mapping[str, Array], batch: int, threads: int, runner: Opener
) -> dict[str, Array] | str:
    """The outputs on all rows, or why there are none."""
    if candidate.failed or candidate.file is None:
        return candidate.failed or "it was not built"
    try:
        loaded: Runner = (
            CpuRunner(candidate.run_file, threads) if candidate.run_file else runner(candidate.file, threads)
        )
        return _run_in_batches(loaded, rows, batch)
    except TrtkitError as exc:
        return str(exc)


def _run_in_batches(loaded: Runner, rows: Mapping[str, Array], batch: int) -> dict[str, Array]:
    count = len(next(iter(rows.values())))
    step = batch or count
    parts = [loaded.run({n: a[at : at + step] for n, a in rows.items()}) for at in range(0, count, step)]
    try:
        return {
            name: np.concatenate([p[name] for p in parts]) if len(parts) > 1 else parts[0][name] for name in parts[0]
        }
    except ValueError as exc:
        raise DataError(f"the outputs of batches of different sizes do not fit together: {exc}") from exc


def _judged(
    candidate: Candidate,
    answer: dict[str, Array] | str,
    reference: Mapping[str, Array],
    metric: Metric | None,
    base: float | None,
    tolerance: ToleranceOf,
) -> Row:
    """The row without its times."""
    row = Row(candidate)
    if isinstance(answer, str):
        return replace(row, problem=answer, untimed=answer)
    outputs, shares = {}, [0.0]
    for name, expected in reference.items():
        if name not in answer:
            outputs[name] = Difference(0, problem="it has no such output")
            shares.append(math.inf)
            continue
        dtype = by_numpy(answer[name].dtype.name)
        limits = tolerance(candidate.precision, name, dtype)
        outputs[name] = difference(expected, answer[name], *limits, outside_share(candidate.precision, dtype))
        shares.append(_share(expected, answer[name], outputs[name], *limits))
    decisions = frozenset(name for name, expected in reference.items() if expected.dtype.kind != "f")
    row = replace(
        row, size_bytes=candidate.size_bytes(), outputs=outputs, decisions=decisions, allowed_share=max(shares)
    )
    if metric is None or base is None:
        return row
    try:
        value = metric(answer)
    except TrtkitError as exc:
        return replace(row, problem=str(exc))
    return replace(row, metric=value, drop=base - value)


def _share(expected: Array, actual: Array, found: Difference, rtol: float, atol: float) -> float:
    """The largest ``|a - r| / (atol + rtol * |r|)``; 0 where all are equal."""
    if found.passed and (not found.max_abs or expected.dtype.kind != "f"):
        return 0.0
    if found.problem or found.nonfinite or expected.dtype.kind != "f":
        return math.inf
    left, right = expected.astype(np.float64), actual.astype(np.float64)
    differs = np.isfinite(left) & np.isfinite(right) & (left != right)
    with np.errstate(divide="ignore"):
        shares = np.abs(right - left)[differs] / (atol + rtol * np.abs(left[differs]))
    return min(float(shares.max(initial=0.0)), 1.0 if found.passed else math.inf)


def _request(rows: Mapping[str, Array], size: int) -> dict[str, Array]:
    """Rows repeated or cut to a batch; all of them for size 0."""
    return {name: array[np.arange(size) % len(array)] if size else array for name, array in rows.items()}


def _timed(
    found: list[Row], requests: list[tuple[int, dict[str, Array]]], threads: int, seconds: float, runner: Opener
) -> list[Row]:
    """The rows with their times; all candidates that run are loaded at once, to take turns."""
    calls: dict[str, dict[int, Callable[[], object]]] = {}
    why = {row.name: row.untimed for row in found}
    for row in found:
        if row.untimed or row.candidate.file is None:
            continue
        try:
            calls[row.name] = _calls(row.candidate.file, requests, threads, runner)
        except TrtkitError as exc:
            why[row.name] = str(exc)
    timings: dict[str, dict[int, Timing]] = {name: {} for name in calls}
    for size, _ in requests:
        for name, timing in take_turns({n: c[size] for n, c in calls.items()}, size, seconds).items():
            timings[name][size] = timing
    return [replace(row, timings=timings.get(row.name, {}), untimed=why[row.name]) for row in found]


def _calls(
    file: Path, requests: list[tuple[int, dict[str, Array]]], threads: int, runner: Opener
) -> dict[int, Callable[[], object]]:
    loaded = runner(file, threads)
    return {size: loaded.timed(inputs) for size, inputs in requests}
