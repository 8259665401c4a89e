# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit deploy simulate``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trtkit.cli.common import console, json_option, optional_project, print_json, project_option
from trtkit.cli.deploy_common import environment_option
from trtkit.cli.deploy_simulate_options import simulate_options

if TYPE_CHECKING:
    from trtkit.deploy.measured import PerfMeasurement
    from trtkit.deploy.planned import Plan
    from trtkit.deploy.simulation.inputs import Inputs
    from trtkit.deploy.simulation.propose import Proposal
    from trtkit.deploy.simulation.result import Result
    from trtkit.deploy.simulation.trace import Trace

_HELP = """Replay a load against the autoscaler's own formula, and say what it costs and who waits.

The HPA decides as kube-controller-manager does (tolerance, missing pods, stabilization, policies), KEDA around it;
pods queue as a server with the measured capacity does, and start as slowly as measured. Figures that are not given come
from the project's plan (`trtkit deploy plan`). docs/deploy-simulate.md explains the model and its limits.

\b
    trtkit deploy simulate --environment production --shape daily --peak 800
    trtkit deploy simulate --trace load.csv --propose --plot load.png
    trtkit deploy simulate --shape step --peak 500 --low 50 --capacity 100 --service-ms 20 --cold-start 40 \\
        --slo-ms 200 --metric rps --target 70 --max-replicas 12

A trace is CSV with a header: `time` (seconds or ISO 8601) and `requests_per_s`, or `requests` (how many came until the
next row). Exit code 1: the objective is missed (with --propose: by everything that was tried)."""


@click.command(help=_HELP)
@project_option
@environment_option
@simulate_options
@json_option
def simulate(project_path: Path | None, environment: str, as_json: bool, **given: Any) -> int:
    """Simulate, and search where that was asked for."""
    from trtkit.deploy.simulation.plot import write_plot
    from trtkit.deploy.simulation.propose import propose
    from trtkit.deploy.simulation.run import simulate as run

    inputs = _inputs(project_path, environment, given)
    trace = _trace(given, inputs)
    result = run(trace, inputs.scaler, inputs.settings)
    proposal = propose(trace, inputs.scaler, inputs.settings, progress=_progress) if given["propose"] else None
    if given["csv"]:
        _write(given["csv"], result.to_csv())
    if given["plot"]:
        write_plot(_drawn(result, proposal), given["plot"])
    if as_json:
        print_json(_json(inputs, trace, result, proposal))
    else:
        _print(inputs, trace, result, proposal, given["gpu_hour_cost"])
    return int(not (proposal.best is not None if proposal else result.holds))


def _inputs(project_path: Path | None, environment: str, given: dict[str, Any]) -> Inputs:
    """From the options, and the project where there is one with a `deploy:` block's repository."""
    from trtkit.deploy.simulation.inputs import inputs_of, with_outage
    from trtkit.errors import ProjectError

    project = optional_project(project_path)
    if project is None and environment:
        raise ProjectError(f"--environment {environment} needs a project; there is no trtkit.yaml here or above")
    plan: Plan | None = None
    perf: tuple[PerfMeasurement, ...] = ()
    if project is not None and (environment or project_path or not _is_complete(given)):
        from trtkit.deploy.measured import read_measured
        from trtkit.deploy.plan import make_plan

        plan = make_plan(project, environment)
        perf = read_measured(project, plan.spec, plan.models).perf
    inputs = inputs_of(given, plan, perf, tick_s=given["tick"])
    return with_outage(inputs, given["outage"]) if given["outage"] else inputs


def _is_complete(given: dict[str, Any]) -> bool:
    """Whether everything that only a project knows was said, so that none is read."""
    return all(given[name] is not None for name in ("capacity", "service_ms", "slo_ms", "cold_start"))


def _trace(given: dict[str, Any], inputs: Inputs) -> Trace:
    from trtkit.deploy.simulation.shapes import shaped
    from trtkit.deploy.simulation.trace import START, read_time, read_trace
    from trtkit.errors import ProjectError

    start = read_time(given["start"], "--start") if given["start"] else None
    if given["trace"]:
        wrong = [f"--{name}" for name in ("shape", "low", "duration") if given[name] is not None]
        if wrong:
            raise ProjectError(f"{', '.join(wrong)} belong to built-in loads; --trace has its own")
        trace = read_trace(given["trace"], start)
        return trace.scaled(given["peak"]) if given["peak"] else trace
    if given["peak"] is None:
        capacity = inputs.settings.pod.capacity
        raise ProjectError(f"say how high the load goes: --peak RPS (a pod carries {capacity:g}), or --trace CSV")
    return shaped(
        given["shape"] or "daily", given["peak"], given["low"], given["duration"], start or START, given["seed"]
    )


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[Ktrying {text}")
        sys.stderr.flush()


def _drawn(result: Result, proposal: Proposal | None) -> list[Result]:
    if proposal is None:
        return [result]
    return [result, *([proposal.best] if proposal.best else []), proposal.chart]


def _write(path: Path, text: str) -> None:
    from trtkit.errors import ProjectError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise ProjectError(f"{path} cannot be written: {exc.strerror}") from exc


def _json(inputs: Inputs, trace: Trace, result: Result, proposal: Proposal | None) -> dict[str, Any]:
    from trtkit.deploy.simulation.budget import reaction_parts

    value: dict[str, Any] = {
        "trace": {"name": trace.name, "start": trace.start.isoformat(), "duration_s": trace.duration_s,
                  "peak_per_s": trace.peak, "requests": trace.requests},
        "inputs": {name: figure.to_json() for name, figure in inputs.figures.items()},
        "reaction_s": reaction_parts(result.scaler, result.settings.lifecycle),
        "result": result.to_json(),
    }  # fmt: skip
    if proposal is not None:
        rows = {"best": proposal.best, "static": proposal.static, "nvidia_50_us": proposal.chart}
        value["proposal"] = {
            **{name: one.to_json(steps=False) if one else None for name, one in rows.items()},
            "alternatives": [one.to_json(steps=False) for one in proposal.alternatives],
            "failed": [one.to_json(steps=False) for one in proposal.failed],
            "simulated": proposal.tried,
        }
    return value


def _print(inputs: Inputs, trace: Trace, result: Result, proposal: Proposal | None, cost: float | None) -> None:
    from trtkit.deploy.simulation import report

    out = console()
    seconds = report.duration(trace.duration_s)
    head = f"{trace.name}: {trace.requests:.4g} requests in {seconds}, at most {trace.peak:.4g} per second"
    out.print(head, markup=False)
    out.print(_table(("figure", "value", "why"), _figures(inputs)))
    out.print(_table(report.COURSE, report.course(result)))
    out.print(_table(report.columns(result, cost), [report.row(one, cost) for one in _rows(result, proposal)]))
    lines = [report.verdict(result), report.reaction(result), *report.notes(result)]
    if proposal is not None:
        lines += ["", f"proposed, of {proposal.tried} simulations:", *report.proposal_lines(proposal)]
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)


def _rows(result: Result, proposal: Proposal | None) -> Iterator[Result]:
    yield result
    if proposal is not None:
        found = (proposal.best, *proposal.alternatives, *proposal.failed, proposal.chart, proposal.static)
        yield from (one for one in found if one is not None)


def _figures(inputs: Inputs) -> list[tuple[str, str, str]]:
    return [(name, figure.text, f"{figure.why} ({figure.origin})") for name, figure in inputs.figures.items()]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 or column == "why" else "right")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
