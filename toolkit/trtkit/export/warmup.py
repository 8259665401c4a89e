# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Warm-up data for ``model_warmup``: one real row per input, as the exact bytes the server wants."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from trtkit.artifacts import file_errors
from trtkit.numerics import Array
from trtkit.samples import convert
from trtkit.signature import Signature

FOLDER = "warmup"


def write_warmup(folder: Path, signature: Signature, row: Mapping[str, Array], batching: bool) -> dict[str, Any]:
    """Write one request's tensors under ``warmup/``.

    Args:
        folder: the model's folder.
        signature: the model's inputs.
        row: one row (batching) or one whole request, by input name.
        batching: whether `dims` leave the batch out.

    Returns:
        ``dims`` and ``file`` by input name, for config.pbtxt.
    """
    facts: dict[str, Any] = {}
    with file_errors(f"writing warm-up data to {folder}"):
        (folder / FOLDER).mkdir(exist_ok=True)
        for index, spec in enumerate(signature.inputs):
            array = row[spec.name]
            file = f"input_{index}.bin"
            (folder / FOLDER / file).write_bytes(raw_bytes(array))
            dims = list(array.shape[1:] if batching else array.shape)
            facts[spec.name] = {"dims": dims or [1], "file": file}
    return facts


def raw_bytes(array: Array) -> bytes:
    """A tensor in the v2 protocol's binary form: row-major; BYTES elements each after a 4-byte length."""
    if array.dtype.kind == "O":
        return b"".join(struct.pack("<I", len(item)) + item for item in array.ravel().tolist())
    return array.tobytes()


def convert_warmup(folder: Path, before: Signature, now: Signature) -> None:
    """Rewrite the warm-up data of inputs whose floating-point type changed.

    Args:
        folder: the model's folder, with the data in the types of `before`.
        before: the signature they were written for.
        now: the same tensors, some in another type.
    """
    for index, (old, new) in enumerate(zip(before.inputs, now.inputs, strict=True)):
        if old.dtype != new.dtype:
            file = folder / FOLDER / f"input_{index}.bin"
            values = np.frombuffer(file.read_bytes(), old.dtype.numpy)
            file.write_bytes(raw_bytes(convert(values, new.dtype, f"warm-up data for {new}")))


class Tuned(Protocol):
    """The shape that a profile's kernels are chosen for."""

    @property
    def opt(self) -> Sequence[int]:
        """It, batch first."""


def profile_requests(
    signature: Signature, row: Mapping[str, Any], profiles: Sequence[Mapping[str, Tuned]], *, batching: bool
) -> list[dict[str, Any]]:
    """A warm-up request per optimization profile, in the shapes its kernels are chosen for.

    Args:
        signature: the model's inputs.
        row: ``dims`` and ``file`` by input name, as `write_warmup` gives them; empty for no warm-up.
        profiles: shapes by input name; an input with one shape only need not be among them.
        batching: whether `dims` leave the batch out.

    Returns:
        Per profile its ``batch_size``, and ``inputs`` as `row`; files that have to be written get names of their own.
        Nothing where there is no data, or text, which no profile has.
    """
    if not row or any(spec.dtype.name == "BYTES" for spec in signature.inputs):
        return []
    found = []
    for number, profile in enumerate(profiles):
        inputs = {}
        for index, spec in enumerate(signature.inputs):
            opt = profile[spec.name].opt if spec.name in profile else None
            dims = row[spec.name]["dims"] if opt is None else list(opt[1:] if batching else opt) or [1]
            same = dims == row[spec.name]["dims"]
            inputs[spec.name] = {
                "dims": dims,
                "file": row[spec.name]["file"] if same else f"profile_{number}_input_{index}.bin",
            }
        sizes = [profile[spec.name].opt[0] for spec in signature.inputs if spec.name in profile and spec.shape]
        found.append({"batch_size": sizes[0] if batching and sizes else 1, "inputs": inputs})
    return found


def write_profile_requests(
    source: Path, folder: Path, signature: Signature, row: Mapping[str, Any], requests: Sequence[Mapping[str, Any]]
) -> None:
    """Write the data of `profile_requests` beside a copy of the row's: the row repeated, or cut, along each axis.

    Args:
        source: the folder whose ``warmup/`` holds the row, in the types of `signature`.
        folder: receives ``warmup/``.
        signature: the model's inputs.
        row: see `profile_requests`.
        requests: what it gave.
    """
    with file_errors(f"writing warm-up data to {folder}"):
        shutil.copytree(source / FOLDER, folder / FOLDER)
        for request in requests:
            for spec in signature.inputs:
                wanted, known = request["inputs"][spec.name], row[spec.name]
                if wanted["file"] != known["file"]:
                    values = np.frombuffer((source / FOLDER / known["file"]).read_bytes(), spec.dtype.numpy)
                    array = _resized(values.reshape(known["dims"]), wanted["dims"])
                    (folder / FOLDER / wanted["file"]).write_bytes(raw_bytes(array))


def _resized(array: Array, dims: Sequence[int]) -> Array:
    if not array.size:
        return np.zeros(dims, array.dtype)
    return np.ascontiguousarray(
        array[np.ix_(*(np.arange(n) % size for n, size in zip(dims, array.shape, strict=True)))]
    )
