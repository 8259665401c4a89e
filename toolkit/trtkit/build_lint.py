# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Before anything is published: what the server would refuse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from trtkit.lint.finding import Severity
from trtkit.lint.rules import RULES
from trtkit.lint.run import findings_of, open_repository
from trtkit.lint.server_facts import ServerFacts
from trtkit.lint.tree import LocalTree, OverlaidTree, Tree
from trtkit.repository import CONFIG_FILE, Publication, config_file, versions


def planned_tree(repository: Path, publications: Sequence[Publication]) -> Tree:
    """The repository as it will be once the publications are in it."""
    tree = OverlaidTree(LocalTree(repository))
    for each in publications:
        tree.put(f"{each.model}/{CONFIG_FILE}", each.config.encode())
        for variant, text in each.variants.items():
            tree.put(f"{each.model}/{config_file(variant)}", None if text is None else text.encode())
        for name, file in each.model_files.items():
            tree.put(f"{each.model}/{name}", file)
        if each.version_files is not None:
            number = max((version.version for version in versions(repository, each.model)), default=0) + 1
            tree.add_folder(f"{each.model}/{number}")  # an ensemble's version holds no file
            for name, file in each.version_files.items():
                tree.put(f"{each.model}/{number}/{name}", file)
    return tree


def refusals(repository: Path, publications: Sequence[Publication], image: str | None) -> Mapping[str, str]:
    """Why the server would not load what is about to be published, by model; a model that it loads is left out.

    Args:
        repository: as it is now.
        publications: what is to go into it.
        image: of the target; None for any server.
    """
    planned = open_repository(planned_tree(repository, publications), ServerFacts(image=image))
    rules = [rule for rule in RULES if rule.server]
    names = [publication.model for publication in publications]
    found = [f for f in findings_of(planned, rules, names) if f.severity == Severity.ERROR]
    reasons: dict[str, dict[str, str]] = {name: {} for name in names}  # what several configs break is told once
    for each in found:
        if each.model in reasons:
            reasons[each.model].setdefault(f"{each.code} {each.message}", each.place)
    return {
        name: "; ".join(f"{why} ({place})" for why, place in told.items()) for name, told in reasons.items() if told
    }
