# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""From paths to findings."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trtkit.deploy.manifests.fileset import FileSet, Known
from trtkit.deploy.manifests.rules import RULES
from trtkit.deploy.manifests.sources import find_files, read_source
from trtkit.errors import ProjectError
from trtkit.lint.finding import Finding
from trtkit.lint.outcome import Outcome, Wording
from trtkit.lint.places import Place
from trtkit.lint.rule import Rule
from trtkit.lint.selection import words_of
from trtkit.lint.tree import LocalTree

WORDING = Wording("trtkit deploy lint", "file", "object")
_LAST = "CMT"
"""The category of the rules about comments, which look at what the others found."""
_LONGEST = 1000


@dataclass(frozen=True)
class Linted:
    """What lint found in some files.

    Attributes:
        outcome: the findings; its models are the files.
        skipped: sentences about files that were not judged.
    """

    outcome: Outcome
    skipped: tuple[str, ...]


def lint_files(paths: Sequence[str], rules: Sequence[Rule] = RULES, known: Known | None = None) -> Linted:
    """Lint files and folders, all together: what one file says counts for the others.

    Args:
        paths: manifests, Dockerfiles, scripts, or folders of them.
        rules: those to apply.
        known: what people say beside the files.

    Raises:
        ProjectError: a path does not exist, or none of the files can be judged.
    """
    found = find_files(paths)
    root = Path(os.path.commonpath([path.parent for path in found]))
    sources = [read_source(path, path.relative_to(root).as_posix()) for path in found]
    files = FileSet(sources, known or Known(), words_of(RULES))
    findings = findings_of(files, rules)
    judged = tuple(each.file for each in sources if not each.skipped and each.file not in files.patches)
    outcome = Outcome(Place(LocalTree(root), ()), judged, tuple(findings), WORDING)
    skipped = tuple(_skipped(files, outcome))
    if not judged:
        raise ProjectError(f"nothing was judged: {'; '.join(skipped)}")
    return Linted(outcome, skipped)


def _skipped(files: FileSet, outcome: Outcome) -> list[str]:
    whys = {each.file: each.skipped for each in files.sources if each.skipped}
    for patch, by in files.patches.items():
        if any(each.file == patch for each in files.sources):
            whys[patch] = f"{outcome.shown(by)} lists it as a patch; lint what `kubectl kustomize` prints"
    together: dict[tuple[str, str], list[str]] = {}
    for file, why in whys.items():
        together.setdefault((posixpath.dirname(file), why), []).append(outcome.shown(file))
    return [f"{_several(names)} left out: {why}" for (_, why), names in together.items()]


def _several(names: list[str]) -> str:
    return f"{names[0]} is" if len(names) == 1 else f"{names[0]} and {len(names) - 1} more in its folder are"


def findings_of(files: FileSet, rules: Sequence[Rule]) -> list[Finding]:
    """What the rules find, by file and line, less what comments tell to ignore."""
    found: list[Finding] = []
    for each in sorted(rules, key=lambda rule: rule.category == _LAST):
        for one in each.check(files):
            sheet = files.sheet(one.file)
            if sheet is None or not sheet.hides(each.code, one.line):
                message = _shown(one.message)
                subject = files.subject(one.file, one.line)
                found.append(
                    Finding(each.code, each.name, each.severity, subject, one.file, message, one.line, one.column)
                )
        if files.known.complete or not each.depends_on_server:
            files.said_all.add(each.code)
    return sorted(dict.fromkeys(found), key=lambda f: (f.file, f.line or 0, f.column or 0, f.code))


def _shown(message: str) -> str:
    """A message in one line that a terminal can show, whatever stands in the names it quotes."""
    if not message.isprintable():
        message = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
    return message if len(message) <= _LONGEST else f"{message[:_LONGEST]}…"
