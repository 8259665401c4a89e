# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The proof that the batch dimension is dynamic, or the node that baked it in.

A graph whose first axis *says* it is dynamic may still fold rows together (a Reshape to a constant, a Tile
of the export's batch), and Triton would serve wrong rows. So it is run with batch 1, 2 and the largest, with
rows that differ, and each row has to come out as it does alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from trtkit.errors import ExportError
from trtkit.export.onnx_file import inner_graphs
from trtkit.export.runtime import Session
from trtkit.numerics import Array, difference
from trtkit.signature import Signature, TensorSpec

# one row alone and in a batch differ by the order of additions only
_RTOL, _ATOL = 1e-3, 1e-5
# unless values are rounded to 8 bits or 11 in between: one of them may then fall on the other side
_RTOL_COARSE, _ATOL_COARSE = 2e-2, 1e-2
_COARSE_TYPES = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
_COARSE_OPERATORS = ("QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul")
_ROWS_CHECKED = 4
# the largest batch is proven up to so many bytes of input
_PROOF_BYTES = 32 << 20


@dataclass(frozen=True)
class BatchProblem:
    """Why a batch is not its rows one by one.

    Attributes:
        size: of the batch.
        reason: in words.
        output: the first output that shows it; empty when the batch cannot be run at all.
    """

    size: int
    reason: str
    output: str = ""


@dataclass(frozen=True)
class BatchProof:
    """That batches are their rows one by one.

    Attributes:
        sizes: of the batches that were run.
        alike: whether all rows gave the same outputs, so that a mixing of them could not have been seen.
    """

    sizes: list[int]
    alike: bool


def fixed_batch_axes(specs: Iterable[TensorSpec]) -> list[TensorSpec]:
    """Those of the tensors whose first axis is not dynamic."""
    return [spec for spec in specs if not spec.shape or isinstance(spec.shape[0], int)]


def provable_size(signature: Signature, wanted: int, axis_size: int) -> int:
    """The largest batch to prove: the wanted one, unless its inputs would not fit into memory comfortably."""
    row = 0
    for spec in signature.inputs:
        dims = [dim if isinstance(dim, int) else axis_size for dim in spec.shape[1:]]
        row += int(np.prod(dims, dtype=np.int64)) * max(spec.dtype.byte_size, 1)
    return min(wanted, max(2, _PROOF_BYTES // max(row, 1)))


def prove_batch(session: Session, rows: Mapping[str, Array], coarse: bool) -> BatchProof | BatchProblem:
    """Run batches of 1, 2 and all rows and compare every checked row with itself alone.

    Args:
        session: the graph in ONNX Runtime.
        rows: inputs with one row per sample, all different.
        coarse: whether the graph rounds (`rounds_values`).

    Returns:
        The proof, or what is wrong with the first batch that is not its rows.
    """
    largest = len(next(iter(rows.values())))
    alone: dict[int, dict[str, Array]] = {}
    for row in sorted({*range(min(largest, _ROWS_CHECKED)), largest - 1}):
        try:
            alone[row] = session.run(rows_of(rows, row, row + 1))
        except ExportError as exc:
            return BatchProblem(1, str(exc))
    sizes = sorted({1, min(2, largest), largest})
    problems = (_problem(session, rows, size, alone, coarse) for size in sizes)
    return next((problem for problem in problems if problem), BatchProof(sizes, _alike(list(alone.values()))))


def _alike(answers: list[dict[str, Array]]) -> bool:
    first, *others = answers
    return bool(others) and all(same_values(first[name], o[name], coarse=False) for o in others for name in first)


def rows_of(rows: Mapping[str, Array], start: int, stop: int) -> dict[str, Array]:
    """Rows `start` to `stop` of every input."""
    return {name: array[start:stop] for name, array in rows.items()}


def _problem(
    session: Session, rows: Mapping[str, Array], size: int, alone: Mapping[int, dict[str, Array]], coarse: bool
) -> BatchProblem | None:
    try:
        together = session.run(rows_of(rows, 0, size))
    except ExportError as exc:
        return BatchProblem(size, str(exc))
    for name, batch in together.items():
        if batch.ndim == 0 or len(batch) != size:
            return BatchProblem(size, f"output '{name}' has the shape {list(batch.shape)}", name)
        for row, single in alone.items():
            if row < size and not same_values(single[name], batch[row : row + 1], coarse):
                return BatchProblem(size, f"row {row} of output '{name}' is not what it is alone", name)
    return None


def same_values(one: Array, other: Array, coarse: bool) -> bool:
    """Whether two results are the same up to rounding, in the unit of the larger values."""
    finite = np.abs(one[np.isfinite(one)]) if one.dtype.kind == "f" else np.zeros(0)
    scale = max(float(finite.max(initial=0.0)), 1e-3)
    rtol, atol = (_RTOL_COARSE, _ATOL_COARSE) if coarse or one.dtype == np.float16 else (_RTOL, _ATOL)
    return difference(np.asarray(one), np.asarray(other), rtol, atol * scale).passed


def rounds_values(graph: onnx.GraphProto) -> bool:
    """Whether a graph holds values of 16 bits or fewer, where the order of additions shows."""
    typed = (*graph.input, *graph.value_info, *graph.output)
    if any(value.type.tensor_type.elem_type in _COARSE_TYPES for value in typed):
        return True
    for node in graph.node:
        inner = (g for attribute in node.attribute for g in inner_graphs(attribute))
        if node.op_type in _COARSE_OPERATORS or any(rounds_values(g) for g in inner):
            return True
    return False
