# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What the server's core itself puts into a config, in strict mode too.

Source: Triton core, ``src/model_config_utils.cc``, ``AutoCompleteBackendFields``. The core asks one backend after
the other, by the platform, then by ``default_model_filename``, then, where neither is given, by what the first
version folder holds; the first that answers is it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtkit.config import ModelConfig

if TYPE_CHECKING:
    from trtkit.lint.model import Model

AOTI_SINCE = (2, 52)
"""The first servers that may know PyTorch's ahead-of-time packages (2.51 does not)."""


@dataclass(frozen=True)
class _Known:
    """A backend as the core knows it.

    Attributes:
        backend: its name.
        platform: what it puts in for `platform`; '' for nothing.
        file: its model file's usual name.
        kinds: what `file` may be: a file, a folder, or both.
    """

    backend: str
    platform: str
    file: str
    kinds: tuple[str, ...] = ("file",)


_EITHER = ("file", "folder", "broken")
_TENSORFLOW = (
    _Known("tensorflow", "tensorflow_graphdef", "model.graphdef"),  # asked last, so it wins where both are there
    _Known("tensorflow", "tensorflow_savedmodel", "model.savedmodel", ("folder",)),
)
_BACKENDS = (
    _Known("tensorrt", "tensorrt_plan", "model.plan"),
    _Known("onnxruntime", "onnxruntime_onnx", "model.onnx", _EITHER),
    _Known("openvino", "", "model.xml", _EITHER),
    _Known("pytorch", "pytorch_libtorch", "model.pt"),
    _Known("python", "", "model.py", _EITHER),
)
_AOTI = _Known("pytorch", "torch_aoti", "model.pt2")


def core_autofilled(model: Model) -> ModelConfig:
    """The written config with name, backend, platform and default_model_filename as the core fills them in."""
    config = ModelConfig()
    config.CopyFrom(model.written)
    config.name = config.name or model.name.encode("utf-8", "replace").decode()  # a folder's name may be any bytes
    inside = {} if config.platform or config.default_model_filename else _first_version(model)
    if not config.platform and config.backend in ("", "tensorflow"):
        config.platform = _told(_TENSORFLOW, config, inside, "").platform
    for known in _TENSORFLOW:
        if config.platform == known.platform:
            _fill(config, known)
            return config
    _fill_known(model, config, inside)
    if not (config.backend or config.platform or config.default_model_filename) and "." in model.name:
        config.backend = model.name.partition(".")[2]
        config.default_model_filename = f"model.{config.backend}"
    return config


def _fill_known(model: Model, config: ModelConfig, inside: Mapping[str, str]) -> None:
    aoti = (_AOTI,) if model.server.is_from(AOTI_SINCE) else ()
    ways = (*_BACKENDS[:4], *aoti, *_BACKENDS[4:])
    if not config.backend:
        told = _told(ways, config, inside, config.platform)
        if told is _AOTI and not config.platform and told.file in inside:
            config.platform = told.platform
        config.backend = told.backend
    ahead = bool(aoti) and config.platform == _AOTI.platform
    for known in (_AOTI,) if ahead and config.backend == _AOTI.backend else ways:
        if known.backend == config.backend:
            _fill(config, known)
            return


def _told(ways: tuple[_Known, ...], config: ModelConfig, inside: Mapping[str, str], platform: str) -> _Known:
    """The first that the platform, the file's name or the first version folder's content tells."""
    for known in ways:
        if platform and platform == known.platform:
            return known
        if config.default_model_filename and config.default_model_filename == known.file:
            return known
        if inside.get(known.file, "") in known.kinds:
            return known
    return _Known("", "", "")


def _fill(config: ModelConfig, known: _Known) -> None:
    config.backend = config.backend or known.backend
    config.platform = config.platform or known.platform
    runs_python = config.backend == "pytorch" and config.runtime == "model.py"  # core pull request 518
    if not config.default_model_filename and not runs_python:
        config.default_model_filename = known.file


def _first_version(model: Model) -> Mapping[str, str]:
    """What the first folder by name holds, as the core looks: any folder counts, also one that is no version."""
    first = min((entry.name for entry in model.entries() if entry.kind == "folder"), default=None)
    return {} if first is None else {entry.name: entry.kind for entry in model.entries(first)}
