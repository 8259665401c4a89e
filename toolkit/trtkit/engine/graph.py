# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""An ONNX file as a network of TensorRT: parsed, its inputs and outputs, and its profiles checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtkit.engine.library import Library, dtype_name, logger_of, reason
from trtkit.engine.options import EngineOptions
from trtkit.engine.profiles import Profile, Shape, profile_problems
from trtkit.errors import BuildError, MissingDependencyError

_NO_SUCH_OPERATOR = "Plugin not found"


@dataclass(frozen=True)
class ParsedGraph:
    """A graph in a builder's network.

    The library's objects do not keep each other alive, and using one whose owner is gone ends the process:
    they stay together here.
    """

    file: Path
    library: Library
    log: Any
    builder: Any
    network: Any
    parser: Any

    @property
    def inputs(self) -> list[Any]:
        """The network's input tensors."""
        return [self.network.get_input(index) for index in range(self.network.num_inputs)]

    @property
    def outputs(self) -> list[Any]:
        """The network's output tensors."""
        return [self.network.get_output(index) for index in range(self.network.num_outputs)]

    def io(self) -> list[dict[str, Any]]:
        """Name, type, shape (-1 is dynamic; None when only a run can tell) and mode of each input and output."""
        found = [("input", tensor) for tensor in self.inputs] + [("output", tensor) for tensor in self.outputs]
        return [
            {"name": t.name, "dtype": dtype_name(t.dtype), "shape": _shape(t), "mode": mode, "sizes": t.is_shape_tensor}
            for mode, t in found
        ]

    def profile_problems(self, profiles: Sequence[Profile], options: EngineOptions) -> Iterator[str]:
        """What is wrong with profiles for this graph, in sentences."""
        shapes: dict[str, Shape] = {tensor.name: tuple(tensor.shape) for tensor in self.inputs}
        return profile_problems(
            shapes,
            profiles,
            axes={tensor.name: _axes(tensor) for tensor in self.inputs},
            max_batch_size=options.max_batch_size,
            shape_tensors={tensor.name for tensor in self.inputs if tensor.is_shape_tensor},
            overlapping=options.overlapping_profiles,
        )


def _shape(tensor: Any) -> list[int] | None:
    try:
        return [int(size) for size in tensor.shape]
    except ValueError:  # the library's way to say that it cannot tell the rank
        return None


def _axes(tensor: Any) -> tuple[int | str, ...]:
    return tuple(size if size >= 0 else tensor.get_dimension_name(i) or "" for i, size in enumerate(tensor.shape))


def start(trt: Any) -> tuple[Library, Any, Any]:
    """The library, its logger and a builder.

    Raises:
        MissingDependencyError: it cannot build here because there is no usable GPU.
        BuildError: the module is too old.
    """
    library, log = Library.of(trt), logger_of(trt)
    log.errors.clear()
    if hasattr(trt, "init_libnvinfer_plugins"):
        trt.init_libnvinfer_plugins(log, "")
    try:
        return library, log, trt.Builder(log)
    except TypeError as exc:
        raise MissingDependencyError(f"{library.name} cannot build here: no usable GPU or driver") from exc


def parse_graph(trt: Any, onnx_file: Path, options: EngineOptions) -> ParsedGraph:
    """Read an ONNX file into a network.

    Raises:
        MissingDependencyError: the library cannot build here because there is no usable GPU.
        BuildError: there is no such file, a plugin library cannot be loaded, or the parser refuses, naming nodes.
    """
    if not onnx_file.is_file():
        raise BuildError(f"there is no ONNX file {onnx_file}")
    library, log, builder = start(trt)
    for plugin in options.plugins:
        if builder.get_plugin_registry().load_library(plugin) is None:
            raise BuildError(f"{library.name} cannot load the plugin library {plugin}: {reason(log.errors)}")
    network = builder.create_network(library.network_flags)
    parser = trt.OnnxParser(network, log)
    if options.version_compatible:  # its plugin cannot be put into such a plan, its layer can
        parser.set_flag(trt.OnnxParserFlag.NATIVE_INSTANCENORM)
    if not parser.parse_from_file(str(onnx_file)):
        unread = [reason([text]) for text in log.errors if "Failed to open file" in text]  # of external data
        refused = "; ".join([*unread, *(sentence(error) for error in parser_errors(parser))]) or reason(log.errors)
        raise BuildError(f"{library.name} cannot parse {onnx_file}: {refused}")
    if not network.num_outputs:  # an empty file parses as well
        raise BuildError(f"{library.name} cannot parse {onnx_file}: it holds no graph with outputs")
    return ParsedGraph(onnx_file, library, log, builder, network, parser)


def parser_errors(parser: Any) -> list[dict[str, str]]:
    """What a parser refused: node (a name, or a number where it has none; "" for the whole file), operator and why.

    TensorRT before 10 tells the node's number only.
    """
    return [_refusal(parser.get_error(index)) for index in range(parser.num_errors)]


def _refusal(error: Any) -> dict[str, str]:
    named = hasattr(error, "node_name")
    name, operator = (error.node_name(), error.node_operator()) if named else ("", "")
    why = reason([error.desc()])
    if _NO_SUCH_OPERATOR in why:
        why = "neither an operator nor a plugin has this name"
    elif why in ("false", "it gives no reason"):
        why = f"{error.code().name}, with no reason given"
    return {"node": name or (str(error.node()) if error.node() >= 0 else ""), "operator": operator, "why": why}


def sentence(refusal: dict[str, str]) -> str:
    """A refusal as text: ``node 'x' (Operator): why``."""
    operator = f" ({refusal['operator']})" if refusal["operator"] else ""
    return f"node '{refusal['node']}'{operator}: {refusal['why']}" if refusal["node"] else refusal["why"]
