# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Comments that leave findings out: ``# trtkit: ignore=CODE``, at the end of a line or alone above what it is for."""

from __future__ import annotations

import re

from trtkit.deploy.manifests.dockerfile import instructions
from trtkit.deploy.manifests.sources import Source
from trtkit.lint.ignores import Sheet, sheet_of
from trtkit.lint.selection import Words

_COMMENT = re.compile(r"(?:^|\s)(#\s*trtkit:.*)$")


def sheet_for(source: Source, words: Words) -> Sheet:
    """What a file's comments say.

    Args:
        source: the file.
        words: what a comment can name.
    """
    return sheet_of(source.text, words, lambda _: _blocks(source), _comments)


def _blocks(source: Source) -> dict[int, int]:
    """By the first line of a value or an instruction, the last line of the longest that starts there."""
    found: dict[int, int] = {}
    if source.kind == "dockerfile":
        return {each.line: each.last_line for each in instructions(source.text)}
    for root in source.roots:
        for _, node in root.walk():
            found[node.line] = max(found.get(node.line, 0), node.last_line)
    if source.kind in ("script", "python", "dockerignore", "markdown"):
        return {number: number for number, line in enumerate(source.lines, 1) if line.strip() and line[0] != "#"}
    return found


def _comments(text: str) -> list[tuple[int, int, str]]:
    """Line, column and text of every comment for us."""
    lines = ((number, _COMMENT.search(line)) for number, line in enumerate(text.split("\n"), 1))
    return [(number, match.start(1) + 1, match[1]) for number, match in lines if match]
