# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Validation reports as JUnit XML, which every CI system shows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from trtkit.validate.run import ModelReport

# XML 1.0 has no form for these, not even escaped; halves of surrogate pairs cannot be written as UTF-8
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def junit_xml(reports: Sequence[ModelReport], further: Sequence[tuple[str, str, str]] = ()) -> str:
    """One test suite per model, one test case per protocol and output or metric; to be written as UTF-8.

    Args:
        reports: of the models.
        further: more test cases: a model, a name, and why it failed or "".
    """
    root = ElementTree.Element("testsuites", name="trtkit validate")
    for report in reports:
        _add_suite(root, report, [(name, not why, why) for model, name, why in further if model == report.model])
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _add_suite(root: ElementTree.Element, report: ModelReport, further: Sequence[tuple[str, bool, str]]) -> None:
    cases = [(f"{o.protocol} {o.output}", o.difference.passed, o.sentence()) for o in report.outputs]
    cases += [(f"{m.protocol} {m.name}", m.passed, m.sentence()) for m in report.metrics]
    cases += further
    failures = str(sum(not passed for _, passed, _ in cases))
    counts = {"tests": str(len(cases)), "failures": failures, "errors": "0"}
    suite = ElementTree.SubElement(root, "testsuite", {"name": _clean(report.model), **counts})
    for name, passed, sentence in cases:
        names = {"classname": f"trtkit.{_clean(report.model)}", "name": _clean(name)}
        case = ElementTree.SubElement(suite, "testcase", names)
        if not passed:
            text = _clean(sentence)
            ElementTree.SubElement(case, "failure", {"message": text}).text = text


def _clean(text: str) -> str:
    return _NO_XML.sub("?", text)
