# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A figure that was said on the command line, else the first that is known otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trtkit.deploy.figure import Figure, Origin


@dataclass
class Picker:
    """Picks figures, and remembers each with its reason.

    Attributes:
        given: by the names of the options; None or absent where nothing was said.
        figures: that were picked, by what they are called.
    """

    given: Mapping[str, Any]
    figures: dict[str, Figure] = field(default_factory=dict)

    def first(self, name: str, unit: str, *others: Figure | None) -> float | None:
        """The value that was said, else that of the first figure there is; None without one."""
        said = self.given.get(name)
        if said is not None:
            found: Figure | None = Figure(said, unit, "said on the command line", "declared")
        else:
            found = next((figure for figure in others if figure is not None), None)
        if found is None:
            return None
        self.figures[name.replace("_", " ")] = found
        return float(found.value)

    def need(self, name: str, unit: str, *others: Figure | None) -> float:
        """The same where the last figure is always there."""
        value = self.first(name, unit, *others)
        assert value is not None
        return value

    def note(self, name: str, figure: Figure) -> None:
        """A figure that nobody can say."""
        self.figures[name] = figure


def preset(value: float, unit: str, why: str, origin: Origin = "preset") -> Figure:
    """What holds where nothing is known."""
    return Figure(value, unit, why, origin)
