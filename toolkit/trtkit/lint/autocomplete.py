# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What the backends' auto-completion makes of a config, as far as it can be told without the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtkit.config import ModelConfig

if TYPE_CHECKING:
    from trtkit.lint.model import Model


def completed(model: Model) -> ModelConfig | None:
    """The config as it is served; None where only the backend could tell.

    The onnxruntime backend fills in what its file says. Other backends complete from files or code that are not read
    here: there a config is taken as it is when it says inputs and outputs, or has none to say (an ensemble).
    """
    config = model.config
    if config.backend == "onnxruntime":
        return model.onnx.completed
    if model.server.strict or config.platform == "ensemble" or (config.input and config.output):
        return config
    return None
