# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""JUnit XML for CI systems: one test case for each load, objective, gate and verification."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from trtkit.errors import ProjectError
from trtkit.perf.measurement import Measurement
from trtkit.perf.reports.report import milliseconds, plain, rate, sentences, what_is_wrong


class Case(NamedTuple):
    """One thing that was checked.

    Attributes:
        group: what kind of thing: ``load``, ``verify``, ``slo``, ``gate``.
        name: which one.
        failure: why it did not hold; empty when it held.
        output: what else to know, a line each.
        seconds: how long it took; 0 where that means nothing.
    """

    group: str
    name: str
    failure: str = ""
    output: str = ""
    seconds: float = 0.0


def cases_of(measurements: Sequence[Measurement], fail_on_errors: bool = False) -> list[Case]:
    """A case for each load, and one for each verification.

    Args:
        measurements: in the order in which they were made.
        fail_on_errors: whether failed requests fail a load's case.
    """
    cases = []
    for one in measurements:
        cases.append(_load_case(one, fail_on_errors))
        cases += _verify_case(one)
    return cases


def _load_case(one: Measurement, fail_on_errors: bool) -> Case:
    reason = what_is_wrong(one, fail_on_errors)
    failure = f"{one.load.label} {reason}" if reason else ""
    return Case("load", one.load.label, failure, "\n".join([_figures(one), *sentences(one)]), one.duration_s)


def _verify_case(one: Measurement) -> Iterable[Case]:
    found = one.verification
    if found:
        sentence = "\n".join([found.sentence(), *(mismatch.sentence for mismatch in found.first)])
        yield Case("verify", f"answers at {one.load.label}", "" if found.ok else found.sentence(), sentence)


def _figures(one: Measurement) -> str:
    if one.latency is None:
        return "no request succeeded"
    p50, p99 = milliseconds(one.latency.p50_ns), milliseconds(one.latency.p99_ns)
    return f"{rate(one.throughput_infer_per_s)} inferences/s, p50 {p50} ms, p99 {p99} ms"


def junit_xml(model: str, cases: Iterable[Case]) -> str:
    """The report as XML 1.0 in UTF-8; characters that XML cannot hold are replaced.

    Args:
        model: what was measured; the suite's name is ``trtkit perf MODEL``.
        cases: at least one.
    """
    listed = list(cases)
    failed = sum(bool(case.failure) for case in listed)
    seconds = f"{sum(case.seconds for case in listed):.3f}"
    counts = {"tests": str(len(listed)), "failures": str(failed), "errors": "0", "time": seconds}
    name = f"trtkit perf {plain(model)}"
    root = ElementTree.Element("testsuites", {"name": name, **counts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": name, **counts, "skipped": "0"})
    for case in listed:
        _add_case(suite, plain(model), case)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _add_case(suite: ElementTree.Element, model: str, case: Case) -> None:
    about = {"classname": f"trtkit.perf.{model}.{case.group}", "name": plain(case.name), "time": f"{case.seconds:.3f}"}
    element = ElementTree.SubElement(suite, "testcase", about)
    if case.failure:
        failure = ElementTree.SubElement(element, "failure", {"message": plain(case.failure), "type": case.group})
        failure.text = plain(case.failure)
    if case.output:
        ElementTree.SubElement(element, "system-out").text = "\n".join(map(plain, case.output.splitlines()))


def write_junit(path: Path, model: str, cases: Iterable[Case]) -> None:
    """Write the report.

    Raises:
        ProjectError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(junit_xml(model, cases), encoding="utf-8")
    except OSError as exc:
        raise ProjectError(f"{path} cannot be written: {exc.strerror}") from exc
