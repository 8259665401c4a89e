# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Compose files."""

from __future__ import annotations

import re
from collections.abc import Iterator

from trtkit.deploy.drain import LEAST_MARGIN_S
from trtkit.deploy.manifests.fileset import FileSet
from trtkit.deploy.manifests.nodes import Node
from trtkit.deploy.manifests.rule import ADVICE, WARNING, found, rule
from trtkit.deploy.manifests.servers import Server
from trtkit.deploy.manifests.values import seconds
from trtkit.lint.model import Found


def services(files: FileSet) -> Iterator[tuple[Server, Node]]:
    """The Compose services that run tritonserver."""
    for server in files.servers:
        if server.kind == "compose" and server.node is not None:
            yield server, server.node


@rule("CMP001", "version-is-obsolete", ADVICE)
def version_obsolete(files: FileSet) -> Iterator[Found]:
    """The Compose file has a version.

    `docker compose` says "the attribute `version` is obsolete, it will be ignored" (run).

    Wrong:
        version: "3.8"
        services: {triton: {image: "nvcr.io/nvidia/tritonserver:25.01-py3"}}

    Right:
        services: {triton: {image: "nvcr.io/nvidia/tritonserver:25.01-py3"}}
    """
    for _, root in files.composes:
        if root["version"]:
            yield found(root["version"], "`version` is obsolete and ignored; docker compose warns of it")


@rule("CMP002", "shm-size-missing", WARNING)
def shared_memory(files: FileSet) -> Iterator[Found]:
    """A tritonserver gets the container's default /dev/shm of 64 MiB.

    Every instance of the Python backend takes its own part of it, and large tensors more; when it is full, models do
    not load or requests fail.

    Wrong:
        services: {triton: {image: "nvcr.io/nvidia/tritonserver:25.01-py3"}}

    Right:
        services: {triton: {image: "nvcr.io/nvidia/tritonserver:25.01-py3", shm_size: 1gb}}
    """
    for _, node in services(files):
        mounted = any("/dev/shm" in value.text for _, value in node.walk())
        if not node["shm_size"] and node["ipc"].text not in ("host", "shareable") and not mounted:
            yield found(node, "/dev/shm has 64 MiB here, which the Python backend soon fills; set shm_size")


@rule("CMP003", "stop-grace-too-short")
def stop_grace(files: FileSet) -> Iterator[Found]:
    """Compose kills tritonserver before it has answered what it took.

    stop_grace_period is 10 s where it is not given, and --exit-timeout-secs 30 s; it has to be at least the exit
    timeout and 10 s for unloading.

    Wrong:
        services: {triton: {image: "nvcr.io/nvidia/tritonserver:25.01-py3"}}

    Right:
        services: {triton: {image: "nvcr.io/nvidia/tritonserver:25.01-py3", stop_grace_period: 45s}}
    """
    for server, node in services(files):
        given = node["stop_grace_period"]
        have = seconds(given.text) if given else 10.0
        need = server.exit_timeout + LEAST_MARGIN_S
        if have is not None and have < need:
            word = f"{have:g} s" if given else "not given, so it is 10 s,"
            says = f"exit timeout {server.exit_timeout:g} + {LEAST_MARGIN_S} = {need:g} s"
            yield found(given if given else node, f"stop_grace_period is {word} and has to be {says}")


@rule("CMP004", "gpu-without-capabilities", refused_by="docker compose refuses it")
def gpu_capabilities(files: FileSet) -> Iterator[Found]:
    """A device reservation does not say capabilities: [gpu].

    Compose requires the field.

    Wrong:
        deploy: {resources: {reservations: {devices: [{driver: nvidia, count: 1}]}}}

    Right:
        deploy: {resources: {reservations: {devices: [{driver: nvidia, count: 1, capabilities: [gpu]}]}}}
    """
    for _, root in files.composes:
        for service in root["services"].fields.values():
            for device in service.at("deploy", "resources", "reservations", "devices").items:
                if not device["capabilities"].items:
                    yield found(device, "a device needs capabilities: [gpu]")
                elif device["count"] and device["device_ids"]:
                    yield found(device, "count and device_ids exclude each other")


@rule("CMP005", "no-healthcheck", ADVICE)
def no_healthcheck(files: FileSet) -> Iterator[Found]:
    """A tritonserver has no health check, so nothing can wait for its models.

    `depends_on: {condition: service_healthy}` needs one. start_period has to cover the load time.

    Wrong:
        services: {triton: {image: "nvcr.io/nvidia/tritonserver:25.01-py3"}}

    Right:
        healthcheck:
          test: [CMD, curl, -sf, "http://localhost:8000/v2/health/ready"]
          start_period: 120s
    """
    for _, node in services(files):
        if not node["healthcheck"]:
            yield found(node, "without a healthcheck nothing can wait until the models are loaded")


@rule("CMP006", "models-writable", ADVICE)
def models_writable(files: FileSet) -> Iterator[Found]:
    """The model repository is mounted writable.

    tritonserver only reads it; what a Python model or a hole in a backend could change there, every server would load.

    Wrong:
        volumes: [./model_repository:/models]

    Right:
        volumes: [./model_repository:/models:ro]
    """
    for server, node in services(files):
        target = server.value("model-repository", "/models").rstrip("/")
        for each in node["volumes"].items:
            parts = each.text.split(":")
            short = len(parts) >= 2 and parts[1].rstrip("/") == target and not re.search(r"\bro\b", ":".join(parts[2:]))
            if short or (each["target"].text.rstrip("/") == target and each["read_only"].truth is not True):
                yield found(each, f"{target} is mounted writable; tritonserver only reads it: mount it read-only")


RULES = (version_obsolete, shared_memory, stop_grace, gpu_capabilities, no_healthcheck, models_writable)
