# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Lint what people named: all its repositories, with one outcome each."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from trtkit.errors import ProjectError, RepositoryError
from trtkit.images import REPOSITORY, image_facts, known_images
from trtkit.lint.finding import Finding, Severity
from trtkit.lint.places import Place, find_places
from trtkit.lint.rule import Rule
from trtkit.lint.rules import RULES
from trtkit.lint.run import findings_of, open_repository
from trtkit.lint.selection import select
from trtkit.lint.server_facts import ServerFacts
from trtkit.lint.tree import Tree


@dataclass(frozen=True)
class Wording:
    """What a linter calls itself and what it looks at.

    Attributes:
        tool: its command.
        unit: what it counts.
        subject: what a finding is about; the key of `Finding.model` in its reports.
    """

    tool: str = "trtkit lint"
    unit: str = "model"
    subject: str = "model"


@dataclass(frozen=True)
class Outcome:
    """What lint found in one repository.

    Attributes:
        place: the repository.
        models: the names of the models that were looked at.
        findings: by file and line.
        wording: what these are called.
    """

    place: Place
    models: tuple[str, ...]
    findings: tuple[Finding, ...]
    wording: Wording = Wording()

    def shown(self, file: str) -> str:
        """A finding's file as people and editors reach it from the current folder; a URL stays one."""
        root = self.place.tree.root
        if not self.place.local:
            return f"{root}/{file}"
        path = Path(root, file)
        near = os.path.relpath(path)
        return path.as_posix() if near.startswith("..") else Path(near).as_posix()

    @cached_property
    def texts(self) -> Texts:
        """The findings' files."""
        return Texts(self.place.tree)


class Texts:
    """The text of files that findings are in, for those who show or change it."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._texts: dict[str, str | None] = {}

    def text(self, file: str) -> str | None:
        """The whole text, bytes that are no UTF-8 as lone surrogates; None where it cannot be read."""
        if file not in self._texts:
            try:
                with self.tree.open(file) as stream:
                    self._texts[file] = stream.read().decode("utf-8", "surrogateescape")
            except OSError:
                self._texts[file] = None
        return self._texts[file]

    def line(self, file: str, number: int) -> str | None:
        """A line of it, without its end; from 1."""
        lines = (self.text(file) or "").split("\n")
        return lines[number - 1].rstrip("\r") if 0 < number <= len(lines) else None


def lint_places(places: Sequence[Place], rules: Sequence[Rule], server: ServerFacts) -> list[Outcome]:
    """Lint every place.

    Raises:
        RepositoryError: there is no model in one of them, or it cannot be read.
    """
    outcomes = [lint_place(place, rules, server) for place in places]
    empty = [outcome.place.tree.root for outcome in outcomes if not outcome.models]
    if empty:
        raise RepositoryError(
            f"there is no model in {', '.join(empty)}; a model is a folder with a config.pbtxt or a version folder"
        )
    return outcomes


def lint_place(place: Place, rules: Sequence[Rule], server: ServerFacts, tree: Tree | None = None) -> Outcome:
    """Lint one place.

    Args:
        place: the repository, and which of its models.
        rules: those to apply.
        server: what is known of the server.
        tree: read this in place of the place's own tree.

    Raises:
        RepositoryError: it cannot be read.
    """
    try:
        repository = open_repository(tree or place.tree, server)
    except OSError as exc:
        raise RepositoryError(f"{place.tree.root} cannot be read: {exc.strerror or exc}") from exc
    names = place.models or tuple(repository.models)
    return Outcome(place, names, tuple(findings_of(repository, rules, place.models)) if names else ())


def known_server(
    flags: Sequence[str] | None, image: str | None, server_version: str | None, gpus: int | None
) -> ServerFacts:
    """What is known of the server, from what people say of it.

    Args:
        flags: tritonserver's options; None when nobody said.
        image: a container image, or only its release, e.g. ``24.10``.
        server_version: Triton's own, e.g. ``2.51``.
        gpus: how many it has.

    Raises:
        ProjectError: nothing is known of the image and no version is given; the version is none.
    """
    if server_version is not None and not re.fullmatch(r"\d+\.\d+(\.\d+)?", server_version):
        raise ProjectError(f"--server-version {server_version!r} is no version of Triton; write one such as 2.51")
    if image is not None and image_facts(f"{REPOSITORY}:{image}-py3") is not None:
        image = f"{REPOSITORY}:{image}-py3"
    if image is not None and server_version is None and image_facts(image) is None:
        known = known_images()
        raise ProjectError(
            f"nothing is known of the image {image}; give Triton's --server-version, or an image from {known[0]} "
            f"to {known[-1]}"
        )
    return ServerFacts(None if flags is None else tuple(flags), image, server_version, gpus)


def lint_repository(
    *paths: str | Path, select_codes: Sequence[str] = (), ignore_codes: Sequence[str] = (),
    flags: Sequence[str] | None = None, image: str | None = None, server_version: str | None = None,
    gpus: int | None = None,
) -> list[Finding]:  # fmt: skip
    """Say what tritonserver would say about model repositories, without one.

    Args:
        paths: model repositories, models' folders, files of models, or fsspec URLs.
        select_codes: codes, names or categories of the rules to apply; default: all.
        ignore_codes: likewise, of those to leave out.
        flags: the options tritonserver will be given; None when not known, and then rules about them are silent.
        image: the container image that will serve it, e.g. ``24.10``.
        server_version: Triton's version, e.g. ``2.51``; default: the image's, else the newest.
        gpus: how many GPUs the server has.

    Returns:
        The findings by file and line; `Finding.file` starts at the repository.

    Raises:
        ProjectError: a path or a code does not exist.
        RepositoryError: there is no model, or the place cannot be read.
    """
    rules = select(RULES, select_codes, ignore_codes)
    server = known_server(flags, image, server_version, gpus)
    outcomes = lint_places(find_places([str(path) for path in paths]), rules, server)
    return [finding for outcome in outcomes for finding in outcome.findings]


def all_findings(outcomes: Iterable[Outcome]) -> list[Finding]:
    """Of all repositories."""
    return [finding for outcome in outcomes for finding in outcome.findings]


def counts(outcomes: Iterable[Outcome]) -> Counter[Severity]:
    """How many findings there are of each severity."""
    return Counter(finding.severity for finding in all_findings(outcomes))
