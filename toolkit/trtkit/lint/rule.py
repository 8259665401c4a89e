# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a rule is: a function with a code, whose docstring is its page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from trtkit.lint.finding import Severity
from trtkit.lint.model import Found, Model, Repository

Check = Callable[[Model], Iterable[Found]]
RepositoryCheck = Callable[[Repository], Iterable[Found]]


@dataclass(frozen=True)
class Rule:
    """A rule.

    Attributes:
        code: three letters for the category, three digits; never reused.
        name: readable, with dashes.
        severity: of its findings.
        server: whether tritonserver refuses to load a model that breaks it.
        needs_config: whether it runs only where config.pbtxt could be read without a problem.
        fixable: whether some of its findings have a fix.
        depends_on_server: whether it may find more where more is known of the server: flags, version, image, GPUs.
        check: from a model to what is wrong with it.
        of_repository: it looks at the repository as a whole: `check` takes that, and runs once.
        refusal: who refuses it, where `server`.
    """

    code: str
    name: str
    severity: Severity
    server: bool
    needs_config: bool
    fixable: bool
    depends_on_server: bool
    check: Callable[[Any], Iterable[Found]]
    of_repository: bool = False
    refusal: str = "tritonserver refuses the model"

    @property
    def category(self) -> str:
        """The code's letters."""
        return self.code[:3]

    @property
    def page(self) -> str:
        """The rule's page: its docstring."""
        return self.check.__doc__ or ""


def rule(
    code: str, name: str, severity: Severity = Severity.ERROR, *, server: bool = False, needs_config: bool = True,
    fixable: bool = False, depends_on_server: bool = False,
) -> Callable[[Check], Rule]:  # fmt: skip
    """Make a rule of a function; see `Rule`.

    The docstring: one sentence; why, with the source; then ``Wrong:`` and ``Right:``, each followed by an
    indented example.
    """

    def made(check: Check) -> Rule:
        return Rule(code, name, severity, server, needs_config, fixable, depends_on_server, check)

    return made


def repository_rule(
    code: str, name: str, severity: Severity = Severity.ERROR, *, server: bool = False
) -> Callable[[RepositoryCheck], Rule]:
    """The same for a rule about the repository as a whole; it takes a `Repository`."""

    def made(check: RepositoryCheck) -> Rule:
        return Rule(code, name, severity, server, False, False, False, check, of_repository=True)

    return made
