# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Before anything is published: what the server would refuse."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from trtkit.lint.finding import Severity
from trtkit.lint.rules import RULES
from trtkit.lint.run import lint_repository, open_repository
from trtkit.lint.server_facts import ServerFacts
from trtkit.lint.tree import Entry, LocalTree
from trtkit.repository import CONFIG_FILE, Publication, config_file, versions


class PlannedTree:
    """A repository as it will be once the publications are in it; see `trtkit.lint.tree.Tree`."""

    def __init__(self, repository: Path, publications: Sequence[Publication]) -> None:
        self.root, self._today = str(repository), LocalTree(repository)
        self._planned: dict[str, bytes | Path | None] = {}
        for each in publications:
            self._plan(repository, each)

    def _plan(self, repository: Path, publication: Publication) -> None:
        model = publication.model
        self._planned[f"{model}/{CONFIG_FILE}"] = publication.config.encode()
        for variant, text in publication.variants.items():
            self._planned[f"{model}/{config_file(variant)}"] = None if text is None else text.encode()
        for name, file in publication.model_files.items():
            self._planned[f"{model}/{name}"] = file
        if publication.version_files is not None:
            number = max((version.version for version in versions(repository, model)), default=0) + 1
            self._planned[f"{model}/{number}/{_PLACE}"] = b""  # an ensemble's version holds no file of its own
            for name, file in publication.version_files.items():
                self._planned[f"{model}/{number}/{name}"] = file

    def entries(self, folder: str) -> list[Entry]:
        """See `Tree`."""
        start, found = f"{folder}/" if folder else "", {}
        try:
            found = {entry.name: entry for entry in self._today.entries(folder)}
        except FileNotFoundError:
            if not any(path.startswith(start) for path in self._planned):
                raise
        for path, content in self._planned.items():
            if path.startswith(start):
                name, deeper, _ = path[len(start) :].partition("/")
                if content is None and not deeper:
                    found.pop(name, None)
                elif name != _PLACE:
                    found[name] = Entry(name, "folder") if deeper else Entry(name, "file", _size(content))
        return sorted(found.values(), key=lambda entry: entry.name)

    def open(self, file: str) -> BinaryIO:
        """See `Tree`."""
        content = self._planned.get(file)
        if isinstance(content, Path):
            return content.open("rb")
        return self._today.open(file) if content is None else io.BytesIO(content)


_PLACE = ".trtkit"


def _size(content: bytes | Path | None) -> int:
    return content.stat().st_size if isinstance(content, Path) else len(content or b"")


def refusals(repository: Path, publications: Sequence[Publication], image: str | None) -> Mapping[str, str]:
    """Why the server would not load what is about to be published, by model; a model that it loads is left out.

    Args:
        repository: as it is now.
        publications: what is to go into it.
        image: of the target; None for any server.
    """
    planned = open_repository(PlannedTree(repository, publications), ServerFacts(image=image))
    rules = [rule for rule in RULES if rule.server]
    names = [publication.model for publication in publications]
    found = [f for f in lint_repository(planned, rules, names) if f.severity == Severity.ERROR]
    reasons = {name: [f"{f.code} {f.message} ({f.place})" for f in found if f.model == name] for name in names}
    return {name: "; ".join(lines) for name, lines in reasons.items() if lines}
