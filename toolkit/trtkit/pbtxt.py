# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Protobuf text format, read with the place of everything in it, and past the first mistake.

``google.protobuf.text_format`` gives a message or the first error; an editor and a linter need where each
field stands, every error, and the comments. What is accepted is what the server's C++ parser accepts.
Grammar: https://protobuf.dev/reference/protobuf/textformat-spec/
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from trtkit.errors import nearest

Path = tuple[str | int | bool, ...]
"""Field names, the index of a repeated field, and the key of a map, from the outside in."""

MAX_PROBLEMS = 50
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\v\f]+|\#[^\n]*)
      |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
      |(?P<number>0[xX][0-9a-fA-F]+|(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?[fF]?)
      |(?P<string>"(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\\\n]|\\[^\n])*')
      |(?P<mark>[\[\]{}<>:;,\-/.])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(
    r"\\(?:(?P<octal>[0-7]{1,3})|[xX](?P<hex>[0-9a-fA-F]{1,2})"
    r"|(?:u(?=[0-9a-fA-F]{4})|U(?=[0-9a-fA-F]{8}))(?P<unicode>(?<=u)[0-9a-fA-F]{4}|(?<=U)[0-9a-fA-F]{8})|.)"
)
_SIMPLE_ESCAPES = {
    "a": b"\a", "b": b"\b", "f": b"\f", "n": b"\n", "r": b"\r", "t": b"\t", "v": b"\v",
    "\\": b"\\", "?": b"?", "'": b"'", '"': b'"',
}  # fmt: skip
_CLOSING = {"{": "}", "<": ">"}
_HINTS = {
    "${": "fill in the template's ${...} first",
    "//": "a comment begins with #",
    "/*": "a comment begins with #",
    "\ufeff": "save the file without a byte order mark",
    **dict.fromkeys(("\udcff\udcfe", "\udcfe\udcff"), "save the file as UTF-8, not as UTF-16"),
    **dict.fromkeys("“”„‟«»‘’", "write straight quotes"),
}
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_FLOATS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)
_BOOLS = {"true": True, "True": True, "t": True, "1": True, "false": False, "False": False, "f": False, "0": False}
_FLOAT_WORDS = {"inf": math.inf, "infinity": math.inf, "nan": math.nan, "inff": math.inf, "infinityf": math.inf}


@dataclass(frozen=True)
class Span:
    """Where a field, or one value of a repeated field, stands: offsets of characters in the text.

    Attributes:
        start: of the field's name (of the value, inside a list in brackets).
        value: of the value.
        end: after the value.
    """

    start: int
    value: int
    end: int


@dataclass(frozen=True)
class Problem:
    """A mistake in the text.

    Attributes:
        kind: ``syntax``, ``unknown_field``, ``duplicate`` (a field that is not repeated stands twice),
            ``oneof`` (two fields that exclude each other) or ``value`` (of another type, or out of range).
        message: a sentence, without the place.
        offset: of the character it is about.
        path: of the field, or of the message that a field is unknown to.
        end: after what it is about.
        suggestion: the name that was probably meant.
    """

    kind: str
    message: str
    offset: int
    end: int
    path: Path = ()
    suggestion: str | None = None


@dataclass(frozen=True)
class Comment:
    """A comment: where it starts, its text from the ``#`` on, and whether it stands alone on its line."""

    offset: int
    text: str
    alone: bool


@dataclass
class Document:
    """What a text holds.

    Attributes:
        text: the text itself; bytes that are no UTF-8 are lone surrogates in it.
        message: everything that could be read.
        problems: all mistakes, in the order of the text.
        spans: by path; a repeated field's own path leads to its first value.
        bodies: by the path of a message: the offset of its closing brace (of the end, for the outermost).
        comments: in the order of the text.
    """

    text: str
    message: Any
    problems: list[Problem] = field(default_factory=list)
    spans: dict[Path, Span] = field(default_factory=dict)
    bodies: dict[Path, int] = field(default_factory=dict)
    comments: list[Comment] = field(default_factory=list)

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0, *(found.end() for found in re.finditer("\n", self.text))]

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, both from 1; columns count characters."""
        line = bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1

    def span(self, path: Path) -> Span:
        """Where a path stands, or the nearest thing around it that is written; the text's start for ()."""
        while path and path not in self.spans:
            path = path[:-1]
        return self.spans[path] if path else Span(0, 0, 0)

    def where(self, path: Path) -> tuple[int, int]:
        """Line and column of `span`."""
        return self.position(self.span(path).start)


def read(text: str | bytes, message_type: type[Message]) -> Document:
    """Read a text; never raises, whatever the text is.

    Args:
        text: bytes are read as UTF-8; what is not is an error only where a string's value is.
        message_type: e.g. ``ModelConfig``.
    """
    decoded = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text
    document = Document(decoded, message_type())
    reader = _Reader(document)
    reader.body(document.message, (), "")
    document.bodies[()] = len(decoded)
    return document


class _Token(NamedTuple):
    kind: str  # name, number, string, mark, bad, end
    text: str
    start: int
    end: int


class _GiveUpError(Exception):
    """The rest of this field cannot be understood; the problem is noted."""


class _Reader:
    """Recursive descent over the tokens; the depth is that of the message type, which does not recurse."""

    def __init__(self, document: Document) -> None:
        self.document, self.text = document, document.text
        self.spans, self.offset, self.previous_end = document.spans, 0, 0
        self.token = self._next()

    def _next(self) -> _Token:
        text, match = self.text, _TOKEN.match
        while found := match(text, self.offset):
            kind = str(found.lastgroup)
            start, self.offset = self.offset, found.end()
            if kind != "space":
                return _Token(kind, found.group(), start, self.offset)
            if text[start] == "#":
                line = text.rfind("\n", 0, start) + 1
                self.document.comments.append(Comment(start, found.group(), not text[line:start].strip()))
        start = self.offset
        if start >= len(text):
            return _Token("end", "", start, start)
        self.offset = start + 1
        return _Token("bad", text[start], start, start + 1)

    def _advance(self) -> _Token:
        token, self.previous_end = self.token, self.token.end
        self.token = self._next()
        return token

    def _take(self, *marks: str) -> bool:
        if self.token.kind == "mark" and self.token.text in marks:
            self._advance()
            return True
        return False

    def _problem(
        self, kind: str, message: str, token: _Token, path: Path = (), *, suggestion: str | None = None
    ) -> None:
        if len(self.document.problems) < MAX_PROBLEMS:
            self.document.problems.append(Problem(kind, message, token.start, token.end, path, suggestion))

    def _give_up(self, expected: str, path: Path) -> _GiveUpError:
        shown = _shown(self.token)
        if self.token.kind == "bad" and self.token.text in "\"'":
            expected = "the quote's other end on the same line"
        hint = self._hint()
        self._problem("syntax", f"expected {expected}, found {shown}{hint and '; '}{hint}", self.token, path)
        return _GiveUpError()

    def _hint(self) -> str:
        """What was probably meant by a token that cannot stand where it does; '' where nobody knows."""
        start = self.token.start
        if self.token.text == "]" and self.text[: self.previous_end].endswith(","):
            return "remove the comma before it"
        return next((hint for text, hint in _HINTS.items() if self.text.startswith(text, start)), "")

    def body(self, message: Any, path: Path, closing: str) -> None:
        """The fields up to the closing mark, or to the end of the text for ''."""
        while True:
            if self.token.kind == "end":
                if closing:
                    self._problem("syntax", f"expected '{closing}', found the end of the text", self.token, path)
                self.document.bodies[path] = self.token.start
                return
            if closing and self.token.kind == "mark" and self.token.text == closing:
                self.document.bodies[path] = self.token.start
                self._advance()
                return
            try:
                self._field(message, path)
            except _GiveUpError:
                self._resume(closing)

    def _resume(self, closing: str) -> None:
        """After a mistake: go on at the next line that starts with a name, or at this message's end."""
        depth = 0
        while self.token.kind != "end":
            first = self.text[self.text.rfind("\n", 0, self.token.start) + 1 : self.token.start].strip() == ""
            if depth <= 0 and first and self.token.kind == "name" and self.token.start >= self.previous_end:
                return
            if self.token.kind == "mark":
                if depth <= 0 and closing and self.token.text == closing:
                    return
                depth += (self.token.text in "{<") - (self.token.text in "}>")
            self._advance()

    def _field(self, message: Any, path: Path) -> None:
        token = self.token
        if token.kind != "name":
            if token.kind == "mark" and token.text == "[":
                self._extension(message, path)
                return
            raise self._give_up("a field name", path)
        self._advance()
        known = _fields(message.DESCRIPTOR)
        descriptor = known.get(token.text)
        if descriptor is None:
            self._unknown(token, message, known, path)
            return
        own = (*path, token.text)
        colon = self._take(":")
        if descriptor.message_type is None and not colon:
            raise self._give_up(f"':' after '{token.text}'", own)
        if descriptor.is_repeated and self._take("["):
            self._list(message, descriptor, own, token)
        else:
            self._one(message, descriptor, own, token)
        self._take(",", ";")

    def _unknown(self, token: _Token, message: Any, known: dict[str, FieldDescriptor], path: Path) -> None:
        words = f'Message type "{message.DESCRIPTOR.full_name}" has no field named "{token.text}"'
        colon = self._take(":")
        guess = nearest(token.text, self._fitting(known))
        suggestion = guess.split("'")[1] if guess.startswith("did you mean") else None
        guess = guess if suggestion else nearest("", known)
        self._problem("unknown_field", f"{words}; {guess}", token, path, suggestion=suggestion)
        self._skip_value(colon, path)
        self._take(",", ";")

    def _fitting(self, known: dict[str, FieldDescriptor]) -> list[str]:
        """The fields that can have a value that begins like the one that follows."""
        mark = self.token.text if self.token.kind == "mark" else ""
        if mark == "[":
            return [name for name, each in known.items() if each.is_repeated]
        return [name for name, each in known.items() if (each.message_type is not None) == (mark in ("{", "<"))]

    def _extension(self, message: Any, path: Path) -> None:
        token = self.token
        while self.token.kind != "end" and not self._take("]"):
            self._advance()
        name = " ".join(self.text[token.start + 1 : self.previous_end - 1].split())[:40]
        self._problem(
            "unknown_field", f'Message type "{message.DESCRIPTOR.full_name}" has no extension "{name}"', token, path
        )
        self._skip_value(self._take(":"), path)
        self._take(",", ";")

    def _skip_value(self, colon: bool, path: Path) -> None:
        """Whatever an unknown field has for a value: scalars, or anything in brackets."""
        if self.token.kind == "mark" and self.token.text in "{<[":
            depth = 0
            while self.token.kind != "end":
                opened = self._advance()
                if opened.kind == "mark":
                    depth += (opened.text in "{<[") - (opened.text in "}>]")
                if depth == 0:
                    return
            self._problem("syntax", "expected a closing bracket, found the end of the text", self.token, path)
        elif not colon:
            raise self._give_up("':' or '{'", path)
        else:
            self._take("-")
            if self.token.kind not in ("name", "number", "string"):
                raise self._give_up("a value", path)
            strings = self._advance().kind == "string"
            while strings and self.token.kind == "string":
                self._advance()

    def _list(self, message: Any, descriptor: FieldDescriptor, own: Path, name: _Token) -> None:
        opened = self.previous_end - 1
        before = len(getattr(message, descriptor.name))
        if self._take("]"):
            self.spans.setdefault(own, Span(name.start, opened, self.previous_end))
            return
        while True:
            self._one(message, descriptor, own, self.token)
            if self._take("]"):
                break
            if not self._take(","):
                raise self._give_up("',' or ']'", own)
        whole = Span(name.start, opened, self.previous_end)
        if before == 0:
            self.spans[own] = whole

    def _one(self, message: Any, descriptor: FieldDescriptor, own: Path, name: _Token) -> None:
        """One value, of a field or in a list."""
        if descriptor.message_type is not None and descriptor.message_type.GetOptions().map_entry:
            self._map_entry(message, descriptor, own, name)
            return
        if descriptor.is_repeated:
            own = (*own, len(getattr(message, descriptor.name)))
        else:
            self._check_once(message, descriptor, own, name)
        start = self.token.start
        if descriptor.message_type is not None:
            self._message(message, descriptor, own)
        else:
            value = self._scalar(descriptor, own)
            if value is not None:
                self._store(message, descriptor, value, own, start)
        span = Span(name.start, start, self.previous_end)
        self.spans.setdefault(own, span)
        if descriptor.is_repeated:
            self.spans.setdefault(own[:-1], span)

    def _message(self, message: Any, descriptor: FieldDescriptor, own: Path) -> None:
        mark = self.token.text
        if not self._take("{", "<"):
            raise self._give_up(f"'{{' after '{descriptor.name}'", own)
        if descriptor.is_repeated:
            inner = getattr(message, descriptor.name).add()
        else:
            inner = getattr(message, descriptor.name)
            inner.SetInParent()
        self.body(inner, own, _CLOSING[mark])

    def _map_entry(self, message: Any, descriptor: FieldDescriptor, own: Path, name: _Token) -> None:
        start, mark = self.token.start, self.token.text
        if not self._take("{", "<"):
            raise self._give_up(f"'{{' after '{descriptor.name}'", own)
        entry_type = descriptor.message_type
        assert entry_type is not None, "a map's entries are messages"
        entry = GetMessageClass(entry_type)()
        outer, self.spans = self.spans, {}
        bodies, self.document.bodies = self.document.bodies, {}
        try:
            self.body(entry, (), _CLOSING[mark])
        finally:
            inner, self.spans = self.spans, outer
            ends, self.document.bodies = self.document.bodies, bodies
        key: Any = entry.key  # type: ignore[attr-defined]
        values = getattr(message, descriptor.name)
        if entry_type.fields_by_name["value"].message_type is None:
            values[key] = entry.value  # type: ignore[attr-defined]
        else:
            values[key].CopyFrom(entry.value)  # type: ignore[attr-defined]
        own = (*own, key)
        self.spans.setdefault(own[:-1], Span(name.start, start, self.previous_end))
        self.spans[own] = Span(name.start, start, self.previous_end)
        self.spans.update({(*own, *path[1:]): span for path, span in inner.items() if path[0] == "value" and path[1:]})
        bodies.update({(*own, *path[1:]): end for path, end in ends.items() if path[:1] == ("value",)})

    def _check_once(self, message: Any, descriptor: FieldDescriptor, own: Path, name: _Token) -> None:
        oneof = descriptor.containing_oneof
        other = message.WhichOneof(oneof.name) if oneof is not None else None
        if oneof is not None and other is not None and other != descriptor.name:
            words = f'Field "{descriptor.name}" is specified along with field "{other}", another member of oneof'
            self._problem("oneof", f'{words} "{oneof.name}"', name, own)
        elif message.HasField(descriptor.name) if descriptor.has_presence else getattr(message, descriptor.name):
            self._problem("duplicate", f'Non-repeated field "{descriptor.name}" is specified multiple times', name, own)

    def _store(self, message: Any, descriptor: FieldDescriptor, value: Any, own: Path, start: int) -> None:
        try:
            if descriptor.is_repeated:
                getattr(message, descriptor.name).append(value)
            else:
                setattr(message, descriptor.name, value)
        except (UnicodeEncodeError, ValueError) as exc:
            token = _Token("string", "", start, self.previous_end)
            self._problem("value", f"'{descriptor.name}' is no UTF-8 text ({exc.__class__.__name__})", token, own)

    def _scalar(self, descriptor: FieldDescriptor, own: Path) -> Any:
        """The value of a field that is no message; None where it is wrong, and the problem is noted."""
        kind = descriptor.cpp_type
        if kind == FieldDescriptor.CPPTYPE_STRING:
            return self._string(descriptor, own)
        first = self.token
        minus = self._take("-")
        token = self.token
        if token.kind not in ("name", "number", "string"):
            raise self._give_up(f"a value for '{descriptor.name}'", own)
        self._advance()
        if token.kind == "number" and self.token.start == token.end and self.token.kind in ("name", "number"):
            raise self._give_up("a space after the number", own)
        value, wanted = _value(descriptor, token, minus)
        if wanted:
            given = self.text[first.start : token.end]
            place = _Token(token.kind, given, first.start, token.end)
            meant, more = _meant(descriptor, token)
            self._problem(
                "value", f"'{descriptor.name}' takes {wanted}, got {given[:80]}{more}", place, own, suggestion=meant
            )
        return value

    def _string(self, descriptor: FieldDescriptor, own: Path) -> Any:
        if self.token.kind != "string":
            if self.token.kind in ("name", "number"):
                token = self._advance()
                words = f"'{descriptor.name}' takes text in quotes, got {token.text[:80]}"
                self._problem("value", words, token, own, suggestion=f'"{token.text}"')
                return None
            raise self._give_up(f"text in quotes for '{descriptor.name}'", own)
        content, first = b"", self.token
        while self.token.kind == "string":
            content += self._unescaped(self._advance(), own)
        if descriptor.type == FieldDescriptor.TYPE_BYTES:
            return content
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            self._problem("value", f"'{descriptor.name}' is no UTF-8 text", first, own)
            return None

    def _unescaped(self, token: _Token, own: Path) -> bytes:
        """A string's bytes; an escape that there is not is noted."""
        inner = token.text[1:-1]
        if "\\" not in inner:
            return inner.encode("utf-8", "surrogateescape")
        content, last = b"", 0
        for found in _ESCAPE.finditer(inner):
            content += inner[last : found.start()].encode("utf-8", "surrogateescape")
            last = found.end()
            escape = _escape(found)
            if escape is None:
                start = token.start + 1 + found.start()
                place = _Token("bad", found.group(), start, start + len(found.group()))
                self._problem("syntax", f"there is no escape '{found.group()}'", place, own)
            content += escape or b""
        return content + inner[last:].encode("utf-8", "surrogateescape")


def _escape(found: re.Match[str]) -> bytes | None:
    """The bytes of an escape; None where it is none."""
    if found["octal"]:
        return bytes([int(found["octal"], 8) & 0xFF])
    if found["hex"]:
        return bytes([int(found["hex"], 16)])
    if found["unicode"]:
        code = int(found["unicode"], 16)
        return chr(code).encode("utf-8", "surrogatepass") if code <= 0x10FFFF else None
    return _SIMPLE_ESCAPES.get(found.group()[1:])


def _value(descriptor: FieldDescriptor, token: _Token, minus: bool) -> tuple[Any, str]:
    """The value and '', or None and what the field takes."""
    kind = descriptor.cpp_type
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        integer = _integer(token)
        value = _BOOLS.get(token.text) if token.kind == "name" else {0: False, 1: True}.get(integer)  # type: ignore[arg-type]
        return (None, "true or false") if value is None or minus else (value, "")
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return _enum(descriptor, token, minus)
    if kind in _FLOATS:
        number = _float(token)
        return (None, "a number") if number is None else (-number if minus else number, "")
    low, high = _INTEGERS[kind]
    integer = _integer(token)
    if integer is None:
        return None, "a whole number"
    signed = -integer if minus else integer
    if (minus and low == 0) or not low <= signed <= high:
        return None, f"a whole number from {low} to {high}"
    return signed, ""


def _enum(descriptor: FieldDescriptor, token: _Token, minus: bool) -> tuple[Any, str]:
    enum = descriptor.enum_type
    assert enum is not None, "called for enums only"
    values = enum.values_by_name
    if token.kind == "name" and not minus and token.text in values:
        return values[token.text].number, ""
    integer = _integer(token)
    if integer is None or integer >= 2**31 + minus:  # proto3: a number without a name is kept
        return None, f"a {enum.name}"
    return -integer if minus else integer, ""


def _meant(descriptor: FieldDescriptor, token: _Token) -> tuple[str | None, str]:
    """An enum's name that is given without its prefix, in quotes or in small letters; and the end of the sentence."""
    if descriptor.enum_type is None:
        return None, ""
    names, word = sorted(descriptor.enum_type.values_by_name), token.text.strip("\"'").upper()
    meant = next((name for name in names if name == word or name.endswith(f"_{word}")), None)
    return meant, f"; {nearest(meant or token.text, names)}"


def _integer(token: _Token) -> int | None:
    if token.kind != "number":
        return None
    text = token.text
    if text[:2] in ("0x", "0X"):
        return int(text, 16) if len(text) <= 18 else 2**64
    if not text.isdigit():
        return None
    if len(text) > 1 and text[0] == "0":
        return int(text, 8) if len(text) < 40 and not set(text) & set("89") else None
    return int(text) if len(text) < 40 else 2**64


def _float(token: _Token) -> float | None:
    if token.kind == "name":
        return _FLOAT_WORDS.get(token.text.lower())
    if token.kind != "number":
        return None
    text = token.text
    if text[:2] in ("0x", "0X") or (len(text) > 1 and text.isdigit() and text[0] == "0"):
        return None
    return float(text.rstrip("fF"))


def _shown(token: _Token) -> str:
    if token.kind == "end":
        return "the end of the text"
    return repr(token.text[:40]).replace("\\udc", "\\x")  # a byte that is no UTF-8


@lru_cache(maxsize=256)
def _fields(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    return dict(descriptor.fields_by_name)
