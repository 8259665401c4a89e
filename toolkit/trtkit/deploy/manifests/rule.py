# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How a rule of the deployment's linter is made: a function over all files, whose docstring is its page."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from trtkit.deploy.manifests.commands import Spot
from trtkit.deploy.manifests.fileset import FileSet
from trtkit.lint.finding import Severity
from trtkit.lint.model import Found
from trtkit.lint.rule import Rule

Check = Callable[[FileSet], Iterable[Found]]
ERROR, WARNING, ADVICE = Severity.ERROR, Severity.WARNING, Severity.ADVICE


def rule(
    code: str, name: str, severity: Severity = ERROR, *, refused_by: str = "", depends: bool = False
) -> Callable[[Check], Rule]:  # fmt: skip
    """Make a rule of a function that takes a `FileSet`.

    The docstring: one sentence; why, with the source; then ``Wrong:`` and ``Right:``, each followed by an
    indented example.

    Args:
        code: three letters, three digits; no category of the repository linter's.
        name: readable, with dashes.
        severity: of its findings.
        refused_by: what refuses it or ends because of it, e.g. ``the API server refuses it``; '' for nothing.
        depends: whether it may find more where people say more, see `Known`.
    """

    def made(check: Check) -> Rule:
        return Rule(
            code, name, severity, bool(refused_by), False, False, depends, check, of_repository=True, refusal=refused_by
        )

    return made


def found(spot: Spot, message: str) -> Found:
    """A finding at a place."""
    return Found(spot.file, message, spot.line, spot.column)


def found_at(file: str, line: int, message: str, column: int = 1) -> Found:
    """A finding in a line of a file that is no YAML."""
    return Found(file, message, line, column)
