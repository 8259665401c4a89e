# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Scaling: HorizontalPodAutoscaler and VerticalPodAutoscaler."""

from __future__ import annotations

from collections.abc import Iterator

from trtkit.deploy.manifests.fileset import FileSet
from trtkit.deploy.manifests.nodes import Node
from trtkit.deploy.manifests.objects import Object
from trtkit.deploy.manifests.rule import WARNING, found, rule
from trtkit.deploy.manifests.values import quantity
from trtkit.lint.model import Found

_HPA, _VPA, _SCALED = "HorizontalPodAutoscaler", "VerticalPodAutoscaler", "ScaledObject"
_RESTARTS = ("Auto", "Recreate", "")
_RATIO_NAMES = ("nv_gpu_utilization", "triton_gpu_utilization", "gpu_utilization", "nv_cpu_utilization")


def target_of(owner: Object) -> tuple[str, str, str]:
    """Namespace, kind and name of what an autoscaler scales."""
    ref = owner.spec["targetRef"] if owner.kind == _VPA else owner.spec["scaleTargetRef"]
    return owner.namespace, ref["kind"].text or "Deployment", ref["name"].text


def metrics_of(owner: Object) -> Iterator[tuple[str, str, Node]]:
    """Type, name and the metric's node of an HPA's metrics."""
    for metric in owner.spec["metrics"].items:
        kind = metric["type"].text
        part = metric[kind[:1].lower() + kind[1:]]
        name = part["name"].text or part.at("metric", "name").text
        yield kind, name, part


@rule("SCL001", "hpa-on-a-gpu-resource")
def hpa_on_gpu_resource(files: FileSet) -> Iterator[Found]:
    """An HPA asks for the utilization of a resource that is neither cpu nor memory.

    The API server takes it, and the HPA never scales: FailedGetResourceMetric (run), because the resource metrics API
    serves only cpu and memory. Use a Pods or External metric of Triton's, or KEDA.

    Wrong:
        metrics:
          - {type: Resource, resource: {name: nvidia.com/gpu, target: {type: Utilization, averageUtilization: 80}}}

    Right:
        metrics:
          - {type: Pods, pods: {metric: {name: triton_pending}, target: {type: AverageValue, averageValue: "4"}}}
    """
    for each in files.of_kind(_HPA):
        for kind, name, part in metrics_of(each):
            if kind in ("Resource", "ContainerResource") and name not in ("cpu", "memory", ""):
                says = "the resource metrics API serves only cpu and memory"
                yield found(part["name"], f"{says}; an HPA on {name} never scales (FailedGetResourceMetric)")


@rule("SCL002", "two-autoscalers")
def two_autoscalers(files: FileSet) -> Iterator[Found]:
    """Two horizontal autoscalers have the same target.

    A ScaledObject makes an HPA of its own; another HPA, or another ScaledObject, on the same Deployment works against
    it, and KEDA's admission webhook refuses it where it is installed.

    Wrong:
        {kind: HorizontalPodAutoscaler, spec: {scaleTargetRef: {name: triton}}}
        {kind: ScaledObject, spec: {scaleTargetRef: {name: triton}}}

    Right:
        {kind: ScaledObject, spec: {scaleTargetRef: {name: triton}}}
    """
    first: dict[tuple[str, str, str], Object] = {}
    for each in files.of_kind(_HPA, _SCALED):
        other = first.setdefault(target_of(each), each)
        if other is not each and target_of(each)[2] and not _same_file_twice(other, each):
            says = f"{each.label} and {other.label} both scale {target_of(each)[1]}/{target_of(each)[2]}"
            yield found(each.spec["scaleTargetRef"], f"{says}; keep one")


def _same_file_twice(one: Object, other: Object) -> bool:
    """Whether two objects are one object of two environments: same kind and name in different files."""
    return one.label == other.label and one.node.file != other.node.file


@rule("SCL003", "vpa-restarts-gpu-pods")
def vpa_restarts_gpu_pods(files: FileSet) -> Iterator[Found]:
    """A VPA may restart pods that hold GPUs.

    Recreate, and Auto (the default, deprecated), evict pods to change cpu and memory: each eviction costs a load of
    all models, and the new pod needs a GPU. Use Off or Initial, or InPlaceOrRecreate where losing a pod is acceptable.

    Wrong:
        updatePolicy: {updateMode: Auto}

    Right:
        updatePolicy: {updateMode: "Off"}
    """
    for each in files.of_kind(_VPA):
        mode = each.spec.at("updatePolicy", "updateMode")
        namespace, kind, name = target_of(each)
        pod = files.workload(kind, name, namespace)
        if mode.text in _RESTARTS and pod is not None and pod.gpus:
            says = (
                f"updateMode {mode.text or 'is not given, so it is Auto, and'} restarts pods that hold {pod.gpus:g} GPU"
            )
            yield found(mode if mode else each.spec, f"{says} each; use Off or Initial")


@rule("SCL004", "vpa-auto", WARNING)
def vpa_auto(files: FileSet) -> Iterator[Found]:
    """A VPA's update mode is Auto.

    It is deprecated and does what Recreate does (VPA's API types): it evicts pods.

    Wrong:
        updatePolicy: {updateMode: Auto}

    Right:
        updatePolicy: {updateMode: "Off"}       # read the recommendations; or InPlaceOrRecreate
    """
    for each in files.of_kind(_VPA):
        mode = each.spec.at("updatePolicy", "updateMode")
        if mode.text == "Auto":
            yield found(mode, "updateMode Auto is deprecated and means Recreate; say Off, Initial or InPlaceOrRecreate")


@rule("SCL005", "vpa-and-hpa-on-the-same-resource")
def vpa_and_hpa(files: FileSet) -> Iterator[Found]:
    """A VPA changes the requests that an HPA's percentage is of.

    An HPA on cpu or memory utilization divides by the request; a VPA that sets the same request makes the two chase
    each other.

    Wrong:
        HPA: {type: Resource, resource: {name: cpu}}, VPA: {updateMode: Recreate}

    Right:
        HPA: {type: Resource, resource: {name: cpu}}, VPA: {updateMode: "Off"}
    """
    scaled = {target_of(each): each for each in files.of_kind(_HPA)}
    for each in files.of_kind(_VPA):
        other, mode = scaled.get(target_of(each)), each.spec.at("updatePolicy", "updateMode")
        names = {name for kind, name, _ in metrics_of(other) if kind == "Resource"} if other else set()
        if mode.text != "Off" and names & {"cpu", "memory"}:
            shared = " and ".join(sorted(names & {"cpu", "memory"}))
            yield found(
                mode if mode else each.spec, f"it sets the {shared} request that an HPA's percentage is of; use Off"
            )


@rule("SCL006", "target-in-percent-of-a-ratio")
def percent_of_a_ratio(files: FileSet) -> Iterator[Found]:
    """A target in percent stands for a metric that goes from 0 to 1.

    nv_gpu_utilization is 0 to 1; with a target of 80 the autoscaler never scales up. DCGM_FI_DEV_GPU_UTIL is a
    percentage.

    Wrong:
        metric: {name: nv_gpu_utilization}, target: {type: AverageValue, averageValue: "80"}

    Right:
        metric: {name: nv_gpu_utilization}, target: {type: AverageValue, averageValue: 800m}
    """
    for each in files.of_kind(_HPA):
        for _, name, part in metrics_of(each):
            for value in (part.at("target", "averageValue"), part.at("target", "value")):
                if value and name in _RATIO_NAMES and (quantity(value.text) or 0) > 1:
                    yield found(
                        value, f"{name} goes from 0 to 1; a target of {value.text} is never reached: write 800m"
                    )


@rule("SCL007", "fewest-above-most", refused_by="the API server refuses it")
def fewest_above_most(files: FileSet) -> Iterator[Found]:
    """The smallest number of replicas is above the largest.

    The API server refuses such an HPA, and KEDA's CRD such a ScaledObject.

    Wrong:
        minReplicas: 4
        maxReplicas: 2

    Right:
        minReplicas: 2
        maxReplicas: 4
    """
    for each in files.of_kind(_HPA, _SCALED):
        names = ("minReplicas", "maxReplicas") if each.kind == _HPA else ("minReplicaCount", "maxReplicaCount")
        fewest, most = (each.spec[name].number for name in names)
        if fewest is not None and most is not None and fewest > most:
            yield found(each.spec[names[0]], f"{names[0]} {fewest:g} is above {names[1]} {most:g}")


RULES = (
    hpa_on_gpu_resource,
    two_autoscalers,
    vpa_restarts_gpu_pods,
    vpa_auto,
    vpa_and_hpa,
    percent_of_a_ratio,
    fewest_above_most,
)
