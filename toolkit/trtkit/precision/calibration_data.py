# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Calibration rows as requests that a model takes, after checking that they are fit to calibrate with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trtkit.errors import DataError, nearest
from trtkit.numerics import Array
from trtkit.samples import as_tensor
from trtkit.signature import TensorSpec

# ranges of one sample are its own, not the data's
_FEWEST = 2


@dataclass(frozen=True)
class Request:
    """What is fed at once.

    Attributes:
        inputs: one array per input.
        samples: how many samples it holds.
        label: which they are, for messages.
        rows: whether axis 0 of every input counts the samples.
    """

    inputs: dict[str, Array]
    samples: int
    label: str
    rows: bool

    def repeats(self, other: Request) -> bool:
        """Whether every sample of this request equals the first one of another."""
        return all(_all_equal(array, other.inputs[name], self.rows) for name, array in self.inputs.items())


def _all_equal(array: Array, other: Array, rows: bool) -> bool:
    one = other[:1] if rows else other
    return array.shape[rows:] == one.shape[rows:] and bool(np.all(array == one))


def requests_of(
    rows: Mapping[str, Array] | Sequence[Mapping[str, Array]],
    inputs: Mapping[str, TensorSpec],
    batch_rows: int,
    where: str,
) -> list[Request]:
    """Cut rows into requests, or take requests as they are.

    Args:
        rows: one array per input with the samples along axis 0, or a sequence of whole requests.
        inputs: the model's.
        batch_rows: samples of one request, where the graph does not fix their number.
        where: for messages.

    Raises:
        DataError: an input is missing or unknown, an array does not fit it or is not finite, the inputs have
            different numbers of samples, or there are fewer than two.
    """
    if not isinstance(rows, Mapping):
        labels = [f"request {index}" for index in range(len(rows))]
        requests = [
            Request(_checked(request, inputs, f"{where}: {label}"), 1, label, rows=False)
            for request, label in zip(rows, labels, strict=True)
        ]
        return _enough(len(requests), requests, where)
    checked = _checked(rows, inputs, where)
    sizes = {name: len(array) if array.ndim else 0 for name, array in checked.items()}
    if len(set(sizes.values())) != 1:
        raise DataError(f"{where}: the inputs need one equal number of samples each; got {sizes}")
    count = next(iter(sizes.values()))
    size = _fixed(inputs, where) or max(1, batch_rows)
    if _fixed(inputs, where):
        count -= count % size
        if not count:
            raise DataError(f"{where}: the graph takes {size} samples at once; {next(iter(sizes.values()))} were given")
    cuts = [(start, min(start + size, count)) for start in range(0, count, size)]
    pieces = [
        Request(
            {n: a[start:stop] for n, a in checked.items()}, stop - start, f"samples {start} to {stop - 1}", rows=True
        )
        for start, stop in cuts
    ]
    return _enough(count, pieces, where)


def _enough(count: int, requests: list[Request], where: str) -> list[Request]:
    if count < _FEWEST:
        given = f"{count} calibration sample{'' if count == 1 else 's'}"
        raise DataError(f"{where}: {given}; at least {_FEWEST} are needed, a few hundred are usual")
    return requests


def _fixed(inputs: Mapping[str, TensorSpec], where: str) -> int:
    """The number of samples the graph takes at once; 0 where that is dynamic."""
    first = {spec.shape[0] for spec in inputs.values() if spec.shape and isinstance(spec.shape[0], int)}
    if len(first) > 1:
        raise DataError(
            f"{where}: the graph fixes axis 0 of its inputs to {sorted(map(str, first))}, so that it does not count "
            "samples; calibrate with a sequence of requests, or export the graph with a batch"
        )
    return int(first.pop()) if first else 0


def _checked(arrays: Mapping[str, Array], inputs: Mapping[str, TensorSpec], where: str) -> dict[str, Array]:
    for name in arrays:
        if name not in inputs:
            raise DataError(f"{where}: data for '{name}', which is no input of the model; {nearest(name, inputs)}")
    checked: dict[str, Array] = {}
    for name, spec in inputs.items():
        if name not in arrays:
            raise DataError(f"{where}: no calibration data for input {spec}; given: {', '.join(arrays) or 'none'}")
        checked[name] = as_tensor(arrays[name], spec, where)
        _refuse_nonfinite(checked[name], spec, where)
    return checked


def _refuse_nonfinite(array: Array, spec: TensorSpec, where: str) -> None:
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    bad = ~np.isfinite(array)
    first = tuple(int(i) for i in np.argwhere(bad)[0])
    raise DataError(
        f"{where}: the calibration data for input {spec} hold NaN or infinite values, {int(bad.sum())} of {bad.size}, "
        f"the first at {list(first)}; leave such samples out"
    )
