# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What the builder may see of the project: nothing but what is copied into the image."""

from __future__ import annotations

from pathlib import Path

from trtkit.deploy.planned import Plan

_HEAD = """# Everything stays out of the build but what the Dockerfile copies; the last line that matches decides.
# A pattern without **/ matches in the project's folder only, and not in the folders below it.
**
"""
# kept out of the folders that are let in
_NEVER = (
    "**/__pycache__", "**/*.pyc", "**/*.pyo", "**/.git", "**/.gitignore", "**/.env", "**/.env.*", "**/.DS_Store",
    "**/.ipynb_checkpoints", "**/*.swp", "**/*.tmp", "**/*.pem", "**/*.key",
)  # fmt: skip


def dockerignore(repository: Path, plan: Plan, inside: str, docker: str, *, with_requirements: bool) -> str:
    """The file beside the Dockerfile.

    Args:
        repository: the model repository.
        plan: what is served.
        inside: the repository's folder as the builder sees it.
        docker: the Dockerfile's folder as the builder sees it.
        with_requirements: whether there is a list for pip to be seen.
    """
    lines = [f"!{docker}/requirements.txt"] if with_requirements else []
    for model in plan.models if plan.baked else ():
        lines += [f"!{inside}/{model.name}", f"!{inside}/{model.name}/**"]
        lines += [f"{inside}/{model.name}/{version}" for version in _unserved(repository / model.name, model.versions)]
    return _HEAD + "".join(f"{line}\n" for line in [*lines, *_NEVER])


def _unserved(folder: Path, served: tuple[int, ...]) -> list[int]:
    there = (int(entry.name) for entry in folder.iterdir() if entry.is_dir() and entry.name.isdecimal())
    return sorted(set(there) - set(served))
