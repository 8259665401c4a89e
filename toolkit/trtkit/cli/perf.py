# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit perf``: a group whose unknown first word is the model to measure."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trtkit.cli.common import check_models, console, optional_project, repository_of
from trtkit.cli.perf_compare import compare
from trtkit.cli.perf_flags import FLAGS, GROUPS

if TYPE_CHECKING:
    from trtkit.perf.options import Options, ServerUrls

_HELP = """Load-test a served model and say how fast it answers, how sure that is, and what bounds it.

Requests are kept in flight (--concurrency, a closed loop) or sent at times of their own (--request-rate, an open
loop). After a warm-up, windows follow each other until throughput and latency are known well enough. A result that
never became stable is kept, printed and marked, and ends with exit code 9; so does one without a successful request.
docs/perf.md explains every figure.

\b
    trtkit perf digits --concurrency 8
    trtkit perf digits --concurrency 1:64:*2 --protocol grpc --batch-size 4 --html digits.html
    trtkit perf digits --request-rate 500 --request-distribution poisson
    trtkit perf digits --find-capacity 'p99 < 50 ms, errors < 0.1%'
    trtkit perf encoder --url 10.0.0.5:8000 --shape ids:128 --shape mask:128
    trtkit perf compare before after --fail-if 'p99 > +10%'

The requests hold, in this order: what --input, --input-data, --images, --texts or --calibration names; the model's
`evaluate:` samples of the project file (unless --shape is given); random values: normal floats, integers 0 or 1,
ASCII letters. Dynamic axes have the size that --shape gives, or that trtkit build found to work.

A model called `compare` goes by -m. perf_analyzer's command lines work after the name is replaced."""
_COMMAND, _WORDS = "trtkit.perf.command", "trtkit.perf.words"
_PORTS = {"http": "localhost:8000", "grpc": "localhost:8001"}


class _Model(click.Argument):
    """The first word; the usage shows it by itself."""

    def get_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Nothing, so that it does not stand in the path of the commands in the group."""
        return []


class _PerfGroup(click.Group):
    """A command that measures a model, unless its first word is that of a command in the group."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the flags, or leave them all to the command that the first word names."""
        ctx.meta[_WORDS] = [*ctx.command_path.split(), *args]
        if args and args[0] in self.commands:
            ctx.meta[_COMMAND] = args
            args = []
        ctx.allow_interspersed_args = True
        rest = click.Command.parse_args(self, ctx, args)
        if rest:
            ctx.fail(f"'{rest[0]}' is one word too many; lists of loads have commas, as in 1,2,4")
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named, or measure."""
        if _COMMAND not in ctx.meta:
            return click.Command.invoke(self, ctx)
        name, *args = ctx.meta[_COMMAND]
        with self.commands[name].make_context(name, args, parent=ctx) as inner:
            return inner.command.invoke(inner)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Both ways to call it."""
        formatter.write_usage(ctx.command_path, "[OPTIONS] MODEL")
        formatter.write_usage(ctx.command_path, "compare [OPTIONS] A B", prefix=" " * len("Usage: "))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The flags under headings."""
        records = {parameter.name: parameter.get_help_record(ctx) for parameter in self.get_params(ctx)}
        help_option = self.get_help_option(ctx)
        for heading, flags in GROUPS.items():
            rows = [records[flag.key] for flag in flags]
            if heading == "Reports" and help_option:
                rows.append(help_option.get_help_record(ctx))
            with formatter.section(heading):
                formatter.write_dl([row for row in rows if row])
        self.format_commands(ctx, formatter)


def _measure_command(word: str | None = None, **values: Any) -> None:
    context = click.get_current_context()
    given = {key: value for key, value in values.items() if was_given(context, key)}
    measure(word, given, context.meta[_WORDS])


def was_given(context: click.Context, key: str) -> bool:
    """Whether a flag is on the command line."""
    from click.core import ParameterSource

    return context.get_parameter_source(key) is ParameterSource.COMMANDLINE


command = _PerfGroup(
    "perf",
    callback=_measure_command,
    params=[_Model(["word"], required=False), *(flag.option() for flag in FLAGS)],
    commands={"compare": compare},
    help=_HELP,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def measure(word: str | None, given: dict[str, Any], words: list[str]) -> None:
    """Measure what was asked for, print and write what was found, and say whether it holds.

    Args:
        word: the model, when it was given as a word.
        given: the values of the flags that were given, by their keys.
        words: the whole command line, for the records.
    """
    from trtkit.cli.perf_options import options_of, remarks
    from trtkit.cli.perf_results import Results
    from trtkit.errors import MeasurementError

    options = _placed(options_of(word, _with_url(given)))
    for remark in remarks(given):
        sys.stderr.write(f"trtkit perf: {remark}\n")
    from trtkit.cli.perf_live import Progress
    from trtkit.perf import session
    from trtkit.perf.hooks import Hooks

    results = Results(options, words)
    results.read_baseline()
    try:
        with _server(options) as urls, Progress(console(stderr=True)) as progress:
            hooks = Hooks(
                on_window=progress.window, on_phase=progress.phase, on_note=progress.note, on_data=results.set_data,
                on_result=results.add,
            )  # fmt: skip
            results.set_server(urls.pid)
            results.capacity = session.run(options, urls, hooks)
    finally:  # also after an error or ctrl-C: nothing that was measured is lost
        results.show()
    if results.interrupted:
        raise KeyboardInterrupt
    problem = results.what_did_not_hold()
    if problem:
        raise MeasurementError(problem)


def _with_url(given: dict[str, Any]) -> dict[str, Any]:
    """As perf_analyzer does, -m without -u asks a server on this machine, if there is no repository to serve."""
    if "model" not in given or "url" in given or "repository" in given or "project" in given:
        return given
    if repository_of(optional_project(), None).is_dir():
        return given
    url = _PORTS["grpc" if str(given.get("protocol", "")).startswith("grpc") else "http"]
    sys.stderr.write(f"trtkit perf: there is no model repository here, so the server at {url} is asked\n")
    return {**given, "url": url}


def _placed(options: Options) -> Options:
    """With the paths of the project file and of the repository that will be used."""
    project = optional_project(options.project)
    return replace(
        options,
        project=Path(project.file) if project else None,
        repository=repository_of(project, options.repository),
    )


@contextmanager
def _server(options: Options) -> Iterator[ServerUrls]:
    """The server at --url, or an embedded one for the time of the command."""
    from trtkit.perf.options import ServerUrls

    if options.url:
        yield ServerUrls(options.url, options.url, options.metrics_url)
        return
    from trtkit.server import serve

    repository = options.repository or Path("model_repository")
    names = tuple(name for name, _ in options.models)
    check_models(repository, names)
    with serve(repository, models=names) as server:
        yield ServerUrls(
            server.http_url, server.grpc_url, options.metrics_url or server.metrics_url, server.process.pid
        )
