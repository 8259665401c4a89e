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
from trtkit.export.sentences import one_line
from trtkit.numerics import Array

_CPU = "CPUExecutionProvider"
_TYPES: dict[str, np.dtype[Any]] = {
    "tensor(float16)": np.dtype(np.float16), "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64), "tensor(int32)": np.dtype(np.int32), "tensor(int64)": np.dtype(np.int64),
}  # fmt: skip


class Session:
    """An ONNX model on ONNX Runtime, on its CPU provider unless asked otherwise.

    Args:
        model: the file, or the serialized bytes.
        threads: intra-op threads; 0 lets ONNX Runtime take all cores.
        optimize: False runs the graph node by node as it is written, so that every value can be asked for.
        provider: the execution provider; what it does not take runs on the CPU.

    Raises:
        ExportError: ONNX Runtime refuses the model, in its own words, or has not the provider here.
        MissingDependencyError: there is no ONNX Runtime.
    """

    def __init__(self, model: Path | bytes, threads: int = 0, *, optimize: bool = True, provider: str = _CPU) -> None:
        ort = compat.onnxruntime()
        if provider not in ort.get_available_providers():
            raise ExportError(f"this ONNX Runtime has no {provider}; it has {', '.join(ort.get_available_providers())}")
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        if not optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session = ort.InferenceSession(
                model if isinstance(model, bytes) else str(model),
                options,
                providers=list(dict.fromkeys((provider, _CPU))),
            )
        except Exception as exc:  # ONNX Runtime's exceptions have no public base class
            raise ExportError(f"ONNX Runtime {ort.__version__} refuses the model: {one_line(exc)}") from exc
        if self._session.get_providers()[0] != provider:  # it falls back without a word
            raise ExportError(f"ONNX Runtime cannot start {provider} here and would run the model on the CPU instead")
        self.output_names: list[str] = [output.name for output in self._session.get_outputs()]

    @property
    def input_ranks(self) -> dict[str, int]:
        """The number of axes of each input, the batch included."""
        return {tensor.name: len(tensor.shape) for tensor in self._session.get_inputs()}

    @property
    def output_types(self) -> dict[str, str]:
        """ONNX Runtime's own name of each output's type, e.g. ``tensor(float)``."""
        return {output.name: output.type for output in self._session.get_outputs()}

    @property
    def output_sizes(self) -> dict[str, list[int | None]]:
        """The sizes of each output's axes as ONNX Runtime infers them; None for a dynamic one."""
        tensors = self._session.get_outputs()
        return {t.name: [dim if isinstance(dim, int) else None for dim in t.shape] for t in tensors}

    def cast(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs with numbers in the types that this graph takes, where those differ in size only."""
        wanted = {tensor.name: _TYPES.get(tensor.type) for tensor in self._session.get_inputs()}
        return {name: _as(array, wanted.get(name)) for name, array in inputs.items()}

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Outputs by name for full input arrays (batch included); BYTES as arrays of bytes on both sides.

        Raises:
            ExportError: ONNX Runtime could not run it, in its own words.
        """
        names = list(self.output_names if outputs is None else outputs)
        if not names:
            return {}  # ONNX Runtime takes an empty list for all of them
        try:
            answers: list[Any] = self._session.run(names, {name: _text(array) for name, array in inputs.items()})
            return {name: _bytes(np.asarray(answer)) for name, answer in zip(names, answers, strict=True)}
        except Exception as exc:
            raise ExportError(f"ONNX Runtime cannot run the model on {_shapes(inputs)}: {one_line(exc)}") from exc


def _as(array: Array, wanted: np.dtype[Any] | None) -> Array:
    return array.astype(wanted) if wanted is not None and array.dtype.kind == wanted.kind else array


def _shapes(inputs: Mapping[str, Array]) -> str:
    return ", ".join(f"{name}{list(array.shape)}" for name, array in inputs.items()) or "no inputs"


def _text(array: Array) -> Array:
    """BYTES as ONNX Runtime takes them: as str, because it would turn bytes objects into their ``repr``.

    Where one element is no UTF-8 all become bytes of one width, each of which it takes up to the first zero
    byte, reading on into the next where there is none.
    """
    if array.dtype.kind not in "OS":
        return array
    items = array.ravel().tolist()
    try:
        return _objects([i.decode() if isinstance(i, bytes) else i for i in items], array.shape)
    except UnicodeDecodeError:
        raw = [i if isinstance(i, bytes) else str(i).encode() for i in items]
        return np.array(raw, dtype=f"S{max(map(len, raw)) + 1}").reshape(array.shape)


def _bytes(array: Array) -> Array:
    if array.dtype.kind not in "OU":
        return array
    return _objects([i.encode() if isinstance(i, str) else i for i in array.ravel().tolist()], array.shape)


def _objects(items: list[Any], shape: tuple[int, ...]) -> Array:
    out = np.empty(len(items), dtype=object)
    out[:] = items
    return out.reshape(shape)
