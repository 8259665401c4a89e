# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Derived profiles with what each saves, as JSON and as tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trtkit.engine.boxes import Profile
from trtkit.engine.profile_forms import to_json


@dataclass(frozen=True, slots=True)
class DerivedProfile:
    """One profile and the recorded requests that it takes.

    Attributes:
        profile: the shapes.
        sizes: by axis that was cut, ``"1..37"``.
        best: by axis that was cut, the size the kernels are chosen for.
        requests: how many recorded requests it takes.
        elements: in these requests, over all inputs.
        padded: elements added when each of them is padded to the profile's largest shape.
        saved: elements that a single profile for all would add beyond that.
    """

    profile: Profile
    sizes: dict[str, str]
    best: dict[str, int]
    requests: int
    elements: int
    padded: int
    saved: int


@dataclass(frozen=True, slots=True)
class Derived:
    """Profiles that are disjoint and take every recorded request.

    Attributes:
        profiles: in the order of their sizes.
        padded_by_count: elements added by padding with 1, 2, … profiles; the last are these profiles.
        requests: recorded requests.
        elements: in them, over all inputs.
        notes: what to know before these are used, in sentences.
    """

    profiles: tuple[DerivedProfile, ...]
    padded_by_count: tuple[int, ...]
    requests: int
    elements: int
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The form for ``--json``."""
        forms = to_json([one.profile for one in self.profiles])
        return {
            "profiles": [
                {"shapes": form, "requests": one.requests, "padded": one.padded, "saved": one.saved}
                for form, one in zip(forms, self.profiles, strict=True)
            ],
            "padded_by_count": list(self.padded_by_count),
            "requests": self.requests,
            "elements": self.elements,
            "notes": list(self.notes),
        }


def profile_rows(derived: Derived) -> list[list[str]]:
    """A table of the profiles, the heads first: sizes and opt of each cut axis, requests, share, padding, savings.

    Padding is the share of what is computed that was added; savings are the elements that this profile spares
    compared to one profile for all, as a share of everything that one would compute.
    """
    cut = list(derived.profiles[0].sizes)
    single = derived.elements + derived.padded_by_count[0]
    rows = [["profile", *(head for axis in cut for head in (axis, "opt")), "requests", "share", "padding", "saves"]]
    for index, one in enumerate(derived.profiles):
        sizes = [text for axis in cut for text in (one.sizes[axis], str(one.best[axis]))]
        share, padding = _percent(one.requests, derived.requests), _percent(one.padded, one.elements + one.padded)
        rows.append([str(index), *sizes, f"{one.requests:,}", share, padding, _percent(one.saved, single)])
    return rows


def count_rows(derived: Derived) -> list[list[str]]:
    """A table of what 1, 2, … profiles would give, the heads first, so that one sees which number pays."""
    single = derived.elements + derived.padded_by_count[0]
    rows = [["profiles", "padded elements", "padding", "saves"]]
    for index, padded in enumerate(derived.padded_by_count, 1):
        saved = _percent(derived.padded_by_count[0] - padded, single)
        rows.append([str(index), f"{padded:,}", _percent(padded, derived.elements + padded), saved])
    return rows


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"
