# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A model of the ``onnxruntime`` backend: its files' interfaces, read once, and its config against them."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import ParseDict

from trtkit.config import ModelConfig
from trtkit.lint import ort_backend
from trtkit.lint.onnx_header import OnnxHeader, OnnxHeaderError, Tensor, read_header
from trtkit.lint.onnx_inference import with_inferred_outputs
from trtkit.lint.ort_backend import Problem

if TYPE_CHECKING:
    from trtkit.lint.model import Model

# bytes up to which outputs are always inferred; of larger files only when something speaks against the config
_SMALL = 2**20
# problems that may come from the shape of an output
_OF_SHAPES = ("dims", "scalar", "type", "unsupported_type", "batch", "autofill")


@dataclass(frozen=True)
class OnnxFile:
    """The ONNX file of one version.

    Attributes:
        path: from the model directory.
        header: None where it is no ONNX model, or cannot be read.
        error: why there is no header.
    """

    path: str
    header: OnnxHeader | None = None
    error: str = ""


class OnnxModel:
    """What is known of a model of the onnxruntime backend beside its config."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._inferences: dict[int, OnnxHeader | None] = {}

    @cached_property
    def files(self) -> Mapping[int, OnnxFile]:
        """By served version, its ONNX file; versions without one are left out, and models of other backends."""
        if self._model.config.backend != "onnxruntime":
            return {}
        found = {version: self._read(path) for version, path in self._model.model_files().items()}
        return {version: file for version, file in found.items() if file is not None}

    @cached_property
    def headers(self) -> Mapping[int, OnnxHeader]:
        """By served version, the interface of its file."""
        return {version: file.header for version, file in self.files.items() if file.header is not None}

    @property
    def interfaces(self) -> list[tuple[str, OnnxHeader]]:
        """Each file that could be read, from the model directory, and its interface."""
        return [(file.path, file.header) for file in self.files.values() if file.header is not None]

    @cached_property
    def problems(self) -> tuple[Problem, ...]:
        """Everything the backend has against the config, for any of the served versions, each once."""
        if self._model.config.backend != "onnxruntime":
            return ()
        several = len(self.headers) > 1
        found = [
            problem._replace(message=f"{problem.message} (version {version})") if several else problem
            for version in self.headers
            for problem in self._graph_problems(version)
        ]
        options = ort_backend.option_problems(self._json, on_gpu=self.may_be_on_gpu)
        return tuple(dict.fromkeys([*found, *options]))

    @cached_property
    def completed(self) -> ModelConfig | None:
        """The config as the backend completes it; None where it cannot, or its file is not known."""
        if self._model.server.strict or ort_backend.is_complete(self._json):
            return self._model.config
        if not self.headers:
            return None
        version = max(self.headers)
        header = self.headers[version]
        if not header.is_of_tensors:
            return None
        unknown = any(tensor.kind == "untyped" or tensor.shape is None for tensor in header.outputs)
        if unknown or header.size <= _SMALL:
            header = self._inferred(version) or header
        graph = ort_backend.graph_of(header)
        if ort_backend.completion_problems(self._json, graph):
            return None
        return _with_what_was_left_out(self._model.config, self._completed_json(graph))

    @property
    def may_be_on_gpu(self) -> bool:
        """Whether an instance may run on a GPU: groups of KIND_AUTO, and none at all, do where there is one."""
        kinds = {group.get("kind", "KIND_AUTO") for group in self._json.get("instance_group", ())} or {"KIND_AUTO"}
        return "KIND_GPU" in kinds or ("KIND_AUTO" in kinds and self._model.server.gpus != 0)

    @cached_property
    def _json(self) -> dict[str, Any]:
        return ort_backend.as_triton_json(self._model.config)

    def _read(self, path: str) -> OnnxFile | None:
        entry = self._model.entry(path)
        if entry is not None and entry.kind == "folder":
            path = f"{path}/model.onnx"
            entry = self._model.entry(path)
        if entry is None or entry.kind != "file":
            return None
        try:
            with self._model.repository.tree.open(self._model.path(path)) as stream:
                return OnnxFile(path, read_header(stream, entry.size))
        except OnnxHeaderError as exc:
            return OnnxFile(path, error=str(exc))
        except OSError as exc:
            return OnnxFile(path, error=f"it cannot be read: {exc.strerror or exc}")

    def _graph_problems(self, version: int) -> list[Problem]:
        header = self.headers[version]
        if not header.is_of_tensors:  # the backend looks no further
            return []
        problems = self._problems_with(header)
        in_doubt = [problem for problem in problems if problem.kind in _OF_SHAPES and problem.path[0] != "input"]
        if all(map(_is_static, header.outputs)) or not (in_doubt or header.size <= _SMALL):
            return problems
        inferred = self._inferred(version)
        if inferred is not None:
            return self._problems_with(inferred)
        return [problem for problem in problems if problem not in in_doubt or problem.path[0] != "output"]

    def _problems_with(self, header: OnnxHeader) -> list[Problem]:
        graph, config = ort_backend.graph_of(header), self._json
        if not self._model.server.strict and not ort_backend.is_complete(config):
            problems = ort_backend.completion_problems(config, graph)
            if problems:
                return problems
            config = self._completed_json(graph)
        return ort_backend.graph_problems(config, graph)

    def _inferred(self, version: int) -> OnnxHeader | None:
        """The header with what ONNX Runtime infers; the file's own where that says everything."""
        header = self.headers[version]
        if all(map(_is_static, header.outputs)):
            return header
        if version not in self._inferences:
            path = self._model.path(self.files[version].path)
            try:
                with self._model.repository.tree.open(path) as stream:
                    self._inferences[version] = with_inferred_outputs(stream, header)
            except OSError:
                self._inferences[version] = None
        return self._inferences[version]

    def _completed_json(self, graph: Any) -> dict[str, Any]:
        config = dict(self._json)
        ort_backend.complete(config, graph, self._default_max_batch_size())
        return config

    def _default_max_batch_size(self) -> int:
        """``--backend-config=onnxruntime,default-max-batch-size=N``, or the same for all backends."""
        chosen = ort_backend.default_max_batch_size()
        for prefix in ("", "onnxruntime,"):
            for value in self._model.server.option("backend-config"):
                key, _, number = value.partition("=")
                if key == f"{prefix}default-max-batch-size" and number.isdigit():
                    chosen = int(number)
        return chosen


def inside(file: str, location: str) -> str | None:
    """A file of external data, from the model directory; None where it lies outside of the ONNX file's folder."""
    folder = posixpath.dirname(file)
    path = posixpath.normpath(posixpath.join(folder, location.replace("\\", "/")))
    return path if path.startswith(f"{folder}/") and not location.startswith("/") else None


def _is_static(tensor: Tensor) -> bool:
    """Whether the file says its type and, but for the batch, its dimensions."""
    shape = tensor.shape
    return tensor.kind != "untyped" and shape is not None and all(isinstance(dim, int) for dim in shape[1:])


def _with_what_was_left_out(config: ModelConfig, completed: Mapping[str, Any]) -> ModelConfig:
    result = ModelConfig()
    result.CopyFrom(config)
    result.max_batch_size = completed["max_batch_size"]
    if "dynamic_batching" in completed:
        result.dynamic_batching.SetInParent()
    for kind in ("input", "output"):
        if not getattr(config, kind):
            ParseDict({kind: completed[kind]}, result)
    return result
