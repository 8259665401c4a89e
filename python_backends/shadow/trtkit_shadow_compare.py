# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Where two arrays of an output differ."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Difference(NamedTuple):
    """Between the primary's and the candidate's array.

    Attributes:
        what: one sentence for the log: how many elements, and the first of them with both values.
        largest: of the absolute differences of two finite numbers; 0 when there is none.
    """

    what: str
    largest: float


def difference(primary: np.ndarray, candidate: np.ndarray, rtol: float, atol: float) -> Difference:
    """Compare two arrays; ``what`` is empty when they agree.

    Floats agree within ``atol + rtol * |primary|``, NaN with NaN and an infinity with itself; all else exactly.
    """
    if (primary.dtype, primary.shape) != (candidate.dtype, candidate.shape):
        return Difference(
            f"{candidate.dtype} {list(candidate.shape)} instead of {primary.dtype} {list(primary.shape)}", 0.0
        )
    largest = 0.0
    if primary.dtype.kind == "f":
        with np.errstate(all="ignore"):
            distance = np.abs(primary.astype(np.float64) - candidate.astype(np.float64))
            same = (distance <= atol + rtol * np.abs(primary)) & np.isfinite(distance)
        same |= (primary == candidate) | (np.isnan(primary) & np.isnan(candidate))
        largest = float(distance.max(initial=0.0, where=np.isfinite(distance)))
    else:
        same = np.asarray(primary == candidate)
    if same.all():
        return Difference("", largest)
    index = tuple(int(each) for each in np.argwhere(~same)[0])
    return Difference(
        f"{np.count_nonzero(~same)} of {same.size} elements, first at {list(index)}: "
        f"{primary[index]!r} from the primary, {candidate[index]!r} from the candidate",
        largest,
    )
