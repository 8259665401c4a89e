# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What decides the result of the stages of a Python model; light, because every build asks."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from trtkit.artifacts import fingerprint, hash_file, hash_folder
from trtkit.images import image_facts
from trtkit.parts import FUNCTION_PART, part_files
from trtkit.project import Project, Target
from trtkit.project.callables import is_callable_reference, split_reference
from trtkit.python_models.modules import project_modules

PYTHON, ENVIRONMENT = "python", "environment"
_STAGE_VERSION = 1
_ARCHIVES = (".tar.gz", ".tgz")


def python_inputs(project: Project, name: str, environment: str) -> dict[str, str]:
    """Fingerprints of what makes a Python model's version folder, by a name for people.

    Args:
        project: the project.
        name: a model made of a part or a function.
        environment: the sha256 of its environment's artifact; ``""`` without one.
    """
    spec = project.models[name]
    assert spec.source is not None, "an ensemble has no files"
    part = part_files(spec.source.part or FUNCTION_PART)
    inputs = {
        "trtkit's python stage": str(_STAGE_VERSION),
        "source": fingerprint(spec.source.model_dump()),
        "trtkit's part": fingerprint({file: hash_file(path) for file, path in part.items()}),
        "files": fingerprint([spec.files, [_unseen(project, project.root / path) for path in spec.files.values()]]),
    }
    if spec.source.python:
        evaluate = spec.evaluate.model_dump() if spec.evaluate else None
        tensors = [
            {key: value.model_dump() for key, value in side.items()} for side in (spec.inputs, spec.output_specs)
        ]
        inputs["signature"] = fingerprint([tensors, spec.parameters, spec.config, evaluate])
        inputs["environment"] = environment
        inputs["modules"] = fingerprint(_modules(project, spec.source.python))
    return inputs


def _unseen(project: Project, path: Path) -> list[tuple[str, str]]:
    """What the record of files that were read does not tell: a new file in a folder, hidden files, the repository's."""
    parts = Path(os.path.relpath(path, project.root)).parts
    hidden = any(part.startswith(".") and part != ".." for part in parts)
    unread = hidden or path.resolve().is_relative_to(project.repository)
    if not path.is_dir():
        return [(path.name, hash_file(path))] if unread else []
    inside = {file.relative_to(path): file for file in sorted(path.rglob("*")) if file.is_file()}
    return [
        (str(name), hash_file(file) if unread else "")
        for name, file in inside.items()
        if not any(part == "__pycache__" or part.startswith(".") for part in name.parts)
    ]


def _modules(project: Project, reference: str) -> list[str]:
    """The files of the function's modules; packages come whole, so that a new one counts."""
    if not is_callable_reference(reference):
        return []
    file, _ = split_reference(reference, project.root)
    return sorted(project_modules(file, project.root).files) if file.is_file() else []


def is_archive(reference: str) -> bool:
    """Whether an ``environment:`` is a packed one, and not a list of requirements."""
    return reference.endswith(_ARCHIVES)


def environment_inputs(project: Project, name: str, python: str) -> dict[str, str]:
    """Fingerprints of what makes a model's environment.

    Args:
        project: the project.
        name: a model with ``environment:``.
        python: of the server, e.g. ``3.12``.
    """
    given, root = project.models[name].environment, project.root
    assert given is not None, "no environment"
    lines = [given] if isinstance(given, str) else given
    local = {line: hash_folder(root / line) if (root / line).is_dir() else hash_file(root / line) for line in lines}
    return {
        "trtkit's environment stage": str(_STAGE_VERSION),
        "requirements": fingerprint([given, local]),
        "Python": python,
        "machine": platform.machine(),
    }


def server_python(target: Target) -> tuple[str, str]:
    """The Python of the server's stub, e.g. ``3.12``, and a note where it is a guess.

    Without an image it is the one that runs here: the embedded server takes the stub of it.
    """
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    if target.python_version or target.image is None:
        return target.python_version or own, ""
    facts = image_facts(target.image)
    if facts and facts.python:
        return facts.python, ""
    return own, f"the Python of {target.image} is not known; the environment is for {own}, or give `python_version:`"
