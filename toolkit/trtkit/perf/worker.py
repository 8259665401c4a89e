# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""One process's share of a load: it sends, keeps the rows, and hands them over at each window's end.

`main` does that in a process of its own, for a `Job` that comes through a pipe.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle, islice
from multiprocessing.connection import Connection
from time import perf_counter_ns, process_time_ns
from typing import Any

from trtkit.errors import ProjectError, TrtkitError
from trtkit.perf.job import Cut, Final, Job, Way
from trtkit.perf.loop.closed import ClosedLoop
from trtkit.perf.loop.open import OpenLoop
from trtkit.perf.loop.reactor import Reactor
from trtkit.perf.loop.records import Recorder
from trtkit.perf.loop.slots import Loop
from trtkit.perf.loop.sources import Ids, InTurn, OwnInTurn, Sequences
from trtkit.perf.transports.base import Transport

# an open loop connects so many slots before it starts, and the others when they are needed
_OPENED_FIRST = 16
# files that a process has open besides its connections, generously
_OTHER_DESCRIPTORS = 128


class Worker:
    """Runs a job in this process.

    Args:
        job: what to do.
        on_cut: called at the end of the warm-up and of each window; the load goes on meanwhile, so it has to be short.
    """

    def __init__(self, job: Job, on_cut: Callable[[Cut], None]) -> None:
        self._job, self._on_cut = job, on_cut
        self.reactor = Reactor()
        opened_first = None if job.arrivals is None else _OPENED_FIRST
        self._transport = transport_of(job.way, job.verifier is not None, opened_first)
        self._recorder = Recorder()
        self._drained = True
        self._stopped = False

    def run(self, start: Callable[[], int]) -> Final:
        """Send until `stop` is called or the requests have run out; then wait for what is in flight.

        Args:
            start: called when everything is ready; says when the load begins, on the clock of
                ``time.perf_counter_ns``, which all processes share.

        Raises:
            ServerUnavailableError: connecting is impossible.
        """
        job = self._job
        self._loop = self._make_loop()
        try:
            if job.way.protocol in {"http", "generate-stream"}:
                allow_descriptors(job.slots)
            self._transport.open(self.reactor, self._loop, job.slots)
            prepared = [[self._transport.prepare(message) for message in messages] for messages in job.messages]
            self._give_sources(prepared)
            self._loop.exhausted = self.reactor.stop
            gc.collect()
            gc.freeze()  # the garbage collector does not walk everything that is there while latencies are taken
            start_ns = start()
            self._start_clock(start_ns)
            self._loop.start(start_ns)
            self.reactor.run()
        finally:
            gc.unfreeze()
            self._transport.close()
            self.reactor.close()
        waiting = self._loop.waiting if isinstance(self._loop, OpenLoop) else 0
        delayed = self._loop.delayed if isinstance(self._loop, OpenLoop) else 0
        rest = self._cut()
        last_sent_ns = int(rest.records.sent_ns.max()) if len(rest.records) else 0
        return Final(rest, self._drained, delayed, waiting, job.verifier, last_sent_ns)

    def _make_loop(self) -> Loop:
        job = self._job
        check = job.verifier.check if job.verifier else None
        areas = job.verifier is not None and not job.verifier.in_answer
        options: dict[str, Any] = {"streams": job.way.streams, "check": check, "areas": areas}
        parts = (self.reactor, self._transport, self._recorder, job.slots, round(job.way.timeout_s * 1e9))
        if job.arrivals is None:
            return ClosedLoop(*parts, **options)
        loop = OpenLoop(*parts, **options)
        share = islice(job.arrivals.offsets(), job.share, None, job.shares)
        loop.schedule(share, in_order=job.sequences is not None)
        return loop

    def _give_sources(self, prepared: list[list[Any]]) -> None:
        job, limit = self._job, self._job.limit
        if job.grow[0]:
            own = [prepared[slot % len(prepared)] for slot in range(job.slots)]
            self._loop.sources = [InTurn(messages, [slot % len(messages)], 1) for slot, messages in enumerate(own)]
            return
        if job.sequences is None:
            order = job.order or range(len(prepared[0]))
            shift = (job.first + len(order) * job.share // job.shares) % len(order)  # processes begin at different ones
            turned = [*order[shift:], *order[:shift]]
            if job.arrivals is not None and job.arrivals.kind == "times":
                turned = list(islice(cycle(order), job.share, len(order) * job.shares, job.shares))
            if len(prepared) == 1:
                self._loop.sources = [InTurn(prepared[0], turned, limit)]
            else:
                indexes = islice(cycle(turned), limit)
                self._loop.sources = [OwnInTurn(messages, indexes) for messages in prepared]
            return
        ids = Ids(job.sequences, job.share, job.shares)
        left = None if limit is None else [limit]
        build = [partial(self._sequenced, messages) for messages in job.messages]
        self._loop.sources = [Sequences(ids, build[slot % len(build)], left) for slot in range(job.slots)]

    def _sequenced(self, messages: Sequence[bytes], index: int, sequence: int, start: bool, end: bool) -> Any:
        from trtkit.perf.encoding.encode import grpc_sequenced, http_sequenced

        build = http_sequenced if self._job.way.protocol == "http" else grpc_sequenced
        return self._transport.prepare(build(messages[index], sequence, start, end))

    def _start_clock(self, start_ns: int) -> None:
        """Set the timers of the windows and of what changes on the way."""
        job = self._job
        self._at_ns, self._cpu_ns = start_ns, process_time_ns()
        self._next_cut_ns = start_ns + job.warmup_ns
        self.reactor.call_at(self._next_cut_ns, self._end_window)
        if isinstance(self._loop, ClosedLoop):
            self._loop.grow(*job.grow)
            for at_ns, slots in job.concurrency_at:
                if at_ns:
                    self.reactor.call_at(start_ns + at_ns, partial(self._loop.activate, slots))
                else:
                    self._loop.activate(slots)

    def _end_window(self) -> None:
        if self._stopped:  # the drain is no window: what ends in it is of the final cut
            return
        self._next_cut_ns += self._job.window_ns
        if self._job.shares == 1:  # one long window, and not many empty ones, after a sleep of the whole machine
            missed = (perf_counter_ns() - self._next_cut_ns) // self._job.window_ns + 1
            self._next_cut_ns += max(missed, 0) * self._job.window_ns
        self.reactor.call_at(self._next_cut_ns, self._end_window)
        self._on_cut(self._cut())

    def _cut(self) -> Cut:
        start_ns, start_cpu_ns = self._at_ns, self._cpu_ns
        self._at_ns, self._cpu_ns = perf_counter_ns(), process_time_ns()
        return Cut(self._recorder.cut(), start_ns, self._at_ns, self._cpu_ns - start_cpu_ns)

    def stop(self) -> None:
        """Send nothing more, and end when everything in flight has, or is past its deadline."""
        self._stopped = True
        self.reactor.call_at(perf_counter_ns() + round(self._job.way.timeout_s * 1.2e9), self.give_up)
        self._loop.stop(self.reactor.stop)

    def give_up(self) -> None:
        """End without waiting for what is in flight."""
        self._drained = False
        self.reactor.stop()


def allow_descriptors(slots: int) -> None:
    """Allow this process as many sockets as there are slots, up to what the system permits.

    Raises:
        ProjectError: it permits fewer.
    """
    wanted = slots + _OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise ProjectError(
            f"{slots} requests in flight over HTTP need {wanted} open files, and this system permits {hard}; "
            "use fewer (--concurrency, --max-in-flight), more --processes, gRPC, or raise `ulimit -n`"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def transport_of(way: Way, keep_answers: bool = False, opened_first: int | None = None) -> Transport:
    """The transport of a protocol; the arguments are those of the transports."""
    options: dict[str, Any] = {"timeout_s": way.timeout_s, "keep_answers": keep_answers}
    if way.protocol in {"http", "generate-stream"}:
        from trtkit.perf.transports.http_transport import HttpTransport

        return HttpTransport(way.address, way.tls, stream=way.streams, opened_first=opened_first, **options)
    options |= {"headers": way.headers, "compression": way.compression}
    if way.protocol == "grpc-stream":
        from trtkit.perf.transports.grpc_stream import GrpcStreamTransport

        return GrpcStreamTransport(way.address, way.tls, **options)
    from trtkit.perf.transports.grpc_transport import GrpcTransport

    return GrpcTransport(way.address, way.tls, **options)


def main() -> None:
    """Take a job from the pipe whose descriptor is the argument; send cuts, then the final one."""
    pipe = Connection(int(sys.argv[1]))
    job = pipe.recv()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    worker = Worker(job, pipe.send)
    worker.reactor.add(pipe.fileno(), lambda _mask: _obey(pipe, worker))
    try:
        pipe.send(worker.run(lambda: _agree(pipe)))
    except TrtkitError as exc:
        pipe.send(exc)
    except (EOFError, ConnectionError):  # the parent has ended: nobody wants the rest
        os._exit(1)


def _agree(pipe: Connection) -> int:
    """Say that this process is ready, and be told when all begin."""
    pipe.send("ready")
    start_ns: int = pipe.recv()
    return start_ns


def _obey(pipe: Connection, worker: Worker) -> None:
    """Stop, or give up what is in flight; when the other end is gone, nobody wants the rest."""
    try:
        word = pipe.recv()
    except (EOFError, ConnectionError):
        os._exit(1)
    if word == "stop":
        worker.stop()
    else:
        worker.give_up()
