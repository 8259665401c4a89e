# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Drain: from the decision to stop a pod to its end, without a failed request."""

from __future__ import annotations

import re
from collections.abc import Iterator

from trtkit.deploy.drain import KUBERNETES_GRACE_S, LEAST_MARGIN_S, LEAST_PRE_STOP_S, grace_needed
from trtkit.deploy.manifests.fileset import FileSet
from trtkit.deploy.manifests.nodes import Node
from trtkit.deploy.manifests.rule import WARNING, found, rule
from trtkit.deploy.manifests.rules.probes import pod_servers
from trtkit.deploy.manifests.servers import EXIT_TIMEOUT
from trtkit.deploy.manifests.values import seconds
from trtkit.lint.model import Found

_SLEEP = re.compile(r"\bsleep\s+(\d+(?:\.\d+)?[smh]?)")


def pre_stop(container: Node) -> float:
    """How long a container waits before SIGTERM, s; 0 for no hook, and for one whose time cannot be read."""
    hook = container.at("lifecycle", "preStop")
    given = hook.at("sleep", "seconds").number
    if given is not None:
        return given
    words = " ".join(each.text for each in hook.at("exec", "command").items)
    return sum(seconds(each) or 0 for each in _SLEEP.findall(words))


@rule("DRN001", "grace-too-short")
def grace_too_short(files: FileSet) -> Iterator[Found]:
    """The pod is killed before tritonserver has answered what it took.

    terminationGracePeriodSeconds counts from the decision to stop: preStop, then --exit-timeout-secs for requests in
    flight, then unloading. It has to be at least preStop + exit timeout + 10 s. Both defaults are 30 s: with any
    preStop the rest ends in SIGKILL.

    Wrong:
        terminationGracePeriodSeconds: 30
        args: [tritonserver, --exit-timeout-secs=60]
        lifecycle: {preStop: {exec: {command: [sleep, "15"]}}}

    Right:
        terminationGracePeriodSeconds: 90        # 15 + 60 + 15
    """
    for server, node in pod_servers(files):
        spec = server.pod.spec if server.pod else node
        grace = spec["terminationGracePeriodSeconds"]
        have = KUBERNETES_GRACE_S if grace.number is None else grace.number
        wait, leave = pre_stop(node), server.exit_timeout
        needed = grace_needed(wait, leave)
        if have < needed:
            given = f"{have:g} s" if grace else f"the default, {have:g} s,"
            sum_ = f"preStop {wait:g} + exit timeout {leave:g} + {LEAST_MARGIN_S} = {needed:g} s"
            yield found(grace if grace else spec, f"terminationGracePeriodSeconds is {given} and has to be {sum_}")


@rule("DRN002", "pre-stop-too-short", WARNING)
def pre_stop_too_short(files: FileSet) -> Iterator[Found]:
    """SIGTERM comes before the pod has left every proxy.

    tritonserver resets new connections at SIGTERM (run), and kube-proxy, Ingress and Gateway learn only seconds later
    that the pod is gone. A preStop of 10 to 20 s keeps the server open meanwhile.

    Wrong:
        containers: [{name: triton}]

    Right:
        lifecycle: {preStop: {sleep: {seconds: 15}}}      # before Kubernetes 1.30: exec: {command: [sleep, "15"]}
    """
    for _, node in pod_servers(files):
        wait = pre_stop(node)
        if wait < LEAST_PRE_STOP_S:
            hook = node.at("lifecycle", "preStop")
            given = f"preStop waits {wait:g} s" if hook else "there is no preStop"
            says = f"{given}; new connections are reset at SIGTERM, so wait at least {LEAST_PRE_STOP_S} s"
            yield found(hook if hook else node, says)


@rule("DRN003", "proxy-keeps-idle-connections-too-long", WARNING)
def proxy_idle(files: FileSet) -> Iterator[Found]:
    """A proxy keeps idle connections to tritonserver for as long as the server waits for them, or longer.

    An idle keep-alive connection holds the shutdown for the whole --exit-timeout-secs, and the exit code becomes 1
    ("Exit timeout expired", run). The proxy's idle timeout has to be shorter. Envoy's default is one hour.

    Wrong:
        # Envoy, and tritonserver --exit-timeout-secs=60
        common_http_protocol_options: {idle_timeout: 300s}

    Right:
        common_http_protocol_options: {idle_timeout: 30s}
    """
    for node, idle in _idle_timeouts(files):
        timeout = min((each.exit_timeout for each in files.near(node.file)), default=EXIT_TIMEOUT)
        if idle >= timeout:
            given = f"{idle:g} s" if node["idle_timeout"] or node.text else "the default of 1 h"
            says = f"idle connections are kept for {given}, and tritonserver waits {timeout:g} s for them when it stops"
            yield found(node, f"{says}; the proxy's timeout has to be shorter")


def _idle_timeouts(files: FileSet) -> Iterator[tuple[Node, float]]:
    """Of Envoy's clusters on Triton's ports, and of Istio's rules for a service of the files."""
    for _, root in files.inner:
        for cluster in root.at("static_resources", "clusters").items:
            ports = {node.number for key, node in cluster.walk() if key == "port_value"}
            if ports & {8000.0, 8001.0}:
                options = [node for key, node in cluster.walk() if key == "idle_timeout"]
                given = [(node, idle) for node in options if (idle := seconds(node.text)) is not None]
                yield from given or [(cluster, 3600.0)]
    names = {each.name for each in files.of_kind("Service")} if files.servers else set()
    for each in files.of_kind("DestinationRule"):
        field = each.spec.at("trafficPolicy", "connectionPool", "http", "idleTimeout")
        timeout = seconds(field.text)
        if each.spec["host"].text.partition(".")[0] in names and timeout is not None:
            yield field, timeout


RULES = (grace_too_short, pre_stop_too_short, proxy_idle)
