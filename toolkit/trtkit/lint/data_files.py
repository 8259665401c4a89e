# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Files with a tensor's raw data beside a model: those of warm-ups and of initial states.

Source: Triton core, ``src/backend_model_instance.cc`` and ``src/sequence_batch_scheduler.cc``, ``ReadTextFile``.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from trtkit.dtypes import by_name
from trtkit.lint.model import Model
from trtkit.lint.shapes import type_of
from trtkit.lint.tree import Entry

STRING_BYTES = 4
"""The length that stands before each string; the server also counts so for a type that is not said."""


@dataclass(frozen=True)
class DataFile:
    """A file that a config names.

    Attributes:
        path: from the model directory.
        entry: what is there; None for nothing.
    """

    path: str
    entry: Entry | None

    @property
    def words(self) -> str:
        """Why the server cannot read it, beginning with its own words; '' where it can."""
        if self.entry is None:
            return f"failed to open text file for read {self.path}: No such file or directory"
        if self.entry.kind != "file":
            return f"failed to open text file for read {self.path}: it is a {self.entry.kind}, not a file"
        return ""


def data_file(model: Model, folder: str, name: str) -> DataFile | None:
    """The file that the server would open; None where it leads out of the folder and cannot be judged.

    Args:
        model: whose file it is.
        folder: ``warmup`` or ``initial_state``.
        name: as written; '' leads to the folder.
    """
    path = posixpath.normpath(f"{folder}/{name.removeprefix('/')}")
    if ".." in name.split("/"):
        return None
    return DataFile(path, model.entry(path))


def byte_size(data_type: str, dims: Iterable[int]) -> int:
    """Bytes of one tensor as the server counts them: 4 an element for strings and unknown types."""
    known = data_type.startswith("TYPE_") and data_type != "TYPE_INVALID"
    return math.prod(dims) * ((by_name(data_type).byte_size if known else 0) or STRING_BYTES)


def sizes(file: DataFile | None, tensor: Any) -> tuple[int, int] | None:
    """The bytes that a file has and that its tensor needs; None where that cannot be compared.

    Strings take what the file has, and a missing file or a dimension below zero is another rule's matter.
    """
    if file is None or file.entry is None or file.words or min(tensor.dims, default=0) < 0:
        return None
    given = type_of(tensor)
    return None if given == "TYPE_STRING" else (file.entry.size, byte_size(given, tensor.dims))


def string_problem(data: bytes, count: int) -> str:
    """What is wrong with strings that each have their length before them, 4 bytes, little endian; '' for nothing.

    Args:
        data: the file.
        count: how many strings there have to be.
    """
    at = found = 0
    while at < len(data):
        if found == count:
            return f"unexpected number of string elements {count + 1}, expecting {count}"
        if at + STRING_BYTES > len(data):
            left = len(data) - at
            return f"incomplete string length indicator, expecting 4 bytes but only {left} bytes available"
        length = int.from_bytes(data[at : at + STRING_BYTES], "little")
        at += STRING_BYTES
        if at + length > len(data):
            words = f"incomplete string data, expecting string of length {length} but only"
            return f"{words} {len(data) - at} bytes available"
        at, found = at + length, found + 1
    return "" if found == count else f"expected {count} string elements, got {found}"
