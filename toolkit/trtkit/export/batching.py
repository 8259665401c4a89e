# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How a graph is served: in batches of at most so many rows, proven, or request by request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from trtkit.errors import ExportError
from trtkit.export.batch_proof import BatchProblem, fixed_batch_axes, provable_size, prove_batch, rounds_values
from trtkit.export.culprit import carriers, culprit
from trtkit.export.runtime import Session
from trtkit.export.trial import Trial, find_trial
from trtkit.numerics import Array
from trtkit.samples import Samples
from trtkit.signature import Signature, TensorSpec

DEFAULT_MAX_BATCH_SIZE = 8
_OTHER_BATCHES = (2, 3, 4, 5, 8, 16)
_REMEDY = "export it with a dynamic batch, or set config: {max_batch_size: 0}"


@dataclass(frozen=True)
class Graph:
    """A graph on its way through the stage.

    Attributes:
        model: the message, as in the folder's model.onnx.
        session: the same in ONNX Runtime.
        signature: its inputs and outputs.
        known: ranges of integer inputs that the graph itself limits.
        folder: holds model.onnx and its external data.
        where: FILE:LINE:COLUMN of the source, for messages.
    """

    model: onnx.ModelProto
    session: Session
    signature: Signature
    known: dict[str, list[int]]
    folder: Path
    where: str


@dataclass(frozen=True)
class Batching:
    """How it is served, and why.

    Attributes:
        max_batch_size: 0 for a model that takes each request as it is.
        trial: how to make random inputs for it.
        facts: the evidence: ``batching``, and the ``proven`` sizes on ``data``, or the reason ``why`` not;
            ``weak`` when the rows' values prove nothing; ``not_run`` when no random inputs were found that a
            model without batching takes.
    """

    max_batch_size: int
    trial: Trial
    facts: dict[str, Any]


def find_batching(graph: Graph, samples: Samples | None, wanted: int | None) -> Batching:
    """The largest batch that is wanted and proven.

    Args:
        graph: the exported graph.
        samples: real rows to prove it on; random ones when there are none, or just one.
        wanted: ``max_batch_size`` of the project file; None for 8 where the first axes are dynamic.

    Raises:
        ExportError: a batch is wanted of a graph that cannot take one, a batch is not its rows one by one,
            or nothing is known that the graph can be run on.
    """
    if wanted is not None and wanted < 0:
        raise ExportError(f"{graph.where}: max_batch_size is {wanted}; 0 is no batching, 1 and more the largest batch")
    if wanted == 0:
        return _unbatched(graph, "config: max_batch_size: 0")
    inputs, outputs = fixed_batch_axes(graph.signature.inputs), fixed_batch_axes(graph.signature.outputs)
    carrying = carriers(graph.model.graph)
    constant = [spec for spec in outputs if spec.name not in carrying]
    if inputs or constant:
        why = f"the first axis is fixed: {'; '.join(map(str, inputs + (outputs if inputs else constant)))}"
        if wanted is not None:
            raise ExportError(f"{graph.where}: max_batch_size is {wanted}, but {why}; {_REMEDY}")
        return _unbatched(graph, why)
    return _batched(graph, samples, outputs, DEFAULT_MAX_BATCH_SIZE if wanted is None else wanted)


def _unbatched(graph: Graph, why: str) -> Batching:
    facts: dict[str, Any] = {"batching": False, "why": why}
    trial, reason = _trial(graph, None)
    if reason:
        facts["not_run"] = reason
    return Batching(0, trial, facts)


def _trial(graph: Graph, batch: int | None) -> tuple[Trial, str]:
    """Random inputs for a batch size, None for no batching, and why there are none."""
    try:
        return find_trial(graph.session, graph.signature.inputs, graph.known, batch), ""
    except ExportError as exc:
        return Trial(dict(graph.known)), str(exc)


def _batched(graph: Graph, samples: Samples | None, fixed: list[TensorSpec], wanted: int) -> Batching:
    trial, reason = _trial(graph, 1)
    real = samples is not None and len(samples) > 1
    if reason and not real:
        raise _not_run(graph, reason)
    size = provable_size(graph.signature, wanted, trial.axis_size)
    rows = _resized(samples, size) if samples and real else trial.inputs(graph.signature.inputs, size, seed=2)
    if fixed:
        shown = "; ".join(map(str, fixed))
        problem = BatchProblem(2, f"the first axis of an output is fixed: {shown}", fixed[0].name)
        raise _not_dynamic(graph, problem, _pair(graph, rows, trial))
    result = prove_batch(graph.session, rows, rounds_values(graph.model.graph))
    if isinstance(result, BatchProblem):
        if samples and real and result.size == 1 and not reason:  # one random row was fine
            raise ExportError(f"{graph.where}: the model cannot take {samples.origin}: {result.reason}")
        raise _not_dynamic(graph, result, _pair(graph, rows, trial))
    data = samples.origin if samples and real else "random data"
    facts: dict[str, Any] = {"batching": True, "proven": result.sizes, "data": data}
    if result.alike:
        facts["weak"] = "all rows gave the same outputs, so that only their shapes could be proven"
    return Batching(wanted, trial, facts)


def _resized(samples: Samples, count: int) -> dict[str, Array]:
    """So many rows, the samples again and again where they are fewer."""
    return {name: np.resize(array, (count, *array.shape[1:])) for name, array in samples.rows(0, count).items()}


def _pair(graph: Graph, rows: Mapping[str, Array], trial: Trial) -> dict[str, Array]:
    """Two rows to look for the node with."""
    if len(next(iter(rows.values()))) > 1:
        return {name: array[:2] for name, array in rows.items()}
    return trial.inputs(graph.signature.inputs, 2, seed=2)


def _not_dynamic(graph: Graph, problem: BatchProblem, rows: Mapping[str, Array]) -> ExportError:
    guilty = culprit(graph.model, rows, graph.folder, problem.output)
    return ExportError(
        f"{graph.where}: the batch dimension is not dynamic: with a batch of {problem.size} {problem.reason}; "
        f"{guilty}; {_REMEDY}"
    )


def _not_run(graph: Graph, reason: str) -> ExportError:
    """One random row cannot be run: because another number of rows was baked in, or because of what is in it."""
    for batch in _OTHER_BATCHES:
        trial, other = _trial(graph, batch)
        if not other:
            rows = trial.inputs(graph.signature.inputs, 2, seed=2)
            problem = BatchProblem(1, f"it cannot be run, only with {batch}: {reason}")
            return _not_dynamic(graph, problem, rows)
    return ExportError(
        f"{graph.where}: no random data were found that the model takes, so that its batching cannot be proven: "
        f"{reason}; give it real data with `evaluate:`, or set config: {{max_batch_size: 0}}"
    )
