# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Why a config holds the values that nobody gave: one line each, by the value's path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from tritonclient.grpc.model_config_pb2 import ModelConfig

Path = tuple[str | int, ...]
"""Field names, indices of repeated messages, and keys of maps, from the outside in."""
Reasons = Mapping[Path, str]
Block = Mapping[str, Any]


@dataclass(frozen=True)
class Explained:
    """A config, and why each value that trtkit chose is what it is.

    Attributes:
        config: the message.
        reasons: by path; a value that the project file gives has none.
    """

    config: ModelConfig
    reasons: Reasons


def still_true(reasons: Reasons, config: ModelConfig, blocks: Iterable[Block]) -> dict[Path, str]:
    """The reasons of values that are in the config and that no block gives.

    Args:
        reasons: of what trtkit knew before the blocks.
        config: with the blocks on top.
        blocks: of the project file.
    """
    given = list(blocks)
    return {
        path: reason
        for path, reason in reasons.items()
        if _present(config, path) and not any(_gives(block, path, config) for block in given)
    }


def _present(message: Any, path: Path) -> bool:
    """Whether a path leads to something; a number or a word is always there."""
    value = message
    for part in path:
        if isinstance(part, int):
            if part >= len(value):
                return False
            value = value[part]
        elif isinstance(value, Message):
            field = value.DESCRIPTOR.fields_by_name[part]
            if field.message_type is not None and not field.is_repeated and not value.HasField(part):
                return False
            value = getattr(value, part)
            if field.is_repeated and not value:
                return False
        elif part not in value:
            return False
        else:
            value = value[part]
    return True


def _gives(block: Block, path: Path, config: ModelConfig) -> bool:
    """Whether a block says what stands at a path: the value itself, or a list it is in."""
    value: Any = block
    for place, part in enumerate(path):
        if isinstance(part, int) and isinstance(value, list) and path[0] in ("input", "output") and place == 1:
            name = getattr(config, str(path[0]))[part].name
            value = next((row for row in value if row.get("name") == name), {})
            if not value:
                return False
        elif not isinstance(value, Mapping):
            return True
        elif str(part) not in value:
            return False
        else:
            value = value[str(part)]
    return True
