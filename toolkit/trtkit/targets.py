# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Which target a build is for: the one that was named, or what this machine has."""

from __future__ import annotations

from trtkit.compat import installed
from trtkit.errors import ProjectError, nearest
from trtkit.gpu import gpu_state
from trtkit.project import Project, Target


def pick_target(project: Project, name: str | None) -> tuple[str, Target]:
    """The target to build for, with its name.

    Args:
        project: the project; without ``targets:`` there is one, ``cpu``, with backend onnxruntime.
        name: one of ``targets:``; None for the first that this machine can build and run: a GPU's first, if
            there is one. If it can build none of them, the first.

    Raises:
        ProjectError: there is no such target.
    """
    targets = project.targets or {"cpu": Target()}
    if name is not None:
        if name not in targets:
            raise ProjectError(f"target '{name}' is not in {project.file.name}; {nearest(name, targets)}")
        return name, targets[name]
    here = [name for name, target in targets.items() if can_build(target)]
    on_gpu = [name for name in here if targets[name].on_gpu]
    chosen = next(iter(on_gpu or here or targets))
    return chosen, targets[chosen]


def can_build(target: Target) -> bool:
    """Whether this machine can build all of a target, plans included, and run it."""
    if not target.on_gpu:
        return True
    here = {gpu.compute_capability for gpu in gpu_state().gpus}
    wanted = set(target.compute_capabilities) or here
    fits = bool(here) and wanted <= here
    return fits and (target.backend != "tensorrt" or installed("tensorrt") is not None)
