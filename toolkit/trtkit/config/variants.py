# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""An ensemble's config with its reasons, and the same with one of its ``configs:`` on top."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf import json_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from trtkit.config.block import blocks, on_top
from trtkit.config.ensemble import ensemble_config
from trtkit.config.reasons import Explained, Path, still_true
from trtkit.errors import ConfigError
from trtkit.project import Project


def explained_ensemble(project: Project, name: str, steps: Sequence[ModelConfig], variant: str = "") -> Explained:
    """The config of an ensemble, and why its values are what they are.

    Args:
        project: holds the steps' maps and the blocks.
        name: the ensemble.
        steps: the config of each step's model, in order: those of the same variant, where they have one.
        variant: one of the model's ``configs:``, on top of ``config:``; ``""`` for config.pbtxt.

    Raises:
        ConfigError: what `ensemble_config` finds, or a variant whose batch the steps do not take.
    """
    config = ensemble_config(project, name, steps)
    layers = blocks(project, name, variant)
    for block, path in layers[1:]:
        known = json_format.MessageToDict(config, preserving_proto_field_name=True)
        varied = json_format.ParseDict(on_top(known, block, project, path), ModelConfig())
        if varied.max_batch_size > config.max_batch_size or (varied.max_batch_size == 0 < config.max_batch_size):
            raise ConfigError(
                f"{project.where(*path, 'max_batch_size')}: max_batch_size is {varied.max_batch_size}; the ensemble "
                f"takes from {min(config.max_batch_size, 1)} to {config.max_batch_size}"
            )
        config = varied
    return Explained(config, still_true(_reasons(config, steps), config, [block for block, _ in layers]))


def _reasons(config: ModelConfig, steps: Sequence[ModelConfig]) -> dict[Path, str]:
    batching = any(step.max_batch_size for step in steps)
    reasons: dict[Path, str] = {
        ("input", 0): "what no step writes",
        ("output", 0): "what no step reads",
        ("max_batch_size",): "the smallest of the steps that batch",
        ("model_transaction_policy", "decoupled"): "a step is",
    }
    if not config.max_batch_size:
        why = "not every tensor has the batch in front" if batching else "no step batches"
        reasons["max_batch_size",] = f"no batching: {why}"
    return reasons
