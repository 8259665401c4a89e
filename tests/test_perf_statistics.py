# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Percentiles, Student's t, histograms and goodput, as a specification."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from histograms import counts, merge, percentile_ns
from perf_records import array, streamed, unary
from trtkit.errors import ProjectError
from trtkit.perf.statistics.goodput import goodput_of, parse_slos
from trtkit.perf.statistics.histogram import encoded
from trtkit.perf.statistics.latency import PERCENTILES, latency_statistics, nearest_rank, percentile_of
from trtkit.perf.statistics.student import mean_interval, p_value, quantile

MILLISECOND = 1_000_000
P99_99 = Fraction(9999, 10)


@pytest.mark.parametrize(
    ("values", "per_mille", "expected"),
    [
        ([7], 500, 7),
        ([7], 999, 7),
        ([10, 20, 30, 40], 500, 20),  # ceil(0.5 × 4) = the 2nd
        ([10, 20, 30, 40], 501, 30),
        ([10, 20, 30, 40], 900, 40),
        (list(range(1, 11)), 900, 9),  # ceil(0.9 × 10) = the 9th; 0.9 × 10 in floats must not become the 10th
        (list(range(1, 101)), 950, 95),
        (list(range(1, 101)), 990, 99),
        (list(range(1, 101)), 999, 100),
        (list(range(1, 1001)), 999, 999),
        (list(range(1, 1002)), 999, 1000),  # ceil(999.999)
        (list(range(1, 1001)), P99_99, 1000),
        (list(range(1, 10_001)), P99_99, 9999),
        (list(range(1, 10_002)), P99_99, 10_000),  # ceil(9999.9999)
    ],
)
def test_nearest_rank(values, per_mille, expected):
    assert nearest_rank(array(values), per_mille) == expected
    assert percentile_of(array(values[::-1]), per_mille) == expected


@given(
    st.lists(st.integers(0, 10**12), min_size=1, max_size=200),
    st.integers(1, 1000) | st.integers(1, 10_000).map(lambda parts: Fraction(parts, 10)),
)
def test_nearest_rank_is_the_smallest_measured_value_that_the_share_does_not_exceed(values, per_mille):
    found = nearest_rank(array(sorted(values)), per_mille)
    assert found in values
    assert 1000 * sum(value <= found for value in values) >= per_mille * len(values)
    assert 1000 * sum(value < found for value in values) < per_mille * len(values)
    assert percentile_of(array(values), per_mille) == found


def test_latency_statistics_do_not_depend_on_the_order():
    values = list(range(1, 1001))
    statistics = latency_statistics(array(values[500:] + values[:500]))
    assert statistics.to_json() == {
        "count": 1000, "mean_ns": 500, "stddev_ns": 289, "min_ns": 1, "p50_ns": 500, "p75_ns": 750, "p90_ns": 900,
        "p95_ns": 950, "p99_ns": 990, "p99_9_ns": 999, "p99_99_ns": 1000, "max_ns": 1000,
    }  # fmt: skip
    assert [statistics.percentile(per_mille) for per_mille in PERCENTILES] == [500, 750, 900, 950, 990, 999, 1000]


def test_the_standard_deviation_of_hours_does_not_overflow():
    hour = 3600 * 10**9
    assert latency_statistics(array([0, 24 * hour])).stddev_ns == 12 * hour


def test_no_latency_has_no_statistics():
    assert latency_statistics(array([])) is None


def test_students_t_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    for degrees in (0.3, 1, 1.7, 2, 4, 9.5, 30, 1000, 1e6):
        for t in (0.0, 1e-6, 0.1, 0.7, 1.0, 2.0, 5.0, 40.0, -3.0):
            assert p_value(t, degrees) == pytest.approx(2 * stats.t.sf(abs(t), degrees), rel=1e-8, abs=1e-300)
        for confidence in (0.5, 0.9, 0.95, 0.9875, 0.999):
            assert quantile(confidence, degrees) == pytest.approx(stats.t.ppf((1 + confidence) / 2, degrees), rel=1e-8)


def test_students_t_of_the_tables():
    assert quantile(0.95, 4) == pytest.approx(2.776445, abs=1e-6)
    assert quantile(0.95, 1) == pytest.approx(12.706205, abs=1e-6)
    assert p_value(float("inf"), 3) == 0
    assert p_value(0, 3) == 1


def test_the_interval_of_a_mean():
    interval = mean_interval([9.0, 10.0, 11.0])
    assert interval.low == pytest.approx(10 - 4.302653 / 3**0.5)  # t(2) × s / √n
    assert interval.half_width == pytest.approx(4.302653 / 3**0.5)
    assert mean_interval([4.0, 4.0]) == (4.0, 4.0)
    assert mean_interval([4.0]) is None
    assert mean_interval([]) is None


@given(st.lists(st.integers(0, 3600 * 10**9), min_size=1, max_size=300), st.sampled_from([*PERCENTILES, 1, 1000]))
def test_a_histogram_keeps_percentiles_to_its_precision(latencies, per_mille):
    exact = percentile_of(array(latencies), per_mille)
    assert abs(percentile_ns(encoded(array(latencies)), per_mille) - exact) <= max(1500, exact / 1000)


@given(st.lists(st.lists(st.integers(0, 10**11), max_size=50), max_size=4))
def test_merged_histograms_are_that_of_all_latencies(parts):
    together = array([latency for part in parts for latency in part])
    assert counts(merge([encoded(array(part)) for part in parts])) == counts(encoded(together))


def test_a_histogram_is_read_by_the_reference_library():
    histogram = pytest.importorskip("hdrh.histogram").HdrHistogram.decode(encoded(array([MILLISECOND] * 9 + [10**9])))
    assert histogram.get_total_count() == 10
    assert histogram.get_value_at_percentile(50) == 1000  # µs
    assert histogram.get_value_at_percentile(100) == pytest.approx(10**6, rel=1e-3)


def test_a_histogram_has_ends():
    assert counts(encoded(array([0, 10**15]))) == [(1, 1), (pytest.approx(3600 * 10**6, rel=1e-3), 1)]
    assert counts(encoded(array([]))) == []
    with pytest.raises(ValueError, match="empty"):
        percentile_ns(encoded(array([])), 500)


def test_goodput_counts_requests_that_met_every_goal():
    records = unary([10 * MILLISECOND] * 6 + [30 * MILLISECOND] * 2, failed=2)
    found = goodput_of(records, 0.5, parse_slos("latency < 20ms"))
    assert (found.good, found.total, found.per_s, found.share) == (6, 10, 12.0, 0.6)
    assert found.to_json()["goals"] == ["latency < 20 ms"]


def test_goals_are_judged_from_the_intended_send():
    records = unary([10 * MILLISECOND] * 4, late=15 * MILLISECOND)
    assert goodput_of(records, 1.0, parse_slos("latency <= 25 ms")).good == 4
    assert goodput_of(records, 1.0, parse_slos("latency < 25 ms")).good == 0
    assert goodput_of(records, 1.0, parse_slos("ttft < 20 ms")).good == 0


def test_streaming_goals():
    records = streamed((0, [100, 110, 130]), (0, [50, 90, 130]), (0, [60]))
    assert goodput_of(records, 1.0, parse_slos("itl <= 15 ns")).good == 2  # gaps of 15 and 40; none in the third
    assert goodput_of(records, 1.0, parse_slos("ttft < 60 ns")).good == 1
    assert goodput_of(records, 1.0, parse_slos("ttft < 100 ns, itl < 50 ns, latency < 100 ns")).good == 1


def test_a_goal_has_no_percentile():
    with pytest.raises(ProjectError, match=r"'p99' is not a metric; available: itl, latency, ttft"):
        parse_slos("p99 < 3 ms")


def test_statistics_are_exact_on_many_values():
    latencies = np.random.default_rng(5).lognormal(15, 1, 100_000).astype(np.int64)
    assert latency_statistics(latencies).p99_99_ns == np.sort(latencies)[9999 * 10 - 1]
