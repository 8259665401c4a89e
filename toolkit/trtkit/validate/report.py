# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Validation reports as JUnit XML, which every CI system shows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from trtkit.validate.run import ModelReport

# XML 1.0 has no form for these, not even escaped
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def junit_xml(reports: Sequence[ModelReport]) -> str:
    """One test suite per model, one test case per protocol and output or metric."""
    root = ElementTree.Element("testsuites", name="trtkit validate")
    for report in reports:
        cases = [(f"{o.protocol} {o.output}", o.difference.passed, o.sentence()) for o in report.outputs]
        cases += [(f"{m.protocol} {m.name}", m.passed, m.sentence()) for m in report.metrics]
        failures = sum(not passed for _, passed, _ in cases)
        suite = ElementTree.SubElement(
            root, "testsuite", name=report.model, tests=str(len(cases)), failures=str(failures), errors="0"
        )
        for name, passed, sentence in cases:
            case = ElementTree.SubElement(
                suite, "testcase", classname=f"trtkit.{report.model}", name=_NO_XML.sub("?", name)
            )
            if not passed:
                text = _NO_XML.sub("?", sentence)
                ElementTree.SubElement(case, "failure", message=text).text = text
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
