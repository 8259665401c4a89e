# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The pool of requests for what the user named: ``zero``, ``random``, a file, a folder, or the project's samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trtkit.errors import DataError, TrtkitError
from trtkit.inference import IMAGE_SUFFIXES
from trtkit.numerics import Array
from trtkit.perf.data.folders import image_pool, raw_pool, text_pool
from trtkit.perf.data.generated import Values, random_pool, zero_pool
from trtkit.perf.data.input_data import input_data_pool
from trtkit.perf.data.pool import Pool, Request, joined, one_stream
from trtkit.perf.data.shapes import Shapes
from trtkit.perf.data.trace import Payload, Trace
from trtkit.perf.data.workload import batches, checked, input_specs, max_batch_size, output_specs
from trtkit.samples import LABELS, calibration_samples, convert, evaluation_samples, one_line, read_npz

if TYPE_CHECKING:
    from trtkit.perf.server.control import ModelDescription
    from trtkit.project import Project


@dataclass(frozen=True)
class DataOptions:
    """How requests are made of data.

    Attributes:
        batch_size: samples in one request.
        shapes: sizes of dynamic axes.
        values: what random values are.
        count: how many random requests; None for as many as seem good.
        seed: of all that is drawn.
    """

    batch_size: int = 1
    shapes: Shapes = field(default_factory=Shapes)
    values: Values = field(default_factory=Values)
    count: int | None = None
    seed: int = 0


def make_pool(sources: Sequence[str], description: ModelDescription, options: DataOptions | None = None) -> Pool:
    """The requests of what ``--input-data`` was given.

    Args:
        sources: ``random`` (also when empty), ``zero``, or paths: a .json file in perf_analyzer's format, .npz,
            .npy, an image, any other file as lines of text; a folder with a file for each input, of images, or of
            texts. Several follow each other.
        description: what the server says about the model.
        options: how requests are made of them.

    Raises:
        DataError: a path that is not there, or data that do not fit the model.
        ProjectError: a batch size the model does not take.
    """
    options = options or DataOptions()
    pools = []
    for is_json, group in groupby(sources or ["random"], lambda source: source.endswith(".json")):
        if is_json:  # batches go on from one file to the next
            paths = [_path(source) for source in group]
            pools.append(input_data_pool(paths, description, batch_size=options.batch_size, shapes=options.shapes))
        else:
            pools += [_one(source, description, options) for source in group]
    return joined(pools)


def _one(source: str, description: ModelDescription, options: DataOptions) -> Pool:
    size, shapes = options.batch_size, options.shapes
    if source == "random":
        return random_pool(
            description,
            batch_size=size,
            shapes=shapes,
            values=options.values,
            count=options.count,
            seed=options.seed,
        )
    if source == "zero":
        return zero_pool(description, batch_size=size, shapes=shapes, string=options.values.string or b"")
    path = _path(source)
    if path.suffix in (".npz", ".npy"):
        return array_pool(path, description, batch_size=size)
    return _maker(path, description)(path, description, batch_size=size, shapes=shapes)


def _path(source: str) -> Path:
    try:
        exists = Path(source).exists()
    except (OSError, ValueError):  # longer than a name can be, or with a zero byte
        exists = False
    if not exists:
        raise DataError(f"--input-data: there is no file or folder '{source:.200}'; give random, zero, or a path")
    return Path(source)


def _maker(path: Path, description: ModelDescription) -> Any:
    if path.is_file():
        return image_pool if path.suffix.lower() in IMAGE_SUFFIXES else text_pool
    try:
        files = [file for file in path.iterdir() if file.is_file()]
    except OSError as exc:
        raise DataError(f"{path} cannot be read: {exc.strerror}") from exc
    if {file.name for file in files} & input_specs(description.metadata).keys():
        return raw_pool
    return image_pool if any(file.suffix.lower() in IMAGE_SUFFIXES for file in files) else text_pool


def array_pool(path: Path, description: ModelDescription, *, batch_size: int = 1) -> Pool:
    """The rows of an .npz file with an array for each input, or of an .npy file for the model's only input.

    Arrays of an .npz file named as outputs are the expected answers, row by row.

    Args:
        path: axis 0 of each array counts the samples.
        description: what the server says about the model.
        batch_size: samples in one request; the last request is filled up with the first samples.

    Raises:
        DataError: the file cannot be read, or does not fit the model.
        ProjectError: a batch size the model does not take.
    """
    arrays = _read_arrays(path, description)
    outputs = output_specs(description.metadata)
    inputs = input_specs(description.metadata)
    expected = {name: array for name, array in arrays.items() if name in outputs and name not in inputs}
    given = {name: array for name, array in arrays.items() if name not in expected}
    return rows_pool(given, description, batch_size=batch_size, origin=str(path), expected=expected)


def _read_arrays(path: Path, description: ModelDescription) -> dict[str, Array]:
    inputs = input_specs(description.metadata)
    if path.suffix == ".npz":
        arrays, labels = read_npz(path, "--input-data")
        return arrays | ({LABELS: labels} if labels is not None and LABELS in inputs else {})
    if len(inputs) != 1:
        raise DataError(f"{path} is one array; the model has {', '.join(map(str, inputs.values()))}: give an .npz file")
    try:
        return {next(iter(inputs)): np.asarray(np.load(path, allow_pickle=False))}
    except (OSError, ValueError, EOFError) as exc:
        raise DataError(f"{path} cannot be read as .npy: {one_line(exc)}") from exc


def rows_pool(
    rows: Mapping[str, Any],
    description: ModelDescription,
    *,
    batch_size: int = 1,
    origin: str,
    expected: Mapping[str, Array] | None = None,
) -> Pool:
    """Rows of data in requests of `batch_size`, in their order.

    Args:
        rows: one array for each input; axis 0 counts the samples.
        description: what the server says about the model.
        batch_size: samples in one request; the last request is filled up with the first samples.
        origin: where the data are from.
        expected: the expected outputs of each row.

    Raises:
        DataError: names, shapes or data types that the model does not take, or unequal numbers of samples.
        ProjectError: a batch size the model does not take.
    """
    metadata, config = description
    made = batches(rows, metadata, config, batch_size)
    total = len(next(iter(rows.values())))
    answers = {name: _answers(name, array, description, total) for name, array in (expected or {}).items()}
    model = str(metadata.get("name", ""))
    requests = []
    for number, inputs in enumerate(made):
        at = np.arange(number * batch_size, (number + 1) * batch_size) % total
        own = {name: array[at if keeps_axis else at[0]] for name, (array, keeps_axis) in answers.items()}
        requests.append(Request(model, "", inputs, expected=own or None))
    return one_stream(requests, origin)


def _answers(name: str, array: Array, description: ModelDescription, total: int) -> tuple[Array, bool]:
    """The expected output in the model's data type, and whether a request's has the axis that counts the samples."""
    spec = output_specs(description.metadata)[name]
    if array.ndim == 0 or len(array) != total:
        raise DataError(f"the expected output '{name}' has the shape {list(array.shape)}; there are {total} samples")
    keeps_axis = max_batch_size(description.config) > 0 or array.ndim == len(spec.shape)
    return convert(array, spec.dtype, f"the expected output {spec}"), keeps_axis


def project_pool(
    project: Project, model: str, description: ModelDescription, *, batch_size: int = 1, calibration: bool = False
) -> Pool | None:
    """The samples of a model's ``evaluate:`` block, or of ``calibration:``.

    Args:
        project: the project.
        model: the model's name in the project file.
        description: what the server says about the model.
        batch_size: samples in one request.
        calibration: whether to take the calibration set.

    Returns:
        None when the model has no ``evaluate:`` block.

    Raises:
        DataError: the data do not fit, or there is no calibration set where it is asked for.
        ExportError: the user's callable raised.
        ProjectError: a batch size the model does not take.
    """
    inputs = list(input_specs(description.metadata).values())
    samples = calibration_samples(project, model, inputs) if calibration else evaluation_samples(project, model, inputs)
    if samples is None:
        return None
    return rows_pool(samples.inputs, description, batch_size=batch_size, origin=samples.origin)


def trace_pool(
    trace: Trace, own: Pool, describe: Callable[[str], ModelDescription], options: DataOptions | None = None
) -> tuple[Pool, list[int]]:
    """What a trace sends, and for each of its rows the number of the request in that pool.

    Args:
        trace: the rows.
        own: the run's own requests, for rows that name one of them, or nothing.
        describe: what the server says about a model; asked once for each model that the trace names.
        options: for rows with a shape, or with another model: how random requests are made.

    Raises:
        DataError: a file that cannot be read, or data or a shape that do not fit its model.
        ModelUnavailableError: from `describe`.
    """
    if not trace.payloads:
        return own, trace.in_pool(len(own))
    options = options or DataOptions()
    home = own.requests[0].model
    models = {payload.model or home for payload in trace.payloads if payload.model or payload.path or payload.shapes}
    known = {model: describe(model) for model in sorted(models)}
    requests = [_of_row(payload, own, known, options) for payload in trace.payloads]
    return one_stream(requests, trace.origin), trace.indexes.tolist()


def _of_row(payload: Payload, own: Pool, known: Mapping[str, ModelDescription], options: DataOptions) -> Request:
    home = own.requests[0].model
    model = payload.model or home
    if payload.path is not None:
        return _recorded(payload.path, known[model])
    if payload.number is not None and model != home:
        raise DataError(f"a row of the trace names request {payload.number} for '{model}'; the pool is for '{home}'")
    if model == home and not payload.shapes:
        return own.requests[(payload.variant if payload.number is None else payload.number) % len(own)]
    return random_pool(
        known[model],
        batch_size=options.batch_size,
        shapes=Shapes.parse(payload.shapes),
        values=options.values if model == home else None,
        count=1,
        seed=options.seed + payload.variant,
    ).requests[0]


def _recorded(path: Path, description: ModelDescription) -> Request:
    """The request of an .npz file; its arrays may be without the batch axis."""
    metadata, config = description
    arrays = _read_arrays(path, description)
    specs = input_specs(metadata)
    if max_batch_size(config):
        lacking = all(name in specs and array.ndim == len(specs[name].shape) - 1 for name, array in arrays.items())
        arrays = {name: array[np.newaxis] if lacking else array for name, array in arrays.items()}
    sizes = [len(array) if array.ndim else 0 for array in arrays.values()]
    try:
        inputs = checked([arrays], metadata, config, sizes[0] if max_batch_size(config) and sizes else 1)[0]
    except TrtkitError as exc:
        raise DataError(f"{path}: {exc}") from exc
    return Request(str(metadata.get("name", "")), "", inputs)
