# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit doctor``: this machine; ``trtkit doctor cluster``: a Kubernetes cluster."""

from __future__ import annotations

import click

from trtkit.cli.common import console, json_option, print_json
from trtkit.cli.doctor_cluster import cluster


@click.group(
    invoke_without_command=True,
    help="""Check what is installed here and whether it fits together.

    Exits 3 when something that trtkit needs is missing or two parts exclude each other; extras that are
    merely absent are listed and no problem. `trtkit doctor cluster` looks at a Kubernetes cluster instead.""",
)
@json_option
@click.pass_context
def command(context: click.Context, as_json: bool) -> int:
    """Run every check and print one row each."""
    if context.invoked_subcommand is not None:
        return 0
    from trtkit.doctor import examine
    from trtkit.errors import MissingDependencyError

    checks = examine()
    if as_json:
        print_json([check.to_json() for check in checks])
    else:
        from rich.table import Table
        from rich.text import Text

        table = Table("part", "state", "details")
        style = {"ok": "green", "absent": "dim", "problem": "red"}
        for check in checks:
            table.add_row(check.part, Text(check.state, style=style[check.state]), Text(check.details))
        console().print(table)
    return MissingDependencyError.exit_code if any(check.state == "problem" for check in checks) else 0


command.add_command(cluster)
