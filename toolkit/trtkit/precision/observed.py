# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A graph whose inner tensors can be looked at while it runs, a few at a time so that memory stays bounded."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

import onnx

from trtkit.artifacts import file_errors
from trtkit.errors import DataError, ExportError
from trtkit.export.graph_signature import tensor_specs
from trtkit.export.onnx_file import external_tensors, read_graph
from trtkit.export.runtime import Session
from trtkit.numerics import Array
from trtkit.precision.calibration_data import Request
from trtkit.precision.graph_edit import producers

# values of inner tensors that are held at once, as far as one tensor's do not exceed it
_BUDGET_BYTES = 256 << 20
# tensors asked for at first, while their sizes are not known; twice as many each time they turn out to be small
_PROBED = 4


class Observed:
    """A model with some of its inner tensors as additional outputs; a context manager.

    Args:
        model_file: the graph; external data are found beside it.
        tensors: inputs and inner values, in the order in which `values` gives them.
        where: for messages.

    Attributes:
        inputs: the model's inputs by name.

    Raises:
        DataError: the graph has no such tensor.
        ExportError: the graph cannot be read or run.
    """

    def __init__(self, model_file: Path, tensors: Sequence[str], where: str) -> None:
        model = read_graph(model_file, where)
        self.inputs = {spec.name: spec for spec in tensor_specs(model.graph.input, "input", where)}
        self._where, self._makers = where, producers(model.graph)
        self._tensors = [name for name in dict.fromkeys(tensors) if name not in self.inputs]
        self._given = [name for name in dict.fromkeys(tensors) if name in self.inputs]
        for name in self._tensors:
            if name not in self._makers:
                raise DataError(f"{where}: the graph has no tensor '{name}' to calibrate")
        outputs = {value.name for value in model.graph.output}
        for name in self._tensors:
            if name not in outputs:
                model.graph.output.add(name=name)
        self._bytes: dict[str, int] = {}
        self._guess = _BUDGET_BYTES // _PROBED
        with ExitStack() as stack:
            self._session = _session(model, model_file.parent, stack)
            self._stack = stack.pop_all()

    def __enter__(self) -> Observed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def describe(self, name: str) -> str:
        """A tensor in words: its name and the node that makes it."""
        maker = self._makers.get(name)
        return f"input '{name}'" if maker is None else f"tensor '{name}', made by {maker.op_type} '{maker.name}',"

    def values(self, request: Request, only: Collection[str] | None = None) -> Iterator[tuple[str, Array]]:
        """Each floating-point tensor's values on one request.

        Args:
            request: what is fed.
            only: leave out other tensors; None for all of them.

        Raises:
            DataError: the model cannot take the request.
        """
        for name in self._given:
            if (only is None or name in only) and request.inputs[name].dtype.kind == "f":
                yield name, request.inputs[name]
        for names in self._portions([name for name in self._tensors if only is None or name in only]):
            try:
                answers = self._session.run(request.inputs, names)
            except ExportError as exc:
                raise DataError(f"{self._where}: the model cannot take {request.label}: {exc}") from exc
            if sum(values.nbytes for values in answers.values()) < _BUDGET_BYTES // 2:
                self._guess = max(1, self._guess // 2)
            for name in names:
                values = answers.pop(name)
                self._bytes[name] = max(values.nbytes, self._bytes.get(name, 0))
                if values.dtype.kind == "f":
                    yield name, values

    def _portions(self, names: Sequence[str]) -> Iterator[list[str]]:
        """Groups of tensors that are asked for together, by the sizes they had before."""
        portion: list[str] = []
        size = 0
        for name in names:
            bytes_ = self._bytes.get(name, self._guess)
            if portion and size + bytes_ > _BUDGET_BYTES:
                yield portion
                portion, size = [], 0
            portion.append(name)
            size += bytes_
        if portion:
            yield portion


def _session(model: onnx.ModelProto, folder: Path, stack: ExitStack) -> Session:
    locations = {
        entry.value for tensor in external_tensors(model) for entry in tensor.external_data if entry.key == "location"
    }
    if not locations:
        return Session(model.SerializeToString())
    file = stack.enter_context(_beside(folder, sorted(locations)))
    file.write_bytes(model.SerializeToString())
    return Session(file)


@contextmanager
def _beside(folder: Path, locations: Sequence[str]) -> Iterator[Path]:
    """A place for a changed graph from which its external data are found, without touching the model's folder."""
    with tempfile.TemporaryDirectory(prefix="trtkit-calibration-") as scratch:
        with file_errors(f"linking the external data of {folder}"):
            for location in locations:
                target = Path(scratch) / location
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(folder / location, target)
                except OSError:  # another file system, or one without hard links
                    shutil.copyfile(folder / location, target)
        yield Path(scratch) / "observed.onnx"
