# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A histogram of magnitudes that is filled batch by batch, and the clipping thresholds that follow from it."""

from __future__ import annotations

import numpy as np

from trtkit.numerics import Array

BINS = 2048
# magnitudes that a symmetric 8-bit type tells apart
LEVELS = 128
# the count that stands for none where a logarithm is taken
_TRACE = 1e-4
# values that are looked at in one go: the temporary arrays stay near 30 MB
_BLOCK = 1 << 20


class Histogram:
    """Counts of ``|x|`` in equal bins between 0 and a largest magnitude that is known beforehand.

    Exact zeros are counted apart. Every scale represents them exactly, so they must not draw the entropy's
    threshold towards 0, as they would after a Relu.

    Args:
        largest: the largest magnitude; above 0 and finite.
        bins: how many bins.

    Attributes:
        counts: of each bin, without the zeros.
        zeros: how many values were exactly 0.
    """

    def __init__(self, largest: float, bins: int = BINS) -> None:
        self.largest = largest
        self.counts = np.zeros(bins, dtype=np.int64)
        self.zeros = 0

    def add(self, values: Array) -> None:
        """Count an array's values; those above the largest magnitude fall into the last bin."""
        flat, last = values.ravel(), len(self.counts) - 1
        for start in range(0, flat.size, _BLOCK):
            magnitudes = np.abs(flat[start : start + _BLOCK].astype(np.float64))
            seen = magnitudes[magnitudes > 0]
            self.zeros += magnitudes.size - seen.size
            places = np.minimum(seen / self.largest * len(self.counts), last).astype(np.int64)
            self.counts += np.bincount(places, minlength=len(self.counts))

    @property
    def total(self) -> int:
        """How many values were counted, zeros included."""
        return int(self.counts.sum()) + self.zeros

    def clipped(self, threshold: float) -> float:
        """The share of all values in bins that begin at or above a threshold."""
        if not self.total:
            return 0.0
        first = int(np.ceil(threshold / self.largest * len(self.counts) - 1e-9))
        return float(self.counts[first:].sum() / self.total)

    def percentile(self, percent: float) -> float:
        """The upper edge of the bin below which at least `percent` percent of all values lie."""
        if percent >= 100 or not self.total:
            return self.largest
        reached = np.cumsum(self.counts) + self.zeros >= percent / 100 * self.total
        return float(self.largest * (int(np.argmax(reached)) + 1) / len(self.counts))

    def entropy(self, levels: int = LEVELS) -> float:
        """The threshold whose quantized distribution is nearest to the real one, by Kullback-Leibler divergence.

        The method is that of S. Migacz, "8-bit Inference with TensorRT", GTC 2017: for every number i of bins
        from `levels` on, P is the first i bins with all above added to the last of them, and Q is the first i
        bins merged into `levels` levels, each spread evenly over the bins that P fills. The threshold lies in
        the middle of the bin after the best i. Where P holds only what was clipped, Q has none of it; it is
        given a trace, because a divergence without bound would forbid every threshold between an outlier and
        the rest.
        """
        divergences = self.divergences(levels)
        best = min(levels, len(self.counts)) + int(np.argmin(divergences))
        return float(min(self.largest, (best + 0.5) * self.largest / len(self.counts)))

    def divergences(self, levels: int) -> Array:
        """KL(P, Q) for each number of bins from `levels` to all; infinite where nothing would be left.

        Q is constant within a level, so that sums over bins become differences of running sums, and all
        candidates are computed at once.
        """
        counts = self.counts.astype(np.float64)
        sizes = np.arange(min(levels, len(counts)), len(counts) + 1)
        edges = -(-np.arange(levels + 1) * sizes[:, np.newaxis] // levels)
        mass = np.diff(_running(counts)[edges], axis=1)
        filled = np.diff(_running(counts > 0)[edges], axis=1)
        last, total = counts[sizes - 1], counts.sum()
        inside = _running(counts)[sizes]
        beyond = total - inside
        filled[:, -1] += (beyond > 0) & (last == 0)
        level = np.where(mass > 0, mass / np.maximum(filled, 1), _TRACE)
        p_log_p = _running(_entropy_terms(counts))[sizes] - _entropy_terms(last) + _entropy_terms(last + beyond)
        p_log_q = (mass * np.log(level)).sum(axis=1) + beyond * np.log(level[:, -1])
        normalization = np.log(np.maximum(inside, _TRACE) / total)
        return np.where(inside > 0, (p_log_p - p_log_q) / total + normalization, np.inf)


def _running(values: Array) -> Array:
    """Sums of the first 0, 1, 2, … values."""
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])


def _entropy_terms(values: Array) -> Array:
    """``v log v``, and 0 for 0."""
    return values * np.log(np.where(values > 0, values, 1.0))
