# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a function returned, held to the outputs of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class BadResult(Exception):  # noqa: N818 - Triton shows the class's name before the sentence
    """The function returned what the model's outputs cannot be."""


class Output(NamedTuple):
    """An output of the model.

    Attributes:
        name: as the configuration has it.
        kind: its numpy type; object for TYPE_STRING.
        dims: of the whole array, with the batch first when the model batches; -1 fits any.
    """

    name: str
    kind: np.dtype[Any]
    dims: tuple[int, ...]


def named_results(returned: Any, outputs: Sequence[Output]) -> dict[str, np.ndarray]:
    """The array of each output.

    Args:
        returned: one array for the only output, a dictionary by name, or a tuple in the order of the outputs.
        outputs: of the model.

    Raises:
        BadResult: something is missing or too much, or an array has another type or shape.
    """
    return {
        output.name: _fitted(value, output) for value, output in zip(_values(returned, outputs), outputs, strict=True)
    }


def _values(returned: Any, outputs: Sequence[Output]) -> Sequence[Any]:
    names = [output.name for output in outputs]
    if isinstance(returned, Mapping):
        if returned.keys() != set(names):
            given = ", ".join(map(str, returned)) or "nothing"
            raise BadResult(f"it returned a dictionary with {given}, expected {', '.join(names)}")
        return [returned[name] for name in names]
    if isinstance(returned, tuple):
        if len(returned) != len(names):
            raise BadResult(f"it returned {len(returned)} values, expected {len(names)}: {', '.join(names)}")
        return returned
    if returned is None:
        raise BadResult(f"it returned None, expected {', '.join(names)}")
    if len(names) > 1:
        kind = type(returned).__name__
        raise BadResult(f"it returned one {kind}, expected a dictionary or a tuple of {', '.join(names)}")
    return [returned]


def _fitted(value: Any, output: Output) -> np.ndarray:
    array = _strings(value, output) if output.kind.kind == "O" else _numbers(value, output)
    same = array.ndim == len(output.dims)
    if not same or any(dim not in (-1, size) for dim, size in zip(output.dims, array.shape, strict=True)):
        raise BadResult(f"output '{output.name}' has shape {list(array.shape)}, expected {list(output.dims)}")
    return array


def _numbers(value: Any, output: Output) -> np.ndarray:
    array = _array(value, output, None)
    if array.dtype == output.kind:
        return array
    python_numbers = isinstance(value, list | bool | int | float) and array.dtype.kind in "biuf"
    if np.can_cast(array.dtype, output.kind, "safe") or (python_numbers and _holds(output.kind, array)):
        return array.astype(output.kind)
    what = f"of {type(array.flat[0]).__name__}" if array.dtype == object and array.size else str(array.dtype)
    raise BadResult(
        f"output '{output.name}' is {what}, expected {output.kind}; convert it in the function or change config.pbtxt"
    )


def _holds(kind: np.dtype[Any], array: np.ndarray) -> bool:
    """Whether the numbers of a list, which have no type of their own, are such numbers."""
    if kind.kind == "f":
        return True
    if kind.kind not in "iu" or array.dtype.kind == "f":
        return array.size == 0
    bounds = np.iinfo(kind)
    return array.size == 0 or (int(array.min()) >= bounds.min and int(array.max()) <= bounds.max)


def _strings(value: Any, output: Output) -> np.ndarray:
    # a list would become an array of fixed width, which drops zero bytes at the end
    given = _array(value, output, None if isinstance(value, np.ndarray) else np.object_)
    array = np.empty(given.shape, np.object_)
    for place, text in enumerate(given.flat):
        if isinstance(text, bytes):
            array.flat[place] = text
        elif isinstance(text, str):
            array.flat[place] = _encoded(text, output)
        else:
            raise BadResult(f"output '{output.name}' has a {type(text).__name__}, expected str or bytes")
    return array


def _encoded(text: str, output: Output) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise BadResult(f"output '{output.name}' has text that UTF-8 cannot hold: {error.reason}") from None


def _array(value: Any, output: Output, kind: Any) -> np.ndarray:
    try:
        return np.asarray(value, kind)
    except (ValueError, TypeError, OverflowError) as error:  # lists of different lengths
        raise BadResult(f"output '{output.name}' cannot be an array: {error}") from None
