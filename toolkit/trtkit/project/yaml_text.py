# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""YAML text to plain values that remember where they stood, with everything dangerous refused.

Refused, each with its line and column: tags (``!!python/object``), duplicate keys, anchors whose expansion
passes a budget ("billion laughs"), nesting deeper than any project file needs, files over a size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from trtkit.errors import ProjectError

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
MAX_NODES = 50_000

Path_ = tuple[str | int, ...]
Positions = dict[Path_, tuple[int, int]]

_EXPONENT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+")
_YAML = "tag:yaml.org,2002:"
_SCALARS = {_YAML + kind for kind in ("str", "int", "float", "bool", "null", "timestamp")}
_TAGS: dict[type[yaml.Node], set[str]] = {
    yaml.ScalarNode: _SCALARS,
    yaml.SequenceNode: {_YAML + "seq"},
    yaml.MappingNode: {_YAML + "map"},
}
_INTEGER_BITS = 64  # no field of a ModelConfig holds more


def read_yaml(text: str, name: str) -> tuple[Any, Positions]:
    """Parse one YAML document.

    Args:
        text: the document.
        name: the file's name, for error messages.

    Returns:
        The value, and the 1-based (line, column) of every key or item by its path; a key's path points at
        the key itself.

    Raises:
        ProjectError: it is no YAML, or holds something refused (see the module).
    """
    if len(text) > MAX_BYTES:
        raise ProjectError(f"{name}: {len(text)} characters; a project file has at most {MAX_BYTES}")
    text = text.removeprefix("\ufeff")
    with _yaml_errors(text, name):
        _check_depth(text, name)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    positions: Positions = {(): (1, 1)}
    if node is None:
        return None, positions
    return _Reader(name, positions).value(node, ()), positions


def line_and_column(text: str, index: int) -> str:
    """``LINE:COLUMN``, from 1, of a character of a text."""
    return f"{text.count(chr(10), 0, index) + 1}:{index - text.rfind(chr(10), 0, index)}"


def shown(text: str) -> str:
    """A user's text as one short, quoted line."""
    return repr(text if len(text) <= 60 else f"{text[:60]}…")


@contextmanager
def _yaml_errors(text: str, name: str) -> Iterator[None]:
    """The one place where PyYAML's errors become ours."""
    try:
        yield
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        where = f"{mark.line + 1}:{mark.column + 1}: " if mark else ""
        problem = exc.problem or ""
        told = f"{exc.context} {problem}" if problem.startswith("but ") or not problem else problem
        raise ProjectError(f"{name}:{where}not valid YAML: {told}") from exc
    except yaml.reader.ReaderError as exc:
        where, character = line_and_column(text, exc.position), text[exc.position]
        raise ProjectError(f"{name}:{where}: not valid YAML: the character {character!a} is not allowed") from exc


def _events(text: str, name: str) -> Iterator[yaml.Event]:
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_event():
            yield loader.get_event()  # type: ignore[no-untyped-call]
    except (ValueError, OverflowError) as exc:  # PyYAML hands "\\UFFFFFFFF" to chr() as it is
        mark = loader.get_mark()
        raise ProjectError(
            f"{name}:{mark.line + 1}:{mark.column + 1}: not valid YAML: an escape that is no character"
        ) from exc
    finally:
        loader.dispose()


def _check_depth(text: str, name: str) -> None:
    depth = 0
    for event in _events(text, name):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise ProjectError(f"{name}{_at(event)}nested deeper than {MAX_DEPTH} levels")


def _at(thing: Any) -> str:
    return f":{thing.start_mark.line + 1}:{thing.start_mark.column + 1}: "


class _Reader:
    """Walks a node tree once, counting what it makes; `positions` is filled on the way."""

    def __init__(self, name: str, positions: Positions) -> None:
        self.name, self.positions, self.count = name, positions, 0
        self.scalars = yaml.SafeLoader("")

    def value(self, node: yaml.Node, path: Path_) -> Any:
        self.count += 1
        if self.count > MAX_NODES or len(path) > MAX_DEPTH:
            raise ProjectError(
                f"{self.name}{_at(node)}the anchors of this file expand to too much; write it out plainly"
            )
        self._check_tag(node)
        self.positions.setdefault(path, (node.start_mark.line + 1, node.start_mark.column + 1))
        if isinstance(node, yaml.MappingNode):
            return dict(self._items(node, path))
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _check_tag(self, node: yaml.Node) -> None:
        if node.tag not in _TAGS[type(node)]:
            raise ProjectError(
                f"{self.name}{_at(node)}the tag {shown(node.tag)} is refused: trtkit.yaml holds plain values only"
            )

    def _scalar(self, node: Any) -> Any:
        if node.tag == f"{_YAML}timestamp":
            return str(node.value)
        if node.tag == f"{_YAML}str" and node.style is None and _EXPONENT.fullmatch(node.value):
            return float(node.value)  # YAML 1.1 reads 1e-3 as text
        try:
            value = self.scalars.construct_object(node)
            if isinstance(value, str):
                value.encode()  # "\\ud800" is no text
            if isinstance(value, int) and value.bit_length() > _INTEGER_BITS:
                raise ValueError("too large")
        except (ValueError, LookupError, OverflowError, yaml.YAMLError) as exc:
            raise ProjectError(f"{self.name}{_at(node)}{shown(node.value)} is no valid value") from exc
        return value

    def _items(self, node: yaml.MappingNode, path: Path_) -> Iterator[tuple[str, Any]]:
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == f"{_YAML}merge":
                raise ProjectError(f"{self.name}{_at(key_node)}a key has to be plain text")
            self._check_tag(key_node)
            key = str(key_node.value)
            if not key.isprintable():
                raise ProjectError(f"{self.name}{_at(key_node)}the key {shown(key)} holds unprintable characters")
            if key in seen:
                raise ProjectError(
                    f"{self.name}{_at(key_node)}{shown(key)} stands twice; it was already given in line {seen[key]}"
                )
            seen[key] = key_node.start_mark.line + 1
            self.positions[(*path, key)] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            yield key, self.value(value_node, (*path, key))
