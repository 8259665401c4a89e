# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The reshape of inputs and outputs (core: model_config_utils.cc, ValidateIOShape)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from trtkit.lint.judged import is_final, tensors_config
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import rule
from trtkit.lint.rules.tensors import Tensor, tensors

VARIABLE = -1


def _reshaped(model: Model) -> Iterator[Tensor]:
    return (tensor for tensor in tensors(model) if tensor.message.HasField("reshape"))


def _is_positive(dims: Sequence[int]) -> bool:
    return all(value >= 1 or value == VARIABLE for value in dims)


def _chunks(dims: Sequence[int]) -> list[int]:
    """Elements between the variable dimensions: [2, 4, -1, 6] has [8, 6]."""
    chunks = [1]
    for value in dims:
        if value == VARIABLE:
            chunks.append(1)
        else:
            chunks[-1] *= value
    return chunks


@rule("TEN020", "empty-reshape-without-batching", server=True, depends_on_server=True)
def empty_reshape(model: Model) -> Iterator[Found]:
    """A model that does not batch has a tensor with an empty reshape.

    Without a batch dimension such a tensor would have no dimension at all, and Triton has no scalars.

    Wrong:
        max_batch_size: 0
        input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] reshape { shape: [ ] } }

    Right:
        max_batch_size: 0
        input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] }
    """
    if tensors_config(model).max_batch_size != 0:
        return
    for tensor in _reshaped(model):
        if not tensor.message.reshape.shape and is_final(model):
            yield model.found(
                (*tensor.path, "reshape"),
                f"{tensor.words} cannot have empty reshape for non-batching model as scalar tensors are not supported "
                f"for {model.config.name}",
            )


@rule("TEN021", "reshape-dimension-not-positive", server=True)
def reshape_dimension(model: Model) -> Iterator[Found]:
    """A dimension of a reshape is neither a positive number nor -1.

    Only -1 means any size, and 0 would leave the tensor without elements (core: model_config_utils.cc,
    ValidateIOShape).

    Wrong:
        input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 4, 0 ] } }

    Right:
        input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 4, 1 ] } }
    """
    for tensor in _reshaped(model):
        for index, value in enumerate(tensor.message.reshape.shape):
            if value < 1 and value != VARIABLE:
                yield model.found(
                    (*tensor.path, "reshape", "shape", index),
                    f"{tensor.words} reshape dimensions must be integer >= 1, or -1 to indicate a variable-size "
                    f"dimension for {model.config.name}; got {value}",
                )


def _shapes(model: Model) -> Iterator[tuple[Tensor, list[int], list[int]]]:
    """The tensors whose dims and reshape can be compared."""
    for tensor in _reshaped(model):
        dims, shape = list(tensor.message.dims), list(tensor.message.reshape.shape)
        may_be_empty = shape or tensors_config(model).max_batch_size > 0
        if dims and may_be_empty and _is_positive(dims) and _is_positive(shape):
            yield tensor, dims, shape


def _differs(dims: Sequence[int], shape: Sequence[int]) -> bool:
    variable = VARIABLE in dims
    if variable != (VARIABLE in shape):
        return True
    if variable:
        return dims.count(VARIABLE) == shape.count(VARIABLE) and _chunks(dims) != _chunks(shape)
    return prod(dims) != prod(shape)


@rule("TEN022", "reshape-of-another-size", server=True)
def reshape_size(model: Model) -> Iterator[Found]:
    """The dims and the reshape hold different numbers of elements.

    An empty reshape holds one. With variable dimensions the numbers between them are compared: [ 2, 4, -1, 6 ] can
    become [ 8, -1, 6 ] (core: model_config_utils.cc, ValidateIOShape).

    Wrong:
        input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 2, 3 ] } }

    Right:
        input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 2, 2 ] } }
    """
    for tensor, dims, shape in _shapes(model):
        if _differs(dims, shape):
            yield model.found(
                (*tensor.path, "reshape"),
                f"{tensor.words} has different size for dims and reshape for {model.config.name}; "
                f"dims {dims}, reshape {shape}",
            )


@rule("TEN023", "reshape-with-other-variable-dimensions", server=True)
def reshape_variable(model: Model) -> Iterator[Found]:
    """The dims and the reshape have different numbers of variable dimensions.

    The server has to tell which of them became which (core: model_config_utils.cc, ValidateIOShape).

    Wrong:
        input { name: "x" data_type: TYPE_FP32 dims: [ -1 ] reshape { shape: [ -1, -1 ] } }

    Right:
        input { name: "x" data_type: TYPE_FP32 dims: [ -1 ] reshape { shape: [ -1, 1 ] } }
    """
    for tensor, dims, shape in _shapes(model):
        counts = dims.count(VARIABLE), shape.count(VARIABLE)
        if all(counts) and counts[0] != counts[1]:
            yield model.found(
                (*tensor.path, "reshape"),
                f"{tensor.words} has different number of variable-size dimensions for dims and reshape for "
                f"{model.config.name}; {counts[0]} in dims, {counts[1]} in reshape",
            )


RULES = (empty_reshape, reshape_dimension, reshape_size, reshape_variable)
