# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit validate``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trtkit.cli.common import console, json_option, print_json, project_option, write_report

if TYPE_CHECKING:
    from trtkit.perf.under_load import LoadedAnswers
    from trtkit.project import Project
    from trtkit.validate import ModelReport


@click.command(
    help="""Prove the served models against their references.

    Every output over HTTP and gRPC is compared with the FP32 ONNX model in ONNX Runtime, on the model's
    `evaluate:` data or on random rows, and the task metric with the reference's. Exits 8 when one is outside
    its tolerance. MODELS are names from trtkit.yaml; without any, all that are published.

    With --under-load every answer is compared once more while many requests of changing batch sizes are in
    flight, over HTTP, gRPC and system shared memory: rows swapped between requests, padding that leaks and
    races show only then."""
)
@click.argument("models", nargs=-1)
@project_option
@click.option("--url", help="HTTP HOST:PORT of a running server. Default: start an embedded one.")
@click.option("--grpc-url", help="gRPC HOST:PORT of the same server.")
@click.option("--rtol", type=click.FloatRange(min=0), help="Relative tolerance instead of the table's.")
@click.option("--atol", type=click.FloatRange(min=0), help="Absolute tolerance instead of the table's.")
@click.option("--rows", type=click.IntRange(min=1), help="Compare at most so many rows.")
@click.option("--under-load", is_flag=True, help="Compare every answer under load, too, over each way to the server.")
@click.option(
    "--concurrency", type=click.IntRange(min=1), default=8, show_default=True, help="Requests in flight under load."
)
@click.option(
    "--seconds", type=click.FloatRange(min=0.5), default=5.0, show_default=True, help="Of load over each way."
)
@click.option("--junit", type=click.Path(path_type=Path), help="Also write JUnit XML to this file.")
@click.option("--report", type=click.Path(path_type=Path), help="Also write the JSON to this file.")
@json_option
def command(models: tuple[str, ...], project_path: Path | None, as_json: bool, **given: Any) -> None:
    """Validate, print, write the reports, and fail if something is outside."""
    from trtkit.errors import ParityError, ProjectError
    from trtkit.project import find_project

    project = find_project(project_path)
    names = _published(project, models)
    if given["grpc_url"] and not given["url"]:
        raise ProjectError("--grpc-url without --url; give the HTTP address of the same server too")
    reports, loaded = _validate(project, names, given)
    rows = {"models": [report.to_json() for report in reports]}
    if given["under_load"]:
        rows["under_load"] = [answers.to_json() for answers in loaded]
    write_report(given["report"], rows)
    if given["junit"]:
        _write_junit(given["junit"], reports, loaded)
    if as_json:
        print_json(rows)
    else:
        _print(reports)
        _print_loaded(loaded)
    problems = [f"model '{r.model}' version {r.version}: {p}" for r in reports for p in r.problems()]
    problems += [f"model '{r.model}' version {r.version}: {r.problem()}" for r in loaded if r.problem()]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ParityError(problems[0] + more)


def _published(project: Project, models: tuple[str, ...]) -> list[str]:
    """The named models, or all with a reference that have a version; an error when there is none."""
    from trtkit.cli.common import check_models
    from trtkit.errors import ProjectError
    from trtkit.repository import latest
    from trtkit.validate import why_no_reference

    names = project.select(models)
    if models:
        check_models(project.repository, tuple(names))
        return names
    compared = [name for name in names if not why_no_reference(project, name)]
    published = [name for name in compared if latest(project.repository, name)]
    if not published:
        raise ProjectError(f"no model of {project.file.name} is published in {project.repository}; run `trtkit build`")
    return published


def _validate(
    project: Project, names: list[str], given: dict[str, Any]
) -> tuple[list[ModelReport], list[LoadedAnswers]]:
    from trtkit.cli.common import split_url
    from trtkit.perf.options import ServerUrls
    from trtkit.perf.under_load import WAYS, validate_under_load
    from trtkit.project import Tolerance
    from trtkit.server import connect, serve
    from trtkit.validate import validate_model

    limits = {key: given[key] for key in ("rtol", "atol") if given[key] is not None}
    with ExitStack() as stack:
        if given["url"]:
            urls = [(split_url(given["url"]), "http")]
            urls += [(split_url(given["grpc_url"]), "grpc")] if given["grpc_url"] else []
        else:
            server = stack.enter_context(serve(project.repository, models=names))
            urls = [(server.http_url, "http"), (server.grpc_url, "grpc")]
        clients = [stack.enter_context(connect(url, protocol)) for url, protocol in urls]
        override = Tolerance(**limits) if limits else None
        limited = {"override": override, "rows": given["rows"]}
        reports = [validate_model(project, name, clients, **limited) for name in names]
        if not given["under_load"]:
            return reports, []
        where = ServerUrls(urls[0][0], urls[-1][0])
        # a server elsewhere has no shared memory with this machine
        ways = tuple(WAYS) if not given["url"] else tuple(protocol for _, protocol in urls)
        load = {"ways": ways, "concurrency": given["concurrency"], "seconds": given["seconds"]}
        return reports, [
            answers for name in names for answers in validate_under_load(project, name, where, **load, **limited)
        ]


def _write_junit(path: Path, reports: list[ModelReport], loaded: list[LoadedAnswers]) -> None:
    from trtkit.errors import ProjectError
    from trtkit.validate import junit_xml

    further = [(answers.model, f"under load over {answers.way}", answers.problem()) for answers in loaded]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(junit_xml(reports, further), encoding="utf-8")
    except OSError as exc:
        raise ProjectError(f"{path} cannot be written: {exc.strerror}") from exc


def _print(reports: list[ModelReport]) -> None:
    from rich.table import Table
    from rich.text import Text

    columns = ("model", "protocol", "output", "max abs", "mean abs", "max rel", "cosine", "NaN/Inf", "result")
    table = Table(*columns)
    for report in reports:
        for o in report.outputs:
            d = o.difference
            numbers = (f"{d.max_abs:.2g}", f"{d.mean_abs:.2g}", f"{d.max_rel:.2g}", f"{d.cosine:.6f}", str(d.nonfinite))
            result = Text("within", style="green") if d.passed else Text("outside", style="red")
            table.add_row(report.model, o.protocol, o.output, *numbers, result)
    out = console()
    out.print(table)
    for report in reports:
        out.print(f"{report.model}: version {report.version}, {report.rows} rows of {report.data}", markup=False)
        for metric in report.metrics:
            out.print(f"{report.model}: {metric.sentence()}: {'kept' if metric.passed else 'LOST'}", markup=False)


def _print_loaded(loaded: list[LoadedAnswers]) -> None:
    out = console()
    for answers in loaded:
        rate = f"{answers.requests_per_s:,.0f} requests/s"
        out.print(
            f"{answers.model}: under load over {answers.way}, {rate}: {answers.verification.sentence()}", markup=False
        )
