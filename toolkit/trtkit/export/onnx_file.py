# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Read and write ONNX files, with external data kept inside the model's own folder."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import external_data_helper, numpy_helper

from trtkit.artifacts import file_errors
from trtkit.dtypes import by_onnx
from trtkit.errors import ExportError
from trtkit.export.sentences import one_line

# protobuf refuses messages of 2 GiB; the margin is for the graph beside the weights
EXTERNAL_ABOVE_BYTES = 1_900_000_000
MODEL_FILE = "model.onnx"
DATA_FILE = "model.onnx.data"
# shapes, axes and other small constants stay in the graph, where shape inference reads them
_INLINE_BELOW_BYTES = 1024
_ALIGNMENT_BYTES = 64


def read_onnx(file: Path, where: str) -> onnx.ModelProto:
    """Load an ONNX file and its external data.

    Raises:
        ExportError: there is no such file, it is no ONNX model, or its external data are missing, damaged,
            or lie outside its folder.
    """
    model = read_graph(file, where)
    for tensor in external_tensors(model):
        _check_location(tensor, file, where)
    try:
        onnx.load_external_data_for_model(model, str(file.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as exc:
        raise ExportError(f"{where}: the external data of {file.name} cannot be read: {one_line(exc)}") from exc
    return model


def read_graph(file: Path, where: str) -> onnx.ModelProto:
    """Load an ONNX file without its external data."""
    try:
        model = onnx.load(str(file), load_external_data=False)
    except Exception as exc:  # the file's suffix picks one of four parsers, and each has its own errors
        why = "it is cut off or no ONNX file; export it again" if isinstance(exc, DecodeError) else one_line(exc)
        raise ExportError(f"{where}: {file.name} cannot be read as an ONNX model: {why}") from exc
    check_content(model, file.name, where)
    return model


def check_content(model: onnx.ModelProto, what: str, where: str) -> None:
    """Refuse a message that holds no model: protobuf reads almost anything as an empty one."""
    if not model.HasField("graph") or not model.graph.output:
        raise ExportError(f"{where}: {what} is no ONNX model: it holds no graph with outputs")


def external_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor whose values stand in another file, constants of inner graphs and functions included."""
    yield from (t for t in tensors_of(model) if t.data_location == onnx.TensorProto.EXTERNAL)


def tensors_of(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model: initializers and constants, inner graphs and functions included."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        yield from attribute.tensors
        if attribute.HasField("t"):
            yield attribute.t
        for inner in inner_graphs(attribute):
            yield from _graph_tensors(inner)


def inner_graphs(attribute: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    """The graphs an attribute holds: the branches of an If, the body of a Loop or Scan."""
    yield from attribute.graphs
    if attribute.HasField("g"):
        yield attribute.g


def _check_location(tensor: onnx.TensorProto, file: Path, where: str) -> None:
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    what = f"{where}: {file.name}: the external data of '{tensor.name}'"
    try:
        target = (file.parent / location).resolve()
        inside, found = target.is_relative_to(file.parent.resolve()), target.is_file()
    except (OSError, ValueError, RuntimeError) as exc:  # a NUL byte, or links that lead in a circle
        raise ExportError(f"{what} point to {location!r}, which is no path: {one_line(exc)}") from exc
    if not location or not inside:
        raise ExportError(
            f"{what} point to '{location}', outside the model's folder; refused: put the data file beside the model"
        )
    if not found:
        raise ExportError(f"{what} are missing: there is no file {location} beside the model")


def write_onnx(model: onnx.ModelProto, folder: Path, where: str) -> Path:
    """Write ``model.onnx`` into a folder; weights above 1.9 GB in all go to ``model.onnx.data`` beside it.

    They leave the message in memory too, which refers to the file from then on: it can be changed and
    written again at no cost.

    Raises:
        ExportError: what is not weights, such as constants of nodes, is above the 2 GB of a protobuf message.
        RepositoryError: the file system refused.
    """
    path = folder / MODEL_FILE
    with file_errors(f"writing {path}"):
        if _byte_size(model) > EXTERNAL_ABOVE_BYTES:
            _externalize(model, folder / DATA_FILE)
        path.write_bytes(_serialized(model, where))
    return path


def _serialized(model: onnx.ModelProto, where: str) -> bytes:
    try:
        return model.SerializeToString(deterministic=True)
    except Exception as exc:  # protobuf's EncodeError and ValueError have no common base of its own
        raise ExportError(
            f"{where}: the graph without its weights does not fit into an ONNX file of 2 GB: {one_line(exc)}; "
            "make its large constants initializers"
        ) from exc


def _byte_size(model: onnx.ModelProto) -> int:
    """At least the bytes of the weights; ``ByteSize`` itself fails above 2 GiB."""
    return sum(_tensor_bytes(t) for t in tensors_of(model) if t.data_location != onnx.TensorProto.EXTERNAL)


def _tensor_bytes(tensor: onnx.TensorProto) -> int:
    known = by_onnx(tensor.data_type)
    return math.prod(tensor.dims) * (known.byte_size if known else 1)


def _externalize(model: onnx.ModelProto, file: Path) -> None:
    with file.open("wb") as data:
        for tensor in _graph_initializers(model.graph):
            if _tensor_bytes(tensor) < _INLINE_BELOW_BYTES or not _make_raw(tensor):
                continue
            offset = -(-data.tell() // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
            data.seek(offset)
            length = data.write(tensor.raw_data)
            external_data_helper.set_external_data(tensor, file.name, offset, length)
            tensor.ClearField("raw_data")


def _graph_initializers(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            for inner in inner_graphs(attribute):
                yield from _graph_initializers(inner)


def _make_raw(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor's values are bytes now; numbers in typed fields are turned into them, text is not."""
    known = by_onnx(tensor.data_type)
    if tensor.data_location == onnx.TensorProto.EXTERNAL or known is None or not known.byte_size:
        return False
    if not tensor.HasField("raw_data"):
        name, dims = tensor.name, list(tensor.dims)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), name))
        tensor.dims[:] = dims
    return True
