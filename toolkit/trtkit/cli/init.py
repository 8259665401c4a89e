# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit init``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from trtkit.cli.common import json_option, print_json


@click.command(
    help="""Write a new project to DIRECTORY (default: here).

    Without --from: a small working project with comments, which trains a scikit-learn model. With --from: a
    project around your ONNX file; its batching is tried out first, and nothing has to be written by hand."""
)
@click.argument("directory", type=click.Path(path_type=Path), default=Path())
@click.option("--from", "model", type=click.Path(path_type=Path), help="An ONNX file to build the project around.")
@json_option
def command(directory: Path, model: Path | None, as_json: bool) -> None:
    """Write the files and say what comes next."""
    from trtkit.scaffold import init_from_onnx, init_sample

    files = init_from_onnx(directory, model) if model else init_sample(directory)
    if as_json:
        print_json({"files": [str(file) for file in files]})
        return
    for file in files:
        sys.stdout.write(f"wrote {file}\n")
    move = "" if directory == Path() else f"cd {directory} && "
    sys.stdout.write(f"next: {move}trtkit build && trtkit validate\n")
