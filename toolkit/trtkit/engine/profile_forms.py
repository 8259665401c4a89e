# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Profiles in the forms they come in and go out: the project file, engine.json, and what follows when none is given."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from trtkit.engine.boxes import Profile, ShapeRange, find_axes
from trtkit.errors import BuildError
from trtkit.signature import TensorSpec

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")
_NO_TEXT = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}  # YAML reads these as something else
_EXAMPLE_OPT, _EXAMPLE_MAX = 64, 256


class RangeSpec(Protocol):
    """A range as the project file gives it."""

    @property
    def min(self) -> Sequence[int]:
        """The smallest shape."""

    @property
    def opt(self) -> Sequence[int]:
        """The shape the kernels are chosen for."""

    @property
    def max(self) -> Sequence[int]:
        """The largest shape."""


def profiles_from_spec(given: Sequence[Mapping[str, RangeSpec]]) -> list[Profile]:
    """The profiles of the project file, unchecked."""
    return [
        {name: ShapeRange(tuple(one.min), tuple(one.opt), tuple(one.max)) for name, one in profile.items()}
        for profile in given
    ]


def default_profiles(
    inputs: Sequence[TensorSpec], max_batch_size: int, sizes: Mapping[str, int] | None = None
) -> list[Profile]:
    """The one profile that follows from the model when only its batch is dynamic.

    It takes batches from 1 to max_batch_size, and its kernels are chosen for max_batch_size, which the server's
    batching aims at.

    Args:
        inputs: the model's.
        max_batch_size: the server's; 0 is no batching, and every dynamic axis has to be given then.
        sizes: sizes seen in the project's own data by axis name, for the example in the message.

    Returns:
        One profile; none when nothing is dynamic.

    Raises:
        BuildError: other axes are dynamic; the message names them and holds `profiles:` to paste.
    """
    named = {spec.name: spec.shape for spec in inputs}
    axes = find_axes({spec.name: spec.dims for spec in inputs}, names=named, batched=max_batch_size > 0)
    open_axes = [axis for axis in axes.names if axis != axes.batch]
    seen = sizes or {}
    ends = {axis: (1, seen.get(axis, _EXAMPLE_OPT), seen.get(axis, _EXAMPLE_MAX)) for axis in open_axes}
    if axes.batch:
        ends[axes.batch] = (1, max_batch_size, max_batch_size)
    profile = {
        spec.name: ShapeRange(
            *(
                tuple(dim if axis is None else ends[axis][kind] for dim, axis in zip(spec.dims, places, strict=True))
                for kind in range(3)
            )
        )
        for spec, places in zip(inputs, axes.of.values(), strict=True)
        if any(places)
    }
    if open_axes:
        listed = "; ".join(
            f"'{axis}' ({', '.join(f'axis {index} of {name}' for name, index in axes.places(axis))})"
            for axis in open_axes
        )
        raise BuildError(
            f"which sizes will be served cannot be guessed for {listed}; give the model `profiles:` with yours, "
            f"or derive them from recorded shapes with --profiles-from, for example {_one_line([profile])}"
        )
    return [profile] if profile else []


def to_json(profiles: Sequence[Profile]) -> list[dict[str, dict[str, list[int]]]]:
    """The form kept in engine.json: per profile, by input, min, opt and max."""
    return [
        {name: {"min": [*one.min], "opt": [*one.opt], "max": [*one.max]} for name, one in profile.items()}
        for profile in profiles
    ]


def from_json(value: Any) -> list[Profile]:
    """The inverse of `to_json`.

    Raises:
        BuildError: it is something else.
    """
    try:
        return [{name: _range(one) for name, one in profile.items()} for profile in value]
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise BuildError(
            f"these are no profiles: {str(value)[:200]}; expected a list of {{input: {{min, opt, max}}}}"
        ) from exc


def _range(value: Mapping[str, Sequence[int]]) -> ShapeRange:
    shapes = tuple(tuple(value[kind]) for kind in ("min", "opt", "max"))
    if any(type(size) is not int for shape in shapes for size in shape):
        raise TypeError("a size is no integer")
    return ShapeRange(*shapes)


def as_yaml(profiles: Sequence[Profile]) -> str:
    """The `profiles:` block of trtkit.yaml, to be put under the model, two spaces deep."""
    if not profiles:
        return "profiles: []\n"
    lines = ["profiles:"]
    for profile in profiles:
        marks = ["  - "] + ["    "] * (len(profile) - 1)
        inputs = [f"{_scalar(name)}: {_flow(one)}" for name, one in profile.items()]
        lines += [mark + line for mark, line in zip(marks, inputs, strict=True)] if inputs else ["  - {}"]
    return "\n".join(lines) + "\n"


def _one_line(profiles: Sequence[Profile]) -> str:
    """The same block in one line, for a sentence."""
    shown = ({_scalar(name): _flow(one) for name, one in profile.items()} for profile in profiles)
    listed = ("{" + ", ".join(f"{name}: {one}" for name, one in inputs.items()) + "}" for inputs in shown)
    return f"profiles: [{', '.join(listed)}]"


def _flow(one: ShapeRange) -> str:
    return f"{{min: {list(one.min)}, opt: {list(one.opt)}, max: {list(one.max)}}}"


def _scalar(name: str) -> str:
    if _PLAIN.fullmatch(name) and name.lower() not in _NO_TEXT:
        return name
    quoted = json.dumps(name, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in quoted)
