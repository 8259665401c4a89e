# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``batch_input`` and ``batch_output``: tensors that follow from the shapes of a batch's requests.

The rules are those of Triton's ``backend: src/backend_input_collector.cc`` (``BatchInputShape``, ``SetElementCount``,
``SetAccumulatedElementCount``, ``SetBatchItemShape``) and ``src/backend_output_responder.cc`` (``ProcessBatchOutput``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_TYPES = {"TYPE_INT32": np.int32, "TYPE_FP32": np.float32}

Shapes = Sequence[Sequence[int]]  # of one input in each request, the batch first


def batch_inputs(config: Mapping[str, Any], shapes: Mapping[str, Shapes]) -> dict[str, np.ndarray]:
    """The computed inputs of one batch, by name.

    Args:
        config: complete.
        shapes: by input, its shape in each request.
    """
    return {
        name: _batch_input(entry["kind"], shapes[entry["source_input"][0]]).astype(_TYPES[entry["data_type"]])
        for entry in config.get("batch_input", ())
        for name in entry["target_name"]
    }


def _batch_input(kind: str, shapes: Shapes) -> np.ndarray:
    counts = [math.prod(shape) for shape in shapes]
    if kind == "BATCH_ELEMENT_COUNT":
        return np.array(counts)
    if kind == "BATCH_ACCUMULATED_ELEMENT_COUNT":
        return np.cumsum(counts)
    if kind == "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO":
        return np.concatenate([[0], np.cumsum(counts)])
    if kind == "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE":
        return np.zeros(max(counts))  # only its shape says something
    items = np.array([shape[1:] for shape in shapes for _ in range(shape[0])])
    return items.ravel() if kind == "BATCH_ITEM_SHAPE_FLATTEN" else items


def scattered_outputs(config: Mapping[str, Any]) -> dict[str, tuple[str, list[int]]]:
    """The outputs of BATCH_SCATTER_WITH_INPUT_SHAPE: the source input, and dims with -1 where the input has them."""
    dims = {entry["name"]: entry.get("reshape", {}).get("shape", entry["dims"]) for entry in config["output"]}
    batch = [-1] if config["max_batch_size"] > 0 else []
    return {
        name: (entry["source_input"][0], [*batch, *dims[name]])
        for entry in config.get("batch_output", ())
        for name in entry["target_name"]
    }


def scattered(name: str, array: np.ndarray, dims: Sequence[int], shapes: Shapes) -> list[np.ndarray]:
    """What each request gets of an output: its elements lie one request after another.

    Args:
        name: of the output.
        array: its elements for the whole batch.
        dims: of the output of one request; -1 where it is as in the input.
        shapes: of the source input in each request.

    Raises:
        ValueError: the model gave fewer elements than these shapes have.
    """
    wanted = [[shape[i] if dim == -1 else dim for i, dim in enumerate(dims)] for shape in shapes]
    ends = np.cumsum([math.prod(shape) for shape in wanted])
    if ends[-1] > array.size:
        raise ValueError(
            f"failed to scatter the output tensor '{name}' in responses: expected {ends[-1]} elements in model output, "
            f"got {array.size}"
        )
    return [piece.reshape(shape) for piece, shape in zip(np.split(array.ravel(), ends), wanted, strict=False)]
