# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Warm-up data for ``model_warmup``: one real row per input, as the exact bytes the server wants."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
