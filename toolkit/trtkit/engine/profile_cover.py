# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Which requests profiles take, and which between them none takes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from trtkit.engine.boxes import Profile, Shape, find_axes, hull, subtract, text


def profile_gaps(
    inputs: Mapping[str, Shape],
    profiles: Sequence[Profile],
    *,
    axes: Mapping[str, tuple[int | str, ...]] | None = None,
    max_batch_size: int | None = None,
    shape_tensors: Collection[str] = (),
) -> list[str]:
    """Shapes between the profiles that none takes; advice, because nobody may ever send them.

    Args:
        inputs: as for `profile_problems`.
        profiles: without problems.
        axes: as for `profile_problems`.
        max_batch_size: as for `profile_problems`; the server may make every batch up to it, with every other size.
        shape_tensors: as for `profile_problems`.

    Returns:
        A sentence for each gap, which is a box of sizes inside the smallest box around all profiles.
    """
    found = find_axes(inputs, names=axes, batched=bool(max_batch_size), shape_tensors=shape_tensors)
    boxes = [found.box(profile) for profile in profiles]
    whole = hull(boxes)
    left = [whole] if whole else []
    for box in boxes:
        left = [rest for part in left for rest in subtract(part, box)]
    return [
        f"no profile takes {text(gap, [axis for axis in gap if gap[axis] != whole[axis]])}, "
        f"although the profiles reach over {text(whole)}; such a request fails"
        for gap in left
    ]


def profile_for(profiles: Sequence[Profile], shapes: Mapping[str, Shape]) -> int | None:
    """Which profile takes a request: the first whose every input the shapes fit; None when there is none.

    Args:
        profiles: disjoint, else the server may take another one.
        shapes: the full shape of each input (of a shape tensor: its values).
    """
    return next((index for index, profile in enumerate(profiles) if _takes(profile, shapes)), None)


def _takes(profile: Profile, shapes: Mapping[str, Shape]) -> bool:
    return all(
        name in shapes
        and len(shapes[name]) == len(given.min)
        and all(low <= size <= high for low, size, high in zip(given.min, shapes[name], given.max, strict=True))
        for name, given in profile.items()
    )
