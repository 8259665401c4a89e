# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Which models a build is for, and which of them come first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trtkit.errors import ConfigError, ProjectError
from trtkit.project import Project
from trtkit.repository import config_text


def the_one(project: Project, names: Sequence[str], profiles_from: Path | None) -> str:
    """The model that recorded shapes are for; ``""`` when there are none.

    Raises:
        ProjectError: not exactly one model with a source was named.
    """
    if profiles_from is None:
        return ""
    if len(names) != 1 or project.models[names[0]].source is None:
        given = ", ".join(names) or "none"
        raise ProjectError(
            f"--profiles-from holds the shapes of one model with a source; models named: {given}; name that model"
        )
    return names[0]


def with_steps(project: Project, names: list[str]) -> list[str]:
    """The names and the project's models that ensembles among them are made of."""
    wanted = list(names)
    for name in wanted:
        wanted += [step for step in steps_of(project, name) if step in project.models and step not in wanted]
    return [name for name in project.models if name in wanted]


def with_published_ensembles(project: Project, names: list[str]) -> list[str]:
    """The names and the ensembles that contain one of them and are published, which may have to follow it."""
    wanted = list(names)
    published = [n for n, spec in project.models.items() if spec.ensemble and config_text(project.repository, n)]
    for name in wanted:
        containing = [e for e in published if name in steps_of(project, e)]
        wanted += [ensemble for ensemble in containing if ensemble not in wanted]
    return [name for name in project.models if name in wanted]


def steps_of(project: Project, name: str) -> list[str]:
    """The models of an ensemble's steps; nothing for another model."""
    return [step.model for step in project.models[name].ensemble or []]


def in_order(project: Project, ensembles: list[str]) -> list[str]:
    """Ensembles after the ensembles they contain.

    Raises:
        ConfigError: ensembles contain each other.
    """
    ordered: list[str] = []
    left = list(ensembles)
    while left:
        ready = [name for name in left if not set(steps_of(project, name)) & set(left)]
        if not ready:
            where = project.where("models", left[0], "ensemble")
            raise ConfigError(f"{where}: the ensembles {', '.join(left)} contain each other")
        ordered += ready
        left = [n for n in left if n not in ready]
    return ordered
