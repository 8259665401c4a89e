# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Comparisons of runs, as a specification: simulated latencies are correlated, runs differ, the machine drifts."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from perf_records import SECOND, array, streamed, unary
from trtkit.errors import ProjectError
from trtkit.perf.loop.records import concatenate
from trtkit.perf.statistics.compare import Run, RunSide, check_gate, compare, parse_gate, run_of, together
from trtkit.perf.statistics.significance import Contrasts, within_variance

REQUESTS, USERS = 2000, 8


def autoregressive(rng, count, correlation):
    """Standard normal values, each correlated with the one before."""
    values = rng.standard_normal(count)
    scale = np.sqrt(1 - correlation**2)
    for place in range(1, count):
        values[place] = correlation * values[place - 1] + scale * values[place]
    return values


SHAPES = [np.exp(0.1 * autoregressive(np.random.default_rng(seed), REQUESTS, 0.6)) for seed in range(40)]
"""Correlated latencies relative to their median, made once because making them is slow."""


def simulated(rng, mean_ms, place):
    """A run of a closed loop: correlated latencies, one in a hundred half as long again."""
    shape = SHAPES[rng.integers(len(SHAPES))] * (1 + 0.5 * (rng.random(REQUESTS) < 0.01))
    shape = np.roll(shape, rng.integers(REQUESTS)) * np.exp(0.1 * rng.standard_normal(REQUESTS))
    latencies = (mean_ms * 1e6 * shape).astype(np.int64)
    records = unary(latencies.tolist())
    ends = records.last_ns // USERS
    moved = {"sent_ns": ends - latencies, "intended_ns": ends - latencies, "first_ns": ends, "last_ns": ends}
    return Run(replace(records, **moved), 0, int(ends[-1]) + 1, f"2026-01-01T00:{place:02}:00")


def trial(rng, order, slower=0.0, deviation=0.01, drift=0.0):
    """Runs in an order such as ABAB, each with a deviation of its own, on a machine that drifts like a random walk."""
    drifts = np.cumsum(rng.standard_normal(len(order))) * drift
    sides = {"A": [], "B": []}
    for place, side in enumerate(order):
        mean = 5 * np.exp(drifts[place] + deviation * rng.standard_normal()) * (1 + slower * (side == "B"))
        sides[side].append(simulated(rng, mean, place))
    return compare(RunSide("concurrency 8", tuple(sides["A"])), RunSide("concurrency 8", tuple(sides["B"])))


def share_significant(trials, order, **conditions):
    rng = np.random.default_rng(7)
    return np.mean([trial(rng, order, **conditions).significant for _ in range(trials)])


@pytest.mark.parametrize(
    ("order", "deviation", "drift"),
    [
        ("ABABABAB", 0.005, 0.0),
        ("ABABABAB", 0.01, 0.01),
        ("ABABABAB", 0.03, 0.0),
        ("ABBAABBA", 0.01, 0.03),
        ("ABAB", 0.02, 0.0),
        ("ABABAB", 0.005, 0.03),
        ("AAAABBBB", 0.01, 0.0),
        ("AB", 0.01, 0.0),
    ],
)
def test_two_runs_of_the_same_are_seldom_called_different(order, deviation, drift):
    assert share_significant(100, order, deviation=deviation, drift=drift) <= 0.1


@pytest.mark.parametrize(
    ("order", "deviation", "drift", "least"),
    [
        ("ABABABAB", 0.01, 0.0, 0.95),
        ("ABABABAB", 0.005, 0.02, 0.9),
        ("ABBAABBA", 0.01, 0.01, 0.9),
        ("ABABAB", 0.01, 0.0, 0.9),
        ("AAAABBBB", 0.005, 0.0, 0.8),
    ],
)
def test_five_percent_are_found(order, deviation, drift, least):
    assert share_significant(100, order, slower=0.05, deviation=deviation, drift=drift) >= least


def test_a_significant_slowdown_is_worse_in_every_quantity():
    comparison = trial(np.random.default_rng(1), "ABABABAB", slower=0.2)
    assert comparison.interleaved
    assert (comparison.runs_a, comparison.runs_b, comparison.warnings) == (4, 4, ())
    assert [found.name for found in comparison.differences] == ["throughput", "p50", "p90", "p99"]
    assert all(found.worse and not found.better for found in comparison.differences)
    throughput, median = comparison.differences[:2]
    assert throughput.change == pytest.approx(1 / 1.2 - 1, abs=0.03)
    assert median.change == pytest.approx(0.2, abs=0.03)
    assert median.interval.low < 0.2 < median.interval.high
    assert median.a == pytest.approx(5e6, rel=0.03)
    value = json.loads(json.dumps(comparison.to_json()))
    assert value["differences"][1]["interval"].keys() == {"low", "high"}
    assert value["differences"][0]["worse"] is True


def test_a_single_run_a_side_is_said_to_say_little():
    comparison = trial(np.random.default_rng(1), "AB", slower=0.3)
    assert comparison.significant
    assert "a single run" in comparison.warnings[0]
    assert "A B A B" in comparison.warnings[0]


def test_runs_that_did_not_alternate_are_named():
    assert "did not alternate" in trial(np.random.default_rng(1), "AAABBB").warnings[0]


def test_runs_of_unknown_time_are_not_taken_as_interleaved():
    rng = np.random.default_rng(3)
    sides = [tuple(replace(simulated(rng, 5, 0), started_at="") for _ in range(4)) for _ in "AB"]
    assert not compare(RunSide("x", sides[0]), RunSide("x", sides[1])).interleaved


def test_unstable_runs_are_named():
    rng = np.random.default_rng(3)
    shaken = replace(simulated(rng, 5, 1), stable=False)
    comparison = compare(RunSide("x", (simulated(rng, 5, 0),)), RunSide("x", (shaken,)))
    assert "1 of the 1 runs of B were not stable" in comparison.warnings


def test_the_same_run_twice_is_not_different():
    run = simulated(np.random.default_rng(3), 5, 0)
    comparison = compare(RunSide("x", (run,)), RunSide("x", (run,)))
    assert [found.change for found in comparison.differences] == [0, 0, 0, 0]
    assert [found.p_value for found in comparison.differences] == [1, 1, 1, 1]


def test_few_requests_are_not_judged():
    def short(count, latency=1000):
        return Run(unary([latency] * count), 0, count * latency + 1, "2026-01-01")

    comparison = compare(RunSide("x", (short(300),)), RunSide("x", (short(300),)))
    by_name = {found.name: found for found in comparison.differences}
    assert by_name["p50"].interval is not None
    assert by_name["p99"].change == 0
    assert by_name["p99"].interval is None
    assert "fewer than the 2,000 requests it takes" in by_name["p99"].reason


def test_a_run_without_a_success_is_not_compared():
    nothing = Run(unary([], failed=100), 0, SECOND, "2026-01-01")
    something = Run(unary([1000] * 500), 0, SECOND, "2026-01-02")
    comparison = compare(RunSide("x", (something,)), RunSide("x", (nothing,)), parse_gate("p99 > 10%"))
    assert {found.name: found.change for found in comparison.differences if found.name != "errors"} == {
        "throughput": None, "p50": None, "p90": None, "p99": None,
    }  # fmt: skip
    errors = comparison.differences[-1]
    assert (errors.a, errors.b, errors.change, errors.worse) == (0, 1, 1, True)
    assert "a run has no such value" in check_gate(comparison, parse_gate("p99 > 10%")).fired[0]


def test_streams_are_compared_by_their_own_quantities():
    def run(gap, day):
        noise = np.random.default_rng(day).integers(0, 10, 3000).tolist()
        records = streamed(*((at * 1000, [at * 1000 + 50 + n, at * 1000 + 50 + n + gap]) for at, n in enumerate(noise)))
        return Run(records, 0, 3_001_000, f"2026-01-0{day}")

    comparison = compare(RunSide("x", (run(100, 1),)), RunSide("x", (run(200, 2),)))
    by_name = {found.name: found for found in comparison.differences}
    assert by_name["p99 itl"].worse
    assert by_name["p99 itl"].change == pytest.approx(1)
    assert not by_name["p50 ttft"].significant


def test_gaps_of_nothing_have_no_ratio():
    run = Run(streamed(*((at, [at + 5, at + 5]) for at in range(500))), 0, 600, "2026-01-01")
    comparison = compare(RunSide("x", (run,)), RunSide("x", (run,)))
    (gaps,) = (found for found in comparison.differences if found.name == "p99 itl")
    assert (gaps.change, gaps.reason) == (None, "a run has no such value above 0")


def gate_on(text, slower, order="ABABABAB"):
    rng = np.random.default_rng(11)
    sides = {"A": [], "B": []}
    for place, side in enumerate(order):
        sides[side].append(
            simulated(rng, 5 * (1 + slower * (side == "B")) * np.exp(0.005 * rng.standard_normal()), place)
        )
    gate = parse_gate(text)
    return check_gate(compare(RunSide("x", tuple(sides["A"])), RunSide("x", tuple(sides["B"])), gate), gate)


def test_a_gate_fires_on_a_significant_change_beyond_it():
    result = gate_on("p95 > +10%, throughput < -5%, p50 > 30%", 0.2)
    assert [sentence.partition(":")[0] for sentence in result.fired] == ["p95 > 10%", "throughput < -5%"]
    assert re.match(r"p95 > 10%: p95 changed by \+(19|20|21)\.\d% \(95% interval \+1\d", result.fired[0])
    assert result.undecided == ()


def test_a_gate_does_not_fire_on_a_change_the_other_way():
    result = gate_on("p95 > +10%, throughput < -5%", -0.2)
    assert (result.fired, result.undecided) == ((), ())


def test_a_change_that_chance_may_explain_is_undecided():
    result = gate_on("p99 > +1%", 0.03, "AB")
    assert result.fired == ()
    assert "which chance may explain" in result.undecided[0]


def test_a_gate_names_what_is_wrong():
    with pytest.raises(ProjectError, match="gate 'p99 > 10': it needs a unit; available: %"):
        parse_gate("p99 > 10")


def test_more_loads_need_smaller_chances():
    comparison = trial(np.random.default_rng(5), "ABAB", slower=0.05)
    chances = sorted(found.p_value for found in comparison.differences)
    adjusted = sorted(found.adjusted for found in comparison.differences)
    assert adjusted[0] == pytest.approx(4 * chances[0])
    assert adjusted == sorted(max(4 * chances[0], *((4 - n) * chances[n] for n in range(k + 1))) for k in range(4))
    several = together([comparison] * 3)
    assert [len(one.differences) for one in several] == [4, 4, 4]
    assert min(found.adjusted for found in several[2].differences) == pytest.approx(12 * chances[0])
    assert several[0].label == comparison.label


@pytest.mark.parametrize(("correlation", "count"), [(0.0, 2000), (0.6, 2000), (0.9, 4000), (0.97, 8000)])
def test_the_variance_of_a_correlated_mean_is_known(correlation, count):
    rng = np.random.default_rng(2)
    series = [autoregressive(rng, count, correlation) for _ in range(60)]
    batches = [values[: count // 32 * 32].reshape(32, -1).mean(axis=1) for values in series]
    guessed = np.mean([within_variance(values) for values in batches])
    true = (1 + correlation) / (1 - correlation) / count
    assert 0.8 < guessed / true < 1.6


def test_the_error_of_a_contrast_is_that_of_independent_runs():
    rng = np.random.default_rng(4)
    for order, interleaved in (("ABABABAB", True), ("ABBAABBA", True), ("ABAABB", True), ("AAABBB", False)):
        contrasts = Contrasts([side == "B" for side in order], ordered=True)
        assert contrasts.interleaved == interleaved
        estimates = [contrasts.estimate(rng.standard_normal(len(order)), 1.0, 0.0) for _ in range(2000)]
        true = np.var([estimate.difference for estimate in estimates])
        assert np.mean([estimate.error**2 for estimate in estimates]) == pytest.approx(true, rel=0.15)
        assert estimates[0].degrees == pytest.approx(4 + contrasts.degrees)
    assert Contrasts([False, True], ordered=True).degrees == 0


def test_a_measurement_is_a_run():
    records = concatenate([unary([100] * 10)])
    measurement = SimpleNamespace(
        records=records, start_ns=1000, windows=[SimpleNamespace(duration_ns=SECOND)] * 7, duration_s=5.0,
        started_at="2026-01-01", stable=False, load=SimpleNamespace(batch_size=4),
    )  # fmt: skip
    run = run_of(measurement)
    assert (run.start_ns, run.end_ns, run.duration_s) == (1000 + 2 * SECOND, 1000 + 7 * SECOND, 5.0)
    assert (run.batch_size, run.stable, run.started_at) == (4, False, "2026-01-01")
    assert array([len(run.records)]) == 10
