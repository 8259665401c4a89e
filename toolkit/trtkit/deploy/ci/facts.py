# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a pipeline has to know of a project."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path, PurePosixPath

from trtkit.deploy.figure import Figure
from trtkit.deploy.planned import Plan
from trtkit.errors import ProjectError
from trtkit.project import ModelSpec, Project

BASE = "base"
"""The kustomize folder of a project without environments."""
PERF_GATE = "p90 > +25%, throughput < -20%"
"""When a change counts as slower, where the project does not say; p99 would take 2,000 requests of every model."""
_EXTRAS = {"sklearn": "sklearn", "torch": "torch", "huggingface": "huggingface"}
_REQUIRED = {"tokenizers": "text", "sklearn": "sklearn", "torch": "torch", "transformers": "huggingface"}


@dataclass(frozen=True)
class Stage:
    """One environment that is deployed to.

    Attributes:
        name: of the environment; ``production`` where the project has none.
        plan: of it.
        overlay: its kustomize folder.
        timeout: how long all its pods may take to be replaced, s.
    """

    name: str
    plan: Plan
    overlay: str
    timeout: Figure


@dataclass(frozen=True)
class Facts:
    """A project, as its pipelines see it; every path is relative to the project's folder.

    Attributes:
        base: the plan of the ``deploy:`` block itself.
        stages: the environments, in the project file's order.
        repository: the model repository.
        package: what pip installs, ``ci.package`` or e.g. ``trtkit[cpu,server,sklearn]==0.1.0``.
        has_tests, has_requirements: whether ``tests/`` and ``requirements.txt`` are there.
        builds: whether the project file has models to build; else the repository itself is what is kept.
        test_target: of `targets:`, for the CPU server of the checks; '' for the default one.
        models: those whose speed is gated.
        served: all that are loaded and asked.
        sources: folders and files that models are made from.
        named_targets: whether the project file has `targets:`.
    """

    base: Plan
    stages: tuple[Stage, ...]
    repository: str
    package: str
    has_tests: bool
    has_requirements: bool
    builds: bool
    test_target: str
    models: tuple[str, ...]
    served: tuple[str, ...]
    sources: tuple[str, ...]
    named_targets: bool

    @property
    def gpu_runner(self) -> str | None:
        """The label of a runner with the target's GPU."""
        return self.base.spec.ci.gpu_runner if self.base.on_gpu else None

    @property
    def plans_on_gpu(self) -> bool:
        """Whether what is deployed can only be built on the target's GPU."""
        return self.base.target.backend == "tensorrt"

    @property
    def gpu_package(self) -> str:
        """What pip installs on that runner: of trtkit's extras cpu and gpu only one may be there."""
        return re.sub(r"\[([^\]]*)\]", lambda extras: re.sub(r"\bcpu\b", "gpu", extras[0]), self.package, count=1)

    @property
    def target(self) -> str:
        """Of `targets:`, what is deployed; '' where there are none."""
        return self.base.target_name if self.builds and self.named_targets else ""

    @property
    def image_stage(self) -> Stage | None:
        """The first environment whose pods run an image of the project's own, with the models in it."""
        return next((stage for stage in self.stages if stage.plan.baked and stage.plan.spec.registry), None)

    @property
    def registry(self) -> str:
        """Where that image is pushed to; '' where there is none."""
        return (self.image_stage.plan.spec.registry or "") if self.image_stage else ""

    @property
    def makes_image(self) -> bool:
        """Whether an image of the project's own is built and pushed."""
        return bool(self.registry)

    @property
    def on_cpu(self) -> bool:
        """Whether the CPU server of the checks can load the models: a committed repository is for its target only."""
        return self.builds or not self.base.on_gpu

    @property
    def perf_gate(self) -> str:
        """The condition of ``--fail-if``."""
        return self.base.spec.ci.perf_gate or PERF_GATE

    @property
    def paths(self) -> tuple[str, ...]:
        """What a pipeline depends on, as patterns; nothing else starts one."""
        folders = [f"{source}/**" if not PurePosixPath(source).suffix else source for source in self.sources]
        tests = ["tests/**"] if self.has_tests else []
        return (
            *dict.fromkeys(["trtkit.yaml", f"{self.repository}/**", *folders, *tests, "requirements*.txt"]),
            "deploy/**", "perf-baseline/**",
        )  # fmt: skip


def facts_of(project: Project, base: Plan, environments: Mapping[str, Plan], version: str) -> Facts:
    """The facts of a project.

    Args:
        project: the project.
        base: the plan of its ``deploy:`` block.
        environments: those of its environments.
        version: of trtkit, which the pipelines install.

    Raises:
        ProjectError: the model repository is outside the project's folder, so a pipeline cannot have it.
    """
    root = project.root
    if not project.repository.is_relative_to(root):
        raise ProjectError(
            f"the model repository {project.repository} is outside {root}, which is all that a pipeline checks out; "
            "set `repository:` to a folder in it"
        )
    stages = environments or {"": base}
    return Facts(
        base=base,
        stages=tuple(_stage(name, plan) for name, plan in stages.items()),
        repository=project.repository.relative_to(root).as_posix(),
        package=project.deploy.ci.package or f"trtkit[{','.join(_extras(project))}]=={version}",
        has_tests=(root / "tests").is_dir(),
        has_requirements=(root / "requirements.txt").is_file(),
        builds=bool(project.models),
        test_target=_test_target(project),
        models=_gated(project, base),
        served=tuple(model.name for model in base.models),
        sources=_sources(project),
        named_targets=bool(project.targets),
    )


def _stage(name: str, plan: Plan) -> Stage:
    overlay = f"deploy/k8s/overlays/{name}" if name else f"deploy/k8s/{BASE}"
    return Stage(name or "production", plan, overlay, _timeout(plan))


def _timeout(plan: Plan) -> Figure:
    """All pods one wave after the other, each as slow as its probes allow."""
    scaling, rollout = plan.scaling, plan.rollout
    pods = max(1, scaling.max_replicas if scaling.kind != "none" else scaling.replicas.whole)
    at_once = max(1, rollout.max_surge.whole + rollout.max_unavailable.whole)
    waves = ceil(pods / at_once)
    one = [plan.startup.budget.whole, rollout.min_ready_seconds.whole, plan.drain.grace.whole]
    value = waves * sum(one)
    words = (
        f"{waves} x ({one[0]} s to start + {one[1]} s ready + {one[2]} s to drain), {at_once} pods of {pods} at a time"
    )
    return Figure(value, "s", words, "computed")


def _extras(project: Project) -> list[str]:
    """Of trtkit's own: what the models' sources need."""
    found = {"cpu", "server"}
    for model in project.models.values():
        if model.source is not None:
            found |= {_EXTRAS[model.source.kind]} if model.source.kind in _EXTRAS else set()
            found |= {"text"} if (model.source.part or "").startswith("text_") else set()
        found |= {extra for name in model.requires if (extra := _REQUIRED.get(name))}
    return sorted(found)


def _test_target(project: Project) -> str:
    """One that the CPU server can serve; the deployed one if that can."""
    deployed = project.deploy.target or next(iter(project.targets), "")
    order = [deployed, *project.targets] if deployed else [*project.targets]
    return next((name for name in order if name in project.targets and not project.targets[name].on_gpu), "")


def _gated(project: Project, plan: Plan) -> tuple[str, ...]:
    """Models that clients call, and that random or given data can be sent to."""
    promised = set(plan.spec.slo.models)
    inner = {step for model in plan.models for step in model.steps}
    outer = [model.name for model in plan.models if model.name in promised or model.name not in inner]
    takes_text = {m.name for m in plan.models if any(i.data_type == 13 for i in m.config.input)}
    return tuple(n for n in outer if n not in takes_text or _has_data(project.models.get(n)))


def _has_data(model: ModelSpec | None) -> bool:
    return model is not None and model.evaluate is not None


def _sources(project: Project) -> tuple[str, ...]:
    """The top folders, or files, that the models' references name."""
    found = []
    for model in project.models.values():
        references = [model.source.reference] if model.source and model.source.part is None else []
        references += [block.data for block in (model.evaluate, model.calibration) if block]
        references += [*model.files.values()]
        for reference in references:
            first = PurePosixPath(reference.split(":")[0]).parts[0] if reference else ""
            if first and first not in (".", "..", "/") and (project.root / first).exists():
                found.append(first)
    return tuple(dict.fromkeys(found))


def quoted(*words: str | Path) -> str:
    """Words of a shell command."""
    return " ".join(shlex.quote(str(word)) for word in words)
