# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of stopping a pod without losing a request.

What a stopping tritonserver was seen to do (2.51): new connections are refused at once, requests in flight finish,
and an idle keep-alive connection holds the process for the whole --exit-timeout-secs.
"""

from __future__ import annotations

from collections.abc import Iterator

from trtkit.deploy.figure import Figure
from trtkit.deploy.planned import Drain
from trtkit.project.spec_deploy import ServerSettings

LEAST_PRE_STOP_S = 10
"""Endpoints were seen to take 10 to 20 s to leave every proxy."""
LEAST_MARGIN_S = 10
"""After the exit timeout: unloading models, ending Python stubs."""
MARGIN_S = 15
KUBERNETES_GRACE_S = 30
"""terminationGracePeriodSeconds where a pod says nothing."""
SERVER_EXIT_TIMEOUT_S = 30
"""--exit-timeout-secs where nobody says."""


def grace_needed(pre_stop_s: float, exit_timeout_s: float) -> float:
    """The shortest terminationGracePeriodSeconds: the kubelet's clock starts with preStop."""
    return pre_stop_s + exit_timeout_s + LEAST_MARGIN_S


def problems(
    pre_stop_s: float, exit_timeout_s: float, grace_s: float, idle_timeout_s: float | None = None
) -> Iterator[str]:
    """What is wrong between these figures, a sentence each.

    Args:
        pre_stop_s: the wait before SIGTERM.
        exit_timeout_s: tritonserver's.
        grace_s: terminationGracePeriodSeconds.
        idle_timeout_s: after which the proxy in front closes an idle connection; None when there is none.
    """
    needed = grace_needed(pre_stop_s, exit_timeout_s)
    if grace_s < needed:
        yield (
            f"the grace period is {grace_s:g} s, and preStop {pre_stop_s:g} s + exit timeout {exit_timeout_s:g} s + "
            f"{LEAST_MARGIN_S} s need {needed:g} s; requests in flight are killed"
        )
    if pre_stop_s < LEAST_PRE_STOP_S:
        yield (
            f"preStop waits {pre_stop_s:g} s; endpoints take {LEAST_PRE_STOP_S} to 20 s to leave every proxy, and a "
            "stopping server refuses new connections"
        )
    if idle_timeout_s is not None and idle_timeout_s >= exit_timeout_s:
        yield (
            f"the proxy keeps idle connections for {idle_timeout_s:g} s, and the server waits {exit_timeout_s:g} s for "
            "them when it stops; close them earlier"
        )


def drain_of(server: ServerSettings) -> Drain:
    """The figures of a pod's end."""
    given = server.model_fields_set
    pre_stop, exit_timeout = server.pre_stop_seconds, server.exit_timeout_seconds
    grace = pre_stop + exit_timeout + MARGIN_S
    return Drain(
        pre_stop=Figure(
            pre_stop, "s", "endpoints leave every proxy (10 to 20 s) before SIGTERM, after which the server refuses "
            "new connections", "declared" if "pre_stop_seconds" in given else "preset",
        ),
        exit_timeout=Figure(
            exit_timeout, "s", "requests in flight may take so long after SIGTERM",
            "declared" if "exit_timeout_seconds" in given else "preset",
        ),
        grace=Figure(
            grace, "s", f"preStop {pre_stop} + exit timeout {exit_timeout} + {MARGIN_S} to unload models; "
            "the kubelet's clock starts with preStop", "computed",
        ),
        idle_timeout=Figure(
            max(1, exit_timeout // 2), "s", f"shorter than the exit timeout {exit_timeout} s: an idle connection would "
            "hold the stopping server all that time", "computed",
        ),
    )  # fmt: skip
