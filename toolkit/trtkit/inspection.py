# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What an ONNX file or a TensorRT plan holds: the graph without its weights, the header without a GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from trtkit.dtypes import by_onnx
from trtkit.engine import manifest_of, plan_header
from trtkit.errors import ProjectError
from trtkit.export.onnx_file import external_tensors, read_graph
from trtkit.images import images_with


@dataclass(frozen=True)
class OnnxSummary:
    """The contents of an ONNX file.

    Attributes:
        file: its path.
        byte_size: of the file, without external data.
        external_data: the external data files it names.
        ir_version: of the format.
        opsets: version by operator-set domain; ``ai.onnx`` is the default one.
        producer: name and version of what wrote it.
        inputs: as text, e.g. ``x FP32 [batch, 64]``.
        outputs: the same.
        operators: how often each operator occurs, most frequent first, inner graphs included.
        initializers: per data type, ``count``, ``elements`` and ``byte_size``.
        quantize_linear: QuantizeLinear nodes.
        dequantize_linear: DequantizeLinear nodes.
    """

    file: str
    byte_size: int
    external_data: list[str]
    ir_version: int
    opsets: dict[str, int]
    producer: str
    inputs: list[str]
    outputs: list[str]
    operators: dict[str, int]
    initializers: dict[str, dict[str, int]]
    quantize_linear: int
    dequantize_linear: int

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


@dataclass(frozen=True)
class PlanSummary:
    """What a plan says about itself, and the manifest beside it.

    Attributes:
        file: its path.
        byte_size: of the file.
        flavour: ``tensorrt`` or ``tensorrt_rtx``.
        version: of the library that built it, and that has to load it.
        compute_capabilities: what a TensorRT-RTX plan was built for; empty where the header does not say.
        images: tritonserver images known to hold that TensorRT; empty for TensorRT-RTX, which Triton cannot load.
        manifest: the ``engine.json`` beside the plan; None without one.
    """

    file: str
    byte_size: int
    flavour: str
    version: str
    compute_capabilities: list[str]
    images: list[str]
    manifest: dict[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


def is_plan(file: Path) -> bool:
    """Whether a file is to be read as a plan: by its first bytes, or by its name."""
    try:
        with file.open("rb") as opened:
            return opened.read(4) in (b"ftrt", b"vtrt") or file.suffix in (".plan", ".engine")
    except OSError:
        return False


def inspect_plan(file: Path) -> PlanSummary:
    """Summarize a plan; no GPU and no TensorRT is needed.

    Raises:
        BuildError: it is no plan, or the manifest beside it is none.
    """
    header = plan_header(file)
    return PlanSummary(
        file=str(file),
        byte_size=header.byte_size,
        flavour=header.flavour,
        version=header.version_text,
        compute_capabilities=list(header.compute_capabilities),
        images=images_with(header.version_text) if header.flavour == "tensorrt" else [],
        manifest=manifest_of(file),
    )


def inspect_onnx(file: Path) -> OnnxSummary:
    """Summarize an ONNX file.

    Raises:
        ProjectError: there is no such file.
        ExportError: it is no ONNX model.
    """
    if not file.is_file():
        raise ProjectError(f"{file} is a folder; name a file in it" if file.is_dir() else f"there is no file {file}")
    model = read_graph(file, str(file))
    operators = Counter(_operators(model.graph))
    weights = {tensor.name for tensor in model.graph.initializer}
    return OnnxSummary(
        file=str(file),
        byte_size=file.stat().st_size,
        external_data=sorted({_location(tensor) for tensor in external_tensors(model)}),
        ir_version=model.ir_version,
        opsets={entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        inputs=[_shown(value) for value in model.graph.input if value.name not in weights],
        outputs=[_shown(value) for value in model.graph.output],
        operators=dict(operators.most_common()),
        initializers=_initializers(model.graph),
        quantize_linear=operators["QuantizeLinear"],
        dequantize_linear=operators["DequantizeLinear"],
    )


def _location(tensor: onnx.TensorProto) -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "?")


def _operators(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _operators(inner)


def _shown(value: onnx.ValueInfoProto) -> str:
    """``name TYPE [shape]``; a fixed size, an axis' name, or ``?``."""
    if not value.type.HasField("tensor_type"):
        return f"{value.name} ({value.type.WhichOneof('value') or 'no type'})"
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return f"{value.name} {_type_name(tensor.elem_type)} [no rank]"
    dims = [str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in tensor.shape.dim]
    return f"{value.name} {_type_name(tensor.elem_type)} [{', '.join(dims)}]"


def _type_name(code: int) -> str:
    known = by_onnx(code)
    if known:
        return known.name
    names: dict[int, str] = {number: name for name, number in onnx.TensorProto.DataType.items()}
    return names.get(code, f"type {code}")


def _initializers(graph: onnx.GraphProto) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for tensor in graph.initializer:
        elements = 1
        for dim in tensor.dims:
            elements *= dim
        known = by_onnx(tensor.data_type)
        row = found.setdefault(_type_name(tensor.data_type), {"count": 0, "elements": 0, "byte_size": 0})
        row["count"] += 1
        row["elements"] += elements
        row["byte_size"] += elements * (known.byte_size if known else 1)
    return found
