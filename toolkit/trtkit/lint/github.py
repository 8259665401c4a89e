# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Findings as GitHub's workflow commands, which become annotations of the changed lines.

Form and escapes: https://docs.github.com/actions/reference/workflow-commands-for-github-actions and the
``escapeProperty`` of GitHub's own toolkit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trtkit.lint.finding import Severity
from trtkit.lint.outcome import Outcome
from trtkit.lint.report import printable

_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.ADVICE: "notice"}


def commands(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """One command for each finding, without the line end."""
    for outcome in outcomes:
        for finding in outcome.findings:
            properties = {
                "file": outcome.shown(finding.file),
                "line": finding.line,
                "col": finding.column,
                "title": f"{finding.code} {finding.name}",
            }
            given = ",".join(
                f"{name}={_property(str(value))}" for name, value in properties.items() if value is not None
            )
            yield f"::{_LEVELS[finding.severity]} {given}::{_data(finding.message)}"


def _data(text: str) -> str:
    """A message: what would end the command is written as %XX."""
    lines = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return printable(lines)


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
