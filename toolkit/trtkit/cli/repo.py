# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit repo``."""

from __future__ import annotations

from pathlib import Path

import click

from trtkit.cli.common import json_option, optional_project, print_json, repository_of


@click.group(help="Look into a model repository, anyone's.")
def command() -> None:
    """The group of the commands below."""


@command.command(
    help="""Draw an ensemble, or a single model, from its config.pbtxt: inputs, steps, tensors, outputs.

    A step whose model is not in the repository is drawn with question marks. Calls that a model makes by itself (BLS)
    do not stand in a config, and are not drawn."""
)
@click.argument("model")
@click.option(
    "--repository", type=click.Path(path_type=Path), help="The model repository to read. Default: the project's."
)
@click.option(
    "--format", "form", type=click.Choice(["svg", "mermaid"]), default="svg", help="What to write. Default: svg."
)
@click.option("--output", type=click.Path(path_type=Path), help="The file to write. Default: standard output.")
@json_option
def graph(model: str, repository: Path | None, form: str, output: Path | None, as_json: bool) -> None:
    """Print or write the picture."""
    from trtkit.drawing import graph_of, to_mermaid, to_svg

    found = graph_of(repository_of(optional_project() if repository is None else None, repository), model)
    for note in found.notes:
        click.echo(note, err=True)
    if as_json:
        print_json(found.to_json())
    elif output is None:
        click.echo(to_svg(found) if form == "svg" else to_mermaid(found), nl=False)
    else:
        _write(output, to_svg(found) if form == "svg" else to_mermaid(found))


def _write(output: Path, text: str) -> None:
    from trtkit.errors import ProjectError

    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise ProjectError(f"--output {output} cannot be written: {exc.strerror}") from exc
