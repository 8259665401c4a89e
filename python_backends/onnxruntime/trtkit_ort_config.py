# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a model configuration must say about an ONNX graph: fill it in, and check it.

Rules and wording follow NVIDIA's C++ backend (``onnxruntime_backend: src/onnxruntime.cc`` and
``src/onnxruntime_utils.cc``), so that a configuration is accepted by both or refused by both, in the
same words. Configurations are the dictionaries Triton hands to a Python-based backend. Nothing here
imports ONNX Runtime or Triton.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

# What the server's command line calls default-max-batch-size; Triton does not tell a Python-based backend
# another value, see README.md.
DEFAULT_MAX_BATCH_SIZE = 4

# ONNX Runtime's name of an element type -> the model configuration's. BF16 is absent because the C++
# backend refuses it too (github.com/triton-inference-server/server/issues/8464).
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
    "float": "TYPE_FP32",
    "double": "TYPE_FP64",
    "string": "TYPE_STRING",
}

# `data_type` of a boolean control follows from which of these fields has values.
_BOOLEAN_CONTROL_TYPES = {
    "int32_false_true": "TYPE_INT32",
    "fp32_false_true": "TYPE_FP32",
    "bool_false_true": "TYPE_BOOL",
}


class LoadError(Exception):
    """The model cannot be served as configured; Triton shows the message as the reason."""


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


def complete(config: dict[str, Any], graph: Graph) -> None:
    """Fill in what a configuration leaves out: maximum batch size, scheduler, inputs, outputs.

    Args:
        config: changed in place; what it already says stays.
        graph: the model it is for.

    Raises:
        LoadError: it sets ``max_batch_size`` and the graph has a fixed first dimension, or the graph
            has a tensor of a type Triton does not serve.
    """
    _complete_batching(config, graph)
    if not config["input"] and not config["batch_input"]:
        config["input"] = [_described(config, "input", tensor) for tensor in graph.inputs.values()]
    if not config["output"]:
        config["output"] = [_described(config, "output", tensor) for tensor in graph.outputs.values()]


def _complete_batching(config: dict[str, Any], graph: Graph) -> None:
    tensors = [*graph.inputs.values(), *graph.outputs.values()]
    if not all(tensor.shape and tensor.shape[0] == -1 for tensor in tensors):
        if config["max_batch_size"] != 0:
            raise LoadError(
                f"autofill failed for model '{config['name']}': model does not support batching while "
                "non-zero max_batch_size is specified"
            )
        return
    if config["max_batch_size"] == 0:
        config["max_batch_size"] = DEFAULT_MAX_BATCH_SIZE
    if config["max_batch_size"] > 1 and not {"sequence_batching", "dynamic_batching"} & config.keys():
        config["dynamic_batching"] = {}  # Triton adds preferred_batch_size: [max_batch_size] by itself


def _described(config: Mapping[str, Any], kind: str, tensor: Tensor) -> dict[str, Any]:
    if tensor.element not in CONFIG_TYPES:
        raise LoadError(_unsupported_type(config, kind, tensor.name, tensor.element.upper()))
    batching = config["max_batch_size"] > 0
    entry: dict[str, Any] = {"name": tensor.name, "data_type": CONFIG_TYPES[tensor.element]}
    entry["dims"] = list(tensor.shape[1:] if batching else tensor.shape)
    if not entry["dims"]:  # Triton has no empty dims
        entry["dims"] = [1]
        if batching:
            entry["reshape"] = {"shape": []}
    return entry


def check(config: Mapping[str, Any], graph: Graph) -> None:
    """Raise unless the graph can be served as configured.

    Args:
        config: complete, as Triton hands it to ``initialize``.
        graph: the model it is for.

    Raises:
        LoadError: it names the model and the tensor, and what each side says.
    """
    _check_features(config)
    controls = _controls(config)
    _check_controls(config, graph, controls)
    _check_input_count(config, graph, len(controls))
    known = {**graph.inputs, **graph.initializers}
    for entry in config["input"]:
        _check_tensor(config, "input", entry, known)
    for entry in config["output"]:
        _check_tensor(config, "output", entry, graph.outputs)


def _check_features(config: Mapping[str, Any]) -> None:
    sequence = config.get("sequence_batching") or {}
    used = {
        "batch_input": config.get("batch_input"),
        "batch_output": config.get("batch_output"),
        "allow_ragged_batch": any(entry.get("allow_ragged_batch") for entry in config["input"]),
        "sequence_batching.state": sequence.get("state"),
        "model_transaction_policy.decoupled": (config.get("model_transaction_policy") or {}).get("decoupled"),
    }
    missing = [field for field, value in used.items() if value]
    if missing:
        raise LoadError(
            f"model '{config['name']}' uses {', '.join(missing)}, which trtkit's Python-based onnxruntime "
            "backend does not support; serve it with the C++ backend of a tritonserver container"
        )


def _controls(config: Mapping[str, Any]) -> dict[str, str]:
    """The sequence batcher's control tensors: name -> data type."""
    controls = {}
    for entry in (config.get("sequence_batching") or {}).get("control_input", ()):
        for control in entry["control"]:
            typed = [kind for field, kind in _BOOLEAN_CONTROL_TYPES.items() if control.get(field)]
            controls[entry["name"]] = typed[0] if typed else control["data_type"]
    return controls


def _check_controls(config: Mapping[str, Any], graph: Graph, controls: Mapping[str, str]) -> None:
    for name, data_type in controls.items():
        tensor = graph.inputs.get(name)
        if tensor is None:
            raise LoadError(f"configuration specified sequence control '{name}', but model does not provide that input")
        dims = tensor.shape[1:] if config["max_batch_size"] > 0 else tensor.shape
        where = f"unable to load model '{config['name']}', sequence control '{name}'"
        if dims != (1,):
            raise LoadError(f"{where} in model has dims {_text(dims)} but dims [1] is expected")
        if CONFIG_TYPES.get(tensor.element) != data_type:
            raise LoadError(
                f"{where}, the model expects data-type {tensor.element.upper()} but the model configuration "
                f"specifies data-type {data_type}"
            )


def _check_input_count(config: Mapping[str, Any], graph: Graph, control_count: int) -> None:
    optional = sum(1 for entry in config["input"] if entry.get("optional"))
    expected = len(config["input"]) - optional + control_count
    if expected != len(graph.inputs):
        raise LoadError(
            f"unable to load model '{config['name']}', configuration expects {expected} inputs, model "
            f"provides {len(graph.inputs)}"
        )


def _check_tensor(
    config: Mapping[str, Any], kind: str, entry: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    name = entry["name"]
    if entry.get("optional") and config["max_batch_size"] != 0:
        raise LoadError(
            f"unable to load model '{config['name']}', optional input '{name}' is not supported for models "
            "that support batching"
        )
    if name not in tensors:
        raise LoadError(f"unexpected inference {kind} '{name}', allowed {kind}s are: {', '.join(sorted(tensors))}")
    _check_type(config, kind, entry, tensors[name])
    dims = tuple(entry["reshape"]["shape"] if "reshape" in entry else entry["dims"])
    if tensors[name].shape:
        _check_dims(config, tensors[name], dims, exact=kind == "output")
    else:
        _check_scalar(config, name, dims)


def _check_type(config: Mapping[str, Any], kind: str, entry: Mapping[str, Any], tensor: Tensor) -> None:
    data_type, provided = entry["data_type"], CONFIG_TYPES.get(tensor.element)
    if data_type not in CONFIG_TYPES.values():
        raise LoadError(_unsupported_type(config, kind, tensor.name, data_type))
    if data_type != provided:
        raise LoadError(
            f"unable to load model '{config['name']}', configuration expects datatype {data_type} for {kind} "
            f"'{tensor.name}', model provides {provided or 'TYPE_' + tensor.element.upper()}"
        )


def _unsupported_type(config: Mapping[str, Any], kind: str, name: str, data_type: str) -> str:
    return f"unsupported datatype {data_type} for {kind} '{name}' for model '{config['name']}'"


def _check_dims(config: Mapping[str, Any], tensor: Tensor, dims: tuple[int, ...], *, exact: bool) -> None:
    """Compare shapes; with ``exact``, a dynamic dimension of the model must be dynamic here as well."""
    where = f"model '{config['name']}', tensor '{tensor.name}'"
    batching = config["max_batch_size"] > 0
    if batching and tensor.shape[0] != -1:
        raise LoadError(
            f"{where}: for the model to support batching the shape should have at least 1 dimension and the "
            f"first dimension must be -1; but shape expected by the model is {_text(tensor.shape)}"
        )
    full = (-1, *dims) if batching else dims
    if len(full) == len(tensor.shape) and all(
        configured == given or (given == -1 and not exact) for configured, given in zip(full, tensor.shape, strict=True)
    ):
        return
    how = f"shape {_text(full)}"
    if batching:
        how = (
            "an initial batch dimension because max_batch_size > 0 followed by the explicit tensor shape, "
            f"making complete shape {_text(full)}"
        )
    raise LoadError(
        f"{where}: the model expects {len(tensor.shape)} dimensions (shape {_text(tensor.shape)}) but the "
        f"model configuration specifies {len(full)} dimensions ({how})"
    )


def _check_scalar(config: Mapping[str, Any], name: str, dims: Sequence[int]) -> None:
    if any(dim != 1 for dim in dims):
        raise LoadError(
            f"unable to load model '{config['name']}', scalar tensor '{name}', should only provide 1 in the "
            "model configuration when the model doesn't support batching. Model configuration provided: "
            f"{_text(dims)}."
        )


def _text(shape: Iterable[int]) -> str:
    """A shape as Triton writes it: ``[-1,64]``."""
    return f"[{','.join(map(str, shape))}]"
