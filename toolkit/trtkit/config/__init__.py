# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""config.pbtxt from what is known of a model, with the project file's ``config:`` block on top.

The protobuf message is the only model of a config. A generated file starts with a line that holds the hash
of the rest, so that an edit by hand is noticed and never overwritten.
"""

from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from trtkit.config.block import check_block
from trtkit.config.ensemble import ensemble_config
from trtkit.config.model import explained_config, model_config
from trtkit.config.part import explained_part
from trtkit.config.reasons import Explained, Reasons
from trtkit.config.routing import routed_tensors
from trtkit.config.text import is_generated, read_config, to_text
from trtkit.config.variants import explained_ensemble

__all__ = [
    "Explained",
    "ModelConfig",
    "ModelInstanceGroup",
    "Reasons",
    "check_block",
    "ensemble_config",
    "explained_config",
    "explained_ensemble",
    "explained_part",
    "is_generated",
    "model_config",
    "read_config",
    "routed_tensors",
    "to_text",
]
