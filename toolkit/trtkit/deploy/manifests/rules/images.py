# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Image references."""

from __future__ import annotations

import re
from collections.abc import Iterator

from trtkit.deploy.manifests.commands import Word
from trtkit.deploy.manifests.dockerfile import replaced
from trtkit.deploy.manifests.fileset import FileSet
from trtkit.deploy.manifests.rule import WARNING, found, rule
from trtkit.deploy.manifests.servers import is_server_image
from trtkit.lint.model import Found

_CUDA = re.compile(r"(?:^|/)nvidia/cuda:(?P<tag>[^@]+)")
_CUDA_TAG = re.compile(
    r"\d+\.\d+\.\d+-(cudnn\d*-)?(base|runtime|devel|cudnn\d*-(runtime|devel)|tensorrt-(runtime|devel))-\w[\w.]*"
)
_NGC_TAG = re.compile(r"\d\d\.\d\d-[a-z0-9][a-z0-9-]*")


def references(files: FileSet, *, triton_only: bool = False) -> Iterator[tuple[str, Word]]:
    """Every image that a pod, a Compose service or a Dockerfile names.

    Args:
        files: where.
        triton_only: of pods, only of those with a tritonserver; of Compose files and Dockerfiles likewise.
    """
    serving = {id(server.pod) for server in files.servers if server.pod}
    nodes = [
        container.node["image"]
        for pod in files.pods if not triton_only or id(pod) in serving
        for container in pod.containers
    ]  # fmt: skip
    for _, root in files.composes:
        own = [each["image"] for each in root["services"].fields.values()]
        if not triton_only or any(is_server_image(node.text) for node in own):
            nodes += own
    for node in nodes:
        if node.text:
            yield replaced(node.text, {}), Word(node.text, node.file, node.line, node.column)
    for build in files.builds:
        for stage in build.stages if build.is_triton or not triton_only else ():
            if stage.before is None and stage.base:
                yield stage.base, Word(stage.base, build.source.file, stage.start.line, 1)


@rule("IMG001", "image-not-pinned", WARNING)
def not_pinned(files: FileSet) -> Iterator[Found]:
    """An image is named without a tag, or with one that moves.

    Two pods of one Deployment may then run different servers, and a rollback brings nothing back. Of tritonserver,
    every release has another TensorRT, and engines do not load in another one.

    Wrong:
        image: envoyproxy/envoy:latest

    Right:
        image: envoyproxy/envoy:v1.36.2
    """
    for image, word in references(files, triton_only=True):
        name, at, _ = image.partition("@")
        tag = name.rpartition("/")[2].partition(":")[2]
        moving = tag in ("", "latest", "stable", "main", "master", "dev", "edge")
        if not at and moving and image != "scratch" and "$" not in image:
            says = f"{image} has no tag" if not tag else f"the tag {tag} moves"
            yield found(word, f"{says}; name a release, or a digest")


@rule("IMG002", "cuda-tag-that-never-was")
def cuda_tag(files: FileSet) -> Iterator[Found]:
    """An nvidia/cuda image is named with a tag that does not exist.

    Its tags have all three numbers of the version, and a flavour and a system: 12.1.1-devel-ubuntu22.04. There is no
    12.1-devel-…, and no latest.

    Wrong:
        FROM nvidia/cuda:12.1-devel-ubuntu22.04

    Right:
        FROM nvidia/cuda:12.1.1-devel-ubuntu22.04
    """
    for image, word in references(files):
        match = _CUDA.search(image)
        if match and "$" not in match["tag"] and not _CUDA_TAG.fullmatch(match["tag"]):
            says = "its tags are like 12.1.1-devel-ubuntu22.04, with three numbers, a flavour and a system"
            yield found(word, f"there is no nvidia/cuda:{match['tag']}; {says}")


@rule("IMG003", "tritonserver-tag-that-never-was")
def triton_tag(files: FileSet) -> Iterator[Found]:
    """An image of NVIDIA's tritonserver is named with a tag that NGC does not have.

    Tags are YY.MM-py3 and a few more flavours (-py3-min, -trtllm-python-py3, …); there is no latest and no bare YY.MM.

    Wrong:
        image: nvcr.io/nvidia/tritonserver:latest

    Right:
        image: nvcr.io/nvidia/tritonserver:25.01-py3
    """
    for image, word in references(files):
        match = re.search(r"nvcr\.io/nvidia/tritonserver(?::([^@]+))?(@|$)", image)
        tag = match[1] if match else None
        if match and not match[2] and (tag is None or ("$" not in tag and not _NGC_TAG.fullmatch(tag))):
            yield found(
                word, f"NGC has no tritonserver{':' + tag if tag else ' without a tag'}; tags are like 25.01-py3"
            )


RULES = (not_pinned, cuda_tag, triton_tag)
