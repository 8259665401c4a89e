# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a model configuration must say about an ONNX graph, and what is filled in where it does not.

Rules and wording follow NVIDIA's C++ backend (``onnxruntime_backend: src/onnxruntime.cc`` and
``src/onnxruntime_utils.cc``), so that a configuration is accepted by both or refused by both, in the
same words. Configurations are the dictionaries Triton hands to a Python-based backend. Nothing here
imports ONNX Runtime or Triton; ``trtkit lint`` says all the problems, this backend the first one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

# What the server's command line calls default-max-batch-size; Triton does not tell a Python-based backend
# another value, see README.md.
DEFAULT_MAX_BATCH_SIZE = 4

# ONNX Runtime's name of an element type -> the model configuration's. The C++ backend refuses BF16
# (github.com/triton-inference-server/server/issues/8464).
CONFIG_TYPES = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "uint16": "TYPE_UINT16",
    "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64",
    "int8": "TYPE_INT8",
    "int16": "TYPE_INT16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "bfloat16": "TYPE_BF16",
    "float": "TYPE_FP32",
    "double": "TYPE_FP64",
    "string": "TYPE_STRING",
}


class LoadError(Exception):
    """The model cannot be served as configured; Triton shows the message as the reason."""


Path = tuple["str | int", ...]  # of a field in the configuration: names, and indices of repeated ones


class Problem(NamedTuple):
    """Something in the configuration that does not go with the graph, or with the backend.

    Attributes:
        kind: a word for what it is about.
        path: the field that says it.
        message: the C++ backend's sentence.
    """

    kind: str
    path: Path
    message: str


class Tensor(NamedTuple):
    """One input or output of the graph.

    Attributes:
        name: as in the graph.
        element: ONNX Runtime's element type, such as ``float``.
        shape: -1 where dynamic; empty for a scalar, and for a tensor of unknown rank.
    """

    name: str
    element: str
    shape: tuple[int, ...]


class Graph(NamedTuple):
    """The graph's interface, each mapping by name and in the graph's order.

    Attributes:
        inputs: what every request must carry.
        initializers: inputs with a default, which the configuration may list as optional.
        outputs: what the graph gives.
    """

    inputs: Mapping[str, Tensor]
    initializers: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


def is_complete(config: Mapping[str, Any]) -> bool:
    """Whether the configuration names inputs and outputs, so that nothing is filled in."""
    return bool((config["input"] or config["batch_input"]) and config["output"])


def complete(config: dict[str, Any], graph: Graph, default_max_batch_size: int = DEFAULT_MAX_BATCH_SIZE) -> None:
    """Fill in what a configuration leaves out: maximum batch size, scheduler, inputs, outputs.

    Args:
        config: changed in place; what it already says stays.
        graph: the model it is for.
        default_max_batch_size: for a graph that can batch, where the configuration does not say.

    Raises:
        LoadError: the first of `completion_problems`.
    """
    for problem in completion_problems(config, graph):
        raise LoadError(problem.message)
    if _can_batch(graph):
        config["max_batch_size"] = config["max_batch_size"] or default_max_batch_size
        if config["max_batch_size"] > 1 and not {"sequence_batching", "dynamic_batching"} & config.keys():
            config["dynamic_batching"] = {}  # Triton adds preferred_batch_size: [max_batch_size] by itself
    for field, tensors in _left_out(config, graph).items():
        config[field] = [_described(config, tensor) for tensor in tensors]


def completion_problems(config: Mapping[str, Any], graph: Graph) -> Iterator[Problem]:
    """Why it cannot be completed: it batches and the graph does not, or Triton does not serve a tensor's type."""
    if config["max_batch_size"] != 0 and not _can_batch(graph):
        yield Problem(
            "autofill",
            ("max_batch_size",),
            f"autofill failed for model '{config['name']}': model does not support batching while non-zero "
            "max_batch_size is specified",
        )
    for field, tensors in _left_out(config, graph).items():
        for tensor in tensors:
            if tensor.element not in CONFIG_TYPES:
                yield unsupported_type(config, (field,), tensor.name, tensor.element.upper())


def _can_batch(graph: Graph) -> bool:
    tensors = [*graph.inputs.values(), *graph.outputs.values()]
    return all(tensor.shape and tensor.shape[0] == -1 for tensor in tensors)


def _left_out(config: Mapping[str, Any], graph: Graph) -> dict[str, list[Tensor]]:
    """Of ``input`` and ``output`` those that the configuration does not have, with the graph's tensors."""
    fields = {"input": config["input"] or config["batch_input"], "output": config["output"]}
    tensors = {"input": graph.inputs, "output": graph.outputs}
    return {field: list(tensors[field].values()) for field, given in fields.items() if not given}


def _described(config: Mapping[str, Any], tensor: Tensor) -> dict[str, Any]:
    batching = config["max_batch_size"] > 0
    entry: dict[str, Any] = {"name": tensor.name, "data_type": CONFIG_TYPES[tensor.element]}
    entry["dims"] = list(tensor.shape[1:] if batching else tensor.shape)
    if not entry["dims"]:  # Triton has no empty dims
        entry["dims"] = [1]
        if batching:
            entry["reshape"] = {"shape": []}
    return entry


def unsupported_type(config: Mapping[str, Any], path: Path, name: str, data_type: str) -> Problem:
    """A data type that the backend does not serve, in the configuration or in the graph."""
    message = f"unsupported datatype {data_type} for {path[0]} '{name}' for model '{config['name']}'"
    return Problem("unsupported_type", path, message)
