# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Encodings of texts as padded arrays."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# what `tokenizers` calls them
_ATTRIBUTES = {"input_ids": "ids", "token_type_ids": "type_ids", "offsets": "offsets"}
OUTPUTS = ("input_ids", "attention_mask", "token_type_ids", "offsets")


@dataclass(frozen=True)
class Padding:
    """What rows are filled up to, and with what.

    Attributes:
        to: ``longest_in_request`` (row), ``longest`` (row of all requests) or ``max_length``.
        buckets: the only lengths there are, ascending, the last one ``max_length``; empty for any length.
        multiple_of: every length is, unless there are buckets or it would be above ``max_length``.
        max_length: the most tokens of a row.
        side: ``right`` or ``left``.
        token_id: the id of padding.
        type_id: its token type.
    """

    to: str
    buckets: Sequence[int]
    multiple_of: int
    max_length: int
    side: str
    token_id: int
    type_id: int

    def lengths(self, longest: Sequence[int]) -> list[int]:
        """The length of each request's rows, from the length of each request's longest row."""
        if self.to == "longest":
            longest = [max(longest)] * len(longest)
        return [self._length(tokens) for tokens in longest]

    def _length(self, tokens: int) -> int:
        if self.to == "max_length":
            return self.max_length
        if self.buckets:
            return self.buckets[bisect.bisect_left(self.buckets, tokens)]
        return min(-(-tokens // self.multiple_of) * self.multiple_of, self.max_length)

    def columns(self, width: int, length: int) -> slice:
        """Those of rows padded to ``width`` that rows padded to ``length`` have."""
        return slice(0, length) if self.side == "right" else slice(width - length, width)


def arrays(
    encodings: Sequence[Any], width: int, padding: Padding, types: Mapping[str, Any], wanted: Collection[str]
) -> dict[str, np.ndarray]:
    """Rows of ``width`` tokens, one for each encoding.

    Args:
        encodings: those of `tokenizers`, none longer than ``width``.
        width: in tokens.
        padding: fills the rows.
        types: the numpy type of each output.
        wanted: the outputs to make, of OUTPUTS.

    Returns:
        [rows, width] by output; offsets are [rows, width, 2], in characters.
    """
    counts = np.array([len(encoding) for encoding in encodings], dtype=np.intp)[:, np.newaxis]
    places = np.arange(width)
    taken = places < counts if padding.side == "right" else places >= width - counts
    fills = {"input_ids": padding.token_id, "token_type_ids": padding.type_id, "offsets": 0}
    made = {}
    for name in wanted:
        if name == "attention_mask":
            made[name] = taken.astype(types[name])
            continue
        values = itertools.chain.from_iterable(getattr(encoding, _ATTRIBUTES[name]) for encoding in encodings)
        shape = (len(encodings), width, 2) if name == "offsets" else (len(encodings), width)
        made[name] = np.full(shape, fills[name], dtype=types[name])
        made[name][taken] = _flat(values, int(counts.sum()), made[name])
    return made


def _flat(values: Any, count: int, like: np.ndarray) -> np.ndarray:
    if like.ndim == 2:
        return np.fromiter(values, like.dtype, count)
    return np.fromiter(itertools.chain.from_iterable(values), like.dtype, 2 * count).reshape(-1, 2)
