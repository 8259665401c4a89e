# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The fields of a protobuf message in a file, read without what they hold.

The format: https://protobuf.dev/programming-guides/encoding/. A field is a tag, which is its number and three bits of
how it is written, and a value; what is in a message within the message is bytes here, until its fields are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from trtkit.errors import TrtkitError

VARINT, BYTES = 0, 2
_GROUP, _END_GROUP = 3, 4
_FIXED_BYTES = {1: 8, 5: 4}

_FIRST_READ, _READ_AFTER_A_STEP, _LARGEST_READ = 1 << 16, 1 << 12, 1 << 18
_LONGEST_FIELD_START = 15  # a tag of 5 bytes and a number of 10
_LONGEST_TEXT = 1 << 16
_DEEPEST_GROUP = 100  # as protobuf's own limit
_MOST_FIELDS = 4_000_000  # a few seconds; the largest graphs have some 100,000 nodes and tensors


class WireError(TrtkitError):
    """The bytes are no protobuf message: what is wrong with them, and at which byte."""


class Wire:
    """A file of one protobuf message, seen through a window that moves forwards."""

    __slots__ = ("_base", "_data", "_fields_left", "_next_read", "_size", "_stream")

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._size = stream, size
        self._base, self._data = 0, b""
        self._next_read, self._fields_left = _FIRST_READ, _MOST_FIELDS

    def fields(self, at: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The fields of the message in the bytes [at, end), in their order; the outer message goes on behind it.

        Yields:
            The tag; where its value starts and ends. For a varint: the number itself, and where it ends.

        Raises:
            WireError: the bytes are no protobuf.
        """
        groups: list[int] = []  # fields of groups are stepped over: no message that is read here has them
        while at < end:
            begin, offset = at, at - self._base
            tag = value = 0x80
            if offset + _LONGEST_FIELD_START <= len(self._data):  # most often both are numbers of one byte
                tag, value = self._data[offset], self._data[offset + 1]
            if tag < 0x80 and value < 0x80 and not tag & 5:
                at += 2
            else:
                tag, value, at = self._field_start(at)
            self._fields_left -= 1
            wire_type, start = tag & 7, at
            if wire_type == BYTES:
                at += value
            elif wire_type == VARINT:
                start = value
            elif wire_type in _FIXED_BYTES:
                at += _FIXED_BYTES[wire_type]
            else:
                _count_groups(groups, tag, begin)
            if at > end or tag < 8 or tag >> 32 or self._fields_left < 0:
                raise self._broken(tag, begin, at, end)
            if not groups:
                yield tag, start, at
        if groups:
            raise WireError(f"a group of protobuf fields has no end up to byte {end}")

    def text(self, start: int, end: int) -> str:
        r"""The string in the bytes [start, end); bytes that are no UTF-8 are written as ``\xff``.

        Raises:
            WireError: it is too long for a name, or the file ends before it.
        """
        length = end - start
        if length > _LONGEST_TEXT:
            raise WireError(f"the name at byte {start} has {length} bytes, which is too long for one")
        offset = start - self._base
        if offset + length > len(self._data):
            offset = self._move(start, length)
        found = self._data[offset : offset + length]
        if len(found) < length:
            raise self._cut()
        return found.decode("utf-8", "backslashreplace")

    def _field_start(self, at: int) -> tuple[int, int, int]:
        """A tag, the number behind it (0 where there is none), and where they end."""
        offset = at - self._base
        if offset + _LONGEST_FIELD_START > len(self._data):
            offset = self._move(at, _LONGEST_FIELD_START)
        data, base = self._data, self._base
        value = 0
        try:
            tag = data[offset]
            offset += 1
            if tag >= 0x80:
                tag, offset = _varint(data, offset - 1, 5)
            if tag & 7 in (BYTES, VARINT):
                value = data[offset]
                offset += 1
                if value >= 0x80:
                    value, offset = _varint(data, offset - 1, 10)
        except IndexError:
            raise self._cut() from None
        except ValueError:
            raise WireError(f"the field at byte {at} has a number that is too long for protobuf") from None
        return tag, value, base + offset

    def _move(self, at: int, needed: int) -> int:
        """Have the window start at a byte; where it goes on it grows, after a step over something it is small."""
        window_end = self._base + len(self._data)
        if window_end < self._size:
            if at > window_end:
                self._next_read = _READ_AFTER_A_STEP
            self._stream.seek(at)
            self._data, self._base = self._stream.read(max(needed, self._next_read)), at
            self._next_read = min(2 * self._next_read, _LARGEST_READ)
        return at - self._base

    def _cut(self) -> WireError:
        return WireError(f"it ends in the middle of a field, at byte {self._size}")

    def _broken(self, tag: int, begin: int, at: int, end: int) -> WireError:
        if self._fields_left < 0:
            return WireError(f"it has {_MOST_FIELDS} fields up to byte {begin}, which is too many for a model")
        if tag < 8 or tag >> 32:
            return WireError(f"the field at byte {begin} has the number {tag >> 3}, which protobuf does not have")
        if at > self._size:
            return WireError(f"the field at byte {begin} ends at byte {at}, and the file at byte {self._size}")
        return WireError(f"the field at byte {begin} ends at byte {at}, and the message it is in at byte {end}")


def signed(value: int) -> int:
    """A varint as the int64 that it stands for."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _varint(data: bytes, at: int, longest: int) -> tuple[int, int]:
    """A number of at most `longest` bytes, and where it ends; IndexError where the data ends before it does."""
    value = 0
    for index in range(longest):
        byte = data[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError


def _count_groups(groups: list[int], tag: int, begin: int) -> None:
    number, wire_type = tag >> 3, tag & 7
    if wire_type == _GROUP and len(groups) < _DEEPEST_GROUP:
        groups.append(number)
    elif wire_type == _END_GROUP and groups and groups[-1] == number:
        groups.pop()
    else:
        raise WireError(f"the field at byte {begin} has wire type {wire_type}, which protobuf does not have there")
