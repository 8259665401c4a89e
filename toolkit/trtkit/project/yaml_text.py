# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""YAML text to plain values that remember where they stood, with everything dangerous refused.

Refused, each with its line and column: tags (``!!python/object``), duplicate keys, anchors whose expansion
passes a budget ("billion laughs"), nesting deeper than any project file needs, files over a size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from trtkit.errors import ProjectError

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
MAX_NODES = 50_000

Path_ = tuple[str | int, ...]
Positions = dict[Path_, tuple[int, int]]

_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
_PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map")}


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
    try:
        _check_depth(text, name)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        where = f"{mark.line + 1}:{mark.column + 1}: " if mark else ""
        raise ProjectError(f"{name}:{where}not valid YAML: {exc.problem or exc.context}") from exc
    except yaml.YAMLError as exc:
        raise ProjectError(f"{name}: not valid YAML: {' '.join(str(exc).split())}") from exc
    positions: Positions = {(): (1, 1)}
    if node is None:
        return None, positions
    return _Reader(name, positions).value(node, ()), positions


def _check_depth(text: str, name: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
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
        if node.tag == "tag:yaml.org,2002:timestamp":
            return str(node.value)
        if node.tag not in _PLAIN:
            raise ProjectError(
                f"{self.name}{_at(node)}the tag '{node.tag}' is refused: trtkit.yaml holds plain values only"
            )
        self.positions.setdefault(path, (node.start_mark.line + 1, node.start_mark.column + 1))
        if isinstance(node, yaml.MappingNode):
            return dict(self._items(node, path))
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _scalar(self, node: Any) -> Any:
        if node.tag == "tag:yaml.org,2002:str" and node.style is None and _EXPONENT.fullmatch(node.value):
            return float(node.value)  # YAML 1.1 reads 1e-3 as text
        try:
            return self.scalars.construct_object(node)
        except (ValueError, yaml.YAMLError) as exc:
            raise ProjectError(f"{self.name}{_at(node)}'{node.value}' is no valid value") from exc

    def _items(self, node: yaml.MappingNode, path: Path_) -> Iterator[tuple[str, Any]]:
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                raise ProjectError(f"{self.name}{_at(key_node)}a key has to be plain text")
            key = str(key_node.value)
            if key in seen:
                raise ProjectError(
                    f"{self.name}{_at(key_node)}'{key}' stands twice; it was already given in line {seen[key]}"
                )
            seen[key] = key_node.start_mark.line + 1
            self.positions[(*path, key)] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            yield key, self.value(value_node, (*path, key))
