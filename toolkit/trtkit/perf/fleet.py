# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""One load from one process or several: their cuts come together window by window, without loss."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection, Pipe, wait
from time import perf_counter_ns
from typing import Any, NamedTuple

from trtkit.errors import MeasurementError
from trtkit.perf.job import Cut, Final, Job
from trtkit.perf.loop.records import concatenate
from trtkit.perf.worker import Worker

Decide = Callable[[Cut], bool]
"""Given the merged cut of the warm-up, then of each window; says whether the load may end."""

# from being ready to the first request
_LEAD_NS = 2_000_000
# a process that says nothing for so long after it should have is stuck: longer than any garbage collection
_SILENCE_S = 60.0
_COMMAND = "from trtkit.perf.worker import main; main()"


class Outcome(NamedTuple):
    """How a load ended.

    Attributes:
        final: of all processes together.
        start_ns: when the load began.
        interrupted: whether the user did it.
    """

    final: Final
    start_ns: int
    interrupted: bool


def run_jobs(jobs: Sequence[Job], decide: Decide) -> Outcome:
    """Run the shares of a load at the same time until `decide` says enough, or the requests have run out.

    Raises:
        ServerUnavailableError: connecting is impossible.
        MeasurementError: a process of the load died.
    """
    return _run_here(jobs[0], decide) if len(jobs) == 1 else _run_processes(jobs, decide)


def _run_here(job: Job, decide: Decide) -> Outcome:
    def on_cut(cut: Cut) -> None:
        if decide(cut):
            worker.stop()

    started: list[int] = []

    def start() -> int:
        interruption.armed = True
        started.append(perf_counter_ns() + _LEAD_NS)
        return started[0]

    worker = Worker(job, on_cut)
    with _interruption() as interruption:
        worker.reactor.add(interruption.fd, lambda _mask: interruption.happened(worker.stop, worker.give_up))
        final = worker.run(start)
    return Outcome(final, started[0], interruption.came > 0)


class _Interruption:
    """Ctrl-C as an event, once there is something to keep.

    The first one stops the load and waits for what is in flight, a second one does not wait. A third interrupts at
    once, as every one does before the load has begun.
    """

    def __init__(self) -> None:
        self.fd, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
        os.set_blocking(self._write, False)
        self.came = 0
        self.armed = False

    def happened(self, stop: Callable[[], None], give_up: Callable[[], None]) -> None:
        """The descriptor is ready."""
        os.read(self.fd, 1)
        self.came += 1
        if self.came == 1:
            stop()
        else:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            give_up()

    def noted(self, _signal: int, _frame: Any) -> None:
        """The signal handler."""
        if not self.armed:
            raise KeyboardInterrupt
        os.write(self._write, b"i")

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self.fd)
        os.close(self._write)


@contextmanager
def _interruption() -> Iterator[_Interruption]:
    interruption = _Interruption()
    try:
        before = signal.signal(signal.SIGINT, interruption.noted)
    except ValueError:  # not the main thread: whoever runs us there stops us otherwise
        yield interruption
        interruption.close()
        return
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGINT, before)
        interruption.close()


class _Process(NamedTuple):
    process: subprocess.Popen[bytes]
    pipe: Connection


def _run_processes(jobs: Sequence[Job], decide: Decide) -> Outcome:
    with ExitStack() as stack, _interruption() as interruption:
        processes = [stack.enter_context(_process(job)) for job in jobs]
        for process in processes:
            _receive(process)  # it is ready
        interruption.armed = True
        start_ns = perf_counter_ns() + _LEAD_NS * len(processes)
        for process in processes:
            process.pipe.send(start_ns)
        silence_s = _SILENCE_S + max(_longest_s(job) for job in jobs)
        finals = _collect(processes, decide, interruption, silence_s)
    return Outcome(_merged(finals), start_ns, interruption.came > 0)


@contextmanager
def _process(job: Job) -> Iterator[_Process]:
    ours, theirs = Pipe()
    command = [sys.executable, "-c", _COMMAND, str(theirs.fileno())]
    # in a session of its own: ctrl-C is the parent's business, and a process ends when its pipe does
    with subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True) as process:
        theirs.close()
        ours.send(job)
        try:
            yield _Process(process, ours)
        finally:
            ours.close()  # a process that still runs ends by itself when its pipe does
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def _receive(process: _Process) -> Any:
    """The next message of a process; its errors are raised here."""
    try:
        if not process.pipe.poll(_SILENCE_S):
            raise MeasurementError(f"a process of the load generator said nothing for {_SILENCE_S:g} s")
        message = process.pipe.recv()
    except (EOFError, ConnectionError) as exc:
        code = process.process.wait()
        raise MeasurementError(f"a process of the load generator ended in the middle (exit status {code})") from exc
    if isinstance(message, Exception):
        raise message
    return message


def _longest_s(job: Job) -> float:
    """How long a process may have nothing to say: a window, the warm-up, or the drain."""
    return max(job.window_ns / 1e9, job.warmup_ns / 1e9, 1.2 * job.way.timeout_s)


def _collect(
    processes: Sequence[_Process], decide: Decide, interruption: _Interruption, silence_s: float
) -> list[Final]:
    """Merge the cuts as they come; the last message of each process."""
    cuts: list[list[Cut]] = [[] for _ in processes]
    finals: dict[int, Final] = {}
    pipes = {process.pipe: number for number, process in enumerate(processes)}
    told = False
    while len(finals) < len(processes):
        ready = wait([*pipes, interruption.fd], silence_s)
        if not ready:
            raise MeasurementError(f"no process of the load generator said anything for {silence_s:g} s")
        for source in ready:
            if source == interruption.fd:
                interruption.happened(
                    lambda: _tell(processes, finals, "stop"), lambda: _tell(processes, finals, "give up")
                )
                continue
            number = pipes[source]  # type: ignore[index]
            message = _receive(processes[number])
            if isinstance(message, Final):
                finals[number] = message
                del pipes[source]  # type: ignore[arg-type]
            else:
                cuts[number].append(message)
        while all(cuts) and not (finals or told or interruption.came):
            if decide(_together([waiting.pop(0) for waiting in cuts])):
                told = True
                _tell(processes, finals, "stop")
    rest = [[*cuts[number], finals[number].cut] for number in range(len(processes))]
    return [finals[number]._replace(cut=_in_a_row(parts)) for number, parts in enumerate(rest)]


def _tell(processes: Sequence[_Process], finals: dict[int, Final], word: str) -> None:
    """Tell the processes that have not ended to stop, or to give up."""
    for number, process in enumerate(processes):
        if number not in finals:
            try:
                process.pipe.send(word)
            except BrokenPipeError:  # it has just ended by itself; its last message says how
                continue


def _together(cuts: Sequence[Cut]) -> Cut:
    """The same stretch of time in several processes."""
    return Cut(
        concatenate([cut.records for cut in cuts]),
        max(cut.start_ns for cut in cuts),
        max(cut.end_ns for cut in cuts),
        sum(cut.cpu_ns for cut in cuts),
    )


def _in_a_row(cuts: Sequence[Cut]) -> Cut:
    """Several stretches of time of one process."""
    records = concatenate([cut.records for cut in cuts])
    return Cut(records, cuts[0].start_ns, cuts[-1].end_ns, sum(cut.cpu_ns for cut in cuts))


def _merged(finals: Sequence[Final]) -> Final:
    verifiers = [final.verifier for final in finals if final.verifier]
    for verifier in verifiers[1:]:
        verifiers[0].merge(verifier)
    return Final(
        _together([final.cut for final in finals]),
        all(final.drained for final in finals),
        sum(final.delayed for final in finals),
        sum(final.unsent for final in finals),
        verifiers[0] if verifiers else None,
        min((final.last_sent_ns for final in finals if final.last_sent_ns), default=0),
    )
