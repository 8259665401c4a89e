# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The files that people named: which of them lint can judge, and what they are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from trtkit.deploy.manifests.nodes import Node, UnreadableError, documents
from trtkit.errors import ProjectError

MAX_BYTES = 5_000_000
"""Above that a file is no manifest."""
_SKIPPED_FOLDERS = {".git", ".hg", ".venv", "venv", "node_modules", "__pycache__", ".tox", ".mypy_cache", ".terraform"}
_HELM = re.compile(r"\{\{-?\s*(\.(Values|Release|Chart|Capabilities|Files|Template)\b|(include|define|toYaml)\b)")
_FIRST = re.compile(r"(?:\s*(?:#[^\n]*)?\n)*\s*(FROM|ARG)\s+\S", flags=re.IGNORECASE)


@dataclass(eq=False)
class Source:
    """A file.

    Attributes:
        file: from the root, with slashes.
        kind: ``yaml``, ``dockerfile``, ``dockerignore``, ``script``, ``markdown`` or ``python``.
        text: all of it; '' where it cannot be read.
        roots: a YAML file's documents.
        problem: why it cannot be read.
        skipped: why it is not judged, in half a sentence.
    """

    file: str
    kind: str
    text: str = ""
    roots: tuple[Node, ...] = ()
    problem: UnreadableError | None = None
    skipped: str = ""
    _lines: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """The lines without their ends."""
        if not self._lines:
            self._lines = self.text.split("\n")
        return self._lines

    def embedded(self, node: Node) -> list[Node]:
        """The documents in a text that stands as a block (``|``) in a document; [] where it is none of YAML."""
        if not is_block(node):
            return []
        below = next((line for line in self.lines[node.line :] if line.strip()), "")
        try:
            return documents(node.text, self.file, (node.line, len(below) - len(below.lstrip(" "))))
        except UnreadableError:
            return []


def is_block(node: Node) -> bool:
    """Whether a text stands below its key, line by line."""
    return getattr(node.raw, "style", None) == "|"


def kind_of(file: str) -> str | None:
    """What a file is by its name; None where the name does not say."""
    name = PurePosixPath(file).name
    if name.endswith(".dockerignore"):
        return "dockerignore"
    if name in ("Dockerfile", "Containerfile") or name.startswith(("Dockerfile.", "Containerfile.")):
        return "dockerfile"
    suffixes = {
        ".dockerfile": "dockerfile", ".yaml": "yaml", ".yml": "yaml", ".json": "yaml", ".rules": "yaml",
        ".sh": "script", ".bash": "script", ".md": "markdown", ".py": "python",
    }  # fmt: skip
    return suffixes.get(PurePosixPath(name).suffix.lower())


def find_files(paths: Sequence[str]) -> list[Path]:
    """The files of some paths, each once; of a folder those whose names say that lint can judge them.

    Raises:
        ProjectError: a path does not exist or cannot be listed, or a folder holds no such file.
    """
    found: dict[Path, None] = {}
    for path in paths:
        full = Path(os.path.abspath(path))  # noqa: PTH100  # Path.resolve follows links
        if full.is_dir():
            files = list(_walk(full))
            if not files:
                raise ProjectError(
                    f"there is nothing in {path} that lint can judge: no *.yaml, *.yml, *.json, Dockerfile, "
                    ".dockerignore, *.sh or *.py"
                )
            found.update(dict.fromkeys(files))
        elif full.is_file():
            found[full] = None
        else:
            raise ProjectError(f"there is no file or folder {path}; name manifests, Dockerfiles, or a folder of them")
    return list(found)


def _walk(folder: Path) -> Iterator[Path]:
    for above, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS)
        for name in sorted(files):
            if kind_of(name) not in (None, "markdown") and (path := Path(above, name)).is_file():
                yield path


def read_source(path: Path, file: str) -> Source:
    """Read one file; what is wrong with it stands in the result."""
    kind = kind_of(file)
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as exc:
        return Source(file, kind or "yaml", problem=UnreadableError(f"it cannot be read: {exc.strerror}", 1, 1))
    if len(content) > MAX_BYTES:
        return Source(file, kind or "yaml", skipped=f"it is larger than {MAX_BYTES} bytes, and no manifest")
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        return Source(file, kind or "yaml", problem=UnreadableError("it is no UTF-8", line, 1))
    source = _parsed(Source(file, kind or _kind_by_content(text), text))
    if kind is None and source.problem is not None:
        source.skipped = "neither its name nor its content says what it is; lint reads YAML, JSON, Dockerfiles, scripts"
    return source


def _kind_by_content(text: str) -> str:
    if text.startswith("#!"):
        return "python" if "python" in text.partition("\n")[0] else "script"
    return "dockerfile" if _FIRST.match(text) else "yaml"


def _parsed(source: Source) -> Source:
    if source.kind != "yaml":
        return source
    if _HELM.search(source.text):
        source.skipped = "Helm has to fill it in; lint what `helm template` prints"
        return source
    try:
        source.roots = tuple(documents(source.text, source.file))
    except UnreadableError as exc:
        source.problem = exc
        if source.file.endswith(".json") and '"kind"' not in source.text and '"panels"' not in source.text:
            source.skipped = "it is no JSON of a manifest or a dashboard"
    return source
