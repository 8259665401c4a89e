# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' objects in documents, and the pods they make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from trtkit.deploy.manifests.nodes import Node

TEMPLATES: dict[str, tuple[str, ...]] = {
    "Pod": (),
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "Rollout": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "ServingRuntime": (),
    "ClusterServingRuntime": (),
}
"""Where the pod is in each kind of workload."""
SERVING = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Rollout")
"""The kinds whose pods run until they are told to stop."""
_GROUPS = ("", "apps", "batch", "extensions", "argoproj.io", "serving.kserve.io")
_MAX = 5000


@dataclass(frozen=True)
class Object:
    """An object of the API.

    Attributes:
        node: all of it.
        kind, api: as they are written.
    """

    node: Node
    kind: str
    api: str

    @property
    def group(self) -> str:
        """Of the API, without the version; '' for the core's."""
        return self.api.rpartition("/")[0]

    @property
    def spec(self) -> Node:
        """Its specification."""
        return self.node["spec"]

    @property
    def name(self) -> str:
        """As it is written."""
        return self.node.at("metadata", "name").text

    @property
    def namespace(self) -> str:
        """As it is written; '' for the default."""
        return self.node.at("metadata", "namespace").text

    @property
    def label(self) -> str:
        """Kind and name, as kubectl writes them."""
        return f"{self.kind}/{self.name or '?'}"


def objects_in(root: Node) -> Iterator[Object]:
    """The object that a document is, or those that it lists."""
    waiting, count = [root], 0
    while waiting and count < _MAX:
        node, count = waiting.pop(0), count + 1
        kind = node["kind"].text
        if kind and node["apiVersion"].text:
            if kind.endswith("List") and node["items"].items:
                waiting += node["items"].items
            else:
                yield Object(node, kind, node["apiVersion"].text)


@dataclass(frozen=True)
class Container:
    """A container of a pod, or a Compose service: they are described with the same words here.

    Attributes:
        node: all of it.
        first: whether it is an init container that ends before the others start.
    """

    node: Node
    first: bool = False

    @property
    def name(self) -> str:
        """As it is written."""
        return self.node["name"].text

    @property
    def env(self) -> dict[str, Node]:
        """Literal values by variable."""
        return {each["name"].text: each["value"] for each in self.node["env"].items if each["value"]}

    @property
    def ports(self) -> dict[str, float | None]:
        """Numbers by name."""
        return {each["name"].text: each["containerPort"].number for each in self.node["ports"].items}


@dataclass(frozen=True)
class Pod:
    """What a workload's pods look like.

    Attributes:
        owner: the workload.
        template: with metadata and spec.
    """

    owner: Object
    template: Node

    @property
    def spec(self) -> Node:
        """The pod's specification."""
        return self.template["spec"]

    @property
    def labels(self) -> dict[str, str]:
        """The pods' labels."""
        return {key: value.text for key, value in self.template.at("metadata", "labels").fields.items()}

    @cached_property
    def containers(self) -> list[Container]:
        """All containers; sidecars among the init containers count as others."""
        init = [Container(each, each["restartPolicy"].text != "Always") for each in self.spec["initContainers"].items]
        return [*init, *(Container(each) for each in self.spec["containers"].items)]

    @property
    def gpus(self) -> float:
        """GPUs and slices of GPUs that one pod holds, by its limits or else its requests."""
        return sum(
            value.number or 0
            for each in self.containers
            for resources in (each.node["resources"],)
            for name, value in (resources["limits"].fields or resources["requests"].fields).items()
            if is_gpu(name)
        )

    @property
    def serves(self) -> bool:
        """Whether it is meant to run until it is stopped."""
        return self.owner.kind in SERVING


def is_gpu(resource: str) -> bool:
    """Whether a resource is a GPU of a vendor's, or a part of one."""
    return resource.startswith(("nvidia.com/gpu", "nvidia.com/mig-", "amd.com/gpu", "gpu.intel.com/"))


def pod_of(owner: Object) -> Pod | None:
    """The pod that an object makes; None for one that makes none."""
    path = TEMPLATES.get(owner.kind)
    if path is None or owner.group not in _GROUPS:
        return None
    template = owner.node.at(*path)
    return Pod(owner, template) if template["spec"] else None
