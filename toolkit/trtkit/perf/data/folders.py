# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Requests from folders: images, texts, and perf_analyzer's one raw file for each input."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trtkit.dtypes import by_name
from trtkit.errors import DataError, TrtkitError, nearest
from trtkit.inference import IMAGE_SUFFIXES, read_inputs
from trtkit.numerics import Array
from trtkit.perf.data.pool import Pool, Request, array_bytes, one_stream
from trtkit.perf.data.shapes import Shapes, fitted
from trtkit.perf.data.tensor_values import from_raw
from trtkit.perf.data.workload import check_batch_size, input_specs, max_batch_size, output_specs, required_inputs
from trtkit.samples import convert, one_line
from trtkit.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from trtkit.perf.server.control import ModelDescription

MOST_BYTES = 512 * 2**20
"""What a folder's data may take; further files are left out, and `Pool.origin` says so."""


def image_pool(
    folder: Path, description: ModelDescription, *, batch_size: int = 1, shapes: Shapes | None = None
) -> Pool:
    """The images of a folder, by name; each is one sample of the model's only input.

    A BYTES input gets the files as they are. A numeric one gets the pixels from 0 to 255 in its data type and
    layout (H W, C H W or H W C with 1 or 3 channels), scaled to its height and width, or to those of `shapes`.

    Args:
        folder: with at least one image; a single image file is a folder of one.
        description: what the server says about the model.
        batch_size: samples in one request; the last request is filled up with the first images.
        shapes: sizes for dynamic axes; without them images keep their own size.

    Raises:
        DataError: no image, a file that is none, or a model that takes no image.
        ProjectError: a batch size the model does not take.
    """
    files = _files(folder, lambda file: file.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise DataError(f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    spec, batching = _only_input(description, batch_size, folder)
    spec = _with_sizes(spec, shapes or Shapes(), batching)
    rows = (_image(file, spec, batching) for file in files)
    return _pool(description, spec, _within(rows), batch_size, str(folder), len(files), "images")


def _image(file: Path, spec: TensorSpec, batching: bool) -> Array:
    kind = spec.dtype if spec.dtype.name == "BYTES" else by_name("FP32")  # pixels are whole numbers in any type
    read = TensorSpec(spec.name, kind, spec.shape)
    try:
        array = read_inputs(Signature((read,), ()), batching, None, (), [file])[spec.name]
    except TrtkitError:
        raise
    except Exception as exc:  # Pillow has no common class for damaged files and for those that are too large
        raise DataError(f"{file} cannot be read: {one_line(exc)}") from exc
    pixels = array.astype(np.int64) if np.dtype(spec.dtype.numpy).kind in "iu" and not spec.dtype.is_float else array
    return convert(pixels, spec.dtype, f"{file}: the pixels for input {spec}")


def text_pool(path: Path, description: ModelDescription, *, batch_size: int = 1, shapes: Shapes | None = None) -> Pool:
    """Texts for the model's only input, which takes BYTES: each line of a file, or each file of a folder by name.

    An input with several elements in a sample takes as many texts for each.

    Args:
        path: a file of UTF-8 (or any other) bytes, without its empty lines; or a folder of files.
        description: what the server says about the model.
        batch_size: samples in one request; the last request is filled up with the first texts.
        shapes: sizes for dynamic axes; 1 without.

    Raises:
        DataError: no text, or a model that takes no text.
        ProjectError: a batch size the model does not take.
    """
    spec, batching = _only_input(description, batch_size, path)
    if spec.dtype.name != "BYTES":
        raise DataError(f"{path} is text; input {spec} takes numbers")
    files = _files(path, lambda file: not file.name.startswith("."))
    try:
        is_folder = path.is_dir()
        texts = [file.read_bytes() for file in files] if is_folder else _lines(path)
    except OSError as exc:
        raise DataError(f"{path} cannot be read: {exc.strerror}") from exc
    if not texts:
        raise DataError(f"{path} holds no text; give one in each line, or one in each file of a folder")
    first = 1 if batching else 0
    sized = _with_sizes(spec, shapes or Shapes(), batching)
    dims = [1 if dim < 0 else dim for dim in sized.dims[first:]]
    each = math.prod(dims)
    groups = ([texts[(start + at) % len(texts)] for at in range(each)] for start in range(0, len(texts), each))
    rows = (_text_array(group, [*([1] * first), *dims]) for group in groups)
    return _pool(description, sized, _within(rows), batch_size, str(path), -(-len(texts) // each), "texts")


def raw_pool(folder: Path, description: ModelDescription, *, batch_size: int = 1, shapes: Shapes | None = None) -> Pool:
    """perf_analyzer's directory: a file for each input, with its name and the data of one sample.

    Numbers are in binary, little endian and row-major; BYTES are lines of text, one element each. Files named as
    outputs hold the expected answer. The sample is repeated to fill a batch.

    Args:
        folder: without any other file.
        description: what the server says about the model.
        batch_size: samples in one request.
        shapes: sizes for dynamic axes.

    Raises:
        DataError: a file that belongs to no tensor, none for an input, or of another size.
        ProjectError: a batch size the model does not take.
    """
    metadata, config = description
    check_batch_size(metadata, config, batch_size)
    inputs, outputs = input_specs(metadata), output_specs(metadata)
    files = {file.name: file for file in _files(folder, lambda _: True)}
    for name in files:
        if name not in inputs and name not in outputs:
            raise DataError(
                f"{folder}: file '{name}' is named as no input or output; {nearest(name, [*inputs, *outputs])}"
            )
    missing = [name for name in required_inputs(metadata, config) if name not in files]
    if missing:
        raise DataError(f"{folder} has no file '{missing[0]}', for input {inputs[missing[0]]}")
    batch = max_batch_size(config) and batch_size
    drawn = (shapes or Shapes()).draw(
        np.random.default_rng(0), inputs, min(batch, 1), [name for name in files if name in inputs]
    )
    rows = {name: _raw(files[name], inputs[name], sizes, batch) for name, sizes in drawn.items()}
    expected = {name: _raw(files[name], outputs[name], None, batch) for name in files if name in outputs}
    request = Request(str(metadata.get("name", "")), "", rows, expected=expected or None)
    return one_stream([request], str(folder))


def _raw(file: Path, spec: TensorSpec, sizes: Sequence[int] | None, batch: int) -> Array:
    try:
        raw = file.read_bytes()
    except OSError as exc:
        raise DataError(f"{file} cannot be read: {exc.strerror}") from exc
    if not raw:
        raise DataError(f"{file} is empty")
    if spec.dtype.name == "BYTES":
        flat = _text_array(raw.removesuffix(b"\n").split(b"\n"), [-1])
    else:
        flat = from_raw(str(file), raw, spec)
    dims = list(spec.dims[1:] if batch else spec.dims) if sizes is None else list(sizes)
    if dims.count(-1) == 1:
        dims = [flat.size // max(1, -math.prod(dims)) if dim < 0 else dim for dim in dims]
    if math.prod(dims) != flat.size or -1 in dims:
        given = f"{flat.size} lines" if spec.dtype.name == "BYTES" else f"{len(raw)} bytes"
        raise DataError(f"{file} has {given} for {spec}, which needs {dims} elements of {spec.dtype.name}")
    sample = flat.reshape(dims)
    return np.stack([sample] * batch) if batch else sample


def _files(folder: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    try:
        found = sorted(folder.iterdir()) if folder.is_dir() else [folder]
    except OSError as exc:
        raise DataError(f"{folder} cannot be read: {exc.strerror}") from exc
    return [file for file in found if file.is_file() and wanted(file)]


def _lines(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().splitlines() if line]


def _text_array(texts: list[bytes], shape: list[int]) -> Array:
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array.reshape(shape)


def _only_input(description: ModelDescription, batch_size: int, path: Path) -> tuple[TensorSpec, bool]:
    metadata, config = description
    check_batch_size(metadata, config, batch_size)
    specs, required = input_specs(metadata), required_inputs(metadata, config)
    names = required or list(specs)
    if len(names) != 1:
        raise DataError(
            f"{path} is data for one input; the model has {', '.join(str(specs[name]) for name in names) or 'none'}: "
            "give a JSON or .npz file with all of them"
        )
    return specs[names[0]], max_batch_size(config) > 0


def _with_sizes(spec: TensorSpec, shapes: Shapes, batching: bool) -> TensorSpec:
    """The input with its dynamic axes fixed where `shapes` says so; one draw for all samples."""
    if not shapes:
        return spec
    first = 1 if batching else 0
    drawn = shapes.draw(np.random.default_rng(0), {spec.name: spec}, first, shapes.names)
    sizes = fitted(spec, first, drawn[spec.name])
    return TensorSpec(spec.name, spec.dtype, (*spec.shape[:first], *sizes))


def _within(rows: Iterable[Array]) -> Iterator[Array]:
    """The rows, as long as they fit in `MOST_BYTES`."""
    total = 0
    for row in rows:
        total += array_bytes(row)
        if total > MOST_BYTES:
            return
        yield row


def _pool(
    description: ModelDescription,
    spec: TensorSpec,
    rows: Iterable[Array],
    batch_size: int,
    origin: str,
    available: int,
    what: str,
) -> Pool:
    samples = list(rows)
    if not samples:
        raise DataError(f"{origin}: a single one of the {what} is larger than {MOST_BYTES >> 20} MiB")
    if len(samples) < available:
        origin = f"{origin} (the first {len(samples)} of {available} {what})"
    model = str(description.metadata.get("name", ""))
    starts = range(0, len(samples), batch_size)
    batches = (list(islice(_round(samples, start), batch_size)) for start in starts)
    return one_stream([Request(model, "", {spec.name: _joined(rows, origin, spec)}) for rows in batches], origin)


def _round(samples: list[Array], start: int) -> Iterator[Array]:
    while True:
        yield from samples[start:]
        start = 0


def _joined(rows: list[Array], origin: str, spec: TensorSpec) -> Array:
    if len(rows) == 1:
        return rows[0]
    other = next((row for row in rows if row.shape != rows[0].shape), None)
    if other is not None:
        raise DataError(
            f"{origin}: samples of the shapes {list(rows[0].shape[1:])} and {list(other.shape[1:])} cannot be in one "
            f"batch; give --shape {spec.name}:SIZE,…, or batch size 1"
        )
    return np.concatenate(rows)
