# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""YAML that people read: block style, two spaces, comments beside the values that have a reason."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from trtkit.deploy.figure import Noted

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@+-]*(:[A-Za-z0-9_./@+-]+)*")
# what one or another version of YAML takes for no string
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n", "none", "inf", "nan"}


def dump(value: Any, *, comment: str = "") -> str:
    """One YAML document.

    Args:
        value: mappings, lists, strings, numbers, booleans and None; `Noted` where a comment belongs beside one.
        comment: lines above it, without #.
    """
    head = [f"# {line}".rstrip() for line in comment.splitlines()]
    return "".join(f"{line}\n" for line in [*head, *_block(value)])


def dump_all(values: list[Any], *, comment: str = "") -> str:
    """Several documents in one file."""
    first, *others = [dump(value) for value in values]
    head = "".join(f"# {line}".rstrip() + "\n" for line in comment.splitlines())
    return head + "---\n".join([first, *others])


def _block(value: Any) -> list[str]:
    if isinstance(value, Noted):
        first, *others = _block(value.value)
        return [_with(first, value.why), *others]
    if isinstance(value, Mapping) and value:
        return [line for key, item in value.items() for line in _entry(f"{_scalar(str(key))}:", item)]
    if isinstance(value, list | tuple) and value:
        return [line for item in value for line in _item(item)]
    return [_scalar(value)]


def _entry(head: str, item: Any) -> Iterator[str]:
    """A key and what is below or beside it."""
    why, value = _unpacked(item)
    if isinstance(value, str) and _as_text(value):
        yield _with(f"{head} {_style(value)}", why)
        yield from (f"  {line}".rstrip() for line in value.rstrip("\n").split("\n"))
    elif isinstance(value, Mapping | list | tuple) and value:
        yield _with(head, why)
        yield from (f"  {line}" if line else "" for line in _block(value))
    else:
        yield _with(f"{head} {_scalar(value)}", why)


def _item(item: Any) -> Iterator[str]:
    why, value = _unpacked(item)
    if isinstance(value, str) and _as_text(value):
        yield _with(f"- {_style(value)}", why)
        yield from (f"  {line}".rstrip() for line in value.rstrip("\n").split("\n"))
        return
    first, *others = _block(value)
    yield _with(f"- {first}", why)
    yield from (f"  {line}" if line else "" for line in others)


def _unpacked(item: Any) -> tuple[str, Any]:
    return (item.why, item.value) if isinstance(item, Noted) else ("", item)


def _with(line: str, why: str) -> str:
    return f"{line}  # {' '.join(why.split())}" if why else line


def _as_text(value: str) -> bool:
    """Whether a string can stand as a block of lines as it is: no line but the last may end in a blank."""
    lines = value.split("\n")
    body = lines[:-1] if value.endswith("\n") else lines
    return (
        len(lines) > 1
        and all(line.isprintable() and line == line.rstrip() for line in body)
        and bool(body[0])
        and not body[0].startswith(" ")
        and bool(body[-1])
    )


def _style(value: str) -> str:
    return "|" if value.endswith("\n") else "|-"


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS and "://" not in value
        return value if plain or _is_address(value) else json.dumps(value, ensure_ascii=False)
    return "{}" if isinstance(value, Mapping) else "[]" if isinstance(value, list | tuple) else json.dumps(value)


def _is_address(value: str) -> bool:
    return re.fullmatch(r"[a-z][a-z0-9+]*://[A-Za-z0-9_./@:+%-]*[A-Za-z0-9_/]", value) is not None
