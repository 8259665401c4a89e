# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Resources of the rate limiter, which all models of a server share (core: rate_limiter.cc)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from trtkit.lint.model import Found, Model, Repository
from trtkit.lint.rule import rule
from trtkit.lint.rules.instances import groups
from trtkit.pbtxt import Path

_Use = tuple[str, bool]
"""A resource's name, and whether it is global."""


def _uses(model: Model) -> Iterator[tuple[Path, _Use]]:
    """The resources of the groups that take part, and where."""
    for path, group, _ in groups(model):
        for index, resource in enumerate(() if group.passive else group.rate_limiter.resources):
            yield (*path, "rate_limiter", "resources", index), (resource.name, getattr(resource, "global"))


@lru_cache(maxsize=1)
def _first_users(repository: Repository) -> dict[_Use, str]:
    """By use, the first model that has it."""
    users: dict[_Use, str] = {}
    for model in repository.models.values():
        for _, use in _uses(model) if model.written.instance_group else ():
            users.setdefault(use, model.name)
    return users


@rule("INS020", "resource-global-and-of-a-device", server=True)
def global_and_device(model: Model) -> Iterator[Found]:
    """A resource is global in one place and of a device in another.

    All models share the resources, so the other place may be another model; the second to load is refused.
    Only a server with --rate-limit=execution_count looks at resources (core: rate_limiter.cc,
    ValidateMaxResources).

    Wrong:
        instance_group {
          rate_limiter { resources { name: "R" global: true count: 1 } resources { name: "R" count: 1 } }
        }

    Right:
        instance_group { rate_limiter { resources { name: "R" global: true count: 1 } } }
    """
    if not model.config.instance_group or not _may_limit(model):
        return
    uses = list(_uses(model))
    own = {use for _, use in uses}
    for path, (name, is_global) in uses:
        opposite = (name, not is_global)
        other = model.name if opposite in own else _first_users(model.repository).get(opposite)
        if other is not None:
            here, there = ("global", "of the device") if is_global else ("of the device", "global")
            yield model.found(
                path,
                f'Resource "{name}" is present as both global and device-specific resource in the model configuration. '
                f"Here it is {here}; in '{other}' it is {there}",
            )


def _may_limit(model: Model) -> bool:
    """Whether the rate limiter is on, or nobody said."""
    return model.server.flags is None or "execution_count" in model.server.option("rate-limit")


RULES = (global_and_device,)
