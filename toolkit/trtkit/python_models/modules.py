# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Which of the project's modules a Python file needs: those it imports, and those that they import."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_LEFT_OUT = {"__pycache__"}


@dataclass(frozen=True)
class Modules:
    """A module with those of the project it needs.

    Attributes:
        name: of the module, as it is imported where the files lie.
        files: by path in the version folder.
    """

    name: str
    files: Mapping[str, Path] = field(default_factory=dict)


def project_modules(file: Path, root: Path) -> Modules:
    """A file's module with the project's modules that it imports, each where it is imported from.

    Modules are looked for beside the file and in the project's folder, as when the file is run as a script. A package
    comes whole, with its data.

    Args:
        file: the user's FILE.py.
        root: the project's folder.
    """
    top = file.parent
    while (top / "__init__.py").is_file() and top != root:
        top = top.parent
    name = ".".join(file.relative_to(top).with_suffix("").parts)
    files: dict[str, Path] = {}
    waiting = list(_files_of(name, [top]))
    while waiting:
        path, source = waiting.pop()
        if path in files:
            continue
        files[path] = source
        for wanted in _imports(source) if source.suffix == ".py" else ():
            waiting += _files_of(wanted, [top, root])
    return Modules(name, files)


def _files_of(name: str, folders: list[Path]) -> Iterator[tuple[str, Path]]:
    """The files of a module in the first folder that has it, each with its path from there."""
    parts = name.split(".")
    for folder in folders:
        if (folder / parts[0] / "__init__.py").is_file():
            inside = (file for file in sorted((folder / parts[0]).rglob("*")) if file.is_file())
            yield from ((_path(file, folder), file) for file in inside if not _is_left_out(file, folder))
            return
        for count in range(len(parts), 0, -1):  # `a.b.name` may be the name in a/b.py
            file = folder.joinpath(*parts[:count]).with_suffix(".py")
            if file.is_file():
                yield _path(file, folder), file
                return


def _path(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def _is_left_out(file: Path, folder: Path) -> bool:
    parts = file.relative_to(folder).parts
    return any(part in _LEFT_OUT or part.startswith(".") for part in parts)


def _imports(file: Path) -> Iterator[str]:
    """What a file imports by absolute names, without the standard library."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # the import will say it, where it is tried
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.partition(".")[0] not in sys.stdlib_module_names)
