# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Findings as SARIF 2.1.0: what code scanning services and editors read.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from trtkit import __version__
from trtkit.lint.finding import Edit, Finding, Severity
from trtkit.lint.outcome import Outcome
from trtkit.lint.pages import page_of
from trtkit.lint.report import encodable, printable, wording_of
from trtkit.lint.rule import Rule

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.ADVICE: "note"}


def to_sarif(outcomes: Sequence[Outcome], rules: Sequence[Rule]) -> dict[str, Any]:
    """A log with one run.

    Args:
        outcomes: of all repositories.
        rules: those that were applied.
    """
    index = {each.code: number for number, each in enumerate(rules)}
    results = [_result(outcome, finding, index[finding.code]) for outcome in outcomes for finding in outcome.findings]
    driver = {"name": wording_of(outcomes).tool, "version": __version__, "rules": [_rule(each) for each in rules]}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(rule: Rule) -> dict[str, Any]:
    page = page_of(rule)
    return {
        "id": rule.code,
        "name": rule.name,
        "shortDescription": {"text": page.sentence},
        "fullDescription": {"text": page.why or page.sentence},
        "help": {"text": page.text(), "markdown": page.markdown()},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": {"category": rule.category, "server": rule.server},
    }


def _result(outcome: Outcome, finding: Finding, index: int) -> dict[str, Any]:
    location: dict[str, Any] = {"artifactLocation": _artifact(outcome, finding)}
    if finding.line is not None:
        column = {} if finding.column is None else {"startColumn": finding.column}
        location["region"] = {"startLine": finding.line, **column}
    result = {
        "ruleId": finding.code,
        "ruleIndex": index,
        "level": _LEVELS[finding.severity],
        "message": {"text": printable(finding.message)},
        "locations": [{"physicalLocation": location}],
        "properties": {outcome.wording.subject: finding.model},
    }
    fix = _fix(outcome, finding)
    return {**result, "fixes": [fix]} if fix else result


def _artifact(outcome: Outcome, finding: Finding) -> dict[str, Any]:
    """The file: relative to the current folder, which is a checkout's root where this is used."""
    shown = outcome.shown(finding.file)
    if "://" in shown:
        return {"uri": quote(shown, safe="/:", errors="surrogateescape")}
    path = quote(shown, errors="surrogateescape")
    return {"uri": f"file://{path}"} if shown.startswith("/") else {"uri": path, "uriBaseId": "%SRCROOT%"}


def _fix(outcome: Outcome, finding: Finding) -> dict[str, Any] | None:
    text = outcome.texts.text(finding.file) if finding.fix else None
    if finding.fix is None or text is None:
        return None
    starts = [0, *(number + 1 for number, each in enumerate(text) if each == "\n")]
    replacements = [
        {"deletedRegion": _region(starts, edit), "insertedContent": {"text": encodable(edit.text)}}
        for edit in finding.fix.edits
    ]
    change = {"artifactLocation": _artifact(outcome, finding), "replacements": replacements}
    return {"description": {"text": printable(finding.fix.description)}, "artifactChanges": [change]}


def _region(starts: list[int], edit: Edit) -> dict[str, int]:
    """Where an edit replaces, by lines and columns; the end column is the one after the last."""
    first, last = (bisect_right(starts, offset) for offset in (edit.start, edit.end))
    return {
        "startLine": first, "startColumn": edit.start - starts[first - 1] + 1,
        "endLine": last, "endColumn": edit.end - starts[last - 1] + 1,
    }  # fmt: skip
