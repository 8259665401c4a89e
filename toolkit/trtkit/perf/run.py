# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""One load from beginning to end: warm up, cut windows until it is enough, drain, put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from trtkit.perf.fleet import Outcome, run_jobs
from trtkit.perf.job import Cut, Final, Job
from trtkit.perf.load import Load
from trtkit.perf.loop.records import concatenate
from trtkit.perf.measurement import Run
from trtkit.perf.statistics.windows import Window, all_failed, stable_windows, window_of

Watch = Callable[[str], None]
"""Called with ``start`` when the first window begins and with ``window`` at each one's end; the load goes on."""


@dataclass(frozen=True)
class Plan:
    """When a load is enough.

    Attributes:
        windows: measure at least so many windows.
        max_windows: give up becoming stable after so many.
        duration_s: measure exactly so long; 0 until stable.
        requests: send exactly so many; 0 for no such end. Also the end of a trace.
        warmup_requests: the warm-up ends after so many requests and not after a time; 0 for by time.
        changes: whether the load itself changes, so that no windows can agree.
        window_requests: a window is prolonged by its own length until so many requests have ended in it.
    """

    windows: int = 5
    max_windows: int = 20
    duration_s: float = 0.0
    requests: int = 0
    warmup_requests: int = 0
    changes: bool = False
    window_requests: int = 0

    @property
    def whole(self) -> bool:
        """Whether all windows are the result."""
        return bool(self.duration_s or self.requests or self.changes)


def run_load(
    load: Load,
    jobs: Sequence[Job],
    plan: Plan,
    *,
    on_window: Callable[[Window], None] | None = None,
    watch: Watch = lambda _what: None,
) -> Run:
    """Carry a load out.

    Args:
        load: what is asked for.
        jobs: a share for each process; their warm-up and window lengths are those of the load.
        plan: when it is enough.
        on_window: called after each window, between two requests: it has to be short.
        watch: told of the windows' ends.

    Raises:
        ServerUnavailableError: connecting is impossible.
        MeasurementError: a process of the load died.
    """
    before: list[Cut] = []
    if plan.warmup_requests or (plan.requests and load.warmup_s):
        before.append(_warm_up(load, jobs, plan.warmup_requests))
        sent = len(before[0].records)
        jobs = [replace(job, warmup_ns=0, first=job.first + sent) for job in jobs]
    progress = _Progress(load, plan, on_window, watch, before)
    outcome = run_jobs(_limited(jobs, plan.requests), progress.decide)
    return _run_of(load, plan, progress, outcome)


def _warm_up(load: Load, jobs: Sequence[Job], requests: int) -> Cut:
    """A load of its own before the one that is measured."""
    cuts: list[Cut] = []

    def decide(cut: Cut) -> bool:
        cuts.append(cut)
        return not requests or all_failed([_window(load, len(cuts), cut) for cut in cuts], load.judged_windows)

    warm = [replace(job, verifier=None) for job in jobs]
    if requests:
        warm = [replace(job, warmup_ns=job.window_ns) for job in warm]
    outcome = run_jobs(_limited(warm, requests), decide)
    if outcome.interrupted:
        raise KeyboardInterrupt
    return _joined([*cuts, outcome.final.cut])


def _limited(jobs: Sequence[Job], requests: int) -> list[Job]:
    """The jobs with their shares of a number of requests."""
    if not requests:
        return list(jobs)
    count = len(jobs)
    return [replace(job, limit=requests // count + (number < requests % count)) for number, job in enumerate(jobs)]


def _joined(cuts: Sequence[Cut]) -> Cut:
    records = concatenate([cut.records for cut in cuts])
    return Cut(records, cuts[0].start_ns, cuts[-1].end_ns, sum(cut.cpu_ns for cut in cuts))


def _window(load: Load, number: int, cut: Cut) -> Window:
    return window_of(number, cut.records, max(cut.end_ns - cut.start_ns, 1), cut.cpu_ns, load.percentile)


class _Progress:
    """Takes the cuts as they come and says when it is enough."""

    def __init__(
        self,
        load: Load,
        plan: Plan,
        on_window: Callable[[Window], None] | None,
        watch: Watch,
        before: Sequence[Cut],
    ) -> None:
        self._load, self._plan, self._on_window, self._watch = load, plan, on_window, watch
        self._before = list(before)
        self.warmup: Cut | None = None
        self.started_at = ""
        self.cuts: list[Cut] = []
        self._windows: list[Window] = []
        self.begun: list[Cut] = []
        self.enough = False

    def decide(self, cut: Cut) -> bool:
        """Whether the load may end."""
        if self.warmup is None:
            self.warmup = _joined([*self._before, cut])
            self.started_at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
            self._watch("start")
            return False
        if self.enough:  # the load goes on for a moment after that
            return True
        self.begun.append(cut)
        if sum(len(part.records) for part in self.begun) < self._plan.window_requests:
            return False
        cut, self.begun = _joined(self.begun), []
        self.cuts.append(cut)
        self._windows.append(_window(self._load, len(self.cuts), cut))
        self._watch("window")
        if self._on_window:
            self._on_window(self._windows[-1])
        self.enough = self._enough()
        return self.enough

    def _enough(self) -> bool:
        load, plan, windows = self._load, self._plan, self._windows
        lasting = plan.duration_s and any(window.requests for window in windows)  # the server may come back
        if self._nothing_answers() and not lasting:
            return True
        if plan.duration_s:
            lasted_s = (self.cuts[-1].end_ns - self.cuts[0].start_ns) / 1e9
            return lasted_s >= plan.duration_s * (1 - 1e-3)
        if plan.requests or plan.changes:
            return False
        if len(windows) >= plan.max_windows:
            return True
        return len(windows) >= plan.windows and bool(
            stable_windows(windows, load.stability, load.judged_windows, load.percentile)
        )

    def _nothing_answers(self) -> bool:
        """Whether the judged windows saw failures only, and as many as can be in flight: else slow answers may come."""
        last = self._windows[-self._load.judged_windows :]
        failed = sum(window.errors for window in last)
        return all_failed(self._windows, self._load.judged_windows) and failed >= self._load.concurrency


def _run_of(load: Load, plan: Plan, progress: _Progress, outcome: Outcome) -> Run:
    """The run's parts; where the requests ran out, the last window is what was left of it."""
    cuts, final, warmup = progress.cuts, outcome.final, progress.warmup
    final = final._replace(cut=_joined([*progress.begun, final.cut]))  # a prolonged window that was not full yet
    if warmup is None:  # it ended within the warm-up
        warmup = Cut(concatenate([]), outcome.start_ns, outcome.start_ns, 0)
    if not cuts or not (progress.enough or outcome.interrupted):
        cuts = [*cuts, _until_last_send(final)]
        rows = final.cut.records
        after = rows.where(rows.last_ns >= cuts[-1].end_ns)
        final = final._replace(cut=Cut(after, cuts[-1].end_ns, final.cut.end_ns, 0))
    return Run(
        started_at=progress.started_at or datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        warmup=warmup,
        cuts=tuple(cuts),
        final=final,
        interrupted=outcome.interrupted,
        judged=not (plan.requests or plan.changes),
        whole=plan.whole,
    )


def _until_last_send(final: Final) -> Cut:
    """What ended before the last request was sent: after that the load is less than what was asked for.

    When that is nothing, or next to nothing of it, the whole cut.
    """
    cut = final.cut
    end_ns = final.last_sent_ns or cut.end_ns
    inside = cut.records.where(cut.records.last_ns < end_ns)  # a stream's last response may be of before the cut
    if 2 * len(inside) < len(cut.records) or end_ns <= cut.start_ns:
        last_ns = int(cut.records.last_ns[-1]) + 1 if len(cut.records) else cut.end_ns
        return Cut(cut.records, cut.start_ns, max(last_ns, cut.start_ns + 1), cut.cpu_ns)
    return Cut(inside, cut.start_ns, end_ns, cut.cpu_ns)
