# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The files under a root, wherever they are."""

from __future__ import annotations

import errno
import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol


@dataclass(frozen=True)
class Entry:
    """What a folder holds under one name.

    Attributes:
        name: the last part of the path.
        kind: ``file``, ``folder``, ``broken``: a link that leads nowhere or to itself, or a thing that
            cannot be looked at; ``other``: a pipe, a socket, a device.
        size: bytes; 0 for anything but a file.
    """

    name: str
    kind: str
    size: int = 0


class Tree(Protocol):
    """Files by their path from the root, with slashes; '' is the root itself."""

    root: str

    def entries(self, folder: str) -> list[Entry]:
        """What a folder holds, by name.

        Raises:
            OSError: there is no such folder, or it cannot be read.
        """

    def open(self, file: str) -> BinaryIO:
        """A file to read and seek in.

        Raises:
            OSError: there is no such file, or it cannot be read.
        """


class LocalTree:
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)

    def entries(self, folder: str) -> list[Entry]:
        """See `Tree`."""
        with os.scandir(f"{self.root}/{folder}") as rows:
            return sorted(map(_entry, rows), key=lambda entry: entry.name)

    def open(self, file: str) -> BinaryIO:
        """See `Tree`."""
        # a pipe that nobody writes to would hold up a plain open for ever
        descriptor = os.open(f"{self.root}/{file}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is no ordinary file", file)
            return os.fdopen(descriptor, "rb")
        except BaseException:
            os.close(descriptor)
            raise


def _entry(row: os.DirEntry[str]) -> Entry:
    try:
        status = row.stat()
    except OSError:
        return Entry(row.name, "broken")
    if stat.S_ISDIR(status.st_mode):
        return Entry(row.name, "folder")
    if stat.S_ISREG(status.st_mode):
        return Entry(row.name, "file", status.st_size)
    return Entry(row.name, "other")


class OverlaidTree:
    """A tree with other files in some places, for what is about to be written."""

    def __init__(self, tree: Tree) -> None:
        self.tree, self.root = tree, tree.root
        self._contents: dict[str, bytes | Path | None] = {}
        self._changes: dict[str, dict[str, Entry | None]] = {}

    def put(self, file: str, content: bytes | Path | None) -> None:
        """Give a file its bytes, or those of a file of this machine; with None it is not there."""
        folder, _, name = file.rpartition("/")
        size = content.stat().st_size if isinstance(content, Path) else len(content or b"")
        self._contents[file] = content
        self._changes.setdefault(folder, {})[name] = None if content is None else Entry(name, "file", size)
        if content is not None:
            self.add_folder(folder)

    def add_folder(self, folder: str) -> None:
        """Make a folder, and those above it, where it is not there."""
        self._changes.setdefault(folder, {})
        if folder:
            above, _, name = folder.rpartition("/")
            self.add_folder(above)
            self._changes[above][name] = Entry(name, "folder")

    def entries(self, folder: str) -> list[Entry]:
        """See `Tree`."""
        changes = self._changes.get(folder)
        if changes is None:
            return self.tree.entries(folder)
        try:
            today = self.tree.entries(folder)
        except (FileNotFoundError, NotADirectoryError):
            today = []
        found = {**{entry.name: entry for entry in today}, **changes}
        return sorted((entry for entry in found.values() if entry is not None), key=lambda entry: entry.name)

    def open(self, file: str) -> BinaryIO:
        """See `Tree`."""
        content = self._contents.get(file)
        if isinstance(content, Path):
            return content.open("rb")
        return self.tree.open(file) if content is None else io.BytesIO(content)
