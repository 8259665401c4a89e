# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit deploy k8s``."""

from __future__ import annotations

import click


@click.command(help="""To be written.""")
def k8s() -> int:
    """To be written."""
    return 0
