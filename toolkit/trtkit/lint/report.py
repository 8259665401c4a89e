# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Findings for people, as pieces of text with a style each, and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from trtkit.config import is_generated
from trtkit.lint.finding import Finding, Severity
from trtkit.lint.outcome import Outcome, Wording, all_findings, counts
from trtkit.lint.rule import Rule

if TYPE_CHECKING:
    from trtkit.lint.fixing import Fixed

Line = list[tuple[str, str]]
"""Pieces of a line: text, and a style in rich's words ('' for none)."""

STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.ADVICE: "cyan"}
_WIDTH = 110
"""How much of a source line is shown; a config may be one line of a megabyte."""


def plain(lines: Iterable[Line]) -> str:
    """Lines without their styles."""
    return "".join("".join(text for text, _ in line) + "\n" for line in lines)


def text_lines(outcomes: Sequence[Outcome], *, context: bool = True) -> Iterator[Line]:
    """Each finding, with the line it is about, and a blank line between files.

    Args:
        outcomes: of all repositories.
        context: show the source lines.
    """
    for outcome in outcomes:
        file = None
        for finding in outcome.findings:
            if file is not None and finding.file != file:
                yield []
            file = finding.file
            yield _finding_line(outcome, finding)
            if context:
                yield from _source_lines(outcome, finding)


def _finding_line(outcome: Outcome, finding: Finding) -> Line:
    numbers = "".join(f":{part}" for part in (finding.line, finding.column) if part is not None)
    return [
        (f"{printable(outcome.shown(finding.file))}{numbers}", "bold"),
        (": ", ""),
        (f"{finding.severity} {finding.code}", STYLES[finding.severity]),
        (" [*]" if finding.fix else "", "green"),
        (f" {printable(finding.message)}", ""),
        (f"  ({finding.name})", "dim"),
    ]


def _source_lines(outcome: Outcome, finding: Finding) -> Iterator[Line]:
    """The line a finding is about, and a caret under its column."""
    if finding.line is None or finding.column is None:
        return
    line = outcome.texts.line(finding.file, finding.line)
    if line is None or not line.strip():
        return
    margin = f"{finding.line:>5} | "
    start = max(0, finding.column - _WIDTH // 2) if len(line) > _WIDTH else 0
    piece = line[start : start + _WIDTH]
    cut = "…" if start else ""
    yield [(margin, "dim"), (cut + printable(piece.replace("\t", " ")), "")]
    before = printable(piece.replace("\t", " ")[: finding.column - 1 - start])
    yield [(" " * 5 + " | ", "dim"), (" " * (len(cut) + len(before)) + "^", "bold")]


def printable(text: str) -> str:
    """Text that changes nothing in a terminal: control characters and bytes that are no UTF-8 as escapes."""
    if text.isprintable():
        return text
    known = encodable(text)
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in known)


def encodable(text: str) -> str:
    r"""Text that UTF-8 can hold: bytes that are none as escapes like ``\xff``."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that stands for no byte, as a Python string may hold
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def summary(outcomes: Sequence[Outcome]) -> str:
    """The closing line, e.g. ``3 errors, 1 warning, 4 advice in 12 models (2 fixable with --fix)``."""
    found = counts(outcomes)
    models = _number(sum(len(outcome.models) for outcome in outcomes), wording_of(outcomes).unit)
    if not found:
        return f"nothing found in {models}"
    words = {Severity.ERROR: "error", Severity.WARNING: "warning"}
    parts = [_number(found[severity], word) for severity, word in words.items() if found[severity]]
    parts += [f"{found[Severity.ADVICE]} advice"] if found[Severity.ADVICE] else []
    fixable = sum(finding.fix is not None for finding in all_findings(outcomes))
    return f"{', '.join(parts)} in {models}" + (f" ({fixable} fixable with --fix)" if fixable else "")


def wording_of(outcomes: Sequence[Outcome]) -> Wording:
    """What the linter of some outcomes calls itself and what it looks at."""
    return outcomes[0].wording if outcomes else Wording()


def _number(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def statistics(outcomes: Sequence[Outcome]) -> list[tuple[int, Finding]]:
    """How often each rule found something, most often first, with one of its findings."""
    findings = all_findings(outcomes)
    count = Counter(finding.code for finding in findings)
    example = {finding.code: finding for finding in findings}
    return [(number, example[code]) for code, number in sorted(count.items(), key=lambda row: (-row[1], row[0]))]


def statistics_lines(outcomes: Sequence[Outcome]) -> Iterator[Line]:
    """One line for each rule that found something."""
    for number, finding in statistics(outcomes):
        severity = f"{finding.severity:7} {finding.code}"
        yield [(f"{number:>6}  ", "bold"), (severity, STYLES[finding.severity]), (f"  {finding.name}", "")]


def remarks(outcomes: Sequence[Outcome]) -> Iterator[Line]:
    """Where generated configs are to be mended."""
    files = [
        outcome.shown(file)
        for outcome in outcomes
        for file in dict.fromkeys(finding.file for finding in outcome.findings)
        if file.endswith(".pbtxt") and is_generated(outcome.texts.text(file) or "")
    ]
    if files:
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        says = "generated from trtkit.yaml: change the model's `config:` block there and build again"
        yield [(f"{printable(files[0])}{more}: {says}", "")]


def fixed_lines(fixed: Fixed) -> Iterator[Line]:
    """What ``--fix`` did, and what it did not."""
    for finding in fixed.applied:
        described = finding.fix.description if finding.fix else ""
        yield [(f"{printable(fixed.outcome.shown(finding.file))}: fixed {finding.code}: {printable(described)}", "")]
    for finding in fixed.refused:
        file = printable(fixed.outcome.shown(finding.file))
        yield [(f"{file}: {finding.code} is not fixed: the file would read worse than before", "")]
    if fixed.unfinished:
        yield [("some fixes undo each other; what is left is below", "")]


def rule_json(rules: Sequence[Rule]) -> list[dict[str, Any]]:
    """The rules, for machines."""
    return [
        {
            "code": each.code, "name": each.name, "severity": each.severity.value, "server": each.server,
            "fixable": each.fixable,
        }
        for each in rules
    ]  # fmt: skip


def rule_lines(rules: Sequence[Rule]) -> Iterator[Line]:
    """One line for each rule: code, severity, whether the server refuses such a model, whether it has a fix."""
    width = max(len(each.name) for each in rules)
    for each in rules:
        server = "server" if each.server else ""
        fix = "[*]" if each.fixable else ""
        row = f"  {each.name:{width}}  {server:6}  {fix}".rstrip()
        yield [(f"{each.code}  {each.severity:7}", STYLES[each.severity]), (row, "")]


def to_json(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What ``--format json`` prints; docs/lint.md describes it, and keys are only ever added."""
    found, wording = counts(outcomes), wording_of(outcomes)
    rows = [
        {
            wording.subject if key == "model" else key: encodable(value) if isinstance(value, str) else value
            for key, value in {**finding.to_json(), "file": outcome.shown(finding.file)}.items()
        }
        for outcome in outcomes
        for finding in outcome.findings
    ]
    return {
        "findings": rows,
        "summary": {
            f"{wording.unit}s": sum(len(outcome.models) for outcome in outcomes),
            "error": found[Severity.ERROR],
            "warning": found[Severity.WARNING],
            "advice": found[Severity.ADVICE],
            "fixable": sum(row["fix"] is not None for row in rows),
            "rules": {finding.code: number for number, finding in statistics(outcomes)},
        },
    }
