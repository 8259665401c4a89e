# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Rollouts: how pods are replaced, and by whom a new version is judged."""

from __future__ import annotations

import re
from collections.abc import Iterator

from trtkit.deploy.manifests.fileset import FileSet
from trtkit.deploy.manifests.nodes import Node
from trtkit.deploy.manifests.objects import Pod
from trtkit.deploy.manifests.rule import ERROR, WARNING, found, rule
from trtkit.deploy.manifests.values import share
from trtkit.lint.model import Found


def _surging(files: FileSet) -> Iterator[tuple[Pod, Node, int, int]]:
    """Deployments of GPU pods that start a new pod before an old one ends: where, replicas, and pods of the surge."""
    least = {each.spec.at("scaleTargetRef", "name").text: each for each in files.of_kind("HorizontalPodAutoscaler")}
    for pod in files.pods:
        spec = pod.owner.spec
        if pod.owner.kind != "Deployment" or not pod.gpus or spec.at("strategy", "type").text == "Recreate":
            continue
        scaled = least.get(pod.owner.name)
        given = spec["replicas"].number or (scaled.spec["minReplicas"].number if scaled else None) or 1
        replicas, rolling = int(given), spec.at("strategy", "rollingUpdate")
        surge = share(rolling["maxSurge"].text or "25%", replicas, up=True)
        gone = share(rolling["maxUnavailable"].text or "25%", replicas, up=False)
        if gone == 0 and surge:
            yield pod, rolling["maxSurge"] if rolling["maxSurge"] else spec, replicas, surge


def _of(replicas: int) -> str:
    return "1 replica" if replicas == 1 else f"{replicas} replicas"


def _gpus(count: float) -> str:
    return "1 free GPU" if count == 1 else f"{count:g} free GPUs"


@rule("ROL001", "surge-without-a-known-gpu", WARNING, depends=True)
def surge_unknown(files: FileSet) -> Iterator[Found]:
    """A rollout waits for GPUs that may not be free.

    With maxUnavailable 0 a new pod has to be ready before an old one ends. When all GPUs or the quota are taken, it
    stays Pending, and the rollout never ends (run twice, with a full node and with a full quota). The defaults, 25 %
    and 25 %, mean the same for up to three replicas. Say --free-gpus where there are enough.

    Wrong:
        strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}

    Right:
        strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}      # with two replicas or more
    """
    for pod, node, replicas, surge in _surging(files) if files.known.free_gpus is None else ():
        says = f"a rollout of {_of(replicas)} needs {_gpus(surge * pod.gpus)} and waits for ever where there are none"
        yield found(node, f"{says}; use maxSurge: 0 with maxUnavailable: 1, or say --free-gpus")


@rule("ROL002", "surge-deadlock", ERROR, depends=True)
def surge_deadlock(files: FileSet) -> Iterator[Found]:
    """A rollout needs more GPUs than --free-gpus says there are.

    The new pod stays Pending, maxUnavailable 0 keeps the old ones, and the rollout never ends (run).

    Wrong:
        strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}      # --free-gpus 0

    Right:
        strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}
    """
    free = files.known.free_gpus
    for pod, node, replicas, surge in _surging(files) if free is not None else ():
        if free is not None and surge * pod.gpus > free:
            says = f"a rollout of {_of(replicas)} needs {_gpus(surge * pod.gpus)}, and there are {free}"
            yield found(node, f"{says}: it never ends; use maxSurge: 0 and maxUnavailable: 1")


@rule("ROL003", "nothing-can-be-evicted", WARNING)
def nothing_can_be_evicted(files: FileSet) -> Iterator[Found]:
    """A PodDisruptionBudget allows no eviction at all.

    Draining a node then waits for ever, and so do updates of the cluster.

    Wrong:
        spec: {minAvailable: 2}        # of two replicas

    Right:
        spec: {maxUnavailable: 1}
    """
    for each in files.of_kind("PodDisruptionBudget"):
        selector = {key: value.text for key, value in each.spec.at("selector", "matchLabels").fields.items()}
        pods = [pod for pod in files.pods if selector and selector.items() <= pod.labels.items()]
        replicas = sum(int(pod.owner.spec["replicas"].number or 1) for pod in pods)
        fixed = not any(_is_scaled(files, pod) for pod in pods)
        least, most = each.spec["minAvailable"], each.spec["maxUnavailable"]
        if most.text in ("0", "0%"):
            yield found(most, "maxUnavailable 0 lets no node be drained")
        elif least.text == "100%" or (pods and fixed and (least.number or 0) >= replicas):
            yield found(least, f"minAvailable {least.text} of {_of(replicas)} lets no node be drained")


def _is_scaled(files: FileSet, pod: Pod) -> bool:
    targets = (
        each.spec.at("scaleTargetRef", "name") for each in files.of_kind("HorizontalPodAutoscaler", "ScaledObject")
    )
    return any(target.text == pod.owner.name for target in targets)


@rule("ROL004", "analysis-of-nothing", WARNING)
def analysis_of_nothing(files: FileSet) -> Iterator[Found]:
    """An analysis looks at result[0] and does not ask whether there is one.

    A canary without traffic has no series; result[0] is then an error, and the analysis fails the rollout. Guard it,
    and allow some inconclusive ones.

    Wrong:
        successCondition: result[0] < 0.01

    Right:
        successCondition: len(result) > 0 && result[0] < 0.01
        inconclusiveLimit: 3
    """
    for each in files.of_kind("AnalysisTemplate", "ClusterAnalysisTemplate"):
        for metric in each.spec["metrics"].items:
            for condition in (metric["successCondition"], metric["failureCondition"]):
                if "result[0]" in condition.text and "len(result)" not in condition.text:
                    yield found(condition, "result[0] fails where the query gives nothing; write len(result) > 0 && …")


@rule("ROL005", "canary-never-promotes", WARNING)
def canary_never_promotes(files: FileSet) -> Iterator[Found]:
    """A pipeline deploys a canary, and no later step promotes it or takes it back.

    The new version stays at its share of the traffic for ever, and nobody notices.

    Wrong:
        steps:
          - {name: Deploy canary, run: "kubectl apply -f canary.yaml"}

    Right:
        steps:
          - {name: Deploy canary, run: "kubectl apply -f canary.yaml"}
          - {name: Promote, run: "kubectl set image deployment/triton triton=$IMAGE && kubectl delete -f canary.yaml"}
    """
    for _, root in files.inner:
        steps = [(job, step) for job in root["jobs"].fields.values() for step in job["steps"].items]
        texts = [" ".join(node.text for _, node in step.walk()).lower() for _, step in steps]
        words = [" ".join(node.text for key, node in job.walk() if key in ("name", "if")) for job, _ in steps]
        last = max((i for i, text in enumerate(texts) if _DEPLOYS.search(text)), default=None)
        if last is not None and not any(_PROMOTES.search(text) for text in [*texts, *(w.lower() for w in words)]):
            says = "a canary is deployed, and no step promotes it or takes it back"
            yield found(steps[last][1], f"{says}; add one that does, after its metrics were compared")


_VERBS = "deploy|apply|rollout|upgrade|install|patch|set"
_DEPLOYS = re.compile(rf"({_VERBS}).*canary|canary.*({_VERBS})")
_PROMOTES = re.compile(
    r"promot|rollback|roll back|rollout (undo|abort)|full rollout|set image deployment"
    r"|\bstable\b.*(apply|upgrade|patch)"
    r"|weight[\"' =:,]*100|100 ?%|delete .*canary|scale .*canary.*=0"
)

RULES = (surge_unknown, surge_deadlock, nothing_can_be_evicted, analysis_of_nothing, canary_never_promotes)
