# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a model takes, random inputs, the user's samples in batches, and the check that the model takes them.

The inputs of a request are a dict of one array per input, *with* the batch dimension when the model has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trtkit.dtypes import by_name
from trtkit.errors import DataError, ProjectError, nearest
from trtkit.numerics import Array
from trtkit.samples import as_tensor, random_array
from trtkit.signature import TensorSpec

Inputs = dict[str, Array]


def max_batch_size(config: Mapping[str, Any]) -> int:
    """The model's ``max_batch_size``; 0 when its tensors have no batch dimension."""
    return int(config.get("max_batch_size", 0))


def input_specs(metadata: Mapping[str, Any]) -> dict[str, TensorSpec]:
    """The model's inputs by name, with full shapes: axis 0 is the batch when `max_batch_size` is above 0."""
    return _specs(metadata, "inputs")


def output_specs(metadata: Mapping[str, Any]) -> dict[str, TensorSpec]:
    """The model's outputs, likewise."""
    return _specs(metadata, "outputs")


def _specs(metadata: Mapping[str, Any], side: str) -> dict[str, TensorSpec]:
    specs = {}
    for tensor in metadata.get(side, []):
        shape = tuple(int(dim) if int(dim) >= 0 else "" for dim in tensor.get("shape", []))
        specs[tensor["name"]] = TensorSpec(tensor["name"], by_name(tensor["datatype"]), shape)
    return specs


def required_inputs(metadata: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """The names of the inputs that every request has to have."""
    optional = {tensor["name"] for tensor in config.get("input", []) if tensor.get("optional")}
    return [name for name in input_specs(metadata) if name not in optional]


def check_batch_size(metadata: Mapping[str, Any], config: Mapping[str, Any], batch_size: int) -> None:
    """ProjectError when the model takes no batch of this size."""
    most = max_batch_size(config)
    if batch_size < 1:
        raise ProjectError(f"batch size {batch_size} is impossible; it must be 1 or more")
    if batch_size > max(most, 1):
        name = metadata.get("name", "")
        raise ProjectError(f"batch size {batch_size} is above the max_batch_size {most} of model '{name}'")


def random_values(
    rng: np.random.Generator, spec: TensorSpec, shape: Sequence[int], integers: tuple[int, int], length: int
) -> Array:
    """Random values of an input: standard normal, integers from one bound to the other, texts of one length.

    Args:
        rng: equal generators give equal values.
        spec: the input.
        shape: the full shape.
        integers: the smallest and the largest integer.
        length: bytes of each BYTES element; lower-case ASCII.
    """
    if spec.dtype.name != "BYTES":
        return random_array(rng, spec.dtype, shape, integers[0], integers[1] + 1)
    if not length:
        return np.full(tuple(shape), b"", dtype=object)
    letters = rng.integers(97, 123, size=(*shape, length), dtype=np.uint8)
    return letters.view(f"S{length}").reshape(shape).astype(object)


def batches(
    samples: Mapping[str, Any], metadata: Mapping[str, Any], config: Mapping[str, Any], batch_size: int
) -> list[Inputs]:
    """The user's samples as requests of `batch_size` samples each, in their order.

    The last request is filled up with the first samples again. A model whose `max_batch_size` is 0 gets one
    sample a request: without the axis that counts the samples, or with it (as a batch of one) when the
    arrays have as many axes as the inputs.

    Args:
        samples: one array per input; axis 0 counts the samples.
        metadata: the model's metadata.
        config: the model's configuration.
        batch_size: samples in one request.

    Raises:
        DataError: names, shapes or data types that the model does not take, or unequal numbers of samples.
        ProjectError: a batch size the model does not take.
    """
    check_batch_size(metadata, config, batch_size)
    specs = input_specs(metadata)
    _check_names(samples, metadata, config)
    keeps_axis = max_batch_size(config) > 0 or all(
        np.ndim(value) == len(specs[name].shape) for name, value in samples.items()
    )
    arrays = {
        name: as_tensor(value, specs[name] if keeps_axis else _with_sample_axis(specs[name]), "the samples")
        for name, value in samples.items()
    }
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) != 1 or not min(counts.values()):
        raise DataError(f"the inputs need one equal, non-zero number of samples each; got {counts}")
    total = next(iter(counts.values()))
    rows = [np.arange(start, start + batch_size) % total for start in range(0, total, batch_size)]
    return [{name: array[row if keeps_axis else row[0]] for name, array in arrays.items()} for row in rows]


def _with_sample_axis(spec: TensorSpec) -> TensorSpec:
    return TensorSpec(spec.name, spec.dtype, ("", *spec.shape))


def checked(
    requests: Sequence[Mapping[str, Any]],
    metadata: Mapping[str, Any],
    config: Mapping[str, Any],
    batch_size: int,
) -> list[Inputs]:
    """Requests in the model's data types, after checking that it takes them.

    Raises:
        DataError: no request, or names, shapes or data types that the model does not take.
        ProjectError: a batch size the model does not take.
    """
    check_batch_size(metadata, config, batch_size)
    if not requests:
        raise DataError("there is no request to send; give at least one")
    specs = input_specs(metadata)
    result = []
    for request in requests:
        _check_names(request, metadata, config)
        result.append({name: _tensor(value, specs[name], config, batch_size) for name, value in request.items()})
    return result


def _tensor(value: Any, spec: TensorSpec, config: Mapping[str, Any], batch_size: int) -> Array:
    array = as_tensor(value, spec, "a request")
    first = batch_size if max_batch_size(config) else (spec.dims[0] if spec.dims else -1)
    if first >= 0 and array.shape[0] != first:
        raise DataError(f"a request: data for input {spec} have the shape {list(array.shape)}; axis 0 must be {first}")
    return array


def _check_names(request: Mapping[str, Any], metadata: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    specs = input_specs(metadata)
    for name in request:
        if name not in specs:
            raise DataError(f"data are given for '{name}', which is no input of the model; {nearest(name, specs)}")
    missing = [name for name in required_inputs(metadata, config) if name not in request]
    if missing:
        raise DataError(
            f"no data for input {specs[missing[0]]}; data are given for: {', '.join(request) or 'no input'}"
        )
