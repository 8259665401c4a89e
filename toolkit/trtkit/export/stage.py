# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The export stage: source to checked ONNX, with the evidence that goes into the record."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trtkit.compat import tool_versions
from trtkit.errors import ExportError, TrtkitError
from trtkit.export.batch_proof import fixed_batch_axes, prove_batch
from trtkit.export.key import TOOLS, wanted_batch
from trtkit.export.normalize import (
    check,
    fill_missing_ranks,
    main_opset,
    name_batch_axis,
    normalize,
    signature_of,
)
from trtkit.export.onnx_file import write_onnx
from trtkit.export.runtime import Session
from trtkit.export.sources import Loaded, load_source
from trtkit.export.value_ranges import DEFAULT_RANGE, index_ranges
from trtkit.export.warmup import write_warmup
from trtkit.numerics import Array, difference
from trtkit.project import Project
from trtkit.samples import Samples, evaluation_samples, random_inputs
from trtkit.signature import Signature

DEFAULT_MAX_BATCH_SIZE = 8
_PARITY_ROWS = 256
# the exported FP32 graph against its FP64 or FP32 source; trees may take another branch at a rounded threshold
_PARITY_RTOL, _PARITY_ATOL, _PARITY_SHARE = 1e-3, 1e-4, 0.01


@dataclass(frozen=True)
class Exported:
    """What the export stage found.

    Attributes:
        signature: inputs and outputs, full shapes.
        max_batch_size: the largest batch that is served; 0 for a model that does not batch.
        facts: the same and the evidence, as JSON: ``signature``, ``max_batch_size``, ``batch`` (the sizes
            proven, or why it does not batch), ``ranges`` of integer inputs, ``opset``, ``ir_version``,
            ``changes``, ``parity`` with the source, ``tool_versions``.
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
    assert spec.source is not None
    where = project.where("models", name, "source")
    loaded = load_source(project, name)
    model, changes = normalize(loaded.model, where)
    model.graph.name = name  # converters put random names here, and equal models should have equal hashes
    ranges = index_ranges(model)
    path = write_onnx(model, folder)
    check(path, where)
    session = _session(path, where)
    if any(not output.type.tensor_type.HasField("shape") for output in model.graph.output):
        observed = _observe(session, model, where, ranges)
        fill_missing_ranks(model, observed)
    signature = signature_of(model, where)
    samples = evaluation_samples(project, name, signature.inputs)
    size, batch_facts, ranges = _batch(session, model, signature, samples, wanted_batch(spec), ranges, where)
    if size:
        name_batch_axis(model)
        signature = signature_of(model, where)
    write_onnx(model, folder)
    rows = _rows(signature, samples, size, ranges)
    facts = {
        "signature": signature.to_json(),
        "max_batch_size": size,
        "batch": batch_facts,
        "ranges": ranges,
        "opset": main_opset(model),
        "ir_version": model.ir_version,
        "changes": changes,
        "source": loaded.kind,
        "parity": _parity(loaded, session, rows, samples.origin if samples else "random data", where),
        "warmup": _warmup(folder, signature, session, rows, size),
        "tool_versions": tool_versions("trtkit", *TOOLS[spec.source.kind]),
    }
    return Exported(signature, size, facts)


def _rows(
    signature: Signature, samples: Samples | None, max_batch_size: int, ranges: Mapping[str, list[int]]
) -> dict[str, Array]:
    """Rows to compare on: many of a batching model's, one request's of another's."""
    count = _PARITY_ROWS if max_batch_size else request_rows(signature)
    return samples.rows(0, count) if samples else random_inputs(signature.inputs, min(count, 16), seed=3, ranges=ranges)


def request_rows(signature: Signature) -> int:
    """How many rows of data one request of a non-batching model takes: its first axis where that is fixed."""
    first = [spec.shape[0] for spec in signature.inputs if spec.shape]
    return next((dim for dim in first if isinstance(dim, int)), 1)


def _warmup(
    folder: Path, signature: Signature, session: Session, rows: Mapping[str, Array], max_batch_size: int
) -> dict[str, Any]:
    """Warm-up files of the first row; none for a model that does not take it, as its load would fail."""
    row = {name: array[:1] if max_batch_size else array for name, array in rows.items()}
    try:
        session.run(row)
    except ExportError:
        return {}
    return write_warmup(folder, signature, row, batching=max_batch_size > 0)


def _session(path: Path, where: str) -> Session:
    try:
        return Session(path, threads=max(1, (os.cpu_count() or 2) // 2))
    except ExportError as exc:
        raise ExportError(f"{where}: {exc}") from exc


def _observe(session: Session, model: Any, where: str, ranges: Mapping[str, list[int]]) -> dict[str, list[int]]:
    inputs = tuple(tensor_specs(model.graph.input, "input", where))
    rows = random_inputs(inputs, 2, seed=1, ranges=ranges)
    return {name: list(array.shape) for name, array in session.run(rows).items()}


def _batch(
    session: Session,
    model: Any,
    signature: Signature,
    samples: Samples | None,
    wanted: int | None,
    ranges: dict[str, list[int]],
    where: str,
) -> tuple[int, dict[str, Any], dict[str, list[int]]]:
    """The batch size to serve, the evidence, and integer ranges the model is known to take."""
    fixed = fixed_batch_axes(signature)
    if wanted == 0 or (fixed and wanted is None):
        why = "config: max_batch_size: 0" if wanted == 0 else f"the first axis is fixed: {'; '.join(fixed)}"
        _, ranges = _runnable(session, signature, 1, ranges)
        return 0, {"batching": False, "why": why}, ranges
    if fixed:
        raise ExportError(
            f"{where}: max_batch_size is {wanted}, but the first axis is fixed: {'; '.join(fixed)}; "
            "export it with a dynamic batch, or set config: {max_batch_size: 0}"
        )
    size = DEFAULT_MAX_BATCH_SIZE if wanted is None else wanted
    if samples:
        rows = {name: np.resize(array, (size, *array.shape[1:])) for name, array in samples.rows(0, size).items()}
    else:
        rows, ranges = _runnable(session, signature, size, ranges)
    return size, {"batching": True, "proven": prove_batch(session, model, rows, where)}, ranges


def _runnable(
    session: Session, signature: Signature, batch: int, ranges: dict[str, list[int]]
) -> tuple[dict[str, Array], dict[str, list[int]]]:
    """Random rows that the model takes alone, with the integer range narrowed until it does."""
    wide = {
        spec.name: ranges.get(spec.name, [0, 100])
        for spec in signature.inputs
        if spec.dtype.numpy[:3] in ("int", "uin")
    }
    for candidate in (wide, {**{name: list(DEFAULT_RANGE) for name in wide}, **ranges}):
        rows = random_inputs(signature.inputs, batch, seed=2, ranges=candidate)
        try:
            session.run({name: array[:1] for name, array in rows.items()})
        except ExportError:
            continue
        return rows, candidate
    return rows, candidate


def _parity(loaded: Loaded, session: Session, rows: dict[str, Array], origin: str, where: str) -> dict[str, Any]:
    """The source's own outputs against the exported graph's; ExportError when they are not the same model."""
    if loaded.predict is None:
        return {"compared": False, "why": "an ONNX source is its own reference"}
    actual = session.run(rows)
    try:
        reference = loaded.predict(rows)
    except TrtkitError:
        raise
    except Exception as exc:  # the user's model may raise anything
        raise ExportError(f"{where}: the source itself failed on {origin}: {type(exc).__name__}: {exc}") from exc
    outputs: dict[str, Any] = {}
    for name, expected in reference.items():
        result = difference(expected.reshape(actual[name].shape) if expected.size == actual[name].size else expected,
                            actual[name], _PARITY_RTOL, _PARITY_ATOL)  # fmt: skip
        outputs[name] = result.to_json()
        if result.problem or result.outside > _PARITY_SHARE * result.elements:
            raise ExportError(
                f"{where}: the exported graph is not its source: output '{name}' on {origin}: "
                f"{result.problem or f'{result.outside} of {result.elements} elements differ, at most by {result.max_abs:.3g}'}"
            )
    return {"compared": True, "data": origin, "rows": len(next(iter(rows.values()))), "outputs": outputs}
