# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""torch modules to ONNX, by torch's dynamo exporter."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from trtkit.compat import require
from trtkit.dtypes import by_name
from trtkit.errors import ExportError
from trtkit.export.quiet import quiet
from trtkit.export.sentences import one_line
from trtkit.export.sources import Predict, axis_names, rename_outputs, shapes_of
from trtkit.numerics import Array
from trtkit.project import ModelSpec
from trtkit.samples import random_array

# the dynamo exporter writes opset 18 itself; older ones only through a version conversion
OPSET_TORCH = 18
# distinct and above 1, because torch.export takes sizes 0 and 1 for constants
_FIRST_SIZE = 3
_NOT_IN_TORCH = ("BYTES", "BF16")


def convert_module(module: Any, spec: ModelSpec, where: str) -> tuple[onnx.ModelProto, Predict]:
    """Export a module in evaluation mode, with every named axis of ``inputs:`` dynamic.

    A module that answers with a dictionary gives its keys as the outputs' names, unless `outputs:` does.

    Raises:
        ExportError: no ``inputs:``, the module itself fails on such inputs, or torch cannot export it (an
            axis that is not dynamic, an operator).
    """
    torch = require("torch")
    require("onnxscript")
    _check_inputs(spec, where)
    module = module.eval()
    arguments = _examples(torch, spec)
    answer = _answer(torch, module, arguments, spec, where)
    shapes = _dynamic_shapes(torch, module, spec)
    model = exported(torch, module, spec.inputs, where, args=arguments, dynamic_shapes=shapes)
    _check_axes(model, spec, where)
    names = spec.output_names or output_names(answer, model)
    rename_outputs(model, names, where)
    return model, _predict(torch, module, names)


def exported(torch: Any, thing: Any, inputs: Iterable[str], where: str, **options: Any) -> onnx.ModelProto:
    """The graph that torch's exporter makes of a module or a program, without what it notes of its own course.

    Args:
        torch: the module.
        thing: a torch.nn.Module, with ``args`` and ``dynamic_shapes`` among the options, or an ExportedProgram.
        inputs: names for the graph's inputs, in order.
        where: for messages.
        options: more arguments of ``torch.onnx.export``.

    Raises:
        ExportError: torch cannot export it.
    """
    with quiet():
        try:
            program = torch.onnx.export(
                thing, dynamo=True, opset_version=OPSET_TORCH, input_names=list(inputs), external_data=False,
                verbose=False, **options,
            )  # fmt: skip
        except Exception as exc:  # torch's exporter wraps anything, from user code to its own verifier
            raise ExportError(f"{where}: torch cannot export {type(thing).__name__}: {_root_cause(exc)}") from exc
    model: onnx.ModelProto = program.model_proto
    _drop_self_copies(model.graph)
    _drop_places(model)
    return model


def _check_inputs(spec: ModelSpec, where: str) -> None:
    if not spec.inputs:
        raise ExportError(
            f"{where}: a torch source needs `inputs:`, e.g. inputs: {{x: {{data_type: FP32, shape: [batch, 64]}}}}"
        )
    for name, input_ in spec.inputs.items():
        if input_.data_type in _NOT_IN_TORCH:
            raise ExportError(
                f"{where}: input '{name}' is {input_.data_type}, which cannot be exported from torch; take another "
                "type and convert in `forward`"
            )


def _examples(torch: Any, spec: ModelSpec) -> tuple[Any, ...]:
    sizes = {name: _FIRST_SIZE + index for index, name in enumerate(axis_names(spec.inputs))}
    rng = np.random.default_rng(0)
    shapes = shapes_of(spec.inputs, sizes)
    arrays = {name: random_array(rng, by_name(i.data_type), shapes[name]) for name, i in spec.inputs.items()}
    return tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays.values())


def _answer(torch: Any, module: Any, arguments: tuple[Any, ...], spec: ModelSpec, where: str) -> Any:
    """The module's own answer to the examples, before torch's tracing wraps its errors in its own."""
    try:
        with quiet(), torch.no_grad():
            answer = module(*arguments)
    except ExportError:  # of a module of ours
        raise
    except Exception as exc:
        shapes = ", ".join(f"{n} {list(a.shape)}" for n, a in zip(spec.inputs, arguments, strict=True))
        raise ExportError(
            f"{where}: {type(module).__name__} itself fails on {shapes}: {type(exc).__name__}: {one_line(exc)}"
        ) from exc
    for value in flat(answer):
        if not isinstance(value, torch.Tensor):
            raise ExportError(
                f"{where}: {type(module).__name__} answers with {type(value).__name__}; tensors are needed, alone or "
                "in a tuple, list or dictionary"
            )
    return answer


def _dynamic_shapes(torch: Any, module: Any, spec: ModelSpec) -> tuple[Any, ...]:
    """Torch's description of dynamic axes, in the shape of `forward`'s parameters: ``*args`` take a tuple."""
    dims = {name: torch.export.Dim(name) for name in axis_names(spec.inputs)}
    dynamic = [{axis: dims[d] for axis, d in enumerate(s.shape) if isinstance(d, str)} for s in spec.inputs.values()]
    kinds = [parameter.kind for parameter in inspect.signature(module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return tuple(dynamic)
    named = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*dynamic[:named], tuple(dynamic[named:]))


def _root_cause(exc: BaseException) -> str:
    while exc.__cause__ is not None:
        exc = exc.__cause__
    return f"{type(exc).__name__}: {one_line(exc)}"


def _check_axes(model: onnx.ModelProto, spec: ModelSpec, where: str) -> None:
    """Refuse an axis that torch fixed: its exporter does so silently where the module computes with the size."""
    dims = {value.name: value.type.tensor_type.shape.dim for value in model.graph.input}
    for name, input_ in spec.inputs.items():
        for axis, dim in enumerate(input_.shape):
            if isinstance(dim, str) and name in dims and dims[name][axis].HasField("dim_value"):
                size = dims[name][axis].dim_value
                raise ExportError(
                    f"{where}: torch fixed the axis '{dim}' of input '{name}' at {size}, the size of its example: "
                    f"`forward` computes with it as a number (view({size}, …), zeros({size}, …), int(x.shape[{axis}]), "
                    f"a loop over it); take sizes from x.shape, or write {size} in `inputs:`"
                )


def _drop_self_copies(graph: onnx.GraphProto) -> None:
    """Remove the Identity that the exporter makes of an output that is an input: from a name to the same name."""
    kept = [node for node in graph.node if list(node.input) != list(node.output)]
    del graph.node[:]
    graph.node.extend(kept)


def _drop_places(model: onnx.ModelProto) -> None:
    """Remove what torch notes of its own course: it holds absolute paths, and equal models should be equal files."""
    graph = model.graph
    for thing in (model, graph, *graph.input, *graph.output, *graph.value_info, *graph.initializer, *graph.node):
        del thing.metadata_props[:]
    for node in graph.node:
        node.ClearField("doc_string")


def output_names(answer: Any, model: onnx.ModelProto) -> list[str]:
    """The dictionary's keys where the answer is one of tensors, else the exporter's names; none is an input's."""
    names = [output.name for output in model.graph.output]
    if isinstance(answer, Mapping) and len(answer) == len(names):
        names = [str(key) for key in answer]
    inputs = {value.name for value in model.graph.input}
    return [f"{name}_output" if name in inputs else name for name in names]


def _predict(torch: Any, module: Any, names: Sequence[str]) -> Predict:
    def predict(inputs: Mapping[str, Array]) -> dict[str, Array]:
        with quiet(), torch.no_grad():
            answer = module(*(torch.from_numpy(np.ascontiguousarray(array)) for array in inputs.values()))
        return {name: tensor.numpy() for name, tensor in zip(names, flat(answer), strict=True)}

    return predict


def flat(answer: Any) -> Iterator[Any]:
    """The tensors of an answer in the order in which torch exports them; a None is none."""
    if isinstance(answer, Mapping | tuple | list):
        for value in answer.values() if isinstance(answer, Mapping) else answer:
            yield from flat(value)
    elif answer is not None:
        yield answer
