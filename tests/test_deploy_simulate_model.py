# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The pods: how long requests wait, that none gets lost, and how pods start and stop."""

from __future__ import annotations

import heapq
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtkit.deploy.simulation.queueing import PodQueue, erlang_c, waiting_mdc
from trtkit.deploy.simulation.run import simulate
from trtkit.deploy.simulation.server import Fleet
from trtkit.deploy.simulation.settings import Keda, Lifecycle, Metric, Objective, Pod, Scaler, Settings
from trtkit.deploy.simulation.shapes import shaped
from trtkit.deploy.simulation.trace import START, Trace

POD = Pod(capacity=100.0, service_s=0.02, slots=2)


def waits(slots: int, service_s: float, rates: list[tuple[float, float]], seed: int = 1) -> list[tuple[float, float]]:
    """Every request of a real queue: when it came, and how long it waited. `rates`: until when, how many per second."""
    rng, free, now, found = random.Random(seed), [0.0] * slots, 0.0, []
    for end, rate in rates:
        while True:
            now += rng.expovariate(rate)
            if now > end:
                now = end
                break
            start = max(now, heapq.heappop(free))
            heapq.heappush(free, start + service_s)
            found.append((now, start - now))
    return found


def test_erlang_c() -> None:
    """Two agents, one Erlang: 1/3; one agent: the utilization; textbook table: 10 agents, 8 Erlangs: 0.409."""
    assert erlang_c(2, 0.5) == pytest.approx(1 / 3)
    assert erlang_c(1, 0.7) == pytest.approx(0.7)
    assert erlang_c(10, 0.8) == pytest.approx(0.409, abs=5e-4)
    assert erlang_c(400, 0.99) < 1


def test_one_slot_is_the_exact_formula_of_md1() -> None:
    for used in (0.1, 0.5, 0.9, 0.99):
        assert waiting_mdc(1, used) == pytest.approx(used * used / (2 * (1 - used)))
    assert waiting_mdc(3, 0.0) == 0.0


@pytest.mark.parametrize(("slots", "used"), [(1, 0.5), (1, 0.8), (2, 0.7), (4, 0.8), (8, 0.9), (16, 0.6)])
def test_a_steady_load_waits_as_in_a_real_queue(slots: int, used: float) -> None:
    service_s = 0.01
    rate = used * slots / service_s
    found = [wait for _, wait in waits(slots, service_s, [(100_000 / rate, rate)])]
    mean_s = sum(found) / len(found)
    pod = Pod(slots / service_s, service_s, slots)
    result = simulate(
        shaped("step", rate, rate, 600.0), Scaler("one", 1, 1), Settings(pod, Lifecycle(), Objective(1.0))
    )
    assert result.summary.wait_ms / 1000 == pytest.approx(mean_s, rel=0.12, abs=2e-5)
    limit_s = 3 * mean_s + 0.001  # the tail, as exponential
    late = sum(wait > limit_s for wait in found) / len(found)
    tail = PodQueue(slots, pod.capacity, 1.0)
    content = 0.0
    for _ in range(200):
        content, _ = tail.step(content, rate)
    assert tail.wait(content, rate).longer_than(limit_s) == pytest.approx(late, abs=0.03)


def test_an_overload_waits_as_in_a_real_queue() -> None:
    """60 s at 1.5 x the capacity, then half of it: the backlog grows to 30 s of work, and goes in 60 s."""
    found = waits(2, 0.02, [(60, 50), (120, 150), (240, 50)])
    trace = Trace("overload", START, (0.0, 60.0, 120.0, 240.0), (50.0, 150.0, 50.0))
    result = simulate(trace, Scaler("one", 1, 1), Settings(POD, Lifecycle(), Objective(0.52)))
    late = sum(wait > 0.5 for _, wait in found)
    assert result.summary.missed == pytest.approx(late, rel=0.04)
    assert result.summary.worst_wait_ms / 1000 == pytest.approx(max(wait for _, wait in found), rel=0.06)
    mean_s = sum(wait for _, wait in found) / len(found)
    assert result.summary.wait_ms / 1000 == pytest.approx(mean_s, rel=0.05)


def test_the_tick_hardly_matters() -> None:
    trace = shaped("spike", 250, 60, 1800)
    scaler = Scaler("hpa", 1, 8, (Metric("rps", 60.0),))
    found = [
        simulate(trace, scaler, Settings(POD, Lifecycle(load_s=30), Objective(0.3), tick_s=tick)) for tick in (0.5, 1.0)
    ]
    assert found[0].summary.missed == pytest.approx(found[1].summary.missed, rel=0.03)
    assert found[0].summary.pod_hours == pytest.approx(found[1].summary.pod_hours, rel=0.03)


rates_of = st.lists(st.floats(0, 400), min_size=3, max_size=12)
metric_of = st.sampled_from(
    [
        Metric("rps", 60.0),
        Metric("pending", 2.0),
        Metric("queue", 10.0),
        Metric("gpu", 60.0),
        Metric("queue_us_chart", 50.0, window_s=30.0),
    ]
)


def trace_from(rates: list[float]) -> Trace:
    return Trace("random", START, tuple(60.0 * index for index in range(len(rates) + 1)), tuple(rates))


@settings(max_examples=60, deadline=None)
@given(rates_of, metric_of, st.integers(1, 3), st.integers(0, 6), st.floats(0, 90), st.booleans())
def test_limits_and_conservation(
    rates: list[float], metric: Metric, minimum: int, more: int, load_s: float, held: bool
) -> None:
    """Replicas stay within their limits, and every request is served, waiting, refused or lost: none else."""
    keda = Keda(queue_length=20.0) if held else None
    if held:
        metric = Metric(metric.kind, metric.target, "per_pod", metric.window_s)
        minimum -= 1
    scaler = Scaler("any", minimum, minimum + more + (minimum == 0), (metric,), keda=keda)
    life = Lifecycle(load_s=load_s, pre_stop_s=5, grace_s=30)
    result = simulate(trace_from(rates), scaler, Settings(POD, life, Objective(0.2)))
    summary = result.summary
    assert all(scaler.minimum <= step.replicas <= scaler.maximum for step in result.steps)
    counted = summary.served + summary.left + summary.refused + summary.lost
    assert counted == pytest.approx(summary.requests, rel=1e-9, abs=1e-6)
    assert 0 <= summary.missed <= summary.requests + 1e-9
    assert summary.pod_hours >= 0


@settings(max_examples=40, deadline=None)
@given(rates_of, st.integers(1, 4), st.floats(40, 200), st.floats(1.01, 3))
def test_more_capacity_never_misses_more(rates: list[float], pods: int, capacity: float, factor: float) -> None:
    """With a fixed number of pods; an autoscaler would answer with fewer of them."""

    def missed(value: float) -> float:
        pod = Pod(value, 1 / value, 1)
        result = simulate(
            trace_from(rates), Scaler("fixed", pods, pods), Settings(pod, Lifecycle(), Objective(0.2 + 1 / value))
        )
        return result.summary.missed

    assert missed(capacity * factor) <= missed(capacity) * (1 + 1e-6) + 1e-6


@settings(max_examples=25, deadline=None)
@given(rates_of, metric_of, st.integers(0, 5))
def test_the_same_seed_gives_the_same(rates: list[float], metric: Metric, seed: int) -> None:
    run = [
        simulate(
            trace_from(rates), Scaler("any", 1, 6, (metric,)), Settings(POD, Lifecycle(), Objective(0.2), seed=seed)
        )
        for _ in range(2)
    ]
    assert run[0].to_json() == run[1].to_json()


def test_pods_start_in_phases_and_the_youngest_go_first() -> None:
    life = Lifecycle(node_s=50, pull_s=20, load_s=10, probe_s=5, pre_stop_s=15, grace_s=60, room=3)
    fleet = Fleet(Settings(POD, life, Objective(0.2)), 2, held=False)
    fleet.scale(4, 0.0)  # one fits and has the image, the other needs a node
    assert [(one.count, one.running_s, one.ready_s) for one in fleet.starting] == [(1, 0.0, 15.0), (1, 70.0, 85.0)]
    for now in range(20):
        fleet.tick(float(now), 10.0)
    assert (fleet.ready_count, fleet.replicas, fleet.alive) == (3, 4, 4)
    fleet.scale(2, 20.0)  # the pod that waits for its node, then the youngest ready one
    assert (fleet.ready_count, fleet.replicas, fleet.alive) == (2, 2, 3)
    assert [group.ready_s for group in fleet.ready] == [0.0]
    for now in range(20, 36):
        fleet.tick(float(now), 10.0)
    assert fleet.alive == 2  # empty at once, but preStop takes 15 s


def test_stopping_pods_finish_what_they_have_until_the_grace_period_ends() -> None:
    settings_ = Settings(POD, Lifecycle(pre_stop_s=5, grace_s=10), Objective(0.2))
    fleet = Fleet(settings_, 2, held=False)
    fleet.tick(0.0, 5200.0)  # a backlog of 2500 requests in each pod
    fleet.scale(1, 1.0)
    lost = sum(fleet.tick(float(now), 0.0).lost for now in range(1, 12))
    assert fleet.alive == 1
    assert lost == pytest.approx(2500 - 1000, rel=0.01)  # 10 s at 100 per second were served


def test_without_a_pod_requests_are_refused_or_wait_in_the_queue() -> None:
    settings_ = Settings(POD, Lifecycle(load_s=10, probe_s=0), Objective(0.2))
    refusing, holding = Fleet(settings_, 0, held=False), Fleet(settings_, 0, held=True)
    assert refusing.tick(0.0, 5.0).refused == 5
    assert holding.tick(0.0, 5.0).refused == 0
    assert holding.waiting == 5
    holding.scale(1, 1.0)
    ticks = [holding.tick(float(now), 0.0) for now in range(1, 13)]
    assert sum(tick.served for tick in ticks) == pytest.approx(5, abs=0.01)
    assert sum(tick.missed for tick in ticks) == pytest.approx(5)  # all of them waited for the pod
    assert max(tick.worst_s for tick in ticks) >= 10


def test_the_batcher_delay_is_queue_time() -> None:
    trace = shaped("step", 10, 10, 600)
    fast = Pod(1000.0, 0.001, 1, batch_delay_s=0.005)
    result = simulate(trace, Scaler("one", 1, 1), Settings(fast, Lifecycle(), Objective(0.1)))
    assert result.summary.wait_ms == pytest.approx(5.0, rel=0.01)
