# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How the commands that lint report: their options, and the report in each form."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trtkit.cli.common import console

if TYPE_CHECKING:
    from trtkit.lint.outcome import Outcome
    from trtkit.lint.report import Line
    from trtkit.lint.rule import Rule

_SEVERITIES = ("error", "warning", "advice")
_OPTIONS = (
    click.option("--fail-on", type=click.Choice(_SEVERITIES), default="error", show_default=True),
    click.option(
        "--format", "form", type=click.Choice(["text", "json", "sarif", "github"]), default="text", show_default=True
    ),
    click.option(
        "--output",
        type=click.Path(path_type=Path),
        help="Write the report here, and only the last line to the terminal.",
    ),
    click.option("--no-context", is_flag=True, help="Leave out the source lines."),
    click.option("--statistics", is_flag=True, help="Count the findings of each rule instead of showing them."),
)


def report_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what the report is like and when the command fails."""
    return functools.reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), function)


def failed(outcomes: Sequence[Outcome], fail_on: str) -> int:
    """1 when something at or above a severity was found."""
    failing = _SEVERITIES[: _SEVERITIES.index(fail_on) + 1]
    return int(any(finding.severity in failing for outcome in outcomes for finding in outcome.findings))


def explain(rules: Sequence[Rule], word: str) -> int:
    """Print the page of a rule, by its code or name."""
    from trtkit.lint.pages import page_of
    from trtkit.lint.selection import find_rule

    page = page_of(find_rule(rules, word))
    sys.stdout.write(f"{page.rule.code} {page.rule.name} ({page.kind})\n\n{page.text()}\n")
    return 0


def list_rules(rules: Sequence[Rule], form: str) -> int:
    """Print the rules, one a line or as JSON."""
    from trtkit.lint.report import rule_json, rule_lines

    if form == "json":
        sys.stdout.write(json.dumps(rule_json(rules), indent=2) + "\n")
    else:
        print_lines(rule_lines(rules))
    return 0


def report(
    outcomes: Sequence[Outcome], rules: Sequence[Rule], given: dict[str, Any], notes: Sequence[str] = ()
) -> None:
    """Print or write the report in the form that was asked for.

    Args:
        outcomes: what was found.
        rules: those that were applied.
        given: the values of `report_options`.
        notes: sentences for people, before the closing line; `skipped` in JSON.
    """
    from trtkit.errors import ProjectError
    from trtkit.lint.report import plain, summary

    form, output = given["form"], given["output"]
    if given["statistics"] and form != "text":
        raise ProjectError(f"--statistics is text, and --format {form} is not; `--format json` has the counts in it")
    lines = [*(_text(outcomes, given) if form == "text" else []), *([(note, "dim")] for note in notes)]
    document = "" if form == "text" else _document(outcomes, rules, form, notes)
    if output is not None:
        _write_file(output, document or plain(lines))
        sys.stdout.write(f"{summary(outcomes)}; written to {output}\n")
    elif form == "text":
        print_lines([*lines, [(summary(outcomes), "bold")]])
    else:
        sys.stdout.write(document)


def _text(outcomes: Sequence[Outcome], given: dict[str, Any]) -> list[Line]:
    """All lines of the text report but the last."""
    from trtkit.lint import report

    if given["statistics"]:
        counted = list(report.statistics_lines(outcomes))
        return [*counted, []] if counted else []
    lines = list(report.text_lines(outcomes, context=not given["no_context"]))
    return [*lines, [], *report.remarks(outcomes)] if lines else []


def _document(outcomes: Sequence[Outcome], rules: Sequence[Rule], form: str, notes: Sequence[str]) -> str:
    """The report for a machine."""
    if form == "github":
        from trtkit.lint.github import commands

        return "".join(f"{line}\n" for line in commands(outcomes))
    if form == "sarif":
        from trtkit.lint.sarif import to_sarif

        return json.dumps(to_sarif(outcomes, rules), indent=2) + "\n"
    from trtkit.lint.report import to_json

    document = to_json(outcomes)
    return json.dumps({**document, "skipped": list(notes)} if notes else document, indent=2) + "\n"


def _write_file(path: Path, text: str) -> None:
    from trtkit.errors import ProjectError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise ProjectError(f"{path} cannot be written: {exc.strerror}") from exc


def print_lines(lines: Iterable[Line]) -> None:
    """Print lines with their styles on a terminal, and without anywhere else."""
    from trtkit.lint.report import plain

    if not sys.stdout.isatty():
        sys.stdout.write(plain(lines))
        return
    from rich.text import Text

    out = console()
    for line in lines:
        out.print(Text.assemble(*line), soft_wrap=True)
