# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What decides the results of the calibration, precision and race stages; light, because every build asks."""

from __future__ import annotations

from trtkit.artifacts import fingerprint
from trtkit.compat import tool_versions
from trtkit.project import ModelSpec, Target

CALIBRATION, PRECISION, RACE = "calibration", "precision", "race"
CPU, TENSORRT = "cpu", "tensorrt"
_STAGE_VERSION, _CALIBRATION_VERSION = 2, 2
_TOOLS = ("onnx", "onnxruntime", "onnxruntime-gpu", "numpy")


def flavour_of(target: Target) -> str:
    """How a graph is quantized for a target: ``cpu`` for ONNX Runtime's CPU kernels, ``tensorrt`` for GPUs."""
    return TENSORRT if target.on_gpu else CPU


def is_quantized(precision: str) -> bool:
    """Whether a precision has Q/DQ nodes, so that it needs calibration."""
    return precision.startswith(("int8", "fp8"))


def calibration_inputs(spec: ModelSpec, exported: str) -> dict[str, str]:
    """Fingerprints of what decides the ranges, besides the files with the data.

    Args:
        spec: the model.
        exported: the sha256 of the exported graph's artifact.
    """
    calibration = spec.calibration.model_dump() if spec.calibration else None
    return {
        "trtkit's calibration stage": str(_CALIBRATION_VERSION),
        "exported model": exported,
        "calibration": fingerprint(calibration),
        **tool_versions(*_TOOLS),
    }


def precision_inputs(spec: ModelSpec, precision: str, flavour: str, exported: str, calibration: str) -> dict[str, str]:
    """Fingerprints of what decides the graph in another precision.

    Args:
        spec: the model.
        precision: what it becomes; ``auto`` for the race.
        flavour: of `flavour_of`.
        exported: the sha256 of the exported graph's artifact.
        calibration: of the calibration cache; ``""`` where none is needed.
    """
    modelopt = bool(spec.calibration and spec.calibration.quantizer == "modelopt")
    return {
        "trtkit's precision stage": str(_STAGE_VERSION),
        "exported model": exported,
        "calibration cache": calibration,
        "precision": precision,
        "target": flavour,
        "quantizer": "modelopt" if modelopt else "trtkit",
        "keep": fingerprint(spec.keep.model_dump()),
        "tolerance": fingerprint(spec.tolerance.model_dump()),
        "evaluate": fingerprint(spec.evaluate.model_dump() if spec.evaluate else None),
        **tool_versions(*_TOOLS, *(("nvidia-modelopt",) if modelopt else ())),
    }
