# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""From what people name (a repository, a model, a file of one, a URL) to repositories and models in them.

A folder is a model when it has a config.pbtxt, or a folder whose name is a number, directly in it; any other
folder is a repository. A file belongs to the nearest folder above it that is a model.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trtkit.errors import ProjectError, RepositoryError
from trtkit.lint.tree import Entry, LocalTree, Tree
from trtkit.repository import CONFIG_FILE


@dataclass(frozen=True)
class Place:
    """A repository, and which of its models are meant.

    Attributes:
        tree: the repository.
        models: directory names; () for all.
    """

    tree: Tree
    models: tuple[str, ...]

    @property
    def local(self) -> bool:
        """Whether the files are on this machine's file system."""
        return isinstance(self.tree, LocalTree)


def find_places(paths: Sequence[str]) -> list[Place]:
    """The repositories of some paths, each once, in the order in which they are named.

    Raises:
        ProjectError: a path does not exist, or belongs to no model.
        RepositoryError: a path cannot be read.
        MissingDependencyError: what reads a URL is not installed.
    """
    found: dict[str, tuple[Tree, dict[str, None] | None]] = {}
    for path in paths:
        try:
            tree, model = _remote(path) if "://" in path else _local(path)
        except OSError as exc:
            raise RepositoryError(f"{_shown(path)} cannot be read: {exc.strerror or exc}") from exc
        tree, models = found.get(tree.root, (tree, {}))
        if model is None or models is None:
            found[tree.root] = (tree, None)
        else:
            found[tree.root] = (tree, {**models, model: None})
    return [Place(tree, tuple(models or ())) for tree, models in found.values()]


def _shown(path: str) -> str:
    """A path, or a URL without what is secret in it."""
    if "://" not in path:
        return path
    from trtkit.lint.remote_tree import without_secrets

    return without_secrets(path)


def _is_model(entries: Sequence[Entry]) -> bool:
    return any(
        entry.name == CONFIG_FILE or (entry.kind == "folder" and entry.name.isascii() and entry.name.isdigit())
        for entry in entries
    )


def _local(path: str) -> tuple[Tree, str | None]:
    """A repository, and a model of it or None for all; without following links, as the server does."""
    full = Path(os.path.abspath(path))  # noqa: PTH100  # Path.resolve follows links
    if full.is_dir():
        return _of_folder(full)
    if not os.path.lexists(full):
        raise ProjectError(f"there is no {path}; give a model repository, a model's folder, or a file of a model")
    for folder in full.parents:
        if _is_model(LocalTree(folder).entries("")):
            return LocalTree(folder.parent), folder.name
    raise ProjectError(f"{path} belongs to no model: no folder above it has a {CONFIG_FILE} or a version folder")


def _of_folder(folder: Path) -> tuple[Tree, str | None]:
    if _is_model(LocalTree(folder).entries("")):
        return LocalTree(folder.parent), folder.name
    return LocalTree(folder), None


def _remote(url: str) -> tuple[Tree, str | None]:
    """The same for a URL: of a repository, of a model, or of a config.pbtxt."""
    from trtkit.lint.remote_tree import RemoteTree

    url = url.rstrip("/").removesuffix(f"/{CONFIG_FILE}")
    tree = RemoteTree(url)
    if not _is_model(tree.entries("")):
        return tree, None
    parent, _, name = url.rpartition("/")
    if parent.endswith(":/"):
        raise ProjectError(f"{tree.root} is a model itself; a model repository is the folder above its models")
    return RemoteTree(parent), name
