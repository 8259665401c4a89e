# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Requests from people's files: JSON, .npy, .npz, text and images become the rows a served model takes."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trtkit.errors import DataError, nearest
from trtkit.numerics import Array
from trtkit.samples import convert, read_npz
from trtkit.server import Client
from trtkit.signature import Signature, TensorSpec

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


@dataclass(frozen=True)
class Answer:
    """What a model answered.

    Attributes:
        outputs: arrays by output name, the rows of all requests together.
        labels: the best label of each row, for outputs with a labels file.
        seconds: the time of all requests, one after the other.
    """

    outputs: dict[str, Array]
    labels: dict[str, list[str]]
    seconds: float


def infer_rows(client: Client, model: str, inputs: Mapping[str, Array]) -> Answer:
    """Send rows in requests of at most the model's max_batch_size and join the answers.

    Args:
        client: a connection.
        model: a ready model.
        inputs: full arrays (batch first when the model batches).
    """
    config = client.config(model)
    batch = config.max_batch_size
    count = len(next(iter(inputs.values()))) if batch and inputs else 1
    starts = range(0, count, batch) if batch else range(1)
    requests = [{n: a[i : i + batch] if batch else a for n, a in inputs.items()} for i in starts]
    started = time.perf_counter()
    answers = [client.infer(model, request) for request in requests]
    seconds = time.perf_counter() - started
    names = [output.name for output in config.output if output.name in answers[0]]
    outputs = {name: np.concatenate([a[name] for a in answers]) if batch else answers[0][name] for name in names}
    labelled = [output.name for output in config.output if output.label_filename]
    labels = {name: [label for r in requests for label in client.classify(model, r, name)] for name in labelled}
    return Answer(outputs, labels, seconds)


def read_inputs(
    signature: Signature, batching: bool, data: Path | None, given: Sequence[str], files: Sequence[Path]
) -> dict[str, Array]:
    """The inputs that the command line named, as full arrays.

    Args:
        signature: the model's inputs, full shapes.
        batching: whether axis 0 is the batch.
        data: a .json or .npz file with several inputs.
        given: ``NAME=VALUE``: a file, a folder of images, JSON, or text for a BYTES input.
        files: files for the model's only input, one row each.

    Raises:
        DataError: what was given does not fit, naming the input.
    """
    specs = {spec.name: spec for spec in signature.inputs}
    values: dict[str, Any] = dict(_read_data(data)) if data else {}
    for pair in given:
        name, separator, text = pair.partition("=")
        if not separator:
            raise DataError(
                f"--input '{pair}' is no NAME=VALUE; the inputs are {', '.join(map(str, signature.inputs))}"
            )
        values[name] = text
    if files:
        if len(specs) != 1:
            raise DataError(
                f"files without a name need a model with one input; name them: --input NAME=FILE, {nearest('', specs)}"
            )
        values[next(iter(specs))] = list(files)
    for name in values:
        if name not in specs:
            raise DataError(f"'{name}' is no input of the model; {nearest(name, specs)}")
    missing = [str(spec) for name, spec in specs.items() if name not in values]
    if missing:
        raise DataError(
            f"no data for input {missing[0]}; pass --input {missing[0].split()[0]}=…, --data FILE, or --random"
        )
    arrays = {name: _array(value, specs[name], batching) for name, value in values.items()}
    rows = {name: len(array) for name, array in arrays.items()} if batching else {}
    if len(set(rows.values())) > 1:
        raise DataError(f"the inputs have different numbers of rows: {rows}")
    return arrays


def _read_data(file: Path) -> Mapping[str, Any]:
    if file.suffix == ".npz":
        return read_npz(file, "--data")[0]
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise DataError(f"--data {file} cannot be read as JSON or .npz: {exc}") from exc
    if isinstance(value, dict) and isinstance(value.get("inputs"), list):  # a v2 protocol request
        return {
            row["name"]: np.asarray(row["data"], dtype=object).reshape(row["shape"]).tolist() for row in value["inputs"]
        }
    if not isinstance(value, dict):
        raise DataError(f'--data {file}: expected an object with one value per input, e.g. {{"x": [[1, 2]]}}')
    return value


def _array(value: Any, spec: TensorSpec, batching: bool) -> Array:
    """One input's value as the full array the model takes; a single row gets its batch axis."""
    if isinstance(value, list) and value and isinstance(value[0], Path):
        array = np.stack([_row_of_file(file, spec, batching) for file in value])
        array = array if batching else array[0]
    elif isinstance(value, str):
        array = _from_text(value, spec, batching)
    else:
        array = _from_json(value, spec)
    if batching and array.ndim == len(spec.shape) - 1:
        array = array[np.newaxis]
    return _checked(array, spec)


def _checked(array: Array, spec: TensorSpec) -> Array:
    fits = array.ndim == len(spec.shape) and all(
        not isinstance(dim, int) or dim == size for dim, size in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        raise DataError(f"data for input {spec} have the shape {list(array.shape)}")
    return convert(array, spec.dtype, f"data for input {spec}")


def _from_json(value: Any, spec: TensorSpec) -> Array:
    try:
        return np.asarray(value, dtype=object if spec.dtype.name == "BYTES" else None)
    except ValueError as exc:
        raise DataError(f"data for input {spec} are ragged: every row needs the same length") from exc


def _from_text(text: str, spec: TensorSpec, batching: bool) -> Array:
    """A file or folder of that name, else JSON, else the text itself for a BYTES input."""
    path = Path(text)
    if _exists(path):
        if path.suffix == ".npy":
            return _read_npy(path)
        if path.suffix == ".json":
            return _from_json(_read_json(path), spec)
        if path.suffix == ".txt":
            return _lines(path, spec, batching)
        found = sorted(f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES) if path.is_dir() else [path]
        if not found:
            raise DataError(f"{path} holds no images ({', '.join(IMAGE_SUFFIXES)})")
        rows = [_row_of_file(file, spec, batching) for file in found]
        return np.stack(rows) if batching else rows[0]
    try:
        return _from_json(json.loads(text), spec)
    except json.JSONDecodeError as exc:
        if spec.dtype.name != "BYTES":
            raise DataError(f"'{text[:80]}' for input {spec} is neither a file nor JSON") from exc
    rank = len(spec.shape) - (1 if batching else 0)
    return np.array(text.encode(), dtype=object).reshape((1,) * rank)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # JSON text may be longer than a file name can be
        return False


def _read_npy(path: Path) -> Array:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError) as exc:
        raise DataError(f"{path} cannot be read as .npy: {exc}") from exc


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise DataError(f"{path} cannot be read as JSON: {exc}") from exc


def _lines(path: Path, spec: TensorSpec, batching: bool) -> Array:
    if spec.dtype.name != "BYTES":
        raise DataError(f"{path} is text; input {spec} takes numbers")
    lines = path.read_bytes().splitlines()
    array = np.empty(len(lines), dtype=object)
    array[:] = lines
    rank = len(spec.shape) - (1 if batching else 0)
    return array.reshape((-1, *(1,) * rank)) if batching else array.reshape((-1, *(1,) * (rank - 1)))


def _row_of_file(file: Path, spec: TensorSpec, batching: bool) -> Array:
    """One file as one row: its bytes for a BYTES input; an image's pixel values 0 to 255 for a numeric one."""
    if not file.is_file():
        raise DataError(f"there is no file {file}")
    dims = list(spec.dims[1:] if batching else spec.dims)
    if spec.dtype.name == "BYTES":
        return np.array(file.read_bytes(), dtype=object).reshape((1,) * len(dims))
    if file.suffix == ".npy":
        return _read_npy(file)
    return _pixels(file, dims, spec)


def _pixels(file: Path, dims: list[int], spec: TensorSpec) -> Array:
    from PIL import Image, UnidentifiedImageError

    channels_first = len(dims) == 3 and dims[0] in (1, 3)
    channels = dims[0] if channels_first else dims[-1] if len(dims) == 3 else 1
    height, width = (dims[1:] if channels_first else dims[:2]) if len(dims) in (2, 3) else (0, 0)
    if channels not in (1, 3) or not height:
        raise DataError(
            f"{file} is an image; input {spec} has no image's shape (H W, C H W or H W C with 1 or 3 channels)"
        )
    try:
        with Image.open(io.BytesIO(file.read_bytes())) as image:
            plain = image.convert("L" if channels == 1 else "RGB")
        scaled = plain.resize((width, height)) if height > 0 and width > 0 else plain
        pixels = np.asarray(scaled, dtype=np.float32)
    except (OSError, UnidentifiedImageError) as exc:
        raise DataError(f"{file} cannot be read as an image: {exc}") from exc
    if len(dims) == 2:
        return pixels
    pixels = pixels[..., np.newaxis] if channels == 1 else pixels
    return pixels.transpose(2, 0, 1) if channels_first else pixels
