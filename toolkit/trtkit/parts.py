# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The ready Python models of python_backends/: which there are, their files and their configs.

A folder with a ``config.pbtxt`` is such a part; one without is a Python-based backend.
"""

from __future__ import annotations

import re
from pathlib import Path

from trtkit.compat import python_backends_folder
from trtkit.errors import ProjectError, nearest

CONFIG = "config.pbtxt"
# the part that a user's function is served with; its tensors are the function's, and those in its config an example
FUNCTION_PART = "python_function"
# what the parts import that pass requests on to other models; their tensors are those of the models
_ROUTING = "trtkit_routing.py"
# trtkit's own code is read by its looks: Python's parser of 3.11 may fail when several threads use it
_IMPORT = re.compile(r"^ *(?:from|import) (trtkit_\w+)", re.MULTILINE)
_COMPUTED_PARAMETER = re.compile(r"\bparameters\.\w+\(f\"")
_LOCATED = re.compile(r"\blocate\(args, (?:parameters\.text\(\"(\w+)\"|(\w+)\))")


def part_names() -> list[str]:
    """The names of all parts, sorted."""
    return sorted(file.parent.name for file in python_backends_folder().glob(f"*/{CONFIG}"))


def part_folder(name: str) -> Path:
    """The folder of a part.

    Raises:
        ProjectError: there is none of that name.
    """
    if name not in part_names():
        raise ProjectError(f"there is no part '{name}'; {nearest(name, part_names())}")
    return python_backends_folder() / name


def part_config(name: str) -> str:
    """The text of a part's config.pbtxt.

    Raises:
        ProjectError: there is no part of that name.
    """
    return (part_folder(name) / CONFIG).read_text(encoding="utf-8")


def part_files(name: str) -> dict[str, Path]:
    """What a version directory of a part holds, by file name: its ``*.py``, and what they import of trtkit's.

    Raises:
        ProjectError: there is no part of that name.
    """
    files = {file.name: file for file in sorted(part_folder(name).glob("*.py"))}
    waiting = list(files.values())
    while waiting:
        for module in _IMPORT.findall(waiting.pop().read_text(encoding="utf-8")):
            shared = python_backends_folder() / f"{module}.py"
            if shared.name not in files and shared.is_file():
                files[shared.name] = shared
                waiting.append(shared)
    return files


def is_routing(name: str) -> bool:
    """Whether a part passes requests on to other models.

    Raises:
        ProjectError: there is no part of that name.
    """
    return _ROUTING in part_files(name)


def part_reads(name: str, parameter: str) -> bool:
    """Whether a part's code can read a parameter: whether its name stands there as a text, or names are put together.

    Raises:
        ProjectError: there is no part of that name.
    """
    code = _code(name)
    return f'"{parameter}"' in code or _COMPUTED_PARAMETER.search(code) is not None


def part_file_parameters(name: str) -> set[str]:
    """The parameters of a part that are names of files, which it looks for with ``locate``.

    Raises:
        ProjectError: there is no part of that name.
    """
    return {text or variable for text, variable in _LOCATED.findall(_code(name))}


def _code(name: str) -> str:
    return "\n".join(file.read_text(encoding="utf-8") for file in part_files(name).values())
