# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Whether a complete model configuration and an ONNX graph go together.

The same rules and words as NVIDIA's C++ backend's ``ModelInstanceState``; see ``trtkit_ort_config.py``, which like
this file imports neither ONNX Runtime nor Triton.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from trtkit_ort_config import CONFIG_TYPES, Graph, LoadError, Path, Problem, Tensor, unsupported_type

# `data_type` of a boolean control follows from which of these fields has values.
_BOOLEAN_CONTROL_TYPES = {
    "int32_false_true": "TYPE_INT32",
    "fp32_false_true": "TYPE_FP32",
    "bool_false_true": "TYPE_BOOL",
}


def check(config: Mapping[str, Any], graph: Graph) -> None:
    """Raise unless the graph can be served as configured.

    Args:
        config: complete, as Triton hands it to ``initialize``.
        graph: the model it is for.

    Raises:
        LoadError: the first of `problems`; it names the model and the tensor, and what each side says.
    """
    for problem in problems(config, graph):
        raise LoadError(problem.message)


def problems(config: Mapping[str, Any], graph: Graph) -> Iterator[Problem]:
    """Everything that keeps the graph from being served as configured; for arguments see `check`."""
    yield from _feature_problems(config)
    yield from _control_problems(config, graph)
    yield from _state_problems(config, graph)
    yield from _input_count_problems(config, graph)
    yield from _batch_input_problems(config, graph)
    known = {"input": {**graph.inputs, **graph.initializers}, "output": graph.outputs}
    for kind, tensors in known.items():
        for index, entry in enumerate(config[kind]):
            yield from _tensor_problems(config, (kind, index), entry, tensors)


def _controls(config: Mapping[str, Any]) -> dict[str, tuple[Path, str]]:
    """The sequence batcher's control tensors: name -> where it is configured, data type."""
    controls = {}
    for index, entry in enumerate((config.get("sequence_batching") or {}).get("control_input", ())):
        for control in entry["control"]:
            typed = [kind for field, kind in _BOOLEAN_CONTROL_TYPES.items() if control.get(field)]
            path = ("sequence_batching", "control_input", index)
            controls[entry["name"]] = path, typed[0] if typed else control["data_type"]
    return controls


def _feature_problems(config: Mapping[str, Any]) -> Iterator[Problem]:
    """The one thing of the C++ backend that cannot be had: libtriton_python.so refuses every request that has it."""
    for name, (path, data_type) in _controls(config).items():
        if data_type == "TYPE_STRING":
            yield Problem(
                "feature",
                path,
                f"model '{config['name']}', sequence control '{name}': tritonserver's Python backend refuses every "
                "request with a control of TYPE_STRING; use TYPE_UINT64, to which the server hashes string "
                "correlation IDs, or serve it with the C++ backend of a tritonserver container",
            )


def _control_problems(config: Mapping[str, Any], graph: Graph) -> Iterator[Problem]:
    for name, (path, data_type) in _controls(config).items():
        tensor = graph.inputs.get(name)
        if tensor is None:
            message = f"configuration specified sequence control '{name}', but model does not provide that input"
            yield Problem("control", (*path, "name"), message)
            continue
        dims = tensor.shape[1:] if config["max_batch_size"] > 0 else tensor.shape
        where = f"unable to load model '{config['name']}', sequence control '{name}'"
        if dims != (1,):
            yield Problem("control", path, f"{where} in model has dims {_text(dims)} but dims [1] is expected")
        if CONFIG_TYPES.get(tensor.element) != data_type:
            yield Problem(
                "control",
                path,
                f"{where}, the model expects data-type {tensor.element.upper()} but the model configuration "
                f"specifies data-type {data_type}",
            )


def _state_problems(config: Mapping[str, Any], graph: Graph) -> Iterator[Problem]:
    """Checked here, while the C++ backend finds them in the first request."""
    for index, entry in enumerate((config.get("sequence_batching") or {}).get("state", ())):
        for kind, tensors in (("input", graph.inputs), ("output", graph.outputs)):
            path, name = ("sequence_batching", "state", index), entry[f"{kind}_name"]
            where = f"unable to load model '{config['name']}', configuration expects"
            if name not in tensors:
                message = f"{where} {kind} state '{name}', model provides {', '.join(sorted(tensors)) or 'none'}"
                yield Problem("state", (*path, f"{kind}_name"), message)
            elif CONFIG_TYPES.get(tensors[name].element) != entry["data_type"]:
                provided = CONFIG_TYPES.get(tensors[name].element, tensors[name].element)
                message = f"{where} datatype {entry['data_type']} for {kind} state '{name}', model provides {provided}"
                yield Problem("state", (*path, "data_type"), message)


def _batch_input_problems(config: Mapping[str, Any], graph: Graph) -> Iterator[Problem]:
    """Checked here, while the C++ backend finds them in the first request."""
    where = f"unable to load model '{config['name']}', configuration expects"
    for index, entry in enumerate(config.get("batch_input", ())):
        path = ("batch_input", index)
        for target, name in enumerate(entry["target_name"]):
            if name not in graph.inputs:
                message = f"{where} batch input '{name}', model provides {', '.join(sorted(graph.inputs)) or 'none'}"
                yield Problem("batch_input", (*path, "target_name", target), message)
            elif (provided := CONFIG_TYPES.get(graph.inputs[name].element)) != entry["data_type"]:
                message = f"{where} datatype {entry['data_type']} for batch input '{name}', model provides {provided}"
                yield Problem("batch_input", (*path, "data_type"), message)


def _input_count_problems(config: Mapping[str, Any], graph: Graph) -> Iterator[Problem]:
    optional = sum(1 for entry in config["input"] if entry.get("optional"))
    states = (config.get("sequence_batching") or {}).get("state", ())
    given = len(config["input"]) + len(config.get("batch_input", ())) + len(_controls(config)) + len(states)
    if given - optional != len(graph.inputs):
        yield Problem(
            "input_count",
            ("input",),
            f"unable to load model '{config['name']}', configuration expects {given - optional} inputs, model "
            f"provides {len(graph.inputs)}",
        )


def _tensor_problems(
    config: Mapping[str, Any], path: Path, entry: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Iterator[Problem]:
    kind, name = path[0], entry["name"]
    if entry.get("optional") and config["max_batch_size"] != 0:
        yield Problem(
            "optional",
            (*path, "optional"),
            f"unable to load model '{config['name']}', optional input '{name}' is not supported for models that "
            "support batching",
        )
        return
    if name not in tensors:
        allowed = ", ".join(sorted(tensors))
        yield Problem("name", (*path, "name"), f"unexpected inference {kind} '{name}', allowed {kind}s are: {allowed}")
        return
    yield from _type_problems(config, path, entry, tensors[name])
    if entry.get("allow_ragged_batch"):
        yield from _ragged_problems(config, path, tensors[name])
    elif not any(name in batch_output["target_name"] for batch_output in config.get("batch_output", ())):
        yield from _dims_problems(config, path, entry, tensors[name])


def _type_problems(
    config: Mapping[str, Any], path: Path, entry: Mapping[str, Any], tensor: Tensor
) -> Iterator[Problem]:
    data_type, provided = entry["data_type"], CONFIG_TYPES.get(tensor.element)
    if data_type not in CONFIG_TYPES.values():
        yield unsupported_type(config, (*path, "data_type"), tensor.name, data_type)
    elif data_type != provided:
        yield Problem(
            "type",
            (*path, "data_type"),
            f"unable to load model '{config['name']}', configuration expects datatype {data_type} for {path[0]} "
            f"'{tensor.name}', model provides {provided or 'TYPE_' + tensor.element.upper()}",
        )


def _ragged_problems(config: Mapping[str, Any], path: Path, tensor: Tensor) -> Iterator[Problem]:
    if tensor.shape != (-1,):
        yield Problem(
            "dims",
            (*path, "allow_ragged_batch"),
            f"unable to load model '{config['name']}', configuration expects model provides input with shape [-1]  "
            f"for ragged input '{tensor.name}', model provides {_text(tensor.shape)}",
        )


def _dims_problems(
    config: Mapping[str, Any], path: Path, entry: Mapping[str, Any], tensor: Tensor
) -> Iterator[Problem]:
    """Compare shapes; in an output, a dynamic dimension of the model must be dynamic here as well."""
    exact, batching = path[0] == "output", config["max_batch_size"] > 0
    dims = tuple(entry["reshape"]["shape"] if "reshape" in entry else entry["dims"])
    place = (*path, "reshape", "shape") if "reshape" in entry else (*path, "dims")
    if not tensor.shape:
        if any(dim != 1 for dim in dims):
            yield Problem("scalar", place, _scalar_text(config, tensor, dims))
        return
    where = f"model '{config['name']}', tensor '{tensor.name}'"
    if batching and tensor.shape[0] != -1:
        yield Problem(
            "batch",
            ("max_batch_size",),
            f"{where}: for the model to support batching the shape should have at least 1 dimension and the "
            f"first dimension must be -1; but shape expected by the model is {_text(tensor.shape)}",
        )
        return
    full = (-1, *dims) if batching else dims
    if len(full) != len(tensor.shape) or any(
        configured != given and (exact or given != -1) for configured, given in zip(full, tensor.shape, strict=True)
    ):
        yield Problem("dims", place, f"{where}: {_difference_text(tensor.shape, full, batching=batching)}")


def _difference_text(shape: Sequence[int], full: Sequence[int], *, batching: bool) -> str:
    how = f"shape {_text(full)}"
    if batching:
        how = (
            "an initial batch dimension because max_batch_size > 0 followed by the explicit tensor shape, "
            f"making complete shape {_text(full)}"
        )
    return (
        f"the model expects {len(shape)} dimensions (shape {_text(shape)}) but the model configuration specifies "
        f"{len(full)} dimensions ({how})"
    )


def _scalar_text(config: Mapping[str, Any], tensor: Tensor, dims: Sequence[int]) -> str:
    return (
        f"unable to load model '{config['name']}', scalar tensor '{tensor.name}', should only provide 1 in the model "
        f"configuration when the model doesn't support batching. Model configuration provided: {_text(dims)}."
    )


def _text(shape: Iterable[int]) -> str:
    """A shape as Triton writes it: ``[-1,64]``."""
    return f"[{','.join(map(str, shape))}]"
