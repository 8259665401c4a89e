# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The text of a template: YAML, in which markers become expressions of Helm and other braces stand for themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from trtkit.deploy.kubernetes.helm.collected import Hole
from trtkit.deploy.yaml_out import dump

_MARKER = re.compile(r"HOLE\d+ELOH")
_ENTRY = re.compile(r"^(?P<indent> *)(?P<dash>- )?(?P<key>[^ #][^#]*?): (?P<marker>HOLE\d+ELOH)(?P<why>  # .*)?$")
_AROUND = re.compile(r"^(?P<indent> *)- (?P<marker>HOLE\d+ELOH)(?P<side>BEGIN|END)$")
_ITEM = re.compile(r"^(?P<indent> *)- (?P<marker>HOLE\d+ELOH)(?P<why>  # .*)?$")
# a text with markers in it that stands without quotes
_WORDS = re.compile(r"^(?P<head> *(?:- )?[A-Za-z][A-Za-z0-9]*: )(?P<text>[^\s\"'|>#{\[]*HOLE\d+ELOH[^\s\"'#]*)$")


def template(tree: Any, holes: Mapping[str, Hole], switch: str | None) -> str:
    """One template file.

    Args:
        tree: of `merging.merge`.
        holes: by marker.
        switch: the value that decides whether the object is there; None for one that always is.
    """
    lines = [_line(line, holes) for line in escaped(dump(tree)).splitlines()]
    body = "\n".join(lines)
    return f"{{{{- if {switch} }}}}\n{body}\n{{{{- end }}}}\n" if switch else f"{body}\n"


def escaped(text: str) -> str:
    """A text that Helm leaves as it is."""
    return text.replace("{{", '{{ "{{" }}')


def _line(line: str, holes: Mapping[str, Hole]) -> str:
    around = _AROUND.match(line)
    if around is not None:
        word = f"if {holes[around['marker']].expression}" if around["side"] == "BEGIN" else "end"
        return f"{around['indent']}{{{{- {word} }}}}"
    entry = _ENTRY.match(line)
    if entry is not None and not holes[entry["marker"]].word:
        return _entry(entry, holes[entry["marker"]])
    item = _ITEM.match(line)
    if item is not None and not holes[item["marker"]].word:
        return f"{item['indent']}- {{{{ {_value(holes[item['marker']])} | toJson }}}}"
    words = _WORDS.match(line)
    quoted = f'{words["head"]}"{words["text"]}"' if words is not None else line
    return _MARKER.sub(lambda found: f"{{{{ {holes[found[0]].expression} }}}}", quoted)


def _entry(entry: re.Match[str], hole: Hole) -> str:
    """A field that is a value as a whole."""
    indent, dash, key = entry["indent"], entry["dash"] or "", entry["key"]
    if hole.block:
        width = len(indent) + len(dash) + 2
        line = f"{indent}{dash}{key}: {{{{- toYaml {hole.expression} | nindent {width} }}}}"
    else:
        line = f"{indent}{dash}{key}: {{{{ {_value(hole)} | toJson }}}}"
    if not hole.optional:
        return line
    return f'{indent}{{{{- if not (kindIs "invalid" {hole.expression}) }}}}\n{line}\n{indent}{{{{- end }}}}'


def _value(hole: Hole) -> str:
    return f"index {hole.expression} 0" if hole.inside else hole.expression
