# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The precision stage: the exported graph in the precision that was asked for, with the evidence."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trtkit.artifacts import file_errors
from trtkit.errors import BuildError
from trtkit.export.graph_signature import signature_of
from trtkit.export.normalize import check, main_opset
from trtkit.export.onnx_file import DATA_FILE, MODEL_FILE, write_onnx
from trtkit.export.runtime import Session
from trtkit.export.warmup import FOLDER as WARMUP
from trtkit.export.warmup import convert_warmup
from trtkit.precision.calibration_stage import ROWS_FILE, read_cache
from trtkit.precision.convert import Converted, Inputs, convert
from trtkit.precision.emulate import cpu_session
from trtkit.precision.evidence import Evidence, gather_evidence
from trtkit.precision.key import TENSORRT
from trtkit.project import Project
from trtkit.signature import Signature


def make_precision(
    project: Project, name: str, precision: str, flavour: str, *,
    exported: Path, facts: dict[str, Any], calibration: Path | None, folder: Path, evidence: Evidence | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Convert one model's exported graph and measure how far the result is from it.

    Args:
        project: the project.
        name: the model.
        precision: ``fp16``, ``bf16``, ``int8``, ``fp8``, ``int8+fp16`` or ``fp8+fp16``.
        flavour: ``cpu`` or ``tensorrt``.
        exported: the folder of the exported graph.
        facts: of the export.
        calibration: the folder of the calibration cache; None where the precision needs none.
        folder: receives ``model.onnx`` and the warm-up data.
        evidence: the rows to judge on; default: the model's evaluation samples.

    Returns:
        ``signature``, ``opset``, ``conversion`` (what became of the nodes), ``parity`` (per output) and
        ``metric`` (reference, value and budget; None without one).

    Raises:
        BuildError: the graph cannot become what was asked.
    """
    where = project.where("models", name, "precision")
    if (exported / DATA_FILE).exists():
        raise BuildError(f"{where}: {precision} needs a graph below 2 GB; this one has its weights in {DATA_FILE}")
    evidence = evidence or gather_evidence(project, name, facts)
    scratch = folder / "scratch"
    scratch.mkdir()
    given = Inputs(
        exported, flavour, project.models[name].keep, read_cache(calibration) if calibration else None,
        _by_modelopt(project, name, precision, flavour, exported, calibration, scratch), evidence, where, scratch,
    )  # fmt: skip
    done = convert(precision, given)
    path = write_onnx(done.model, folder, where)
    shutil.rmtree(scratch)
    check(path, where)
    signature = _signature(done, facts, where)
    _copy_warmup(exported, folder, Signature.from_json(facts["signature"]), signature)
    return {
        "signature": signature.to_json(),
        "opset": main_opset(done.model),
        "ir_version": done.model.ir_version,
        **_measured(evidence, precision, exported, path, done),
        "conversion": done.facts(),
    }


def _by_modelopt(
    project: Project, name: str, precision: str, flavour: str, exported: Path, calibration: Path | None, scratch: Path
) -> Path | None:
    spec = project.models[name].calibration
    dtype = precision.partition("+")[0]
    if spec is None or spec.quantizer != "modelopt" or calibration is None:
        return None
    where = project.where("models", name, "calibration", "quantizer")
    assert flavour == TENSORRT, "the build refuses it before the export"
    from trtkit.precision.modelopt_int8 import quantize_modelopt
    from trtkit.samples import read_npz

    rows, _ = read_npz(calibration / ROWS_FILE, where)
    return quantize_modelopt(exported / MODEL_FILE, rows, scratch, dtype, spec.method, where)


def _signature(done: Converted, facts: dict[str, Any], where: str) -> Signature:
    """The exported names, axes and types; with ``keep.io_types: false``, the types of the new graph."""
    before, now = Signature.from_json(facts["signature"]), signature_of(done.model, where)
    return before.with_dtypes({spec.name: spec.dtype.name for spec in (*now.inputs, *now.outputs)})


def _copy_warmup(exported: Path, folder: Path, before: Signature, now: Signature) -> None:
    if not (exported / WARMUP).is_dir():
        return
    with file_errors(f"copying warm-up data to {folder}"):
        shutil.copytree(exported / WARMUP, folder / WARMUP)
        convert_warmup(folder, before, now)


def _measured(evidence: Evidence, precision: str, exported: Path, path: Path, done: Converted) -> dict[str, Any]:
    reference = evidence.outputs(Session(exported / MODEL_FILE))
    outputs = evidence.outputs(cpu_session(done.model))
    facts: dict[str, Any] = {
        "parity": {
            "compared": True, "data": evidence.samples.origin, "rows": len(evidence.samples),
            "outputs": evidence.differences(precision, reference, outputs),
        },
        "metric": None,
        "byte_size": path.stat().st_size,
    }  # fmt: skip
    value = evidence.metric(outputs)
    if value is not None:
        facts["metric"] = {"reference": evidence.metric(reference), "value": value, "max_drop": evidence.max_drop}
    else:
        done.notes += _outside(facts["parity"])
    return facts


def _outside(parity: dict[str, Any]) -> Iterator[str]:
    """What nobody would hear of: outputs outside the tolerance where no metric decides."""
    for name, found in parity["outputs"].items():
        if not found["passed"]:
            yield (
                f"{found['outside']} of {found['elements']} values of output '{name}' are outside the "
                f"tolerance on {parity['data']}, and no metric decides about them; give the model "
                "`evaluate: {metric: ...}`"
            )


def refuse_lost_accuracy(project: Project, name: str, precision: str, facts: dict[str, Any]) -> None:
    """Raise when a precision that was asked for misses the accuracy budget.

    Raises:
        BuildError: the metric fell by more than ``evaluate.max_drop``.
    """
    metric = facts["metric"]
    if metric is None or metric["reference"] - metric["value"] <= metric["max_drop"]:
        return
    where = project.where("models", name, "precision")
    evaluate = project.models[name].evaluate
    assert evaluate is not None, "there is a metric"
    remedy = "another calibration method, `keep:` for sensitive operators, or precision: auto"
    raise BuildError(
        f"{where}: {precision} misses the accuracy budget: {evaluate.metric} {metric['value']:.4f} instead of "
        f"{metric['reference']:.4f}, allowed drop {metric['max_drop']:g}; try {remedy}"
    )
