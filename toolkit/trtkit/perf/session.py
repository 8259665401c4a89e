# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A whole run: everything that the options ask, load after load, against one server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any

from trtkit.errors import DataError, ProjectError, ServerError, nearest
from trtkit.numerics import Array
from trtkit.perf.calibrate import processes_for
from trtkit.perf.checks.closeness import Closeness
from trtkit.perf.checks.references import asked_alone
from trtkit.perf.data.choose import Choice, choose
from trtkit.perf.data.pool import in_order
from trtkit.perf.data.unique import fitting, is_cached, uniquely
from trtkit.perf.encoding.encode import HttpOptions
from trtkit.perf.encoding.messages import datatypes_of
from trtkit.perf.hooks import Given, Hooks
from trtkit.perf.job import Way
from trtkit.perf.jobs import DEFAULT_IN_FLIGHT, Cursor
from trtkit.perf.load import Load
from trtkit.perf.measured import CONTROL_TIMEOUT_S, Setting, measure_load
from trtkit.perf.measurement import Measurement
from trtkit.perf.option_checks import check
from trtkit.perf.options import STREAMS, Options, Point, ServerUrls, loads, search
from trtkit.perf.run import Plan
from trtkit.perf.runner import check_kind, check_numbers
from trtkit.perf.server.address import Tls, parse_address
from trtkit.perf.server.control import Fetch, describe_with, open_control
from trtkit.perf.server.diagnose import Diagnosis, diagnose
from trtkit.perf.server.ensemble_graph import Graph, ensemble_graph
from trtkit.perf.server.server_tracing import server_tracing
from trtkit.perf.server.stages import Stages, breakdown
from trtkit.perf.statistics.capacity import Capacity, find_capacity, parse_conditions
from trtkit.perf.statistics.goodput import parse_slos
from trtkit.perf.traffic import Content, traffic_of
from trtkit.perf.transports.ask import Asker
from trtkit.project import Tolerance, find_project

_FEWEST_WINDOWS = 5
_IN_MEMORY = 64
# so many requests that differ from each other are made where the length of the run does not say how many
_UNIQUE = 100_000
# and so many when the server is asked for the reference answer to each of them first
_VERIFIED = 1_000


def run(options: Options, urls: ServerUrls, hooks: Hooks | None = None, given: Given | None = None) -> Capacity | None:
    """Measure every load that the options ask for.

    Args:
        options: what to do.
        urls: where the server is.
        hooks: told of the results, one load after the other; what was measured before an error is not lost.
        given: the requests, when they are not those that the options name.

    Returns:
        What a search for the capacity found; None without one.

    Raises:
        ProjectError: options that contradict each other or the model.
        DataError: data that the model does not take.
        ServerError: the server does not answer, or not as Triton does.
        KeyboardInterrupt: the user ended it; what was measured until then was told to `hooks`.
    """
    check(options)
    hooks = hooks or Hooks()
    with _session(options, urls, hooks, given) as session:
        if (wanted := search(options)) is None:
            session.measure_all()
            return None
        conditions = parse_conditions(wanted.condition)
        return find_capacity(
            session.measure_level, conditions, wanted.low, wanted.high, not wanted.by_rate, wanted.step
        )


@contextmanager
def _session(options: Options, urls: ServerUrls, hooks: Hooks, given: Given | None) -> Iterator[Session]:
    way = _way(options, urls)
    wire = options.wire
    with ExitStack() as stack:
        timeout_s = min(options.timeout_s, CONTROL_TIMEOUT_S)
        fetch = stack.enter_context(open_control(way.address, wire, timeout_s, tls=way.tls, headers=options.headers))
        yield Session(options, urls, hooks, way, fetch, given)


def _way(options: Options, urls: ServerUrls) -> Way:
    url = urls.grpc if options.wire == "grpc" else urls.http
    address = parse_address(url, options.wire)
    if options.tls:
        address = address._replace(tls=True)
    tls = Tls(options.tls_ca, options.tls_certificate, options.tls_key, options.tls_verify)
    return Way(options.protocol, address, tls, options.headers, options.compression, options.timeout_s)


class Session:
    """The server's models and the requests, ready for one load after the other."""

    def __init__(
        self, options: Options, urls: ServerUrls, hooks: Hooks, way: Way, fetch: Fetch, given: Given | None
    ) -> None:
        self._options, self._hooks, self._way, self._fetch, self._given = options, hooks, way, fetch, given
        self._descriptions = {
            name: describe_with(fetch, name, options.version if len(options.models) == 1 else "")
            for name, _ in options.models
        }
        for name, description in self._descriptions.items():
            check_kind(name, description, way)
        self._cursor = Cursor()
        self._sequences = self._wants_sequences()
        self._check_names()
        self._choice = self._choose()
        for name in {request.model for request in self._choice.pool.requests} - self._descriptions.keys():
            self._descriptions[name] = describe_with(fetch, name, "")  # a trace names it
            check_kind(name, self._descriptions[name], way)
        hooks.on_data(self._choice.pool.origin, **self._known())
        self._http = HttpOptions(
            options.headers, options.input_format, options.output_format, options.compression,
            options.response_compression,
        )  # fmt: skip
        self._content = Content(
            options, way, self._descriptions, self._choice, self._http, self._sequences,
            self._references() if options.verify else None, self._closeness(),
        )  # fmt: skip
        requests = self._choice.pool.requests
        self._setting = Setting(
            fetch=fetch,
            descriptions=self._descriptions,
            slos=parse_slos(options.goodput) if options.goodput else (),
            models=[request.model for request in requests] if len(self._descriptions) > 1 else (),
            composing=options.composing,
            metrics_url=urls.metrics or None,
            interval_s=options.metrics_interval_s,
            on_window=hooks.on_window,
        )

    def _check_names(self) -> None:
        """DataError for outputs that no model has, ModelUnavailableError for models that are not there."""
        known = [tensor["name"] for one in self._descriptions.values() for tensor in one.metadata.get("outputs", [])]
        for name in self._options.outputs:
            if name not in known:
                raise DataError(f"'{name}' is asked for, which is no output of the model; {nearest(name, known)}")
        for model, version in self._options.composing:
            describe_with(self._fetch, model, version)

    def _known(self) -> dict[str, Any]:
        """What the server says of itself and of the model."""
        return {"server": self._fetch("server"), "config": next(iter(self._descriptions.values())).config}

    def _wants_sequences(self) -> bool:
        """Whether a model needs its requests in sequences."""
        needing = [name for name, one in self._descriptions.items() if "sequence_batching" in one.config]
        if needing and len(self._descriptions) > 1:
            raise ProjectError(f"model '{needing[0]}' takes sequences of requests; measure it alone, without --mix")
        if needing and self._options.protocol == "generate-stream":
            raise ProjectError(f"model '{needing[0]}' takes sequences, which the generate extension does not have")
        return bool(needing)

    def _choose(self) -> Choice:
        options = self._options
        if self._given:
            return Choice(self._given.pool)
        project = find_project(options.project) if options.project else None
        choice = choose(options, self._descriptions, lambda name: describe_with(self._fetch, name, ""), project)
        if not (options.unique or self._caches()):
            return choice
        datatypes = {key: value for one in self._descriptions.values() for key, value in datatypes_of(one).items()}
        ordered = in_order(choice.pool, choice.order) if choice.order else choice.pool
        # twice the number that is asked for, because the warm-up sends some, too
        wanted = _VERIFIED if options.verify else max(_UNIQUE, 2 * options.requests)
        count = max(min(wanted, fitting(ordered)), len(choice.order))
        if not options.unique:
            self._hooks.on_note("the server has a response cache: requests are made different from each other")
        return replace(choice, pool=uniquely(ordered, count, datatypes), order=(), unique=not choice.times_ns)

    def _caches(self) -> bool:
        """Whether answers may come from the server's response cache, and nobody chose the data."""
        options = self._options
        chosen = options.input or options.input_data or options.images or options.texts or options.verify
        cached = any(is_cached(one.config) for one in self._descriptions.values())
        return cached and not chosen and len(self._descriptions) == 1

    def _references(self) -> Sequence[Mapping[str, Array]]:
        """The reference answer of each request: given with the data, or asked for before the load."""
        if self._way.protocol in STREAMS or self._sequences:
            raise ProjectError(
                "--verify compares one answer with each request; answers of streams and of sequences have no reference"
            )
        self._hooks.on_phase("asking for the reference answers")
        with Asker(self._way, self._http) as asker:
            return asked_alone(
                self._choice.pool,
                lambda request: asker.ask(request, self._descriptions[request.model]),
                self._closeness(),
            )

    def _closeness(self) -> Closeness:
        if self._given:
            return self._given.closeness
        datatypes = {key: value for one in self._descriptions.values() for key, value in datatypes_of(one).items()}
        given = self._options.tolerance
        override = Tolerance(rtol=given[0], atol=given[1]) if given else Tolerance()
        return Closeness(override=override, datatypes=datatypes)

    def measure_all(self) -> None:
        """Every load in its order."""
        for point in loads(self._options):
            if self._past_limit(self._measure(point)):
                return

    def _past_limit(self, measured: Measurement) -> bool:
        limit_ms = self._options.latency_limit_ms
        if not limit_ms or measured.latency is None:
            return False
        chosen = self._options.percentile
        shown_ns = measured.latency.mean_ns if chosen is None else _percentile(measured, chosen)
        return shown_ns > limit_ms * 1e6

    def measure_level(self, level: float) -> Measurement:
        """One load of a search."""
        options = self._options
        if options.request_rate:
            return self._measure(Point(request_rate=level, arrival=options.arrival))
        return self._measure(Point(concurrency=round(level)))

    def _measure(self, point: Point) -> Measurement:
        options = self._options
        load = self._load(point)
        plan = _plan(options, point)
        check_numbers(load, plan)
        self._hooks.on_phase(f"{load.label}: warming up")
        names = list(self._descriptions)
        tracing = server_tracing(self._fetch, options.wire, names, options.trace_settings)
        with tracing, traffic_of(self._content, load, self._cursor, self._hooks.on_note) as traffic:
            load = replace(load, processes=options.processes or processes_for(load, traffic))
            measured = measure_load(load, traffic, plan, self._setting)
        stages, found = self._explained(measured)
        self._hooks.on_result(measured, stages, found)
        if measured.interrupted:
            raise KeyboardInterrupt
        return measured

    def _load(self, point: Point) -> Load:
        options = self._options
        warmup_s = 0.0 if point.ramp_s or point.arrival in {"trace", "schedule", "periodic"} else options.warmup_s
        # each slot has messages of its own for its area of shared memory
        most = DEFAULT_IN_FLIGHT if options.shared_memory == "none" else _IN_MEMORY
        return Load(
            model=",".join(self._descriptions), version=options.version, url=str(self._way.address),
            protocol=options.protocol, concurrency=point.concurrency, request_rate=point.request_rate,
            arrival=point.arrival, ramp_from=point.ramp_from, ramp_s=point.ramp_s, seed=options.seed,
            batch_size=options.batch_size, distinct_requests=len(self._choice.pool), warmup_s=warmup_s,
            window_s=_window_s(options), judged_windows=options.windows, timeout_s=options.timeout_s,
            stability=options.stability, percentile=options.percentile, shared_memory=options.shared_memory,
            sequences=self._sequences, processes=max(options.processes, 1),
            max_in_flight=(options.max_in_flight or most) if point.arrival else 0,
        )  # fmt: skip

    def _explained(self, measured: Measurement) -> tuple[Stages | None, list[Diagnosis]]:
        """Where the time went, and what bounds the throughput."""
        if len(self._descriptions) > 1:
            return None, []
        name, description = next(iter(self._descriptions.items()))
        try:
            graph = ensemble_graph(self._fetch, name, description.config)
        except ServerError:  # the server is gone: its figures are missing already, and that is told
            graph = {}
        stages = breakdown(measured, graph)
        if not self._options.diagnose:
            return stages, []
        return stages, diagnose(measured, description, composing=self._composing(graph), graph=graph)

    def _composing(self, graph: Graph) -> dict[str, Any]:
        """The configuration of each model of an ensemble, by name; those that the server gives."""
        names = {(step.model, step.version) for steps in graph.values() for step in steps}
        with suppress(ServerError):
            return {name: self._fetch("config", name, version) for name, version in names}
        return {}


def _window_s(options: Options) -> float:
    """The length of a window; a given duration is cut into equal ones, enough of them to judge its stability."""
    if not options.duration_s:
        return options.window_s
    return options.duration_s / max(_FEWEST_WINDOWS, round(options.duration_s / options.window_s))


def _plan(options: Options, point: Point) -> Plan:
    changing = point.arrival in {"trace", "schedule", "periodic"}
    return Plan(
        windows=options.windows,
        max_windows=max(options.max_windows, options.windows),
        duration_s=options.duration_s or point.ramp_s,
        requests=options.requests,
        warmup_requests=options.warmup_requests,
        changes=changing or bool(point.ramp_s),
        window_requests=options.window_requests,
    )


def _percentile(measured: Measurement, percentile: int) -> int:
    from trtkit.perf.statistics.latency import percentile_of

    return percentile_of(measured.records.latency_ns[measured.records.ok], 10 * percentile)
