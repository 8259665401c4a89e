# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""One form of a model that takes part in the race."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trtkit.export.onnx_file import external_tensors, read_graph

# what stands further left keeps more of a value; of two that are equally fast it is the better one
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "int8+fp16", "fp8", "fp8+fp16")


@dataclass(frozen=True)
class Candidate:
    """A graph or a plan, or the reason why there is none.

    Attributes:
        name: what tables call it; unique in a race.
        precision: one of `PRECISIONS`.
        file: what would be published; None when it could not be built.
        run_file: a graph that ONNX Runtime's CPU provider runs with the same roundings, to measure the error
            where `file` itself does not run; None means `file`.
        failed: why it could not be built, in one sentence; empty when it was.
        kept: nodes that stay in FP32, with the reason of each.
        notes: sentences a reader has to know.
    """

    name: str
    precision: str
    file: Path | None = None
    run_file: Path | None = None
    failed: str = ""
    kept: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def is_quantized(self) -> bool:
        """Whether its values have 8 bits."""
        return self.precision.startswith(("int8", "fp8"))

    @property
    def rank(self) -> int:
        """Its place in `PRECISIONS`; an unknown precision is behind all."""
        return PRECISIONS.index(self.precision) if self.precision in PRECISIONS else len(PRECISIONS)

    def size_bytes(self) -> int | None:
        """The bytes of the file and of the external data it refers to; None without a file.

        Raises:
            ExportError: an ONNX file that is none.
        """
        if self.file is None:
            return None
        files = {self.file, *(_external_files(self.file) if self.file.suffix == ".onnx" else ())}
        return sum(file.stat().st_size for file in files if file.is_file())

    def to_json(self) -> dict[str, Any]:
        """The form kept in records: file names without their folders, which differ between machines."""
        return {
            "name": self.name,
            "precision": self.precision,
            "file": self.file.name if self.file else None,
            "emulated": self.run_file is not None,
            "failed": self.failed,
            "kept": dict(self.kept),
            "notes": list(self.notes),
        }


def _external_files(file: Path) -> set[Path]:
    entries = (entry for tensor in external_tensors(read_graph(file, file.name)) for entry in tensor.external_data)
    return {file.parent / entry.value for entry in entries if entry.key == "location"}
