# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The rules of the ``onnxruntime`` backend, which are the backend's own.

They stand in ``python_backends/onnxruntime``, in files that import nothing: the Python-based backend stops at the first
problem they find, lint says all of them.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

from google.protobuf.json_format import MessageToDict

from trtkit.compat import python_backends_folder
from trtkit.config import ModelConfig
from trtkit.lint.onnx_header import OnnxHeader, Tensor

# read in this order: each imports only what stands before it
_MODULES = ("trtkit_ort_config", "trtkit_ort_check", "trtkit_ort_options")


class Problem(NamedTuple):
    """Why the backend refuses a model; see ``Problem`` in ``trtkit_ort_config.py``."""

    kind: str
    path: tuple[str | int, ...]
    message: str


@cache
def _module(name: str) -> ModuleType:
    """One of `_MODULES`, under its own name: the folder is no package, for it is called ``onnxruntime``."""
    for needed in _MODULES[: _MODULES.index(name) + 1]:
        if needed not in sys.modules:
            spec = importlib.util.spec_from_file_location(
                needed, python_backends_folder() / "onnxruntime" / f"{needed}.py"
            )
            assert spec is not None
            assert spec.loader is not None
            sys.modules[needed] = module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
    return sys.modules[name]


def as_triton_json(config: ModelConfig) -> dict[str, Any]:
    """A config as Triton hands it to a Python-based backend, in so far as the backend's rules look at it."""
    found: dict[str, Any] = MessageToDict(config, preserving_proto_field_name=True)
    found.setdefault("name", "")
    found.setdefault("max_batch_size", 0)
    for kind in ("input", "output"):
        found[kind] = [_tensor_json(entry) for entry in found.get(kind, ())]
    found.setdefault("batch_input", [])
    for entry in (*found["batch_input"], *found.get("batch_output", ())):
        entry.setdefault("target_name", [])
        entry.setdefault("data_type", "TYPE_INVALID")
    for entry in found.get("sequence_batching", {}).get("state", ()):
        entry.update({"input_name": "", "output_name": "", "data_type": "TYPE_INVALID", **entry})
    for entry in found.get("sequence_batching", {}).get("control_input", ()):
        entry.setdefault("name", "")
        for control in entry.setdefault("control", []):
            control.setdefault("data_type", "TYPE_INVALID")
    for entry in found.get("parameters", {}).values():
        entry.setdefault("string_value", "")
    for entries in found.get("optimization", {}).get("execution_accelerators", {}).values():
        for entry in entries:
            entry.setdefault("name", "")
    return found


def _tensor_json(entry: dict[str, Any]) -> dict[str, Any]:
    found = {"name": "", "data_type": "TYPE_INVALID", **entry, "dims": [int(dim) for dim in entry.get("dims", ())]}
    if "reshape" in entry:
        found["reshape"] = {"shape": [int(dim) for dim in entry["reshape"].get("shape", ())]}
    return found


def graph_of(header: OnnxHeader) -> Any:
    """A ``Graph`` of the backend's, of what the file says.

    ONNX Runtime calls an input with a value one that may be left out from IR version 4 on; before, it is none at all.
    """
    backend = _module("trtkit_ort_config")
    optional = header.initializers if header.ir_version >= 4 else ()
    return backend.Graph(*(_tensors(backend, tensors) for tensors in (header.inputs, optional, header.outputs)))


def _tensors(backend: ModuleType, tensors: tuple[Tensor, ...]) -> dict[str, Any]:
    return {
        tensor.name: backend.Tensor(
            tensor.name,
            (tensor.element or "undefined").lower(),
            tuple(dim if isinstance(dim, int) else -1 for dim in tensor.shape or ()),
        )
        for tensor in tensors
    }


def is_complete(config: Mapping[str, Any]) -> bool:
    """Whether nothing is filled in."""
    return bool(_module("trtkit_ort_config").is_complete(config))


def completion_problems(config: Mapping[str, Any], graph: Any) -> list[Problem]:
    """Why the backend cannot complete a config."""
    return [Problem(*found) for found in _module("trtkit_ort_config").completion_problems(config, graph)]


def complete(config: dict[str, Any], graph: Any, default_max_batch_size: int) -> None:
    """Fill in what a config leaves out; there must be no `completion_problems`."""
    _module("trtkit_ort_config").complete(config, graph, default_max_batch_size)


def default_max_batch_size() -> int:
    """What the backend gives to a graph that can batch."""
    return int(_module("trtkit_ort_config").DEFAULT_MAX_BATCH_SIZE)


def graph_problems(config: Mapping[str, Any], graph: Any) -> list[Problem]:
    """Why the backend does not serve a graph with a config that is complete."""
    return [Problem(*found) for found in _module("trtkit_ort_check").problems(config, graph)]


def option_problems(config: Mapping[str, Any], *, on_gpu: bool) -> list[Problem]:
    """Parameters and accelerators that the backend refuses."""
    return [Problem(*found) for found in _module("trtkit_ort_options").option_problems(config, on_gpu=on_gpu)]


def known_parameters() -> frozenset[str]:
    """The model's parameters that NVIDIA's backend reads."""
    options = _module("trtkit_ort_options")
    return frozenset({*options.PARAMETERS, *options.CUDA_PARAMETERS})


def known_tensorrt_options() -> frozenset[str]:
    """The parameters of the execution accelerator ``tensorrt``."""
    return frozenset(_module("trtkit_ort_options").TENSORRT_OPTIONS)
