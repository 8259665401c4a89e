# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Implicit state of sequences: what a model gave as a state goes into the sequence's next request.

Triton keeps a sequence on one instance, which is one process of this backend, so the states are kept here. The server
hands over the initial state with every request, because a Python-based backend cannot tell it of another.
"""

from __future__ import annotations

import time
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
        self._by_slot = sequence.get("oldest") is None
        # a sequence that is idle for longer is over for the server, which looks now and then and does not say so
        self._over_after = 2e-6 * (int(sequence.get("max_sequence_idle_microseconds") or 0) or 1_000_000)
        self._kept: dict[Any, dict[str, np.ndarray]] = {}
        self._used: dict[Any, float] = {}  # when: those used last are last
        self._keys: dict[int, Any] = {}

    def enter(self, requests: Sequence[Any]) -> None:
        """Take note of which request belongs to which sequence.

        Args:
            requests: all that ``execute`` got, empty slots too.
        """
        self._keys = {
            id(request): slot if self._by_slot else request.correlation_id() for slot, request in enumerate(requests)
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
                self._forget(key)
            for name, state in self._kept.get(key, {}).items():
                arrays[name][index] = state

    def keep(self, requests: Sequence[Any], outputs: Mapping[str, list[np.ndarray]]) -> None:
        """Keep the states that a run gave.

        Args:
            requests: of the batch.
            outputs: by output, one array for each request.
        """
        now = time.monotonic()
        for index, request in enumerate(requests):
            key = self._keys[id(request)]
            self._forget(key)
            if not request.flags() & _END:
                self._used[key] = now
                self._kept[key] = {name: _copy(outputs[output][index]) for output, name in self.outputs.items()}
        while self._used and now - self._used[next(iter(self._used))] > self._over_after and not self._by_slot:
            self._forget(next(iter(self._used)))

    def leave(self, request: Any) -> None:
        """Take note of a request that gave no state: one that begins or ends a sequence leaves none behind."""
        if request.flags() & (_START | _END):
            self._forget(self._keys.get(id(request)))

    def _forget(self, key: Any) -> None:
        self._kept.pop(key, None)
        self._used.pop(key, None)


def _blank(array: np.ndarray) -> np.ndarray:
    return np.full_like(array, b"" if array.dtype == np.object_ else 0)


def _copy(array: np.ndarray) -> np.ndarray:
    """An input of the next run; no view, which would keep the whole batch's memory."""
    copy = array.copy()
    if array.dtype == np.object_:
        copy.ravel()[:] = [item.encode() if isinstance(item, str) else item for item in array.ravel()]
    return copy
