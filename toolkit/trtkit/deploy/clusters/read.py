# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Nodes and pods from files that kubectl wrote, or from kubectl itself."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trtkit.deploy.clusters.node import Node, read_node
from trtkit.deploy.clusters.pods import Pod, read_pod
from trtkit.errors import MissingDependencyError, ProjectError, ServerUnavailableError

NODES = ("get", "nodes", "-o", "json")
PODS = ("get", "pods", "--all-namespaces", "-o", "json")
_TIMEOUT_S = 60
_LOGGED = re.compile(r"[EWIF][0-9]{4} [0-9:.]+ ")
"""How a line of kubectl's log begins; what it says to people comes after several of them."""


@dataclass(frozen=True)
class Seen:
    """A cluster as far as it was looked at; `pods` is None where nobody said what they hold."""

    nodes: tuple[Node, ...]
    pods: tuple[Pod, ...] | None


def parse(nodes: str, pods: str | None = None) -> Seen:
    """A cluster from what kubectl printed.

    Args:
        nodes: the output of ``kubectl get nodes -o json``.
        pods: that of ``kubectl get pods --all-namespaces -o json``.

    Raises:
        ProjectError: it is something else.
    """
    read = tuple(read_node(item) for item in _items(nodes, "Node", NODES))
    running = None if pods is None else tuple(p for item in _items(pods, "Pod", PODS) if (p := read_pod(item)))
    return Seen(read, running)


def ask(context: str | None = None) -> Seen:
    """The cluster that kubectl talks to.

    Args:
        context: of the kubeconfig; None for the current one.

    Raises:
        MissingDependencyError: there is no kubectl.
        ServerUnavailableError: it cannot tell, with its own words.
    """
    nodes = _kubectl(NODES, context)
    try:
        pods = _kubectl(PODS, context)
    except ServerUnavailableError:
        pods = None  # often not allowed for all namespaces
    return parse(nodes, pods)


def _kubectl(arguments: Sequence[str], context: str | None) -> str:
    program = shutil.which("kubectl")
    if program is None:
        raise MissingDependencyError(
            "there is no kubectl here; install it, or run `kubectl get nodes -o json > nodes.json` where there is "
            "one and pass --nodes nodes.json"
        )
    command = [program, *(("--context", context) if context else ()), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as exc:
        raise ServerUnavailableError(f"kubectl gave no answer in {_TIMEOUT_S} s; is the cluster reachable?") from exc
    if done.returncode:
        lines = done.stderr.split("\n")
        told = [line for line in lines if line.strip() and not _LOGGED.match(line)] or lines
        said = " ".join(" ".join(told).split()) or f"exit code {done.returncode}"
        raise ServerUnavailableError(
            f"`kubectl {' '.join(arguments)}` failed: {said[:300]}; choose a cluster with --context or KUBECONFIG, "
            "or pass a file with --nodes"
        )
    return done.stdout


def _items(text: str, kind: str, arguments: Sequence[str]) -> list[Mapping[str, Any]]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ProjectError(f"this is no JSON ({exc}); write it with `kubectl {' '.join(arguments)}`") from exc
    items: list[Mapping[str, Any]] | None = [value] if isinstance(value, dict) and value.get("kind") == kind else None
    if items is None and isinstance(value, dict) and isinstance(value.get("items"), list):
        items = value["items"]
    wrong = items is None or not all(isinstance(i, dict) and i.get("kind", kind) == kind for i in items)
    if items is None or wrong:
        raise ProjectError(f"this is no list of {kind}s; write it with `kubectl {' '.join(arguments)}`")
    return items
