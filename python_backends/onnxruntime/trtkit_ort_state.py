# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Implicit state of sequences: what a model gave as a state goes into the sequence's next request.

Triton keeps a sequence on one instance, which is one process of this backend, so the states are kept here. The server
hands over the initial state with every request, because a Python-based backend cannot tell it of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# TRITONSERVER_RequestFlag
_START, _END = 1, 2


class States:
    """The implicit states of the sequences of one model instance.

    The direct strategy gives each sequence a slot, which is the position of its requests in every batch. With the
    oldest strategy only the correlation ID tells which sequence a request belongs to.

    Args:
        config: complete.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        sequence = config.get("sequence_batching") or {}
        states = sequence.get("state", ())
        self.outputs = {entry["output_name"]: entry["input_name"] for entry in states}
        # where there is no initial state the server hands over memory that nobody wrote
        self._blank = [entry["input_name"] for entry in states if not entry.get("initial_state")]
        oldest = sequence.get("oldest")
        self._most = None if oldest is None else max(1, int(oldest.get("max_candidate_sequences", 0)))
        self._kept: dict[Any, dict[str, np.ndarray]] = {}
        self._keys: dict[int, Any] = {}

    def enter(self, requests: Sequence[Any]) -> None:
        """Take note of which request belongs to which sequence.

        Args:
            requests: all that ``execute`` got, empty slots too.
        """
        self._keys = {
            id(request): slot if self._most is None else request.correlation_id()
            for slot, request in enumerate(requests)
        }

    def recall(self, requests: Sequence[Any], arrays: Mapping[str, list[np.ndarray]]) -> None:
        """Put the states of sequences that have begun in place of the initial ones.

        Args:
            requests: of the batch.
            arrays: by input, one for each request; changed in place.
        """
        for name in self._blank:
            arrays[name][:] = [_blank(array) for array in arrays[name]]
        for index, request in enumerate(requests):
            key = self._keys[id(request)]
            if request.flags() & _START:
                self._kept.pop(key, None)
            for name, state in self._kept.get(key, {}).items():
                arrays[name][index] = state

    def keep(self, requests: Sequence[Any], outputs: Mapping[str, list[np.ndarray]]) -> None:
        """Keep the states that a run gave.

        Args:
            requests: of the batch.
            outputs: by output, one array for each request.
        """
        for index, request in enumerate(requests):
            key = self._keys[id(request)]
            self._kept.pop(key, None)
            if not request.flags() & _END:
                self._kept[key] = {name: _copy(outputs[output][index]) for output, name in self.outputs.items()}
        # sequences that nobody ends go without a word; one that is over was used before any that is not
        while self._most is not None and len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]


def _blank(array: np.ndarray) -> np.ndarray:
    return np.full_like(array, b"" if array.dtype == np.object_ else 0)


def _copy(array: np.ndarray) -> np.ndarray:
    """An input of the next run; no view, which would keep the whole batch's memory."""
    copy = array.copy()
    if array.dtype == np.object_:
        copy.ravel()[:] = [item.encode() if isinstance(item, str) else item for item in array.ravel()]
    return copy
