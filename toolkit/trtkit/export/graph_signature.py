# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a graph takes and gives, in Triton's types, or why Triton cannot serve it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import onnx

from trtkit.dtypes import DType, by_onnx
from trtkit.errors import ExportError
from trtkit.signature import Dim, Signature, TensorSpec


def signature_of(model: onnx.ModelProto, where: str) -> Signature:
    """The graph's inputs and outputs.

    Raises:
        ExportError: it has no inputs, or two of one name, or one of its tensors is none, of a type Triton has
            no name for, or empty by its shape.
    """
    for side, values in (("inputs", model.graph.input), ("outputs", model.graph.output)):
        if double := [name for name, count in Counter(value.name for value in values).items() if count > 1]:
            raise ExportError(f"{where}: two {side} are called '{double[0]}'; give them names of their own")
    if not model.graph.input:
        raise ExportError(f"{where}: the graph has no inputs, so that nothing could be asked of it")
    return Signature(
        tuple(tensor_specs(model.graph.input, "input", where)), tuple(tensor_specs(model.graph.output, "output", where))
    )


def tensor_specs(values: Iterable[onnx.ValueInfoProto], side: str, where: str) -> Iterator[TensorSpec]:
    """The inputs or outputs as tensors; see `signature_of` for what is refused."""
    for value in values:
        what = f"{where}: {side} '{value.name}'"
        dtype = tensor_dtype(value, what)
        shape = tuple(_dim(dim) for dim in value.type.tensor_type.shape.dim)
        if not all(
            isinstance(name, str | int) for name in (value.name, *shape)
        ):  # protobuf hands such text out as bytes
            raise ExportError(f"{what} or one of its axes has a name that is not UTF-8; export it with another")
        if 0 in shape:
            raise ExportError(f"{what} has the shape {list(shape)}, which holds nothing; export it with dynamic axes")
        yield TensorSpec(value.name, dtype, shape)


def tensor_dtype(value: onnx.ValueInfoProto, what: str) -> DType:
    """The data type of an input or output; ExportError when Triton or ONNX Runtime's Python API has none."""
    kind = value.type.WhichOneof("value") or "nothing"
    if kind != "tensor_type":
        raise ExportError(
            f"{what} is no tensor but of the kind {kind.removesuffix('_type')}; Triton serves tensors only"
        )
    code = value.type.tensor_type.elem_type
    dtype = by_onnx(code)
    if dtype is None or dtype.name == "BF16":
        names = {number: name for name, number in onnx.TensorProto.DataType.items()}
        reason = "ONNX Runtime's Python API cannot pass" if dtype else "Triton does not know"
        raise ExportError(f"{what} has the type {names.get(code, code)}, which {reason}; cast it in the graph")
    return dtype


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    """A negative size, which some exporters write, is a dynamic axis without a name."""
    return dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else dim.dim_param
