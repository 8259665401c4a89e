# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""One load with everything that is watched beside it, as a measurement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from trtkit.perf.job import Way
from trtkit.perf.jobs import Traffic, jobs_of
from trtkit.perf.load import Load
from trtkit.perf.measurement import Measurement, Run, ServerSide, judged_cuts, measurement_of
from trtkit.perf.run import Plan, run_load
from trtkit.perf.server.control import Fetch, ModelDescription
from trtkit.perf.server.sampler import Sampler
from trtkit.perf.server.server_side import composing_models
from trtkit.perf.statistics.goodput import Slo
from trtkit.perf.statistics.windows import Window

# an answer about the model or its statistics takes milliseconds; a server slower than this is in trouble
CONTROL_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Setting:
    """What stays the same from load to load.

    Attributes:
        fetch: asks the server.
        descriptions: of the models, by name.
        slos: objectives for the goodput.
        models: the model of each request of the pool, for a mix.
        composing: further models whose statistics are wanted, by name and version.
        metrics_url: the server's metrics endpoint; None when there is none to ask.
        interval_s: between two questions to the server, in seconds.
        on_window: called after each window.
    """

    fetch: Fetch
    descriptions: Mapping[str, ModelDescription]
    slos: Sequence[Slo] = ()
    models: Sequence[str] = ()
    composing: Sequence[tuple[str, str]] = ()
    metrics_url: str | None = None
    interval_s: float = 1.0
    on_window: Callable[[Load, Window], None] | None = None


def measure_load(load: Load, traffic: Traffic, plan: Plan, setting: Setting) -> Measurement:
    """Carry a load out and put together what was found.

    Raises:
        ServerUnavailableError: connecting is impossible.
        MeasurementError: a process of the load died.
    """
    on_window = setting.on_window
    jobs = jobs_of(load, traffic)
    load = replace(load, processes=len(jobs))
    with _sampler(load, traffic.way, setting) as sampler:
        run = run_load(
            load,
            jobs,
            plan,
            on_window=(lambda window: on_window(load, window)) if on_window else None,
            watch=lambda _what: sampler.mark(),
        )
        sampler.stop()
        if traffic.cursor:
            sent = [run.warmup, *run.cuts, run.final.cut]
            traffic.cursor.next += sum(len(cut.records) for cut in sent) + traffic.slots
        side = _side(sampler, load, run)
    verifier = run.final.verifier
    verification = verifier.result() if verifier else None
    return measurement_of(load, run, side, slos=setting.slos, models=setting.models, verification=verification)


def _sampler(load: Load, way: Way, setting: Setting) -> Sampler:
    wire = "grpc" if way.protocol.startswith("grpc") else "http"
    models: list[tuple[str, str]] = []
    for name, description in setting.descriptions.items():
        version = load.version if name == load.model else ""
        models += [(name, version), *composing_models(setting.fetch, description.config)]
    models = list(dict.fromkeys([*models, *setting.composing]))
    return Sampler(
        way.address,
        wire,
        models,
        asked=tuple(setting.descriptions),
        interval_s=setting.interval_s,
        metrics_url=setting.metrics_url,
        timeout_s=min(way.timeout_s, CONTROL_TIMEOUT_S),
        tls=way.tls,
        headers=way.headers,
    )


def _side(sampler: Sampler, load: Load, run: Run) -> ServerSide:
    judged = judged_cuts(load, run)
    start_ns, end_ns = judged[0].start_ns, judged[-1].end_ns
    figures, missing = sampler.figures(start_ns, end_ns)
    resources, problems = sampler.resources(start_ns, end_ns)
    return ServerSide(
        server=figures[0] if figures else None,
        composing=tuple(figures[1:]),
        samples=sampler.samples(),
        resources=resources,
        warnings=(*missing, *problems),
    )
