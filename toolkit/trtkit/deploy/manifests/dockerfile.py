# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Dockerfiles: instructions with their lines, and the stages they make."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

_DIRECTIVE = re.compile(r"#\s*escape\s*=\s*(`|\\)\s*", flags=re.IGNORECASE)
_HEREDOC = re.compile(r"<<-?\s*([\"']?)([A-Za-z_][A-Za-z0-9_]*)\1")
_VARIABLE = re.compile(r"\$(?:\{(\w+)(:?-[^{}]*)?\}|(\w+))")
_NESTING = 5
_ASSIGNED = re.compile(r"([A-Za-z_][A-Za-z0-9_.]*)=(\"(?:[^\"\\]|\\.)*\"|'[^']*'|(?:[^\s\\]|\\.)*)")


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        word: in capitals, e.g. ``RUN``.
        rest: what follows, its lines joined with blanks.
        line, last_line: from 1.
    """

    word: str
    rest: str
    line: int
    last_line: int

    @property
    def words(self) -> list[str]:
        """The words of CMD, ENTRYPOINT and HEALTHCHECK CMD, of either form."""
        text = self.rest.strip()
        if text.startswith("["):
            try:
                found = json.loads(text)
            except (ValueError, RecursionError):
                return text.split()
            return [str(each) for each in found] if isinstance(found, list) else []
        return text.split()

    @property
    def assigned(self) -> dict[str, str]:
        """The variables that ENV or ARG sets."""
        found = {name: value.strip("\"'") for name, value in _ASSIGNED.findall(self.rest)}
        if not found and self.word == "ENV" and len(parts := self.rest.split(None, 1)) == 2:
            found = {parts[0]: parts[1]}
        return found


@dataclass(frozen=True)
class Stage:
    """What one FROM begins.

    Attributes:
        base: the image or the stage it is made from, with build arguments replaced by their defaults.
        name: after AS, in small letters; '' where there is none.
        start: the FROM.
        own: the instructions after it.
        before: the stage it is made from; None for an image.
    """

    base: str
    name: str
    start: Instruction
    own: tuple[Instruction, ...]
    before: Stage | None = None

    @property
    def image(self) -> str:
        """The image at the bottom."""
        return self.chain[-1].base

    @property
    def chain(self) -> list[Stage]:
        """It, and the stages it is made from."""
        found, stage = [self], self.before
        while stage is not None:
            found.append(stage)
            stage = stage.before
        return found

    @property
    def all(self) -> list[Instruction]:
        """The instructions of the stages it is made from, and its own."""
        return [each for stage in reversed(self.chain) for each in stage.own]

    def last(self, word: str) -> Instruction | None:
        """The instruction that counts, of those of which only the last does."""
        return next((each for each in reversed(self.all) if each.word == word), None)


def instructions(text: str) -> list[Instruction]:
    """All instructions; comments, blank lines and what is in here-documents belong to none or to the one above."""
    lines = text.replace("\r\n", "\n").split("\n")
    directive = _DIRECTIVE.fullmatch(lines[0].strip())
    escape = directive[1] if directive else "\\"
    found, number = list[Instruction](), 0
    while number < len(lines):
        if not lines[number].strip() or lines[number].lstrip().startswith("#"):
            number += 1
            continue
        start = number
        parts, number = _joined(lines, number, escape)
        number, body = _heredocs(lines, number, parts)
        word, _, rest = " ".join(parts).strip().partition(" ")
        found.append(Instruction(word.upper(), " ".join([rest.strip(), *body]).strip(), start + 1, number))
    return found


def _joined(lines: list[str], number: int, escape: str) -> tuple[list[str], int]:
    """The lines of one instruction without their continuation marks, and the number of the line after it."""
    parts: list[str] = []
    while number < len(lines):
        line = lines[number].strip()
        number += 1
        if parts and (not line or line.startswith("#")):
            continue
        parts.append(line.removesuffix(escape).strip())
        if not line.endswith(escape):
            break
    return parts, number


def _heredocs(lines: list[str], number: int, parts: list[str]) -> tuple[int, list[str]]:
    """The number of the line after the instruction's here-documents, and their lines."""
    body: list[str] = []
    for _, mark in _HEREDOC.findall(" ".join(parts)) if parts and parts[0].upper().startswith(("RUN", "COPY")) else ():
        while number < len(lines) and lines[number].strip() != mark:
            body.append(f"{lines[number].strip()} ;")
            number += 1
        number += 1
    return min(number, len(lines)), body


def stages(text: str) -> list[Stage]:
    """The stages of a Dockerfile, in their order; [] for a text without FROM."""
    given, found, named = dict[str, str](), list[Stage](), dict[str, Stage]()
    start, own = None, list[Instruction]()
    for each in [*instructions(text), Instruction("FROM", "", 0, 0)]:
        if each.word != "FROM":
            if start is None:
                given.update(each.assigned if each.word == "ARG" else {})
            own.append(each)
            continue
        if start is not None:
            stage = _stage(start, tuple(own), given, named)
            found.append(stage)
            named[stage.name or str(len(found) - 1)] = stage
        start, own = each, []
    return found


def _stage(start: Instruction, own: tuple[Instruction, ...], given: dict[str, str], named: dict[str, Stage]) -> Stage:
    words = [word for word in start.rest.split() if not word.startswith("--")]
    base = replaced(words[0], given) if words else ""
    name = words[2].lower() if len(words) > 2 and words[1].upper() == "AS" else ""
    return Stage(base, name, start, own, named.get(base.lower()))


def replaced(text: str, values: dict[str, str]) -> str:
    """A text with ``$NAME``, ``${NAME}`` and ``${NAME:-default}`` replaced as far as they are known."""

    def value(found: re.Match[str]) -> str:
        name, default = (found[1] or found[3]), found[2]
        return values.get(name) or (default.lstrip(":")[1:] if default else "") or found[0]

    for _ in range(_NESTING):  # a default may hold another variable
        text, before = _VARIABLE.sub(value, text), text
        if text == before:
            break
    return text
