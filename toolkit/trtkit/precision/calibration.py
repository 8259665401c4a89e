# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Which values the tensors of a graph take on real data, and the range that a quantizer should represent.

One pass finds the smallest and largest value of every tensor, a second one fills histograms where the method
needs them. At no time more than one request's values of a few tensors are in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from trtkit.errors import DataError
from trtkit.numerics import Array
from trtkit.precision.calibration_data import Request, requests_of
from trtkit.precision.graph_edit import element_types
from trtkit.precision.histogram import Histogram
from trtkit.precision.observed import Observed
from trtkit.precision.quantizable import Constants, cpu_scheme, is_float, is_weighted, operands, residuals, static_nodes

METHODS = ("minmax", "percentile", "entropy")


@dataclass(frozen=True, slots=True)
class TensorRange:
    """The values of a tensor that a quantizer should represent; what lies outside is clipped."""

    low: float
    high: float

    @property
    def largest(self) -> float:
        """The largest magnitude, which is all that a symmetric quantizer asks for."""
        return max(abs(self.low), abs(self.high))

    @property
    def dead(self) -> bool:
        """Whether the tensor was 0 throughout."""
        return self.low == self.high == 0


@dataclass(frozen=True)
class Ranges:
    """What a calibration found.

    Attributes:
        ranges: by tensor.
        method: ``minmax``, ``percentile`` or ``entropy``.
        percentile: the share of values, in percent, that a range keeps; of method ``percentile`` only.
        samples: how many were fed.
        coverage: ``samples``, ``shapes`` fed by input, ``dead`` tensors (always 0), ``unseen`` tensors (always
            empty) and ``tensors``: by name the ``low`` and ``high`` that were seen, the ``range`` that was
            chosen, the ``clipped`` share of values outside it (accurate to a bin of the histogram), and
            whether it is ``dead``.
    """

    ranges: dict[str, TensorRange]
    method: str
    percentile: float
    samples: int
    coverage: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The calibration cache: equal calibrations give equal values."""
        return {
            "method": self.method,
            "percentile": self.percentile,
            "samples": self.samples,
            "ranges": {name: [found.low, found.high] for name, found in self.ranges.items()},
            "coverage": self.coverage,
        }

    @classmethod
    def from_json(cls, value: Any) -> Ranges:
        """The inverse of `to_json`.

        Raises:
            DataError: it is no calibration cache.
        """
        try:
            ranges = {str(name): _range(*pair) for name, pair in value["ranges"].items()}
            plain = (str(value["method"]), float(value["percentile"]), int(value["samples"]))
            return cls(ranges, *plain, coverage=dict(value["coverage"]))
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            why = f"{type(exc).__name__}: {exc}"
            raise DataError(f"this is no calibration cache of trtkit ({why}); build again") from exc


def _range(low: float, high: float) -> TensorRange:
    found = TensorRange(float(low), float(high))
    if not -np.inf < found.low <= found.high < np.inf:
        raise ValueError(f"[{low}, {high}] is no range")
    return found


def tensors_to_calibrate(model: onnx.ModelProto) -> list[str]:
    """The activations that quantizers need the ranges of, in the order of the graph.

    Those are what goes into and comes out of a Conv, ConvTranspose, Gemm or MatMul, the summands of residual
    connections, and, for graphs that the CPU preset quantizes statically, what it keeps in 8 bits in between.

    Args:
        model: the FP32 graph; the weights' values are not needed.
    """
    constants, types = Constants(model), element_types(model)
    wanted: dict[str, None] = {}
    static = static_nodes(model) if cpu_scheme(model) == "static" else []
    chosen = {id(node) for node in static}
    summands = {id(node): name for node, name in residuals(model.graph, constants)}
    for node in model.graph.node:
        if is_weighted(node):
            wanted.update(dict.fromkeys((*operands(node, constants)[0], *node.output)))
        if id(node) in summands:
            wanted[summands[id(node)]] = None
        if id(node) in chosen:
            wanted.update(dict.fromkeys(name for name in (*node.input, *node.output) if name not in constants))
    return [name for name in wanted if name and is_float(types.get(name))]


def calibrate(
    model_file: Path,
    rows: Mapping[str, Array] | Sequence[Mapping[str, Array]],
    tensors: Sequence[str],
    *,
    method: str,
    percentile: float,
    batch_rows: int,
    where: str,
) -> Ranges:
    """Run a model on real data and find the range of each tensor.

    ``minmax`` keeps every value. ``percentile`` and ``entropy`` choose a threshold for the magnitude and clip
    both sides there, so that a range serves symmetric and asymmetric quantizers alike.

    Args:
        model_file: the FP32 graph; external data are found beside it.
        rows: one array per input, axis 0 counting the samples, fed in pieces of `batch_rows` (or of the size
            that the graph fixes for axis 0; samples that do not fill a last piece are left out then). A model
            that does not batch is fed all rows as one request when `batch_rows` is their number, or takes a
            sequence of requests, each with one array per input.
        tensors: what to observe, see `tensors_to_calibrate`.
        method: ``minmax``, ``percentile`` or ``entropy``.
        percentile: for ``percentile``: the share of values to keep, in percent, (50, 100].
        batch_rows: the samples of one request.
        where: FILE:LINE:COLUMN of the calibration data, for messages.

    Raises:
        DataError: the data miss an input, do not fit one, are constant, fewer than two, or lead to values that
            are not finite, with the tensor's name.
    """
    assert method in METHODS, method
    with Observed(model_file, tensors, where) as observed:
        requests = requests_of(rows, observed.inputs, batch_rows, where)
        seen = _extremes(observed, requests, where)
        _refuse_constant_inputs(seen, observed, requests, where)
        live = {name: TensorRange(*found).largest for name, found in seen.items() if tuple(found) != (0.0, 0.0)}
        histograms = {} if method == "minmax" else _histograms(observed, requests, live)
    chosen = {name: _choose(*found, histograms.get(name), method, percentile) for name, found in seen.items()}
    samples = sum(request.samples for request in requests)
    return Ranges(chosen, method, percentile, samples, _coverage(requests, tensors, seen, chosen, histograms))


def _extremes(observed: Observed, requests: Sequence[Request], where: str) -> dict[str, tuple[float, float]]:
    """The smallest and largest value of each tensor that held any."""
    seen: dict[str, tuple[float, float]] = {}
    for request in requests:
        for name, values in observed.values(request):
            if not values.size:
                continue
            low, high = float(values.min()), float(values.max())  # NaN comes through both
            if not np.isfinite([low, high]).all():
                raise DataError(
                    f"{where}: {observed.describe(name)} is not finite ({low:g} to {high:g}) on {request.label}; "
                    "leave such samples out, or mend the model"
                )
            before = seen.get(name, (low, high))
            seen[name] = min(before[0], low), max(before[1], high)
    return seen


def _refuse_constant_inputs(
    seen: Mapping[str, tuple[float, float]], observed: Observed, requests: Sequence[Request], where: str
) -> None:
    """Data without any variety say nothing; integer inputs such as masks may well be constant."""
    for name in observed.inputs:
        low, high = seen.get(name, (0.0, 1.0))
        if low == high:
            raise DataError(
                f"{where}: the calibration data for input '{name}' are {low:g} throughout; give real samples"
            )
    first = requests[0]
    if all(request.repeats(first) for request in requests):
        raise DataError(f"{where}: all calibration samples are the same; give real ones that differ")


def _histograms(observed: Observed, requests: Sequence[Request], largest: Mapping[str, float]) -> dict[str, Histogram]:
    histograms = {name: Histogram(magnitude) for name, magnitude in largest.items()}
    for request in requests:
        for name, values in observed.values(request, only=histograms):
            histograms[name].add(values)
    return histograms


def _choose(low: float, high: float, histogram: Histogram | None, method: str, percentile: float) -> TensorRange:
    if histogram is None:
        return TensorRange(low, high)
    threshold = histogram.percentile(percentile) if method == "percentile" else histogram.entropy()
    return TensorRange(min(max(low, -threshold), threshold), max(min(high, threshold), -threshold))


def _coverage(
    requests: Sequence[Request],
    tensors: Sequence[str],
    seen: Mapping[str, tuple[float, float]],
    chosen: Mapping[str, TensorRange],
    histograms: Mapping[str, Histogram],
) -> dict[str, Any]:
    shapes: dict[str, list[list[int]]] = {}
    for name, shape in ((n, list(a.shape)) for request in requests for n, a in request.inputs.items()):
        known = shapes.setdefault(name, [])
        if shape not in known:
            known.append(shape)
    return {
        "samples": sum(request.samples for request in requests),
        "shapes": shapes,
        "dead": [name for name, found in chosen.items() if found.dead],
        "unseen": [name for name in tensors if name not in seen],
        "tensors": {
            name: {
                "low": low, "high": high, "range": [chosen[name].low, chosen[name].high],
                "clipped": histograms[name].clipped(chosen[name].largest) if name in histograms else 0.0,
                "dead": chosen[name].dead,
            }
            for name, (low, high) in seen.items()
        },
    }  # fmt: skip
