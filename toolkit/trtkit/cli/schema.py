# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit schema``."""

from __future__ import annotations

import click

from trtkit.cli.common import json_option, print_json


@click.command(help="Print the JSON Schema of trtkit.yaml, for editors that complete and check YAML.")
@json_option
def command(as_json: bool) -> None:
    """The schema is JSON in either case."""
    from trtkit.project import json_schema

    print_json(json_schema())
