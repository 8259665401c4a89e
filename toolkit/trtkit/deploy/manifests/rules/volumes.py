# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a server's pod has mounted: /dev/shm, /tmp, and the memory they take."""

from __future__ import annotations

from collections.abc import Iterator

from trtkit.deploy.manifests.fileset import FileSet
from trtkit.deploy.manifests.nodes import Node
from trtkit.deploy.manifests.objects import Pod
from trtkit.deploy.manifests.rule import ADVICE, WARNING, found, rule
from trtkit.deploy.manifests.rules.probes import pod_servers
from trtkit.deploy.manifests.values import quantity
from trtkit.lint.model import Found


def mounted(pod: Pod | None, container: Node, path: str) -> Node | None:
    """The volume that a container has at a path or above it; None where there is none."""
    volumes = {each["name"].text: each for each in pod.spec["volumes"].items} if pod else {}
    for mount in container["volumeMounts"].items:
        at = mount["mountPath"].text.rstrip("/")
        if at and (path == at or path.startswith(f"{at}/")):
            return volumes.get(mount["name"].text, mount)
    return None


@rule("POD001", "shared-memory-of-64-mib", ADVICE)
def shared_memory(files: FileSet) -> Iterator[Found]:
    """A tritonserver has the default /dev/shm of 64 MiB.

    Every instance of the Python backend takes its own part of it; when it is full, models do not load or requests fail.
    An emptyDir of medium Memory is as large as it is said to be.

    Wrong:
        volumeMounts: [{name: models, mountPath: /models}]

    Right:
        volumeMounts: [{name: shm, mountPath: /dev/shm}]
        volumes: [{name: shm, emptyDir: {medium: Memory, sizeLimit: 1Gi}}]
    """
    for server, node in pod_servers(files):
        if mounted(server.pod, node, "/dev/shm") is None:
            yield found(
                node, "/dev/shm has 64 MiB, which the Python backend soon fills; mount an emptyDir of medium Memory"
            )


@rule("POD002", "shared-memory-against-the-limit", WARNING)
def shm_and_limit(files: FileSet) -> Iterator[Found]:
    """What /dev/shm may hold does not fit into the container's memory limit.

    Pages of an emptyDir of medium Memory count against the limit; without a sizeLimit they may be half of the node's
    memory, and the container is killed before it is full.

    Wrong:
        volumes: [{name: shm, emptyDir: {medium: Memory, sizeLimit: 8Gi}}]
        resources: {limits: {memory: 8Gi}}

    Right:
        volumes: [{name: shm, emptyDir: {medium: Memory, sizeLimit: 1Gi}}]
        resources: {limits: {memory: 8Gi}}
    """
    for server, node in pod_servers(files):
        volume = mounted(server.pod, node, "/dev/shm")
        limit = node.at("resources", "limits", "memory")
        if volume is None or volume.at("emptyDir", "medium").text != "Memory":
            continue
        size = volume.at("emptyDir", "sizeLimit")
        if not size:
            yield found(
                volume["emptyDir"], "without a sizeLimit /dev/shm may grow until the container is killed; set one"
            )
        elif limit and (quantity(size.text) or 0) >= (quantity(limit.text) or float("inf")):
            yield found(
                size,
                f"/dev/shm may hold {size.text}, and the container's memory limit is {limit.text}: it is killed first",
            )


@rule("POD003", "nowhere-to-write", WARNING)
def nowhere_to_write(files: FileSet) -> Iterator[Found]:
    """The root file system is read-only and /tmp is on it.

    tritonserver copies models from s3://, gs:// and as:// to /tmp, and the Python backend unpacks its environments
    there.

    Wrong:
        securityContext: {readOnlyRootFilesystem: true}

    Right:
        securityContext: {readOnlyRootFilesystem: true}
        volumeMounts: [{name: tmp, mountPath: /tmp}]
        volumes: [{name: tmp, emptyDir: {sizeLimit: 10Gi}}]
    """
    for server, node in pod_servers(files):
        given = node.at("securityContext", "readOnlyRootFilesystem")
        if given.truth is True and mounted(server.pod, node, "/tmp") is None:
            yield found(given, "the root file system is read-only and /tmp is not mounted; tritonserver writes there")


RULES = (shared_memory, shm_and_limit, nowhere_to_write)
