# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""``trtkit build --check``: whether the configs in the repository are what a build would write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trtkit.config import ModelConfig, is_generated, read_config
from trtkit.config_diff import Difference, differences
from trtkit.errors import ConfigError, RepositoryError
from trtkit.repository import CONFIG_FILE, config_file, config_text, variants

SAME, TEXT, DIFFERS, ABSENT, MISSING = "same", "text", "differs", "absent", "missing"


@dataclass(frozen=True)
class FileCheck:
    """One file of a model's folder beside what would be generated.

    Attributes:
        file: relative to the model's folder.
        status: ``same``; ``text`` where only comments, order or the first line differ; ``differs``; ``absent`` where
            there is none in the repository; ``missing``: a labels file that a config names, which no build makes.
        note: what a build would do about it, or what is wrong with it; ``""`` when it is the same.
        differences: per field, the committed value first; empty when the messages are equal.
    """

    file: str
    status: str
    note: str = ""
    differences: list[Difference] = field(default_factory=list)


def check_configs(repository: Path, model: str, texts: Mapping[str, str]) -> list[FileCheck]:
    """Compare a model's configs as messages, and look for the labels files they name.

    Args:
        repository: the model repository.
        model: its name.
        texts: what would be generated, by the name in ``configs:``; config.pbtxt is ``""``.

    Returns:
        A row per config; more for labels files that are not there, and for generated configs that are none any more.
    """
    checks = [_check(repository, model, variant, text) for variant, text in texts.items()]
    labels = {
        output.label_filename: None
        for variant, text in texts.items()
        for output in read_config(text, f"{model}/{config_file(variant)}").output
        if output.label_filename
    }
    is_there = (repository / model / CONFIG_FILE).is_file()
    missing = [name for name in labels if is_there and not (repository / model / name).is_file()]
    checks += [FileCheck(name, MISSING, "the config names this labels file, which is not there") for name in missing]
    stale = [name for name in variants(repository, model) if name not in texts and _is_ours(repository, model, name)]
    return checks + [FileCheck(config_file(name), DIFFERS, "a build removes it") for name in stale]


def _is_ours(repository: Path, model: str, variant: str) -> bool:
    try:
        return is_generated(config_text(repository, model, variant) or "")
    except RepositoryError:
        return False


def _check(repository: Path, model: str, variant: str, text: str) -> FileCheck:
    file = config_file(variant)
    try:
        committed = config_text(repository, model, variant)
        if committed is None:
            return FileCheck(file, ABSENT, "it is not in the repository")
        found = differences(_message(model, file, committed), _message(model, file, text))
    except (ConfigError, RepositoryError) as exc:
        return FileCheck(file, DIFFERS, str(exc))
    if committed == text:
        return FileCheck(file, SAME)
    by_hand = "" if is_generated(committed) else "it was edited by hand, so that a build refuses to replace it"
    if found:
        return FileCheck(file, DIFFERS, by_hand, found)
    return FileCheck(file, TEXT, f"equal as a message, only its text differs; {by_hand or 'a build writes it anew'}")


def _message(model: str, file: str, text: str) -> ModelConfig:
    return read_config(text, f"{model}/{file}")


def problem(checks: Mapping[str, list[FileCheck]], named: set[str]) -> RepositoryError | None:
    """The error that a check ends with; None when every config that is there is what would be generated.

    Args:
        checks: the rows by model.
        named: models that were asked for, whose configs have to be there; other models may be absent altogether.
    """
    wrong = [name for name, rows in checks.items() if _is_wrong(rows, name in named)]
    if wrong:
        return RepositoryError(
            f"the committed configs of {', '.join(wrong)} are not what would be generated; run `trtkit build` and "
            "commit what it writes"
        )
    unlabelled = [name for name, rows in checks.items() if any(row.status == MISSING for row in rows)]
    if unlabelled:
        return RepositoryError(f"labels files of {', '.join(unlabelled)} are missing; put them into the model's folder")
    if all(row.status == ABSENT for rows in checks.values() for row in rows):
        return RepositoryError("no config was compared: none of the models has one in the repository")
    return None


def _is_wrong(rows: list[FileCheck], named: bool) -> bool:
    absent = [row for row in rows if row.status == ABSENT]
    if absent and (named or len(absent) < len(rows)):
        return True
    return any(row.status == DIFFERS for row in rows)
