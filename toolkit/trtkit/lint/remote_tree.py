# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The files under an fsspec URL (``s3://…``, ``gs://…``, ``https://…``), listed once and read in place.

A repository of a thousand models is one listing, one round of small files that are fetched at the same time
(configs, code, labels), and the pieces of model files that somebody reads: weights are never downloaded whole.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, BinaryIO, cast

from trtkit.compat import require
from trtkit.errors import MissingDependencyError, ProjectError
from trtkit.lint.tree import Entry

_FETCHED = (".pbtxt", ".py", ".txt")
_LARGEST_FETCHED = 2**20
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_USER = re.compile(r"(?<=://)[^/@\s]*@")
_QUERY = re.compile(r"\?[^\s'\")]*")


class RemoteTree:
    """What is under a URL.

    Attributes:
        root: the URL; without the user, the password and the query that it may have.

    Raises:
        ProjectError: there is no such protocol, or nothing at the URL.
        MissingDependencyError: fsspec, or what it needs for the protocol, is not installed.
        OSError: the place cannot be listed.
    """

    def __init__(self, url: str) -> None:
        self.root = without_secrets(url).rstrip("/")
        self._files, path = _open(url)
        self._start = path.rstrip("/") + "/"
        with _as_os_errors(self.root):
            self._folders = self._listed()
        if not self._folders:
            raise ProjectError(f"there is nothing at {self.root}; give the URL of a model repository or of a model")

    def _listed(self) -> dict[str, list[Entry]]:
        """Every folder's entries, by its path from the root; empty when there is nothing."""
        rows = self._files.find(self._start.rstrip("/"), withdirs=True, detail=True)
        sizes = self._missing_sizes(rows)
        folders = dict[str, dict[str, Entry]]()
        for path, info in rows.items():
            if path.startswith(self._start):
                # an object store marks an empty folder by an empty file whose name ends with a slash
                kind = "folder" if info.get("type") == "directory" or path.endswith("/") else "file"
                own = path[len(self._start) :].rstrip("/")
                _add(folders, own, kind, int(info.get("size") or sizes.get(path) or 0))
        return {folder: sorted(found.values(), key=lambda entry: entry.name) for folder, found in folders.items()}

    def _missing_sizes(self, rows: Mapping[str, Any]) -> dict[str, int | None]:
        """Sizes of files that the listing has none of, as a web server's has; asked at the same time."""
        unknown = [path for path, info in rows.items() if info.get("type") == "file" and info.get("size") is None]
        return dict(zip(unknown, self._files.sizes(unknown), strict=True)) if unknown else {}

    @cached_property
    def _small_files(self) -> Mapping[str, Any]:
        """Bytes of configs, code and labels by path, fetched at the same time; an exception where one could not be."""
        chosen = [
            f"{self._start}{folder}/{entry.name}" if folder else f"{self._start}{entry.name}"
            for folder, entries in self._folders.items()
            for entry in entries
            if entry.kind == "file" and entry.name.endswith(_FETCHED) and entry.size <= _LARGEST_FETCHED
        ]
        with _as_os_errors(self.root):
            found = self._files.cat(chosen, on_error="return") if chosen else {}
        return dict(found)

    def entries(self, folder: str) -> list[Entry]:
        """See `Tree`."""
        if folder not in self._folders:
            raise FileNotFoundError(f"{self.root}/{folder}")
        return self._folders[folder]

    def open(self, file: str) -> BinaryIO:
        """See `Tree`."""
        folder, _, name = file.rpartition("/")
        entry = next((each for each in self._folders.get(folder, ()) if each.name == name), None)
        if entry is None or entry.kind != "file":
            raise FileNotFoundError(f"{self.root}/{file}")
        path = self._start + file
        if name.endswith(_FETCHED) and entry.size <= _LARGEST_FETCHED:
            content = self._small_files.get(path)
            if isinstance(content, bytes):
                return io.BytesIO(content)
        return cast(BinaryIO, _RangeFile(self._files, path, entry.size))


class _RangeFile(io.RawIOBase):
    """A file that is not here: each read asks for just the bytes that are wanted."""

    def __init__(self, files: Any, path: str, size: int) -> None:
        super().__init__()
        self._files, self._path, self._size, self._at = files, path, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        end = self._size if size is None or size < 0 else min(self._at + size, self._size)
        start = self._at
        if end <= start:
            return b""
        with _as_os_errors(self._path):
            found: bytes = self._files.cat_file(self._path, start=start, end=end)
        if len(found) > end - start:  # a web server that knows no ranges sends everything
            found = found[start:end]
        self._at += len(found)
        return found

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any) -> int:
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)


def without_secrets(text: str) -> str:
    """A URL, or a sentence with URLs, less the users, passwords and queries (signatures) in them."""
    return _QUERY.sub("", _USER.sub("", text)) if "://" in text else text


def _add(folders: dict[str, dict[str, Entry]], path: str, kind: str, size: int) -> None:
    """Note a file or folder, and every folder above it: an object store has none of its own."""
    if kind == "folder":
        folders.setdefault(path, {})
    entry = Entry(path.rpartition("/")[2], kind, 0 if kind == "folder" else size)
    while path:
        parent = path.rpartition("/")[0]
        known = folders.setdefault(parent, {})
        if entry.name in known:
            return
        known[entry.name] = entry
        path, entry = parent, Entry(parent.rpartition("/")[2], "folder")


def _open(url: str) -> tuple[Any, str]:
    fsspec = require("fsspec")
    shown = without_secrets(url)
    try:
        files, path = fsspec.core.url_to_fs(url)
    except ImportError as exc:
        extra = _EXTRAS.get(url.partition("://")[0])
        how = f"pip install 'trtkit[{extra}]'" if extra else f"install what fsspec names: {exc}"
        raise MissingDependencyError(f"what reads {shown} is not installed; {how}") from exc
    except ValueError as exc:
        raise ProjectError(f"{shown} is no URL that fsspec knows: {without_secrets(str(exc))}") from exc
    return files, str(path)


@contextmanager
def _as_os_errors(what: str) -> Iterator[None]:
    """The one place where a store's own errors become the file system's: each library has other ones."""
    try:
        yield
    except OSError as exc:
        kind = FileNotFoundError if isinstance(exc, FileNotFoundError) else OSError  # libraries' own take other values
        raise kind(exc.errno, f"{what}: {_sentence(exc)}") from None
    except Exception as exc:
        raise OSError(f"{what}: {_sentence(exc)}") from None


def _sentence(exc: Exception) -> str:
    """The first line of an error's words; without its cause, whose traceback may hold a signed URL."""
    words = (exc.strerror if isinstance(exc, OSError) else None) or str(exc) or type(exc).__name__
    return without_secrets(words.splitlines()[0])
