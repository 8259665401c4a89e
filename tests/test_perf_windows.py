# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Windows, and when a measurement is stable, as a specification."""

from __future__ import annotations

import pytest

from perf_records import SECOND, streamed, unary
from trtkit.perf.statistics.windows import Window, all_failed, instability, window_of


def test_a_window_divides_by_its_real_length():
    window = window_of(3, unary([10, 20, 30, 40], failed=2), 2 * SECOND, SECOND // 2, 50)
    assert (window.number, window.requests, window.errors, window.responses) == (3, 4, 2, 4)
    assert (window.requests_per_s, window.client_cpu_share) == (2.0, 0.25)
    assert (window.p50_ns, window.p90_ns, window.p99_ns, window.judged_ns) == (20, 40, 40, 20)


def test_a_window_judges_by_p90_unless_asked_otherwise():
    assert window_of(1, unary(range(1, 101)), SECOND, 0).judged_ns == 90
    assert window_of(1, unary(range(1, 101)), SECOND, 0, 99).judged_ns == 99


def test_a_window_counts_the_responses_of_the_requests_that_succeeded():
    window = window_of(1, streamed((0, [1, 2, 3]), (0, [5, 6]), (0, []), failed=(1,)), SECOND, 0)
    assert (window.requests, window.errors, window.responses) == (2, 1, 3)


def test_a_window_without_a_success_has_no_latency():
    window = window_of(1, unary([], failed=1), SECOND, 0)
    assert (window.requests, window.errors, window.p50_ns, window.judged_ns) == (0, 1, None, None)


def window(rate, judged_ms=1.0, errors=0):
    judged = None if judged_ms is None else int(judged_ms * 1e6)
    return Window(1, SECOND, int(rate), errors, int(rate), rate, judged, judged, judged, judged, 0.1)


def test_fewer_windows_than_are_judged_are_not_stable():
    assert "2 of at least 5" in instability([window(100), window(100)], 0.1)
    assert "2 of at least 3" in instability([window(100), window(100)], 0.1, 3)


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        ([100] * 5, ""),
        ([95, 98, 100, 102, 105], ""),  # s = 3.8, t(4) = 2.776: ± 4.7
        ([92, 96, 100, 104, 108], ""),  # s = 6.3: ± 7.9
        ([88, 94, 100, 106, 112], "known only to ±11.8% of their mean, more than 10%"),
        ([5, 100, 100, 100, 100, 100], ""),  # only the last five count
        ([100, 100, 100, 100, 5], "known only to"),
        ([80, 90, 100, 110, 120], "throughput"),  # a trend
    ],
)
def test_throughput_has_to_be_known_well(rates, words):
    reason = instability([window(rate) for rate in rates], 0.1)
    assert words in reason
    assert bool(reason) == bool(words)


def test_one_window_far_off_is_enough():
    windows = [window(100)] * 39 + [window(69)]
    reason = instability(windows, 0.1, 40)
    assert "up to 30.5% from their mean, more than 30%" in reason
    assert not instability([window(100)] * 39 + [window(75)], 0.1, 40)


def test_the_percentile_is_judged_too():
    values = [0.88, 0.94, 1.0, 1.06, 1.12]
    assert "p90 latency" in instability([window(100, value) for value in values], 0.1)
    assert "p99 latency" in instability([window(100, value) for value in values], 0.1, 5, 99)
    assert not instability([window(100, value) for value in values], 0.12)


@pytest.mark.parametrize(
    ("windows", "words"),
    [
        ([window(100), window(0, None), window(100)], "no request succeeded in window 1"),
        ([window(0, None, 9), window(0, None, 9), window(0, None)], "no request succeeded in the last 3 windows"),
    ],
)
def test_windows_without_a_success_are_not_stable(windows, words):
    assert words in instability(windows, 0.1, 3)


def test_all_failed_needs_errors_in_the_judged_windows_without_a_success():
    nothing, failed, good = window(0, None), window(0, None, 4), window(5)
    assert all_failed([good, failed, nothing, failed], 3)
    assert not all_failed([nothing, nothing, nothing], 3)  # a request may just take longer than three windows
    assert not all_failed([failed, failed, good], 3)
    assert not all_failed([failed, failed], 3)
