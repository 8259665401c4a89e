# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""How pods are replaced, so that a rollout neither interrupts the service nor waits for a GPU that is not there."""

from __future__ import annotations

from trtkit.deploy.figure import Figure
from trtkit.deploy.planned import GpuPlan, RolloutPlan, Startup
from trtkit.project import Deploy
from trtkit.project.spec_deploy import Cluster

IMAGE_PULL_S = 600
"""For an image of 15 to 20 GB at about 30 MB/s."""
MIN_READY_S = 10


def free_gpus(cluster: Cluster, in_use: int) -> tuple[int | None, str]:
    """How many GPUs are free for further pods, and why; None where nobody said.

    Args:
        cluster: what is known of it.
        in_use: GPUs of the pods that run.
    """
    known = []
    if cluster.free_gpus is not None:
        known.append((cluster.free_gpus, f"cluster.free_gpus: {cluster.free_gpus}"))
    if cluster.quota_gpus is not None:
        left = cluster.quota_gpus - in_use
        known.append((left, f"cluster.quota_gpus {cluster.quota_gpus} less {in_use} in use"))
    if not known:
        return None, "neither cluster.free_gpus nor cluster.quota_gpus is given"
    return min(known)


def rollout_of(spec: Deploy, gpu: GpuPlan | None, startup: Startup) -> RolloutPlan:
    """Surge only onto GPUs that are free; else one pod goes before its successor comes.

    Args:
        spec: the ``deploy:`` block; its rollout goes first.
        gpu: of a pod; None on a CPU target.
        startup: a new pod takes its budget.
    """
    surge, unavailable = _steps(spec, gpu)
    deadline = startup.budget.whole + IMAGE_PULL_S + MIN_READY_S
    why = f"start-up budget {startup.budget.text} + {IMAGE_PULL_S} s to pull the image + {MIN_READY_S} s ready"
    return RolloutPlan(
        surge,
        unavailable,
        Figure(MIN_READY_S, "s", "a pod that fails right after its first answer does not count", "preset"),
        Figure(deadline, "s", why, "computed"),
    )


def _steps(spec: Deploy, gpu: GpuPlan | None) -> tuple[Figure, Figure]:
    given = spec.rollout
    surge = _surge(spec, gpu)
    if given.max_surge is not None:
        surge = Figure(given.max_surge, "pods", f"rollout.max_surge: {given.max_surge}", "declared")
    elif given.max_unavailable == 0:
        why = "rollout.max_unavailable is 0, so a new pod comes first"
        surge = Figure(max(1, surge.whole), "pods", why, "computed")
    if given.max_unavailable is not None:
        why = f"rollout.max_unavailable: {given.max_unavailable}"
        return surge, Figure(given.max_unavailable, "pods", why, "declared")
    if surge.whole:
        return surge, Figure(0, "pods", "a new pod is ready before an old one goes", "computed")
    return surge, Figure(1, "pods", "one pod at a time leaves its GPU to its successor", "computed")


def _surge(spec: Deploy, gpu: GpuPlan | None) -> Figure:
    if gpu is None:
        return Figure(1, "pods", "a pod needs no GPU; one more runs while pods are replaced", "preset")
    what = f"{gpu.count} {gpu.resource.partition('/')[2]}"
    free, why = free_gpus(spec.cluster, spec.scaling.min_replicas * gpu.count)
    if free is None:
        return Figure(0, "pods", f"a further pod needs {what}, and {why}; it could wait forever", "computed")
    found = f"a further pod needs {what}, and {free} are free ({why})"
    if free >= gpu.count:
        return Figure(1, "pods", found, "computed")
    return Figure(0, "pods", f"{found}; it would wait forever", "computed")
