# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Input data: the user's own (a callable or an .npz file), or random ones that the model can take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trtkit.dtypes import DType
from trtkit.errors import DataError, nearest
from trtkit.numerics import Array
from trtkit.project import Project
from trtkit.project.callables import call, is_callable_reference, split_reference
from trtkit.signature import TensorSpec

LABELS = "labels"


@dataclass(frozen=True)
class Samples:
    """Rows of input data.

    Attributes:
        inputs: one array per input; axis 0 counts the samples in each.
        labels: what the metric compares with, one per sample; None when there are none.
        origin: where they are from, for reports.
    """

    inputs: dict[str, Array]
    labels: Array | None
    origin: str

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def rows(self, start: int, stop: int | None) -> dict[str, Array]:
        """Samples `start` to `stop` (None: to the end) as one batch."""
        return {name: array[start:stop] for name, array in self.inputs.items()}

    def first(self, count: int | None) -> Samples:
        """The first `count` samples with their labels; all of them for None."""
        if count is None:
            return self
        return Samples(self.rows(0, count), None if self.labels is None else self.labels[:count], self.origin)


def evaluation_samples(project: Project, model: str, inputs: Sequence[TensorSpec]) -> Samples | None:
    """The samples of a model's ``evaluate:`` block, checked against its inputs; None when it has no such block.

    Args:
        project: the project.
        model: the model's name.
        inputs: the model's inputs, full shapes with the batch first.

    Raises:
        DataError: the data do not fit the inputs, naming the tensor, what was given and what is expected.
        ExportError: the user's callable raised.
    """
    evaluate = project.models[model].evaluate
    if evaluate is None:
        return None
    where = project.where("models", model, "evaluate", "data")
    samples = _samples(evaluate.data, project, where, inputs)
    labels = samples.labels
    if labels is not None and labels.shape[:1] != (len(samples),):
        given = f"{len(labels)} labels" if labels.ndim else f"one label ({str(labels)[:80]})"
        raise DataError(f"{where}: {given} for {len(samples)} samples; give one label per sample")
    return samples.first(evaluate.samples)


def calibration_samples(project: Project, model: str, inputs: Sequence[TensorSpec]) -> Samples:
    """The samples of a model's ``calibration:`` block, checked against its inputs.

    Raises:
        DataError: there is no such block, fewer samples than it asks for, or the data do not fit the inputs.
        ExportError: the user's callable raised.
    """
    calibration = project.models[model].calibration
    if calibration is None:
        raise no_calibration(project, model)
    where = project.where("models", model, "calibration", "data")
    samples = _samples(calibration.data, project, where, inputs)
    if calibration.samples is not None and calibration.samples > len(samples):
        place = project.where("models", model, "calibration", "samples")
        raise DataError(
            f"{place}: {calibration.samples} samples are asked for, '{calibration.data}' has {len(samples)}; "
            "lower the number, or leave it out to use all"
        )
    return samples.first(calibration.samples)


def no_calibration(project: Project, model: str) -> DataError:
    """The error for a precision that needs a ``calibration:`` block where the model has none."""
    where, precision = project.where("models", model, "precision"), project.models[model].precision
    return DataError(
        f"{where}: {precision} needs real rows to find the range of each tensor; give the model "
        "`calibration: {data: FILE.py:NAME}` or an .npz file"
    )


def _samples(data: str, project: Project, where: str, inputs: Sequence[TensorSpec]) -> Samples:
    arrays, labels = _read(data, project, where, [spec.name for spec in inputs])
    return Samples(_checked(arrays, inputs, where), labels, data)


def _read(data: str, project: Project, where: str, names: list[str]) -> tuple[Mapping[str, Any], Array | None]:
    if not is_callable_reference(data):
        return read_npz(split_reference(data, project.root)[0], where)
    value = call(data, project.root, where)
    inputs, labels = value if isinstance(value, tuple) and len(value) == 2 else (value, None)
    if not isinstance(inputs, Mapping):
        if len(names) != 1:
            raise DataError(
                f"{where}: '{data}' gave one array; the model has the inputs {', '.join(names)}: return a dict"
            )
        inputs = {names[0]: inputs}
    return inputs, None if labels is None else _array(labels, f"{where}: the labels")


def read_npz(file: Path, where: str) -> tuple[dict[str, Array], Array | None]:
    """The arrays of an .npz file by name, with the one called "labels" apart; pickled objects are refused."""
    try:
        with file.open("rb") as opened:
            archive = np.load(opened, allow_pickle=False)
            arrays = {n: archive[n] for n in archive.files} if isinstance(archive, np.lib.npyio.NpzFile) else None
    except Exception as exc:  # numpy, zipfile, zlib and tokenize have no common class for a damaged file
        raise DataError(f"{where}: {file.name} cannot be read as .npz: {one_line(exc)}") from exc
    if arrays is None:
        raise DataError(f"{where}: {file.name} holds one array without a name; save it with numpy.savez(name=array)")
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # numpy hands out the bytes of a member that is something else
            raise DataError(f"{where}: {file.name} cannot be read as .npz: '{name}' is no array")
    return arrays, arrays.pop(LABELS, None)


def one_line(exc: BaseException) -> str:
    """What an error says, as one line of bearable length."""
    return " ".join(str(exc).split())[:300] or type(exc).__name__


def _array(value: Any, what: str) -> Array:
    try:
        return np.asarray(value)
    except ValueError as exc:
        raise DataError(f"{what} are ragged: {one_line(exc)}") from exc
    except (TypeError, RuntimeError) as exc:  # a torch tensor that requires a gradient, for one
        raise DataError(f"{what} are no array: {one_line(exc)}") from exc


def _checked(arrays: Mapping[str, Any], inputs: Sequence[TensorSpec], where: str) -> dict[str, Array]:
    """The arrays in the inputs' order and data types; DataError when they do not fit."""
    specs = {spec.name: spec for spec in inputs}
    for name in arrays:
        if name not in specs:
            raise DataError(f"{where}: data for '{name}', which is no input of the model; {nearest(name, specs)}")
    checked: dict[str, Array] = {}
    for name, spec in specs.items():
        if name not in arrays:
            given = ", ".join(arrays) or "none"
            raise DataError(f"{where}: no data for input {spec}; data were given for: {given}")
        checked[name] = as_tensor(arrays[name], spec, where)
    sizes = {name: len(array) if array.ndim else 0 for name, array in checked.items()}
    if len(set(sizes.values())) != 1 or not min(sizes.values()):
        raise DataError(f"{where}: the inputs need one equal, non-zero number of samples each; got {sizes}")
    return checked


def as_tensor(value: Any, spec: TensorSpec, where: str) -> Array:
    """A value as the array an input takes.

    Numbers are converted only where no value changes its kind (no float to integer); axis 0 may have any size.
    One value per row may be given as [N] or [N, 1]: the graph's shape is the one, Triton's the other.

    Raises:
        DataError: another rank, a fixed axis of another size, or a data type that does not convert.
    """
    array = _array(value, f"{where}: data for input {spec}")
    if len(spec.shape) == 2 and spec.shape[1] == 1 and array.ndim == 1:
        array = array[:, np.newaxis]
    elif len(spec.shape) == 1 and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    wrong = len(array.shape) != len(spec.shape) or any(
        isinstance(dim, int) and dim != size for dim, size in zip(spec.shape[1:], array.shape[1:], strict=True)
    )
    if wrong:
        raise DataError(f"{where}: data for input {spec} have the shape {list(array.shape)}")
    return convert(array, spec.dtype, f"{where}: data for input {spec}")


def convert(array: Array, dtype: DType, what: str) -> Array:
    """An array in a data type, refusing conversions that lose the meaning.

    Raises:
        DataError: text for numbers or numbers for text, floats for integers, values out of range.
    """
    if dtype.name == "BYTES":
        return _texts(array, what)
    target = np.dtype(dtype.numpy)
    if array.dtype == target:
        return array
    if array.dtype.kind not in "biuf" or (array.dtype.kind == "f" and target.kind in "biu" and not dtype.is_float):
        raise DataError(f"{what} are {'text' if array.dtype.kind in 'SU' else array.dtype}; {dtype.name} is needed")
    if dtype.name == "BF16":
        return _bfloat16(array)
    with np.errstate(over="ignore"):
        converted = array.astype(target)
    # a float may be rounded, but not to infinity
    pair = (np.isinf(converted), np.isinf(array)) if dtype.is_float else (converted, array)
    if not np.array_equal(*pair):
        raise DataError(f"{what} have values outside {dtype.name}")
    return converted


def _texts(array: Array, what: str) -> Array:
    if array.dtype.kind not in "OSU":
        raise DataError(f"{what} are {array.dtype}; text is needed")
    out = np.empty(array.size, dtype=object)
    for index, item in enumerate(array.ravel().tolist()):
        if not isinstance(item, str | bytes):
            raise DataError(f"{what} hold {str(item)[:80]!r}, a {type(item).__name__}; text is needed")
        try:
            out[index] = item.encode() if isinstance(item, str) else item
        except UnicodeEncodeError as exc:
            raise DataError(f"{what} hold {item[:80]!a}, which is no text") from exc
    return out.reshape(array.shape)


def _bfloat16(array: Array) -> Array:
    """The upper halves of the values as FP32, rounded to nearest even, as uint16."""
    with np.errstate(over="ignore"):
        bits = array.astype(np.float32).view(np.uint32)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(array), 0x7FC0, rounded).astype(np.uint16)


def random_inputs(
    inputs: Sequence[TensorSpec],
    batch: int,
    *,
    seed: int,
    ranges: Mapping[str, Sequence[int]] | None = None,
    sizes: Mapping[str, int] | None = None,
    default_size: int = 8,
) -> dict[str, Array]:
    """Random values that differ from row to row.

    Args:
        inputs: full shapes; axis 0 is the batch where it is dynamic.
        batch: the size of a dynamic axis 0, and of the other axes with its name.
        seed: equal seeds give equal values.
        ranges: [low, high) of integer inputs by name; default [0, 2).
        sizes: of the other dynamic axes, by axis name.
        default_size: of dynamic axes that `sizes` does not name.
    """
    rng = np.random.default_rng(seed)
    named = dict(sizes or {}) | {
        spec.shape[0]: batch for spec in inputs if spec.shape and isinstance(spec.shape[0], str)
    }
    named.pop("", None)  # axes without a name have nothing in common
    made: dict[str, Array] = {}
    for spec in inputs:
        shape = [_size(dim, axis, batch, named, default_size) for axis, dim in enumerate(spec.shape)]
        low, high = (ranges or {}).get(spec.name, (0, 2))
        made[spec.name] = random_array(rng, spec.dtype, shape, low, high)
    return made


def recorded_inputs(record: Mapping[str, Any], inputs: Sequence[TensorSpec], batch: int, seed: int) -> dict[str, Array]:
    """Random values as a published version's record says the model takes them.

    Args:
        record: with ``ranges`` and ``axis_size`` of the export, or empty.
        inputs: full shapes; axis 0 is the batch where it is dynamic.
        batch: the size of a dynamic axis 0.
        seed: equal seeds give equal values.
    """
    size = int(record.get("axis_size", 8))
    return random_inputs(inputs, batch, seed=seed, ranges=record.get("ranges"), default_size=size)


def _size(dim: int | str, axis: int, batch: int, sizes: Mapping[str, int], default: int) -> int:
    if isinstance(dim, int):
        return dim
    return batch if axis == 0 else sizes.get(dim, default)


def random_array(rng: np.random.Generator, dtype: DType, shape: Sequence[int], low: int = 0, high: int = 2) -> Array:
    """Standard-normal floats, integers in [low, high), short ASCII text, or coin flips."""
    if dtype.name == "BYTES":
        count = int(np.prod(shape, dtype=np.int64))
        words = np.empty(count, dtype=object)
        words[:] = [bytes(rng.integers(97, 123, size=int(rng.integers(1, 9))).astype(np.uint8)) for _ in range(count)]
        return words.reshape(shape)
    if dtype.name == "BOOL":
        return rng.integers(0, 2, size=shape).astype(np.bool_)
    if dtype.is_float:
        return convert(rng.standard_normal(shape).astype(np.float32), dtype, "random values")
    kind: Any = np.dtype(dtype.numpy)
    lowest, highest = int(np.iinfo(kind).min), int(np.iinfo(kind).max)
    low = max(low, lowest)
    return np.asarray(rng.integers(low, max(low + 1, min(high, highest + 1)), size=shape, dtype=kind))
