# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit deploy lint``."""

from __future__ import annotations

import click


@click.command(help="""To be written.""")
def lint() -> int:
    """To be written."""
    return 0
