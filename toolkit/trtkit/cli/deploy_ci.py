# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit deploy ci``."""

from __future__ import annotations

import click


@click.command(help="""To be written.""")
def ci() -> int:
    """To be written."""
    return 0
