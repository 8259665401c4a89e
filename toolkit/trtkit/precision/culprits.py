# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Which nodes keep an FP16 or BF16 graph from its tolerance: the ones that leave the type's range, then by bisection.

Every trial converts the graph with other nodes kept in FP32 and runs it with `emulate.cpu_runnable`, because ONNX
Runtime's own FP16 on a CPU drops the roundings and overflows it is asked for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from trtkit.export.onnx_file import EXTERNAL_ABOVE_BYTES, write_onnx
from trtkit.export.runtime import Session
from trtkit.numerics import Array
from trtkit.precision.emulate import cpu_runnable, has_fp8
from trtkit.precision.graph_edit import byte_size, element_types, graphs_of, name_nodes, reads, without_weights
from trtkit.precision.half import HalfResult, to_half
from trtkit.precision.half_constants import LARGEST
from trtkit.precision.half_rules import HALF_TYPES
from trtkit.precision.keep_search import DEFAULT_TRIALS, Search, nodes_to_keep

__all__ = ["Culprits", "Search", "find_culprits", "nodes_to_keep", "overflowing_nodes"]

Outputs = Mapping[str, Array]
# values that are asked for in one run: what bounds the memory, with the rows
_VALUES_AT_ONCE = 32


@dataclass(frozen=True)
class Culprits:
    """What it takes to bring a half-precision graph into its tolerance.

    Attributes:
        nodes: those that stay FP32 for it, in the graph's order, with the reason in words; empty when none has to.
        trials: how many conversions were run and compared.
        converted: nodes that are half in the result.
        result: the conversion with these nodes kept.
        passed: whether the result is inside the tolerance; False when not even keeping all nodes helps.
        minimal: whether each node, or each group of nodes around a value that overflows, was shown to be needed.
    """

    nodes: dict[str, str]
    trials: int
    converted: int
    result: HalfResult
    passed: bool
    minimal: bool


def find_culprits(
    model: onnx.ModelProto,
    dtype: str,
    rows: Mapping[str, Array],
    within: Callable[[Outputs, Outputs], bool],
    *,
    keep_nodes: Collection[str] = (),
    keep_operators: Collection[str] = (),
    keep_io_types: bool = True,
    trials: int = DEFAULT_TRIALS,
    rows_at_once: int = 8,
) -> Culprits:
    """Convert a graph and keep in FP32 what has to be kept.

    Args:
        model: FP32; not changed.
        dtype: ``FP16`` or ``BF16``.
        rows: full input arrays, batch first; the graph runs on all of them in every trial.
        within: whether outputs (second) are as near to the FP32 graph's (first) as they have to be.
        keep_nodes: kept in any case, see `to_half`.
        keep_operators: kept in any case.
        keep_io_types: see `to_half`.
        trials: the most conversions that are tried.
        rows_at_once: how many rows are run when inner values are looked at.

    Raises:
        ExportError: ONNX Runtime refuses the graph or the rows.
        BuildError: see `to_half`.
    """
    trial = _Trial(model, dtype, rows, within, (tuple(keep_nodes), tuple(keep_operators), keep_io_types))
    plain = trial.convert(frozenset())
    if not trial.fails(frozenset()):
        return Culprits({}, 1, plain.converted, plain, passed=True, minimal=True)
    overflowing = overflowing_nodes(model, dtype, rows, rows_at_once=rows_at_once)
    reasons = {name: reason for name, reason in overflowing.reasons.items() if name in plain.halves}
    groups = [group & reasons.keys() for group in overflowing.groups]
    found = _search(trial, [group for group in groups if group], plain.halves, trials)
    nodes = {name: reasons.get(name, "found by bisection") for name in plain.halves if name in found.nodes}
    result = trial.convert(frozenset(nodes)) if nodes else plain
    return Culprits(nodes, trial.count, result.converted, result, found.passes, found.minimal)


def _search(trial: _Trial, groups: list[frozenset[str]], halves: tuple[str, ...], trials: int) -> Search:
    """First the groups that overflow, each taken as a whole; then all other nodes; then which groups it still takes."""
    overflowing = frozenset[str]().union(*groups)
    search = _among_groups(trial, groups, halves, trials, frozenset())
    if search.passes:
        return search
    rest = [name for name in halves if name not in overflowing]
    further = nodes_to_keep(rest, trial.fails, at_first=overflowing, trials=trial.left(trials, overflowing))
    if not further.passes or not groups:
        return further
    others = frozenset(further.nodes)
    search = _among_groups(trial, groups, halves, trials, others)
    kept = search.nodes if search.passes else overflowing
    return Search([*kept, *others], trial.count, passes=True, minimal=further.minimal and search.minimal)


def _among_groups(
    trial: _Trial, groups: list[frozenset[str]], halves: tuple[str, ...], trials: int, others: frozenset[str]
) -> Search:
    by_first = {min(group, key=halves.index): group for group in groups}

    def fails(firsts: frozenset[str]) -> bool:
        return trial.fails(others.union(*(by_first[first] for first in firsts)))

    budget = trial.left(trials, others)
    search = nodes_to_keep(sorted(by_first, key=halves.index), fails, trials=budget)
    nodes = [name for first in search.nodes for name in by_first[first]]
    return Search(nodes, trial.count, search.passes, search.minimal)


class _Trial:
    """Conversions of one graph with other nodes kept, each compared with the FP32 graph once."""

    def __init__(
        self,
        model: onnx.ModelProto,
        dtype: str,
        rows: Mapping[str, Array],
        within: Callable[[Outputs, Outputs], bool],
        keep: tuple[tuple[str, ...], tuple[str, ...], bool],
    ) -> None:
        self._model, self._dtype, self._rows, self._within, self._keep = model, dtype, rows, within, keep
        self._reference = _session(_filled(without_weights(model), model)).run(rows)
        self._known: dict[frozenset[str], bool] = {}

    @property
    def count(self) -> int:
        return len(self._known)

    def left(self, trials: int, first: frozenset[str]) -> int:
        """How many trials a search may make that begins with the given nodes: known results cost nothing."""
        return max(0, trials - self.count) + (first in self._known)

    def convert(self, kept: frozenset[str]) -> HalfResult:
        names, operators, io_types = self._keep
        keep = (*names, *sorted(kept))
        return to_half(self._model, self._dtype, keep_nodes=keep, keep_operators=operators, keep_io_types=io_types)

    def fails(self, kept: frozenset[str]) -> bool:
        if kept not in self._known:
            converted = cpu_runnable(self.convert(kept).model)
            inputs = {name: self._rows[name] for name in self._rows}
            for value in converted.graph.input:  # FP32 rows for an input that is FP16 now
                if value.type.tensor_type.elem_type == TensorProto.FLOAT16 and value.name in inputs:
                    inputs[value.name] = inputs[value.name].astype(np.float16)
            self._known[kept] = not self._within(self._reference, _session(converted).run(inputs))
        return self._known[kept]


@dataclass(frozen=True)
class Overflowing:
    """Nodes around values that a half type cannot hold.

    Attributes:
        reasons: each node that gives or reads such a value, with it and its size, in words.
        groups: the same nodes, together where they share such a value: keeping a part of a group helps nothing.
    """

    reasons: dict[str, str]
    groups: list[frozenset[str]]


def overflowing_nodes(
    model: onnx.ModelProto, dtype: str, rows: Mapping[str, Array], *, rows_at_once: int = 8
) -> Overflowing:
    """Run the FP32 graph and look at every value outside of inner graphs.

    Args:
        model: FP32; not changed.
        dtype: ``FP16`` or ``BF16``.
        rows: full input arrays, batch first.
        rows_at_once: how many rows are run at a time, where the graph's batch is dynamic.

    Raises:
        ExportError: ONNX Runtime refuses the graph or the rows.
    """
    graph = without_weights(model)
    name_nodes(graph)
    limit = LARGEST[HALF_TYPES[dtype]]
    large = {name: most for name, most in _largest(graph, model, rows, rows_at_once).items() if most > limit}
    reasons: dict[str, str] = {}
    groups: dict[str, set[str]] = {}
    for node in graph.graph.node:
        holds = f"{dtype} holds up to {limit:.6g}"
        made = [name for name in node.output if name in large]
        for name in [*made, *(name for name in reads(node) if name in large)]:
            what = "its output" if name in made else f"it reads '{name}', which"
            reasons.setdefault(node.name, f"{what} reaches {large[name]:.3g}, {holds}")
            groups.setdefault(name, set()).add(node.name)
    return Overflowing(reasons, _joined(groups.values()))


def _joined(sets: Collection[set[str]]) -> list[frozenset[str]]:
    """Sets that have members in common become one."""
    found: list[set[str]] = []
    for one in sets:
        apart = [other for other in found if not other & one]
        found = [*apart, one.union(*(other for other in found if other & one))]
    return [frozenset(one) for one in found]


def _largest(
    graph: onnx.ModelProto, model: onnx.ModelProto, rows: Mapping[str, Array], rows_at_once: int
) -> dict[str, float]:
    """The largest finite absolute value of each FP32 input and inner value."""
    types = element_types(graph)
    names = [name for node in graph.graph.node for name in node.output if types.get(name) == TensorProto.FLOAT]
    found = {name: _finite_max(array) for name, array in rows.items() if array.dtype.kind == "f"}
    watched = _filled(graph, model)
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = _session(watched, optimize=False)
    for chunk in _chunks(graph, rows, rows_at_once):
        for start in range(0, len(names), _VALUES_AT_ONCE):
            for name, array in session.run(chunk, names[start : start + _VALUES_AT_ONCE]).items():
                found[name] = max(found.get(name, 0.0), _finite_max(array))
    return found


def _finite_max(array: Array) -> float:
    return float(np.abs(array[np.isfinite(array)]).max(initial=0.0))


def _chunks(model: onnx.ModelProto, rows: Mapping[str, Array], rows_at_once: int) -> Iterator[Mapping[str, Array]]:
    """Parts of the rows where every input has them on a dynamic first axis, else all at once."""
    counts = {len(array) if array.ndim else 0 for array in rows.values()}
    axes = [value.type.tensor_type.shape.dim[:1] for value in model.graph.input if value.name in rows]
    if len(counts) != 1 or 0 in counts or not all(axis and not axis[0].dim_value for axis in axes):
        yield rows
        return
    for start in range(0, counts.pop(), rows_at_once):
        yield {name: array[start : start + rows_at_once] for name, array in rows.items()}


def _filled(slim: onnx.ModelProto, model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with the model's weights in it."""
    del slim.graph.initializer[:]
    slim.graph.initializer.extend(model.graph.initializer)
    return slim


def _session(model: onnx.ModelProto, *, optimize: bool = True) -> Session:
    """A session of a graph that is not needed afterwards: large ones go through a file, and lose their weights."""
    optimize = optimize and not has_fp8(model)
    weights = [tensor for graph in graphs_of(model.graph) for tensor in graph.initializer]
    if sum(map(byte_size, weights)) <= EXTERNAL_ABOVE_BYTES:
        return Session(model.SerializeToString(), optimize=optimize)
    with tempfile.TemporaryDirectory() as folder:
        return Session(write_onnx(model, Path(folder), "the graph"), optimize=optimize)
