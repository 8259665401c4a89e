# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A thread beside the load that asks the server about itself: statistics, metrics, memory and CPU time.

It shares the interpreter with the load's loop: it asks seldom, one question after the other, and keeps plain numbers.
A server that is slow or dead costs samples and never the run: every wait is bounded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from trtkit.errors import ServerError, ServerUnavailableError
from trtkit.perf.server.address import Address, Tls
from trtkit.perf.server.control import Fetch, open_control
from trtkit.perf.server.metrics_endpoint import Gauges, MetricsEndpoint, parse_metrics_url
from trtkit.perf.server.processes import ServerProcesses, Usage, server_processes
from trtkit.perf.server.resources import Resources, Sample, resources_over
from trtkit.perf.server.server_side import ServerFigures, Snapshot, figures_over, snapshot

__all__ = ["Resources", "Sample", "Sampler", "sample_of"]

# questions that came later than this after the ends of a range are told
_FAR_NS = 500_000_000
_AFTER_TIMEOUT_S = 1.0


class _Look(NamedTuple):
    """Everything asked at one moment."""

    at_ns: int
    counters: Snapshot | ServerError
    gauges: Gauges | None
    usage: Usage | None


class Sampler:
    """Samples of the server while it is loaded.

    Args:
        address: of the protocol.
        protocol: ``http`` or ``grpc``.
        models: name and version of the model and then, of an ensemble, of those it is made of
            (`server_side.composing_models`).
        asked: names of the models that the load asks, for a mix; the first one of `models` when empty. The others are
            parts of ensembles among them.
        interval_s: between two samples, in seconds; `mark` asks for one more at once.
        metrics_url: Triton's metrics endpoint; None leaves out GPUs, the host's CPU and what is pending.
        timeout_s: how long each question may take in all, in seconds.
        tls: for an address, or a metrics URL, with TLS.
        headers: sent with every question; to the metrics endpoint only when it is on the same host.

    Raises:
        ProjectError: the metrics URL, a file of `tls` or a header is wrong.
    """

    def __init__(
        self,
        address: Address,
        protocol: str,
        models: Sequence[tuple[str, str]],
        *,
        asked: Collection[str] = (),
        interval_s: float = 1.0,
        metrics_url: str | None = None,
        timeout_s: float = 5.0,
        tls: Tls | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._models = list(models)
        self._asked = frozenset(asked) or frozenset({models[0][0]})
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._stack = ExitStack()
        self._fetch: Fetch = self._stack.enter_context(
            open_control(address, protocol, timeout_s, tls=tls or Tls(), headers=headers)
        )
        self._metrics: MetricsEndpoint | None = None
        if metrics_url is not None:
            # headers may hold a secret that is the inference server's only
            own = headers if parse_metrics_url(metrics_url)[0].host == address.host else ()
            self._metrics = MetricsEndpoint(metrics_url, timeout_s, tls=tls, headers=own)
            self._stack.callback(self._metrics.close)
        self._address = address
        self._processes: ServerProcesses | None = None
        self._looks: list[_Look] = []
        self._cores: int | None = None
        self._pss_bytes: int | None = None
        self._metrics_problem = ""
        self._defect: BaseException | None = None
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trtkit-perf-sampler", daemon=True)

    def start(self) -> None:
        """Take the first sample, in this thread, and then go on beside the load."""
        self._processes = server_processes(self._address)
        if self._processes is not None:
            self._cores = self._processes.cores()
        self._looks.append(self._look())
        self._thread.start()

    def mark(self) -> None:
        """Take a sample now (a window begins or ends); returns at once. While another is being taken, after it."""
        self._wake.set()

    def stop(self) -> None:
        """Take a last sample and end, whatever the server does. A second call does nothing.

        Takes at most the time of the questions of two samples; of a server that is gone, of one question.
        """
        if self._ended.is_set():
            return
        self._ended.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(2 * (len(self._models) + 1) * self._timeout_s + _AFTER_TIMEOUT_S)
        if self._thread.is_alive():
            return  # a question outlived its bound (a resolver that hangs): its connection is the thread's
        self._stack.close()
        if self._defect is not None:
            raise self._defect

    def __enter__(self) -> Sampler:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                self._wake.wait(self._interval_s)
                self._wake.clear()
                if not (self._ended.is_set() and isinstance(self._looks[-1].counters, ServerUnavailableError)):
                    self._looks.append(self._look())
            if self._processes is not None:
                self._pss_bytes = self._processes.pss_bytes()
        except BaseException as exc:  # a defect of ours: raised by stop()
            self._defect = exc

    def _look(self) -> _Look:
        begun = time.perf_counter_ns()
        try:
            counters: Snapshot | ServerError = snapshot(self._fetch, self._models)
        except ServerError as exc:
            counters = exc
        at_ns = (begun + time.perf_counter_ns()) // 2
        gone = isinstance(counters, ServerUnavailableError)
        return _Look(at_ns, counters, None if gone else self._ask_metrics(), self._usage(gone))

    def _usage(self, gone: bool) -> Usage | None:
        if self._processes is None:
            return None
        usage = self._processes.usage()
        if usage is None and not gone:  # it was started anew
            self._processes = server_processes(self._address)
            usage = self._processes.usage() if self._processes else None
        return usage

    def _ask_metrics(self) -> Gauges | None:
        if self._metrics is None:
            return None
        try:
            gauges = self._metrics.ask()
        except ServerUnavailableError as exc:
            self._metrics_problem = self._metrics_problem or str(exc)
            return None
        unknown = sorted(self._asked - gauges.models)
        if gauges.models and unknown:
            self._metrics_problem = (
                f"{self._metrics.url} says nothing of model '{unknown[0]}': it belongs to another server"
            )
            self._metrics = None
            return None
        return gauges

    @property
    def snapshots(self) -> list[tuple[int, Snapshot | ServerError]]:
        """Every answer for statistics with its time on the clock of `time.perf_counter_ns`."""
        return [(look.at_ns, look.counters) for look in self._looks]

    def samples(self) -> tuple[Sample, ...]:
        """One sample for each look; the first one has no means, as there is nothing before it."""
        looks = list(self._looks)
        return tuple(
            sample_of(self._models, self._asked, looks[index - 1] if index else None, look)
            for index, look in enumerate(looks)
        )

    def figures(self, start_ns: int, end_ns: int) -> tuple[list[ServerFigures], list[str]]:
        """The server's figures between two moments, as `server_side.figures_over` gives them.

        Args:
            start_ns: on the clock of `time.perf_counter_ns`.
            end_ns: on the same clock.

        Returns:
            The figures of each model, and sentences about what is missing. For each moment the first question after
            it is taken (see `mark`); when it came late, that is told.
        """
        looks = list(self._looks)
        if not looks:
            return [], ["the server gave no figures of its own: it was not asked"]
        first, last = _look_at(looks, start_ns), _look_at(looks, end_ns)
        within = [look for look in looks if first.at_ns <= look.at_ns <= last.at_ns]
        figures, sentences = figures_over([look.counters for look in within], self._models)
        far_ns = max(abs(first.at_ns - start_ns), abs(last.at_ns - end_ns))
        if figures and far_ns > max(_FAR_NS, (end_ns - start_ns) // 10):
            sentences.append(
                f"the server answered late: its own figures begin or end {far_ns / 1e9:.1f} s beside the windows"
            )
        return figures, sentences

    def resources(self, start_ns: int, end_ns: int) -> tuple[Resources | None, list[str]]:
        """What the server used between two moments (as in `figures`), and sentences about what is missing."""
        looks = list(self._looks)
        if not looks:
            return None, []
        found = resources_over(
            self.samples(),
            _look_at(looks, start_ns).at_ns,
            _look_at(looks, end_ns).at_ns,
            cores=self._cores,
            pss_bytes=self._pss_bytes,
        )
        problem = self._metrics_problem
        return found, [f"the metrics endpoint gave no figures: {problem}"] if problem else []


def _look_at(looks: Sequence[_Look], at_ns: int) -> _Look:
    """The first one from the moment on, which is that of a `mark` at the moment; the last one when there is none."""
    return next((look for look in looks if look.at_ns >= at_ns), looks[-1])


def sample_of(models: Sequence[tuple[str, str]], asked: Collection[str], before: _Look | None, now: _Look) -> Sample:
    """One look as a sample, with the means since the look before."""
    sample = {"at_ns": now.at_ns, **_rates(models, asked, before, now)}
    if now.gauges is not None:
        pending = [count for model, count in now.gauges.pending_requests.items() if model in asked]
        sample |= {
            "pending_requests": sum(pending) if pending else None,
            "host_cpu_utilization": now.gauges.host_cpu_utilization,
            "host_memory_used_bytes": now.gauges.host_memory_used_bytes,
            "pinned_memory_used_bytes": now.gauges.pinned_memory_used_bytes,
            "gpus": now.gauges.gpus,
        }
    if now.usage is not None:
        sample["server_memory_bytes"] = now.usage.rss_bytes
        sample["server_cpu_share"] = _cpu_share(before, now)
    return Sample(**sample)  # type: ignore[arg-type]


def _rates(
    models: Sequence[tuple[str, str]], asked: Collection[str], before: _Look | None, now: _Look
) -> dict[str, object]:
    if before is None or isinstance(before.counters, ServerError) or isinstance(now.counters, ServerError):
        return {}
    figures, _ = figures_over([before.counters, now.counters], models)
    own = [one for one in figures if one.model in asked]
    requests = sum(one.success_count for one in own)
    computed = sum(one.success_count - one.cache_hit_count for one in own if one.compute_ns is not None)
    executions = sum(one.execution_count for one in own)
    alone = len(own) == len(figures)
    queue_ns = sum((one.queue_ns or 0) * one.success_count for one in figures)
    compute_ns = sum((one.compute_ns or 0) * (one.success_count - one.cache_hit_count) for one in own)
    return {
        "requests_per_s": requests / ((now.at_ns - before.at_ns) / 1e9),
        "queue_ns": round(queue_ns / requests) if requests else None,
        "compute_ns": round(compute_ns / computed) if computed > 0 else None,
        "batch_size_mean": sum(one.inference_count for one in own) / executions if alone and executions else None,
    }


def _cpu_share(before: _Look | None, now: _Look) -> float | None:
    """CPU time of the processes that were there both times; a new one's counts from its second look."""
    if before is None or before.usage is None or now.usage is None:
        return None
    earlier = before.usage.cpu_ns
    used = sum(max(cpu - earlier[pid], 0) for pid, cpu in now.usage.cpu_ns.items() if pid in earlier)
    return used / (now.at_ns - before.at_ns)
