# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The export stage: source to checked ONNX, with the evidence that goes into the record."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtkit.compat import tool_versions
from trtkit.errors import ExportError
from trtkit.export.batching import Batching, Graph, find_batching
from trtkit.export.graph_signature import signature_of, tensor_dtype, tensor_specs
from trtkit.export.key import TOOLS, wanted_batch
from trtkit.export.normalize import (
    Normalized,
    adopt_sizes,
    check,
    correct_outputs,
    main_opset,
    name_batch_axis,
    normalize,
    outputs_without_rank,
)
from trtkit.export.onnx_file import write_onnx
from trtkit.export.parity import compare
from trtkit.export.runtime import Session
from trtkit.export.sources import Loaded, load_source
from trtkit.export.trial import find_trial
from trtkit.export.value_ranges import index_ranges
from trtkit.export.warmup import write_warmup
from trtkit.project import Project
from trtkit.samples import Samples, evaluation_samples
from trtkit.signature import Signature

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from trtkit.numerics import Array

_PARITY_ROWS = 256
_RANDOM_ROWS = 16


@dataclass(frozen=True)
class Exported:
    """What the export stage found.

    Attributes:
        signature: inputs and outputs, full shapes.
        max_batch_size: the largest batch that is served; 0 for a model that does not batch.
        facts: the same and the evidence, as JSON: ``signature``, ``max_batch_size``, ``batch`` (the sizes
            proven, or why it does not batch), ``ranges`` of integer inputs and the ``axis_size`` of dynamic
            axes that random data need, ``opset``, ``ir_version``, ``changes``, ``parity`` with the source,
            ``warmup``, ``tool_versions``.
    """

    signature: Signature
    max_batch_size: int
    facts: dict[str, Any]

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Exported:
        """From a record."""
        return cls(Signature.from_json(facts["signature"]), facts["max_batch_size"], facts)


def export_model(project: Project, name: str, folder: Path) -> Exported:
    """Export one model into a folder and prove it.

    Args:
        project: the project.
        name: a model with a source.
        folder: receives ``model.onnx``.

    Raises:
        ExportError, DataError, MissingDependencyError: what could not be done, where in the project file.
    """
    spec = project.models[name]
    assert spec.source is not None, f"{name} is an ensemble"
    where = project.where("models", name, "source", spec.source.kind)
    loaded = load_source(project, name)
    normalized = normalize(loaded.model, folder, where)
    graph = _graph(normalized, name, folder, where)
    samples = evaluation_samples(project, name, graph.signature.inputs)
    batching = find_batching(graph, samples, wanted_batch(spec))
    rows, origin = _rows(graph, samples, batching)
    graph = _final_graph(graph, batching, normalized, rows)
    with _where(where):
        parity = compare(_with_reference(loaded, normalized), graph.session, rows, origin, project.root, where)
    facts = {
        "signature": graph.signature.to_json(),
        "max_batch_size": batching.max_batch_size,
        "batch": batching.facts,
        "ranges": batching.trial.ranges,
        "axis_size": batching.trial.axis_size,
        "opset": main_opset(graph.model),
        "ir_version": graph.model.ir_version,
        "changes": normalized.changes,
        "source": loaded.kind,
        "parity": parity,
        "warmup": _warmup(graph, rows, batching.max_batch_size),
        "tool_versions": tool_versions("trtkit", *TOOLS[spec.source.kind]),
    }
    return Exported(graph.signature, batching.max_batch_size, facts)


@contextmanager
def _where(where: str) -> Iterator[None]:
    """Put the place in front of an error that does not know it."""
    try:
        yield
    except ExportError as exc:
        if str(exc).startswith(where.partition(":")[0]):
            raise
        raise ExportError(f"{where}: {exc}") from exc


def _graph(normalized: Normalized, name: str, folder: Path, where: str) -> Graph:
    """The normalized graph, written, checked, loaded, and true about its outputs."""
    model = normalized.model
    model.graph.name = name  # converters put random names here, and equal models should have equal hashes
    for value in model.graph.output:
        tensor_dtype(value, f"{where}: output '{value.name}'")
    kept = next(
        (f" ({change})" for change in normalized.changes if change.startswith("opset") and "kept" in change), ""
    )
    session = _load(write_onnx(model, folder, where), where, kept)
    known = index_ranges(model)
    outputs, reason = _observed(model, session, known, where)
    normalized.changes.extend(correct_outputs(model, outputs) if outputs else ())
    if unknown := outputs_without_rank(model):
        raise ExportError(
            f"{where}: the graph does not say the rank of output '{unknown[0]}', and it could not be observed: {reason}"
        )
    return Graph(model, session, signature_of(model, where), known, folder, where)


def _load(path: Path, where: str, note: str = "") -> Session:
    try:
        return Session(path, threads=max(1, (os.cpu_count() or 2) // 2))
    except ExportError as exc:
        raise ExportError(f"{where}: {exc}{note}") from exc


def _observed(
    model: onnx.ModelProto, session: Session, known: dict[str, list[int]], where: str
) -> tuple[dict[str, tuple[int, ...]], str]:
    """The outputs' shapes for random inputs, two rows if the model takes as many; or why it took none."""
    inputs = tuple(tensor_specs(model.graph.input, "input", where))
    reason = ""
    for batch in (2, 1, None):
        try:
            outputs = session.run(find_trial(session, inputs, known, batch).inputs(inputs, batch, seed=1))
            return {name: array.shape for name, array in outputs.items()}, ""
        except ExportError as exc:
            reason = reason or str(exc)
    return {}, reason


def _final_graph(graph: Graph, batching: Batching, normalized: Normalized, rows: Mapping[str, Array]) -> Graph:
    """The graph as it is served: true about its outputs for the rows too, and its batch axis named."""
    with suppress(ExportError):  # not every model that does not batch takes what is at hand
        outputs = graph.session.run(rows)
        normalized.changes.extend(correct_outputs(graph.model, {name: a.shape for name, a in outputs.items()}))
    if batching.max_batch_size:
        name_batch_axis(graph.model)
    path = write_onnx(graph.model, graph.folder, graph.where)
    session = _load(path, graph.where)
    if adopt_sizes(graph.model, session.output_sizes):
        session = _load(write_onnx(graph.model, graph.folder, graph.where), graph.where)
    check(path, graph.where)
    return replace(graph, session=session, signature=signature_of(graph.model, graph.where))


def _with_reference(loaded: Loaded, normalized: Normalized) -> Loaded:
    """The source; an ONNX one whose operators were converted is compared with what it was before."""
    if loaded.kind != "onnx" or not any(" converted to " in c for c in normalized.changes):
        return loaded
    if normalized.before is None:
        return replace(loaded, why_no_predict="ONNX Runtime does not take the graph as it was before its conversion")
    return replace(loaded, predict=normalized.before.run)


def _rows(graph: Graph, samples: Samples | None, batching: Batching) -> tuple[dict[str, Array], str]:
    """Rows to compare on, and where they are from: many of a batching model's, one request's of another's."""
    inputs = graph.signature.inputs
    if samples is None:
        return batching.trial.inputs(inputs, _RANDOM_ROWS if batching.max_batch_size else None, seed=3), "random data"
    return samples.rows(0, _PARITY_ROWS if batching.max_batch_size else request_rows(graph.signature)), samples.origin


def request_rows(signature: Signature) -> int:
    """How many rows of data one request of a non-batching model takes: its first axis where that is fixed."""
    first = [spec.shape[0] for spec in signature.inputs if spec.shape]
    return next((dim for dim in first if isinstance(dim, int)), _RANDOM_ROWS)


def _warmup(graph: Graph, rows: Mapping[str, Array], max_batch_size: int) -> dict[str, Any]:
    """Warm-up files of the first row; none for a model that does not take it, as its load would fail."""
    row = {name: array[:1] if max_batch_size else array for name, array in rows.items()}
    try:
        graph.session.run(row)
    except ExportError:
        return {}
    return write_warmup(graph.folder, graph.signature, row, batching=max_batch_size > 0)
