# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""References to the user's files and to names in their Python files: ``FILE.py:NAME``."""

from __future__ import annotations

import ast
import importlib.util
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trtkit.errors import ExportError, ProjectError, nearest
from trtkit.project.yaml_text import shown


def is_callable_reference(reference: str) -> bool:
    """Whether a reference is ``FILE.py:NAME`` and not the path of a file."""
    return ".py:" in reference


def split_reference(reference: str, root: Path) -> tuple[Path, str]:
    """The absolute file of a reference and the name in it (``""`` for a plain path)."""
    file, _, name = reference.rpartition(":") if is_callable_reference(reference) else (reference, "", "")
    return (root / file).resolve(), name


def check_reference(reference: str, root: Path, where: str, *, folder: bool = False) -> None:
    """Check, without running anything, that a reference's file is there and defines the name.

    Args:
        reference: a path, or FILE.py:NAME, relative to `root`.
        root: the folder of the project file.
        where: FILE:LINE:COLUMN of the reference, for the message.
        folder: whether the path of a folder is wanted, and not a file.

    Raises:
        ProjectError: the file is missing, is not Python, or does not define the name.
    """
    try:
        file, name = split_reference(reference, root)
        exists = file.is_dir() if folder else file.is_file()
    except (OSError, RuntimeError) as exc:  # a name too long, a loop of symbolic links
        raise ProjectError(f"{where}: {no_path(reference, exc)}") from exc
    if not exists:
        raise ProjectError(f"{where}: '{reference}': there is no {'folder' if folder else 'file'} {_shown(file, root)}")
    if file.suffix == ".py" and not name:
        raise ProjectError(f"{where}: '{reference}': which name of that file? write {reference.rstrip(':')}:NAME")
    if not name:
        return
    tree = _parse(file, f"{where}: {_shown(file, root)}")
    defined = set(_top_level_names(tree.body))
    if name not in defined and "*" not in defined:
        public = [n for n in defined if not n.startswith("_")]
        raise ProjectError(f"{where}: {_shown(file, root)} defines no '{name}'; {nearest(name, public)}")


def check_path(path: str, root: Path, where: str) -> None:
    """Check that a file or folder is there.

    Args:
        path: relative to `root`.
        root: the folder of the project file.
        where: FILE:LINE:COLUMN of the path, for the message.

    Raises:
        ProjectError: it is not.
    """
    try:
        if (root / path).exists():
            return
    except (OSError, ValueError) as exc:
        raise ProjectError(f"{where}: {no_path(path, exc)}") from exc
    raise ProjectError(f"{where}: there is no file or folder '{path}'")


def no_path(text: str, exc: Exception) -> str:
    """Why a text cannot be a path, in words."""
    return f"{shown(text)} is no usable path: {(isinstance(exc, OSError) and exc.strerror) or exc}"


def _parse(file: Path, what: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are the user's, and appear when the file is run
            return ast.parse(file.read_bytes(), filename=file.name)
    except SyntaxError as exc:
        place = f"line {exc.lineno}, column {exc.offset}: " if exc.lineno else ""
        raise ProjectError(f"{what} is not valid Python: {place}{exc.msg}") from exc
    except (OSError, ValueError, RecursionError, MemoryError) as exc:
        raise ProjectError(f"{what} is not valid Python: {str(exc) or type(exc).__name__}") from exc


def _shown(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)


def _top_level_names(body: list[ast.stmt]) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            yield statement.name
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in statement.names)
        else:
            yield from _bound_names(statement)


def _bound_names(statement: ast.stmt) -> Iterator[str]:
    """What a statement assigns, and what the blocks inside it (if, try, with, for) define."""
    inner: list[ast.AST] = [statement]
    while inner:
        node = inner.pop()
        if isinstance(node, ast.stmt) and node is not statement and isinstance(node, _DEFINING):
            yield from _top_level_names([node])
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        inner += ast.iter_child_nodes(node)


_DEFINING = (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef, ast.Import, ast.ImportFrom)


def load_name(reference: str, root: Path, where: str) -> Any:
    """Import FILE.py and return what NAME stands for there.

    The file's folder and the project's are importable from it, as if it were run as a script.

    Raises:
        ExportError: importing the file raised; the message holds the exception and the user's own line.
        ProjectError: the name is not there after the import.
    """
    file, name = split_reference(reference, root)
    for folder in (str(root), str(file.parent)):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    module = sys.modules.get(file.stem)
    if module is None or getattr(module, "__file__", None) != str(file):
        spec = importlib.util.spec_from_file_location(file.stem, file)
        if spec is None or spec.loader is None:
            raise ProjectError(f"{where}: {file} cannot be imported as Python")
        module = importlib.util.module_from_spec(spec)
        sys.modules[file.stem] = module
        try:
            spec.loader.exec_module(module)
        except BaseException as exc:
            del sys.modules[file.stem]
            if not isinstance(exc, Exception):
                raise
            raise ExportError(f"{where}: importing '{reference}' raised {user_error(exc, root)}") from exc
    try:
        return getattr(module, name)
    except AttributeError as exc:
        raise ProjectError(f"{where}: {file.name} has no '{name}'; {nearest(name, vars(module))}") from exc


def call(reference: str, root: Path, where: str, *args: Any) -> Any:
    """Call what FILE.py:NAME stands for; a value that is no function is returned as it is.

    A class whose instances are the thing (an estimator, a module) is called like a function.

    Raises:
        ExportError: the call raised; the message holds the exception and the user's own line.
    """
    target = load_name(reference, root, where)
    is_code = callable(target) and (
        isinstance(target, type) or hasattr(target, "__code__") or hasattr(target, "__wrapped__")
    )
    if not is_code and not args:
        return target
    try:
        return target(*args)
    except Exception as exc:
        raise ExportError(f"{where}: '{reference}' raised {user_error(exc, root)}") from exc


def user_error(exc: BaseException, root: Path) -> str:
    """``ValueError: text (scripts/train.py:12)``: the exception and the innermost line that is the user's."""
    frames = [f for f in traceback.extract_tb(exc.__traceback__) if Path(f.filename).is_relative_to(root)]
    frames = [f for f in frames if "site-packages" not in f.filename]
    place = f" ({Path(frames[-1].filename).relative_to(root)}:{frames[-1].lineno})" if frames else ""
    return f"{type(exc).__name__}: {' '.join(str(exc).split())[:600]}{place}"
