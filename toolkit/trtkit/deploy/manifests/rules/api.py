# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' objects: what the API server refuses, and what it takes without effect."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from trtkit.deploy.manifests.fileset import FileSet
from trtkit.deploy.manifests.known_kubernetes import (
    GATEWAY_KINDS_OF_V1,
    NGINX,
    NGINX_ANNOTATIONS,
    OLD_CRDS,
    REMOVED,
    REPLACED_GROUPS,
)
from trtkit.deploy.manifests.nodes import Node
from trtkit.deploy.manifests.rule import ADVICE, WARNING, found, rule
from trtkit.deploy.releases import KUBERNETES, has_field
from trtkit.images import parse_version
from trtkit.lint.model import Found

_REFUSED = "the API server refuses it"
_SELECTING = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")


@rule("KUB001", "selector-or-labels-missing", refused_by=_REFUSED)
def selector_missing(files: FileSet) -> Iterator[Found]:
    """A workload lacks its selector, or its pods lack labels.

    apps/v1 requires both (run on an API server: "spec.selector: Required value"); a schema's validator passes pods
    without labels.

    Wrong:
        kind: Deployment
        spec:
          template:
            spec: {containers: [...]}

    Right:
        kind: Deployment
        spec:
          selector: {matchLabels: {app: triton}}
          template:
            metadata: {labels: {app: triton}}
            spec: {containers: [...]}
    """
    for each in files.of_kind(*_SELECTING):
        if each.group != "apps":
            continue
        if not each.spec["selector"]:
            yield found(each.spec, f"{each.label} has no spec.selector; the API server requires it")
        if not each.spec.at("template", "metadata", "labels"):
            where = each.spec["template"]
            yield found(where, f"the pods of {each.label} have no labels that a selector could find")


@rule("KUB002", "selector-finds-other-pods", refused_by=_REFUSED)
def selector_does_not_match(files: FileSet) -> Iterator[Found]:
    """A workload's selector does not find its own pods.

    The API server says "`selector` does not match template `labels`".

    Wrong:
        selector: {matchLabels: {app: triton}}
        template: {metadata: {labels: {app: tritonserver}}}

    Right:
        selector: {matchLabels: {app: triton}}
        template: {metadata: {labels: {app: triton}}}
    """
    for pod in files.pods:
        for key, value in pod.owner.spec.at("selector", "matchLabels").fields.items():
            if pod.owner.kind in _SELECTING and pod.labels and pod.labels.get(key) != value.text:
                there = f"{key}: {pod.labels[key]}" if key in pod.labels else f"no label {key}"
                yield found(value, f"the selector asks for {key}: {value.text}, and the pod template has {there}")


@rule("KUB003", "service-without-ports", refused_by=_REFUSED)
def service_without_ports(files: FileSet) -> Iterator[Found]:
    """A Service has no ports.

    The API server says "spec.ports: Required value" (run); only a headless Service and one of type ExternalName may
    go without. A schema's validator passes it.

    Wrong:
        kind: Service
        spec: {selector: {app: triton}}

    Right:
        kind: Service
        spec:
          selector: {app: triton}
          ports:
            - {name: http, port: 8000}
            - {name: grpc, port: 8001, appProtocol: kubernetes.io/h2c}
            - {name: metrics, port: 8002}
    """
    for each in files.of_kind("Service"):
        free = each.spec["clusterIP"].text == "None" or each.spec["type"].text == "ExternalName"
        if each.group == "" and not free and not each.spec["ports"].items:
            yield found(each.spec, f"{each.label} has no ports; the API server requires at least one")


@rule("KUB004", "service-port-leads-nowhere", WARNING)
def service_port_leads_nowhere(files: FileSet) -> Iterator[Found]:
    """A Service's target port has a name that no container of its pods has.

    The Service then has no endpoints for that port, and connections are refused.

    Wrong:
        ports: [{name: grpc, port: 8001, targetPort: grpc-inference}]   # the container calls it grpc

    Right:
        ports: [{name: grpc, port: 8001, targetPort: grpc}]
    """
    for each in files.of_kind("Service"):
        selector = {key: value.text for key, value in each.spec["selector"].fields.items()}
        chosen = [
            pod
            for pod in files.pods
            if selector and selector.items() <= pod.labels.items() and pod.owner.namespace == each.namespace
        ]
        names = {name for pod in chosen for container in pod.containers for name in container.ports}
        for port in each.spec["ports"].items:
            target = port["targetPort"]
            if chosen and target.text and target.number is None and target.text not in names:
                has = ", ".join(sorted(filter(None, names))) or "none with a name"
                yield found(target, f"no container of {chosen[0].owner.label} has a port {target.text}; there is {has}")


@rule("KUB005", "api-version-gone", refused_by=_REFUSED)
def api_version_gone(files: FileSet) -> Iterator[Found]:
    """An object is of a version of the API that the cluster no longer serves.

    kubectl says "no matches for kind" (kubernetes.io: deprecated API migration guide). Without --kube-version every
    version that some release dropped is reported.

    Wrong:
        apiVersion: autoscaling/v2beta2
        kind: HorizontalPodAutoscaler

    Right:
        apiVersion: autoscaling/v2
        kind: HorizontalPodAutoscaler
    """
    version = files.known.kube_version
    for each in files.objects:
        since, instead = REMOVED.get((each.api, each.kind), ("", ""))
        if since and (version is None or parse_version(version) >= parse_version(since)):
            yield found(
                each.node["apiVersion"], f"{each.api} {each.kind} is gone since Kubernetes {since}; use {instead}"
            )
        elif each.group in REPLACED_GROUPS:
            yield found(each.node["apiVersion"], f"{each.group} was given up; use {REPLACED_GROUPS[each.group]}")


@rule("KUB006", "old-version-of-a-crd", WARNING)
def old_crd(files: FileSet) -> Iterator[Found]:
    """An object of a CRD is of a version that has a successor.

    New releases of its project stop serving it.

    Wrong:
        apiVersion: gateway.networking.k8s.io/v1beta1
        kind: HTTPRoute

    Right:
        apiVersion: gateway.networking.k8s.io/v1
        kind: HTTPRoute
    """
    for each in files.objects:
        gateway = each.group == "gateway.networking.k8s.io"
        if each.api in OLD_CRDS and (not gateway or each.kind in GATEWAY_KINDS_OF_V1):
            yield found(each.node["apiVersion"], f"{each.api} has a successor: {OLD_CRDS[each.api]}")


@rule("KUB007", "field-newer-than-cluster", refused_by="the API server drops or refuses it", depends=True)
def field_newer_than_cluster(files: FileSet) -> Iterator[Found]:
    """A field is newer than the cluster of --kube-version.

    An older API server drops it without a word or refuses the object; a preStop with `sleep` alone is refused before
    1.30, and `exec: sleep` works everywhere.

    Wrong:
        preStop: {sleep: {seconds: 15}}              # --kube-version 1.28

    Right:
        preStop: {exec: {command: [sleep, "15"]}}
    """
    version = files.known.kube_version
    if version is None:
        return
    for field, node in _new_fields(files):
        if not has_field(version, field):
            yield found(node, f"{field} is there since Kubernetes {KUBERNETES[field]}; the cluster is {version}")


def _new_fields(files: FileSet) -> Iterator[tuple[str, Node]]:
    for pod in files.pods:
        for container in pod.containers:
            yield from _present("lifecycle.preStop.sleep", container.node.at("lifecycle", "preStop", "sleep"))
        for spread in pod.spec["topologySpreadConstraints"].items:
            yield from _present("topologySpreadConstraints.matchLabelKeys", spread["matchLabelKeys"])
    for each in files.of_kind("PodDisruptionBudget"):
        yield from _present("unhealthyPodEvictionPolicy", each.spec["unhealthyPodEvictionPolicy"])


def _present(field: str, node: Node) -> Iterator[tuple[str, Node]]:
    if node and field in KUBERNETES:
        yield field, node


@rule("KUB008", "unknown-nginx-annotation", WARNING)
def unknown_nginx_annotation(files: FileSet) -> Iterator[Found]:
    """ingress-nginx has no annotation of that name.

    It is ignored without a word. There is none called streaming: what streams answers is proxy-buffering, and its
    default is already off.

    Wrong:
        nginx.ingress.kubernetes.io/streaming: "true"

    Right:
        nginx.ingress.kubernetes.io/proxy-buffering: "off"
    """
    for each in files.of_kind("Ingress"):
        for key, value in each.node.at("metadata", "annotations").fields.items():
            name = key.removeprefix(NGINX)
            if key.startswith(NGINX) and name not in NGINX_ANNOTATIONS:
                near = get_close_matches(name, NGINX_ANNOTATIONS, n=1, cutoff=0.7)
                hint = f"did you mean {near[0]}?" if near else "it does nothing"
                hint = 'streams need proxy-buffering: "off"' if name == "streaming" else hint
                yield found(value, f"ingress-nginx has no annotation {key}; {hint}")


@rule("KUB009", "ingress-class-annotation", ADVICE)
def ingress_class_annotation(files: FileSet) -> Iterator[Found]:
    """The Ingress names its class in an annotation.

    kubernetes.io/ingress.class is deprecated since 1.18, and the API server warns (run); spec.ingressClassName does
    the same.

    Wrong:
        metadata: {annotations: {kubernetes.io/ingress.class: nginx}}

    Right:
        spec: {ingressClassName: nginx}
    """
    for each in files.of_kind("Ingress"):
        given = each.node.at("metadata", "annotations", "kubernetes.io/ingress.class")
        if given:
            yield found(given, "kubernetes.io/ingress.class is deprecated; use spec.ingressClassName")


RULES = (
    selector_missing,
    selector_does_not_match,
    service_without_ports,
    service_port_leads_nowhere,
    api_version_gone,
    old_crd,
    field_newer_than_cluster,
    unknown_nginx_annotation,
    ingress_class_annotation,
)
