# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How near a served answer has to be to its reference, output by output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from trtkit.dtypes import DType, by_name
from trtkit.numerics import Array, Difference, difference
from trtkit.project import Tolerance
from trtkit.tolerance import largest_value, outside_share, tolerance_for


@dataclass(frozen=True)
class Closeness:
    """How near an answer has to be.

    Attributes:
        precision: of the served graph, a key of `trtkit.tolerance.TOLERANCES`.
        override: the project file's ``tolerance:``, or the command line's.
        datatypes: KServe v2 data types of the outputs by name; numpy's own where one is absent.
    """

    precision: str = "fp32"
    override: Tolerance = field(default_factory=Tolerance)
    datatypes: Mapping[str, str] = field(default_factory=dict)

    def compare(self, name: str, reference: Array, actual: Array) -> Difference:
        """How far an output is from its reference; BF16 bit patterns are compared as the numbers they are."""
        dtype = self._dtype(name, reference)
        left, right = _numbers(reference, dtype), _numbers(actual, dtype)
        rtol, atol = tolerance_for(self.precision, dtype, name, self.override, largest_value(left))
        return difference(left, right, rtol, atol, outside_share(self.precision, dtype))

    def _dtype(self, name: str, reference: Array) -> DType:
        if name in self.datatypes:
            return by_name(self.datatypes[name])
        return _BY_KIND.get(reference.dtype.name, by_name("INT64"))


_BY_KIND = {"float16": by_name("FP16"), "float32": by_name("FP32"), "float64": by_name("FP64")}


def _numbers(array: Array, dtype: DType) -> Array:
    if dtype.name == "BF16" and array.dtype == np.uint16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array
