# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The proof that the batch dimension is dynamic, or the node that baked it in.

A graph whose first axis *says* it is dynamic may still fold rows together (a Reshape to a constant, a Tile
of the export's batch), and Triton would serve wrong rows. So it is run with batch 1, 2 and the largest, with
rows that differ, and each row has to come out as it does alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import onnx

from trtkit.errors import ExportError
from trtkit.export.runtime import Session
from trtkit.numerics import Array, difference
from trtkit.signature import Signature

# one row alone and in a batch differ by the order of additions only
_RTOL, _ATOL = 1e-3, 1e-5
_RTOL_HALF, _ATOL_HALF = 2e-2, 1e-2
_ROWS_CHECKED = 4


def fixed_batch_axes(signature: Signature) -> list[str]:
    """The inputs and outputs whose first axis is not dynamic, as text; empty when all are."""
    return [
        str(spec)
        for spec in (*signature.inputs, *signature.outputs)
        if not spec.shape or isinstance(spec.shape[0], int)
    ]


def prove_batch(session: Session, model: onnx.ModelProto, rows: Mapping[str, Array], where: str) -> list[int]:
    """Run batches of 1, 2 and all rows and compare every checked row with itself alone.

    Args:
        session: the graph in ONNX Runtime.
        model: the same graph, to name the guilty node.
        rows: inputs with one row per sample, all different.
        where: for the message.

    Returns:
        The batch sizes that were proven.

    Raises:
        ExportError: a batch cannot be run, or a row depends on its batch-mates; with the node's name.
    """
    largest = len(next(iter(rows.values())))
    checked = sorted({*range(min(largest, _ROWS_CHECKED)), largest - 1})
    alone = {row: session.run(_slice(rows, row, row + 1)) for row in checked}
    sizes = sorted({1, min(2, largest), largest})
    for size in sizes:
        problem = _batch_problem(session, rows, size, alone)
        if problem:
            raise ExportError(
                f"{where}: the batch dimension is not dynamic: with a batch of {size} {problem}; "
                f"{culprit(model, rows)}; export it with a dynamic batch, or set config: {{max_batch_size: 0}}"
            )
    return sizes


def _slice(rows: Mapping[str, Array], start: int, stop: int) -> dict[str, Array]:
    return {name: array[start:stop] for name, array in rows.items()}


def _batch_problem(
    session: Session, rows: Mapping[str, Array], size: int, alone: Mapping[int, dict[str, Array]]
) -> str:
    try:
        together = session.run(_slice(rows, 0, size))
    except ExportError as exc:
        return str(exc)
    for name, batch in together.items():
        if batch.ndim == 0 or len(batch) != size:
            return f"output '{name}' has the shape {list(batch.shape)}"
        for row, single in alone.items():
            if row < size and not _same(single[name][:1], batch[row : row + 1]):
                return f"row {row} of output '{name}' is not what it is alone"
    return ""


def _same(one: Array, other: Array) -> bool:
    half = one.dtype == np.float16
    scale = float(np.abs(one[np.isfinite(one)]).max(initial=0.0)) if one.dtype.kind == "f" else 0.0
    rtol, atol = (_RTOL_HALF, _ATOL_HALF) if half else (_RTOL, _ATOL)
    return difference(np.asarray(one), np.asarray(other), rtol, atol * max(scale, 1e-3)).passed


def culprit(model: onnx.ModelProto, rows: Mapping[str, Array]) -> str:
    """Name the first node behind which the rows no longer follow the batch."""
    everything = _with_all_outputs(model)
    try:
        session = Session(everything.SerializeToString())
        singles = [session.run(_slice(rows, row, row + 1)) for row in range(2)]
    except (ExportError, ValueError) as exc:
        return f"the node could not be found: {exc}"
    try:
        pair = session.run(_slice(rows, 0, 2))
    except ExportError as exc:
        named = re.search(r"running (\w+) node\. Name:'([^']*)'", str(exc))
        return f"the node that baked it in is {named[1]} '{named[2]}'" if named else "ONNX Runtime names no node"
    constant = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        for output in filter(None, node.output):
            if output in pair and not _follows(output, singles, pair) and not set(node.input) <= constant:
                return f"the node that baked it in is {node.op_type} '{node.name or output}'"
        if set(node.input) <= constant:
            constant.update(node.output)
    return "no single node is to blame"


def _follows(name: str, singles: list[dict[str, Array]], pair: dict[str, Array]) -> bool:
    """Whether a value is the two rows stacked, or does not depend on the rows at all."""
    first, second, both = singles[0][name], singles[1][name], pair[name]
    if first.shape == both.shape and _same(first, both) and _same(first, second):
        return True
    if first.ndim and len(first) == 1 and len(both) == 2:
        return _same(first, both[:1]) and _same(second, both[1:])
    return _is_shape_value(first, both)


def _is_shape_value(first: Array, both: Array) -> bool:
    """A small integer vector such as a Shape's result may differ in the batch's own entry."""
    return first.dtype.kind == "i" and first.shape == both.shape and first.size <= 8


def _with_all_outputs(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {output.name for output in copy.graph.output}
    for node in copy.graph.node:
        for name in node.output:
            if name and name not in known:
                known.add(name)
                copy.graph.output.add(name=name)
    return copy
