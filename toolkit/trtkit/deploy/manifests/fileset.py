# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What the rules look at: all the files together, and what is known beside them."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile

from trtkit.deploy.manifests.commands import in_source, of_instruction
from trtkit.deploy.manifests.comments import sheet_for
from trtkit.deploy.manifests.dockerfile import Stage, stages
from trtkit.deploy.manifests.nodes import Node
from trtkit.deploy.manifests.objects import Object, Pod, objects_in, pod_of
from trtkit.deploy.manifests.promql import Query, in_root
from trtkit.deploy.manifests.servers import Server, is_server_image, of_pod, of_service, of_words
from trtkit.deploy.manifests.sources import Source
from trtkit.lint.ignores import Sheet
from trtkit.lint.selection import Words


@dataclass(frozen=True)
class Known:
    """What people say beside the files; None where they did not.

    Attributes:
        kube_version: of the cluster, e.g. ``1.30``.
        release: of tritonserver, where the image's tag does not say it, e.g. ``25.01``.
        load_seconds: from the container's start until all models are loaded, s.
        free_gpus: how many GPUs pods can still get, nodes and quota considered.
    """

    kube_version: str | None = None
    release: str | None = None
    load_seconds: float | None = None
    free_gpus: int | None = None

    @property
    def complete(self) -> bool:
        """Whether nothing more could be said."""
        return None not in (self.kube_version, self.load_seconds, self.free_gpus)


@dataclass(frozen=True)
class Build:
    """A Dockerfile.

    Attributes:
        source: the file.
        stages: at least one; the last makes the image.
    """

    source: Source
    stages: tuple[Stage, ...]

    @property
    def final(self) -> Stage:
        """The stage that becomes the image."""
        return self.stages[-1]

    @property
    def is_triton(self) -> bool:
        """Whether the image, or what it calls, is tritonserver."""
        texts = [each.rest for each in self.final.all if each.word in ("CMD", "ENTRYPOINT", "COPY")]
        return is_server_image(self.final.image) or any("tritonserver" in text for text in texts)


@dataclass(eq=False)
class FileSet:
    """The files that were named.

    Attributes:
        sources: each file once.
        known: what people say beside them.
        words: what a comment can name.
        said_all: the codes of the rules that were applied and would find no more if more was known.
    """

    sources: list[Source]
    known: Known = field(default_factory=Known)
    words: Words = field(default_factory=dict)
    said_all: set[str] = field(default_factory=set)
    _sheets: dict[str, Sheet] = field(default_factory=dict)

    def sheet(self, file: str) -> Sheet | None:
        """What a file's comments say; None for a file that is not one of them."""
        if file not in self._sheets:
            source = next((each for each in self.sources if each.file == file), None)
            if source is None:
                return None
            self._sheets[file] = sheet_for(source, self.words)
        return self._sheets[file]

    def subject(self, file: str, line: int | None) -> str:
        """The object, or the service, that a line is in; '' where there is none."""
        for node, label in self._spans:
            if node.file == file and line is not None and node.line <= line <= node.last_line:
                return label
        return ""

    @cached_property
    def _spans(self) -> list[tuple[Node, str]]:
        found = [(each.node, each.label) for each in self.objects]
        for _, root in self.composes:
            found += [(node, f"service {name}") for name, node in root["services"].fields.items()]
        return found

    @cached_property
    def rooted(self) -> list[tuple[Source, Node, Object | None]]:
        """Every document, and its object where it is one; lists are taken apart, patches left out."""
        patches = self.patches
        found: list[tuple[Source, Node, Object | None]] = []
        for source in self.sources:
            if source.file in patches or source.skipped:
                continue
            for root in source.roots:
                objects = list(objects_in(root))
                found += [(source, each.node, each) for each in objects] or [(source, root, None)]
        return found

    @cached_property
    def patches(self) -> dict[str, str]:
        """Files that are parts of objects, with the kustomization that says so."""
        found = {}
        for source in self.sources:
            if posixpath.basename(source.file) not in ("kustomization.yaml", "kustomization.yml", "Kustomization"):
                continue
            for root in source.roots:
                listed = [each["path"].text for each in root["patches"].items]
                listed += [each.text for each in root["patchesStrategicMerge"].items]
                listed += [each["path"].text for each in root["patchesJson6902"].items]
                above = posixpath.dirname(source.file)
                found.update({posixpath.normpath(posixpath.join(above, name)): source.file for name in listed if name})
        return found

    @cached_property
    def objects(self) -> list[Object]:
        """All objects of the API."""
        return [owner for _, _, owner in self.rooted if owner is not None]

    def of_kind(self, *kinds: str) -> list[Object]:
        """Those of some kinds."""
        return [each for each in self.objects if each.kind in kinds]

    @cached_property
    def pods(self) -> list[Pod]:
        """What the workloads make."""
        return [pod for each in self.objects if (pod := pod_of(each)) is not None]

    @cached_property
    def composes(self) -> list[tuple[Source, Node]]:
        """Compose files: documents with services and no API version."""
        return [
            (source, root)
            for source, root, owner in self.rooted
            if owner is None and root["services"].is_map and not root["apiVersion"]
            and any(each["image"] or each["build"] or each["command"] for each in root["services"].fields.values())
        ]  # fmt: skip

    @cached_property
    def builds(self) -> list[Build]:
        """Dockerfiles."""
        found = [(source, stages(source.text)) for source in self.sources if source.kind == "dockerfile"]
        return [Build(source, tuple(made)) for source, made in found if made]

    def of_type(self, *kinds: str) -> list[Source]:
        """Files of some kinds that could be read."""
        return [each for each in self.sources if each.kind in kinds and each.problem is None and not each.skipped]

    @cached_property
    def servers(self) -> list[Server]:
        """Every tritonserver that is started somewhere."""
        found = [server for pod in self.pods for server in of_pod(pod)]
        for _, root in self.composes:
            services = root["services"].fields.values()
            found += [server for service in services if (server := of_service(service)) is not None]
        return [*found, *self._built(), *self._scripted()]

    def _built(self) -> Iterator[Server]:
        for build in self.builds:
            last = [each for word in ("ENTRYPOINT", "CMD") if (each := build.final.last(word)) is not None]
            words = [word for each in last for word in of_instruction(each, build.source.file)]
            for server in of_words(words, "dockerfile"):
                yield Server("dockerfile", server.spot, build.final.image, server.flags, True)

    def _scripted(self) -> Iterator[Server]:
        for source in self.of_type("script", "markdown"):
            for command in in_source(source):
                yield from of_words(command, "script")

    @cached_property
    def queries(self) -> list[Query]:
        """Every expression of Prometheus'."""
        return [query for source, root, owner in self.rooted for query in in_root(source, root, owner)]

    @cached_property
    def inner(self) -> list[tuple[Object | None, Node]]:
        """Documents that are no objects: files of other programs, and those inside ConfigMaps."""
        found: list[tuple[Object | None, Node]] = []
        for source, root, owner in self.rooted:
            if owner is None:
                found.append((None, root))
            elif owner.kind == "ConfigMap":
                texts = owner.node["data"].fields.values()
                found += [(owner, each) for text in texts for each in source.embedded(text)]
        return found

    @cached_property
    def about_triton(self) -> bool:
        """Whether any of the files is about tritonserver."""
        names = (word.text for query in self.queries for word in query.names)
        return (
            bool(self.servers)
            or any(build.is_triton for build in self.builds)
            or any(name.startswith("nv_inference") for name in names)
        )

    def near(self, file: str) -> list[Server]:
        """The servers of the files that share the most folders with a file: those that it most likely is about."""
        shared = [(_shared_folders(file, server.spot.file), server) for server in self.servers]
        most = max((count for count, _ in shared), default=0)
        return [server for count, server in shared if count == most]

    def release(self, server: Server | None = None, file: str = "") -> str:
        """The release that is served: of a server, else the oldest near a file; '' where nobody says."""
        if server is not None:
            return server.release or self.known.release or ""
        return min((each.release for each in self.near(file) if each.release), default=self.known.release or "")

    def workload(self, kind: str, name: str, namespace: str) -> Pod | None:
        """The pods of a workload by what refers to it."""
        for pod in self.pods:
            owner = pod.owner
            same = namespace == owner.namespace or "" in (namespace, owner.namespace)
            if (owner.kind, owner.name) == (kind, name) and same:
                return pod
        return None


def _shared_folders(one: str, other: str) -> int:
    """How many folders two files share, from the root."""
    pairs = zip(one.split("/")[:-1], other.split("/")[:-1], strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
