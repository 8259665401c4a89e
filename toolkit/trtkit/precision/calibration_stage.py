# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The calibration stage: real rows → the calibration cache, an artifact of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from trtkit.artifacts import file_errors
from trtkit.export.onnx_file import MODEL_FILE, read_onnx
from trtkit.precision.calibration import Ranges, calibrate, tensors_to_calibrate
from trtkit.precision.qdq import refuse_quantized
from trtkit.project import Project
from trtkit.samples import calibration_samples
from trtkit.signature import Signature

CACHE_FILE = "calibration.json"
ROWS_FILE = "rows.npz"
_BATCH_ROWS = 32


def calibrate_model(project: Project, name: str, exported: Path, facts: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Find the ranges of a model's tensors.

    Args:
        project: the project.
        name: a model with a ``calibration:`` block.
        exported: the folder of the exported graph.
        facts: of the export.
        folder: receives ``calibration.json``; for modelopt also ``rows.npz``, because it calibrates by itself.

    Returns:
        The coverage: samples, shapes, and the range of each tensor.

    Raises:
        DataError: the data do not fit the model, or say nothing about a tensor.
        BuildError: the graph is quantized already.
    """
    signature = Signature.from_json(facts["signature"])
    model = read_onnx(exported / MODEL_FILE, project.where("models", name, "source"))
    refuse_quantized(model, project.where("models", name, "precision"))  # before the rows are run
    samples = calibration_samples(project, name, signature.inputs)
    calibration = project.models[name].calibration
    assert calibration is not None, "calibration_samples refuses that"
    where = project.where("models", name, "calibration", "data")
    ranges = calibrate(
        exported / MODEL_FILE, samples.inputs, tensors_to_calibrate(model), method=calibration.method,
        percentile=calibration.percentile, where=where,
        batch_rows=min(int(facts["max_batch_size"]), _BATCH_ROWS) or len(samples),
    )  # fmt: skip
    with file_errors(f"writing the calibration cache to {folder}"):
        (folder / CACHE_FILE).write_text(json.dumps(ranges.to_json(), indent=1, sort_keys=True) + "\n")
        if calibration.quantizer == "modelopt":
            np.savez(folder / ROWS_FILE, **samples.inputs)
    return {"coverage": ranges.coverage, "summary": _summary(ranges, samples.origin)}


def _summary(ranges: Ranges, data: str) -> str:
    """The coverage in one line."""
    coverage = ranges.coverage
    shapes = ", ".join(f"{name}{shape}" for name, all_shapes in coverage["shapes"].items() for shape in all_shapes[:3])
    clipped = {name: found["clipped"] for name, found in coverage["tensors"].items()}
    worst = max(clipped, key=lambda name: clipped[name], default="")
    fed = f"{coverage['samples']} samples of {data} in requests of {shapes}"
    parts = [f"{fed}, {len(clipped)} tensors by {ranges.method}"]
    if worst and clipped[worst]:
        parts.append(f"at most {clipped[worst]:.3%} of the values clipped (tensor '{worst}')")
    if coverage["dead"]:
        parts.append(f"always 0: {', '.join(coverage['dead'])}")
    return ", ".join(parts)


def read_cache(folder: Path) -> Ranges:
    """The ranges of a calibration artifact."""
    return Ranges.from_json(json.loads((folder / CACHE_FILE).read_text()))
