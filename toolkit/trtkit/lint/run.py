# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""From a repository to the findings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trtkit.config import is_generated
from trtkit.lint.finding import Finding, Fix
from trtkit.lint.model import Found, Model, Repository
from trtkit.lint.rule import Rule
from trtkit.lint.rules import RULES
from trtkit.lint.selection import words_of
from trtkit.lint.server_facts import ServerFacts
from trtkit.lint.tree import Tree
from trtkit.repository import CONFIG_FILE

_LAST = "IGN"
"""The category of the rules about comments, which look at what the others found."""
_WORDS = words_of(RULES)
_LONGEST = 1000


def open_repository(tree: Tree, server: ServerFacts) -> Repository:
    """The models under a root: every folder in it, as the server sees it.

    Raises:
        OSError: the root cannot be read.
    """
    repository = Repository(tree, server, words=_WORDS)
    for entry in tree.entries(""):
        if entry.kind == "folder":
            repository.models[entry.name] = _served(Model(repository, entry.name, entry.name))
    return repository


def _served(model: Model) -> Model:
    """The model with the config that the server takes: ``--model-config-name`` chooses it where it is there."""
    file = f"configs/{model.server.config_name}.pbtxt"
    return model.with_config(file) if model.server.config_name and model.kind(file) == "file" else model


def findings_of(repository: Repository, rules: Sequence[Rule], models: Sequence[str] = ()) -> list[Finding]:
    """What the rules find, by file and line, less what comments in the files tell to ignore.

    Args:
        repository: the models.
        rules: the rules to apply.
        models: look only at these; default: all.
    """
    chosen = [repository.models[name] for name in models] if models else list(repository.models.values())
    others, last = _in_order(rules)
    findings = [finding for model in chosen for finding in _lint_model(model, others, last)]
    if not models:
        findings += [
            _finding(each, "", found, None)
            for each in rules if each.of_repository for found in each.check(repository)
        ]  # fmt: skip
    return sorted(dict.fromkeys(findings), key=lambda f: (f.file, f.line or 0, f.column or 0, f.code))


def _in_order(rules: Sequence[Rule]) -> tuple[list[Rule], list[Rule]]:
    """The rules that look at a model, and those that look at what these found."""
    of_models = [each for each in rules if not each.of_repository]
    last = [each for each in of_models if each.category == _LAST]
    return [each for each in of_models if each.category != _LAST], last


def _finding(rule: Rule, model: str, found: Found, fix: Fix | None) -> Finding:
    return Finding(
        rule.code, rule.name, rule.severity, model, found.file, _shown(found.message), found.line, found.column, fix
    )


def _shown(message: str) -> str:
    """A message in one line that a terminal can show, whatever stands in the names it quotes."""
    if not message.isprintable():
        message = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
    return message if len(message) <= _LONGEST else f"{message[:_LONGEST]}…"


def _lint_model(model: Model, others: Sequence[Rule], last: Sequence[Rule]) -> list[Finding]:
    findings: list[Finding] = []
    for view in _views(model):
        findings += _lint_view(view, others, model)
        if last:
            _read_comments(view, model)
    return [*findings, *_lint_view(model, last, model)]


def _views(model: Model) -> Iterator[Model]:
    """The model with the config that is served, and with each other one it has."""
    yield model
    for file in model.variants:
        if file != model.config_file:
            yield model.with_config(file)
    if model.config_file != CONFIG_FILE and model.entry(CONFIG_FILE):
        yield model.with_config(CONFIG_FILE)


def _lint_view(view: Model, rules: Sequence[Rule], model: Model) -> Iterator[Finding]:
    """What the rules find with the config that a view looks at.

    A config that trtkit generated has no fixes: the next build would write it anew.
    """
    readable, ignores, own = view.readable, model.ignores, view.path(view.config_file)
    generated = view.document is not None and is_generated(view.document.text)
    for each in rules:
        if not readable and each.needs_config:
            continue
        for found in each.check(view):
            if not ignores.hides(view, each.code, found):
                fix = None if generated and found.file == own else found.fix
                yield _finding(each, view.name, found, fix)
        if view.server.complete or not each.depends_on_server:
            ignores.said_all.add(each.code)


def _read_comments(view: Model, model: Model) -> None:
    """Read the comments of files in which nothing was found."""
    model.ignores.of_config(view)
    for file in view.model_files().values() if view.readable else ():
        if view.entry(file):
            model.ignores.of_python(view, view.path(file))
