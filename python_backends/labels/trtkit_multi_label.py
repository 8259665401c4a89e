# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Which classes the rows of multi-label scores have."""

from __future__ import annotations

import numpy as np


def chosen(scores: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """The classes whose score reaches the threshold, in the order of the classes.

    Args:
        scores: [rows, classes] of any number type or BOOL, without NaN.
        threshold: the least score of a class that counts.

    Returns:
        INT64 [rows, most], -1 after the last class of a row, where ``most`` is the largest number of classes of a row;
        and the number of classes of each row, INT64 [rows].
    """
    rows, classes = np.nonzero(scores >= threshold)
    counts = np.bincount(rows, minlength=len(scores))
    table = np.full((len(scores), counts.max(initial=0)), -1, np.int64)
    table[np.arange(table.shape[1]) < counts[:, None]] = classes  # row by row, as `nonzero` gives them
    return table, counts
