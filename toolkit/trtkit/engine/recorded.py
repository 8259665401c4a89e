# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Recorded request shapes: one JSON object per line, read with every line checked against the model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trtkit.engine.boxes import Axes, Shape, find_axes
from trtkit.errors import DataError, nearest
from trtkit.signature import TensorSpec

Recorded = tuple[Mapping[str, Shape], int]  # the full shape of each input, and how many requests had these
_LARGEST = (1 << 31) - 1


def read_shapes(file: Path, inputs: Sequence[TensorSpec]) -> list[Recorded]:
    """Read the shapes of recorded requests.

    A line is ``{"input_ids": [1, 37], "attention_mask": [1, 37]}``, full shapes, batch first, with an optional
    ``"count"`` of equal requests; or ``{"inputs": {…}, "count": 2}``, which a model needs whose input is called
    ``count``. An input without dynamic axes may be left out. Empty lines are skipped.

    Args:
        file: the recording.
        inputs: the model's, with the names of dynamic axes; axes of one name have to be of one size.

    Returns:
        The different requests in the order of their first line, with how many there were of each.

    Raises:
        DataError: the file is not readable or empty, or a line does not fit the model; the message has its number.
    """
    axes = axes_of(inputs)
    counts: dict[tuple[Shape | None, ...], int] = {}
    for number, line in _lines(file):
        where = f"{file.name}:{number}"
        shapes, count = _request(line, inputs, where)
        for problem in request_problems(shapes, inputs, axes):
            raise DataError(f"{where}: {problem}")
        key = tuple(tuple(shapes[spec.name]) if spec.name in shapes else None for spec in inputs)
        counts[key] = counts.get(key, 0) + count
    if not counts:
        raise DataError(f"{file.name} holds no shapes; expected one JSON object per line, e.g. {_example(inputs)}")
    return [
        ({spec.name: shape or spec.dims for spec, shape in zip(inputs, key, strict=True)}, count)
        for key, count in counts.items()
    ]


def axes_of(inputs: Sequence[TensorSpec], *, batched: bool = False) -> Axes:
    """The axes that requests to a model can choose."""
    return find_axes(
        {spec.name: spec.dims for spec in inputs}, names={s.name: s.shape for s in inputs}, batched=batched
    )


def request_problems(shapes: Mapping[str, Any], inputs: Sequence[TensorSpec], axes: Axes) -> Iterator[str]:
    """What is wrong with the shapes of one request, in sentences."""
    names = [spec.name for spec in inputs]
    for name in shapes:
        if name not in names:
            yield f"'{name}' is no input; {nearest(name, names)}"
            return
    for spec in inputs:
        if (problem := _shape_problem(spec, shapes.get(spec.name))) is not None:
            yield problem
            return
    for axis in axes.names:
        sizes = {shapes[name][index]: name for name, index in axes.places(axis)}
        if len(sizes) > 1:
            told = " and ".join(f"{size} in '{name}'" for size, name in sizes.items())
            yield f"'{axis}' is one size in every request, but it is {told}"


def _shape_problem(spec: TensorSpec, shape: Any) -> str | None:
    model = f"the model has {spec}"
    if shape is None:
        return f"no shape for input '{spec.name}'; {model}" if -1 in spec.dims else None
    if not isinstance(shape, (list, tuple)) or any(type(size) is not int for size in shape):
        return f"the shape of '{spec.name}' is {_short(shape)}; expected a list of integers, {model}"
    if any(not 1 <= size <= _LARGEST for size in shape):
        return f"the shape of '{spec.name}' is {_short(list(shape))}; every size has to be from 1 to {_LARGEST}"
    if len(shape) != len(spec.dims) or any(dim not in (-1, size) for dim, size in zip(spec.dims, shape, strict=True)):
        return f"the shape of '{spec.name}' is {_short(list(shape))}; {model}"
    return None


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    try:
        with file.open(encoding="utf-8-sig") as stream:
            yield from ((number, line) for number, line in enumerate(stream, 1) if line.strip())
    except OSError as exc:
        raise DataError(f"cannot read the recorded shapes {file}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise DataError(f"{file.name} is no text: {exc.reason} at byte {exc.start}; expected JSON lines") from exc


def _request(line: str, inputs: Sequence[TensorSpec], where: str) -> tuple[dict[str, Any], int]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise DataError(f"{where}: not JSON ({exc}): {_short(line.strip())}") from exc
    if not isinstance(value, dict):
        raise DataError(f"{where}: {_short(value)} is no JSON object; expected e.g. {_example(inputs)}")
    nested = isinstance(value.get("inputs"), dict)
    an_input = not nested and isinstance(value.get("count"), list)  # of that name
    count = 1 if an_input else value.pop("count", 1)
    if type(count) is not int or count < 1:
        raise DataError(f"{where}: count is {_short(count)}; expected how many requests had these shapes, at least 1")
    if nested and len(value) > 1:
        others = ", ".join(sorted(value.keys() - {"inputs"}))
        raise DataError(f"{where}: {_short(others)} beside 'inputs'; only 'count' may be there")
    return (value["inputs"] if nested else value), count


def _example(inputs: Sequence[TensorSpec]) -> str:
    return json.dumps({spec.name: [1 if dim == -1 else dim for dim in spec.dims] for spec in inputs})


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
