# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a run of ``trtkit perf`` found: printed, written to the files that were asked for, and judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtkit.cli.common import console, print_json, write_report
from trtkit.errors import TrtkitError

if TYPE_CHECKING:
    from trtkit.cli.perf_compare import Compared
    from trtkit.perf.measurement import Measurement
    from trtkit.perf.options import Options
    from trtkit.perf.reports.report import TextTable
    from trtkit.perf.statistics.capacity import Capacity
    from trtkit.perf.statistics.runs import RunSide

_WIDEST = 1000


@dataclass
class Results:
    """The measurements of a run, in their order, as they come.

    Attributes:
        options: what was asked for.
        words: the command line.
        data: what the requests held.
        known: what else is known, as `run_context` takes it: the server's metadata and pid, the model's config.
        measurements: what was measured until now.
        stages: where the time went, one for each measurement; None where nobody knows.
        diagnoses: what bounds the throughput, and what to try; each with the load it is of.
        capacity: what a search for it found; None without one, or when it did not end.
        baseline: the runs to compare with; empty without --baseline.
    """

    options: Options
    words: Sequence[str] = ()
    data: str = ""
    known: dict[str, Any] = field(default_factory=dict)
    measurements: list[Measurement] = field(default_factory=list)
    stages: list[Any] = field(default_factory=list)
    diagnoses: list[tuple[str, Any]] = field(default_factory=list)
    capacity: Capacity | None = None
    baseline: list[RunSide] = field(default_factory=list)

    def read_baseline(self) -> None:
        """Read it before anything is measured, so that a wrong one costs no run."""
        if self.options.baseline:
            from trtkit.perf.reports.bundle import read_bundle

            self.baseline = read_bundle(self.options.baseline)

    def set_data(self, origin: str, **known: Any) -> None:
        """Where the requests are from, and what is known of server and model (see `known`)."""
        self.data = origin
        self.known.update(known)

    def set_server(self, pid: int | None) -> None:
        """The process of the server, where it is ours."""
        if pid is not None:
            self.known["server_pid"] = pid

    def add(self, measurement: Measurement, stages: Any = None, diagnoses: Sequence[Any] = ()) -> None:
        """A load that was measured."""
        self.measurements.append(measurement)
        self.stages.append(stages)
        self.diagnoses += [(measurement.load.label, diagnosis) for diagnosis in diagnoses]

    def show(self) -> None:
        """Print all, and write the files; nothing when nothing was measured.

        Raises:
            ProjectError: a file cannot be written; the others are.
        """
        if not self.measurements:
            return
        if self.options.as_json:
            print_json(self.to_json())
        else:
            self._print()
        problems = []
        for write in self._files():
            try:
                write()
            except TrtkitError as problem:
                problems.append(problem)
        if problems:
            raise problems[0]

    def to_json(self) -> dict[str, Any]:
        """The form of --json and --report."""
        value: dict[str, Any] = {
            "data": self.data,
            "measurements": [one.to_json() for one in self.measurements],
            "stages": [stages and stages.to_json() for stages in self.stages],
        }
        if self.options.diagnose:
            value["diagnoses"] = [{"load": label, **vars(diagnosis)} for label, diagnosis in self.diagnoses]
        if self.capacity:
            value["capacity"] = self.capacity.to_json()
        if self._compared:
            value["comparison"] = self._compared.to_json()
        return value

    @property
    def interrupted(self) -> bool:
        """Whether the user ended the last measurement."""
        return bool(self.measurements) and self.measurements[-1].interrupted

    def what_did_not_hold(self) -> str:
        """Why the run ends with exit code 9, in one sentence; empty when it does not.

        Raises:
            ProjectError: no load of the baseline was measured.
        """
        from trtkit.perf.reports.report import what_did_not_hold

        if not self.measurements:
            return ""
        if self.options.find_capacity:  # loads that do not hold are what a search looks for
            found = self.capacity
            return found.sentence if found and (found.limit is None or found.stopped) else ""
        problem = what_did_not_hold(self.measurements, self.options.fail_on_errors)
        if problem or not self._compared:
            return problem
        self._compared.require_common()
        return self._compared.problem

    @cached_property
    def _compared(self) -> Compared | None:
        """Against the baseline; asked for when all is measured."""
        if not self.baseline:
            return None
        from trtkit.cli.perf_compare import compared
        from trtkit.perf.statistics.runs import RunSide, run_of

        now = [RunSide(one.load.label, (run_of(one),)) for one in self.measurements]
        return compared(self.baseline, now, self.options.fail_if)

    def _print(self) -> None:
        from trtkit.cli.perf_compare import show
        from trtkit.perf.reports.report import sentences, stage_sentences, tables

        for table in tables(self.measurements, data=self.data, stages=self.stages):
            print_table(table)
        out = console()
        for measurement in self.measurements:
            for sentence in (*sentences(measurement), *_details(measurement, self.options.verbose)):
                out.print(sentence, markup=False, soft_wrap=True)
        for sentence in stage_sentences(self.measurements, self.stages):
            out.print(sentence, markup=False, soft_wrap=True)
        for label, diagnosis in self.diagnoses:
            text = f"{label}: {diagnosis.title}: {diagnosis.because}; try: {diagnosis.try_}"
            out.print(text, markup=False, soft_wrap=True)
        if self.capacity:
            for sentence in (self.capacity.sentence, *self.capacity.notes):
                out.print(sentence, markup=False, soft_wrap=True)
        if self._compared:
            show(self._compared, str(self.options.baseline), "this run")

    def _files(self) -> list[Callable[[], None]]:
        """What writes each of the files that were asked for."""
        from trtkit.perf.reports import bundle, html, junit, pa_files

        asked, found = self.options, self.measurements
        writers: list[tuple[Path | None, Callable[[Path], None]]] = [
            (asked.report, lambda path: write_report(path, self.to_json())),
            (asked.csv, lambda path: pa_files.write_csv(
                path, found, verbose=asked.verbose_csv, metrics=bool(asked.metrics_url), percentile=asked.percentile)),
            (asked.profile_export, lambda path: pa_files.write_profile_export(path, found)),
            (asked.html, lambda path: html.write_page(path, html.page(
                found, data=self.data, stages=self.stages, diagnoses=[one for _, one in self.diagnoses],
                facts=self._facts()))),
            (asked.junit, lambda path: junit.write_junit(path, found[0].load.model, self._cases())),
            (asked.bundle, lambda path: bundle.write_bundle(path, found, self._context)),
        ]  # fmt: skip
        return [lambda path=path, write=write: write(path) for path, write in writers if path]  # type: ignore[misc]

    def _cases(self) -> list[Any]:
        from trtkit.perf.reports.junit import Case, cases_of

        cases = cases_of(self.measurements, self.options.fail_on_errors)
        if self._compared:
            pairs = zip(self._compared.comparisons, self._compared.gates, strict=True)
            cases += [Case("gate", comparison.label, "; ".join(gate.fired)) for comparison, gate in pairs]
        return cases

    @cached_property
    def _context(self) -> dict[str, Any]:
        from trtkit.perf.reports.context import run_context

        asked = self.options
        repository = None if asked.url else asked.repository
        return run_context(
            self.words, seed=asked.seed, data=self.data, repository=repository, model=asked.model, **self.known
        )

    def _facts(self) -> dict[str, str]:
        machine, versions = self._context["machine"], self._context["versions"]
        return {
            "command line": " ".join(self._context["command"]),
            "machine": f"{machine['cpu'] or 'unknown CPU'}, {machine['usable_cores']} cores",
            "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        }


def _details(measurement: Measurement, verbose: int) -> Iterator[str]:
    """What -v and -v -v say beside the table."""
    from trtkit.cli.perf_live import window_line

    label, client = measurement.load.label, measurement.client
    kinds = {"from the send": measurement.latency, "from the intended time": measurement.intended_latency}
    for words, found in {**kinds, "schedule lag": measurement.schedule_lag}.items() if verbose else ():
        if found:
            names = ("min", "mean", "stddev", "p50", "p75", "p90", "p95", "p99", "p99_9", "p99_99", "max")
            values = ", ".join(f"{name.replace('_', '.')} {getattr(found, f'{name}_ns') / 1e6:.3f}" for name in names)
            yield f"{label}: {words}, ms: {values} ({found.count:,} requests)"
    if verbose:
        each = "" if client.cpu_us_per_request is None else f", {client.cpu_us_per_request:.1f} µs a request"
        yield (
            f"{label}: {measurement.in_flight_mean:.2f} requests in flight on average; the client used "
            f"{client.cpu_share:.0%} of a core{each}, in {client.processes} process(es)"
        )
    if verbose > 1:
        yield from (window_line(measurement.load, window) for window in measurement.windows)


def print_table(table: TextTable) -> None:
    """One table, words to the left and numbers to the right."""
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    def made(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[Table, int]:
        shown = Table(title=Text(table.title, style="bold"), title_justify="left", box=None, padding=(0, 2, 0, 0))
        for column in columns:
            shown.add_column(column, justify="left" if column in ("", "model", "load", "quantity") else "right")
        for cells in rows:
            shown.add_row(*map(Text, cells))
        return shown, Measurement.get(out, out.options.update(width=_WIDEST), shown).maximum

    out = console()
    shown, wide = made(table.columns, table.rows)
    if out.is_terminal and wide > out.width:  # the other way round: a line for each column
        lines = [(name, *cells) for name, *cells in zip(table.columns, *table.rows, strict=True)]
        shown, wide = made(("", *lines[0][1:]), lines[1:])
    # nothing is cut: what is still too wide wraps on a terminal, and is whole in a file
    Console(highlight=False, width=max(wide, len(table.title), out.width)).print(shown)
