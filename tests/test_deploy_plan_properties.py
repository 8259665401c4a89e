# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What holds for the figures of every block: a rollout moves, a start is waited for, a pod's end loses nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from trtkit.deploy.drain import drain_of, grace_needed, problems
from trtkit.deploy.figure import Figure
from trtkit.deploy.gpus import gpu_plan
from trtkit.deploy.measured import LoadMeasurement
from trtkit.deploy.memory import buffer_of
from trtkit.deploy.rollout import free_gpus, rollout_of
from trtkit.deploy.startup import startup_of
from trtkit.project import Deploy
from trtkit.project.spec_deploy import ServerSettings

SERVERS = st.builds(
    ServerSettings,
    pre_stop_seconds=st.integers(0, 600),
    exit_timeout_seconds=st.integers(2, 3600),
    startup_seconds=st.none() | st.integers(1, 7200),
)
LOADS = st.none() | st.builds(
    LoadMeasurement,
    st.just("m.json"),
    st.floats(0.01, 5000),
    st.floats(1, 1e5),
    st.floats(0, 1e4),
    st.just({}),
    st.just(""),
)
IMAGE = "nvcr.io/nvidia/tritonserver:25.01-py3"


@given(SERVERS)
def test_a_pods_end_leaves_time_to_every_request(server: ServerSettings) -> None:
    drain = drain_of(server)
    assert drain.grace.whole >= server.pre_stop_seconds + server.exit_timeout_seconds + 10
    assert 1 <= drain.idle_timeout.whole < drain.exit_timeout.whole
    said = list(problems(drain.pre_stop.whole, drain.exit_timeout.whole, drain.grace.whole, drain.idle_timeout.whole))
    assert len(said) == (server.pre_stop_seconds < 10)


def test_what_is_wrong_with_an_end_is_said_with_the_figures() -> None:
    assert grace_needed(15, 60) == 85
    assert list(problems(15, 60, 85, 59)) == []
    too_short, at_once, idle = problems(0, 30, 30, 60)
    assert "the grace period is 30 s, and preStop 0 s + exit timeout 30 s + 10 s need 40 s" in too_short
    assert "preStop waits 0 s" in at_once
    assert "keeps idle connections for 60 s, and the server waits 30 s" in idle


@given(SERVERS, LOADS, st.booleans())
def test_a_start_is_waited_for(server: ServerSettings, load: LoadMeasurement | None, on_gpu: bool) -> None:
    spec = Deploy(server=server)
    startup = startup_of(spec, (), load, on_gpu=on_gpu)
    assert startup.failures * startup.period >= startup.budget.whole > (startup.failures - 1) * startup.period
    if server.startup_seconds is None:
        assert startup.budget.whole >= 2 * float(startup.load.value)
        assert startup.budget.whole >= 30
    else:
        assert startup.budget.whole == server.startup_seconds
    deadline = rollout_of(spec, None, startup).progress_deadline.whole
    assert deadline > startup.budget.whole


@given(
    count=st.integers(1, 8), replicas=st.integers(1, 20),
    cluster=st.fixed_dictionaries({}, optional={"free_gpus": st.integers(0, 40), "quota_gpus": st.integers(1, 60)}),
    rollout=st.fixed_dictionaries({}, optional={"max_surge": st.integers(1, 3), "max_unavailable": st.integers(0, 3)}),
)  # fmt: skip
def test_every_rollout_moves_and_none_waits_for_a_gpu_that_is_known_to_be_missing(
    count: int, replicas: int, cluster: dict[str, Any], rollout: dict[str, Any]
) -> None:
    spec = Deploy(gpu={"count": count}, scaling={"min_replicas": replicas}, cluster=cluster, rollout=rollout)  # type: ignore[arg-type]
    gpu = gpu_plan(spec.gpu, IMAGE, Figure(100, "MiB", "", "estimated"))
    found = rollout_of(spec, gpu, startup_of(spec, (), None, on_gpu=True))
    assert found.max_surge.whole or found.max_unavailable.whole
    if not rollout:
        free, _ = free_gpus(spec.cluster, replicas * count)
        assert found.max_surge.whole == int(free is not None and free >= count)
        assert found.max_surge.whole + found.max_unavailable.whole == 1


@given(st.integers(0, 10**6))
def test_the_buffer_is_between_15_percent_and_as_much_again(used: int) -> None:
    buffer = buffer_of(used).whole
    assert 0.15 * used <= buffer <= max(used, 0.15 * used + 1)
    assert buffer >= min(used, 2048)
