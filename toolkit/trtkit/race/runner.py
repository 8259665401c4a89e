# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What runs a candidate. ONNX Runtime's CPU provider stands here; another runtime is passed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from trtkit.export.runtime import Session
from trtkit.numerics import Array


class Runner(Protocol):
    """A loaded candidate."""

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Outputs by name for full inputs (batch first); ExportError when it cannot."""

    def timed(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """A call that computes the outputs of these inputs once and returns when they are there.

        What a server does not do for each request (conversions, allocations) is done before. ExportError when
        the inputs cannot be run.
        """


Opener = Callable[[Path, int], Runner]
"""Loads a file for so many intra-op threads; ExportError when the runtime refuses it."""


class CpuRunner(Session):
    """ONNX Runtime, on its CPU provider unless asked otherwise.

    One operator runs after the other, so that one inter-op thread is all there is.
    """

    def run(self, inputs: Mapping[str, Array], outputs: object = None) -> dict[str, Array]:
        """All outputs; floating-point inputs are rounded to the types this graph takes."""
        return super().run(self.cast(inputs))

    def timed(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """One run of the session, with the inputs ready."""
        self.run(inputs)  # refuses in a sentence what the bare call below would not
        feed = {name: _text(array) for name, array in self.cast(inputs).items()}
        session = self._session
        return lambda: session.run(None, feed)


def _text(array: Array) -> Array:
    """Bytes as str, which is what ONNX Runtime takes; the value of an unreadable one does not change the time."""
    if array.dtype.kind not in "OS":
        return array
    items = [item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in array.ravel().tolist()]
    out = np.empty(len(items), dtype=object)
    out[:] = items
    return out.reshape(array.shape)
