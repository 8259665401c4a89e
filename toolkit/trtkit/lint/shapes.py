# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Types and shapes of tensors: how the server writes them, and which shapes go together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def type_of(message: Any) -> str:
    """``TYPE_FP32`` and so on of a message's data_type; the number's digits where it has no name."""
    known = message.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number.get(message.data_type)
    return str(known.name) if known is not None else str(message.data_type)


def shape_text(shape: Iterable[int]) -> str:
    """``[-1,3,224,224]``."""
    return f"[{','.join(map(str, shape))}]"


def agree(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two shapes go together; -1 goes with any size."""
    return len(one) == len(other) and all(a == b or -1 in (a, b) for a, b in zip(one, other, strict=True))
