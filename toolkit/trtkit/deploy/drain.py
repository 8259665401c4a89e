# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of stopping a pod without losing a request.

What a stopping tritonserver was seen to do (2.51): new connections are refused at once, requests in flight finish,
and an idle keep-alive connection holds the process for the whole --exit-timeout-secs. When the last request is
answered the models are unloaded, within what is left of that time: those of Python need 1.2 to 1.3 s for each instance,
one after another in a model, and side by side among models. What is not unloaded when the time is over is ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

from trtkit.deploy.figure import Figure
from trtkit.deploy.planned import Drain, ServedModel
from trtkit.project.spec_deploy import ServerSettings

LEAST_PRE_STOP_S = 10
"""Endpoints were seen to take 10 to 20 s to leave every proxy."""
LEAST_MARGIN_S = 10
"""After the exit timeout: ending the server and the Python processes that are left."""
MARGIN_S = 15
UNLOAD_S = 1.3
"""Of one instance of a Python model."""
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


def unload_of(served: Sequence[ServedModel]) -> Figure:
    """How long unloading takes when the last request is answered, s."""
    slowest = max((model for model in served if model.python), key=lambda model: model.instances, default=None)
    if slowest is None:
        return Figure(1, "s", "no Python model, whose processes are waited for", "preset")
    count = slowest.instances
    each = f"{count} instances of {slowest.name}, a Python model, {UNLOAD_S} s each, one after another"
    why = f"1 + {each if count > 1 else f'{UNLOAD_S} s for the instance of {slowest.name}, a Python model'}"
    return Figure(1 + ceil(UNLOAD_S * count), "s", why, "estimated")


def drain_of(server: ServerSettings, served: Sequence[ServedModel] = ()) -> Drain:
    """The figures of a pod's end.

    Args:
        server: of the ``deploy:`` block.
        served: the models.
    """
    given = server.model_fields_set
    unload = unload_of(served)
    pre_stop, exit_timeout = server.pre_stop_seconds, server.exit_timeout_seconds
    grace = pre_stop + exit_timeout + MARGIN_S
    return Drain(
        pre_stop=Figure(
            pre_stop, "s", "endpoints leave every proxy (10 to 20 s) before SIGTERM, after which the server refuses "
            "new connections", "declared" if "pre_stop_seconds" in given else "preset",
        ),
        exit_timeout=Figure(
            exit_timeout, "s", "requests in flight may take so long after SIGTERM, and what is left of it unloading "
            f"the models ({unload.text})",
            "declared" if "exit_timeout_seconds" in given else "preset",
        ),
        grace=Figure(
            grace, "s", f"preStop {pre_stop} + exit timeout {exit_timeout} + {MARGIN_S} to end its processes; "
            "the kubelet's clock starts with preStop", "computed",
        ),
        idle_timeout=Figure(
            max(1, exit_timeout // 2), "s", f"shorter than the exit timeout {exit_timeout} s: an idle connection would "
            "hold the stopping server all that time", "computed",
        ),
        unload=unload,
    )  # fmt: skip
