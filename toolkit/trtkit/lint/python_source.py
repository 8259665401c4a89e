# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The code of a Python model, read and never run: its class, its methods, and the names it uses.

What cannot be told for sure from the text (methods of a base class, names made at run time) is not told at all.
"""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trtkit.lint.model import Model

CLASS = "TritonPythonModel"
Function = ast.FunctionDef | ast.AsyncFunctionDef
_LARGEST = 2**21
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


@dataclass(frozen=True)
class Failure:
    """Why a file is no Python; line and column from 1, where they are known."""

    message: str
    line: int | None = None
    column: int | None = None


@dataclass(frozen=True)
class Use:
    """A call with a name in it, e.g. of a tensor.

    Attributes:
        name: the name.
        node: the string's place.
        call: the call.
    """

    name: str
    node: ast.expr
    call: ast.Call

    @property
    def place(self) -> tuple[int, int]:
        """Line and column, from 1."""
        return place(self.node)


class PythonSource:
    """One version's model file.

    Args:
        path: from the model directory.
        content: the file.
        python: the server's Python, e.g. ``3.10``; an older one than this does not know all that this one does.

    Attributes:
        path: from the model directory.
        tree: None where it is no Python.
        failure: why there is no tree.
    """

    def __init__(self, path: str, content: bytes, python: str | None = None) -> None:
        self.path, self.tree, self.failure = path, *_parsed(content, python)

    @cached_property
    def _index(self) -> tuple[frozenset[str], dict[str, list[ast.Call]]]:
        """The names, attributes and texts in the file, and the calls by the last name of what is called."""
        words, calls = set[str](), dict[str, list[ast.Call]]()
        for node in ast.walk(self.tree) if self.tree else ():
            if isinstance(node, ast.Attribute):
                words.add(node.attr)
            elif isinstance(node, ast.Name):
                words.add(node.id)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.add(node.value)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                words.add(node.name)
            elif isinstance(node, ast.Call):
                calls.setdefault(_last_name(node.func), []).append(node)
        return frozenset(words), calls

    @cached_property
    def model_class(self) -> ast.ClassDef | None:
        """The class, where it is defined once, undecorated, in the file itself."""
        found = [node for node in self._of_module if isinstance(node, ast.ClassDef) and node.name == CLASS]
        return found[0] if len(found) == 1 and not found[0].decorator_list else None

    @cached_property
    def has_no_class(self) -> bool:
        """Whether the file surely has nothing under the class's name."""
        if self.tree is None:
            return False
        return not self.mentions(CLASS) and not any(_bound(node) & {CLASS, "*"} for node in self._of_module)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The classes that the module has."""
        return tuple(node.name for node in self._of_module if isinstance(node, ast.ClassDef))

    @cached_property
    def methods(self) -> dict[str, Function]:
        """The class's own methods; those under an ``if`` and such are left out."""
        body = self.model_class.body if self.model_class else []
        return {node.name: node for node in body if isinstance(node, Function)}

    @cached_property
    def is_whole(self) -> bool:
        """Whether the class surely has no methods but its own."""
        found = self.model_class
        if found is None or found.keywords or any(not _is_name(base, "object") for base in found.bases):
            return False
        plain = all(isinstance(node, (*_PLAIN, ast.FunctionDef, ast.AsyncFunctionDef)) for node in found.body)
        plain = plain and not any(isinstance(node, ast.Assign) and "execute" in _bound(node) for node in found.body)
        made = [call for name in ("exec", "setattr") for call in self.uses(name) if isinstance(call.func, ast.Name)]
        return plain and not made

    def uses(self, function: str) -> Iterator[ast.Call]:
        """The calls of a function or class by its last name, e.g. ``Tensor``."""
        yield from self._index[1].get(function, ())

    def mentions(self, word: str) -> bool:
        """Whether a word stands in the code as a name, an attribute, a function or a text."""
        return word in self._index[0]

    def named(self, function: str, position: int, keyword: str) -> Iterator[Use]:
        """The calls of a function whose argument is a text, by position or keyword."""
        for call in self.uses(function):
            value = argument(call, position, keyword)
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield Use(value.value, value, call)

    @cached_property
    def _of_module(self) -> tuple[ast.stmt, ...]:
        """The module's statements, those under ``if``, ``try``, ``with`` and loops too."""
        return tuple(_statements(self.tree)) if self.tree else ()


_PLAIN = (ast.Expr, ast.Assign, ast.AnnAssign, ast.Pass)


@lru_cache(maxsize=1)  # rules look at one model after the other, and trees of all would make the collector busy
def read_sources(model: Model) -> tuple[PythonSource, ...]:
    """See `Model.python`."""
    found, python = [], servers_python(model)
    for path in model.model_files().values() if model.config.backend == "python" else ():
        entry = model.entry(path)
        if entry is not None and entry.kind == "file" and 0 < entry.size <= _LARGEST:
            try:
                found.append(PythonSource(path, model.read(path, _LARGEST), python))
            except OSError:
                continue
    return tuple(found)


def servers_python(model: Model) -> str | None:
    """The Python of the server's image, e.g. ``3.10``; None when not known."""
    facts = model.server.facts
    known = facts.sure("python") if facts else None
    return ".".join(known.split(".")[:2]) if known else None


def argument(call: ast.Call, position: int, keyword: str) -> ast.expr | None:
    """An argument by position or keyword; None where it is not given, or may be hidden by a star."""
    if any(isinstance(each, ast.Starred) for each in call.args[: position + 1]):
        return None
    if position < len(call.args):
        return call.args[position]
    return next((each.value for each in call.keywords if each.arg == keyword), None)


def place(node: ast.AST) -> tuple[int, int]:
    """Line and column of a node, from 1."""
    return getattr(node, "lineno", 1), getattr(node, "col_offset", 0) + 1


def takes(function: Function, given: int) -> bool:
    """Whether a function can be called with so many positional arguments."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    needed = len(positional) - len(arguments.defaults)
    named = any(default is None for default in arguments.kw_defaults)
    return needed <= given and (given <= len(positional) or arguments.vararg is not None) and not named


def own_nodes(function: Function) -> Iterator[ast.AST]:
    """What is in a function, less what is in functions and classes inside of it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, _SCOPES):
            waiting.extend(ast.iter_child_nodes(node))


def returned(function: Function) -> list[ast.Return]:
    """The returns of a function that give a value other than None."""
    return [
        node
        for node in own_nodes(function)
        if isinstance(node, ast.Return)
        and node.value is not None
        and not (isinstance(node.value, ast.Constant) and node.value.value is None)
    ]


def yields(function: Function) -> bool:
    """Whether calling a function gives a generator."""
    return any(isinstance(node, ast.Yield | ast.YieldFrom) for node in own_nodes(function))


def decorators(function: Function) -> list[str]:
    """The last names of a function's decorators; '' for what is no name."""
    return [_last_name(node) for node in function.decorator_list]


def _parsed(content: bytes, python: str | None) -> tuple[ast.Module | None, Failure | None]:
    minor = min(int(python.partition(".")[2]), sys.version_info.minor) if python else sys.version_info.minor
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the code that is read, e.g. an escape that is none
            return ast.parse(content, feature_version=(3, minor)), None
    except SyntaxError as exc:
        return None, Failure(f"{type(exc).__name__}: {exc.msg}", exc.lineno or None, exc.offset or None)
    except (ValueError, RecursionError, MemoryError) as exc:
        return None, Failure(f"SyntaxError: {str(exc).strip() or 'it is nested too deeply'}")


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield child
        if not isinstance(child, (*_SCOPES, ast.expr)):
            yield from _statements(child)


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement of the module makes."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in statement.names}
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
