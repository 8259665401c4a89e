# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Tensors between Triton's Python backend and ONNX Runtime's Python API.

Within this backend a tensor is a numpy array: strings are bytes objects, BF16 is uint16.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import triton_python_backend_utils as pb_utils
from trtkit_ort_config import Graph, Tensor
from trtkit_ort_exact import bfloat16_capsule, bfloat16_of


class Input(NamedTuple):
    """How an input of the graph is read from requests.

    Attributes:
        name: as in the graph.
        read: from the request's tensor to an array.
        scalar: Triton has no scalars, so that one arrives as [1].
        ragged: the requests' elements are laid one after another, whatever their shapes.
        text: the elements are strings.
    """

    name: str
    read: Callable[[Any], np.ndarray]
    scalar: bool
    ragged: bool
    text: bool

    def joined(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """One array of those of all requests, along the batch; ValueError where their shapes do not go together."""
        if self.ragged:
            return np.concatenate([array.ravel() for array in arrays])
        array = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        # a tensor of unknown rank, which a graph shows as a scalar, keeps its shape
        return array.reshape(()) if self.scalar and array.size == 1 else array


def inputs_of(config: Mapping[str, Any], graph: Graph) -> list[Input]:
    """Every tensor that requests bring: inputs, controls of sequences and implicit states.

    Args:
        config: complete.
        graph: the model it is for.
    """
    computed = {name for entry in config.get("batch_input", ()) for name in entry["target_name"]}
    ragged = {entry["name"] for entry in config["input"] if entry.get("allow_ragged_batch")}
    configured = {entry["name"] for entry in config["input"]}
    optional = [tensor for name, tensor in graph.initializers.items() if name in configured]
    return [
        _input(tensor, ragged=tensor.name in ragged)
        for tensor in (*graph.inputs.values(), *optional)
        if tensor.name not in computed
    ]


def _input(tensor: Tensor, *, ragged: bool) -> Input:
    read = _read_bfloat16 if tensor.element == "bfloat16" else _read
    return Input(tensor.name, read, not tensor.shape, ragged, tensor.element == "string")


def _read(tensor: Any) -> np.ndarray:
    return tensor.as_numpy()


def _read_bfloat16(tensor: Any) -> np.ndarray:
    return bfloat16_of(tensor.to_dlpack())


def decoded(strings: np.ndarray) -> np.ndarray:
    """Strings as ``session.run`` takes them, which are str; UnicodeDecodeError when one is not UTF-8."""
    array = np.empty(strings.size, dtype=np.object_)
    array[:] = [item.decode() for item in strings.ravel()]
    return array.reshape(strings.shape)


def output_tensor(name: str, element: str, array: np.ndarray) -> Any:
    """The tensor of a response."""
    if element == "bfloat16":
        return pb_utils.Tensor.from_dlpack(name, bfloat16_capsule(array))
    return pb_utils.Tensor(name, array)
