# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How far one tensor is from another: the numbers every parity check of trtkit stands on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
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
        allowed: how many elements may be outside.
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
    allowed: int = 0

    @property
    def passed(self) -> bool:
        """Whether no more elements than allowed are outside the tolerance."""
        return self.outside <= self.allowed and not self.problem

    def to_json(self) -> dict[str, Any]:
        """The form kept in records and reports."""
        return {**asdict(self), "passed": self.passed}


def difference(reference: Array, actual: Array, rtol: float, atol: float, share: float = 0.0) -> Difference:
    """Compare two arrays of any data type.

    Args:
        reference: what it should be.
        actual: what it is; another shape, or text against numbers, is a `problem`.
        rtol: relative tolerance, for floating-point elements.
        atol: absolute tolerance, in the tensor's own unit.
        share: of the elements that may be outside.
    """
    result = _difference(reference, actual, rtol, atol)
    return replace(result, allowed=int(share * result.elements)) if share else result


def _difference(reference: Array, actual: Array, rtol: float, atol: float) -> Difference:
    if reference.shape != actual.shape:
        return Difference(0, problem=f"shape {list(actual.shape)} instead of {list(reference.shape)}")
    texts = [array.dtype.kind in "OSU" for array in (reference, actual)]
    if all(texts):
        return _exact(_as_bytes(reference), _as_bytes(actual))
    if any(texts):
        return Difference(0, problem="numbers instead of text" if texts[0] else "text instead of numbers")
    if reference.dtype.kind in "biu" and actual.dtype.kind in "biu":
        return _integers(reference, actual)
    return _floats(reference.astype(np.float64), actual.astype(np.float64), rtol, atol)


def _as_bytes(array: Array) -> Array:
    items = [
        item.encode("utf-8", "surrogateescape") if isinstance(item, str) else item for item in array.ravel().tolist()
    ]
    flat = np.empty(len(items), dtype=object)
    flat[:] = items
    return flat.reshape(array.shape)


def _exact(reference: Array, actual: Array) -> Difference:
    wrong = np.asarray(reference != actual, dtype=bool)
    return _with_worst(Difference(reference.size, outside=int(wrong.sum())), reference, actual, wrong)


def _integers(reference: Array, actual: Array) -> Difference:
    wrong = reference != actual
    left, right = reference.astype(np.float64), actual.astype(np.float64)
    # beyond 2**53 two different integers may be one float64; they differ by at least 1
    distance = np.where(wrong, np.maximum(np.abs(left - right), 1.0), 0.0)
    result = _statistics(left, right, distance, np.ones_like(wrong), int(wrong.sum()))
    return _with_worst(result, reference, actual, distance)


def _floats(reference: Array, actual: Array, rtol: float, atol: float) -> Difference:
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        same = (reference == actual) | (np.isnan(reference) & np.isnan(actual))
        finite = np.isfinite(reference) & np.isfinite(actual)
        distance = np.where(finite & ~same, np.abs(actual - reference), 0.0)
        allowed = atol + rtol * np.abs(np.where(finite, reference, 0.0))
        nonfinite = ~same & ~finite
        outside = nonfinite | (distance > allowed)
        ratio = np.where((distance > 0.0) & np.isfinite(allowed), distance / allowed, 0.0)
    result = _statistics(reference, actual, distance, finite, int(outside.sum()), int(nonfinite.sum()))
    return _with_worst(result, reference, actual, nonfinite, outside, ratio, distance)


def _statistics(
    reference: Array, actual: Array, distance: Array, finite: Array, outside: int, nonfinite: int = 0
) -> Difference:
    nonzero = finite & (reference != 0)
    with np.errstate(over="ignore"):  # a mean of huge values may be infinite
        relative = distance[nonzero] / np.abs(reference[nonzero])
        return Difference(
            reference.size,
            outside=outside,
            max_abs=float(distance.max(initial=0.0)),
            mean_abs=float(distance[finite].mean()) if finite.any() else 0.0,
            max_rel=float(relative.max(initial=0.0)),
            mean_rel=float(relative.mean()) if relative.size else 0.0,
            nonfinite=nonfinite,
            cosine=_cosine(reference[finite], actual[finite]),
        )


def _cosine(left: Array, right: Array) -> float:
    scales = [float(np.abs(vector).max(initial=0.0)) for vector in (left, right)]
    if not all(scales):
        return 0.0 if any(scales) else 1.0
    left, right = left / scales[0], right / scales[1]  # huge and tiny elements would overflow when squared
    return float(np.clip(np.dot(left, right) / (np.linalg.norm(left) * np.linalg.norm(right)), -1.0, 1.0))


def _with_worst(result: Difference, reference: Array, actual: Array, *badness: Array) -> Difference:
    """The result with its worst element: the largest by the first key, then by the next; the first of equals."""
    if not any(key.any() for key in badness):
        return result
    left = np.ones(reference.shape, dtype=bool)
    for key in map(np.asarray, badness):  # numpy gives scalars for arrays without dimensions
        left &= key == key[left].max()
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(left)), left.shape))
    return replace(result, worst=index, worst_reference=_shown(reference[index]), worst_actual=_shown(actual[index]))


def _shown(value: Any) -> str:
    plain = value.item() if isinstance(value, np.generic) else value
    return f"{plain:.8g}" if isinstance(plain, float) else repr(plain)[:80]
