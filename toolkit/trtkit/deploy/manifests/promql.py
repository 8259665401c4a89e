# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Queries of Prometheus: where they stand in files, and the names of metrics in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from trtkit.deploy.manifests.commands import Word
from trtkit.deploy.manifests.nodes import Node
from trtkit.deploy.manifests.objects import Object
from trtkit.deploy.manifests.sources import Source, is_block

_STRING = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|`[^`]*`")
_COMMENT = re.compile(r"#[^\n]*")
_MATCHERS = re.compile(r"\{[^{}]*\}")
_RANGE = re.compile(r"\[[^\]\[]*\]")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)", flags=re.IGNORECASE)
_NAME = re.compile(r"(?<![\w:$.])[a-zA-Z_:][\w:]*")
_NAMED = re.compile(r"__name__\s*=\s*\"([\w:]+)\"")


@dataclass(frozen=True)
class Query:
    """An expression.

    Attributes:
        text: as it is written.
        node: where it stands.
        kind: ``alert``, ``record``, ``keda``, ``adapter``, ``dashboard`` or ``analysis``.
        around: what it belongs to: the rule, the trigger, the target.
        owner: the object it is in; None for a file of another kind.
    """

    text: str
    node: Node
    kind: str
    around: Node
    owner: Object | None = None

    @property
    def bare(self) -> str:
        """The text with strings, label matchers, ranges, comments and lists of labels blank; of the same length."""
        text = _COMMENT.sub(_blank, _STRING.sub(_quoted, self.text))
        return _GROUPING.sub(_blank, _MATCHERS.sub(_blank, text))

    @property
    def names(self) -> list[Word]:
        """The names in it, functions and keywords among them."""
        text = _RANGE.sub(_blank, self.bare)
        found = [self.word(match.group(), match.start()) for match in _NAME.finditer(text)]
        return found + [self.word(match[1], match.start(1)) for match in _NAMED.finditer(self.text)]

    def word(self, text: str, offset: int) -> Word:
        """A piece of it with its place."""
        below = 1 + self.text.count("\n", 0, offset) if is_block(self.node) else 0
        return Word(text, self.node.file, self.node.line + below, self.node.column)


def _blank(found: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", found.group())


def _quoted(found: re.Match[str]) -> str:
    return "_" + " " * (len(found.group()) - 1) if "\n" not in found.group() else _blank(found)


def in_rules(root: Node, owner: Object | None = None) -> Iterator[Query]:
    """Those of Prometheus' rules: a document with ``groups``."""
    for group in root["groups"].items:
        for rule in group["rules"].items:
            kind = "alert" if rule["alert"] else "record"
            if rule["expr"]:
                yield Query(rule["expr"].text, rule["expr"], kind, rule, owner)


def in_dashboard(root: Node, owner: Object | None = None) -> Iterator[Query]:
    """Those of a Grafana dashboard."""
    for key, node in root.walk():
        if key == "expr" and node.text:
            yield Query(node.text, node, "dashboard", node, owner)


def in_adapter(root: Node, owner: Object | None = None) -> Iterator[Query]:
    """Those of the Prometheus adapter's configuration, or of its chart's values."""
    rules = root["rules"]
    parts = [rules, root["externalRules"], *(rules[name] for name in ("custom", "external"))]
    for rule in (each for part in parts for each in part.items):
        for field in ("seriesQuery", "metricsQuery"):
            if rule[field].text:
                yield Query(re.sub(r"<<.*?>>", " ", rule[field].text), rule[field], "adapter", rule, owner)


def in_object(owner: Object) -> Iterator[Query]:
    """Those in an object: PrometheusRule, ScaledObject, ScaledJob, AnalysisTemplate."""
    if owner.kind == "PrometheusRule":
        yield from in_rules(owner.spec, owner)
    if owner.kind in ("ScaledObject", "ScaledJob"):
        for trigger in owner.spec["triggers"].items:
            query = trigger.at("metadata", "query")
            if trigger["type"].text == "prometheus" and query:
                yield Query(query.text, query, "keda", trigger, owner)
    if owner.kind in ("AnalysisTemplate", "ClusterAnalysisTemplate"):
        for metric in owner.spec["metrics"].items:
            query = metric.at("provider", "prometheus", "query")
            if query:
                yield Query(query.text, query, "analysis", metric, owner)


def in_root(source: Source, root: Node, owner: Object | None) -> Iterator[Query]:
    """Those in a document of any kind, and in the documents inside a ConfigMap."""
    if owner is not None:
        yield from in_object(owner)
        if owner.kind == "ConfigMap":
            for text in owner.node["data"].fields.values():
                for inner in source.embedded(text):
                    yield from in_root(source, inner, None)
        return
    yield from in_rules(root)
    if root["rules"] or root["externalRules"]:
        yield from in_adapter(root)
    if root["panels"] or root["rows"] or root.at("dashboard", "panels"):
        yield from in_dashboard(root)
