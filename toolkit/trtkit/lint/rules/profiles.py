# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The optimization profiles that a TensorRT model's instances take (core: model_config_utils.cc, GetProfileIndex)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from trtkit.lint.finding import Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.rule import rule
from trtkit.lint.rules.instances import groups
from trtkit.lint.rules.tensors import TENSORRT
from trtkit.pbtxt import Path

_STOI = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)")
_LARGEST_INT = 2**31 - 1


def _profiles(model: Model) -> Iterator[tuple[Path, str, int | None, str]]:
    """The profiles of a TensorRT model: where, as written, as the server reads it, and its words for the group."""
    if model.config.platform != TENSORRT:
        return
    for path, group, words in groups(model):
        for index, profile in enumerate(group.profile):
            number = _STOI.match(profile)
            yield (*path, "profile", index), profile, int(number[1]) if number else None, words


@rule("INS008", "profile-not-a-number", server=True)
def profile_not_a_number(model: Model) -> Iterator[Found]:
    """An optimization profile is called by something that is no number.

    Profiles have no names: they are counted from 0, as in the engine (core: model_config_utils.cc, GetProfileIndex).

    Wrong:
        platform: "tensorrt_plan"
        instance_group { profile: [ "small" ] }

    Right:
        platform: "tensorrt_plan"
        instance_group { profile: [ "0" ] }
    """
    for path, profile, number, _ in _profiles(model):
        if number is None:
            words = f"unable to parse '{profile}': stoi" if profile else "profile name must not be empty"
            yield model.found(path, f"{words}; give the profile's number, from 0")


@rule("INS009", "profile-negative", server=True)
def profile_negative(model: Model) -> Iterator[Found]:
    """An optimization profile has a negative number.

    They are counted from 0, as in the engine (core: model_config_utils.cc, ValidateInstanceGroup).

    Wrong:
        platform: "tensorrt_plan"
        instance_group { profile: [ "-1" ] }

    Right:
        platform: "tensorrt_plan"
        instance_group { profile: [ "0" ] }
    """
    for path, profile, number, words in _profiles(model):
        if number is not None and -_LARGEST_INT - 1 <= number < 0:
            yield model.found(
                path,
                f"{words} and platform {TENSORRT} specifies invalid profile {profile}. The field should contain the "
                "string representation of a non-negative integer.",
            )


@rule("INS010", "profile-too-large", server=True)
def profile_too_large(model: Model) -> Iterator[Found]:
    """An optimization profile's number does not fit into 32 bits.

    The server does not refuse the model: it ends, and with it every other model (core: GetProfileIndex;
    measured with 2.51).

    Wrong:
        platform: "tensorrt_plan"
        instance_group { profile: [ "99999999999" ] }

    Right:
        platform: "tensorrt_plan"
        instance_group { profile: [ "0" ] }
    """
    for path, profile, number, _ in _profiles(model):
        if number is not None and not -_LARGEST_INT - 1 <= number <= _LARGEST_INT:
            yield model.found(path, f"profile {profile} is too large a number, which ends the whole server (stoi)")


@rule("INS011", "profile-read-otherwise", Severity.WARNING)
def profile_read_otherwise(model: Model) -> Iterator[Found]:
    """An optimization profile is a number with more behind it, which the server leaves away.

    std::stoi stops at the first character that is no digit (core: model_config_utils.cc, GetProfileIndex).

    Wrong:
        platform: "tensorrt_plan"
        instance_group { profile: [ "1.5" ] }

    Right:
        platform: "tensorrt_plan"
        instance_group { profile: [ "1" ] }
    """
    for path, profile, number, _ in _profiles(model):
        if number is not None and 0 <= number <= _LARGEST_INT and profile != str(number):
            yield model.found(path, f"profile '{profile}' is read as {number}; write \"{number}\"")


RULES = (profile_not_a_number, profile_negative, profile_too_large, profile_read_otherwise)
