# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What decides the result of an export besides the files it reads; light, because every build asks."""

from __future__ import annotations

from trtkit.artifacts import fingerprint
from trtkit.compat import IR_MAX, OPSET_EXPORT, OPSET_MAX, tool_versions
from trtkit.project import ModelSpec

STAGE = "export"
_STAGE_VERSION = 2
_COMMON = ("onnx", "onnxruntime", "onnxruntime-gpu", "numpy")
_SKLEARN, _TORCH = ("scikit-learn", "skl2onnx"), ("torch", "onnxscript")
_HUGGINGFACE = (*_TORCH, "transformers", "tokenizers")
TOOLS = {
    "onnx": _COMMON,
    "sklearn": (*_COMMON, *_SKLEARN),
    "torch": (*_COMMON, *_TORCH),
    "huggingface": (*_COMMON, *_HUGGINGFACE),
    "cast": _COMMON,
    "callable": (*_COMMON, *_SKLEARN, *_HUGGINGFACE),
}


def wanted_batch(spec: ModelSpec) -> int | None:
    """``max_batch_size`` of the config block; None where it has none."""
    value = spec.config.get("max_batch_size")
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def export_inputs(spec: ModelSpec) -> dict[str, str]:
    """Fingerprints of everything but the files that decides what the stage makes, by a name for people."""
    assert spec.source is not None, "an ensemble is not exported"
    evaluate = spec.evaluate.model_dump() if spec.evaluate else {}
    return {
        "trtkit's export stage": f"{_STAGE_VERSION}.{OPSET_EXPORT}.{OPSET_MAX}.{IR_MAX}",
        "source": fingerprint(spec.source.model_dump()),
        "inputs": fingerprint([(name, value.model_dump()) for name, value in spec.inputs.items()]),
        "outputs": fingerprint(spec.outputs),
        "evaluate": fingerprint({key: evaluate.get(key) for key in ("data", "samples")}),
        "max_batch_size": str(wanted_batch(spec)),
        **tool_versions(*TOOLS[spec.source.kind]),
    }
