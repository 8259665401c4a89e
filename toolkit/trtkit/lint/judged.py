# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Which config the server validates, and when.

Triton's core validates every config when it polls the repository, and its inputs and outputs only then when
auto-completion is off; otherwise after the backend has completed the config (core: model_repository_manager.cc,
``GetModelConfig``; model.cc, ``Model::Init``; measured with 2.51 in both modes).
"""

from __future__ import annotations

from trtkit.config import ModelConfig
from trtkit.lint.model import Model


def tensors_config(model: Model) -> ModelConfig:
    """The config whose inputs and outputs are validated; the written one where completion cannot be foreseen."""
    if model.server.strict:
        return model.config
    return model.completed or model.config


def is_final(model: Model) -> bool:
    """Whether nothing that is missing in `tensors_config` is filled in any more; reads a Python model's code."""
    config = model.config
    if model.server.strict or config.platform == "ensemble":
        return True
    if config.backend == "python":
        return not any(_completes(model, file) for file in model.model_files().values())
    return config.backend == "onnxruntime" and model.completed is not None


def _completes(model: Model, file: str) -> bool:
    """Whether a model.py may fill in what the config leaves out."""
    try:
        return b"auto_complete_config" in model.read(file)
    except OSError:
        return True
