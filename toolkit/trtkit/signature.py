# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a model takes and gives: names, data types and full shapes, as plain values that fit in a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from trtkit.dtypes import DType, by_name

Dim = int | str


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output.

    Attributes:
        name: the tensor's name.
        dtype: its data type.
        shape: the *full* shape, batch included. An ``int`` is fixed, a ``str`` is the name of a dynamic axis
            (axes of one name have one size), ``""`` is a dynamic axis without a name.
    """

    name: str
    dtype: DType
    shape: tuple[Dim, ...]

    @property
    def dims(self) -> tuple[int, ...]:
        """The full shape with -1 for each dynamic axis."""
        return tuple(dim if isinstance(dim, int) else -1 for dim in self.shape)

    def __str__(self) -> str:
        shape = ", ".join(str(dim) if dim != "" else "?" for dim in self.shape)
        return f"{self.name} {self.dtype.name} [{shape}]"

    def to_json(self) -> dict[str, Any]:
        """The form kept in records: name, data_type, shape."""
        return {"name": self.name, "data_type": self.dtype.name, "shape": list(self.shape)}


@dataclass(frozen=True, slots=True)
class Signature:
    """The inputs and outputs of a model, in its own order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def with_dtypes(self, names: Mapping[str, str]) -> Signature:
        """The same tensors with other data types, KServe v2 names by tensor; those not named keep theirs."""
        inputs, outputs = (
            tuple(replace(spec, dtype=by_name(names[spec.name])) if spec.name in names else spec for spec in side)
            for side in (self.inputs, self.outputs)
        )
        return Signature(inputs, outputs)

    def to_json(self) -> dict[str, Any]:
        """The form kept in records."""
        return {
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Signature:
        """The inverse of `to_json`."""
        return cls(*(tuple(map(_tensor, value[side])) for side in ("inputs", "outputs")))


def _tensor(value: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(value["name"], by_name(value["data_type"]), tuple(value["shape"]))
