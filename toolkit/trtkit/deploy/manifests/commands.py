# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Command lines, wherever they stand, as words that know their place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

from trtkit.deploy.manifests.dockerfile import Instruction
from trtkit.deploy.manifests.known_triton import OPTIONS
from trtkit.deploy.manifests.nodes import Node
from trtkit.deploy.manifests.sources import Source, is_block

_WORD = re.compile(r"(?:[^\s\"';|&]|\"[^\"]*\"|'[^']*')+|[;|&]+|\n")
_SEPARATORS = (";", "|", "&", "\n")
_FENCE = re.compile(r"\s*(```+|~~~+)\s*(\w*)")
_SHELLS = {"sh", "bash", "shell", "console", "zsh", ""}
SERVER = "tritonserver"


class Spot(Protocol):
    """Anything with a place."""

    @property
    def file(self) -> str:
        """From the root, with slashes."""

    @property
    def line(self) -> int:
        """From 1."""

    @property
    def column(self) -> int:
        """From 1."""


@dataclass(frozen=True)
class Word:
    """A word of a command line, without quotes."""

    text: str
    file: str
    line: int
    column: int


@dataclass(frozen=True)
class Flag:
    """An option: ``--name=value`` or ``--name value``."""

    name: str
    value: str
    word: Word


def split(text: str, file: str, line: int, column: int = 1) -> list[Word]:
    """The words of a shell's text; line ends are words too, unless a backslash stands before them."""
    text = re.sub(r"\\\n", lambda found: " \r", text)  # keeps the line's number, and is no end of a command
    found = []
    for match in _WORD.finditer(text):
        above = text[: match.start()]
        start = max(above.rfind("\n"), above.rfind("\r"))
        number = line + above.count("\n") + above.count("\r")
        word = match.group() if match.group() == "\n" else match.group().strip("\"'")
        place = match.start() - start if start >= 0 else column + match.start()
        if SERVER in word and re.search(r"\s", word):  # sh -c "tritonserver …"
            found += [Word("\n", file, number, place), *split(word, file, number, place + 1)]
        else:
            found.append(Word(word, file, number, place))
    return found


def of_node(node: Node) -> list[Word]:
    """The words of a command: a list of them, or one text."""
    if node.text:
        return split(node.text, node.file, node.line + is_block(node), node.column)
    words: list[Word] = []
    for each in node.items:
        if re.search(r"\s", each.text):
            words += split(each.text, each.file, each.line + is_block(each), each.column)
        else:
            words.append(Word(each.text, each.file, each.line, each.column))
    return words


def of_instruction(instruction: Instruction, file: str) -> list[Word]:
    """The words of a Dockerfile's CMD or ENTRYPOINT."""
    words = [word for text in instruction.words for word in split(text, file, instruction.line)]
    return [Word(each.text, file, instruction.line, 1) for each in words]


def in_source(source: Source) -> Iterator[list[Word]]:
    """The commands of a script, or of the shell's examples in a Markdown file."""
    text = source.text if source.kind == "script" else _examples(source.text)
    lines = [re.sub(r"(^|\s)#.*", "", line) for line in text.split("\n")]
    yield from commands(split("\n".join(lines), source.file, 1))


def _examples(text: str) -> str:
    """A Markdown text with everything blank that is no example of a shell."""
    kept, inside, fence = list[str](), False, ""
    for line in text.split("\n"):
        found = _FENCE.match(line)
        if found and (not fence or found[1].startswith(fence)):
            inside, fence = (not fence and found[2].lower() in _SHELLS), "" if fence else found[1]
            kept.append("")
        else:
            kept.append(re.sub(r"^\s*\$ ", "", line) if inside else "")
    return "\n".join(kept)


def commands(words: Sequence[Word]) -> Iterator[list[Word]]:
    """The commands that a shell's words make."""
    command: list[Word] = []
    for word in [*words, Word("\n", "", 0, 0)]:
        if word.text.startswith(_SEPARATORS):
            if command:
                yield command
            command = []
        else:
            command.append(word)


def server_words(words: Sequence[Word]) -> list[Word] | None:
    """What stands after ``tritonserver`` in a command line; None where it is not called."""
    for index, word in enumerate(words):
        if word.text.rpartition("/")[2] == SERVER:
            return list(takewhile(lambda each: not each.text.startswith(_SEPARATORS), words[index + 1 :]))
    return None


def flags(words: Sequence[Word]) -> list[Flag]:
    """The options among some words."""
    found = []
    for index, word in enumerate(words):
        name, equals, value = word.text.partition("=")
        if not re.fullmatch(r"--[a-z][a-z0-9-]*", name):
            continue
        following = words[index + 1].text if index + 1 < len(words) else ""
        given = value if equals else "" if following.startswith("-") else following
        found.append(Flag(full_name(name[2:]), given.strip("\"'"), word))
    return found


def full_name(name: str) -> str:
    """An option's whole name: like getopt_long, tritonserver takes the beginning of one where it fits only one."""
    fitting = [each for each in OPTIONS if each.startswith(name)]
    return fitting[0] if len(fitting) == 1 and name not in OPTIONS else name
