# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The files of the pipelines that were asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trtkit.deploy.ci import github, gitlab, jenkins, rollout, steps
from trtkit.deploy.ci.facts import Facts

SYSTEMS: dict[str, tuple[str, Callable[[Facts], str]]] = {
    "github": (github.FILE, github.workflow),
    "gitlab": (gitlab.FILE, gitlab.pipeline),
    "jenkins": (jenkins.FILE, jenkins.pipeline),
}
"""The file of each system, and what renders it."""


def files(facts: Facts, systems: Sequence[str]) -> dict[str, str]:
    """Content by path, relative to the project's folder.

    Args:
        facts: of the project.
        systems: of `SYSTEMS`.
    """
    found = {SYSTEMS[name][0]: SYSTEMS[name][1](facts) for name in systems}
    return {**found, steps.ROLLOUT: rollout.script(facts)}


def remarks(facts: Facts) -> list[str]:
    """What the pipelines cannot do with this project file."""
    found = []
    if facts.base.spec.ci.package is None and ".dev" in facts.package:
        found.append(
            f"this trtkit is a development version, and no package index has {facts.package}: set "
            "`deploy: {ci: {package: …}}`, e.g. to 'trtkit[cpu,server] @ https://…/trtkit-….whl'"
        )
    if facts.plans_on_gpu and not facts.gpu_runner:
        found.append(
            f"target {facts.base.target_name} needs TensorRT plans, which only its GPU can build: set "
            "`deploy: {ci: {gpu_runner: LABEL}}`, or the target's `fallback: onnxruntime` is what is deployed"
        )
    if facts.base.on_gpu and facts.builds and not facts.test_target:
        found.append(
            "no target runs on a CPU, so the checks have none to build for; add one under `targets:`, "
            "e.g. `cpu: {backend: onnxruntime}`"
        )
    if not facts.on_cpu and not facts.gpu_runner:
        found.append(
            f"the repository is for target {facts.base.target_name}, which has a GPU, and no runner has one: it is "
            "linted and not loaded; set `deploy: {ci: {gpu_runner: LABEL}}`, or let `models:` build it for a CPU, too"
        )
    if any(stage.plan.baked for stage in facts.stages) and not facts.makes_image:
        found.append("storage is baked and `deploy: {registry: …}` is not set, so there is no image to push")
    return found
