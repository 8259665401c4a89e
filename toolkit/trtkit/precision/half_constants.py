# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""FP32 constants in FP16 or BF16: rounding, and what does not survive it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from trtkit.numerics import Array
from trtkit.precision.graph_edit import array_of

# the largest finite values: (2 - 2**-10) * 2**15 and (2 - 2**-7) * 2**127
LARGEST = {TensorProto.FLOAT16: 65504.0, TensorProto.BFLOAT16: 3.3895313892515355e38}
TYPE_NAMES = {TensorProto.FLOAT16: "FP16", TensorProto.BFLOAT16: "BF16"}
# a scale that is rounded by more than this moves an 8-bit grid of 254 steps by more than a step at its end
_SCALE_ERROR = 2.0**-8


def bits_of(values: Array, half: int) -> Array:
    """FP32 values as the 16 bits of FP16 or BF16, rounded to the nearest, ties to even."""
    values = np.asarray(values, np.float32, order="C")
    if half == TensorProto.FLOAT16:
        with np.errstate(over="ignore"):
            return values.astype(np.float16).view(np.uint16)
    bits = values.view(np.uint32)
    rounded = ((bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)).astype(
        np.uint16
    )
    # adding would carry a NaN's bits into its sign
    return np.where(np.isnan(values), (bits >> np.uint32(16)).astype(np.uint16) | np.uint16(0x40), rounded)


def rounded(values: Array, half: int) -> Array:
    """FP32 values as FP16 or BF16 has them, in FP32."""
    bits = bits_of(values, half)
    if half == TensorProto.FLOAT16:
        return bits.view(np.float16).astype(np.float32)
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def half_tensor(tensor: TensorProto, name: str, half: int, *, clamp: bool = False) -> TensorProto:
    """An FP32 tensor as FP16 or BF16.

    Args:
        tensor: FP32, values in memory.
        name: of the new tensor.
        half: ``TensorProto.FLOAT16`` or ``BFLOAT16``.
        clamp: finite values beyond the type's range become its largest instead of infinite.
    """
    values = np.asarray(array_of(tensor), np.float32)
    if clamp:
        values = np.where(np.isinf(values), values, np.clip(values, -LARGEST[half], LARGEST[half]))
    raw = bits_of(values, half).astype("<u2").tobytes()
    return TensorProto(name=name, data_type=half, dims=tensor.dims, raw_data=raw)


@dataclass(frozen=True)
class Fit:
    """How an FP32 constant fits into a half type.

    Attributes:
        elements: how many it has.
        overflowing: finite elements that become infinite.
        vanishing: elements other than 0 that become 0.
        low: the smallest finite element, 0 if there is none.
        high: the largest.
    """

    elements: int
    overflowing: int
    vanishing: int
    low: float
    high: float

    @property
    def largest(self) -> float:
        """The largest absolute value of a finite element."""
        return max(-self.low, self.high)


def fit(tensor: TensorProto, half: int) -> Fit:
    """Look at every element of an FP32 tensor."""
    values = np.asarray(array_of(tensor), np.float32)
    finite = np.isfinite(values)
    after = rounded(values, half)
    some = values[finite]
    return Fit(
        values.size,
        int((finite & ~np.isfinite(after)).sum()),
        int(((values != 0) & (after == 0)).sum()),
        float(some.min(initial=0.0)),
        float(some.max(initial=0.0)),
    )


def scale_survives(tensor: TensorProto, half: int) -> bool:
    """Whether every element of a quantization scale keeps its value to a 256th: none overflows or vanishes."""
    values = np.asarray(array_of(tensor), np.float32).astype(np.float64)
    after = rounded(values.astype(np.float32), half).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return bool(np.all(np.abs(after - values) <= _SCALE_ERROR * np.abs(values)))
