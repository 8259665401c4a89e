# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit perf``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trtkit.cli.common import (
    console,
    json_option,
    open_server,
    optional_project,
    print_json,
    project_option,
    repository_of,
    repository_option,
    url_option,
    write_report,
)

if TYPE_CHECKING:
    from trtkit.perf import Measurement, ModelDescription, Window
    from trtkit.project import Project

# so many different requests are sent in turn; more would only fill the memory
_POOL = 1000
_SECONDS = click.FloatRange(min=0, min_open=True)


@click.command(
    help="""Load-test a served model in a closed loop and say how fast it answers.

    A number of requests (--concurrency) is kept in flight. After a warm-up, windows follow each other until
    the last three are stable: throughput and p90 latency of each within 10 % of their mean. The result is
    those three together; a result that never became stable is printed, marked, and ends with exit code 9.

    \b
        trtkit perf digits --concurrency 8
        trtkit perf digits --concurrency 1:64:*2 --protocol grpc --batch-size 4
        trtkit perf encoder --url 10.0.0.5:8000 --shape ids:128 --shape mask:128

    The requests hold, in this order: the samples of --input; the model's `evaluate:` samples of the project
    file (unless --shape is given); random values: normal floats, integers 0 or 1, 16 ASCII letters. Dynamic
    axes have the size that --shape gives, or that trtkit build found to work.""",
)
@click.argument("model")
@click.option(
    "--concurrency", "-c", default="1", show_default=True, help="Requests in flight: 8, 1,4,8, 1:8:1 or 1:64:*2."
)
@click.option("--protocol", "-i", type=click.Choice(["http", "grpc"]), default="http", show_default=True)
@url_option
@project_option
@repository_option
@click.option("--model-version", default="", help="The version to ask for. Default: the server's choice.")
@click.option("--batch-size", "-b", default=1, show_default=True, help="Samples in each request.")
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="NAME:SIZES",
    help="Sizes of an input with dynamic dimensions, without the batch: image:3,224,224.",
)
@click.option(
    "--input",
    "input_file",
    type=click.Path(path_type=Path),
    help="An .npz file: one array per input, samples along axis 0.",
)
@click.option("--output", "outputs", multiple=True, help="Ask only for this output; may be given several times.")
@click.option(
    "--warmup",
    "warmup_s",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Seconds of load before the first window.",
)
@click.option("--window", "window_s", type=_SECONDS, default=2.0, show_default=True, help="Seconds of a window.")
@click.option("--windows", default=3, show_default=True, help="Measure at least so many windows; 3 or more.")
@click.option("--max-windows", default=10, show_default=True, help="Give up becoming stable after so many windows.")
@click.option(
    "--timeout", "timeout_s", type=_SECONDS, default=30.0, show_default=True, help="Seconds until a request has failed."
)
@click.option(
    "--stability", type=_SECONDS, default=10.0, show_default=True, help="Percent that a window may be from the mean."
)
@click.option("--fail-on-errors", is_flag=True, help="End with exit code 9 when any request failed.")
@json_option
@click.option("--report", type=click.Path(path_type=Path), help="Write the JSON to this file, too.")
def command(model: str, project_path: Path | None, url: str | None, repository: Path | None, **given: Any) -> None:
    """Measure each concurrency, print what was found, and say whether it holds."""
    from trtkit.errors import MeasurementError
    from trtkit.perf import parse_levels, parse_shape
    from trtkit.perf.report import what_did_not_hold
    from trtkit.samples import read_npz

    levels = parse_levels(given["concurrency"])
    given["repository"] = repository
    given["shapes"] = dict(map(parse_shape, given["shapes"]))
    given["arrays"] = read_npz(given["input_file"], "--input")[0] if given["input_file"] else None
    project = optional_project(project_path)
    measurements: list[Measurement] = []
    try:
        with open_server(url, repository_of(project, repository), (model,)) as server:
            _measure(server.url(given["protocol"]), model, levels, project, given, measurements)
    finally:  # also after an error or ctrl-C: nothing that was measured is lost
        if measurements:
            _show(measurements, given)
    problem = what_did_not_hold(measurements, given["fail_on_errors"])
    if problem:
        raise MeasurementError(problem)


def _measure(
    url: str, model: str, levels: list[int], project: Project | None, given: dict[str, Any], into: list[Measurement]
) -> None:
    from trtkit.perf import describe, measure

    protocol, version = given["protocol"], given["model_version"]
    description = describe(url, model, protocol=protocol, version=version)
    requests, given["data"] = _requests(model, description, project, given)
    for level in levels:
        into.append(
            measure(
                url,
                model,
                inputs=requests,
                protocol=protocol,
                version=version,
                concurrency=level,
                batch_size=given["batch_size"],
                outputs=given["outputs"] or None,
                **{name: given[name] for name in ("warmup_s", "window_s", "windows", "max_windows", "timeout_s")},
                stability=given["stability"] / 100,
                on_window=lambda window, level=level: _say(level, window),  # type: ignore[misc]
            )
        )


def _requests(
    model: str, description: ModelDescription, project: Project | None, given: dict[str, Any]
) -> tuple[list[Any], str]:
    """The requests to send in turn, and where their data are from."""
    from trtkit.perf import batches, random_inputs
    from trtkit.perf.workload import input_specs
    from trtkit.samples import evaluation_samples

    batch_size = given["batch_size"]
    if given["arrays"] is not None:
        return batches(given["arrays"], *description, batch_size)[:_POOL], str(given["input_file"])
    if project and model in project.models and not given["shapes"]:
        samples = evaluation_samples(project, model, list(input_specs(description.metadata).values()))
        if samples:
            return batches(samples.inputs, *description, batch_size)[:_POOL], samples.origin
    shapes = {**_recorded_shapes(model, project, given["repository"]), **given["shapes"]}
    return random_inputs(*description, shapes, batch_size), "random values"


def _recorded_shapes(model: str, project: Project | None, repository: Path | None) -> dict[str, list[int]]:
    """Sizes for inputs with dynamic axes, as the published version's record found them to work; without the batch."""
    from trtkit.repository import latest
    from trtkit.signature import Signature

    published = latest(repository_of(project, repository), model)
    if published is None or "axis_size" not in published.record:
        return {}
    record = published.record
    first = 1 if record["max_batch_size"] else 0
    inputs = Signature.from_json(record["signature"]).inputs
    sizes = {spec.name: [record["axis_size"] if dim == -1 else dim for dim in spec.dims[first:]] for spec in inputs}
    return {spec.name: sizes[spec.name] for spec in inputs if -1 in spec.dims[first:]}


def _say(level: int, window: Window) -> None:
    """One line of progress; on standard error, because results go to standard output."""
    p90 = "–" if window.p90_ns is None else f"{window.p90_ns / 1e6:.3f} ms"
    errors = f", {window.errors} failed" if window.errors else ""
    sys.stderr.write(
        f"concurrency {level}, window {window.number}: {window.requests_per_s:,.0f} requests/s, p90 {p90}{errors}\n"
    )


def _show(measurements: list[Measurement], given: dict[str, Any]) -> None:
    value = {"data": given["data"], "measurements": [measurement.to_json() for measurement in measurements]}
    if given["as_json"]:
        print_json(value)
    else:
        _print(measurements, given["data"])
    write_report(given["report"], value)


def _print(measurements: list[Measurement], data: str) -> None:
    from trtkit.perf.report import COLUMNS, MODEL_COLUMNS, model_rows, row, sentences

    load = measurements[0].load
    title = f"{load.model} over {load.protocol.upper()}, batch size {load.batch_size}, {data}"
    _print_table(title, COLUMNS, [row(measurement) for measurement in measurements])
    inside = [cells for measurement in measurements for cells in model_rows(measurement)]
    if inside:
        _print_table(f"the models of {load.model}, the server's own figures", MODEL_COLUMNS, inside)
    for measurement in measurements:
        for sentence in sentences(measurement):
            console().print(sentence, markup=False, soft_wrap=True)


def _print_table(title: str, columns: tuple[str, ...], rows: list[list[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, style="bold"), title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="left" if column in ("", "model") else "right")
    for cells in rows:
        table.add_row(*map(Text, cells))
    console().print(table)
