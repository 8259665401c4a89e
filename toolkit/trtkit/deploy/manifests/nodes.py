# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""YAML (and JSON, which is YAML) with the place of every value; what is absent is a node too, and it is false."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEPTH = 200
"""How deep mappings and lists may stand in each other; what is deeper is nobody's manifest."""
_TRUE = {"true", "yes", "on"}
_FALSE = {"false", "no", "off"}


@dataclass(frozen=True)
class Node:
    """A value in a document.

    Attributes:
        file: from the root, with slashes.
        raw: PyYAML's node; None for a value that is not there.
        mark: line and column, from 0: of the key where a mapping or list has one, else of the value; of what is
            around it where there is no value.
        shift: lines and columns to add, for a document inside another one's text.
    """

    file: str
    raw: yaml.Node | None = field(compare=False)
    mark: tuple[int, int] = (0, 0)
    shift: tuple[int, int] = field(default=(0, 0), compare=False)

    def __bool__(self) -> bool:
        return self.raw is not None and self.raw.tag != "tag:yaml.org,2002:null"

    def __getitem__(self, key: str) -> Node:
        found = _lookup(self.raw, key)
        if found is None:
            return Node(self.file, None, self.mark, self.shift)
        return Node(self.file, found[1], _mark(*found), self.shift)

    def at(self, *keys: str) -> Node:
        """A value further down."""
        node = self
        for key in keys:
            node = node[key]
        return node

    @property
    def line(self) -> int:
        """From 1."""
        return self.mark[0] + self.shift[0] + 1

    @property
    def column(self) -> int:
        """From 1."""
        return self.mark[1] + self.shift[1] + 1

    @property
    def last_line(self) -> int:
        """The last line of the value, from 1."""
        if self.raw is None:
            return self.line
        end = self.raw.end_mark
        return max(self.line, end.line + self.shift[0] + (1 if end.column else 0))

    @property
    def is_map(self) -> bool:
        """Whether it is a mapping."""
        return isinstance(self.raw, yaml.MappingNode)

    @property
    def text(self) -> str:
        """A scalar as it is written, without quotes; '' for anything else."""
        return str(self.raw.value) if isinstance(self.raw, yaml.ScalarNode) and self else ""

    @property
    def number(self) -> float | None:
        """A scalar as a finite number; None where it is none."""
        try:
            value = float(self.text) if "_" not in self.text else math.nan
        except ValueError:
            return None
        return value if math.isfinite(value) else None

    @property
    def truth(self) -> bool | None:
        """A scalar as a boolean; None where it is none."""
        word = self.text.lower()
        return True if word in _TRUE else False if word in _FALSE else None

    @property
    def items(self) -> list[Node]:
        """A list's values; [] for anything else."""
        if not isinstance(self.raw, yaml.SequenceNode):
            return []
        return [Node(self.file, each, _mark(None, each), self.shift) for each in self.raw.value]

    @property
    def fields(self) -> dict[str, Node]:
        """A mapping's values by their keys, those of a merge (`<<`) too; {} for anything else."""
        found: dict[str, Node] = {}
        for key, value in _pairs(self.raw):
            found.setdefault(str(key.value), Node(self.file, value, _mark(key, value), self.shift))
        return found

    def walk(self) -> Iterator[tuple[str, Node]]:
        """Every value below, with its key ('' in a list), each once even where it has several aliases."""
        waiting, seen = [("", self)], set[int]()
        while waiting:
            key, node = waiting.pop()
            if node.raw is None or id(node.raw) in seen:
                continue
            seen.add(id(node.raw))
            yield key, node
            below = [*node.fields.items(), *(("", each) for each in node.items)]
            waiting += reversed(below)


def _pairs(raw: yaml.Node | None, depth: int = 0) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    """A mapping's own pairs, then those it merges."""
    if not isinstance(raw, yaml.MappingNode) or depth > _DEPTH:
        return
    merged: list[yaml.Node] = []
    for key, value in raw.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value == "<<" and key.tag == "tag:yaml.org,2002:merge":
                merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
            else:
                yield key, value
    for each in merged:
        yield from _pairs(each, depth + 1)


def _lookup(raw: yaml.Node | None, key: str) -> tuple[yaml.ScalarNode, yaml.Node] | None:
    return next(((own, value) for own, value in _pairs(raw) if own.value == key), None)


def _mark(key: yaml.ScalarNode | None, value: yaml.Node) -> tuple[int, int]:
    mark = value.start_mark if key is None or isinstance(value, yaml.ScalarNode) else key.start_mark
    return mark.line, mark.column


@dataclass(frozen=True)
class UnreadableError(Exception):
    """Why a text is no YAML; line and column from 1."""

    reason: str
    line: int
    column: int


def documents(text: str, file: str, shift: tuple[int, int] = (0, 0)) -> list[Node]:
    """The documents of a text, but the empty ones.

    Raises:
        UnreadableError: it is no YAML.
    """
    try:
        raws = [raw for raw in yaml.compose_all(text, Loader=_LOADER) if raw is not None]
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line, column = (mark.line + shift[0] + 1, mark.column + shift[1] + 1) if mark else (shift[0] + 1, 1)
        raise UnreadableError(" ".join(str(exc.problem or exc.context).split()), line, column) from None
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise UnreadableError(" ".join(str(exc).split())[:200], shift[0] + 1, 1) from None
    return [Node(file, raw, _mark(None, raw), shift) for raw in raws]


def embedded(node: Node) -> list[Node]:
    """The documents in a text that stands in a document as a block, with their own places; [] where it is no YAML."""
    raw = node.raw
    if not isinstance(raw, yaml.ScalarNode) or raw.style != "|":
        return []
    try:
        return documents(raw.value, node.file, (node.line, _indent(raw)))
    except UnreadableError:
        return []


def _indent(raw: yaml.ScalarNode) -> int:
    """How far the block is indented, as far as it can be known without the text: two more than its key's column."""
    return max(0, raw.end_mark.column)
