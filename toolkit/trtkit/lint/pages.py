# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The rules' pages, made of their docstrings: for ``--explain``, for SARIF and for docs/rules."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from inspect import cleandoc
from textwrap import dedent, indent

from trtkit.lint.rule import Rule

_EXAMPLES = re.compile(r"^(Wrong|Right):\n((?:[ \t]+[^\n]*\n|\n)+)", flags=re.MULTILINE)
_TABLE = re.compile(r"(<!-- rules -->\n).*?(<!-- end of rules -->)", flags=re.DOTALL)


@dataclass(frozen=True)
class Page:
    """A rule's page.

    Attributes:
        rule: whose it is.
        sentence: what is wrong, in one sentence.
        why: paragraphs; '' where the sentence says it all.
        wrong, right: examples, each perhaps of several lines.
    """

    rule: Rule
    sentence: str
    why: str
    wrong: str
    right: str

    @property
    def kind(self) -> str:
        """What its findings mean, in half a sentence."""
        if self.rule.server:
            return f"{self.rule.severity}: {self.rule.refusal}"
        return str(self.rule.severity)

    def text(self) -> str:
        """The page for a terminal."""
        parts = [self.sentence, self.why, *(f"{name}:\n{indent(text, '    ')}" for name, text in self.examples())]
        return "\n\n".join(part for part in parts if part)

    def markdown(self) -> str:
        """The page without its heading."""
        parts = [self.sentence, self.why, *(f"{name}:\n\n```text\n{text}\n```" for name, text in self.examples())]
        return "\n\n".join(part for part in parts if part)

    def examples(self) -> Iterator[tuple[str, str]]:
        """``Wrong`` and ``Right``, each with its text."""
        yield from ((name, text) for name, text in (("Wrong", self.wrong), ("Right", self.right)) if text)


def page_of(rule: Rule) -> Page:
    """The page of a rule."""
    text = cleandoc(rule.page) + "\n"
    examples = {found[1]: dedent(found[2]).strip("\n") for found in _EXAMPLES.finditer(text)}
    sentence, _, why = _EXAMPLES.sub("", text).strip().partition("\n\n")
    return Page(rule, " ".join(sentence.split()), why.strip(), examples.get("Wrong", ""), examples.get("Right", ""))


def categories(rules: Sequence[Rule]) -> dict[str, str]:
    """By the letters of a category, what its rules are about: the first lines of their modules' docstrings."""
    found: dict[str, dict[str, None]] = {}
    for each in rules:
        module = sys.modules[each.check.__module__].__doc__ or ""
        found.setdefault(each.category, {})[module.strip().partition("\n")[0].rstrip(".")] = None
    return {category: "; ".join(sentences) for category, sentences in found.items()}


@dataclass(frozen=True)
class Home:
    """Where a linter's documents are.

    Attributes:
        guide: its guide, in docs/.
        folder: of the pages, in docs/.
        renewal: what writes them anew.
        refused: how the tables call what a rule's `Rule.server` says.
    """

    guide: str = "lint.md"
    folder: str = "rules"
    renewal: str = "python tests/test_docs.py"
    refused: tuple[str, str] = ("of them the server's", "server")


REPOSITORY_HOME = Home()


def documents(rules: Sequence[Rule], lint_md: str, home: Home = REPOSITORY_HOME) -> dict[str, str]:
    """The generated documents, by their path in docs/: the guide with its tables, and a page for each category.

    Args:
        rules: all there are.
        lint_md: the guide as it is; what stands between its two marks is written anew.
        home: where they are.
    """
    pages = {
        f"{home.folder}/{category}.md": _category_page(rules, category, about, home)
        for category, about in categories(rules).items()
    }
    return {home.guide: _TABLE.sub(lambda found: found[1] + _tables(rules, home) + found[2], lint_md), **pages}


def _category_page(rules: Sequence[Rule], category: str, about: str, home: Home) -> str:
    parts = [f"# {category}: {about}", f"Made from the rules' docstrings; `{home.renewal}` renews it."]
    for each in rules:
        if each.category == category:
            page = page_of(each)
            parts += [f"## {each.code} {each.name}", f"{page.kind}.".capitalize(), page.markdown()]
    return "\n\n".join(parts) + "\n"


def _tables(rules: Sequence[Rule], home: Home) -> str:
    rows = [f"| category | rules | {home.refused[0]} | about |", "| --- | ---: | ---: | --- |"]
    for category, about in categories(rules).items():
        own = [each for each in rules if each.category == category]
        server = sum(each.server for each in own)
        rows.append(f"| [{category}]({home.folder}/{category}.md) | {len(own)} | {server} | {about} |")
    rows.append(f"| all | {len(rules)} | {sum(each.server for each in rules)} | |")
    rows += ["", f"| code | name | severity | {home.refused[1]} | what it finds |", "| --- | --- | --- | --- | --- |"]
    for each in rules:
        link = f"[{each.code}]({home.folder}/{each.category}.md#{each.code.lower()}-{each.name})"
        sentence = page_of(each).sentence.replace("|", "\\|")
        rows.append(f"| {link} | {each.name} | {each.severity} | {'yes' if each.server else ''} | {sentence} |")
    return "\n".join(rows) + "\n"
