# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The whole simulation: a step worked out by hand, KEDA, the search, and NVIDIA's fixed target on the same load."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import pytest

from trtkit.deploy.cron import cron_window
from trtkit.deploy.simulation.behavior import default_behavior
from trtkit.deploy.simulation.budget import reaction_parts
from trtkit.deploy.simulation.propose import chart_scaler, propose, targets
from trtkit.deploy.simulation.report import chart_lines, proposal_lines
from trtkit.deploy.simulation.result import flaps_of
from trtkit.deploy.simulation.run import simulate
from trtkit.deploy.simulation.settings import (
    Fallback,
    Keda,
    Lifecycle,
    Metric,
    Objective,
    Outage,
    Pod,
    Scaler,
    Settings,
)
from trtkit.deploy.simulation.shapes import shaped
from trtkit.deploy.simulation.trace import START, Trace

SLOW = Settings(Pod(100.0, 0.02, 2), Lifecycle(load_s=40, pull_s=10), Objective(0.2))
# a small model on a large GPU: eight at a time, 2 ms each, and a minute to start
FAST = Settings(Pod(4000.0, 0.002, 8), Lifecycle(load_s=60, pull_s=20), Objective(0.05), tick_s=5.0)


def steady(rate: float, seconds: float, start: datetime = START) -> Trace:
    return Trace("steady", start, (0.0, seconds), (rate,))


def replicas(trace: Trace, scaler: Scaler, settings: Settings) -> list[int]:
    return [step.replicas for step in simulate(trace, scaler, settings).steps]


def test_a_step_agrees_with_the_formula_by_hand() -> None:
    """140 requests/s on one pod of 200; target 50; scrapes at 8, 23, 38, ... s, decisions at 15, 30, 45, ... s.

    15: one sample, no rate: nothing.            30: 140 / 50 = 2.8: 3 pods, ready at 50.
    45: two pods load and count as 0: 46.7 / 50 is within 10 %: 3.
    60: (140 x 42 s + 46.7 x 3 s) / 45 s = 133.8; by 3 is 44.6 / 50 = 0.89, which turns the direction: 3.
    75: the rate's window still has the time before: (140 x 27 + 46.7 x 18) / 45 = 102.7, the others 46.7: their mean
        of 65.3 / 50 = 1.31: ceil(3.92) = 4, ready at 95. One more than needed: the price of the window.
    90: (71.6 + 46.7 + 46.7) / 50 / 4 turns the direction: 4.   105: 0.92, with the new pod at its target 0.94: 4.
    """
    settings = Settings(Pod(200.0, 0.005, 1), Lifecycle(load_s=20, probe_s=0), Objective(0.2), initial=1)
    scaler = Scaler("hpa", 1, 10, (Metric("rps", 50.0),), default_behavior())
    found = replicas(steady(140.0, 600.0), scaler, settings)
    assert found[:7] == [1, 3, 3, 3, 4, 4, 4]
    # 140 / 4 = 35 is 0.7 of the target: ceil(2.8) = 3, after the 300 s in which 4 was recommended last
    assert found[-1] == 3
    assert found.index(3, 7) * 15 + 15 >= 75 + 300


def test_the_tolerance_is_a_tenth() -> None:
    """108 / 2 = 54 is 1.08 of the target, which is near enough; 115 / 2 = 57.5 is 1.15 of it: ceil(2.3) = 3."""
    scaler = Scaler("hpa", 2, 10, (Metric("rps", 50.0),))
    assert max(replicas(steady(108.0, 600.0), scaler, replace(SLOW, initial=2))) == 2
    assert max(replicas(steady(115.0, 600.0), scaler, replace(SLOW, initial=2))) == 3


def test_max_and_min() -> None:
    scaler = Scaler("hpa", 2, 3, (Metric("rps", 50.0),))
    assert max(replicas(steady(1000.0, 600.0), scaler, replace(SLOW, initial=2))) == 3
    assert min(replicas(steady(1.0, 1200.0), scaler, replace(SLOW, initial=3))) == 2


def test_queues_do_not_follow_the_load_and_rates_do() -> None:
    """The finding that the proposals rest on: at a steady load the pending gauge makes the HPA come and go."""
    trace = steady(560.0, 7200.0)  # 80 % of seven pods
    by_rate, by_queue = (
        simulate(trace, Scaler("hpa", 2, 12, (metric,)), SLOW)
        for metric in (Metric("rps", 80.0), Metric("pending", 4.0))
    )
    assert by_rate.holds
    assert by_rate.summary.flaps == 0
    assert not by_queue.holds
    assert by_queue.summary.flaps > 10


def test_a_fixed_50_us_runs_everything_all_day_where_the_service_is_slow() -> None:
    """20 ms of service: at 5 % of the load requests already wait 50 µs, so that nothing is ever scaled down."""
    trace = shaped("daily", 800, 80)
    settings = replace(SLOW, tick_s=5.0)
    chart = simulate(trace, chart_scaler(12), settings)
    ours = simulate(trace, Scaler("ours", 2, 12, (Metric("rps", 70.0),)), settings)
    assert ours.holds
    assert chart.holds
    assert chart.summary.mean_replicas > 11.9
    assert chart.summary.gpu_hours > 1.7 * ours.summary.gpu_hours


def test_a_fixed_50_us_misses_the_objective_where_the_service_is_fast() -> None:
    """2 ms, eight at a time: nobody waits 50 µs below 80 %, so that pods go until the rest are in overload."""
    trace = shaped("daily", 32_000, 3_200)
    chart = simulate(trace, chart_scaler(12), FAST)
    ours = simulate(trace, Scaler("ours", 2, 12, (Metric("rps", 2800.0),)), FAST)
    assert ours.summary.miss_share < 0.001
    assert chart.summary.miss_share > 0.05
    assert chart.summary.flaps > 100
    assert chart.summary.gpu_hours > 1.5 * ours.summary.gpu_hours


def test_the_proposal_holds_and_is_cheaper_than_what_it_is_compared_with() -> None:
    trace = shaped("ramp", 32_000, 3_200, 5400)
    base = Scaler("hpa", 2, 12, (Metric("pending", 8.0),))
    found = propose(trace, base, FAST, metrics=("rps", "pending"))
    best, static, chart = found.best, found.static, found.chart
    assert best is not None
    assert static is not None
    assert best.holds
    assert best.scaler.minimum >= 2
    assert simulate(trace.scaled(1.1 * trace.peak), best.scaler, FAST).holds
    assert not chart.holds
    assert best.summary.gpu_hours < chart.summary.gpu_hours
    assert best.summary.gpu_hours < static.summary.gpu_hours
    assert static.holds
    fewer = Scaler("fewer", static.scaler.minimum - 1, static.scaler.minimum - 1)
    assert not simulate(trace, fewer, FAST).holds
    text = "\n".join(proposal_lines(found))
    assert f"target: {best.scaler.metrics[0].target:g}" in text
    assert "misses the objective" in "\n".join(chart_lines(found))


def test_nothing_is_proposed_for_a_load_that_no_autoscaler_follows() -> None:
    """Every pod is needed within a minute, and one takes two: the fixed number is all there is."""
    trace = Trace("bursts", START, (0.0, 600.0, 630.0, 1800.0), (10.0, 3000.0, 10.0))
    settings = replace(SLOW, lifecycle=Lifecycle(load_s=120), objective=Objective(0.2, 0.001))
    found = propose(trace, Scaler("hpa", 1, 8, (Metric("rps", 70.0),)), settings, metrics=("rps",))
    assert found.static is not None
    assert found.static.scaler.minimum > 25
    assert found.best is None or found.best.scaler.minimum > 20
    assert found.maximum > 25  # 8 cannot carry it


def test_targets_are_ordered_from_careful_to_daring() -> None:
    for kind in ("rps", "pending", "queue"):
        found = targets(kind, SLOW.pod, 0.18)
        assert list(found) == sorted(found)
        assert found[0] > 0
    with pytest.raises(ValueError, match="gpu"):
        targets("gpu", SLOW.pod, 0.18)


# -- KEDA -------------------------------------------------------------------------------------------------------------


def test_keda_divides_by_all_replicas_and_an_hpa_by_those_with_the_metric() -> None:
    """While pods load, AverageValue of an external metric counts them, so that nothing is added twice."""
    settings = Settings(Pod(200.0, 0.005, 1), Lifecycle(load_s=60, probe_s=0), Objective(0.2), initial=1)
    keda = Scaler("keda", 1, 10, (Metric("rps", 50.0, "per_pod"),), default_behavior(), keda=Keda())
    assert replicas(steady(140.0, 120.0), keda, settings)[:4] == [1, 3, 3, 3]


def test_scale_to_zero_wakes_by_a_queue_and_never_by_the_servers_own_metrics() -> None:
    quiet_then_busy = Trace("nights", START, (0.0, 300.0, 900.0), (0.0, 20.0))
    by_metric = Keda(cooldown_s=60.0, null_is_zero=True)
    asleep = simulate(quiet_then_busy, Scaler("keda", 0, 4, (Metric("pending", 4.0, "per_pod"),), keda=by_metric), SLOW)
    assert asleep.steps[-1].replicas == 0
    assert asleep.summary.refused == pytest.approx(20 * 600)
    by_queue = replace(by_metric, queue_length=20.0)
    awake = simulate(quiet_then_busy, Scaler("keda", 0, 4, (Metric("pending", 4.0, "per_pod"),), keda=by_queue), SLOW)
    assert min(step.replicas for step in awake.steps[:19]) == 0
    assert awake.steps[-1].replicas > 0
    assert awake.summary.refused == 0
    assert awake.summary.worst_wait_ms > 50_000  # the first ones waited for the pod: 10 + 40 + 5 s


def test_cooldown() -> None:
    busy_then_quiet = Trace("end", START, (0.0, 300.0, 1200.0), (20.0, 0.0))
    keda = Keda(polling_s=15.0, cooldown_s=300.0, queue_length=20.0, null_is_zero=True)
    scaler = Scaler("keda", 0, 4, (Metric("rps", 50.0, "per_pod"),), default_behavior(0, 0), keda=keda)
    steps = simulate(busy_then_quiet, scaler, SLOW).steps
    assert steps[0].replicas == 0  # before anything was ever active, there is no cooldown
    zero = next(step.time_s for step in steps if step.time_s > 300 and step.replicas == 0)
    # the last sign of load is the rate's window of 60 s after the last request, then the cooldown
    patient = replace(scaler, keda=replace(keda, initial_cooldown_s=120.0))
    assert simulate(busy_then_quiet, patient, SLOW).steps[0].replicas == 1
    assert 300 + 300 < zero <= 300 + 60 + 15 + 300 + 30


def test_cron_brings_pods_before_the_load_and_the_larger_trigger_counts() -> None:
    shanghai = cron_window("0 8 * * *", "0 20 * * *", "Asia/Shanghai", 5)
    keda = Keda(cron=(shanghai,))
    scaler = Scaler("keda", 1, 10, (Metric("rps", 50.0, "per_pod"),), default_behavior(0, 60), keda=keda)
    start = datetime(2026, 1, 4, 23, 50, tzinfo=timezone.utc)  # 7:50 in Shanghai
    found = replicas(steady(10.0, 1800.0, start), scaler, SLOW)
    assert found[38] == 1  # 7:59:45
    assert found[40] == 5  # 8:00:15
    busy = replicas(steady(400.0, 1800.0, start), scaler, SLOW)
    assert max(busy) >= 8
    evening = datetime(2026, 1, 5, 11, 55, tzinfo=timezone.utc)
    assert replicas(steady(10.0, 1800.0, evening), scaler, replace(SLOW, initial=5))[-1] == 1


def test_an_outage_of_prometheus_keeps_the_pods_and_keda_falls_back() -> None:
    trace = Trace("falling", START, (0.0, 600.0, 3600.0), (300.0, 50.0))
    blind = replace(SLOW, outage=Outage(500.0, 9999.0), initial=5)
    hpa = Scaler("hpa", 2, 8, (Metric("rps", 70.0),))
    assert replicas(trace, hpa, blind)[-1] >= 5
    assert replicas(trace, hpa, replace(SLOW, initial=5))[-1] == 2
    fallback = Keda(fallback=Fallback(failures=3, replicas=7))
    keda = Scaler("keda", 2, 8, (Metric("rps", 70.0, "per_pod"),), default_behavior(), keda=fallback)
    found = simulate(trace, keda, blind)
    assert found.steps[-1].replicas == 7
    # failing queries at 510, 525, 540 are three; the fourth, at 555, is more than three
    assert [time for time, _, after in found.changes if after == 7] == [555.0]
    keeping = replace(keda, keda=Keda(fallback=Fallback(3, 2, keeps_more=True)))
    assert replicas(trace, keeping, blind)[-1] == 5


def test_an_hpa_with_one_metric_missing_does_not_scale_down() -> None:
    """computeReplicasForMetrics: some metrics invalid, the others ask for less: nothing."""
    trace = steady(0.0, 1200.0)
    both = Scaler("hpa", 1, 8, (Metric("rps", 50.0), Metric("nothing", 1.0)), default_behavior(0, 0))
    one = Scaler("hpa", 1, 8, (Metric("rps", 50.0),), default_behavior(0, 0))
    settings = replace(SLOW, initial=4)
    assert replicas(trace, one, settings)[-1] == 1
    with pytest.MonkeyPatch.context() as patch:
        from trtkit.deploy.simulation.view import View

        values = View.values
        patch.setattr(View, "values", lambda self, metric: [] if metric.kind == "nothing" else values(self, metric))
        assert replicas(trace, both, settings)[-1] == 4


# -- what is said -----------------------------------------------------------------------------------------------------


def test_flaps() -> None:
    assert flaps_of(((0.0, 2, 4), (100.0, 4, 2), (200.0, 2, 3), (900.0, 3, 2))) == 2
    assert flaps_of(()) == 0


def test_reaction_time() -> None:
    life = Lifecycle(node_s=120, pull_s=30, load_s=40, probe_s=5)
    rps = Scaler("hpa", 1, 4, (Metric("rps", 50.0, window_s=60),))
    assert reaction_parts(rps, life) == {
        "scrape": 15, "half of the query's window": 30, "HPA sync": 15,
        "new node": 120, "image": 30, "load": 40, "probe": 5,
    }  # fmt: skip
    pending = Scaler("keda", 0, 4, (Metric("pending", 5.0),), keda=Keda(polling_s=15))
    assert list(reaction_parts(pending, Lifecycle(load_s=40))) == [
        "KEDA's polling, from no pods", "scrape", "HPA sync", "load", "probe",
    ]  # fmt: skip
    assert reaction_parts(Scaler("fixed", 2, 2), life) == {}
