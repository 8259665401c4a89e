# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How far one tensor is from another: the numbers every parity check of trtkit stands on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """How far `actual` is from `reference`, element by element.

    Attributes:
        elements: how many were compared.
        outside: how many are outside the tolerance ``|a - r| <= atol + rtol * |r|``; elements that are not
            numbers, or integers, booleans and strings, have to be equal. A NaN equals a NaN.
        max_abs: the largest ``|a - r|`` over elements that are finite on both sides.
        mean_abs: their mean.
        max_rel: the largest ``|a - r| / |r|`` over those with ``r != 0``.
        mean_rel: their mean.
        nonfinite: elements that are NaN or infinite on one side only, or infinite with another sign.
        cosine: the cosine between the two as vectors (finite elements); 1.0 for two zero vectors.
        worst: the index of the worst element, None when there is none that differs.
        worst_reference: its value in `reference`, as text.
        worst_actual: its value in `actual`, as text.
        problem: a difference of shape or type in words, instead of numbers.
    """

    elements: int
    outside: int = 0
    max_abs: float = 0.0
    mean_abs: float = 0.0
    max_rel: float = 0.0
    mean_rel: float = 0.0
    nonfinite: int = 0
    cosine: float = 1.0
    worst: tuple[int, ...] | None = None
    worst_reference: str = ""
    worst_actual: str = ""
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether every element is inside the tolerance."""
        return not self.outside and not self.problem

    def to_json(self) -> dict[str, Any]:
        """The form kept in records and reports."""
        return {**asdict(self), "passed": self.passed}


def difference(reference: Array, actual: Array, rtol: float, atol: float) -> Difference:
    """Compare two arrays of any data type.

    Args:
        reference: what it should be.
        actual: what it is; another shape, or text against numbers, is a `problem`.
        rtol: relative tolerance, for floating-point elements.
        atol: absolute tolerance, in the tensor's own unit.
    """
    if reference.shape != actual.shape:
        return Difference(0, problem=f"shape {list(actual.shape)} instead of {list(reference.shape)}")
    if reference.dtype.kind in "OSU" or actual.dtype.kind in "OSU":
        return _exact(_as_bytes(reference), _as_bytes(actual))
    if reference.dtype.kind in "biu" and actual.dtype.kind in "biu":
        return _integers(reference, actual)
    return _floats(reference.astype(np.float64), actual.astype(np.float64), rtol, atol)


def _as_bytes(array: Array) -> Array:
    items = [item.encode() if isinstance(item, str) else item for item in array.ravel().tolist()]
    flat = np.empty(len(items), dtype=object)
    flat[:] = items
    return flat.reshape(array.shape)


def _exact(reference: Array, actual: Array) -> Difference:
    wrong = np.asarray(reference != actual, dtype=bool)
    return _with_worst(Difference(reference.size, outside=int(wrong.sum())), wrong, reference, actual)


def _integers(reference: Array, actual: Array) -> Difference:
    wrong = reference != actual
    distance = np.abs(reference.astype(np.float64) - actual.astype(np.float64))
    size = max(reference.size, 1)
    result = Difference(
        reference.size,
        outside=int(wrong.sum()),
        max_abs=float(distance.max(initial=0.0)),
        mean_abs=float(distance.sum() / size),
    )
    return _with_worst(result, np.where(wrong, np.maximum(distance, 1e-9), 0.0), reference, actual)


def _floats(reference: Array, actual: Array, rtol: float, atol: float) -> Difference:
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        same = (reference == actual) | (np.isnan(reference) & np.isnan(actual))
        finite = np.isfinite(reference) & np.isfinite(actual)
        distance = np.where(finite, np.abs(actual - reference), 0.0)
        allowed = atol + rtol * np.abs(np.where(finite, reference, 0.0))
        outside = ~same & (~finite | (distance > allowed))
        relative = distance[finite & (reference != 0)] / np.abs(reference[finite & (reference != 0)])
        excess = np.where(~same & ~finite, np.inf, distance / np.maximum(allowed, np.finfo(np.float64).tiny))
    result = Difference(
        reference.size,
        outside=int(outside.sum()),
        max_abs=float(distance.max(initial=0.0)),
        mean_abs=float(distance[finite].mean()) if finite.any() else 0.0,
        max_rel=float(relative.max(initial=0.0)),
        mean_rel=float(relative.mean()) if relative.size else 0.0,
        nonfinite=int((~same & ~finite).sum()),
        cosine=_cosine(reference[finite], actual[finite]),
    )
    return _with_worst(result, np.where(same, 0.0, excess), reference, actual)


def _cosine(left: Array, right: Array) -> float:
    scale = max(float(np.abs(left).max(initial=0.0)), float(np.abs(right).max(initial=0.0)))
    if scale == 0.0:
        return 1.0
    left, right = left / scale, right / scale
    norms = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(np.clip(np.dot(left.ravel(), right.ravel()) / norms, -1.0, 1.0)) if norms else 0.0


def _with_worst(result: Difference, badness: Array, reference: Array, actual: Array) -> Difference:
    if badness.size == 0 or not badness.any():
        return result
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(badness)), badness.shape))
    values = {field: getattr(result, field) for field in Difference.__slots__}
    values.update(worst=index, worst_reference=_shown(reference[index]), worst_actual=_shown(actual[index]))
    return Difference(**values)


def _shown(value: Any) -> str:
    return f"{value:.8g}" if isinstance(value, float | np.floating) else repr(value)[:80]
