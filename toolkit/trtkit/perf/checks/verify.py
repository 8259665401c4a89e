# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Every answer compared with the reference answer for its own input, while under load.

An answer whose bytes were right once is right again without being read, so that the check costs little more than
comparing bytes. A wrong one is read and compared element by element, and then with the references of the *other*
requests: rows swapped between requests are named as what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trtkit.errors import TrtkitError, nearest
from trtkit.numerics import Array, Difference
from trtkit.perf.checks.closeness import Closeness

Answer = Mapping[str, Array]
Decode = Callable[[int, bytes], Answer]
"""``decode(slot, answer)``: the outputs of an answer; in shared memory those of the slot."""

_KEPT = 10  # all are counted
_KNOWN_BYTES = 128 * 2**20
_KNOWN_EACH = 8


@dataclass(frozen=True)
class Mismatch:
    """An answer that is not the one for its input.

    Attributes:
        index: the request's number in the pool.
        sentence: what is wrong, for people.
        output: the output's name; empty when the whole answer is wrong.
        element: the worst element, with the batch axis; None when there is none.
        expected: its value in the reference, as text.
        actual: its value in the answer, as text.
        belongs_to: the request whose reference the answer, or a row of it, equals; None when no other's.
    """

    index: int
    sentence: str
    output: str = ""
    element: tuple[int, ...] | None = None
    expected: str = ""
    actual: str = ""
    belongs_to: int | None = None


@dataclass(frozen=True)
class Verification:
    """What was compared.

    Attributes:
        checked: answers that were compared.
        mismatches: how many of them were wrong.
        unchecked: answers that could not be compared, because they were not kept, or have no reference.
        first: the first ten of the mismatches.
        reference: what the answers were compared with, for people.
        alike: requests whose reference equals that of the request after them within tolerance (the last one is
            followed by the first): had the server swapped the two, nobody could see it.
    """

    checked: int
    mismatches: int
    unchecked: int
    first: tuple[Mismatch, ...] = ()
    reference: str = ""
    alike: int = 0

    @property
    def ok(self) -> bool:
        """Whether at least one answer was compared and none was wrong."""
        return self.checked > 0 and self.mismatches == 0

    def sentence(self) -> str:
        """The result in one sentence."""
        missed = f"; {self.unchecked:,} could not be compared" if self.unchecked else ""
        if not self.checked:
            return f"no answer was compared with its reference, so nothing is verified{missed}"
        if self.mismatches:
            why = f": {self.first[0].sentence}" if self.first else ""
            return f"{self.mismatches:,} of {self.checked:,} compared answers are wrong{missed}{why}"
        blind = f"; for {self.alike:,} of the requests the next one has the same reference, so a swap would not show"
        return (
            f"all {self.checked:,} compared answers equal their references within tolerance"
            f"{missed}{blind if self.alike else ''}"
        )

    def to_json(self) -> dict[str, Any]:
        """The form kept in reports, with `ok`."""
        return {**asdict(self), "ok": self.ok}


def merged(parts: Sequence[Verification]) -> Verification:
    """The results of several processes as one.

    Args:
        parts: at least one.
    """
    return Verification(
        sum(part.checked for part in parts),
        sum(part.mismatches for part in parts),
        sum(part.unchecked for part in parts),
        tuple(mismatch for part in parts for mismatch in part.first)[:_KEPT],
        parts[0].reference,
        parts[0].alike,
    )


class Verifier:
    """Compares answers with references and counts.

    Args:
        expected: the reference answer of each request of the pool; None where there is none. Outputs that a
            reference does not have are not compared.
        decode: the arrays of an answer.
        closeness: how near an answer has to be.
        in_answer: whether the outputs are in the answer's bytes, so that equal bytes are equal answers; False when
            they are in shared memory.
        batched: whether axis 0 of the outputs counts the rows of a batch, so that single rows may be swapped.
        reference: what `expected` is, for people.
    """

    def __init__(
        self,
        expected: Sequence[Answer | None],
        decode: Decode,
        closeness: Closeness | None = None,
        *,
        in_answer: bool = True,
        batched: bool = True,
        reference: str = "",
    ) -> None:
        self._expected = expected
        self._decode = decode
        self._closeness = closeness or Closeness()
        self.in_answer = in_answer
        self._batched = batched
        self._reference = reference
        self._known: list[list[bytes]] = [[] for _ in expected]
        self._known_bytes = 0
        self._checked = self._mismatches = self._unchecked = 0
        self._first: list[Mismatch] = []
        self._alike = self._count_alike()

    def check(self, slot: int, index: int, answer: bytes | None) -> Mismatch | None:
        """Compare one answer.

        Args:
            slot: in which it came.
            index: the request's number in the pool.
            answer: its bytes; None when they were not kept, which counts as unchecked.

        Returns:
            None when it is right, or cannot be compared.
        """
        expected = self._expected[index]
        if answer is None or not expected:
            self._unchecked += 1
            return None
        self._checked += 1
        if answer in self._known[index]:
            return None
        mismatch = self._compare(slot, index, expected, answer)
        if mismatch is None:
            if self.in_answer:
                self._keep(index, answer)
            return None
        self._mismatches += 1
        if len(self._first) < _KEPT:
            self._first.append(mismatch)
        return mismatch

    def unchecked(self, count: int = 1) -> None:
        """Count answers that nobody could keep."""
        self._unchecked += count

    def result(self) -> Verification:
        """What was compared until now."""
        counts = self._checked, self._mismatches, self._unchecked
        return Verification(*counts, tuple(self._first), self._reference, self._alike)

    def merge(self, other: Verifier) -> None:
        """Add what another process compared with the same references."""
        self._checked += other._checked
        self._mismatches += other._mismatches
        self._unchecked += other._unchecked
        self._first = [*self._first, *other._first][:_KEPT]

    def __getstate__(self) -> dict[str, Any]:
        """Without the answers' bytes, which another process can find again."""
        return {**vars(self), "_known": [[] for _ in self._expected], "_known_bytes": 0}

    def _count_alike(self) -> int:
        """How many references equal the next one's."""
        total = len(self._expected)
        pairs = ((self._expected[index], (index + 1) % total) for index in range(total))
        return sum(1 for answer, after in pairs if answer and self._equals(after, answer))

    def _keep(self, index: int, answer: bytes) -> None:
        """Remember an answer as right; a server may give a few, as batches of other sizes add in another order."""
        if len(self._known[index]) < _KNOWN_EACH and self._known_bytes + len(answer) <= _KNOWN_BYTES:
            self._known[index].append(bytes(answer))
            self._known_bytes += len(answer)

    def _compare(self, slot: int, index: int, expected: Answer, answer: bytes) -> Mismatch | None:
        try:
            actual = self._decode(slot, answer)
        except (TrtkitError, ValueError, KeyError, IndexError) as exc:
            return Mismatch(index, f"request {index}: its answer cannot be read: {' '.join(str(exc).split())[:200]}")
        for name, reference in expected.items():
            if name not in actual:
                sentence = f"request {index}: its answer has no output '{name}'; {nearest(name, actual)}"
                return Mismatch(index, sentence, name)
            if reference.dtype == actual[name].dtype and np.array_equal(reference, actual[name]):
                continue
            found = self._closeness.compare(name, reference, actual[name])
            if not found.passed:
                return self._mismatch(index, name, actual, found)
        return None

    def _mismatch(self, index: int, name: str, actual: Answer, found: Difference) -> Mismatch:
        where = f"request {index}, output '{name}'"
        sentence, owner = f"{where}: {found.problem}", None
        if not found.problem:
            sentence = (
                f"{where}: {found.outside} of {found.elements} elements are wrong; the worst is element "
                f"{list(found.worst or ())}: answered {found.worst_actual}, reference {found.worst_reference}"
            )
        if len(self._first) < _KEPT:  # the search is not cheap
            swapped = self._swapped(index, name, actual)
            owner = swapped[0] if swapped else None
            sentence = f"{where}: {swapped[1]}" if swapped else sentence
        return Mismatch(index, sentence, name, found.worst, found.worst_reference, found.worst_actual, owner)

    def _swapped(self, index: int, name: str, actual: Answer) -> tuple[int, str] | None:
        """Whose reference the answer, or its first wrong row, equals; None when nobody's."""
        if owners := [other for other in self._others(index) if self._equals(other, actual)]:
            return owners[0], f"the answer is the reference of request {_listed(owners)}, as if the two were swapped"
        mine = (self._expected[index] or {})[name]
        given = actual[name]
        if not self._batched or not given.ndim or given.shape != mine.shape:
            return None
        for row in range(len(given)):
            if not self._same(name, mine[row : row + 1], given[row : row + 1]):
                return self._row_of(index, name, row, given[row : row + 1])
        return None

    def _row_of(self, index: int, name: str, row: int, values: Array) -> tuple[int, str] | None:
        found: list[tuple[int, int]] = []
        for other in range(len(self._expected)):
            reference = (self._expected[other] or {}).get(name)
            if reference is None or not reference.ndim or reference.shape[1:] != values.shape[1:]:
                continue
            rows = range(len(reference))
            found += [(other, place) for place in rows if self._same(name, reference[place : place + 1], values)]
        found.sort(key=lambda pair: pair[0] == index)  # another request's first
        if not found:
            return None
        owner, place = found[0]
        whose = _listed([other for other, _ in found])
        return owner, f"row {row} is row {place} of the reference of request {whose}, as if rows were swapped"

    def _others(self, index: int) -> Iterable[int]:
        return (other for other in range(len(self._expected)) if other != index and self._expected[other])

    def _equals(self, other: int, actual: Answer) -> bool:
        reference = self._expected[other]
        if not reference:
            return False
        return all(name in actual and self._same(name, array, actual[name]) for name, array in reference.items())

    def _same(self, name: str, reference: Array, actual: Array) -> bool:
        if np.shape(reference) != np.shape(actual):
            return False
        return self._closeness.compare(name, np.asarray(reference), np.asarray(actual)).passed


def _listed(owners: Sequence[int]) -> str:
    others = len(set(owners)) - 1
    return f"{owners[0]}" + (f" (and of {others} more)" if others else "")
