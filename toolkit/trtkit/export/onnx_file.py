# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Read and write ONNX files, with external data kept inside the model's own folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from trtkit.artifacts import file_errors
from trtkit.errors import ExportError

# protobuf refuses messages of 2 GiB; the margin is for the graph beside the weights
EXTERNAL_ABOVE_BYTES = 1_900_000_000
MODEL_FILE = "model.onnx"
DATA_FILE = "model.onnx.data"


def read_onnx(file: Path, where: str) -> onnx.ModelProto:
    """Load an ONNX file and its external data.

    Raises:
        ExportError: there is no such file, it is no ONNX model, or its external data are missing or lie
            outside its folder.
    """
    model = read_graph(file, where)
    for tensor in external_tensors(model):
        _check_location(tensor, file, where)
    try:
        onnx.load_external_data_for_model(model, str(file.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as exc:
        raise ExportError(f"{where}: the external data of {file.name} cannot be read: {exc}") from exc
    return model


def read_graph(file: Path, where: str) -> onnx.ModelProto:
    """Load an ONNX file without its external data."""
    try:
        model = onnx.load(str(file), load_external_data=False)
    except (OSError, DecodeError, ValueError) as exc:
        raise ExportError(f"{where}: {file} cannot be read as an ONNX model: {exc}") from exc
    if not model.HasField("graph") or not model.graph.output:
        raise ExportError(f"{where}: {file} is no ONNX model: it holds no graph with outputs")
    return model


def external_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor whose values stand in another file, constants of inner graphs included."""
    yield from (t for t in _tensors(model.graph) if t.data_location == onnx.TensorProto.EXTERNAL)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _tensors(inner)


def _check_location(tensor: onnx.TensorProto, file: Path, where: str) -> None:
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    target = (file.parent / location).resolve()
    if not location or not target.is_relative_to(file.parent.resolve()):
        raise ExportError(
            f"{where}: {file.name}: the external data of '{tensor.name}' point to '{location}', outside the "
            "model's folder; refused: put the data file beside the model"
        )
    if not target.is_file():
        raise ExportError(
            f"{where}: {file.name}: the external data of '{tensor.name}' are missing: no file {location}"
        )


def write_onnx(model: onnx.ModelProto, folder: Path) -> Path:
    """Write ``model.onnx`` into a folder, with external data beside it above 1.9 GB."""
    path = folder / MODEL_FILE
    with file_errors(f"writing {path}"):
        if model.ByteSize() > EXTERNAL_ABOVE_BYTES:
            onnx.save_model(
                model, str(path), save_as_external_data=True, location=DATA_FILE, size_threshold=1024
            )
        else:
            path.write_bytes(model.SerializeToString(deterministic=True))
    return path
