# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How sure a difference between two sides is, when each was run a few times and a run's requests depend on each other.

Three things make two runs differ although nothing was changed: the requests within a run are few and correlated
(`within_variance`), every start of a server or client is a little different, and the machine drifts. The last two
cannot be seen within a run. They are estimated from repeated runs, drift by comparing only runs that are neighbours
in time (`Contrasts`), and steadied by an assumed size, because a handful of runs estimates a variance badly; a single
run a side rests on the assumption alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

_PRIOR_DEGREES = 4.0
_MOST_BATCHES, _FEWEST_BATCHES = 32, 4
_CORRELATED = 0.2


@dataclass(frozen=True, slots=True)
class Estimate:
    """A difference, B − A.

    Attributes:
        difference: in the unit of the values.
        error: its standard error, in the same unit.
        degrees: of freedom, for Student's t.
    """

    difference: float
    error: float
    degrees: float


def batch_count(events: float) -> int:
    """How many batches of consecutive requests to form at most; 0 when there are too few for any.

    Args:
        events: how often in the run something happened that the statistic rests on: requests by ten for a mean, those
            beyond the percentile by five for a percentile.
    """
    count = min(_MOST_BATCHES, int(events))
    return count if count >= _FEWEST_BATCHES else 0


def within_variance(batches: Values) -> float:
    """The variance of the mean of batches that follow each other in time, correlation included.

    Batches are joined in pairs, which makes them longer, as long as neighbours are correlated (Law and Carson 1979);
    what correlation is left is counted as of a first-order autoregression, (1 + r) / (1 − r).

    Args:
        batches: the statistic of each batch, at least two.
    """
    while len(batches) >= 4 * _FEWEST_BATCHES and _correlation(batches) > _CORRELATED:
        even = len(batches) // 2 * 2
        batches = batches[:even].reshape(-1, 2).mean(axis=1)
    left = min(max(_correlation(batches) + 1 / len(batches), 0.0), 0.9)  # 1/n: the estimate is low by about that
    return float(batches.var(ddof=1)) / len(batches) * (1 + left) / (1 - left)


def _correlation(values: Values) -> float:
    """Of neighbours; 0 when all are equal."""
    apart = values - values.mean()
    total = float(apart @ apart)
    return float(apart[1:] @ apart[:-1]) / total if total else 0.0


class Contrasts:
    """Which runs are compared with which.

    Sides that alternate in time are compared neighbour by neighbour, so that slow drift of the machine cancels; such
    a design needs at least three changes of side. Otherwise the sides' means are compared, and the assumed deviation
    counts once a side, because nothing tells a change of the machine between them from one of the server.

    Args:
        sides: of each run in the order of time, False for A and True for B; both occur.
        ordered: whether the order is known.
    """

    def __init__(self, sides: Sequence[bool], ordered: bool) -> None:
        side = np.array(sides)
        changes = np.flatnonzero(side[1:] != side[:-1])
        self.interleaved = ordered and len(changes) >= 3
        self._side = side
        self._rows = np.zeros((len(changes), len(side)))
        for row, change in enumerate(changes):
            self._rows[row, change : change + 2] = np.where(side[change : change + 2], 1.0, -1.0)

    @property
    def degrees(self) -> float:
        """Degrees of freedom that the runs give to the variance between them, without what is assumed."""
        if not self.interleaved:
            return len(self._side) - 2
        centred = self._centred()
        return float(np.trace(centred) ** 2 / (centred * centred.T).sum())

    def _centred(self) -> Values:
        covariance: Values = self._rows @ self._rows.T
        return covariance - covariance.mean(axis=0)

    def estimate(self, values: Values, within: float, assumed: float) -> Estimate:
        """The difference of the sides.

        Args:
            values: a value a run, in the order of time.
            within: the mean of the runs' `within_variance`.
            assumed: the standard deviation from run to run that is assumed before any is seen.
        """
        prior = within + assumed**2
        return self._neighbours(values, prior) if self.interleaved else self._means(values, prior, assumed)

    def _neighbours(self, values: Values, prior: float) -> Estimate:
        """From the differences d = C y of neighbours, which have the covariance σ² C Cᵀ when runs are independent.

        Their mean has the variance σ² 1ᵀV1 / m² with V = C Cᵀ; dᵀ Q d, where Q takes the mean away, estimates
        σ² tr(QV), with tr(QV)² / tr((QV)²) degrees of freedom (Satterthwaite 1946). Drift that is a random walk makes
        neighbouring differences less alike than V says, so that the error is overestimated, not underestimated.
        """
        differences: Values = self._rows @ values
        seen = float(((differences - differences.mean()) ** 2).sum() / np.trace(self._centred()))
        variance, degrees = _steadied(seen, self.degrees, prior)
        shared = float((self._rows.sum(axis=0) ** 2).sum())  # the sum of the elements of C Cᵀ
        return Estimate(float(differences.mean()), float(np.sqrt(variance * shared)) / len(differences), degrees)

    def _means(self, values: Values, prior: float, assumed: float) -> Estimate:
        """From the sides' means, with the variance within the sides pooled."""
        first, second = values[~self._side], values[self._side]
        degrees = self.degrees
        seen = float(((first - first.mean()) ** 2).sum() + ((second - second.mean()) ** 2).sum()) / max(degrees, 1)
        variance, degrees_all = _steadied(seen, degrees, prior)
        total = sum(variance / len(side) + assumed**2 * (1 - 1 / len(side)) for side in (first, second))
        return Estimate(float(second.mean() - first.mean()), float(np.sqrt(total)), degrees_all)


def _steadied(seen: float, degrees: float, prior: float) -> tuple[float, float]:
    """A variance moderated by a prior one, and its degrees of freedom (Smyth 2004, with the prior given)."""
    total = _PRIOR_DEGREES + degrees
    return (_PRIOR_DEGREES * prior + degrees * seen) / total, total
