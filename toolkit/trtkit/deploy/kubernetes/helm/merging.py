# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""One template for an object's variants: what they share stays, what they differ in becomes a value."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trtkit.deploy.figure import Noted, plain
from trtkit.deploy.kubernetes.helm.collected import ABSENT, Hole, Values
from trtkit.deploy.kubernetes.helm.lists import identities, union
from trtkit.deploy.kubernetes.helm.names import OFFERED, Path, automatic_name, camel, field_name, object_name

LONG = 20
"""Lines from which on a ConfigMap's text is a file of the chart."""
_WORD = re.compile(r"([A-Za-z0-9_.-]+)")


@dataclass(frozen=True)
class Merging:
    """The object that is being merged.

    Attributes:
        kind, role: which one; `role` is its name without the plan's.
        values: where values go.
        spread: from the values of the variants that have the object to those of all.
        shared: words that are expressions wherever they stand, by their text in each variant that has the object.
        files: puts long texts into files of the chart, given their name and each variant's, and says how to get them.
    """

    kind: str
    role: str
    values: Values
    spread: Callable[[list[Any]], list[Any]]
    shared: dict[tuple[str, ...], str]
    files: Callable[[str, list[str]], Hole]


def merge(of: Merging, variants: Sequence[Any], path: Path = ()) -> Any:
    """A tree like the variants, with markers for holes in it.

    Args:
        of: the object.
        variants: the field, in each environment that has the object.
        path: to the field.
    """
    bare = [_bare(value) for value in variants]
    name = field_name(of.kind, of.role, path)
    if name is not None or any(value is ABSENT for value in bare):
        return _hole(of, variants, name or automatic_name(of.kind, of.role, path))
    if path[-1:] == ("image",) and of.kind == "Deployment" and all(_TAGGED.search(value) for value in bare):
        return _image(of, bare)
    if all(isinstance(value, dict) for value in bare):
        every = dict.fromkeys(key for value in bare for key in value)
        every |= dict.fromkeys(OFFERED.get(of.kind, {}).get(path, ()))
        # what is always there goes first: a list's item cannot begin with a field that may be left out
        keys = sorted(every, key=lambda key: any(key not in value for value in bare))
        if keys and not all(keys[0] in value for value in bare):
            return _hole(of, variants, automatic_name(of.kind, of.role, path))
        merged = {key: merge(of, [v.get(key, ABSENT) for v in bare], (*path, str(key))) for key in keys}
        return _noted(merged, variants)
    if all(isinstance(value, list) for value in bare):
        items = _items(of, bare, path)
        return (
            _noted(items, variants)
            if items is not None
            else _hole(of, variants, automatic_name(of.kind, of.role, path))
        )
    return _leaf(of, variants, bare, path)


def _items(of: Merging, lists: list[list[Any]], path: Path) -> list[Any] | None:
    """Lists item by item, those that not all have between markers; None where their items are not the same things."""
    rows = [identities(items) for items in lists]
    order = union(rows)
    numbered = any(identity == "[0]" for row in rows for identity in row)
    if order is None or (order and not all(rows)) or (numbered and len({len(row) for row in rows}) > 1):
        return None
    merged: list[Any] = []
    for identity in order:
        there = [identity in row for row in rows]
        column = [items[row.index(identity)] for items, row in zip(lists, rows, strict=True) if identity in row]
        if all(there):
            merged.append(merge(of, column, (*path, identity)))
        else:
            switch = of.values.add((object_name(of.kind, of.role), camel(identity)), of.spread(list(there)))
            begin, end = of.values.marks(switch)
            merged += [begin, merge(_part(of, there), column, (*path, identity)), end]
    return merged


def _part(of: Merging, there: list[bool]) -> Merging:
    """The same object, in those of its variants that have an item."""

    def spread(present: list[Any]) -> list[Any]:
        values = iter(present)
        return of.spread([next(values) if here else present[0] for here in there])

    shared = {tuple(word for word, here in zip(words, there, strict=True) if here): e for words, e in of.shared.items()}
    return replace(of, spread=spread, shared=shared)


_TAGGED = re.compile(r":[^/:]+$")


def _leaf(of: Merging, variants: Sequence[Any], bare: list[Any], path: Path) -> Any:
    if all(isinstance(value, str) for value in bare):
        if of.kind == "ConfigMap" and any(value.count("\n") >= LONG for value in bare):
            return of.values.mark(of.files(path[-1], bare))
        text = _text(of, bare, path)
        if text is not None:
            return _noted(text, variants)
    elif all(value == bare[0] and type(value) is type(bare[0]) for value in bare):
        return _noted(bare[0], variants)
    return _hole(of, variants, automatic_name(of.kind, of.role, path))


def _text(of: Merging, texts: list[str], path: Path) -> str | None:
    """A text with the words in which the variants differ as values; None where they differ in more than words."""
    rows = [_WORD.split(text) for text in texts]
    if len({len(row) for row in rows}) != 1 or any(
        len(set(column)) > 1 for column in list(zip(*rows, strict=True))[::2]
    ):
        return None
    columns = list(zip(*rows, strict=True))
    whole = len(columns) == 3 and not columns[0][0] and not columns[2][0]
    parts = []
    for index, column in enumerate(columns):
        expression = of.shared.get(column) if index % 2 and _may_share(of, columns, index, path, whole) else None
        if expression is not None:
            parts.append(of.values.mark(Hole(expression, word=not whole)))
        elif len(set(column)) == 1:
            parts.append(column[0])
        elif whole:
            return None
        else:
            hole = of.values.add(automatic_name(of.kind, of.role, path), of.spread(list(column)))
            parts.append(of.values.mark(replace(hole, word=True)))
    return "".join(parts)


def _may_share(of: Merging, columns: list[tuple[str, ...]], index: int, path: Path, whole: bool) -> bool:
    """Whether a word stands for the shared thing: where all variants have the same one, it may do so by accident."""
    if of.shared.get(columns[index]) != ".Release.Namespace" or len(set(columns[index])) > 1:
        return True
    if whole:
        return path[-1:] == ("namespace",)
    return index > 1 and columns[index - 2][0].endswith("namespace") and columns[index - 1][0] in _EQUALS


_EQUALS = ('="', '=\\"', "=", " ")


def _image(of: Merging, images: list[str]) -> str:
    pairs = [image.rpartition(":") for image in images]
    repository = of.values.add(("image", "repository"), of.spread([pair[0] for pair in pairs]))
    tag = of.values.add(("image", "tag"), of.spread([pair[2] for pair in pairs]))
    return f"{of.values.mark(replace(repository, word=True))}:{of.values.mark(replace(tag, word=True))}"


def _hole(of: Merging, variants: Sequence[Any], name: Path) -> str:
    there = [plain(value) for value in variants if value is not ABSENT]
    if all(_alike(there[0], value) for value in there[1:]):
        return of.values.mark(of.values.add(name, of.spread(list(variants))))
    # Helm merges mappings, and puts nothing else in the place of one: in a list, each stands for itself
    boxed = [value if value is ABSENT else [value] for value in variants]
    hole = of.values.add(name, of.spread(boxed))
    return of.values.mark(replace(hole, block=False, inside=True))


def _alike(one: Any, other: Any) -> bool:
    """Whether mappings are where the other has mappings too."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_alike(one[key], other[key]) for key in one.keys() & other.keys())
    return not isinstance(one, dict) and not isinstance(other, dict)


def _bare(value: Any) -> Any:
    return value.value if isinstance(value, Noted) else value


def _noted(value: Any, variants: Sequence[Any]) -> Any:
    """With the comment that all variants have."""
    whys = {variant.why if isinstance(variant, Noted) else "" for variant in variants}
    why = whys.pop() if len(whys) == 1 else ""
    return Noted(value, why) if why else value
