# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The race stage: make the candidates of one model, measure them side by side, take one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from trtkit.artifacts import file_errors, write_atomically
from trtkit.errors import BuildError
from trtkit.export.onnx_file import MODEL_FILE
from trtkit.export.runtime import Session
from trtkit.precision.emulate import cpu_runnable
from trtkit.precision.evidence import Evidence, gather_evidence
from trtkit.precision.key import is_quantized
from trtkit.precision.stage import make_precision
from trtkit.project import Project
from trtkit.race.candidate import Candidate
from trtkit.race.choose import choose
from trtkit.race.measure import measure
from trtkit.race.on_gpu import PRECISIONS, GpuRace
from trtkit.race.plot import plot_svg
from trtkit.race.runner import CpuRunner
from trtkit.race.table import columns, remarks, table, to_json

_CPU_PRECISIONS = ("fp16", "int8")  # BF16 and FP8 have no CPU kernels
_NO_CALIBRATION = "no calibration data: give the model `calibration: {data: FILE.py:NAME}`"
_SECONDS = 1.0  # of timing per candidate and batch size


@dataclass
class Race:
    """The race of one model.

    Attributes:
        project: the project.
        name: the model.
        flavour: ``cpu`` or ``tensorrt``: how graphs are quantized.
        exported: the folder of the exported graph, the FP32 candidate.
        facts: of the export.
        calibration: the folder of the calibration cache; None leaves the quantized candidates out, said so.
        folder: receives what the chosen candidate publishes.
        plot: where the error-latency plot is written (SVG).
        gpu: where candidates are timed; None for the CPU.
    """

    project: Project
    name: str
    flavour: str
    exported: Path
    facts: dict[str, Any]
    calibration: Path | None
    folder: Path
    plot: Path
    gpu: GpuRace | None = None
    made: dict[str, dict[str, Any]] = field(default_factory=lambda: {"fp32": {}})

    def run(self) -> dict[str, Any]:
        """Decide the model's precision by measuring.

        Returns:
            What the chosen candidate's precision stage found, and ``race``: what was measured, chosen and why.

        Raises:
            BuildError: the reference does not run.
        """
        evidence = gather_evidence(self.project, self.name, self.facts)
        graph = self.exported / MODEL_FILE
        reference = evidence.outputs(Session(graph))
        candidates = [self._reference(), *(self._candidate(p, evidence) for p in self._precisions())]
        rows = measure(
            candidates, evidence.samples.inputs, batch_sizes=_batch_sizes(evidence), metric=_metric(evidence),
            tolerance=lambda precision, output, dtype: evidence.tolerance(precision, output, reference[output]),
            seconds=_SECONDS, runner=self.gpu.open if self.gpu else CpuRunner,
        )  # fmt: skip
        choice = choose(rows, evidence.max_drop or 0.0, evidence.max_drop is not None)
        with file_errors(f"writing {self.plot}"):
            self.plot.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.plot, plot_svg(rows, choice, self.name))
        self._keep_only(choice.name)
        race = {
            **to_json(rows, choice), "columns": columns(rows), "table": table(rows, choice), "remarks": remarks(rows),
            "plot": str(self.plot),
        }  # fmt: skip
        return {**self.made[choice.name], "race": race}

    def _precisions(self) -> tuple[str, ...]:
        return PRECISIONS if self.gpu else _CPU_PRECISIONS

    def _reference(self) -> Candidate:
        graph = self.exported / MODEL_FILE
        if self.gpu is None:
            return Candidate("fp32", "fp32", graph)
        own = self.folder / "fp32"
        shutil.copytree(self.exported, own)
        return Candidate("fp32", "fp32", self.gpu.timed_file(own, "fp32"), graph)

    def _candidate(self, precision: str, evidence: Evidence) -> Candidate:
        """One candidate in a folder of its own, or the reason why there is none."""
        refused = self.gpu.refusal(int(self.facts["opset"]), precision) if self.gpu else ""
        if refused or (is_quantized(precision) and self.calibration is None):
            return Candidate(precision, precision, failed=refused or _NO_CALIBRATION)
        own = self.folder / precision
        own.mkdir()
        try:
            self.made[precision] = make_precision(
                self.project, self.name, precision, self.flavour, exported=self.exported, facts=self.facts,
                calibration=self.calibration, folder=own, evidence=evidence,
            )  # fmt: skip
            file = self.gpu.timed_file(own, precision) if self.gpu else own / MODEL_FILE
        except BuildError as exc:
            return Candidate(precision, precision, failed=str(exc))
        conversion = self.made[precision]["conversion"]
        emulated = None if self.gpu or conversion["quantized"] else _runnable(own)
        notes = tuple(conversion["notes"])
        return Candidate(precision, precision, file, emulated, kept=conversion["culprits"], notes=notes)

    def _keep_only(self, chosen: str) -> None:
        """Leave the chosen candidate's files in the folder, and nothing else."""
        with file_errors(f"collecting the chosen candidate in {self.folder}"):
            source = self.exported if chosen == "fp32" else self.folder / chosen
            shutil.rmtree(source / "plan", ignore_errors=True)  # the engine stage builds it, with its manifest
            (source / "runnable.onnx").unlink(missing_ok=True)
            shutil.copytree(source, self.folder, dirs_exist_ok=True)
            for precision in ("fp32", *self._precisions()):
                shutil.rmtree(self.folder / precision, ignore_errors=True)


def _runnable(own: Path) -> Path:
    """The graph with every rounding of half precision, some of which ONNX Runtime's CPU provider leaves out."""
    file = own / "runnable.onnx"
    file.write_bytes(cpu_runnable(onnx.load(own / MODEL_FILE)).SerializeToString())
    return file


def _batch_sizes(evidence: Evidence) -> list[int]:
    return sorted({1, evidence.max_batch_size}) if evidence.max_batch_size else []


def _metric(evidence: Evidence) -> Any:
    if evidence.max_drop is None:
        return None

    def metric(outputs: Mapping[str, Any]) -> float:
        value = evidence.metric(outputs)
        assert value is not None, "there is a budget, so there is a metric"
        return value

    return metric
