# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Comments that tell lint to be silent: ``# trtkit: ignore=BAT002,BAT003``, in a config or a Python file.

At the end of a line it is for that line and the fields that start there; alone on a line for the field that
follows, whole; ``ignore-file=`` alone before the first field for the whole model (in Python: for the file).
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trtkit.lint.finding import Edit
from trtkit.lint.selection import Words, codes_of, nearest_word
from trtkit.pbtxt import Comment, Document

if TYPE_CHECKING:
    from trtkit.lint.model import Found, Model

_COMMENT = re.compile(r"#\s*trtkit:(?P<rest>[^#\r\n]*)")
_RIGHT = re.compile(r"\s*(?P<verb>ignore|ignore-file)\s*=\s*(?P<list>[A-Za-z0-9_-]+(?:\s*,\s*[A-Za-z0-9_-]+)*)\s*$")
_PYTHON_LINE = re.compile(r"(?P<code>[^#\n]*)(?P<comment>#[^\n]*)")
_WHOLE_FILE = 1 << 60


@dataclass(eq=False)
class Ignore:
    """One word of a comment.

    Attributes:
        word: as it is written.
        codes: what it stands for.
        line, column: of the word.
        first, last: the lines it is for.
        whole: whether it is for the whole model.
        removal: what takes the word out, or the comment when it was its only one.
        used: whether a finding was left out for it.
    """

    word: str
    codes: frozenset[str]
    line: int
    column: int
    first: int
    last: int
    whole: bool
    removal: Edit
    used: bool = False


@dataclass(frozen=True)
class Misuse:
    """A comment, or a word of one, that means nothing."""

    line: int
    column: int
    message: str
    removal: Edit


@dataclass
class Sheet:
    """What the comments of one file say."""

    ignores: list[Ignore] = field(default_factory=list)
    misuses: list[Misuse] = field(default_factory=list)

    def hides(self, code: str, line: int | None) -> bool:
        """Whether a finding is to be left out; every word that says so counts as used."""
        found = [each for each in self.ignores if code in each.codes and _covers(each, line)]
        for each in found:
            each.used = True
        return bool(found)


def _covers(ignore: Ignore, line: int | None) -> bool:
    return ignore.whole or (line is not None and ignore.first <= line <= ignore.last)


class Ignores:
    """The comments of one model's files, and what they did.

    Attributes:
        said_all: the codes of the rules that were applied and would find no more if more was known of the server.
    """

    def __init__(self, words: Words) -> None:
        self.words, self.said_all = words, set[str]()
        self.sheets: dict[str, Sheet] = {}

    def unused(self, ignore: Ignore) -> bool:
        """Whether a word of a comment surely hides nothing."""
        return not ignore.used and ignore.codes <= self.said_all

    def hides(self, view: Model, code: str, found: Found) -> bool:
        """Whether a finding of a view of the model is to be left out."""
        config = self.of_config(view)
        own = config if found.file == view.path(view.config_file) else self.of_python(view, found.file)
        hidden = own.hides(code, found.line) if own else False
        return config.hides(code, None) or hidden

    def of_config(self, view: Model) -> Sheet:
        """Those of the config that a view looks at."""
        file = view.path(view.config_file)
        if file not in self.sheets:
            self.sheets[file] = config_sheet(view.document, self.words) if view.document else Sheet()
        return self.sheets[file]

    def of_python(self, view: Model, file: str) -> Sheet | None:
        """Those of a Python file, by its path in the tree; None for another kind of file."""
        if not file.endswith(".py"):
            return None
        if file not in self.sheets:
            try:
                text = view.read(file[len(view.path()) :].lstrip("/")).decode("utf-8", "surrogateescape")
            except OSError:
                text = ""
            self.sheets[file] = python_sheet(text, self.words)
        return self.sheets[file]


def config_sheet(document: Document, words: Words) -> Sheet:
    """The comments of a config."""
    sheet, text = Sheet(), document.text
    if "trtkit:" not in text:
        return sheet
    starts = sorted((span.start, span.end) for path, span in document.spans.items() if path)
    first_field = starts[0][0] if starts else len(text)
    for comment in document.comments:
        place = _Place(text, comment, document.position(comment.offset))
        before = comment.offset < first_field
        _read(sheet, place, words, before, _config_lines(document, comment, starts, place.line))
    return sheet


def _config_lines(document: Document, comment: Comment, starts: list[tuple[int, int]], line: int) -> tuple[int, int]:
    """The lines a comment of a config is for."""
    text = document.text
    if not comment.alone:
        opened = text.rfind("\n", 0, comment.offset) + 1
        ends = [end for start, end in starts if opened <= start < comment.offset]
        return line, document.position(max(ends, default=comment.offset))[0]
    index = bisect_right(starts, (comment.offset, _WHOLE_FILE))
    if index == len(starts) or _without_comments(text[comment.offset : starts[index][0]]):
        return line, line
    start = starts[index][0]
    end = max(end for begin, end in starts[index:] if begin == start)
    return document.position(start)[0], document.position(end - 1)[0]


def _without_comments(text: str) -> str:
    return re.sub(r"#[^\n]*", "", text).strip()


def python_sheet(text: str, words: Words) -> Sheet:
    """The comments of a Python file, whether it can be parsed or not."""
    return sheet_of(text, words, _statements, _python_comments)


def sheet_of(
    text: str, words: Words, blocks_of: Callable[[str], dict[int, int]],
    comments_of: Callable[[str], list[tuple[int, int, str]]],
) -> Sheet:  # fmt: skip
    """The comments of a file of any kind.

    Args:
        text: all of it.
        words: what a comment can name.
        blocks_of: by the first line of what a comment can be for, its last line.
        comments_of: line, column and text of every comment.
    """
    sheet = Sheet()
    if "trtkit:" not in text:
        return sheet
    blocks = blocks_of(text)
    first_statement = min(blocks, default=_WHOLE_FILE)
    offsets = [0, *(found.end() for found in re.finditer("\n", text))]
    for line, column, body in comments_of(text):
        offset = offsets[line - 1] + column - 1
        alone = not text[offsets[line - 1] : offset].strip()
        place = _Place(text, Comment(offset, body, alone), (line, column))
        following = min((start for start in blocks if start > line), default=line + 1)
        lines = (following, blocks.get(following, following)) if alone else (line, blocks.get(line, line))
        _read(sheet, place, words, line < first_statement, lines)
    return sheet


def _statements(text: str) -> dict[int, int]:
    """By the first line of a statement, its last; empty for a text that is no Python."""
    try:
        nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.stmt)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    found: dict[int, int] = {}
    for node in nodes:
        first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
        found[first] = max(found.get(first, 0), node.end_lineno or node.lineno)
    return found


def _python_comments(text: str) -> list[tuple[int, int, str]]:
    """Line, column and text of every comment; by lines where the file cannot be read as Python."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError, ValueError):
        lines = ((number, _PYTHON_LINE.match(line)) for number, line in enumerate(text.split("\n"), 1))
        return [(number, found.start("comment") + 1, found["comment"]) for number, found in lines if found]
    return [(each.start[0], each.start[1] + 1, each.string) for each in tokens if each.type == tokenize.COMMENT]


@dataclass(frozen=True)
class _Place:
    """A comment in its text."""

    text: str
    comment: Comment
    position: tuple[int, int]

    @property
    def line(self) -> int:
        return self.position[0]

    def edit(self, start: int, end: int) -> Edit:
        """Take out a part of the comment, from and to an offset in it."""
        return Edit(self.comment.offset + start, self.comment.offset + end, "")

    def removal(self, start: int) -> Edit:
        """Take out the comment from an offset in it, with the spaces before it or the line it leaves empty."""
        text, offset = self.text, self.comment.offset + start
        end = text.find("\n", offset)
        end = len(text) if end < 0 else end
        if self.comment.alone and start == 0:
            return Edit(text.rfind("\n", 0, offset) + 1, min(end + 1, len(text)), "")
        end -= text[:end].endswith("\r")
        return Edit(offset - len(text[:offset]) + len(text[:offset].rstrip(" \t")), end, "")


def _read(sheet: Sheet, place: _Place, words: Words, before: bool, lines: tuple[int, int]) -> None:
    """Add what one comment says, if it is for us at all."""
    found = _COMMENT.search(place.comment.text)
    if found is None:
        return
    right = _RIGHT.match(found["rest"])
    line, column, removal = place.line, place.position[1], place.removal(found.start())
    if right is None:
        says = "the comment is not understood; write `# trtkit: ignore=CODE,CODE` or `# trtkit: ignore-file=CODE`"
        sheet.misuses.append(Misuse(line, column, says, removal))
        return
    whole = right["verb"] == "ignore-file"
    if whole and not (before and place.comment.alone):
        says = "`ignore-file` stands alone on a line before the first field; here it does nothing"
        sheet.misuses.append(Misuse(line, column, says, removal))
        return
    for word, start, own in _words(place, found.start("rest") + right.start("list"), right["list"]):
        taken = own or removal
        codes = codes_of(word, words)
        if codes:
            sheet.ignores.append(Ignore(word, codes, line, column + start, *lines, whole, taken))
        else:
            says = f"there is no rule '{word}' to ignore; {nearest_word(word, words)}"
            sheet.misuses.append(Misuse(line, column + start, says, taken))


def _words(place: _Place, offset: int, listed: str) -> Iterator[tuple[str, int, Edit | None]]:
    """Each word, where it starts in the comment, and what removes it with one comma; None for the only one."""
    found = list(re.finditer(r"[A-Za-z0-9_-]+", listed))
    for index, each in enumerate(found):
        removal = None
        if index + 1 < len(found):
            removal = place.edit(offset + each.start(), offset + found[index + 1].start())
        elif index:
            removal = place.edit(offset + found[index - 1].end(), offset + each.end())
        yield each.group(), offset + each.start(), removal
