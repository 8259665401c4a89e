# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The files of a Python model's version folder: trtkit's part, the user's modules and data."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trtkit.compat import tool_versions
from trtkit.errors import BuildError
from trtkit.parts import FUNCTION_PART, part_files
from trtkit.project import Project
from trtkit.project.callables import call, is_callable_reference, split_reference
from trtkit.python_models.modules import Modules, project_modules
from trtkit.repository import RECORD_FILE

_FUNCTION = "function"


def make_python_model(
    project: Project, name: str, folder: Path, environment: Path | None = None, python: str = ""
) -> dict[str, Any]:
    """Put the files of a model's version into a folder; a user's function is called once, as the server will.

    Args:
        project: the project.
        name: a model made of a part or of a function.
        folder: receives the files.
        environment: the packed environment of the function; None where it runs in the server's own.
        python: the environment's, e.g. ``3.12``.

    Returns:
        Facts: ``part``, ``known`` (fields for its config), ``max_batch_size``, ``notes``, ``tool_versions``.

    Raises:
        BuildError: a file cannot stand where it is to, or the function does not do what the config says.
        ConfigError: what `explained_part` raises.
        ExportError: the user's code for a file raised.
    """
    source = project.models[name].source
    assert source is not None, f"{name} is an ensemble"
    files: dict[str, Path] = dict(part_files(source.part or FUNCTION_PART))
    facts: dict[str, Any] = {"part": source.part or FUNCTION_PART, "tool_versions": tool_versions("trtkit", "numpy")}
    if source.python:
        modules, function = _modules(project, name)
        _add(files, modules.files, project.where("models", name, "source", "python"))
        facts["known"] = {"parameters": {_FUNCTION: {"string_value": f"{modules.name}:{function}"}}}
    for path, file in files.items():
        _copy(file, folder / path)
    _user_files(project, name, files, folder)
    if source.python:
        from trtkit.python_models.check import check_function

        facts |= check_function(project, name, facts["known"], folder, environment, python)
    return facts


def _modules(project: Project, name: str) -> tuple[Modules, str]:
    """The modules of a model's function, and its name."""
    source = project.models[name].source
    assert source is not None
    assert source.python is not None, "no function"
    if not is_callable_reference(source.python):
        where = project.where("models", name, "source", "python")
        raise BuildError(f"{where}: '{source.python}' is no FILE.py:NAME; a python source is a function of the project")
    file, function = split_reference(source.python, project.root)
    return project_modules(file, project.root), function


def _add(files: dict[str, Path], more: Mapping[str, Path], where: str) -> None:
    for path, file in more.items():
        if path in files:
            raise BuildError(f"{where}: '{path}' is a file of trtkit's own in the version folder; rename {file.name}")
        files[path] = file


def _user_files(project: Project, name: str, taken: Mapping[str, Path], folder: Path) -> None:
    """``files:``: paths, folders, and what FILE.py:NAME gives."""
    for path, reference in project.models[name].files.items():
        where = project.where("models", name, "files", path)
        if path == RECORD_FILE or path in taken:
            raise BuildError(f"{where}: '{path}' is a file of trtkit's own in the version folder; choose another name")
        if (folder / path).exists() or any(each.is_file() for each in (folder / path).parents):
            raise BuildError(f"{where}: there is a file or folder '{path}' already; choose another name")
        if is_callable_reference(reference):
            _write(call(reference, project.root, where), folder / path, f"{where}: '{reference}'")
        else:
            _copy(project.root / reference, folder / path)


def _write(content: Any, target: Path, what: str) -> None:
    if not isinstance(content, str | bytes):
        raise BuildError(f"{what} gave a {type(content).__name__}; bytes or text are needed")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content.encode() if isinstance(content, str) else content)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(
            source, target, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("__pycache__", ".*")
        )
    else:
        shutil.copyfile(source, target)
