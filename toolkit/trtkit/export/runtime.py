# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime in this process: the reference that everything served is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trtkit import compat
from trtkit.errors import ExportError
from trtkit.numerics import Array


class Session:
    """An ONNX model on ONNX Runtime's CPU provider.

    Args:
        model: the file, or the serialized bytes.
        threads: intra-op threads; 0 lets ONNX Runtime take all cores.

    Raises:
        ExportError: ONNX Runtime refuses the model, in its own words.
        MissingDependencyError: there is no ONNX Runtime.
    """

    def __init__(self, model: Path | bytes, threads: int = 0) -> None:
        ort = compat.onnxruntime()
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        try:
            self._session = ort.InferenceSession(
                model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
            )
        except Exception as exc:  # ONNX Runtime's exceptions have no public base class
            raise ExportError(f"ONNX Runtime {ort.__version__} refuses the model: {_one_line(exc)}") from exc
        self.output_names: list[str] = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Outputs by name for full input arrays (batch included); BYTES as arrays of bytes on both sides.

        Raises:
            ExportError: ONNX Runtime could not run it, in its own words.
        """
        feeds = {name: _text(array) for name, array in inputs.items()}
        names = list(outputs or self.output_names)
        try:
            answers: list[Any] = self._session.run(names, feeds)
        except Exception as exc:
            raise ExportError(
                f"ONNX Runtime cannot run the model on {_shapes(inputs)}: {_one_line(exc)}"
            ) from exc
        return {name: _bytes(np.asarray(answer)) for name, answer in zip(names, answers, strict=True)}


def _one_line(exc: BaseException) -> str:
    return " ".join(str(exc).split())[:600]


def _shapes(inputs: Mapping[str, Array]) -> str:
    return ", ".join(f"{name}{list(array.shape)}" for name, array in inputs.items())


def _text(array: Array) -> Array:
    if array.dtype.kind not in "OS":
        return array
    items = [
        item.decode("utf-8", "surrogateescape") if isinstance(item, bytes) else item for item in array.ravel()
    ]
    out = np.empty(len(items), dtype=object)
    out[:] = items
    return out.reshape(array.shape)


def _bytes(array: Array) -> Array:
    if array.dtype.kind not in "OU":
        return array
    items = [
        item.encode("utf-8", "surrogateescape") if isinstance(item, str) else item
        for item in array.ravel().tolist()
    ]
    out = np.empty(len(items), dtype=object)
    out[:] = items
    return out.reshape(array.shape)
