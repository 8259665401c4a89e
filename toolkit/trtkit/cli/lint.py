# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit lint``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trtkit.cli.common import console, json_option, optional_project, repository_of

if TYPE_CHECKING:
    from trtkit.lint.fixing import Fixed
    from trtkit.lint.outcome import Outcome
    from trtkit.lint.places import Place
    from trtkit.lint.report import Line
    from trtkit.lint.rule import Rule
    from trtkit.lint.server_facts import ServerFacts

_SEVERITIES = ("error", "warning", "advice")
_FLAGS = "trtkit.lint.flags"


class _Command(click.Command):
    """A command whose arguments after ``--`` are tritonserver's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            split = args.index("--")
            ctx.meta[_FLAGS] = tuple(args[split + 1 :])
            args = args[:split]
        return super().parse_args(ctx, args)


@click.command(
    cls=_Command,
    help="""Say what tritonserver will say about a model repository, without a server.

    PATH is a model repository, a model's folder, a file of a model (config.pbtxt, configs/NAME.pbtxt, 1/model.py),
    or an fsspec URL such as s3://bucket/repository. A folder is a model when a config.pbtxt, or a folder whose
    name is a number, lies directly in it; any other folder is a repository. Of a single model only its own
    findings are shown; its neighbours are still known to the rules about ensembles. Default: the project's
    repository, else ./model_repository.

    The options that tritonserver will be given go after --, so that they are checked too:

    \b
        trtkit lint model_repository -- --disable-auto-complete-config --cache-config local,size=1048576

    CODES are codes, the letters they begin with, or names of rules, with commas between. In a file,
    `# trtkit: ignore=CODE` at the end of a line, or alone above a field, leaves a finding out.

    Exits 1 when something at or above --fail-on was found.""",
)
@click.argument("paths", nargs=-1, metavar="[PATH]... [-- TRITONSERVER_OPTIONS]")
@click.option("--select", "chosen", multiple=True, metavar="CODES", help="Apply only these rules.")
@click.option("--ignore", "ignored", multiple=True, metavar="CODES", help="Leave these rules out.")
@click.option("--fix", "do_fix", is_flag=True, help="Mend what has a fix, in the files.")
@click.option("--diff", "do_diff", is_flag=True, help="Show what --fix would change; exits 1 when it would.")
@click.option("--image", help="The container image that will serve it, e.g. 24.10 or nvcr.io/….")
@click.option("--server-version", help="Triton's own version, e.g. 2.51. Default: the image's, else the newest.")
@click.option("--gpus", type=click.IntRange(min=0), help="How many GPUs the server has.")
@click.option("--fail-on", type=click.Choice(_SEVERITIES), default="error", show_default=True)
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "sarif", "github"]), default="text", show_default=True
)
@click.option(
    "--output", type=click.Path(path_type=Path), help="Write the report here, and only the last line to the terminal."
)
@click.option("--no-context", is_flag=True, help="Leave out the source lines.")
@click.option("--statistics", is_flag=True, help="Count the findings of each rule instead of showing them.")
@click.option("--explain", metavar="CODE", help="Print the page of a rule.")
@click.option("--rules", "list_rules", is_flag=True, help="List the rules; [*] can be mended with --fix.")
@json_option
@click.pass_context
def command(context: click.Context, /, paths: tuple[str, ...], as_json: bool, **given: Any) -> int:
    """Lint, mend where asked, report."""
    given["form"] = "json" if as_json else given["form"]
    if given["explain"]:
        return _explain(given["explain"])
    from trtkit.lint.rules import RULES
    from trtkit.lint.selection import select

    rules = select(RULES, given["chosen"], given["ignored"])
    if given["list_rules"]:
        return _list_rules(rules, given["form"])
    from trtkit.lint.outcome import known_server, lint_places
    from trtkit.lint.places import find_places

    server = known_server(context.meta.get(_FLAGS), given["image"], given["server_version"], given["gpus"])
    places = find_places(paths or (str(repository_of(optional_project(), None)),))
    outcomes = lint_places(places, rules, server)
    if given["do_diff"]:
        return _show_diff(_fixed(outcomes, rules, server))
    if given["do_fix"]:
        fixed = _fixed(outcomes, rules, server)
        _write_fixes(fixed, sys.stdout if given["form"] == "text" and not given["output"] else sys.stderr)
        outcomes = [each.outcome for each in fixed]
    _report(outcomes, rules, given)
    failing = _SEVERITIES[: _SEVERITIES.index(given["fail_on"]) + 1]
    return int(any(finding.severity in failing for outcome in outcomes for finding in outcome.findings))


def _explain(word: str) -> int:
    from trtkit.lint.pages import page_of
    from trtkit.lint.rules import RULES
    from trtkit.lint.selection import find_rule

    page = page_of(find_rule(RULES, word))
    sys.stdout.write(f"{page.rule.code} {page.rule.name} ({page.kind})\n\n{page.text()}\n")
    return 0


def _list_rules(rules: Sequence[Rule], form: str) -> int:
    from trtkit.lint.report import rule_json, rule_lines

    if form == "json":
        sys.stdout.write(json.dumps(rule_json(rules), indent=2) + "\n")
    else:
        _print(rule_lines(rules))
    return 0


def _fixed(outcomes: Sequence[Outcome], rules: Sequence[Rule], server: ServerFacts) -> list[Fixed]:
    """Every repository with its fixes, not yet written."""
    from trtkit.lint.fixing import fix
    from trtkit.lint.outcome import lint_place

    def mended(place: Place, outcome: Outcome) -> Fixed:
        return fix(outcome, lambda tree: lint_place(place, rules, server, tree))

    return [mended(outcome.place, outcome) for outcome in outcomes]


def _show_diff(fixed: Sequence[Fixed]) -> int:
    """On a terminal with colors, anywhere else byte by byte, for `patch -p0`."""
    from trtkit.lint.report import printable

    lines = [line for each in fixed for line in each.diff()]
    if sys.stdout.isatty():
        colors = {"+": "green", "-": "red", "@": "cyan"}
        _print([(printable(line.rstrip("\r\n")), colors.get(line[:1], ""))] for line in lines)
    else:
        sys.stdout.buffer.write("".join(lines).encode("utf-8", "surrogateescape"))
    return int(bool(lines))


def _write_fixes(fixed: Sequence[Fixed], stream: Any) -> None:
    """Write the files, and say what was done to each."""
    from trtkit.lint.report import fixed_lines, plain

    for each in fixed:
        each.write()
        stream.write(plain(fixed_lines(each)))


def _report(outcomes: Sequence[Outcome], rules: Sequence[Rule], given: dict[str, Any]) -> None:
    from trtkit.errors import ProjectError
    from trtkit.lint import report

    form, output = given["form"], given["output"]
    if given["statistics"] and form != "text":
        raise ProjectError(f"--statistics is text, and --format {form} is not; `--format json` has the counts in it")
    lines = _text(outcomes, given) if form == "text" else []
    document = "" if form == "text" else _document(outcomes, rules, form)
    if output is not None:
        _write_file(output, document or report.plain(lines))
        sys.stdout.write(f"{report.summary(outcomes)}; written to {output}\n")
    elif form == "text":
        _print([*lines, [(report.summary(outcomes), "bold")]])
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


def _document(outcomes: Sequence[Outcome], rules: Sequence[Rule], form: str) -> str:
    """The report for a machine."""
    if form == "github":
        from trtkit.lint.github import commands

        return "".join(f"{line}\n" for line in commands(outcomes))
    if form == "sarif":
        from trtkit.lint.sarif import to_sarif

        return json.dumps(to_sarif(outcomes, rules), indent=2) + "\n"
    from trtkit.lint.report import to_json

    return json.dumps(to_json(outcomes), indent=2) + "\n"


def _write_file(path: Path, text: str) -> None:
    from trtkit.errors import ProjectError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise ProjectError(f"{path} cannot be written: {exc.strerror}") from exc


def _print(lines: Iterable[Line]) -> None:
    """Lines with their styles on a terminal, and without anywhere else."""
    from trtkit.lint.report import plain

    if not sys.stdout.isatty():
        sys.stdout.write(plain(lines))
        return
    from rich.text import Text

    out = console()
    for line in lines:
        out.print(Text.assemble(*line), soft_wrap=True)
