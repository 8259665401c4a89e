# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A number with its reason: what a plan is made of, and what stands as a comment beside it in a rendered file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Origin = Literal["measured", "declared", "computed", "estimated", "preset"]


@dataclass(frozen=True)
class Figure:
    """One figure of a plan.

    Attributes:
        value: a number, or a quantity in Kubernetes' notation.
        unit: of the value, e.g. ``s``, ``MiB``, ``pods``; '' where it has none.
        why: where it comes from, in a few words and with the numbers, e.g. ``2 x 41 s, the measured load time``.
        origin: how sure it is: measured; said in the project file; computed from such; estimated; a preset.
    """

    value: float | int | str
    unit: str
    why: str
    origin: Origin

    @property
    def whole(self) -> int:
        """The value as an integer."""
        return int(self.value)

    @property
    def text(self) -> str:
        """The value with its unit."""
        value = f"{self.value:g}" if isinstance(self.value, float) else str(self.value)
        return f"{value} {self.unit}".strip()

    def to_json(self) -> dict[str, Any]:
        """As in ``trtkit deploy plan --json``."""
        return {"value": self.value, "unit": self.unit, "why": self.why, "origin": self.origin}


@dataclass(frozen=True)
class Noted:
    """A value in a document to be rendered, with the comment that stands beside it."""

    value: Any
    why: str


def noted(figure: Figure, value: Any = None) -> Noted:
    """A figure's value for a document, or another form of it, with the figure's reason."""
    return Noted(figure.value if value is None else value, figure.why)


def plain(value: Any) -> Any:
    """A document without its comments: mappings, lists and scalars only."""
    if isinstance(value, Noted):
        return plain(value.value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
