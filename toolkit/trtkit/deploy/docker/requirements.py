# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The Python packages that the served Python models import, as a list for pip."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from trtkit.deploy.planned import ServedModel

# modules that are in the server, or that its Python backend brings
_THERE = {"triton_python_backend_utils", "c_python_backend_utils", "numpy"}
_PACKAGES = {
    "PIL": "pillow", "cv2": "opencv-python-headless", "sklearn": "scikit-learn", "yaml": "pyyaml",
    "google": "protobuf", "attr": "attrs", "dateutil": "python-dateutil",
}  # fmt: skip


def requirements(repository: Path, served: Sequence[ServedModel]) -> dict[str, list[str]]:
    """What pip has to install, and for which models.

    Models with an environment of their own (EXECUTION_ENV_PATH) bring their packages. A package that is installed here
    is pinned to that version; another is left to pip.

    Args:
        repository: the model repository.
        served: its models.
    """
    found: dict[str, list[str]] = {}
    for model in served:
        if not model.python or "EXECUTION_ENV_PATH" in model.config.parameters:
            continue
        folder = repository / model.name
        for module in sorted(_third_party(folder, model.versions)):
            found.setdefault(_pinned(_PACKAGES.get(module, module)), []).append(model.name)
    return dict(sorted(found.items()))


def _third_party(folder: Path, versions: Sequence[int]) -> set[str]:
    files = [file for version in versions for file in (folder / str(version)).rglob("*.py")]
    own = {file.stem for file in files} | {file.parent.name for file in files}
    wanted = {name for file in files for name in _imports(file)}
    return wanted - own - _THERE - set(sys.stdlib_module_names)


def _imports(file: Path) -> Iterator[str]:
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return  # the linter speaks about it
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _pinned(package: str) -> str:
    try:
        return f"{package}=={metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return package
