# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The values of a chart: what stands in each environment's file, and the holes in the templates that they fill."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from trtkit.deploy.figure import Noted, plain
from trtkit.deploy.kubernetes.helm.names import Path


class Absent:
    """The type of `ABSENT`."""


ABSENT: Final = Absent()
"""For a field that an object has in one environment, and not in another."""


@dataclass(frozen=True)
class Hole:
    """A place in a template that a value fills.

    Attributes:
        expression: e.g. ``.Values.replicaCount``.
        optional: whether the field is left out where the value is null.
        block: whether the value is a mapping or a list.
        word: whether it is part of a text, and so stands there as it is.
        inside: whether the value is the only item of a list.
    """

    expression: str
    optional: bool = False
    block: bool = False
    word: bool = False
    inside: bool = False


@dataclass
class Values:
    """What was collected so far.

    Attributes:
        count: of the variants: the block itself, and each environment.
        rows: by name: the value of each variant, `ABSENT` where it has none.
        holes: by the marker that stands in the templates until their text is made.
    """

    count: int
    rows: dict[Path, list[Any]] = field(default_factory=dict)
    holes: dict[str, Hole] = field(default_factory=dict)

    def add(self, name: Path, row: list[Any]) -> Hole:
        """Keep a value under a name, or under another one where that is taken by other values.

        Args:
            name: of the value.
            row: of each variant.
        """
        number = 2
        whole = name
        while whole in self.rows and plain(self.rows[whole]) != plain(row):
            whole = (*name[:-1], f"{name[-1]}{number}")
            number += 1
        self.rows.setdefault(whole, row)
        there = [plain(value) for value in row if value is not ABSENT]
        block = any(isinstance(value, dict | list) for value in there)
        return Hole(".Values." + ".".join(whole), ABSENT in row, block)

    def mark(self, hole: Hole) -> str:
        """A word that stands for the hole; `text` puts the expression in its place."""
        marker = f"HOLE{len(self.holes)}ELOH"
        self.holes[marker] = hole
        return marker

    def marks(self, hole: Hole) -> tuple[str, str]:
        """Two words between which an item of a list stands that is there only where the value is true."""
        begin = self.mark(hole)
        return f"{begin}BEGIN", f"{begin}END"


def file_of(values: Values, variant: int) -> dict[str, Any]:
    """The values of one variant, nested, with their comments."""
    tree: dict[str, Any] = {}
    for name, row in values.rows.items():
        place = tree
        for part in name[:-1]:
            place = place.setdefault(part, {})
        place[name[-1]] = None if row[variant] is ABSENT else row[variant]
    return tree


def difference(base: Any, other: Any) -> dict[str, Any]:
    """What a values file has to say so that Helm makes `other` of `base`; null takes a key away.

    Args:
        base: the mapping of the chart's own values.
        other: the mapping that is wanted.
    """
    result: dict[str, Any] = {}
    for key in [*base, *(key for key in other if key not in base)]:
        before, after = base.get(key, ABSENT), other.get(key, ABSENT)
        if after is ABSENT:
            result[key] = None
        elif before is ABSENT or plain(before) != plain(after):
            both = isinstance(_bare(before), dict) and isinstance(_bare(after), dict)
            result[key] = difference(_bare(before), _bare(after)) if both else after
    return result


def _bare(value: Any) -> Any:
    return value.value if isinstance(value, Noted) else value
