# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What lint has to say: a finding, its place, and the change that would mend it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


class Severity(str, Enum):
    """How bad it is: the server refuses it; it loads but does not do what is written; it could be better."""

    def __str__(self) -> str:
        return self.value  # Python 3.10 has no StrEnum

    def __format__(self, spec: str) -> str:
        return format(self.value, spec)

    ERROR = "error"
    WARNING = "warning"
    ADVICE = "advice"


@dataclass(frozen=True)
class Edit:
    """Replace the characters from `start` to `end` of a file's text."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Fix:
    """A change that mends a finding without changing what the model computes.

    Attributes:
        description: e.g. ``set name: "digits"``.
        edits: in the finding's file; they do not overlap.
    """

    description: str
    edits: tuple[Edit, ...]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or could be better.

    Attributes:
        code: of the rule, e.g. ``BAT002``; stable.
        name: of the rule, e.g. ``preferred-batch-size-above-max``.
        severity: of the rule.
        model: the model's directory name; '' when it is about the repository.
        file: from the repository's root, with slashes; a folder where no file is meant.
        line, column: from 1; None where the file has no such places.
        message: a sentence: the server's own words where it has some, what was given, what is expected.
        fix: how ``--fix`` mends it; None where it cannot.
    """

    code: str
    name: str
    severity: Severity
    model: str
    file: str
    message: str
    line: int | None = None
    column: int | None = None
    fix: Fix | None = None

    @property
    def place(self) -> str:
        """``file:line:column``, as far as there is one."""
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)

    def to_json(self) -> dict[str, Any]:
        """As in ``trtkit lint --format json``."""
        fix = None if self.fix is None else self.fix.description
        return {
            "code": self.code, "name": self.name, "severity": self.severity.value, "model": self.model,
            "file": self.file, "line": self.line, "column": self.column, "message": self.message, "fix": fix,
        }  # fmt: skip
