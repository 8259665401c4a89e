# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""From the user's source to an ONNX ModelProto and, where there is one, the source's own predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from trtkit.errors import ExportError
from trtkit.export.onnx_file import read_onnx
from trtkit.numerics import Array
from trtkit.project import InputSpec, ModelSpec, Project
from trtkit.project.callables import call, is_callable_reference, split_reference

Predict = Callable[[Mapping[str, Array]], dict[str, Array]]


@dataclass(frozen=True)
class Loaded:
    """A source turned into ONNX.

    Attributes:
        model: the graph, with external data loaded.
        predict: the source's own outputs for given inputs, under the graph's output names; None for an
            ONNX source, which is its own reference.
        kind: ``onnx``, ``sklearn`` or ``torch``.
    """

    model: onnx.ModelProto
    predict: Predict | None
    kind: str


def load_source(project: Project, name: str) -> Loaded:
    """Run the model's source and convert what it gives.

    Raises:
        ExportError: the source raised, gave something that is no model, or cannot be converted.
        MissingDependencyError: the converter for it is not installed.
    """
    spec = project.models[name]
    assert spec.source is not None, f"{name} is an ensemble"
    where = project.where("models", name, "source", spec.source.kind)
    reference = spec.source.reference
    if not is_callable_reference(reference):
        if spec.source.kind != "onnx":
            raise ExportError(f"{where}: '{reference}' is no FILE.py:NAME; a {spec.source.kind} source is a callable")
        return Loaded(read_onnx(split_reference(reference, project.root)[0], where), None, "onnx")
    value = call(reference, project.root, where)
    kind = kind_of(value)
    if kind == "" or spec.source.kind not in ("callable", kind):
        wanted = "a model" if spec.source.kind == "callable" else _WANTED[spec.source.kind]
        raise ExportError(f"{where}: '{reference}' gave {_article(type(value).__name__)}; {wanted} is needed")
    return _convert(value, kind, spec, project, where)


_WANTED = {
    "onnx": "an onnx.ModelProto, its bytes, or the path of an .onnx file",
    "sklearn": "a fitted scikit-learn estimator or pipeline",
    "torch": "a torch.nn.Module",
}


def _article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def kind_of(value: Any) -> str:
    """``onnx``, ``sklearn`` or ``torch`` for a value that is such a model, else ``""``."""
    if isinstance(value, onnx.ModelProto | bytes | str | Path):
        return "onnx"
    bases = {f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in type(value).__mro__}
    if "sklearn.BaseEstimator" in bases:
        return "sklearn"
    return "torch" if "torch.Module" in bases else ""


def _convert(value: Any, kind: str, spec: ModelSpec, project: Project, where: str) -> Loaded:
    if kind == "sklearn":
        from trtkit.export.sklearn_source import convert_estimator

        return Loaded(*convert_estimator(value, spec, where), kind)
    if kind == "torch":
        from trtkit.export.torch_source import convert_module

        return Loaded(*convert_module(value, spec, where), kind)
    if isinstance(value, str | Path):
        return Loaded(read_onnx((project.root / value).resolve(), where), None, kind)
    if isinstance(value, bytes):
        try:
            value = onnx.load_model_from_string(value)
        except Exception as exc:  # protobuf's DecodeError has no public base class
            raise ExportError(f"{where}: the bytes that '{spec.source}' gave are no ONNX model: {exc}") from exc
    return Loaded(value, None, kind)


def shapes_of(inputs: Mapping[str, InputSpec], sizes: Mapping[str, int]) -> dict[str, list[int]]:
    """The shape of each input with its dynamic axes at given sizes."""
    return {name: [dim if isinstance(dim, int) else sizes[dim] for dim in spec.shape] for name, spec in inputs.items()}


def axis_names(inputs: Mapping[str, InputSpec]) -> list[str]:
    """The names of all dynamic axes, each once, in order."""
    return list(dict.fromkeys(dim for spec in inputs.values() for dim in spec.shape if isinstance(dim, str)))


def rename_outputs(model: onnx.ModelProto, names: Sequence[str], where: str) -> None:
    """Give the graph's outputs new names, in order; an inner value of such a name makes way.

    Raises:
        ExportError: another number of names than of outputs.
    """
    old = [output.name for output in model.graph.output]
    if len(names) != len(old) or len(set(names)) != len(names):
        raise ExportError(
            f"{where}: `outputs:` gives the names {list(names)}, the graph has {len(old)} outputs: {', '.join(old)}"
        )
    taken = {value for node in model.graph.node for value in node.output} - set(old)
    mapping = {name: f"{name}__inner" for name in names if name in taken}
    mapping |= dict(zip(old, names, strict=True))
    _rename(model.graph, mapping)


def _rename(graph: onnx.GraphProto, mapping: Mapping[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = mapping.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [mapping.get(name, name) for name in node.input]
        node.output[:] = [mapping.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                _rename(inner, mapping)
