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
        ProjectError: not exactly one model with a graph was named.
    """
    if profiles_from is None:
        return ""
    if len(names) != 1 or not is_graph(project, names[0]):
        given = ", ".join(names) or "none"
        raise ProjectError(
            f"--profiles-from holds the shapes of one model with a source; models named: {given}; name that model"
        )
    return names[0]


def with_steps(project: Project, names: list[str]) -> list[str]:
    """The names and the project's models that ensembles, and models that pass requests on, among them are made of."""
    wanted = list(names)
    for name in wanted:
        wanted += [step for step in steps_of(project, name) if step in project.models and step not in wanted]
    return [name for name in project.models if name in wanted]


def with_published_ensembles(project: Project, names: list[str]) -> list[str]:
    """The names and the published models that are made of one of them, which may have to follow it."""
    wanted = list(names)
    published = [name for name in project.models if steps_of(project, name) and config_text(project.repository, name)]
    for name in wanted:
        made_of_it = [other for other in published if name in steps_of(project, other)]
        wanted += [other for other in made_of_it if other not in wanted]
    return [name for name in project.models if name in wanted]


def steps_of(project: Project, name: str) -> list[str]:
    """The models of an ensemble's steps, or those that a model passes requests on to; nothing for another one."""
    spec = project.models[name]
    return [step.model for step in spec.ensemble or []] or list(spec.models)


def is_graph(project: Project, name: str) -> bool:
    """Whether a model is served from a graph: it is no ensemble and no Python model."""
    source = project.models[name].source
    return source is not None and source.is_graph


def in_order(project: Project, composed: list[str]) -> list[str]:
    """Models that are made of others, after those of them that they are made of.

    Raises:
        ConfigError: they contain each other.
    """
    ordered: list[str] = []
    left = list(composed)
    while left:
        ready = [name for name in left if not set(steps_of(project, name)) & set(left)]
        if not ready:
            all_ensembles = all(project.models[name].ensemble for name in left)
            where = project.where("models", left[0], "ensemble" if project.models[left[0]].ensemble else "models")
            what = "ensembles" if all_ensembles else "models"
            raise ConfigError(f"{where}: the {what} {', '.join(left)} contain each other")
        ordered += ready
        left = [n for n in left if n not in ready]
    return ordered
