# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""torch.export programs to ONNX: they say themselves what they take, and which axes are dynamic."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from trtkit.compat import require
from trtkit.dtypes import by_numpy
from trtkit.errors import DataError, ExportError
from trtkit.export.batching import DEFAULT_MAX_BATCH_SIZE
from trtkit.export.key import wanted_batch
from trtkit.export.quiet import quiet
from trtkit.export.sentences import one_line
from trtkit.export.sources import Predict, rename_outputs
from trtkit.export.torch_source import exported, flat, output_names
from trtkit.numerics import Array
from trtkit.project import InputSpec, ModelSpec

BATCH = "batch"
# sizes without a maximum are symbolic infinities, or as large as an index gets
_UNBOUNDED = 1 << 31
# the argument that says whether an operator acts as in training, by the operator
_TRAINING = {"aten.dropout.default": 2, "aten.native_dropout.default": 2, "aten.batch_norm.default": 5}


def convert_program(value: Any, spec: ModelSpec, where: str) -> tuple[onnx.ModelProto, Predict]:
    """Export a program; without ``inputs:`` its own names, types and shapes are taken.

    The first axis of the first input is called ``batch`` where it is dynamic, and so is every axis of its size;
    other dynamic axes have the names of the program's symbols. ``inputs:`` renames in order, and is checked.

    Args:
        value: an ExportedProgram, or the path of one that torch.export.save wrote.
        spec: the model of the project file.
        where: for messages.

    Raises:
        ExportError: the file is damaged or of another torch, the program takes or gives something else than
            tensors or is one for training, or ``inputs:`` are not its own.
    """
    torch = require("torch")
    require("onnxscript")
    program = _read(torch, value, where) if isinstance(value, Path) else value
    _check_mode(program, where)
    own = dict(_own_inputs(program, where))
    if spec.inputs:
        _check_inputs(own, spec.inputs, where)
    inputs = dict(spec.inputs) or own
    axes = _axes(own, inputs, where)
    largest = _largest_batch(program, own, spec, where)
    answer = _answer(torch, program, where)
    model = exported(torch, program, inputs, where)
    _rename_axes(model.graph, axes)
    names = spec.output_names or output_names(answer, model)
    rename_outputs(model, names, where)
    return model, _predict(torch, program, names, largest)


def _read(torch: Any, file: Path, where: str) -> Any:
    """The program of a .pt2 file, which Python opens, so that the build sees that it was read."""
    try:
        with quiet(), file.open("rb") as opened:
            if damaged := zipfile.ZipFile(opened).testzip():
                raise ExportError(f"{where}: {file.name} is damaged: its part {damaged} does not have its checksum")
            opened.seek(0)
            return torch.export.load(opened)
    except ExportError:
        raise
    except OSError as exc:
        raise ExportError(f"{where}: {file.name} cannot be read: {exc.strerror or exc}") from exc
    except Exception as exc:  # zipfile, json, pickle and torch raise anything for what is no such file
        raise ExportError(f"{where}: {file.name} {_why_unreadable(torch, file, exc)}") from exc


def _why_unreadable(torch: Any, file: Path, exc: Exception) -> str:
    """In words; torch itself only logs what it found."""
    try:
        with zipfile.ZipFile(file) as archive:
            parts = {name.partition("/")[2]: name for name in archive.namelist()}
            model = parts.get("models/model.json")
            saved = json.loads(archive.read(model)).get("torch_version", "") if model else ""
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile):
        return f"is no torch.export program, or a damaged one: {one_line(exc)}; write it with torch.export.save"
    if any(part.startswith("data/aotinductor/") for part in parts):
        return "is compiled for one machine (AOTInductor); save the torch.export program itself with torch.export.save"
    if saved and saved != torch.__version__:
        return f"was saved by torch {saved}, and torch {torch.__version__} cannot read it; save it again with this one"
    return f"is no torch.export program that torch {torch.__version__} reads: {one_line(exc)}"


def _check_mode(program: Any, where: str) -> None:
    for node in program.graph.nodes:
        flag = _TRAINING.get(str(node.target)) if node.op == "call_function" else None
        if flag is not None and node.args[flag : flag + 1] == (True,):
            raise ExportError(
                f"{where}: the program was exported in training mode: its {node.target} '{node.name}' gives other "
                "values in each call; call eval() on the module before torch.export.export"
            )


def _own_inputs(program: Any, where: str) -> Iterator[tuple[str, InputSpec]]:
    """What the program takes, in order; a dynamic axis has the text of its symbol or formula, as in ``2*s0``."""
    values: dict[str, Any] = {
        node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"
    }
    names = [entry.arg.name for entry in program.graph_signature.input_specs if entry.kind.name == "USER_INPUT"]
    if not names:
        raise ExportError(f"{where}: the program takes no inputs, so that nothing could be asked of it")
    for name in names:
        value: Any = values.get(name)
        if not hasattr(value, "shape") or not hasattr(value, "dtype"):
            raise ExportError(
                f"{where}: the program takes '{name}', which is {type(value).__name__} and no tensor; make it a "
                "constant of the module before torch.export.export"
            )
        try:
            dtype = by_numpy(str(value.dtype).removeprefix("torch."))
        except DataError as exc:
            raise ExportError(
                f"{where}: input '{name}' of the program is {value.dtype}, which Triton or ONNX Runtime cannot pass; "
                "convert it in `forward`"
            ) from exc
        shape = [size if isinstance(size, int) else str(size) for size in value.shape]
        fields: dict[str, Any] = {"data_type": dtype.name, "shape": shape}
        yield name, InputSpec.model_construct(**fields)  # unchecked: a formula is no name that a project file may hold


def _check_inputs(own: Mapping[str, InputSpec], given: Mapping[str, InputSpec], where: str) -> None:
    """Refuse ``inputs:`` that are not the program's, taken in order."""
    if len(given) != len(own):
        raise ExportError(
            f"{where}: `inputs:` has {len(given)} ({', '.join(given)}), the program takes {len(own)}: {', '.join(own)}"
        )
    for (name, wanted), (inner, has) in zip(given.items(), own.items(), strict=True):
        what = f"{where}: input '{name}'"
        of_program = f"the program's '{inner}' is {has.data_type} [{', '.join(map(str, has.shape))}]"
        if wanted.data_type != has.data_type:
            raise ExportError(f"{what} is {wanted.data_type}, but {of_program}")
        if len(wanted.shape) != len(has.shape):
            raise ExportError(f"{what} has {len(wanted.shape)} axes, but {of_program}")
        for axis, (dim, size) in enumerate(zip(wanted.shape, has.shape, strict=True)):
            if isinstance(dim, str) and isinstance(size, int):
                raise ExportError(
                    f"{what} calls axis {axis} '{dim}', but {of_program}: it is fixed at {size}; export it with "
                    f"dynamic_shapes, or write {size}"
                )
            if isinstance(dim, int) and isinstance(size, str):
                raise ExportError(f"{what} has {dim} as axis {axis}, but {of_program}: it is dynamic; give it a name")
            if isinstance(dim, int) and dim != size:
                raise ExportError(f"{what} has {dim} as axis {axis}, but {of_program}")


def _axes(own: Mapping[str, InputSpec], inputs: Mapping[str, InputSpec], where: str) -> dict[str, str]:
    """The name of each dynamic axis by the program's symbol."""
    names: dict[str, str] = {}
    for (name, given), has in zip(inputs.items(), own.values(), strict=True):
        for dim, symbol in zip(given.shape, has.shape, strict=True):
            if isinstance(symbol, str) and names.setdefault(symbol, str(dim)) != str(dim):
                raise ExportError(
                    f"{where}: input '{name}' calls an axis '{dim}' that is '{names[symbol]}' before: the program has "
                    "one size for both; give them one name"
                )
    first = next((has.shape[0] for has in own.values() if has.shape), 0)
    if inputs is own and isinstance(first, str) and first.isidentifier():
        names[first] = BATCH
    return names


def _largest_batch(program: Any, own: Mapping[str, InputSpec], spec: ModelSpec, where: str) -> int | None:
    """The most rows that the program takes at once, by its Dim; None where it says nothing or does not batch.

    Raises:
        ExportError: larger batches are to be served than it was exported for.
    """
    wanted = wanted_batch(spec)
    wanted = DEFAULT_MAX_BATCH_SIZE if wanted is None else wanted
    first = {has.shape[0] if has.shape else 0 for has in own.values()}
    ranges = {str(symbol): allowed for symbol, allowed in program.range_constraints.items()}
    allowed = ranges.get(str(first.pop())) if len(first) == 1 else None
    if allowed is None or allowed.upper > _UNBOUNDED or wanted == 0:
        return None
    largest = int(allowed.upper)
    if wanted > largest:
        raise ExportError(
            f"{where}: the program takes a batch of at most {largest}, and max_batch_size is {wanted}; set config: "
            f"{{max_batch_size: {largest}}}, or export it with a larger maximum"
        )
    return largest


def _rename_axes(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Put names for symbols, inside formulas too."""
    whole = [symbol for symbol in names if symbol.isidentifier()]
    if not whole:
        return
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, whole))})\b")
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = pattern.sub(lambda found: names[found.group()], dim.dim_param)


def _answer(torch: Any, program: Any, where: str) -> Any:
    """The form of the program's answer, with the names of its values in place of them."""
    outputs = [entry.arg for entry in program.graph_signature.output_specs if entry.kind.name == "USER_OUTPUT"]
    for output in outputs:
        if type(output).__name__ != "TensorArgument" and getattr(output, "value", 0) is not None:
            raise ExportError(
                f"{where}: the program answers with {getattr(output, 'value', output.name)!r}, which is no tensor; "
                "let `forward` return tensors only"
            )
    names = [output.name if type(output).__name__ == "TensorArgument" else None for output in outputs]
    return torch.utils._pytree.tree_unflatten(names, program.call_spec.out_spec)


def _predict(torch: Any, program: Any, names: Sequence[str], largest: int | None) -> Predict:
    """The program's own outputs, in several calls where the rows are more than it takes at once."""
    with quiet():
        module = program.module()

    def run(arrays: Sequence[Array]) -> list[Array]:
        tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
        args, kwargs = torch.utils._pytree.tree_unflatten(tensors, program.call_spec.in_spec)
        with quiet(), torch.no_grad():
            return [tensor.numpy() for tensor in flat(module(*args, **kwargs))]

    def predict(inputs: Mapping[str, Array]) -> dict[str, Array]:
        arrays = list(inputs.values())
        if largest is None:
            return dict(zip(names, run(arrays), strict=True))
        pieces = -(-len(arrays[0]) // largest)
        answers = [run(rows) for rows in zip(*(np.array_split(array, pieces) for array in arrays), strict=True)]
        return dict(zip(names, map(np.concatenate, zip(*answers, strict=True)), strict=True))

    return predict
