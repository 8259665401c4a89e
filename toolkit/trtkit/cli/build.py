# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit build``."""

from __future__ import annotations

import textwrap
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trtkit.cli.common import console, json_option, print_json, project_option, write_report

if TYPE_CHECKING:
    from rich.console import Console

    from trtkit.build_results import BuildResult


@click.command(
    help="""Export, convert, check and publish models to the model repository.

    MODELS are names from trtkit.yaml; without any, all are built. Stages whose inputs did not change are not
    run again, and a second build does nothing. A model is published as a new version, whole or not at all."""
)
@click.argument("models", nargs=-1)
@project_option
@click.option("--target", help="A name under `targets:`. Default: the first that this machine has.")
@click.option("--race", is_flag=True, help="Measure the precisions side by side and take the fastest accurate one.")
@click.option("--check-engine", is_flag=True, help="Build each graph with TensorRT-RTX, as evidence; needs no GPU.")
@click.option("--in-container", is_flag=True, help="Write what builds the plan in the target's image on its GPU.")
@click.option(
    "--profiles-from",
    type=click.Path(path_type=Path),
    help="Recorded request shapes (JSON lines) of the one model that is named: derive its profiles from them.",
)
@click.option("--count", type=click.IntRange(1, 64), help="How many profiles to derive from them. Default: 3.")
@click.option(
    "--check",
    is_flag=True,
    help="Publish nothing; compare the configs in the repository with those that would be published. Exit code 6 when "
    "they differ as messages.",
)
@click.option("--explain", is_flag=True, help="Say for each stage why it ran, or why it did not.")
@click.option("--force", is_flag=True, help="Run every stage, and replace a config.pbtxt that was edited by hand.")
@click.option("--jobs", type=click.IntRange(min=0), default=0, help="Exports at the same time. Default: one per core.")
@click.option("--report", type=click.Path(path_type=Path), help="Also write the JSON to this file.")
@json_option
def command(
    models: tuple[str, ...],
    project_path: Path | None,
    target: str | None,
    race: bool,
    check_engine: bool,
    in_container: bool,
    profiles_from: Path | None,
    count: int | None,
    check: bool,
    explain: bool,
    force: bool,
    jobs: int,
    report: Path | None,
    as_json: bool,
) -> None:
    """Run the build and print what became of each model."""
    from trtkit.build import build_models
    from trtkit.errors import ProjectError
    from trtkit.project import find_project

    if count is not None and profiles_from is None:
        raise ProjectError("--count is how many profiles are derived; it needs --profiles-from with recorded shapes")
    if check and (force or in_container):
        other = "--force" if force else "--in-container"
        raise ProjectError(f"--check writes nothing to the repository, and {other} is about what is written; drop one")
    project = find_project(project_path)
    progress = _Progress(console(stderr=True))
    started = time.perf_counter()
    with progress.shown():
        results, error = build_models(
            project, models, target=target, force=force, race=race, check_engine=check_engine,
            in_container=in_container, profiles_from=profiles_from, profile_count=count or 3, check=check,
            jobs=jobs, on_event=progress,
        )  # fmt: skip
    rows = {"models": [result.to_json() for result in results], "repository": str(project.repository)}
    write_report(report, rows)
    if as_json:
        print_json(rows)
    elif check:
        _print_checks(console(), results, explain)
    else:
        _print_results(console(), results, explain, time.perf_counter() - started)
    if error:
        raise error


class _Progress:
    """One live line per model on a terminal; one plain line per event elsewhere."""

    def __init__(self, output: Console) -> None:
        self.output = output
        self.live = output.is_terminal
        self.lines: dict[str, str] = {}
        self.lock = threading.Lock()
        self.status: Any = None

    def shown(self) -> AbstractContextManager[Any]:
        """The live display, for as long as the build takes."""
        if not self.live:
            return nullcontext()
        self.status = self.output.status("checking what has to be built")
        return self.status  # type: ignore[no-any-return]

    def __call__(self, model: str, stage: str, state: str) -> None:
        text = f"{model}: {stage}: {state}" if stage else f"{model}: {state}"
        with self.lock:
            if not self.live:
                self.output.print(text, markup=False, soft_wrap=True)
                return
            self.lines[model] = text
            self.status.update("; ".join(self.lines.values()))


def _print_results(out: Console, results: list[BuildResult], explain: bool, seconds: float) -> None:
    if explain:
        _print_reasons(out, results)
    if results and all(result.up_to_date or result.skipped for result in results) and not explain:
        current = sum(result.up_to_date for result in results)
        if current:
            out.print(f"Everything is up to date ({current} model{'s' * (current > 1)}, nothing to do).", markup=False)
        _print_skipped(out, results)
        for result in results:
            _print_asked(out, result)
        return
    from rich.table import Column, Table

    stages = Column("stages", overflow="fold")
    table = Table(
        "model", "version", "precision", "size", "max abs error", "metric", stages, title=f"Built in {seconds:.1f} s"
    )
    for result in results:
        if not result.skipped:
            table.add_row(*_row(result))
    out.print(table)
    _print_skipped(out, results)
    for result in results:
        _print_asked(out, result)
        for note in result.notes:
            out.print(f"{result.model}: {note}", markup=False, soft_wrap=True)


def _print_checks(out: Console, results: list[BuildResult], explain: bool) -> None:
    """A line per config file, and one for each field that differs, the committed value first."""
    if explain:
        _print_reasons(out, results)
    for result in results:
        for row in result.config_check or ():
            said = {"same": "is what would be generated", "differs": "differs from what would be generated"}
            text = "; ".join(filter(None, (said.get(row["status"], ""), row["note"])))
            out.print(f"{result.model}/{row['file']}: {text}", markup=False, soft_wrap=True)
            for found in row["differences"]:
                line = f"    {found['path']}: {found['first']} -> {found['second']}"
                out.print(line, markup=False, soft_wrap=True)
        if result.error:
            out.print(f"{result.model}: not compared: {result.error}", markup=False, soft_wrap=True)
    _print_skipped(out, results)


def _print_reasons(out: Console, results: list[BuildResult]) -> None:
    for result in results:
        for stage in result.stages:
            did = f"ran in {stage.seconds:.2f} s" if stage.ran else "not run"
            out.print(f"{result.model}: {stage.stage}: {did}: {stage.why}", markup=False, soft_wrap=True)


def _print_skipped(out: Console, results: list[BuildResult]) -> None:
    for result in results:
        if result.skipped:
            out.print(f"{result.model}: left out: {result.skipped}", markup=False, soft_wrap=True)


def _row(result: BuildResult) -> tuple[str, ...]:
    ran = [stage.stage for stage in result.stages if stage.ran]
    stages = "failed" if result.error else ", ".join(ran) or "up to date"
    error = "–" if result.max_abs_error is None else f"{result.max_abs_error:.2g}"
    metric = f"{result.metric['value']:.4f} ({result.metric['reference']:.4f})" if result.metric else "–"
    size = size_text(result.byte_size)
    return (result.model, str(result.version or "–"), result.precision, size, error, metric, stages)


def _print_asked(out: Console, result: BuildResult) -> None:
    """What was asked for and does not fit in a row: the race, derived profiles, the check of the engine, a plan."""
    if result.race:
        _print_race(out, result.model, result.race)
    if result.derived:
        _print_derived(out, result.model, result.derived)
    if result.check_engine:
        out.print(f"{result.model}: check-engine: {result.check_engine['summary']}", markup=False, soft_wrap=True)
    if result.no_plan:
        out.print(f"{result.model}: {result.no_plan}", markup=False, soft_wrap=True)


def _print_race(out: Console, model: str, race: dict[str, Any]) -> None:
    """The numbers as a table; the verdicts are sentences, and stand below it."""
    from rich.table import Column, Table

    first, *numbers, _ = race["columns"]
    table = Table(Column(first, no_wrap=True), *numbers, title=f"{model}: the race")
    for cells in race["table"]:
        table.add_row(*cells[:-1])
    out.print(table)
    verdicts = [f"{name}: {verdict}" for name, verdict in race["verdicts"].items() if name != race["chosen"]]
    for line in (*verdicts, *race["remarks"], f"taken: {race['why']}", f"plot: {race['plot']}"):
        out.print(f"{model}: {line}", markup=False, soft_wrap=True)


def _print_derived(out: Console, model: str, derived: dict[str, Any]) -> None:
    from rich.table import Table

    for title, rows in (("profiles from recorded shapes", derived["rows"]), ("how many pay", derived["counts"])):
        table = Table(*rows[0], title=f"{model}: {title}")
        for cells in rows[1:]:
            table.add_row(*cells)
        out.print(table)
    for note in derived["notes"]:
        out.print(f"{model}: {note}", markup=False, soft_wrap=True)
    out.print(f"{model}: to keep them, put this under `{model}:` in trtkit.yaml:", markup=False, soft_wrap=True)
    out.print(textwrap.indent(derived["yaml"].rstrip("\n"), "    "), markup=False, soft_wrap=True)


def size_text(byte_size: int) -> str:
    """A size for people: bytes, kB, MB or GB (decimal)."""
    if not byte_size:
        return "–"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if byte_size >= factor:
            return f"{byte_size / factor:.1f} {unit}"
    return f"{byte_size} B"
