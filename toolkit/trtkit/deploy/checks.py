# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What cannot work is refused, with the figures; what may surprise is said.

Each check yields sentences that begin with the key of the project file. `refuse` raises the first of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trtkit.deploy.checks_fit import fit_problems, fit_warnings
from trtkit.deploy.checks_options import option_problems
from trtkit.deploy.checks_repository import repository_problems
from trtkit.deploy.checks_scaling import counted_problems, exposure_problems, scaling_problems, scaling_warnings
from trtkit.deploy.checks_sizes import declared_problems, declared_warnings, number_problems, number_warnings
from trtkit.deploy.drain import LEAST_PRE_STOP_S
from trtkit.deploy.gpus import profile_problem
from trtkit.deploy.measured import Measured
from trtkit.deploy.place import Place
from trtkit.deploy.planned import Plan
from trtkit.deploy.releases import has_metric
from trtkit.deploy.rollout import free_gpus
from trtkit.deploy.scaling_plan import broken, meets, shown
from trtkit.errors import ProjectError, RepositoryError
from trtkit.lint.model import Repository
from trtkit.project import Deploy, Project


@dataclass(frozen=True)
class Problem:
    """Something that cannot work.

    Attributes:
        key: in the ``deploy:`` block, e.g. ``("scaling", "vpa")``; () for the repository.
        sentence: what, with the figures, and what to do.
    """

    key: tuple[str, ...]
    sentence: str


def refuse_early(project: Project, environment: str, spec: Deploy, place: Place) -> None:
    """Refuse what the block alone says, before anything is computed.

    Raises:
        ProjectError: a combination that cannot work.
    """
    _raise(project, environment, spec_problems(spec, place))


def refuse(project: Project, environment: str, plan: Plan, place: Place, repository: Repository) -> None:
    """Refuse what follows from the figures.

    Raises:
        ProjectError: a combination that cannot work.
        RepositoryError: the server would refuse the repository.
    """
    _raise(project, environment, plan_problems(plan, place))
    found = next(repository_problems(plan, repository), None)
    if found:
        raise RepositoryError(found)


def _raise(project: Project, environment: str, problems: Iterator[Problem]) -> None:
    found = next(problems, None)
    if found is None:
        return
    dotted = ".".join(("deploy", *found.key))
    where = _where(project, environment, found.key)
    inside = f" (in environment '{environment}')" if environment else ""
    raise ProjectError(f"{where}: {dotted}: {found.sentence}{inside}")


def _where(project: Project, environment: str, key: Sequence[str]) -> str:
    """Where the key stands: with the environment that sets it, else in the block."""
    if environment:
        inside = ("deploy", "environments", environment)
        here = project.where(*inside, *key)
        if here != project.where(*inside):
            return here
    return project.where("deploy", *key)


def spec_problems(spec: Deploy, place: Place) -> Iterator[Problem]:
    """What the block alone says that cannot work."""
    on_gpu = place.target.on_gpu
    yield from (Problem(key, sentence) for key, sentence in number_problems(spec))
    if spec.server.control_mode == "poll":
        yield Problem(
            ("server", "control_mode"),
            "poll reads a model while it is being copied; use none, and roll out a new repository digest",
        )
    yield from _models_problems(spec)
    if spec.storage.kind == "baked" and spec.registry is None:
        yield Problem(("storage", "kind"), "baked needs `registry:`, the name of the image that holds the repository")
    if spec.kserve and not (spec.storage.uri or spec.storage.kind == "pvc"):
        yield Problem(("kserve",), f"KServe reads a bucket or a claim; storage is {spec.storage.kind}")
    if on_gpu:
        yield from _gpu_problems(spec)
    further = (*scaling_problems(spec, on_gpu=on_gpu), *exposure_problems(spec.exposure))
    yield from (Problem(key, sentence) for key, sentence in further)
    yield from (Problem(("server", "options"), each) for each in option_problems(spec, place.release))
    if spec.server.exit_timeout_seconds < 2:
        yield Problem(
            ("server", "exit_timeout_seconds"),
            "1 s leaves no time to a proxy to close its idle connections first; take at least 2, better 60",
        )


def _gpu_problems(spec: Deploy) -> Iterator[Problem]:
    gpu = spec.gpu
    if problem := profile_problem(gpu):
        yield Problem(("gpu", "mig"), problem)
    if gpu.count > 1 and gpu.mig:
        yield Problem(
            ("gpu", "count"),
            f"{gpu.count} slices {gpu.mig}: a process of CUDA uses one MIG device only; take one larger slice",
        )
    if gpu.count > 1 and (gpu.time_slicing or gpu.mps):
        way = "time_slicing" if gpu.time_slicing else "mps"
        yield Problem(
            ("gpu", "count"), f"{gpu.count} shares by {way} may all be of the same GPU and give no more of it; take 1"
        )


def _models_problems(spec: Deploy) -> Iterator[Problem]:
    if spec.server.control_mode == "explicit" and not spec.models:
        yield Problem(("server", "control_mode"), "explicit loads only what is named, and `models:` names none")
    if spec.server.control_mode == "none" and spec.models:
        yield Problem(
            ("models",),
            "with server.control_mode: none the server loads every model of the repository; leave control_mode out, "
            "which makes it explicit, or leave `models:` out",
        )


def plan_problems(plan: Plan, place: Place) -> Iterator[Problem]:
    """What follows from the figures that cannot work."""
    fit = (*fit_problems(plan), *declared_problems(plan, place.measured.load), *counted_problems(plan))
    yield from (Problem(key, sentence) for key, sentence in fit)
    yield from _startup_problems(plan)
    yield from _rollout_problems(plan)
    yield from _release_problems(plan)
    yield from _slo_problems(plan, place.measured)


def _startup_problems(plan: Plan) -> Iterator[Problem]:
    load = plan.startup.load
    given = plan.spec.server.startup_seconds
    if given is not None and load.origin != "estimated" and given < float(load.value):
        yield Problem(
            ("server", "startup_seconds"),
            f"{given} s, and loading took {load.text} ({load.why}); the pod would be restarted for ever; take "
            f"{-(-2 * float(load.value) // 1):g}, or leave it out",
        )


def _rollout_problems(plan: Plan) -> Iterator[Problem]:
    given = plan.spec.rollout
    surge = plan.rollout.max_surge.whole
    if plan.gpu is None or not surge or (given.max_surge is None and given.max_unavailable is None):
        return
    free, why = free_gpus(plan.spec.cluster, plan.spec.scaling.min_replicas * plan.gpu.count)
    need = surge * plan.gpu.count
    if free is not None and free < need and plan.rollout.max_unavailable.whole == 0:
        key = "max_surge" if given.max_surge is not None else "max_unavailable"
        yield Problem(
            ("rollout", key),
            f"{surge} further pods need {need} GPUs and {free} are free ({why}); with max_unavailable 0 the rollout "
            "would wait forever; take max_surge: 0 and max_unavailable: 1",
        )


def _release_problems(plan: Plan) -> Iterator[Problem]:
    scaling = plan.scaling
    metric = "nv_inference_pending_request_count"
    if scaling.kind != "none" and scaling.metric == "pending" and not has_metric(plan.release, metric):
        yield Problem(
            ("scaling", "metric"),
            f"pending needs {metric}, which came with 23.09, and the server is {plan.release}; take queue",
        )


def _slo_problems(plan: Plan, measured: Measured) -> Iterator[Problem]:
    """An objective that not even the lightest measured load meets."""
    for objective in plan.objectives:
        loads = [one for one in measured.perf if one.model == objective.model]
        if loads and not any(meets(objective, one) for one in loads):
            best = min(loads, key=lambda one: (one.p99_ms is None, one.p99_ms or 0))
            what = "; ".join(broken(objective, best)) or "no request succeeded"
            own = objective.model in plan.spec.slo.models
            yield Problem(
                ("slo", "models", objective.model) if own else ("slo",),
                f"{objective.model} misses it at every measured load; at {shown(best)}: {what} ({best.file})",
            )


def warnings_of(plan: Plan, place: Place) -> Iterator[str]:
    """What a reader should know, a sentence each."""
    yield from _measurement_warnings(plan, place.measured)
    yield from _drain_warnings(plan)
    yield from _rollout_warnings(plan)
    yield from fit_warnings(plan)
    yield from declared_warnings(plan)
    yield from number_warnings(plan.spec)
    if not plan.spec.server.strict:
        yield "server.strict is false: a model that does not load leaves the pod ready; alert on its own readiness"


def _measurement_warnings(plan: Plan, measured: Measured) -> Iterator[str]:
    if measured.load is None:
        yield (
            f"start-up is estimated ({plan.startup.load.text}); run `trtkit deploy measure` and name its file in "
            "measurements.load"
        )
    yield from scaling_warnings(plan, measured.perf)
    unstable = [one for one in measured.perf if not one.stable]
    if unstable:
        yield (
            f"{len(unstable)} of {len(measured.perf)} measured loads were not stable; they count only where a model "
            "has no other"
        )


def _drain_warnings(plan: Plan) -> Iterator[str]:
    drain = plan.drain
    if drain.pre_stop.whole < LEAST_PRE_STOP_S:
        yield (
            f"server.pre_stop_seconds is {drain.pre_stop.whole}: endpoints take {LEAST_PRE_STOP_S} to 20 s to leave "
            "every proxy, and a stopping server refuses new connections"
        )
    if drain.unload.whole > drain.exit_timeout.whole:
        yield (
            f"unloading takes {drain.unload.text} ({drain.unload.why}), and a stopping server ends by force after "
            f"{drain.exit_timeout.text}: no request is lost, but it exits with an error; set "
            f"server.exit_timeout_seconds: {drain.unload.whole + 30}"
        )
    for objective in plan.objectives:
        promised = objective.latency_p99_ms
        if promised is not None and promised / 1000 > drain.exit_timeout.whole:
            yield (
                f"requests of {objective.model} may take {promised:g} ms by its objective, and a stopping server waits "
                f"{drain.exit_timeout.text}; raise server.exit_timeout_seconds"
            )


def _rollout_warnings(plan: Plan) -> Iterator[str]:
    replicas, surge = plan.scaling.replicas.whole, plan.rollout.max_surge.whole
    if replicas == 1 and not surge:
        yield (
            "one replica and no GPU that is known to be free: each rollout interrupts the service for "
            f"{plan.startup.load.text} and more; set scaling.min_replicas: 2, or cluster.free_gpus"
        )
    elif replicas == 1:
        yield "one replica: its node's end interrupts the service; two are the least for availability"
    if plan.gpu is None or not surge or plan.spec.cluster.quota_gpus is None:
        return
    left = plan.spec.cluster.quota_gpus - plan.scaling.max_replicas * plan.gpu.count
    if plan.scaling.kind != "none" and left < surge * plan.gpu.count:
        yield (
            f"at max_replicas {plan.scaling.max_replicas} the quota of {plan.spec.cluster.quota_gpus} GPUs leaves "
            f"{left}: a rollout then waits until pods are scaled down"
        )
