# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Options of tritonserver as people write them in server.options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def options_by_name(options: Sequence[str]) -> Mapping[str, list[str]]:
    """The values of options by name, e.g. ``metrics-config`` with ``["summary_latencies=true"]``."""
    found: dict[str, list[str]] = {}
    for option in options:
        name, _, value = option.removeprefix("--").partition("=")
        found.setdefault(name, []).append(value)
    return found


def size_option(options: Sequence[str], name: str, setting: str = "") -> int | None:
    """Bytes that an option says, the last one that does; None where none does.

    Args:
        options: as in server.options.
        name: e.g. ``pinned-memory-pool-byte-size``, or ``backend-config`` with a setting.
        setting: what its value begins with, e.g. ``python,shm-default-byte-size=`` or ``0:``.
    """
    given = options_by_name(options).get(name, ())
    values = [value.removeprefix(setting) for value in given if value.startswith(setting)]
    return next((int(value) for value in reversed(values) if value.isdigit()), None)
