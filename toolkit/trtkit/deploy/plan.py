# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""From the project and its built repository to a `Plan`."""

from __future__ import annotations

from trtkit.deploy.facts import digest_of, read_models
from trtkit.deploy.figure import Figure
from trtkit.deploy.measured import Measured, read_measured
from trtkit.deploy.planned import (
    Drain,
    GpuPlan,
    Memory,
    Objective,
    Plan,
    RolloutPlan,
    ScalingPlan,
    ServedModel,
    Startup,
)
from trtkit.errors import ProjectError, nearest
from trtkit.images import image_facts
from trtkit.project import Deploy, Project, Target
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
    spec = spec_of(project, environment)
    if kube_version is not None:
        spec = spec.model_copy(update={"kube_version": kube_version})
    target_name, target = pick_target(project, spec.target or next(iter(project.targets), None))
    server_image = image or spec.image or target.image or DEFAULT_IMAGE
    served = read_models(project.repository, spec.models, spec.gpu.count if target.on_gpu else 0)
    measured = read_measured(project, spec, served)
    return Plan(
        name=spec.name or default_name(project),
        environment=environment,
        spec=spec,
        target_name=target_name,
        target=target,
        image=server_image,
        release=release_of(spec, server_image),
        models=served,
        digest=digest_of(project.repository, served),
        memory=_memory(served, target),
        gpu=_gpu(spec) if target.on_gpu else None,
        startup=_startup(measured),
        drain=_drain(spec),
        rollout=_rollout(),
        scaling=_scaling(spec),
        objectives=objectives_of(spec, served),
        flags=_flags(spec),
    )


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


# first versions; each becomes a module of its own
def _memory(served: tuple[ServedModel, ...], target: Target) -> Memory:
    weights = sum(model.weight_bytes for model in served) / 2**20
    host = Figure(int(2048 + 3 * weights), "MiB", "estimated", "estimated")
    gpu = Figure(int(600 + 3 * weights), "MiB", "estimated", "estimated") if target.on_gpu else None
    shm = Figure(256, "MiB", "estimated", "estimated")
    return Memory(
        gpu, host, shm, Figure(1024, "MiB", "estimated", "estimated"), Figure("2", "", "preset", "preset"), {}
    )


def _gpu(spec: Deploy) -> GpuPlan:
    resource = "nvidia.com/gpu" if spec.gpu.mig is None else f"nvidia.com/mig-{spec.gpu.mig}"
    one = Figure(1, "pods", "one pod for each GPU", "preset")
    return GpuPlan(resource, spec.gpu.count, spec.gpu.product, None, one, None, None)


def _startup(measured: Measured) -> Startup:
    load = Figure(measured.load.load_s, "s", "measured", "measured") if measured.load else Figure(30, "s", "", "preset")
    budget = Figure(max(10, 2 * float(load.value)), "s", f"2 x {load.text}", "computed")
    return Startup(load, budget, 5, -(-int(float(budget.value)) // 5))


def _drain(spec: Deploy) -> Drain:
    server = spec.server
    grace = server.pre_stop_seconds + server.exit_timeout_seconds + 15
    return Drain(
        Figure(server.pre_stop_seconds, "s", "the endpoints spread", "preset"),
        Figure(server.exit_timeout_seconds, "s", "requests in flight", "preset"),
        Figure(grace, "s", f"{server.pre_stop_seconds} + {server.exit_timeout_seconds} + 15", "computed"),
        Figure(server.exit_timeout_seconds // 2, "s", "half the exit timeout", "computed"),
    )


def _rollout() -> RolloutPlan:
    return RolloutPlan(
        Figure(0, "pods", "no GPU is known to be free", "computed"),
        Figure(1, "pods", "one at a time", "computed"),
        Figure(10, "s", "preset", "preset"),
        Figure(600, "s", "preset", "preset"),
    )


def _scaling(spec: Deploy) -> ScalingPlan:
    presets = {"pending": 8.0, "queue": 50.0, "rps": 100.0, "gpu": 70.0, "cpu": 70.0}
    s = spec.scaling
    return ScalingPlan(
        s.kind,
        Figure(s.min_replicas, "pods", "declared", "declared"),
        s.max_replicas,
        s.metric,
        Figure(s.target or presets[s.metric], "", "preset", "preset"),
        None,
        Figure(s.up_stabilization_seconds, "s", "declared", "declared"),
        Figure(s.down_stabilization_seconds, "s", "declared", "declared"),
    )


def _flags(spec: Deploy) -> tuple[tuple[str, str], ...]:
    flags = [(f"--exit-timeout-secs={spec.server.exit_timeout_seconds}", "requests in flight after SIGTERM")]
    return (*flags, *((option, "declared") for option in spec.server.options))
