# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit lint``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from trtkit.cli.common import json_option, optional_project, repository_of
from trtkit.cli.lint_report import explain, failed, print_lines, report, report_options
from trtkit.cli.lint_report import list_rules as list_rules_of

if TYPE_CHECKING:
    from trtkit.lint.fixing import Fixed
    from trtkit.lint.outcome import Outcome
    from trtkit.lint.places import Place
    from trtkit.lint.rule import Rule
    from trtkit.lint.server_facts import ServerFacts

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
@report_options
@click.option("--explain", metavar="CODE", help="Print the page of a rule.")
@click.option("--rules", "list_rules", is_flag=True, help="List the rules; [*] can be mended with --fix.")
@json_option
@click.pass_context
def command(context: click.Context, /, paths: tuple[str, ...], as_json: bool, **given: Any) -> int:
    """Lint, mend where asked, report."""
    given["form"] = "json" if as_json else given["form"]
    from trtkit.lint.rules import RULES

    if given["explain"]:
        return explain(RULES, given["explain"])
    from trtkit.lint.selection import select

    rules = select(RULES, given["chosen"], given["ignored"])
    if given["list_rules"]:
        return list_rules_of(rules, given["form"])
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
    report(outcomes, rules, given)
    return failed(outcomes, given["fail_on"])


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
        print_lines([(printable(line.rstrip("\r\n")), colors.get(line[:1], ""))] for line in lines)
    else:
        sys.stdout.buffer.write("".join(lines).encode("utf-8", "surrogateescape"))
    return int(bool(lines))


def _write_fixes(fixed: Sequence[Fixed], stream: Any) -> None:
    """Write the files, and say what was done to each."""
    from trtkit.lint.report import fixed_lines, plain

    for each in fixed:
        each.write()
        stream.write(plain(fixed_lines(each)))
