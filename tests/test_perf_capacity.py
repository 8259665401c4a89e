# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The search for the highest load, as a specification: on servers that are formulas."""

from __future__ import annotations

import json
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf_records import streamed, unary
from trtkit.errors import MeasurementError, ProjectError, ServerError, ServerUnavailableError
from trtkit.perf.statistics.capacity import find_capacity, judged, parse_conditions
from trtkit.perf.statistics.goodput import Goodput

MILLISECOND = 1_000_000
BELOW_50 = parse_conditions("p99 < 50 ms")


def found(latency_ms=1.0, stable=True, errors=0, requests=100, throughput=100.0, **others):
    values = {
        "stable": stable,
        "reason": "" if stable else "it shook",
        "records": unary([int(latency_ms * MILLISECOND)] * 10),
        "error_count": errors,
        "all_records": unary([MILLISECOND] * requests, failed=errors),
        "throughput_infer_per_s": throughput,
        "goodput": None,
        "interrupted": False,
    }
    return SimpleNamespace(**{**values, **others})


def linear(ms_per_level):
    return lambda level: found(level * ms_per_level)


@given(st.integers(1, 3000), st.integers(1, 1024))
def test_the_highest_concurrency_is_found(limit, high):
    tried = Counter()

    def measure(level):
        assert isinstance(level, int)
        assert 1 <= level <= high
        tried[level] += 1
        return found(49 if level <= limit else 51)

    capacity = find_capacity(measure, BELOW_50, 1, high, integer=True)
    assert capacity.limit == min(limit, high)
    assert capacity.broke_at == (limit + 1 if limit < high else None)
    assert tried[capacity.limit] == 2  # the limit was confirmed
    assert len(capacity.trials) == sum(tried.values()) <= 2 * high.bit_length() + 3
    assert capacity.notes == ()
    assert capacity.stopped == ""


@given(st.floats(12, 9000))
def test_the_highest_rate_is_found_to_five_percent(limit):
    capacity = find_capacity(lambda rate: found(49 if rate <= limit else 51), BELOW_50, 10, 10_000, integer=False)
    assert capacity.limit <= limit < capacity.broke_at
    assert capacity.broke_at <= capacity.limit * 1.051


def test_the_step_ends_the_search():
    capacity = find_capacity(linear(1), BELOW_50, 8, 1024, integer=True, step=8)
    assert (capacity.limit, capacity.broke_at) == (48, 56)


def test_the_answer_says_what_broke_next():
    capacity = find_capacity(linear(3), BELOW_50, 1, 1024, integer=True)
    assert capacity.sentence == "'p99 < 50 ms' holds up to concurrency 16; at concurrency 17, p99 is 51 ms"
    assert json.loads(json.dumps(capacity.to_json()))["trials"][-1] == {"level": 16, "holds": True, "broken": []}


def test_a_load_that_holds_to_the_end():
    capacity = find_capacity(linear(3), BELOW_50, 1.5, 10, integer=False)
    assert capacity.sentence == "'p99 < 50 ms' holds up to 10 requests/s, the highest load that was asked for"


def test_nothing_holds():
    capacity = find_capacity(linear(60), BELOW_50, 1, 64, integer=True)
    assert (capacity.limit, capacity.broke_at, len(capacity.trials)) == (None, 1, 1)
    assert "held at no load that was measured; at concurrency 1, p99 is 60 ms" in capacity.sentence


def test_an_unstable_trial_is_tried_once_more_and_then_does_not_hold():
    tried = Counter()

    def measure(level):
        tried[level] += 1
        return found(stable=level < 8 or (level == 8 and tried[level] > 1))

    capacity = find_capacity(measure, BELOW_50, 1, 16, integer=True)
    assert (capacity.limit, capacity.broke_at) == (8, 9)
    assert capacity.broke_because == ("the measurement is not stable: it shook",)
    assert (tried[8], tried[16]) == (3, 2)
    assert capacity.notes == ("8 was measured 3 times and held only sometimes",)


def test_a_level_that_held_by_luck_is_not_the_limit():
    tried = Counter()

    def measure(level):
        tried[level] += 1
        return found(10 if level <= 20 or (level <= 32 and tried[level] == 1) else 90)

    capacity = find_capacity(measure, BELOW_50, 1, 64, integer=True)
    assert capacity.limit is not None
    assert capacity.limit <= 32
    last = {trial.level: trial.holds for trial in capacity.trials}
    assert last[capacity.limit]
    assert any("held only sometimes" in note for note in capacity.notes)


def test_a_throughput_that_must_be_reached_is_searched_upwards():
    condition = parse_conditions("p99 < 50 ms, throughput > 95")
    capacity = find_capacity(lambda n: found(n, throughput=10 * n), condition, 1, 64, integer=True)
    assert (capacity.limit, capacity.broke_at) == (49, 50)
    assert capacity.notes[0] == "1 did not hold although 49 did: throughput is 10"


def test_a_throughput_in_a_gap_of_the_doubling_is_found():
    condition = parse_conditions("p99 < 7 ms, throughput > 45")
    capacity = find_capacity(lambda n: found(n, throughput=10 * n), condition, 1, 64, integer=True)
    assert (capacity.limit, capacity.broke_at) == (6, 7)


def test_a_goodput_share_is_not_searched_upwards():
    condition = parse_conditions("goodput > 95%")
    capacity = find_capacity(lambda n: found(goodput=Goodput((), 9, 10, 9.0)), condition, 1, 64, integer=True)
    assert (capacity.limit, len(capacity.trials)) == (None, 1)
    assert capacity.broke_because == ("goodput is 90%",)


def test_a_failing_trial_does_not_hold_and_is_kept():
    def measure(level):
        if level > 5:
            raise MeasurementError("no request succeeded")
        return found()

    capacity = find_capacity(measure, BELOW_50, 1, 64, integer=True)
    assert (capacity.limit, capacity.broke_at, capacity.broke_because) == (5, 6, ("no request succeeded",))


def test_a_server_that_dies_ends_the_search_with_what_is_known():
    def measure(level):
        if level > 5:
            raise ServerUnavailableError("nobody listens at localhost:8000")
        return found()

    capacity = find_capacity(measure, BELOW_50, 1, 64, integer=True)
    assert (capacity.limit, [trial.level for trial in capacity.trials]) == (4, [1, 2, 4, 8])
    assert "the server is gone: nobody listens" in capacity.sentence


def test_a_server_that_never_was_is_an_error():
    def measure(level):
        raise ServerUnavailableError("nobody listens")

    with pytest.raises(ServerUnavailableError, match="nobody"):
        find_capacity(measure, BELOW_50, 1, 64, integer=True)


def test_the_first_error_is_told_when_no_measurement_succeeded():
    def measure(level):
        raise ServerError("broken")

    with pytest.raises(ServerError, match="broken"):
        find_capacity(measure, BELOW_50, 1, 64, integer=True)


def test_a_users_mistake_is_not_a_trial():
    def measure(level):
        raise ProjectError("no such option")

    with pytest.raises(ProjectError):
        find_capacity(measure, BELOW_50, 1, 64, integer=True)


@pytest.mark.parametrize("by_flag", [True, False])
def test_ctrl_c_keeps_what_was_found(by_flag):
    def measure(level):
        if level == 4 and not by_flag:
            raise KeyboardInterrupt
        return found(interrupted=level == 4)

    capacity = find_capacity(measure, BELOW_50, 1, 64, integer=True)
    assert (capacity.limit, capacity.stopped) == (4 if by_flag else 2, "the search was interrupted")
    assert len(capacity.trials) == (3 if by_flag else 2)


def test_the_number_of_measurements_is_bounded():
    capacity = find_capacity(linear(1), BELOW_50, 1, 1024, integer=True, most_trials=8)
    assert len(capacity.trials) == 8
    assert "ended after 8 measurements" in capacity.stopped
    assert capacity.limit == 48


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_a_server_that_answers_at_random_ends_the_search(answers):
    at = iter([*answers, *[True] * 60])
    capacity = find_capacity(lambda _: found(1 if next(at) else 60), BELOW_50, 1, 256, integer=True)
    assert len(capacity.trials) <= 30
    if capacity.limit is not None:
        assert [trial.holds for trial in capacity.trials if trial.level == capacity.limit][-1]


@pytest.mark.parametrize(
    ("condition", "measurement", "broken"),
    [
        ("errors < 1%", found(errors=1, requests=99), "errors is 1%"),
        ("errors < 1.1%", found(errors=1, requests=99), ""),
        ("errors <= 0", found(errors=1), "errors is 1"),
        ("errors <= 0", found(), ""),
        ("errors < 1%", found(requests=0), ""),
        ("goodput > 5", found(goodput=Goodput((), 8, 10, 4.0)), "goodput is 4"),
        ("goodput > 5", found(), "goodput has no value"),
        ("max < 2 s", found(3000), "max is 3 s"),
        ("mean < 2 s", found(1000), ""),
        ("ttft < 2 ms", found(1), "p99 ttft has no value"),
        ("ttft < 2 ms", found(records=streamed((0, [3 * MILLISECOND, 9 * MILLISECOND]))), "p99 ttft is 3 ms"),
        ("itl < 2 ms", found(records=streamed((0, [3 * MILLISECOND, 9 * MILLISECOND]))), "p99 itl is 6 ms"),
        ("p99 < 2 ms", found(records=unary([], failed=3)), "p99 has no value"),
        ("p99 < 20 ms", found(records=unary([MILLISECOND] * 5, late=30 * MILLISECOND)), "p99 is 31 ms"),
    ],
)
def test_what_a_condition_looks_at(condition, measurement, broken):
    assert judged(1, measurement, parse_conditions(condition)).broken == ((broken,) if broken else ())
