# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A graph that casts its inputs: the explicit step between two models whose data types differ."""

from __future__ import annotations

import onnx
from onnx import helper

from trtkit.compat import IR_MAX, OPSET_EXPORT
from trtkit.dtypes import by_name
from trtkit.errors import ExportError
from trtkit.project import ModelSpec


def cast_model(spec: ModelSpec, where: str) -> onnx.ModelProto:
    """One Cast node for each of ``inputs:``; the outputs have the names of ``outputs:``, by default ``NAME_TYPE``.

    Raises:
        ExportError: not as many `outputs:` as inputs, or a name twice.
    """
    assert spec.source is not None
    assert spec.source.cast is not None, "no cast"
    target = by_name(spec.source.cast)
    names = spec.output_names or [f"{name}_{target.name.lower()}" for name in spec.inputs]
    if len(names) != len(spec.inputs) or len({*names, *spec.inputs}) != 2 * len(names):
        raise ExportError(
            f"{where}: `outputs:` gives the names {', '.join(names)}; a cast of {', '.join(spec.inputs)} takes "
            "as many, each another one"
        )
    given = [
        helper.make_tensor_value_info(name, by_name(tensor.data_type).onnx, list(tensor.shape))
        for name, tensor in spec.inputs.items()
    ]
    made = [
        helper.make_tensor_value_info(name, target.onnx, list(tensor.shape))
        for name, tensor in zip(names, spec.inputs.values(), strict=True)
    ]
    nodes = [
        helper.make_node("Cast", [old], [new], name=new, to=target.onnx)
        for old, new in zip(spec.inputs, names, strict=True)
    ]
    graph = helper.make_graph(nodes, "cast", given, made)
    opset = helper.make_opsetid("", OPSET_EXPORT)
    return helper.make_model(graph, opset_imports=[opset], ir_version=IR_MAX)
