# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit deploy plan``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trtkit.cli.common import console, json_option, print_json, project_option
from trtkit.cli.deploy_common import environment_option, kube_version_option

if TYPE_CHECKING:
    from rich.console import Console

    from trtkit.deploy.density import Report
    from trtkit.deploy.planned import Plan

_STYLES = {"measured": "green", "declared": "cyan", "computed": "", "estimated": "yellow", "preset": "dim"}


@click.command(
    help="""Say what follows from the project file, the repository and its measurements, and why.

    Each figure has its origin: measured; declared in the project file; computed from such; estimated, where nothing
    was measured; or a preset. What cannot work is refused with the figures. Nothing is written but --plot, and the
    hashes of large files, which are read once, to .trtkit.

    \b
        trtkit deploy plan
        trtkit deploy plan -e production --plot memory.svg"""
)
@project_option
@environment_option
@kube_version_option
@click.option("--image", help="The tritonserver image, instead of the project's.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the pod's memory into an .svg or .png file.")
@json_option
def plan(
    project_path: Path | None, environment: str, kube_version: str | None, image: str | None, plot: Path | None,
    as_json: bool,
) -> int:  # fmt: skip
    """Compute it and print it."""
    from trtkit.deploy.density import report_of
    from trtkit.deploy.plan import plan_and_place
    from trtkit.deploy.plan_report import to_json
    from trtkit.project import find_project

    found, place = plan_and_place(find_project(project_path), environment, kube_version=kube_version, image=image)
    report = report_of(found, place)
    if as_json:
        print_json(to_json(found, report))
    else:
        _print(found, report)
    if plot is not None:
        from trtkit.deploy.plan_plot import write_plot

        write_plot(found, plot)
        if not as_json:
            console().print(f"picture written to {plot}", markup=False)
    return 0


def _print(found: Plan, report: Report) -> None:
    from trtkit.deploy.plan_report import density_rows, notes, summary

    out = console()
    for name, value in summary(found):
        out.print(f"{name:11} {value}", markup=False)
    _models(out, found)
    _figures(out, found)
    if report.ways:
        need = f"{found.memory.gpu.text} of GPU memory" if found.memory.gpu else ""
        _table(out, f"Pods that fit, with {need} each", ("way", "memory", "per GPU", "per node"), density_rows(report))
    for note in notes(report):
        out.print(note, markup=False)
    _command(out, found)
    for warning in found.warnings:
        out.print(f"warning: {warning}", style="yellow", markup=False)


def _models(out: Console, found: Plan) -> None:
    rows = [
        (model.name, model.backend, ", ".join(map(str, model.versions)), f"{model.weight_bytes / 2**20:,.1f}",
         str(model.instances or ""), ", ".join(model.steps))
        for model in found.models
    ]  # fmt: skip
    _table(out, "Models", ("model", "backend", "versions", "MiB", "instances", "uses"), rows)


def _figures(out: Console, found: Plan) -> None:
    from rich.table import Table
    from rich.text import Text

    groups: dict[str, list[Any]] = {}
    for group, name, figure in found.figures():
        groups.setdefault(group, []).append((name, figure))
    for group, figures in groups.items():
        table = Table("figure", "value", "origin", "why", title=group.capitalize() if group.islower() else group,
                      title_justify="left")  # fmt: skip
        for name, figure in figures:
            table.add_row(name, Text(figure.text), Text(figure.origin, _STYLES[figure.origin]), Text(figure.why))
        out.print(table)


def _table(out: Console, title: str, columns: tuple[str, ...], rows: list[Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*map(Text, row))
    out.print(table)


def _command(out: Console, found: Plan) -> None:
    why = dict(found.flags)
    out.print("Command", style="bold")
    for argument in found.arguments:
        line = f"  {argument}" if argument not in why else f"  {argument}  # {why[argument]}"
        out.print(line, markup=False, soft_wrap=True)
