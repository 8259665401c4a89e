# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A measurement from beginning to end: ask what the model takes, load it, cut windows, put it together."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from trtkit.errors import ProjectError, ServerError
from trtkit.perf.address import Address, parse_address
from trtkit.perf.closed_loop import ClosedLoop
from trtkit.perf.control import Fetch, ModelDescription, describe_with, open_control
from trtkit.perf.encode import grpc_request, http_request
from trtkit.perf.http_transport import HttpTransport
from trtkit.perf.measurement import Load, Measurement, measurement_of
from trtkit.perf.recorder import Cut, Recorder
from trtkit.perf.server_side import ServerFigures, Snapshot, composing_models, difference, snapshot
from trtkit.perf.transport import Transport
from trtkit.perf.windows import JUDGED, Window, all_failed, instability, window_of
from trtkit.perf.workload import checked, input_specs

# an answer about the model or its statistics takes milliseconds; a server slower than this is in trouble
_CONTROL_TIMEOUT_S = 5.0


_Snapshotting = asyncio.Future[Snapshot | ServerError]


@dataclass(frozen=True)
class _Run:
    """What happened, before it is put together."""

    started_at: str
    warmup: Cut
    cuts: list[Cut]
    snapshots: list[Snapshot | ServerError]
    drained: bool


def measure(
    url: str,
    model: str,
    *,
    inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    protocol: str = "http",
    version: str = "",
    concurrency: int = 1,
    batch_size: int = 1,
    outputs: Sequence[str] | None = None,
    warmup_s: float = 1.0,
    window_s: float = 2.0,
    windows: int = 3,
    max_windows: int = 10,
    timeout_s: float = 30.0,
    stability: float = 0.1,
    on_window: Callable[[Window], None] | None = None,
) -> Measurement:
    """Load a model in a closed loop and say how fast it answers.

    Windows follow each other without a gap until the last three are stable (see `windows`) or `max_windows`
    were measured, or until three in a row saw only failed requests. A failed request is counted and never
    ends the measurement. Takes at most warm-up + `max_windows` windows + three deadlines (connecting,
    draining, the last question for statistics).

    Args:
        url: ``HOST:PORT`` of the protocol.
        model: the model's name.
        inputs: one request, or a pool of requests that are sent in turn: one array per input, *with* the
            batch dimension when the model has one.
        protocol: ``http`` (KServe v2 with binary tensors) or ``grpc``.
        version: the model's version; the server's choice when empty.
        concurrency: requests kept in flight, each on a connection of its own (HTTP).
        batch_size: samples in each request.
        outputs: names of the outputs to ask for; all when None.
        warmup_s: loaded time before the first window, discarded, in seconds.
        window_s: length of a window, in seconds.
        windows: at least this many windows are measured; 3 or more.
        max_windows: at most this many.
        timeout_s: a request without a complete response after this many seconds has failed.
        stability: how far each of the last three windows may be from their mean; 0.1 is ±10 %.
        on_window: called after each window, between two requests: keep it short.

    Raises:
        ProjectError: an argument is impossible.
        ServerUnavailableError: nobody answers as Triton does at the address.
        ModelUnavailableError: the model is not loaded.
        DataError: the inputs do not fit the model.
    """
    address = parse_address(url, protocol)
    pool = [inputs] if isinstance(inputs, Mapping) else list(inputs)
    load = Load(
        model,
        version,
        protocol,
        str(address),
        concurrency,
        batch_size,
        len(pool),
        warmup_s,
        window_s,
        timeout_s,
        stability,
    )
    _check(load, windows, max_windows)
    with open_control(address, protocol, min(timeout_s, _CONTROL_TIMEOUT_S)) as fetch:
        description = describe_with(fetch, model, version)
        _check_kind(model, description.config)
        transport = _transport(load, address, _encoded(load, address, description, pool, outputs))
        models = [(model, version), *composing_models(fetch, description.config)]
        with _no_collection_of_old_objects(), ThreadPoolExecutor(1, "trtkit-perf-statistics") as thread:
            plan = _Plan(load, windows, max_windows, on_window, lambda: _try_snapshot(fetch, models), thread)
            run = asyncio.run(_run(plan, transport))
    figures, warnings = _server_figures(run)
    if not run.drained:
        warnings.append("some requests were still in flight when the run ended; they were given up")
    return measurement_of(load, run.started_at, run.warmup, run.cuts, figures, warnings)


def _check(load: Load, windows: int, max_windows: int) -> None:
    """ProjectError for a number that makes no sense."""
    if load.concurrency < 1:
        raise ProjectError(f"concurrency {load.concurrency} is impossible; it must be 1 or more")
    if windows < JUDGED:
        raise ProjectError(f"{windows} windows are too few to judge stability; measure {JUDGED} or more")
    if max_windows < windows:
        raise ProjectError(f"at most {max_windows} windows is below the {windows} windows asked for")
    for name, value in (
        ("window", load.window_s),
        ("timeout", load.timeout_s),
        ("stability", load.stability),
    ):
        if not value > 0:
            raise ProjectError(f"{name} {value:g} is impossible; it must be above 0")
    if not load.warmup_s >= 0:
        raise ProjectError(f"warm-up {load.warmup_s:g} is impossible; it must be 0 or more seconds")


def _check_kind(model: str, config: Mapping[str, Any]) -> None:
    """ProjectError for a model that needs a kind of load that does not exist yet."""
    if config.get("model_transaction_policy", {}).get("decoupled"):
        raise ProjectError(f"model '{model}' is decoupled: it answers over a stream, which cannot be measured yet")
    if "sequence_batching" in config:
        raise ProjectError(f"model '{model}' takes sequences of requests, which cannot be measured yet")


def _encoded(
    load: Load,
    address: Address,
    description: ModelDescription,
    pool: list[Any],
    outputs: Sequence[str] | None,
) -> list[bytes]:
    """Every request of the pool as its bytes on the wire."""
    requests = checked(pool, *description, load.batch_size)
    datatypes = {name: spec.dtype.name for name, spec in input_specs(description.metadata).items()}
    if load.protocol == "grpc":
        return [grpc_request(load.model, load.version, datatypes, request, outputs) for request in requests]
    return [http_request(address, load.model, load.version, datatypes, request, outputs) for request in requests]


def _transport(load: Load, address: Address, requests: list[bytes]) -> Transport:
    if load.protocol == "http":
        return HttpTransport(address, requests, load.concurrency, load.timeout_s)
    from trtkit.perf.grpc_transport import GrpcTransport

    return GrpcTransport(address, requests, load.concurrency, load.timeout_s)


@contextmanager
def _no_collection_of_old_objects() -> Iterator[None]:
    """Keep the cyclic garbage collector from walking everything imported so far while latencies are taken."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@dataclass(frozen=True)
class _Plan:
    """What `_run` needs to know."""

    load: Load
    windows: int
    max_windows: int
    on_window: Callable[[Window], None] | None
    take_snapshot: Callable[[], Snapshot | ServerError]
    thread: ThreadPoolExecutor


async def _run(plan: _Plan, transport: Transport) -> _Run:
    """Warm up, cut windows until the plan is fulfilled, drain."""
    defects = _collect_defects()
    recorder = Recorder()
    loop = ClosedLoop(transport, plan.load.concurrency, plan.load.distinct_requests, recorder)
    try:
        await transport.open(loop.done)
        loop.start()
        await asyncio.sleep(plan.load.warmup_s)
        warmup = recorder.cut()
        started_at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        cuts, snapshots = await _cut_windows(plan, recorder)
        drained = await loop.drain(plan.load.timeout_s)
    finally:
        await transport.close()
    if defects:
        raise defects[0]
    return _Run(started_at, warmup, cuts, snapshots, drained)


def _collect_defects() -> list[BaseException]:
    """Errors inside callbacks of the event loop are defects of ours: keep them, not only log them.

    Not grpc.aio's BlockingIOError: it means nothing, and comes when another thread uses grpc.aio too
    (https://github.com/grpc/grpc/issues/25364).
    """
    defects: list[BaseException] = []

    def keep(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception") or RuntimeError(context["message"])
        if not isinstance(error, BlockingIOError):
            defects.append(error)

    asyncio.get_running_loop().set_exception_handler(keep)
    return defects


async def _cut_windows(plan: _Plan, recorder: Recorder) -> tuple[list[Cut], list[Snapshot | ServerError]]:
    """Windows without gaps, with the server's counters at each of their ends."""
    cuts: list[Cut] = []
    windows: list[Window] = []
    snapshots = [_begin_snapshot(plan, [])]
    while not _fulfilled(plan, windows):
        await asyncio.sleep(plan.load.window_s)
        cuts.append(recorder.cut())
        snapshots.append(_begin_snapshot(plan, snapshots))
        windows.append(window_of(len(cuts), cuts[-1]))
        if plan.on_window:
            plan.on_window(windows[-1])
    return cuts, list(await asyncio.gather(*snapshots))


def _begin_snapshot(plan: _Plan, earlier: Sequence[_Snapshotting]) -> _Snapshotting:
    """Ask for the counters beside the load; a server that still owes an earlier answer is not asked again."""
    loop = asyncio.get_running_loop()
    if all(future.done() for future in earlier):
        return loop.run_in_executor(plan.thread, plan.take_snapshot)
    late: _Snapshotting = loop.create_future()
    late.set_result(ServerError("it did not answer a question for its statistics within a window"))
    return late


def _fulfilled(plan: _Plan, windows: list[Window]) -> bool:
    if len(windows) >= plan.max_windows or all_failed(windows):
        return True
    return len(windows) >= plan.windows and not instability(windows, plan.load.stability)


def _try_snapshot(fetch: Fetch, models: Sequence[tuple[str, str]]) -> Snapshot | ServerError:
    try:
        return snapshot(fetch, models)
    except ServerError as exc:
        return exc


def _server_figures(run: _Run) -> tuple[list[ServerFigures], list[str]]:
    """The server's figures for the last three windows, or the reason why there are none."""
    before, after = run.snapshots[-JUDGED - 1], run.snapshots[-1]
    try:
        for taken in (before, after):
            if isinstance(taken, ServerError):
                raise taken
        return difference(before, after), []  # type: ignore[arg-type]
    except ServerError as exc:
        return [], [f"the server gave no figures of its own: {exc}"]
