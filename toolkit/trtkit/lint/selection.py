# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Which rules a word means: a code, a rule's name, or the letters that a category's codes begin with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from trtkit.errors import ProjectError

if TYPE_CHECKING:
    from trtkit.lint.rule import Rule

Words = Mapping[str, frozenset[str]]
"""By the word that people write, the codes it stands for."""


def words_of(rules: Iterable[Rule]) -> Words:
    """All words for some rules: ``BAT002``, ``preferred-batch-size-above-max``, ``BAT``."""
    found: dict[str, set[str]] = {}
    for each in rules:
        for word in (each.code, each.name, each.category):
            found.setdefault(word, set()).add(each.code)
    return {word: frozenset(codes) for word, codes in found.items()}


def codes_of(word: str, words: Words) -> frozenset[str]:
    """The codes of a word: one of `words`, or what several codes begin with, as ``BAT0``; empty for neither.

    A code may be written in small letters.
    """
    if word in words:
        return words[word]
    start = word.upper()
    return frozenset().union(*(codes for known, codes in words.items() if start and known.startswith(start)))


def nearest_word(word: str, words: Words) -> str:
    """The end of a sentence about an unknown word."""
    close = get_close_matches(word, words, n=1) or get_close_matches(word.upper(), words, n=1)
    return f"did you mean '{close[0]}'?" if close else "`--rules` lists all"


def select(rules: Sequence[Rule], chosen: Sequence[str] = (), ignored: Sequence[str] = ()) -> tuple[Rule, ...]:
    """The rules to apply.

    Args:
        rules: all there are.
        chosen: words, each perhaps several with commas between; none for all rules.
        ignored: words likewise, for what is left out of these.

    Raises:
        ProjectError: a word means no rule, or nothing is left.
    """
    words = words_of(rules)
    wanted = _codes(chosen, words, "--select") or frozenset().union(*words.values())
    left = wanted - _codes(ignored, words, "--ignore")
    if not left:
        raise ProjectError("--select and --ignore leave no rule; name fewer with --ignore")
    return tuple(each for each in rules if each.code in left)


def find_rule(rules: Sequence[Rule], word: str) -> Rule:
    """The rule of a code or name.

    Raises:
        ProjectError: there is none.
    """
    for each in rules:
        if word.upper() == each.code or word == each.name:
            return each
    words = {known: codes for known, codes in words_of(rules).items() if len(known) > len("BAT")}
    raise ProjectError(f"'{word}' is no rule; {nearest_word(word, words)}")


def _codes(given: Sequence[str], words: Words, option: str) -> frozenset[str]:
    found: set[str] = set()
    for word in (part.strip() for text in given for part in text.split(",")):
        codes = codes_of(word, words)
        if not codes:
            raise ProjectError(f"{option} '{word}' is no rule; {nearest_word(word, words)}")
        found |= codes
    return frozenset(found)
