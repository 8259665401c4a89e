# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Requests from perf_analyzer's ``--input-data`` JSON files.

``{"data": [STEP, …]}``, or ``{"data": [[STEP, …], …]}`` with one list per stream (a sequence's data). A STEP has a
tensor for every input, of one sample, in row-major order: a list of values, ``{"b64": TEXT}`` (little endian; BYTES
elements with four bytes of length), or ``{"content": either, "shape": [2, 8]}``. ``validation_data`` has the same
nesting and the outputs that are expected. As perf_analyzer does, a batch takes the steps that follow each other,
round and round. What is more here: nested lists, FP16 and BF16 as numbers, a single dynamic axis without a
``shape``, integers for floats, and in a step ``parameters`` of the request and, for a fixed schedule, ``timestamp``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trtkit.errors import DataError, nearest
from trtkit.numerics import Array
from trtkit.perf.data.pool import Parameter, Pool, Request
from trtkit.perf.data.shapes import Shapes
from trtkit.perf.data.tensor_values import tensor
from trtkit.perf.data.workload import check_batch_size, input_specs, max_batch_size, output_specs, required_inputs
from trtkit.samples import one_line
from trtkit.signature import TensorSpec

if TYPE_CHECKING:
    from trtkit.perf.server.control import ModelDescription

RESERVED = ("model", "parameters", "timestamp")
"""Keys of a step that are no tensors, unless the model has a tensor of that name."""


@dataclass(frozen=True)
class _Step:
    """One sample: its tensors without the batch axis."""

    where: str
    inputs: dict[str, Array]
    expected: dict[str, Array]
    parameters: dict[str, Parameter]


def input_data_pool(
    paths: Sequence[Path], description: ModelDescription, *, batch_size: int = 1, shapes: Shapes | None = None
) -> Pool:
    """The requests of JSON files; the steps, or the streams, of several files follow each other.

    A model with ``sequence_batching`` gets a request for each step of each stream. For any other model there are as
    many requests as it takes until a stream's batches repeat, and the streams' requests follow each other.

    Args:
        paths: at least one file.
        description: what the server says about the model.
        batch_size: samples in one request.
        shapes: for tensors with dynamic axes whose steps give no ``shape``; drawn once for each step.

    Raises:
        DataError: a file that cannot be read, is of another form, or does not fit the model; says where.
        ProjectError: a batch size the model does not take.
    """
    check_batch_size(description.metadata, description.config, batch_size)
    reader = _Reader(description, shapes or Shapes())
    files = [read_steps(path) for path in paths]
    if len({file.nested for file in files}) > 1:
        raise DataError(f"{paths[0]} and {paths[-1]} cannot be joined: one has steps, the other streams of steps")
    read = [stream for path, file in zip(paths, files, strict=True) for stream in _read(path, file, reader)]
    streams = read if files[0].nested else [[step for stream in read for step in stream]]
    return _pool(streams, reader, batch_size, "sequence_batching" in description.config, ", ".join(map(str, paths)))


class Steps(NamedTuple):
    """What a file has.

    Attributes:
        streams: each a list of steps.
        expected: the same of ``validation_data``; None without.
        nested: whether the file has streams; if not, all its steps are one.
    """

    streams: list[list[Any]]
    expected: list[list[Any]] | None
    nested: bool


def read_steps(path: Path) -> Steps:
    """The steps of a file.

    Raises:
        DataError: the file cannot be read, or is of another form.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise DataError(f"{path} cannot be read as JSON: {one_line(exc)}") from exc
    if not isinstance(value, dict) or not isinstance(value.get("data"), list) or not value["data"]:
        raise DataError(f'{path}: expected {{"data": [{{"INPUT": [values]}}, …]}} with at least one step')
    streams = _streams(value["data"], f"{path}: data")
    nested = isinstance(value["data"][0], list)
    if "validation_data" not in value:
        return Steps(streams, None, nested)
    checks = value["validation_data"]
    expected = _streams(checks, f"{path}: validation_data") if isinstance(checks, list) and checks else []
    if list(map(len, expected)) != list(map(len, streams)):
        raise DataError(f"{path}: validation_data needs the streams and steps of data, one for one")
    return Steps(streams, expected, nested)


def _streams(value: list[Any], where: str) -> list[list[Any]]:
    nested = [isinstance(item, list) for item in value]
    if any(nested) and not all(nested):
        raise DataError(f"{where} mixes steps and streams; give a list of objects, or a list of lists of objects")
    streams = value if nested[0] else [value]
    for row in streams:
        if not row or not all(isinstance(step, dict) for step in row):
            raise DataError(f"{where}: every stream needs at least one step, and each step is an object by tensor")
    return streams


def _read(path: Path, file: Steps, reader: _Reader) -> Iterator[list[_Step]]:
    for number, row in enumerate(file.streams):
        where = f"{path}: data[{number}]" if file.nested else f"{path}: data"
        checks = file.expected[number] if file.expected else [{}] * len(row)
        pairs = zip(row, checks, strict=True)
        yield [reader.step(f"{where}[{index}]", step, check) for index, (step, check) in enumerate(pairs)]


def _pool(streams: list[list[_Step]], reader: _Reader, batch_size: int, is_sequence: bool, origin: str) -> Pool:
    requests: list[Request] = []
    numbers: list[tuple[int, ...]] = []
    for steps in streams:
        first = len(requests)
        requests += _batched(steps, batch_size, reader, is_sequence)
        numbers.append(tuple(range(first, len(requests))))
    if not is_sequence:
        numbers = [tuple(range(len(requests)))]
    return Pool(tuple(requests), tuple(numbers), origin)


def _batched(steps: list[_Step], batch_size: int, reader: _Reader, is_sequence: bool) -> list[Request]:
    total = len(steps)
    starts: Iterable[int] = range(total)
    if not is_sequence:
        starts = (number * batch_size for number in range(total // math.gcd(total, batch_size)))
    return [reader.request([steps[(start + row) % total] for row in range(batch_size)]) for start in starts]


class _Reader:
    """Makes steps and requests of one model."""

    def __init__(self, description: ModelDescription, shapes: Shapes) -> None:
        metadata, config = description
        self._model = str(metadata.get("name", ""))
        self._inputs, self._outputs = input_specs(metadata), output_specs(metadata)
        self._required = required_inputs(metadata, config)
        self._batch_axes = 1 if max_batch_size(config) else 0
        self._shapes = shapes
        self._rng = np.random.default_rng(0)

    def step(self, where: str, given: Mapping[str, Any], expected: Mapping[str, Any]) -> _Step:
        """One entry of ``data`` with its entry of ``validation_data``."""
        missing = [name for name in self._required if name not in given]
        if missing:
            raise DataError(f"{where}: no data for input {self._inputs[missing[0]]}; {nearest(missing[0], given)}")
        names = [name for name in given if name in self._inputs or name not in RESERVED]
        sizes = self._drawn(names)
        inputs = {name: self._tensor(f"{where}.{name}", name, given[name], self._inputs, sizes) for name in names}
        outputs = {
            name: self._tensor(f"{where} in validation_data, {name}", name, value, self._outputs, {})
            for name, value in expected.items()
        }
        model = given.get("model", self._model) if "model" not in self._inputs else self._model
        if model not in (self._model, [self._model]):
            raise DataError(f"{where} is for the model {model!r:.80}; the model is '{self._model}'")
        return _Step(where, inputs, outputs, self._parameters(where, given))

    def _drawn(self, names: list[str]) -> dict[str, list[int]]:
        known = [name for name in names if name in self._shapes.names and name in self._inputs]
        if not self._shapes:
            return {}
        return self._shapes.draw(self._rng, self._inputs, self._batch_axes, known)

    def _tensor(
        self, where: str, name: str, given: Any, specs: Mapping[str, TensorSpec], sizes: Mapping[str, list[int]]
    ) -> Array:
        if name not in specs:
            raise DataError(f"{where}: the model has no tensor '{name}'; {nearest(name, specs)}")
        return tensor(where, given, specs[name], self._batch_axes, sizes.get(name))

    def _parameters(self, where: str, given: Mapping[str, Any]) -> dict[str, Parameter]:
        found = {} if "parameters" in self._inputs else given.get("parameters", {})
        if not isinstance(found, dict) or not all(
            isinstance(value, bool | int | float | str) for value in found.values()
        ):
            raise DataError(f"{where}: parameters need an object of texts, numbers and booleans; got {found!r:.80}")
        return found

    def request(self, steps: Sequence[_Step]) -> Request:
        """Steps as the rows of one request."""
        first = steps[0]
        for step in steps[1:]:
            if (set(step.inputs), set(step.expected)) != (set(first.inputs), set(first.expected)):
                raise DataError(f"{first.where} and {step.where} cannot be in one batch: they have other tensors")
            if step.parameters != first.parameters:
                raise DataError(f"{first.where} and {step.where} cannot be in one batch: they have other parameters")
        inputs = {name: self._stacked(steps, [step.inputs[name] for step in steps], name) for name in first.inputs}
        expected = {
            name: self._stacked(steps, [step.expected[name] for step in steps], name) for name in first.expected
        }
        return Request(self._model, "", inputs, None, first.parameters, expected or None)

    def _stacked(self, steps: Sequence[_Step], rows: list[Array], name: str) -> Array:
        if not self._batch_axes:
            return rows[0]
        for step, row in zip(steps, rows, strict=True):
            if row.shape != rows[0].shape:
                raise DataError(
                    f"{steps[0].where} and {step.where} cannot be in one batch: '{name}' has the shapes "
                    f"{list(rows[0].shape)} and {list(row.shape)}; use batch size 1, or order the steps by shape"
                )
        return np.stack(rows)
