# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The smallest set of nodes that has to stay FP32, by trying."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

DEFAULT_TRIALS = 64


@dataclass(frozen=True)
class Search:
    """What a search for nodes to keep came to.

    Attributes:
        nodes: those to keep beside the ones kept at first, in the order of the candidates; what was tried with them
            passed, unless `passes` is False.
        trials: how often something was tried.
        passes: whether any set passed; False means that not even keeping all candidates helps.
        minimal: whether each node was shown to be needed; False when the trials ran out before.
    """

    nodes: list[str]
    trials: int
    passes: bool
    minimal: bool


class _OutOfTrials(Exception):  # noqa: N818 - the end of a search, no error
    pass


def nodes_to_keep(
    candidates: Sequence[str],
    fails: Callable[[frozenset[str]], bool],
    *,
    at_first: frozenset[str] = frozenset(),
    trials: int = DEFAULT_TRIALS,
) -> Search:
    """A minimal set of candidates that, kept in FP32 beside those kept at first, makes the rest pass.

    The divide-and-conquer search of QuickXplain (Junker, AAAI 2004): with k nodes found among n candidates about
    2k log2(n/k) + 2k trials. It takes for granted that keeping more nodes never makes it worse; where that is not
    so the set found passes all the same, but may not be the smallest.

    Args:
        candidates: in the graph's order, so that halves of them are parts of the graph.
        fails: whether the conversion misses the tolerance when exactly these nodes are kept.
        at_first: nodes kept in every trial.
        trials: the most calls of `fails`; when they run out, the smallest set that passed is the answer.
    """
    search = _Searching(fails, at_first, trials)
    order = {name: index for index, name in enumerate(candidates)}
    try:
        if not search.fails(frozenset()):
            return Search([], search.trials, passes=True, minimal=True)
        everything = [name for name in candidates if name not in at_first]
        if not everything or search.fails(frozenset(everything)):
            return Search([], search.trials, passes=False, minimal=False)
        found = search.needed(frozenset(), grown=False, candidates=everything)
    except _OutOfTrials:
        nodes = sorted(search.best or (), key=order.__getitem__)
        return Search(nodes, search.trials, passes=search.best is not None, minimal=False)
    return Search(sorted(found, key=order.__getitem__), search.trials, passes=True, minimal=True)


class _Searching:
    def __init__(self, fails: Callable[[frozenset[str]], bool], at_first: frozenset[str], budget: int) -> None:
        self._fails, self._at_first, self._budget = fails, at_first, budget
        self._known: dict[frozenset[str], bool] = {}
        self.best: frozenset[str] | None = None

    @property
    def trials(self) -> int:
        return len(self._known)

    def fails(self, kept: frozenset[str]) -> bool:
        if kept not in self._known:
            if self.trials >= self._budget:
                raise _OutOfTrials
            self._known[kept] = self._fails(kept | self._at_first)
            if not self._known[kept] and (self.best is None or len(kept) < len(self.best)):
                self.best = kept
        return self._known[kept]

    def needed(self, kept: frozenset[str], *, grown: bool, candidates: list[str]) -> list[str]:
        """Those of the candidates that are needed beside the kept ones; kept and candidates together pass.

        Args:
            kept: nodes taken as kept.
            grown: whether nodes were added to `kept` since it was last seen to fail.
            candidates: at least one.
        """
        if grown and not self.fails(kept):
            return []
        if len(candidates) == 1:
            return candidates
        middle = len(candidates) // 2
        first, second = candidates[:middle], candidates[middle:]
        of_second = self.needed(kept | frozenset(first), grown=True, candidates=second)
        of_first = self.needed(kept | frozenset(of_second), grown=bool(of_second), candidates=first)
        return of_first + of_second
