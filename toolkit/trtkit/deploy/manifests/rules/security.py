# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Secrets, users and rights."""

from __future__ import annotations

import re
from collections.abc import Iterator

from trtkit.deploy.manifests.commands import Word
from trtkit.deploy.manifests.fileset import FileSet
from trtkit.deploy.manifests.nodes import Node
from trtkit.deploy.manifests.objects import Pod
from trtkit.deploy.manifests.rule import ADVICE, WARNING, found, rule
from trtkit.deploy.manifests.rules.probes import pod_servers
from trtkit.deploy.manifests.servers import value_of, variables
from trtkit.lint.model import Found

_SECRET = re.compile(
    r"(^|_)(PASSWORD|PASSWD|PASS|PASSPHRASE|SECRET|TOKEN|APIKEY|API_KEY|ACCESS_KEY|SECRET_KEY|PRIVATE_KEY|CREDENTIALS?)(_ID)?$",
    flags=re.IGNORECASE,
)
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/:@$]*:([^\s/@${]+)@")
_LITERAL = re.compile(r"\$|^$|^<.*>$|^(true|false)$|^/(run|var|etc|mnt)/|^\*+$", flags=re.IGNORECASE)
_COUNTS = re.compile(r"(MAX|MIN|NUM|N|PAD|EOS|BOS)_", flags=re.IGNORECASE)
_KEY_ID = re.compile(r"ACCESS_KEY_ID$", flags=re.IGNORECASE)


def _literals(files: FileSet) -> Iterator[tuple[str, str, Word | Node]]:
    """Name, value and place of every literal variable."""
    for pod in files.pods:
        for container in pod.containers:
            yield from ((name, node.text, node) for name, node in container.env.items())
    for _, root in files.composes:
        for service in root["services"].fields.values():
            yield from ((name, value_of(name, node), node) for name, node in variables(service).items())
    for build in files.builds:
        for stage in build.stages:
            for each in stage.own:
                if each.word in ("ENV", "ARG"):
                    word = Word(each.rest, build.source.file, each.line, 1)
                    yield from ((name, value, word) for name, value in each.assigned.items())
    for owner in files.of_kind("ConfigMap"):
        for name, node in owner.node["data"].fields.items():
            if node.text and "\n" not in node.text:
                yield name, node.text, node


@rule("SEC001", "literal-secret")
def literal_secret(files: FileSet) -> Iterator[Found]:
    """A secret stands in the file.

    Whoever reads the repository, the image's history or the Deployment has it. Refer to a Secret with secretKeyRef, or
    in Compose to a file under `secrets:`.

    Wrong:
        env: [{name: RABBITMQ_PASSWORD, value: hunter2}]

    Right:
        env: [{name: RABBITMQ_PASSWORD, valueFrom: {secretKeyRef: {name: rabbitmq, key: password}}}]
    """
    for name, value, spot in _literals(files):
        if _SECRET.search(name) and not _LITERAL.search(value) and not _COUNTS.match(name):
            what = "an id that belongs to a secret" if _KEY_ID.search(name) else "a secret"
            yield found(spot, f"{name} is {what} and stands in the file; refer to a Secret, or to a file")
        elif (match := _URL.search(value)) and not _LITERAL.search(match[1]):
            yield found(spot, f"the address in {name} holds a password; refer to a Secret, or to a file")


@rule("SEC002", "secret-in-a-manifest", WARNING)
def secret_in_manifest(files: FileSet) -> Iterator[Found]:
    """A Secret is written with its values.

    base64 hides nothing. Let a controller make it (External Secrets, Sealed Secrets, SOPS), or create it by hand.

    Wrong:
        kind: Secret
        stringData: {password: hunter2}

    Right:
        kind: ExternalSecret
        spec: {target: {name: rabbitmq}, data: [{secretKey: password, remoteRef: {key: rabbitmq}}]}
    """
    for each in files.of_kind("Secret"):
        values = [*each.node["stringData"].fields.items(), *each.node["data"].fields.items()]
        given = [(key, node) for key, node in values if node.text and not _LITERAL.search(node.text)]
        if each.group == "" and given:
            yield found(
                given[0][1], f"{each.label} has the value of {given[0][0]} in it; let a controller make the Secret"
            )


@rule("SEC003", "all-secrets-in-the-environment", WARNING)
def env_from_secret(files: FileSet) -> Iterator[Found]:
    """A whole Secret becomes environment variables.

    Every process of the container inherits all of them, stubs of Python models among them, and crash dumps and
    debugging pages print them. Name the keys that are needed, or mount files.

    Wrong:
        envFrom: [{secretRef: {name: app-secrets}}]

    Right:
        env: [{name: AWS_SECRET_ACCESS_KEY, valueFrom: {secretKeyRef: {name: bucket, key: secret}}}]
    """
    for pod in files.pods:
        for container in pod.containers:
            for each in container.node["envFrom"].items:
                if each["secretRef"]:
                    name = each.at("secretRef", "name").text
                    yield found(
                        each["secretRef"], f"all of Secret {name} goes into the environment; name the keys, or mount it"
                    )


@rule("SEC004", "server-runs-as-root", WARNING)
def runs_as_root(files: FileSet) -> Iterator[Found]:
    """A tritonserver may run as root.

    NVIDIA's image starts as root; the pod-security standard `restricted` refuses such a pod. The image has the user
    triton-server, 1000.

    Wrong:
        containers: [{name: triton, image: "nvcr.io/nvidia/tritonserver:25.01-py3"}]

    Right:
        securityContext: {runAsNonRoot: true, runAsUser: 1000, runAsGroup: 1000, fsGroup: 1000}
    """
    for server, node in pod_servers(files):
        both = _contexts(server.pod, node)
        user = _first(both, "runAsUser")
        if user.number == 0 or (user.number is None and _first(both, "runAsNonRoot").truth is not True):
            spot = user if user else node
            yield found(spot, "tritonserver runs as root here; set runAsNonRoot: true and runAsUser: 1000")


@rule("SEC005", "non-root-cannot-be-verified", WARNING)
def non_root_unverified(files: FileSet) -> Iterator[Found]:
    """A pod has runAsNonRoot and no runAsUser.

    Then the image's own user has to be a number other than 0; with NVIDIA's image, whose user is root, or with
    `USER name`, the container does not start ("image will run as root", "cannot verify user is non-root").

    Wrong:
        securityContext: {runAsNonRoot: true}

    Right:
        securityContext: {runAsNonRoot: true, runAsUser: 1000}
    """
    for server, node in pod_servers(files):
        both = _contexts(server.pod, node)
        required = _first(both, "runAsNonRoot")
        if required.truth is True and not _first(both, "runAsUser"):
            yield found(
                required, "runAsNonRoot without runAsUser: the image's user has to be a number, and NVIDIA's is root"
            )


def _contexts(pod: Pod | None, container: Node) -> tuple[Node, ...]:
    own = container["securityContext"]
    return (own, pod.spec["securityContext"]) if pod else (own,)


def _first(contexts: tuple[Node, ...], field: str) -> Node:
    return next((each[field] for each in contexts if each[field]), contexts[0][field])


@rule("SEC006", "rights-not-dropped", ADVICE)
def rights_not_dropped(files: FileSet) -> Iterator[Found]:
    """A tritonserver keeps rights that it does not need.

    It runs with all of this (pod-security standard `restricted`, run on an API server).

    Wrong:
        securityContext: {runAsNonRoot: true, runAsUser: 1000}

    Right:
        automountServiceAccountToken: false                     # of the pod
        securityContext:                                        # of the container
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {drop: [ALL]}
          seccompProfile: {type: RuntimeDefault}
    """
    for server, node in pod_servers(files):
        own, both = node["securityContext"], _contexts(server.pod, node)
        dropped = {each.text.upper() for each in own.at("capabilities", "drop").items}
        token = server.pod.spec["automountServiceAccountToken"] if server.pod else own
        identity = server.pod.spec["serviceAccountName"].text if server.pod else ""
        missing = {
            "allowPrivilegeEscalation: false": own["allowPrivilegeEscalation"].truth is False,
            "readOnlyRootFilesystem: true": own["readOnlyRootFilesystem"].truth is True,
            "capabilities: {drop: [ALL]}": "ALL" in dropped,
            "seccompProfile: {type: RuntimeDefault}": bool(_first(both, "seccompProfile")),
            "automountServiceAccountToken: false": token.truth is False
            or bool(identity and _no_token(files, identity)),
        }
        absent = [piece for piece, there in missing.items() if not there]
        if absent:
            yield found(own if own else node, f"tritonserver needs no more rights; add {', '.join(absent)}")


def _no_token(files: FileSet, name: str) -> bool:
    accounts = [each for each in files.of_kind("ServiceAccount") if each.name == name]
    return any(each.node["automountServiceAccountToken"].truth is False for each in accounts)


@rule("SEC007", "privileged", WARNING)
def privileged(files: FileSet) -> Iterator[Found]:
    """A tritonserver is privileged, or shares the node's namespaces.

    It needs none of it: the device plugin gives it the GPUs, and shared memory is an emptyDir.

    Wrong:
        securityContext: {privileged: true}

    Right:
        resources: {limits: {nvidia.com/gpu: 1}}
    """
    for server, node in pod_servers(files):
        spec = server.pod.spec if server.pod else node
        own = node.at("securityContext", "privileged")
        shared = (own, spec["hostIPC"], spec["hostPID"], spec["hostNetwork"])
        for field, name in zip(shared, ("privileged", "hostIPC", "hostPID", "hostNetwork"), strict=True):
            if field.truth is True:
                yield found(field, f"{name} gives the container the node; tritonserver does not need it")
    for server in files.servers:
        if server.kind == "compose" and server.node and server.node["privileged"].truth is True:
            yield found(
                server.node["privileged"], "privileged gives the container the host; tritonserver does not need it"
            )


RULES = (
    literal_secret,
    secret_in_manifest,
    env_from_secret,
    runs_as_root,
    non_root_unverified,
    rights_not_dropped,
    privileged,
)
