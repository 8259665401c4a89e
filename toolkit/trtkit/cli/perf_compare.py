# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit perf compare``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trtkit.cli.common import console, json_option, print_json, write_report

if TYPE_CHECKING:
    from trtkit.perf.statistics.compare import Comparison, Difference, GateResult
    from trtkit.perf.statistics.runs import RunSide


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Say what differs between two runs, by how much, and whether chance explains it.

    A and B are bundles that `trtkit perf --bundle` wrote; loads of the same name are compared. With several runs on
    each side, made in turn, even small differences can be told: give them with commas, a1,a2,a3 b1,b2,b3.

    \b
        trtkit perf compare before after
        trtkit perf compare before after --fail-if 'p99 > +10%, throughput < -5%'

    A condition of --fail-if comes true only when the change is beyond it and significant; the exit code is then 9.""",
)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--fail-if", default="", metavar="CONDITIONS", help="Changes that must not be.")
@click.option("--report", type=click.Path(path_type=Path), help="Write the JSON to this file, too.")
@json_option
def compare(first: str, second: str, fail_if: str, report: Path | None, as_json: bool) -> None:
    """Compare, print, and fail where the gate says so."""
    from trtkit.errors import MeasurementError

    found = compared(_sides(first), _sides(second), fail_if)
    found.require_common()
    write_report(report, found.to_json())
    if as_json:
        print_json(found.to_json())
    else:
        show(found, first, second)
    if found.problem:
        raise MeasurementError(found.problem)


@dataclass(frozen=True)
class Compared:
    """Every load that both sides have, and what the gate says of it."""

    comparisons: tuple[Comparison, ...]
    gates: tuple[GateResult, ...]
    unmatched: tuple[str, ...]

    @property
    def problem(self) -> str:
        """The first condition that came true, with the number of others; empty when none did."""
        fired = [
            f"{comparison.label}: {sentence}"
            for comparison, gate in zip(self.comparisons, self.gates, strict=True)
            for sentence in gate.fired
        ]
        more = f" (and {len(fired) - 1} more)" if len(fired) > 1 else ""
        return fired[0] + more if fired else ""

    def require_common(self) -> None:
        """ProjectError when no load was measured on both sides."""
        from trtkit.errors import ProjectError

        if not self.comparisons:
            loads = ", ".join(self.unmatched)
            raise ProjectError(f"no load was measured on both sides ({loads}); measure the same loads twice")

    def to_json(self) -> dict[str, Any]:
        """The form of --json."""
        pairs = zip(self.comparisons, self.gates, strict=True)
        rows = [
            {**comparison.to_json(), "fired": list(gate.fired), "undecided": list(gate.undecided)}
            for comparison, gate in pairs
        ]
        return {"comparisons": rows, "unmatched": list(self.unmatched), "failed": bool(self.problem)}


def compared(first: Iterable[RunSide], second: Iterable[RunSide], fail_if: str) -> Compared:
    """Compare the loads that both have.

    Args:
        first: A.
        second: B.
        fail_if: the gate; empty for none.

    Raises:
        ProjectError: the gate is not understood.
    """
    from trtkit.perf.statistics import compare as comparing

    gate = comparing.parse_gate(fail_if) if fail_if else ()
    sides = [{side.label: side for side in several} for several in (first, second)]
    common = [label for label in sides[0] if label in sides[1]]
    found = tuple(comparing.compare(sides[0][label], sides[1][label], gate) for label in common)
    gates = tuple(comparing.check_gate(comparison, gate) for comparison in found)
    return Compared(found, gates, tuple(sorted(set(sides[0]) ^ set(sides[1]))))


def _sides(paths: str) -> list[RunSide]:
    """The loads of one bundle, or of several with commas between them, as runs of the same."""
    from trtkit.perf.reports.bundle import read_bundle
    from trtkit.perf.statistics.runs import RunSide

    names = [paths] if Path(paths).exists() else paths.split(",")
    by_label: dict[str, list[Any]] = {}
    for name in names:
        for side in read_bundle(Path(name)):
            by_label.setdefault(side.label, []).extend(side.runs)
    return [RunSide(label, tuple(runs)) for label, runs in by_label.items()]


def show(found: Compared, first: str, second: str) -> None:
    """A table for each load, and sentences."""
    from trtkit.cli.perf_results import print_table
    from trtkit.perf.reports.report import TextTable

    out = console()
    columns = ("quantity", "A", "B", "change", "95 % interval", "p", "")
    for comparison, gate in zip(found.comparisons, found.gates, strict=True):
        rows = tuple(tuple(_cells(difference)) for difference in comparison.differences)
        runs = f"{comparison.runs_a} and {comparison.runs_b} runs"
        print_table(TextTable(f"{comparison.label}: A is {first}, B is {second}, {runs}", columns, rows))
        for sentence in (*comparison.warnings, *gate.undecided):
            out.print(sentence, markup=False, soft_wrap=True)
    for label in found.unmatched:
        out.print(f"{label} was measured on one side only", markup=False, soft_wrap=True)


def _cells(difference: Difference) -> Iterable[str]:
    yield difference.name
    yield _value(difference.name, difference.a)
    yield _value(difference.name, difference.b)
    points = " points" if difference.name == "errors" else ""
    yield "–" if difference.change is None else f"{difference.change:+.1%}{points}"
    interval = difference.interval
    yield "–" if interval is None else f"{interval.low:+.1%} to {interval.high:+.1%}"
    p = difference.adjusted
    yield "–" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"
    yield difference.reason or ("worse" if difference.worse else "better" if difference.better else "not significant")


def _value(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    if name == "errors":
        return f"{value:.2%}"
    return f"{value:,.1f}/s" if name in ("throughput", "goodput") else f"{value / 1e6:,.3f} ms"
