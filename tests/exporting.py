# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Small projects around one model, exported in this process; and ONNX graphs written as text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, parser

from trtkit.export.onnx_file import MODEL_FILE
from trtkit.export.runtime import Session
from trtkit.export.stage import Exported, export_model
from trtkit.project import Project, load_project


@dataclass(frozen=True)
class Result:
    """An export and the folder it filled."""

    exported: Exported
    folder: Path

    @property
    def facts(self) -> dict[str, Any]:
        return self.exported.facts

    @property
    def size(self) -> int:
        return self.exported.max_batch_size

    @property
    def inputs(self) -> list[str]:
        return [str(spec) for spec in self.exported.signature.inputs]

    @property
    def outputs(self) -> list[str]:
        return [str(spec) for spec in self.exported.signature.outputs]

    @property
    def model(self) -> ModelProto:
        return onnx.load(self.folder / MODEL_FILE)

    def run(self, **inputs: Any) -> dict[str, np.ndarray]:
        return Session(self.folder / MODEL_FILE).run({name: np.asarray(array) for name, array in inputs.items()})


def graph(
    inputs: str, outputs: str, nodes: str, weights: str = "", *, opset: int = 17, ir: int = 8, more: str = ""
) -> ModelProto:
    """A model in onnx's text form; ``batch`` and other words in a shape are dynamic axes.

    Args:
        inputs: e.g. ``float[batch, 4] x``.
        outputs: the same.
        nodes: e.g. ``y = Neg(x)``, one per line.
        weights: e.g. ``int64[2] shape = {4, -1}``.
        opset: of the default operator set.
        ir: version of the format.
        more: local functions, after the graph.
    """
    domains = f'"": {opset}, "ai.onnx.ml": 3, "own": 1, "com.microsoft": 1'
    header = f"<ir_version: {ir}, opset_import: [{domains}]>"
    held = f"<{weights}>" if weights else ""
    return parser.parse_model(f"{header} main ({inputs}) => ({outputs}) {held} {{ {nodes} }} {more}")


def project(folder: Path, block: str, **files: str | bytes) -> Project:
    """A project with one model, `m`, of a YAML block; files by name, with ``_`` for the dot before the suffix."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / ".".join(name.rsplit("_", 1))
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    lines = "\n".join(f"    {line}" for line in block.strip().splitlines())
    (folder / "trtkit.yaml").write_text(f"models:\n  m:\n{lines}\n")
    return load_project(folder / "trtkit.yaml")


def export(made: Project) -> Result:
    """Export `m` into the project's folder ``out``; what is true of every export is asserted here."""
    folder = made.root / "out"
    folder.mkdir(exist_ok=True)
    exported = export_model(made, "m", folder)
    # the onnxruntime backend refuses a config whose dims are not those that ONNX Runtime infers
    seen = Session(folder / MODEL_FILE).output_sizes
    assert {s.name: [d if d > 0 else None for d in s.dims] for s in exported.signature.outputs} == seen
    onnx.checker.check_model(str(folder / MODEL_FILE))
    return Result(exported, folder)


def export_onnx(folder: Path, model: ModelProto | bytes, block: str = "") -> Result:
    """Export an ONNX file of this content; `block` is the rest of the model's entry."""
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return export(project(folder, f"source: {{onnx: model.onnx}}\n{block}", model_onnx=content))


def export_python(folder: Path, kind: str, code: str, block: str = "") -> Result:
    """Export what the function `make` of this code gives."""
    return export(project(folder, f"source: {{{kind}: source.py:make}}\n{block}", source_py=code))
