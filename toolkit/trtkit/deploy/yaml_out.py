# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""YAML that people read: block style, two spaces, comments beside the values that have a reason."""

from __future__ import annotations

import json
import math
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
    return _head(comment) + "".join(f"{line}\n" for line in _block(value))


def dump_all(values: list[Any], *, comment: str = "") -> str:
    """Several documents in one file."""
    first, *others = [dump(value) for value in values]
    return _head(comment) + "---\n".join([first, *others])


def _head(comment: str) -> str:
    return "".join(f"# {_visible(line)}".rstrip() + "\n" for line in comment.splitlines())


def _block(value: Any) -> list[str]:
    if isinstance(value, Noted):
        why, inner = _unpacked(value)
        first, *others = _block(inner)
        return [_with(first, why), *others]
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
    """The comment beside a value, and the value; of a `Noted` in a `Noted` both comments."""
    if not isinstance(item, Noted):
        return "", item
    why, value = _unpacked(item.value)
    return "; ".join(filter(None, (item.why, why))), value


def _with(line: str, why: str) -> str:
    comment = _visible(" ".join(why.split()))
    return f"{line}  # {comment}" if comment else line


def _visible(text: str) -> str:
    """A comment without characters that YAML does not take, not even there."""
    return "".join(c if c.isprintable() else "?" for c in text)


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
        return value if plain or _is_address(value) else _quoted(value)
    if isinstance(value, float):
        return _float(value)
    return "{}" if isinstance(value, Mapping) else "[]" if isinstance(value, list | tuple) else json.dumps(value)


def _quoted(value: str) -> str:
    """In double quotes; what YAML takes for a line break, or for no character, as an escape of its own."""
    return "".join(c if c.isprintable() else _escape(ord(c)) for c in json.dumps(value, ensure_ascii=False))


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _float(value: float) -> str:
    """As both versions of YAML read it: an exponent needs a point before it, and infinity has a name of its own."""
    if not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    mantissa, e, exponent = repr(value).partition("e")
    return mantissa + ("" if "." in mantissa else ".0") + e + exponent


def _is_address(value: str) -> bool:
    return re.fullmatch(r"[a-z][a-z0-9+]*://[A-Za-z0-9_./@:+%-]*[A-Za-z0-9_/]", value) is not None
