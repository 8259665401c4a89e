# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""From the user's source to an ONNX ModelProto and, where there is one, the source's own predictions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from trtkit.errors import ExportError
from trtkit.export.cast_source import cast_model
from trtkit.export.onnx_file import check_content, external_tensors, inner_graphs, read_onnx
from trtkit.export.sentences import one_line
from trtkit.numerics import Array
from trtkit.project import InputSpec, ModelSpec, Project
from trtkit.project.callables import call, is_callable_reference, no_path, split_reference

Predict = Callable[[Mapping[str, Array]], dict[str, Array]]


@dataclass(frozen=True)
class Loaded:
    """A source turned into ONNX.

    Attributes:
        model: the graph, with external data loaded; the export's own, to be changed in place.
        predict: the source's own outputs for given inputs, under the graph's output names; None where
            there is nothing to compare with.
        kind: ``onnx``, ``sklearn``, ``torch``, ``huggingface`` or ``cast``.
        why_no_predict: the reason there is nothing to compare with.
    """

    model: onnx.ModelProto
    predict: Predict | None
    kind: str
    why_no_predict: str = "an ONNX source is its own reference"


def load_source(project: Project, name: str) -> Loaded:
    """Run the model's source and convert what it gives.

    Raises:
        ExportError: the source raised, gave something that is no model, or cannot be converted.
        MissingDependencyError: the converter for it is not installed.
    """
    spec = project.models[name]
    assert spec.source is not None, f"{name} is an ensemble"
    where = project.where("models", name, "source", spec.source.kind)
    if spec.source.cast:
        return Loaded(cast_model(spec, where), None, "cast", "a cast is its own reference")
    reference = spec.source.reference
    if is_callable_reference(reference):
        value = call(reference, project.root, where)
    elif spec.source.kind in _FROM_FILES:
        value = split_reference(reference, project.root)[0]
    else:
        raise ExportError(f"{where}: '{reference}' is no FILE.py:NAME; a {spec.source.kind} source is a callable")
    if isinstance(value, str | Path):
        value = _path(value, project.root, where)
    kind = kind_of(value)
    if kind == "" or spec.source.kind not in ("callable", kind):
        given = _given(value, reference)
        raise ExportError(f"{where}: {given}; {_WANTED[spec.source.kind]} is needed")
    if kind == "onnx":
        return Loaded(_onnx_model(value, project, name, where), None, kind)
    return _converted(value, kind, spec, where)


# kinds whose reference may be a path
_FROM_FILES = ("onnx", "torch", "huggingface")
_WANTED = {
    "onnx": "an onnx.ModelProto, its bytes, or the path of an .onnx file",
    "sklearn": "a fitted scikit-learn estimator or pipeline",
    "torch": "a torch.nn.Module or a torch.export program, given by FILE.py:NAME or saved as .pt2,",
    "huggingface": "the folder of a transformers model",
    "callable": "an ONNX model, a scikit-learn estimator, a torch module or program, or the path of one on disk",
}


def _path(value: str | Path, root: Path, where: str) -> Path:
    """The absolute path of a reference, or of what a callable gave."""
    try:
        path = (root / value).resolve()
        path.is_dir()
    except (OSError, RuntimeError, ValueError) as exc:  # a name too long, a loop of symbolic links, a NUL
        raise ExportError(f"{where}: {no_path(str(value), exc)}") from exc
    return path


def _given(value: Any, reference: str) -> str:
    """What there was instead of a model."""
    if not isinstance(value, Path):
        return f"'{reference}' gave {_article(type(value).__name__)}"
    verb = "gave the path of" if is_callable_reference(reference) else "is"
    return f"'{reference}' {verb} {'a folder' if value.is_dir() else _article(f'{value.suffix} file'.strip())}"


def _article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def kind_of(value: Any) -> str:
    """``onnx``, ``sklearn``, ``torch`` or ``huggingface`` for a value that is such a model, else ``""``.

    A path counts by what is there: a folder is a transformers directory, a .pt2 file a torch program, and any
    other an ONNX file.
    """
    if isinstance(value, Path):
        return "huggingface" if value.is_dir() else "torch" if value.suffix == ".pt2" else "onnx"
    if isinstance(value, onnx.ModelProto | bytes | str):
        return "onnx"
    bases = {f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in type(value).__mro__}
    if "sklearn.BaseEstimator" in bases:
        return "sklearn"
    return "torch" if bases & {"torch.Module", "torch.ExportedProgram"} else ""


def _converted(value: Any, kind: str, spec: ModelSpec, where: str) -> Loaded:
    if kind == "sklearn":
        from trtkit.export.sklearn_source import convert_estimator

        return Loaded(*convert_estimator(value, spec, where), kind)
    if kind == "huggingface":
        from trtkit.export.huggingface_source import convert_directory

        return Loaded(*convert_directory(value, spec, where), kind)
    if isinstance(value, Path) or type(value).__name__ == "ExportedProgram":
        from trtkit.export.torch_program import convert_program

        return Loaded(*convert_program(value, spec, where), kind)
    from trtkit.export.torch_source import convert_module

    return Loaded(*convert_module(value, spec, where), kind)


def _onnx_model(value: Any, project: Project, name: str, where: str) -> onnx.ModelProto:
    spec = project.models[name]
    if spec.inputs:
        place = project.where("models", name, "inputs")
        raise ExportError(f"{place}: an ONNX model says itself what its inputs are; leave `inputs:` out")
    model = _read_value(value, project, where)
    if spec.outputs:
        rename_outputs(model, spec.output_names, project.where("models", name, "outputs"))
    return model


def _read_value(value: Any, project: Project, where: str) -> onnx.ModelProto:
    """The message of a path, bytes or a message, as a copy: the user's code may keep its own."""
    if isinstance(value, Path):
        return read_onnx(value, where)
    if isinstance(value, bytes):
        try:
            value = onnx.load_model_from_string(value)
        except Exception as exc:  # protobuf's DecodeError has no public base class
            raise ExportError(f"{where}: the bytes it gave are no ONNX model: {one_line(exc)}") from exc
    check_content(value, "what it gave", where)
    if tensor := next(external_tensors(value), None):
        raise ExportError(
            f"{where}: the model it gave has external data ('{tensor.name}') and does not say where; "
            "give the path of its file"
        )
    return copy.deepcopy(value)


def shapes_of(inputs: Mapping[str, InputSpec], sizes: Mapping[str, int]) -> dict[str, list[int]]:
    """The shape of each input with its dynamic axes at given sizes."""
    return {name: [dim if isinstance(dim, int) else sizes[dim] for dim in spec.shape] for name, spec in inputs.items()}


def axis_names(inputs: Mapping[str, InputSpec]) -> list[str]:
    """The names of all dynamic axes, each once, in order."""
    return list(dict.fromkeys(dim for spec in inputs.values() for dim in spec.shape if isinstance(dim, str)))


def rename_outputs(model: onnx.ModelProto, names: Sequence[str], where: str) -> None:
    """Give the graph's outputs new names, in order; an inner value of such a name makes way.

    Raises:
        ExportError: another number of names than of outputs, or one that is an input's.
    """
    graph = model.graph
    old = [output.name for output in graph.output]
    if len(names) != len(old) or len(set(names)) != len(names):
        raise ExportError(
            f"{where}: `outputs:` gives the names {list(names)}, the graph has {len(old)} outputs: {', '.join(old)}"
        )
    if taken := set(names) & {value.name for value in graph.input}:
        raise ExportError(f"{where}: `outputs:` gives the name '{min(taken)}', which is an input's; choose another")
    _separate_outputs(graph)
    old = [output.name for output in graph.output]
    used = {tensor.name for tensor in graph.initializer}.union(*(node.output for node in graph.node))
    mapping = {name: _free_name(name, used) for name in names if name in used - set(old)}
    mapping |= dict(zip(old, names, strict=True))
    _rename(graph, mapping)


def _separate_outputs(graph: onnx.GraphProto) -> None:
    """Give an output that is an input, a weight or a second output too a value of its own."""
    seen = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    used = seen.union(*(node.output for node in graph.node))
    for output in graph.output:
        if output.name in seen:
            own = _free_name(output.name, used)
            graph.node.append(helper.make_node("Identity", [output.name], [own], name=own))
            output.name = own
        seen.add(output.name)


def _free_name(name: str, used: set[str]) -> str:
    while name in used:
        name += "__inner"
    used.add(name)
    return name


def _rename(graph: onnx.GraphProto, mapping: Mapping[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = mapping.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [mapping.get(name, name) for name in node.input]
        node.output[:] = [mapping.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for inner in inner_graphs(attribute):
                _rename(inner, mapping)
