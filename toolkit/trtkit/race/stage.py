# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The race stage: make the candidates of one model, measure them side by side, take one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from trtkit.artifacts import file_errors, write_atomically
from trtkit.errors import BuildError
from trtkit.export.onnx_file import MODEL_FILE
from trtkit.export.runtime import Session
from trtkit.precision.emulate import cpu_runnable
from trtkit.precision.evidence import Evidence, gather_evidence
from trtkit.precision.key import CPU
from trtkit.precision.stage import make_precision
from trtkit.project import Project
from trtkit.race.candidate import Candidate
from trtkit.race.choose import choose
from trtkit.race.measure import measure
from trtkit.race.plot import plot_svg
from trtkit.race.table import columns, remarks, table, to_json

_PRECISIONS = {CPU: ("fp16", "int8")}  # BF16 and FP8 have no CPU kernels
_NO_CALIBRATION = "no calibration data: give the model `calibration: {data: FILE.py:NAME}`"
_SECONDS = 1.0  # of timing per candidate and batch size


def run_race(
    project: Project, name: str, flavour: str, *,
    exported: Path, facts: dict[str, Any], calibration: Path | None, folder: Path, plot: Path,
) -> dict[str, Any]:  # fmt: skip
    """Decide a model's precision by measuring.

    Args:
        project: the project.
        name: the model.
        flavour: ``cpu``; the latency of a GPU's candidates cannot be measured without one.
        exported: the folder of the exported graph, the FP32 candidate.
        facts: of the export.
        calibration: the folder of the calibration cache; None leaves the quantized candidates out, said so.
        folder: receives what the chosen candidate publishes.
        plot: where the error-latency plot is written (SVG).

    Returns:
        What the chosen candidate's precision stage found, and ``race``: what was measured, chosen and why.

    Raises:
        BuildError: the reference does not run, or the target's latency cannot be measured here.
    """
    where = project.where("models", name, "precision")
    if flavour not in _PRECISIONS:
        raise BuildError(
            f"{where}: the race measures latency on the target's processor, and this machine cannot run its GPU "
            "candidates; name a precision, or race for a target with execution_provider cpu"
        )
    evidence = gather_evidence(project, name, facts)
    reference = evidence.outputs(Session(exported / MODEL_FILE))
    made: dict[str, dict[str, Any]] = {"fp32": {}}
    candidates = [Candidate("fp32", "fp32", exported / MODEL_FILE)]
    for precision in _PRECISIONS[flavour]:
        candidates.append(
            _candidate(project, name, precision, flavour, exported, facts, calibration, folder, evidence, made)
        )
    rows = measure(
        candidates, evidence.samples.inputs, batch_sizes=_batch_sizes(evidence), metric=_metric(evidence),
        tolerance=lambda precision, output, dtype: evidence.tolerance(precision, output, reference[output]),
        seconds=_SECONDS,
    )  # fmt: skip
    choice = choose(rows, evidence.max_drop or 0.0, evidence.max_drop is not None)
    with file_errors(f"writing {plot}"):
        plot.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(plot, plot_svg(rows, choice, name))
    _keep_only(choice.name, exported, folder)
    race = {
        **to_json(rows, choice), "columns": columns(rows), "table": table(rows, choice), "remarks": remarks(rows),
        "plot": str(plot),
    }  # fmt: skip
    return {**made[choice.name], "race": race}


def _candidate(
    project: Project, name: str, precision: str, flavour: str, exported: Path, facts: dict[str, Any],
    calibration: Path | None, folder: Path, evidence: Evidence, made: dict[str, dict[str, Any]],
) -> Candidate:  # fmt: skip
    """One candidate in a folder of its own, or the reason why there is none."""
    if precision.startswith(("int8", "fp8")) and calibration is None:
        return Candidate(precision, precision, failed=_NO_CALIBRATION)
    own = folder / precision
    own.mkdir()
    try:
        made[precision] = make_precision(
            project, name, precision, flavour,
            exported=exported, facts=facts, calibration=calibration, folder=own, evidence=evidence,
        )  # fmt: skip
    except BuildError as exc:
        return Candidate(precision, precision, failed=str(exc))
    conversion = made[precision]["conversion"]
    return Candidate(
        precision, precision, own / MODEL_FILE, _runnable(own) if not conversion["quantized"] else None,
        kept=conversion["culprits"], notes=tuple(conversion["notes"]),
    )  # fmt: skip


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


def _keep_only(chosen: str, exported: Path, folder: Path) -> None:
    """Leave the chosen candidate's files in the folder, and nothing else."""
    with file_errors(f"collecting the chosen candidate in {folder}"):
        source = exported if chosen == "fp32" else folder / chosen
        (source / "runnable.onnx").unlink(missing_ok=True)
        files = [file for file in source.rglob("*") if file.is_file()]
        for file in files:
            target = folder / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        for precision in _PRECISIONS[CPU]:
            shutil.rmtree(folder / precision, ignore_errors=True)
