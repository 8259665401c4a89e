# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What the commands of ``trtkit deploy`` share: their options, and how rendered files reach the disk."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from trtkit.cli.common import json_option, print_json, project_option

environment_option = click.option(
    "--environment", "-e", default="", metavar="NAME", help="Of deploy.environments. Default: the block itself."
)


def _kube_version(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """As `KubeVersion` of the project file, which takes minor versions only."""
    if value is not None and not re.fullmatch(r"1\.[0-9]{2}", value):
        raise click.BadParameter(f"'{value}' is no version of Kubernetes such as 1.30")
    return value


kube_version_option = click.option(
    "--kube-version", metavar="1.NN", callback=_kube_version, help="Of the cluster. Default: the project's."
)


def output_options(default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of a command that renders files, --project and --json among them.

    Args:
        default: the folder's default, relative to the project's.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        options = [
            project_option,
            click.option(
                "--output", type=click.Path(path_type=Path), help=f"The folder to write to. Default: {default}."
            ),
            click.option("--check", is_flag=True, help="Write nothing; exit 1 when a file would change."),
            click.option("--force", is_flag=True, help="Overwrite files that were changed by hand."),
            json_option,
        ]
        return functools.reduce(lambda decorated, option: option(decorated), reversed(options), function)

    return decorate


def deliver(
    files: Mapping[str, str], folder: Path, part: str, *, check: bool, force: bool, as_json: bool, after: str = ""
) -> int:
    """Write rendered files, or only say what would change; returns the exit code.

    Args:
        files: content by relative path.
        folder: where they go.
        part: which renderer they are of.
        check: write nothing; 1 when something would change.
        force: over files changed by hand.
        as_json: say it as JSON.
        after: what to do next, in a line or two.
    """
    from trtkit.deploy.files import changes, write

    done = changes(files, folder, part) if check else write(files, folder, part, force=force)
    changed = [change for change in done if change.kind != "keep"]
    if as_json:
        print_json({"folder": str(folder), "files": {change.file: change.kind for change in done}})
    else:
        for change in changed:
            sys.stdout.write(f"{change.kind:7} {folder / change.file}\n")
        same = len(done) - len(changed)
        sys.stdout.write(f"{len(changed)} files {'would change' if check else 'written'}, {same} as they were\n")
        sys.stdout.write(f"{after}\n" if after and not check else "")
    return int(check and bool(changed))
