# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The language of conditions, as a specification."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtkit.errors import ProjectError
from trtkit.perf.statistics.conditions import (
    CAPACITY,
    GATE,
    GOAL,
    Condition,
    parse,
    per_mille,
    render,
    streaming_metrics,
)

NUMBERS = st.floats(0, 1e12, allow_nan=False).map(abs) | st.integers(0, 10**9).map(float)
PERCENTILES = st.integers(1, 9999).map(lambda parts: f"p{parts / 100:g}")


@st.composite
def conditions(draw, vocabulary=CAPACITY):
    metric = draw(st.sampled_from(list(vocabulary.metrics)))
    timed = metric in {"latency", "ttft", "itl"} and vocabulary.statistics
    statistic = draw(PERCENTILES | st.sampled_from(vocabulary.statistics)) if timed else ""
    unit = draw(st.sampled_from(vocabulary.metrics[metric]))
    number = draw(st.integers(0, 100).map(float) if metric == "errors" else NUMBERS)
    op = draw(st.sampled_from(["<", "<=", ">", ">="]))
    if vocabulary.signed:
        number = (number + 1) * (1 if op.startswith(">") else -1)
    return Condition(metric, statistic, op, number, unit)


@given(
    st.sampled_from([CAPACITY, GOAL, GATE]).flatmap(
        lambda v: st.tuples(st.just(v), st.lists(conditions(v), min_size=1))
    )
)
def test_what_is_written_is_read_again(vocabulary_and_conditions):
    vocabulary, written = vocabulary_and_conditions
    assert parse(render(written), vocabulary) == tuple(written)
    assert parse(render(written).replace(" <", "<").replace("> ", ">").upper(), vocabulary) == tuple(written)


@pytest.mark.parametrize(
    ("text", "name", "limit"),
    [
        ("p99 < 50 ms", "p99", 50e6),
        ("P99.90<50us", "p99.9", 50e3),
        ("p99.99 latency <= 1.5 s", "p99.99", 1.5e9),
        ("p50 < 3 µs", "p50", 3e3),
        ("p50 < 3 μs", "p50", 3e3),
        ("mean < 1e3 ns", "mean", 1000),
        ("max < .5s", "max", 5e8),
        ("ttft < 100 ms", "p99 ttft", 1e8),
        ("mean itl < 20 ms", "mean itl", 2e7),
        ("throughput > 1000", "throughput", 1000),
        ("throughput > 1000 infer/s", "throughput", 1000),
        ("errors < 0.1%", "errors", 0.001),
        ("errors <= 5", "errors", 5),
        ("goodput >= 95 %", "goodput", 0.95),
    ],
)
def test_conditions_of_a_load(text, name, limit):
    (condition,) = parse(text, CAPACITY)
    assert (condition.name, condition.limit) == (name, pytest.approx(limit))


@pytest.mark.parametrize(("op", "holds"), [("<", [1, 0, 0]), ("<=", [1, 1, 0]), (">", [0, 0, 1]), (">=", [0, 1, 1])])
def test_a_condition_holds_for_a_value(op, holds):
    (condition,) = parse(f"throughput {op} 10", CAPACITY)
    assert [condition.holds(value) for value in (9, 10, 11)] == holds


def test_several_conditions_are_separated_by_commas():
    assert [str(one) for one in parse("p99<50ms,errors < 0.1%", CAPACITY)] == ["p99 < 50 ms", "errors < 0.1%"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "an empty capacity condition says nothing; write for example 'p99 < 50 ms, errors < 0.1%'"),
        ("p99", "'p99' is not METRIC, one of < <= > >=, NUMBER and UNIT"),
        ("p99 < 5 ms,", "'' is not METRIC"),
        ("p99 = 5 ms", "is not METRIC"),
        ("1 < p99 < 5 ms", "is not METRIC"),
        ("p99 < 50", "'p99 < 50': it needs a unit; available: ns, us, ms, s"),
        ("p99 < 50 MB", "'MB' is not a unit of it; available: ns, us, ms, s"),
        ("p99 < 5%", "'%' is not a unit of it"),
        ("errors < 1 ms", "available: %, none at all"),
        ("errors < 0.5", "a count of errors is whole; write a share with %"),
        ("troughput > 5", "'troughput' is not a metric; did you mean 'throughput'?"),
        ("p100 < 5 ms", "'p100' is not a metric"),
        ("p0 < 5 ms", "'p0' is not a metric"),
        ("p99.999 < 5 ms", "did you mean 'p99.99'?"),
        ("p99 throughput > 5", "'p99 throughput' is not a metric"),
        ("p99 ttft latency < 5 ms", "is not a metric"),
        ("latency < 5 ms", "which statistic of the latency is meant? (p99, mean, max, …)"),
        ("< 5 ms", "'' is not a metric"),
        ("p99 < five ms", "'five ms' is not a number with a unit"),
        ("p99 < 1e999 ms", "is not a number"),
        ("p99 < ٣ ms", "is not a number"),
        ("p٣ < 3 ms", "is not a metric"),
        ("p99 < -5 ms", "the number must not be negative"),
    ],
)
def test_a_wrong_condition_is_told_in_one_sentence(text, words):
    with pytest.raises(ProjectError) as error:
        parse(text, CAPACITY)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("throughput < 5%", "comes true without any change; write '> +N%' for a rise, '< -N%' for a fall"),
        ("p99 > -10%", "comes true without any change"),
        ("p99 >= 0%", "comes true without any change"),
        ("p99 > 5 ms", "'ms' is not a unit of it; available: %"),
        ("max > +10%", "'max' is not a metric"),
        ("goodput < -5%", "'goodput' is not a metric"),
    ],
)
def test_a_gate_that_makes_no_sense(text, words):
    with pytest.raises(ProjectError) as error:
        parse(text, GATE)
    assert words in str(error.value)


def test_a_gate_needs_no_plus():
    assert parse("p99 > 10%", GATE) == parse("p99 > +10%", GATE)
    assert parse("p99 > 0%", GATE)[0].limit == 0


def test_percentiles_have_exact_ranks():
    assert per_mille("p99.99") == Fraction(9999, 10)
    assert per_mille("p50") == 500


def test_the_metrics_that_only_streams_have():
    assert streaming_metrics(parse("p99 < 1 s, itl < 1 s, mean ttft < 1 s, p50 itl < 1 s", CAPACITY)) == ("itl", "ttft")
