# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Comments to this linter."""

from __future__ import annotations

from collections.abc import Iterator

from trtkit.deploy.manifests.fileset import FileSet
from trtkit.deploy.manifests.rule import ADVICE, WARNING, found_at, rule
from trtkit.lint.model import Found


@rule("CMT001", "comment-not-understood", WARNING)
def not_understood(files: FileSet) -> Iterator[Found]:
    """A comment to the linter names no rule, or is written another way.

    It hides nothing. It is `# trtkit: ignore=CODE,CODE` at the end of a line or alone above what it is for, or
    `# trtkit: ignore-file=CODE` above everything.

    Wrong:
        maxSurge: 1  # trtkit: ignore ROL001

    Right:
        maxSurge: 1  # trtkit: ignore=ROL001
    """
    for source in files.sources:
        sheet = files.sheet(source.file) if source.kind != "python" else None  # there it may be for `trtkit lint`
        for misuse in sheet.misuses if sheet else ():
            yield found_at(source.file, misuse.line, misuse.message, misuse.column)


@rule("CMT002", "comment-hides-nothing", ADVICE)
def hides_nothing(files: FileSet) -> Iterator[Found]:
    """A comment ignores a rule that finds nothing there.

    It would hide the next mistake of that kind. Take it out.

    Wrong:
        maxSurge: 0  # trtkit: ignore=ROL001

    Right:
        maxSurge: 0
    """
    for source in files.sources:
        sheet = files.sheet(source.file) if source.kind != "python" else None
        for each in sheet.ignores if sheet else ():
            if not each.used and each.codes <= files.said_all:
                yield found_at(source.file, each.line, f"'{each.word}' hides nothing here; take it out", each.column)


RULES = (not_understood, hides_nothing)
