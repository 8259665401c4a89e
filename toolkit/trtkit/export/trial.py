# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Random inputs that a model takes, found by trying: nobody says what its integers mean or how long its axes are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from trtkit.errors import ExportError
from trtkit.export.runtime import Session
from trtkit.export.value_ranges import DEFAULT_RANGE
from trtkit.numerics import Array
from trtkit.samples import random_inputs
from trtkit.signature import TensorSpec

# integers that index nothing we know: any small number, else only 0 and 1, else only 1, else only 0
_WIDE = [0, 100]
_FALLBACKS = ([0, 100], [0, 2], [1, 2], [0, 1])
# sizes of dynamic axes: most models take 8; fully convolutional ones want a multiple of 32, and some just 1
_AXIS_SIZES = (8, 32, 1, 64, 224)


@dataclass(frozen=True)
class Trial:
    """How to make random inputs.

    Attributes:
        ranges: [low, high) of each integer input.
        axis_size: of every dynamic axis; of the first one only where that is no batch.
        positive: whether floating-point values are made positive, for models that take logarithms or roots.
    """

    ranges: dict[str, list[int]]
    axis_size: int = _AXIS_SIZES[0]
    positive: bool = False

    def inputs(self, specs: Sequence[TensorSpec], batch: int | None, seed: int) -> dict[str, Array]:
        """Rows that all differ, `batch` of them; None for a first axis that is one like the others."""
        count = self.axis_size if batch is None else batch
        made = random_inputs(specs, count, seed=seed, ranges=self.ranges, default_size=self.axis_size)
        floats = {spec.name for spec in specs if spec.dtype.is_float and self.positive}
        return {name: np.abs(array) if name in floats else array for name, array in made.items()}


def find_trial(
    session: Session, specs: Sequence[TensorSpec], known: Mapping[str, list[int]], batch: int | None
) -> Trial:
    """The first way to make random inputs with which the model runs, and gives numbers rather than NaN.

    Args:
        session: the model.
        specs: its inputs.
        known: ranges of integer inputs that the graph itself limits.
        batch: the size of a dynamic first axis; None where that is an axis like the others.

    Raises:
        ExportError: none of them works; with ONNX Runtime's reason for the first.
    """
    reason, runs = "", None
    for trial in _candidates(specs, known):
        if runs is not None and trial.axis_size != runs.axis_size:
            break
        try:
            outputs = session.run(trial.inputs(specs, batch, seed=2))
        except ExportError as exc:
            reason = reason or str(exc)
            continue
        if all(np.isfinite(array).all() for array in outputs.values() if array.dtype.kind == "f"):
            return trial
        runs = runs or trial
    if runs is None:
        raise ExportError(reason)
    return runs


def _candidates(specs: Sequence[TensorSpec], known: Mapping[str, list[int]]) -> Iterator[Trial]:
    integers = [spec.name for spec in specs if spec.dtype.numpy[:3] in ("int", "uin")]
    dynamic = any(isinstance(dim, str) for spec in specs for dim in spec.shape)
    signs = (False, True) if any(spec.dtype.is_float for spec in specs) else (False,)
    choices: list[dict[str, list[int]]] = []
    for fallback in _FALLBACKS:
        ranges = {name: known.get(name) or _unknown(name, fallback) for name in integers}
        choices += [] if ranges in choices else [ranges]
    for size, ranges, positive in product(_AXIS_SIZES if dynamic else _AXIS_SIZES[:1], choices, signs):
        yield Trial(ranges, size, positive)


def _unknown(name: str, fallback: list[int]) -> list[int]:
    """A mask holds 0 and 1 wherever it is called so."""
    return list(DEFAULT_RANGE) if "mask" in name.lower() and fallback == _WIDE else list(fallback)
