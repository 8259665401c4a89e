# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""From the project and its built repository to a `Plan`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from trtkit.deploy.checks import refuse, refuse_early, warnings_of
from trtkit.deploy.digests import digest_of
from trtkit.deploy.drain import drain_of
from trtkit.deploy.facts import read_models
from trtkit.deploy.gpus import gpu_plan
from trtkit.deploy.measured import read_measured
from trtkit.deploy.memory import memory_of
from trtkit.deploy.place import Place
from trtkit.deploy.planned import Objective, Plan, ServedModel
from trtkit.deploy.rollout import rollout_of
from trtkit.deploy.scaling_plan import scaling_of
from trtkit.deploy.server_flags import flags_of
from trtkit.deploy.startup import startup_of
from trtkit.errors import ProjectError, nearest
from trtkit.images import image_facts
from trtkit.lint.model import Repository
from trtkit.lint.run import open_repository
from trtkit.lint.server_facts import ServerFacts
from trtkit.lint.tree import LocalTree
from trtkit.project import Deploy, Project
from trtkit.targets import pick_target

DEFAULT_IMAGE = "nvcr.io/nvidia/tritonserver:25.01-py3"


def make_plan(
    project: Project, environment: str = "", *, kube_version: str | None = None, image: str | None = None
) -> Plan:
    """What follows for one environment.

    Args:
        project: with its repository built.
        environment: of ``deploy.environments``; '' for the block itself.
        kube_version: instead of the block's.
        image: instead of the block's.

    Raises:
        ProjectError: no such environment, target or model; or a combination that cannot work, with the figures.
        RepositoryError: the repository cannot be read, or does not lint.
    """
    return plan_and_place(project, environment, kube_version=kube_version, image=image)[0]


def plan_and_place(
    project: Project, environment: str = "", *, kube_version: str | None = None, image: str | None = None
) -> tuple[Plan, Place]:
    """What `make_plan` gives, and what it was made from."""
    spec = _explicit(spec_of(project, environment))
    if kube_version is not None:
        spec = spec.model_copy(update={"kube_version": _checked_version(kube_version)})
    target_name, target = pick_target(project, spec.target or next(iter(project.targets), None))
    if image is not None and not image.strip():
        raise ProjectError(f"--image '{image}' names no image; leave it out to take the project's")
    server_image = image or spec.image or target.image or DEFAULT_IMAGE
    release = release_of(spec, server_image)
    served = read_models(project.repository, spec.models, spec.gpu.count if target.on_gpu else 0)
    measured = read_measured(project, spec, served)
    place = Place(project, spec, target, release, served, measured)
    refuse_early(project, environment, spec, place)
    digest = digest_of(project.repository, served, project.state)
    memory = memory_of(place)
    gpu = gpu_plan(spec.gpu, server_image, memory.gpu) if memory.gpu else None
    startup = startup_of(spec, served, measured.load, on_gpu=target.on_gpu)
    objectives = objectives_of(spec, served)
    facts = ServerFacts(image=server_image, gpus=spec.gpu.count if target.on_gpu else 0)
    flags = flags_of(spec, release, served, _opened(project.repository, facts), digest, on_gpu=target.on_gpu)
    plan = Plan(
        name=spec.name or default_name(project),
        environment=environment,
        spec=spec,
        target_name=target_name,
        target=target,
        image=server_image,
        release=release,
        models=served,
        digest=digest,
        memory=memory,
        gpu=gpu,
        startup=startup,
        drain=drain_of(spec.server, served),
        rollout=rollout_of(spec, gpu, startup),
        scaling=scaling_of(spec, served, objectives, measured.perf, startup, release),
        objectives=objectives,
        flags=flags,
    )
    given = tuple(flag for flag, _ in flags)
    refuse(project, environment, plan, place, _opened(project.repository, replace(facts, flags=given)))
    return replace(plan, warnings=(*_stale(place, digest), *warnings_of(plan, place))), place


def _explicit(spec: Deploy) -> Deploy:
    """The block, with the control mode that `models:` needs where none is said."""
    if not spec.models or "control_mode" in spec.server.model_fields_set:
        return spec
    return spec.model_copy(update={"server": spec.server.model_copy(update={"control_mode": "explicit"})})


def _checked_version(text: str) -> str:
    if not re.fullmatch(r"1\.[0-9]{2}", text):
        raise ProjectError(f"--kube-version '{text}' is no version of Kubernetes; write one such as 1.30")
    return text


def _opened(repository: Path, facts: ServerFacts) -> Repository:
    return open_repository(LocalTree(repository), facts)


def _stale(place: Place, digest: str) -> list[str]:
    """A measurement of another state of the repository is used, and said: a new version rarely loads otherwise."""
    load = place.measured.load
    if load is None or load.digest == digest:
        return []
    new = [model.name for model in place.served if load.models and model.name not in load.models]
    without = f" without {', '.join(new)}" if new else ""
    return [
        f"{load.file} measured another state of the repository{without} (digest {load.digest[:12]}, now "
        f"{digest[:12]}); its figures are used; run `trtkit deploy measure` again"
    ]


def make_plans(
    project: Project, *, kube_version: str | None = None, image: str | None = None
) -> tuple[Plan, dict[str, Plan]]:
    """The plan of the block itself, and one for each environment."""
    base = make_plan(project, kube_version=kube_version, image=image)
    others = {name: make_plan(project, name, kube_version=kube_version, image=image) for name in project.environments}
    return base, others


def spec_of(project: Project, environment: str) -> Deploy:
    """The ``deploy:`` block as an environment has it.

    Raises:
        ProjectError: there is no such environment.
    """
    if environment and environment not in project.environments:
        raise ProjectError(
            f"environment '{environment}' is not in {project.file.name}; {nearest(environment, project.environments)}"
        )
    return project.environments[environment] if environment else project.deploy


def default_name(project: Project) -> str:
    """A DNS label from the project folder's name."""
    letters = "".join(c if c.isalnum() and c.isascii() else "-" for c in project.root.name.lower()).strip("-")
    return (letters if letters[:1].isalpha() else f"triton-{letters}")[:48].strip("-") or "triton"


def release_of(spec: Deploy, image: str) -> str:
    """The NGC release that flags and metrics follow.

    Raises:
        ProjectError: the image's tag names none, and nobody said.
    """
    facts = image_facts(image)
    found = spec.server.release or (facts.release if facts else None)
    if found is None:
        raise ProjectError(
            f"the release of image '{image}' is not known; say which one it is made from: "
            '`deploy: {server: {release: "25.01"}}`'
        )
    return found


def objectives_of(spec: Deploy, served: tuple[ServedModel, ...]) -> tuple[Objective, ...]:
    """What is promised for each model.

    Raises:
        ProjectError: an objective is for a model that is not served.
    """
    names = [model.name for model in served]
    for name in spec.slo.models:
        if name not in names:
            raise ProjectError(f"deploy.slo.models: model '{name}' is not served; {nearest(name, names)}")
    return tuple(_objective(spec, name) for name in names)


def _objective(spec: Deploy, name: str) -> Objective:
    own = spec.slo.models.get(name)
    fields = ("latency_p99_ms", "queue_ms", "error_ratio")
    values = {f: (getattr(own, f) if own else None) or getattr(spec.slo, f) for f in fields}
    return Objective(name, **values)
