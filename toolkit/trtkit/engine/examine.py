# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What TensorRT-RTX finds in a graph for one compute capability: the part of the check that runs in the worker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trtkit.dtypes import by_onnx
from trtkit.engine.builder import build_parsed
from trtkit.engine.gpu import find_gpu
from trtkit.engine.graph import ParsedGraph, parse_graph, parser_errors, sentence, start
from trtkit.engine.layers import network_layers
from trtkit.engine.library import Library, compute_capabilities
from trtkit.engine.manifest import save_engine
from trtkit.engine.options import EngineOptions, option_problems
from trtkit.engine.profiles import Profile
from trtkit.errors import BuildError
from trtkit.export.onnx_file import read_graph

_DEFAULT_TARGET = "8.9"  # has FP16, BF16 and FP8
# since which compute capability a type is computed in hardware (NVIDIA's support matrix)
_NEEDS = {"BF16": "8.0", "FP8": "8.9", "FP4": "10.0"}
_TURING_LIMIT = "FP32 GEMM is not supported"
_TURING, _AFTER_TURING = "7.5", "8.0"
# types of ONNX that Triton has no name for (TensorProto.DataType), in TensorRT's words
_OTHER_ONNX_TYPES = {17: "FP8", 21: "UINT4", 22: "INT4", 23: "FP4"}
_LEFT_OUT = ("version_compatible", "hardware_compatibility", "strip_plan", "refit", "plugins", "timing_cache")


def examine(
    trt: Any,
    onnx_file: Path,
    profiles: Sequence[Profile],
    options: EngineOptions,
    compute_capability: str | None,
    folder: Path,
) -> dict[str, Any]:
    """Parse and build with TensorRT-RTX; the fields of `trtkit.engine.check.EngineCheck` as far as they are known."""
    library = Library.of(trt)
    target, why = nearest_target(compute_capability, compute_capabilities(trt))
    chosen, notes = _reduced(options, target)
    found: dict[str, Any] = {
        "library_version": library.version_text, "built_for": target, "notes": [why, *notes] if why else notes
    }  # fmt: skip
    for problem in option_problems(library, chosen, find_gpu() is not None):
        raise BuildError(f"{onnx_file.name}: {problem}")
    try:
        graph = parse_graph(trt, onnx_file, chosen)
    except BuildError as exc:
        refused = unsupported_nodes(trt, onnx_file)
        return {**found, "problems": [_unsupported(library, onnx_file, refused) or str(exc)], "unsupported": refused}
    try:
        found |= {"layers": network_layers(graph.network), "precision_source": "network", **_io(graph)}
        problems = list(graph.profile_problems(profiles, chosen))
        if problems:
            return {**found, "problems": problems, "profile_problems": problems}
        return {**found, **_built(graph, profiles, chosen, found, folder)}
    except UnicodeDecodeError:
        return {**found, "problems": [f"{onnx_file.name}: a tensor or layer has a name that is not UTF-8"]}


def nearest_target(wanted: str | None, known: Iterable[str]) -> tuple[str, str]:
    """What TensorRT-RTX can build for instead of a compute capability, and a sentence where that is another one.

    The nearest below it: what runs there runs on the newer one too, with the same types from 8.9 on (FP16, BF16,
    FP8; FP4 is not checked). A target older than all gets the oldest there is.
    """
    order = sorted(known, key=_numbers)
    if wanted is None:
        return _DEFAULT_TARGET, f"no compute capability was given: built for {_DEFAULT_TARGET}"
    if wanted in order:
        return wanted, ""
    below = [target for target in order if _numbers(target) < _numbers(wanted)]
    nearest = below[-1] if below else order[0]
    relation = "the nearest below it, with the same types" if below else "which is newer: the oldest there is"
    relation += " except FP4" if _numbers(wanted) >= _numbers(_NEEDS["FP4"]) > _numbers(nearest) else ""
    return nearest, f"TensorRT-RTX does not build for {wanted}: built for {nearest}, {relation}"


def _numbers(compute_capability: str) -> tuple[int, ...]:
    return tuple(int(part) for part in compute_capability.split("."))


def _reduced(options: EngineOptions, target: str) -> tuple[EngineOptions, list[str]]:
    """The options that TensorRT-RTX has too, and a sentence with the others."""
    plain = EngineOptions()
    dropped = [name for name in _LEFT_OUT if getattr(options, name) != getattr(plain, name)]
    kept = replace(options, compute_capabilities=(target,), **{name: getattr(plain, name) for name in _LEFT_OUT})
    shown = [name for name in dropped if name != "timing_cache"]  # changes nothing about the result
    return kept, [f"not checked, TensorRT-RTX has it in another way or not at all: {', '.join(shown)}"] if shown else []


def unsupported_nodes(trt: Any, onnx_file: Path) -> list[dict[str, str]]:
    """The nodes that the parser refuses, all of them: name (or number), operator and why; empty for a broken file."""
    _, log, builder = start(trt)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    if parser.supports_model_v2(onnx_file.read_bytes(), str(onnx_file)):
        return []
    refused = [refusal for refusal in parser_errors(parser) if refusal["node"]]
    for refusal in refused:
        if refusal["operator"] and not parser.supports_operator(refusal["operator"]):
            refusal["why"] = f"TensorRT has no operator {refusal['operator']}"
    return refused


def _unsupported(library: Library, onnx_file: Path, refused: Sequence[dict[str, str]]) -> str:
    """The nodes that are refused, in one sentence; "" where there are none."""
    named = "; ".join(map(sentence, refused))
    remedy = "replace what is refused, or serve the graph with backend onnxruntime"
    return f"{library.name} cannot parse {onnx_file.name}: {named}; {remedy}" if named else ""


def _io(graph: ParsedGraph) -> dict[str, Any]:
    """Inputs and outputs with the ONNX file's type beside the engine's, and what changed, in sentences."""
    onnx_graph = read_graph(graph.file, graph.file.name).graph
    types = {value.name: _onnx_type(value) for value in (*onnx_graph.input, *onnx_graph.output)}
    io = [{**entry, "onnx_dtype": types.get(entry["name"])} for entry in graph.io()]
    changed = [entry for entry in io if entry["onnx_dtype"] not in (None, entry["dtype"])]
    changes = [
        f"{e['mode']} '{e['name']}' is {e['onnx_dtype']} in the graph and {e['dtype']} in the engine, with no warning"
        for e in changed
    ]
    kept = [f"{e['mode']} '{e['name']}' stays INT64; TensorRT before 10 makes it INT32" for e in io if _is_int64(e)]
    return {"io": io, "io_changes": changes, "io_kept": kept}


def _onnx_type(value: Any) -> str:
    code = value.type.tensor_type.elem_type
    known = by_onnx(code)
    return known.name if known else _OTHER_ONNX_TYPES.get(code, f"ONNX type {code}")


def _is_int64(entry: Mapping[str, Any]) -> bool:
    return entry["onnx_dtype"] == entry["dtype"] == "INT64"


def _built(
    graph: ParsedGraph, profiles: Sequence[Profile], options: EngineOptions, found: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    try:
        built = build_parsed(graph, profiles, options, find_gpu())
    except BuildError as exc:
        if _TURING_LIMIT in str(exc) and not _too_new(found["layers"], _TURING):
            return _built_after_turing(graph, profiles, options, found, folder)
        return {"problems": [*_too_new(found["layers"], found["built_for"]), str(exc)]}
    save_engine(folder, built, graph.file)
    names = ("layers", "precision_source")
    facts = {name: built.facts[name] for name in names}
    return {**facts, "built": True, "seconds": built.facts["build_seconds"], "plan_bytes": len(built.plan)}


def _built_after_turing(
    graph: ParsedGraph, profiles: Sequence[Profile], options: EngineOptions, found: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """Build for 8.0 what TensorRT-RTX alone refuses for 7.5."""
    note = (
        f"TensorRT-RTX has no FP32 matrix products for {_TURING}; that is its own limit and not TensorRT's on such a "
        f"GPU: built for {_AFTER_TURING} instead"
    )
    newer = {**found, "built_for": _AFTER_TURING, "notes": [*found["notes"], note]}
    again = _built(graph, profiles, replace(options, compute_capabilities=(_AFTER_TURING,)), newer, folder)
    return {"built_for": _AFTER_TURING, "notes": newer["notes"], **again}


def _too_new(layers: Iterable[str], target: str) -> list[str]:
    """Types that a compute capability does not compute in, a sentence each."""
    return [
        f"{dtype} needs compute capability {least} or newer, and this is for {target}"
        for dtype, least in _NEEDS.items()
        if dtype in layers and _numbers(target) < _numbers(least)
    ]
