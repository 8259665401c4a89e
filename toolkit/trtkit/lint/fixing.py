# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Mend what has a fix: in memory until nothing more is to mend, then each changed file at once.

A fix that would leave a file reading worse than before is not applied, and that is said.
"""

from __future__ import annotations

import ast
import difflib
import io
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from trtkit.artifacts import file_errors
from trtkit.config import ModelConfig
from trtkit.errors import RepositoryError
from trtkit.lint.finding import Edit, Finding
from trtkit.lint.outcome import Outcome
from trtkit.lint.tree import OverlaidTree, Tree
from trtkit.pbtxt import read

MAX_ROUNDS = 10
"""A fix may make another one possible; more rounds than this mean that two of them undo each other."""

Relint = Callable[[Tree], Outcome]
"""Lint a place again, with its files read through another tree."""


@dataclass
class Fixed:
    """What fixing did, or would do.

    Attributes:
        outcome: what is left to say.
        before: by file, its bytes as they are on disk.
        after: by file, its bytes with the fixes.
        applied: the findings that were mended.
        refused: those whose fix would have broken the file.
        unfinished: whether there was still something to mend after `MAX_ROUNDS`.
    """

    outcome: Outcome
    before: dict[str, bytes] = field(default_factory=dict)
    after: dict[str, bytes] = field(default_factory=dict)
    applied: list[Finding] = field(default_factory=list)
    refused: list[Finding] = field(default_factory=list)
    unfinished: bool = False

    def write(self) -> None:
        """Put the changed files in place of the old ones.

        Raises:
            RepositoryError: a file was changed meanwhile, or cannot be written; those before it are written.
        """
        root = Path(self.outcome.place.tree.root)
        for file, content in self.after.items():
            _replace_file(root / file, self.before[file], content)

    def diff(self) -> Iterator[str]:
        """The lines of a unified diff, with line ends; `patch -p0` takes them."""
        for file, content in self.after.items():
            name = self.outcome.shown(file)
            for line in difflib.unified_diff(_lines(self.before[file]), _lines(content), name, name):
                yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _lines(content: bytes) -> list[str]:
    return io.StringIO(content.decode("utf-8", "surrogateescape"), newline="\n").readlines()


def fix(outcome: Outcome, relint: Relint) -> Fixed:
    """Apply the fixes of an outcome, lint again, and so on; nothing is written.

    Raises:
        RepositoryError: the repository is no folder of this machine, or a file cannot be read.
    """
    if not outcome.place.local:
        raise RepositoryError(
            f"--fix changes files of this machine only; copy {outcome.place.tree.root} and fix the copy"
        )
    tree, fixed = OverlaidTree(outcome.place.tree), Fixed(outcome)
    for _ in range(MAX_ROUNDS):
        if not _one_round(tree, fixed):
            break
        fixed.outcome = relint(tree)
    else:
        fixed.unfinished = True
    fixed.after = {file: data for file, data in fixed.after.items() if data != fixed.before[file]}
    return fixed


def _one_round(tree: OverlaidTree, fixed: Fixed) -> bool:
    """Apply what does not overlap; whether anything was."""
    refused = {_identity(each) for each in fixed.refused}
    by_file: dict[str, list[Finding]] = {}
    for finding in fixed.outcome.findings:
        if finding.fix is not None and _identity(finding) not in refused:
            by_file.setdefault(finding.file, []).append(finding)
    count = len(fixed.applied)
    for file, findings in by_file.items():
        with file_errors(f"reading {fixed.outcome.shown(file)}"), tree.open(file) as stream:
            before = stream.read()
        fixed.before.setdefault(file, before)
        fixed.after[file] = _mended(file, before, findings, fixed)
        tree.put(file, fixed.after[file])
    return len(fixed.applied) > count


def _identity(finding: Finding) -> tuple[str, str, str]:
    """What stays the same of a finding when lines move."""
    return finding.code, finding.file, finding.message


def _mended(file: str, before: bytes, findings: Sequence[Finding], fixed: Fixed) -> bytes:
    """The file's content with every fix that fits beside those before it and leaves it readable."""
    text = before.decode("utf-8", "surrogateescape")
    taken: list[Edit] = []
    for finding in findings:
        edits = list(finding.fix.edits) if finding.fix else []
        if all(edit in taken for edit in edits):  # two findings, one mistake
            fixed.applied.append(finding)
        elif not _overlap([*taken, *edits]):
            if _reads_worse(file, text, _applied(text, [*taken, *edits])):
                fixed.refused.append(finding)
            else:
                taken += edits
                fixed.applied.append(finding)
    return _applied(text, taken).encode("utf-8", "surrogateescape")


def _overlap(edits: Sequence[Edit]) -> bool:
    """Whether two of them touch the same place; two insertions at one place do."""
    ordered = sorted(edits, key=lambda edit: (edit.start, edit.end))
    return any(second.start < first.end or second.start == first.start for first, second in pairwise(ordered))


def _applied(text: str, edits: Sequence[Edit]) -> str:
    """The text after the edits; a new line ends as the file's other lines do."""
    windows = "\r\n" in text
    for edit in sorted(edits, key=lambda edit: edit.start, reverse=True):
        new = edit.text.replace("\r\n", "\n").replace("\n", "\r\n") if windows else edit.text
        text = text[: edit.start] + new + text[edit.end :]
    return text


def _reads_worse(file: str, before: str, after: str) -> bool:
    """Whether a text has more mistakes than before."""
    if file.endswith(".pbtxt"):
        old, new = (read(text.encode("utf-8", "surrogateescape"), ModelConfig) for text in (before, after))
        return len(new.problems) > len(old.problems)
    return file.endswith(".py") and _is_python(before) and not _is_python(after)


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _replace_file(path: Path, before: bytes, after: bytes) -> None:
    """Write a file beside the old one and rename it into its place, with its mode; a link's target is replaced."""
    target = Path(os.path.realpath(path))
    try:
        if target.read_bytes() != before:
            raise RepositoryError(f"{path} was changed while it was being fixed; run it again")
        _rename_over(target, after)
    except OSError as exc:
        raise RepositoryError(f"{path} cannot be written: {exc.strerror or exc}; it is as it was") from exc


def _rename_over(target: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    written = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        written.chmod(target.stat().st_mode & 0o7777)
        written.replace(target)
    except BaseException:
        with suppress(OSError):
            written.unlink()
        raise
