# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How far a served output may be from the FP32 reference, from one table."""

from __future__ import annotations

import numpy as np

from trtkit.dtypes import DType
from trtkit.numerics import Array
from trtkit.project import Tolerance

# (rtol, atol) by the graph's precision; an element passes when |served - reference| <= atol + rtol * |reference|.
# FP32: another batch size or thread count adds in another order, about 1e-6 of the value per layer.
# FP16 has 11 significant bits and BF16 8; INT8 and FP8 quantize activations, so the task metric decides there.
TOLERANCES: dict[str, tuple[float, float]] = {
    "fp32": (1e-4, 1e-5),
    "fp16": (1e-2, 2e-3),
    "bf16": (5e-2, 1e-2),
    "int8": (1e-1, 1e-1),
    "fp8": (1e-1, 1e-1),
}
# of all elements, see `outside_share`
_OUTSIDE_SHARE = 0.02
# an output type with fewer bits than the graph rounds once more: its own unit in the last place
_OUTPUT_ROUNDING: dict[str, float] = {"FP16": 2.0**-10, "BF16": 2.0**-7}


def tolerance_for(
    precision: str, dtype: DType, output: str, override: Tolerance, largest: float = 1.0
) -> tuple[float, float]:
    """(rtol, atol) of one output.

    Args:
        precision: a key of `TOLERANCES`, or two joined by ``+`` (the first counts); ``ensemble`` counts as fp32.
        dtype: of the output; anything but floating point has to be equal, and gives (0, 0).
        output: its name, for an override of its own.
        override: the project file's ``tolerance:``, or the command line's.
        largest: the largest finite absolute value of the reference's output. Below FP32 the table's atol is in
            units of it: what is near zero may be the difference of two large values, each of them rounded. An atol
            of `override` is taken as it is.
    """
    if not dtype.is_float:
        return 0.0, 0.0
    rtol, atol = TOLERANCES.get(precision.partition("+")[0], TOLERANCES["fp32"])
    if precision.partition("+")[0] in TOLERANCES and precision != "fp32":
        atol *= largest or 1.0
    rtol = max(rtol, _OUTPUT_ROUNDING.get(dtype.name, 0.0))
    for level in (override, override.outputs.get(output)):
        if level is not None:
            rtol = rtol if level.rtol is None else level.rtol
            atol = atol if level.atol is None else level.atol
    return rtol, atol


def outside_share(precision: str, dtype: DType) -> float:
    """The share of an output's elements that may be outside its tolerance.

    Below FP32 an integer, a boolean or text is a decision (the index of the largest score, a threshold), which
    falls the other way where scores are nearly equal. With 8 bits the scores themselves may then be far apart,
    as probabilities of that row are. What it costs, the task metric says.
    """
    if precision in ("fp32", "ensemble"):
        return 0.0
    quantized = precision.startswith(("int8", "fp8"))
    return _OUTSIDE_SHARE if quantized or not dtype.is_float else 0.0


def largest_value(values: Array) -> float:
    """The largest finite absolute value of an array of numbers; 0.0 for anything else."""
    if values.dtype.kind not in "biuf":
        return 0.0
    numbers = values.astype(np.float64)
    return float(np.abs(numbers[np.isfinite(numbers)]).max(initial=0.0))
